"""Which instances run, and in which order: what is needed comes first, whatever other plugins arrange.

Other plugins select and reorder in ``pytest_collection_modifyitems``, some of them as wrappers around
everybody else. So ours is arranged twice: before they look, so that what they remember of an order
(``--stepwise``) is stable, and when all of them are done.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from pathlib import Path

import pytest

from pytest_ductaflow import graph
from pytest_ductaflow.errors import InstanceError
from pytest_ductaflow.items import InstanceFile, InstanceItem
from pytest_ductaflow.names import file_of
from pytest_ductaflow.reads import also_seen
from pytest_ductaflow.session import Session
from pytest_ductaflow.strict_json import KeyPath, dotted


class Order:
    """Hooks of a process that collects instances."""

    def __init__(self, state: Session, *, with_needed: bool) -> None:
        self._state = state
        self._with_needed = with_needed
        #: All that there is to select from, and those among them that only others may need.
        self._known: list[InstanceItem] = []
        self._added: list[InstanceItem] = []
        self._arranged: list[pytest.Item] = []

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_collection_modifyitems(
        self, session: pytest.Session, items: list[pytest.Item]
    ) -> Generator[None, object, object]:
        """Others are to see all that may run, in its order."""
        self._state.collected(_instances(items))
        if self._with_needed:
            self._added = self._missing(session)
            self._state.tell(self._added)
            items[:0] = self._added
        self._arrange(session, items)
        self._known = _instances(items)
        return (yield)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_collection_finish(self, session: pytest.Session) -> Generator[None, object, object]:
        """Others are done: before anybody is told what runs, bring it into its order once more."""
        if self._with_needed:
            self._select_needed(session)
        self._arrange(session, session.items)
        return (yield)

    def _missing(self, session: pytest.Session) -> list[InstanceItem]:
        """The instances of the project that collected ones need, and that are not collected."""
        wanted = self._state.needed_anywhere(item.instance for item in _instances(session.items))
        wanted -= {item.nodeid for item in session.items}
        found: list[InstanceItem] = []
        for name in sorted({file_of(node_id) for node_id in wanted}):
            file = InstanceFile.from_parent(session, path=self._state.root / name)
            try:  # not by way of pytest's hook: with --lf it leaves out files in which nothing failed
                added = [item for item in file.collect() if item.node_id in wanted]
                report = pytest.CollectReport(file.nodeid, "passed", None, [*added])
            except InstanceFile.CollectError as error:
                added = []
                report = pytest.CollectReport(file.nodeid, "failed", str(error), [])
            for item in added:
                item.ihook.pytest_itemcollected(item=item)
            file.ihook.pytest_collectreport(report=report)  # they are counted
            found += added
        return found

    def _select_needed(self, session: pytest.Session) -> None:
        """Take back what others deselected although it is needed; leave out what nobody needs."""
        added, selected = set(self._added), set(session.items)
        seeds = [item for item in _instances(session.items) if item not in added]
        wanted = self._state.needed_anywhere(item.instance for item in seeds)
        back = [item for item in self._known if item.node_id in wanted and item not in selected]
        left = [item for item in self._added if item.node_id not in wanted and item in selected]
        session.items[:] = [*back, *(item for item in session.items if item not in left)]
        session.config.hook.pytest_deselected(items=left)
        terminal = session.config.pluginmanager.get_plugin("terminalreporter")
        if terminal is not None and back:  # it counts what others deselected
            counted = terminal.stats.get("deselected", [])
            counted[:] = [item for item in counted if item not in back]

    def _arrange(self, session: pytest.Session, items: list[pytest.Item]) -> None:
        """Put what is needed first; refuse shared run directories and cycles."""
        if items == self._arranged:  # nobody touched them since
            return
        items[:], problems = arrange(items, self._state.project.problems, self._state.seen_below)
        self._arranged = list(items)
        for file, texts in problems.items():
            self._state.bad_files += 1
            report = pytest.CollectReport(file, "failed", "\n".join(dict.fromkeys(texts)), [])
            session.config.hook.pytest_collectreport(report=report)


def arrange(
    items: Sequence[pytest.Item],
    mistakes: Mapping[str, Sequence[tuple[KeyPath, str]]],
    root: Path | None = None,
) -> tuple[list[pytest.Item], dict[str, list[str]]]:
    """The items with instances in the order of what they need; ordinary tests keep their places.

    An instance that is there twice (``--keep-duplicates``) runs once.

    :param mistakes: what is wrong with references: run directory to places and texts.
    :param root: the project root; what the last runs were seen to read comes first, too.
    :returns: the items, and what is wrong by the node id of its file: references, instances that share a
        run directory, and cycles. Those are left out.
    """
    nodes: dict[str, InstanceItem] = {}
    folded: dict[str, InstanceItem] = {}
    problems: dict[str, list[str]] = {}
    for item in _instances(items):
        directory = item.instance.run_directory
        other = folded.setdefault(directory.casefold(), item)
        if other is item:
            nodes[directory] = item
        elif other.node_id != item.node_id:
            text = f"{item.node_id} and {other.node_id} share the run directory {directory}"
            hint = "give one of them another `name` or `step`"
            problems.setdefault(_file_of(item), []).append(f"{_place(item)}: name: {text}: {hint}")
    for directory in [directory for directory in nodes if directory in mistakes]:
        item = nodes.pop(directory)
        texts = [_mistake(item, place, text) for place, text in mistakes[directory]]
        problems.setdefault(_file_of(item), []).extend(texts)
    edges = {key: [other for other in item.instance.needed if other in nodes] for key, item in nodes.items()}
    if root is not None:
        edges = also_seen(edges, root)
    ordered, cycles = graph.order(list(nodes), edges)
    for cycle in cycles:
        walk = " → ".join(nodes[key].node_id for key in cycle)
        for file in dict.fromkeys(_file_of(nodes[key]) for key in cycle):
            index = next(i for i, key in enumerate(cycle) if _file_of(nodes[key]) == file)
            first, needed = nodes[cycle[index]], cycle[index + 1]
            reads = first.instance.needed[needed].texts
            text = f"{'config' if reads else 'expect'}: dependency cycle: {walk}"
            problems.setdefault(file, []).append(f"{_place(first)}: {text}")
    places = {nodes[key] for key in ordered}
    replacement = iter([nodes[key] for key in ordered])
    arranged = [
        next(replacement) if item in places else item
        for item in items
        if item in places or not isinstance(item, InstanceItem)
    ]
    return arranged, problems


def _instances(items: Sequence[pytest.Item]) -> list[InstanceItem]:
    return [item for item in items if isinstance(item, InstanceItem)]


def _file_of(item: pytest.Item) -> str:
    assert item.parent is not None
    return item.parent.nodeid


def _place(item: pytest.Item) -> str:
    file, line, _ = item.location
    return f"{Path(file).as_posix()}:{(line or 0) + 1}"


def _mistake(item: InstanceItem, place: KeyPath, text: str) -> str:
    """A mistake as :class:`InstanceError` says it."""
    assert isinstance(item.parent, InstanceFile)
    lines = item.parent.lines
    known = next((place[:end] for end in range(len(place), 0, -1) if place[:end] in lines), ())
    return str(InstanceError(_file_of(item), lines.get(known, 1), dotted(place), text))
