"""One pytest session's state: its options, which instances there are, which have been executed.

Registered as a plugin once the first instance file is found, in each process that collects.
"""

from __future__ import annotations

import json
import os
from collections.abc import Generator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

import pytest

from pytest_ductaflow import digests, doubts, engines, execution, expectations, leftovers, options, project
from pytest_ductaflow.engines import launcher, preload, warm
from pytest_ductaflow.errors import RecordError
from pytest_ductaflow.execution import Request
from pytest_ductaflow.explain import explain
from pytest_ductaflow.instance import Instance
from pytest_ductaflow.names import file_of
from pytest_ductaflow.needed import Needed
from pytest_ductaflow.notices import warn
from pytest_ductaflow.options import executes_nothing
from pytest_ductaflow.record import Record, read_record, write_record
from pytest_ductaflow.references import RUNS
from pytest_ductaflow.status import Status

#: The state, in ``config.stash``.
SESSION: Final = pytest.StashKey["Session"]()


class Item(Protocol):
    """What this module needs of an instance's item."""

    instance: Instance

    @property
    def node_id(self) -> str:
        """pytest's id of the instance, as it was collected."""

    @property
    def run_directory(self) -> Path:
        """Absolute path of the run directory."""

    def ensure(self) -> Record | None:
        """The record of this session's run, executing it if nobody has."""

    def is_not_to_be_run(self) -> bool:
        """Whether a mark keeps pytest from running it."""


class Session:
    """The options of this session, the instances selected, and their records so far.

    An instance may be executed before its own turn, by one that needs it, and under xdist in another
    process: whoever comes first executes, and the instance's own turn takes that run. So the order
    never depends on a scheduler, and nobody waits for anything but a run in progress.
    """

    def __init__(self, config: pytest.Config, identifier: str, launcher_address: str | None = None) -> None:
        timeout = config.getoption("--ductaflow-timeout")
        self.root: Final = config.rootpath
        self.identifier: Final = identifier
        self.engine: Final[str] = engines.choose(config.getoption("--ductaflow-engine"))[0]
        self.timeout: Final = None if timeout is None else float(timeout)
        self.no_execute: Final[bool] = config.getoption("--no-execute")
        self.accept: Final[bool] = config.getoption("--ductaflow-accept")
        self.explain: Final[bool] = config.getoption("--ductaflow-explain")
        self.force: Final[bool] = config.getoption("--ductaflow-force")
        self.python_path: Final = tuple(str(path) for path in config.getini("pythonpath"))
        #: Instance files with a collection error; they do not keep the others from running.
        self.bad_files = 0
        self._parallel = hasattr(config, "workerinput")
        self._parent = os.getppid()
        #: The instances of the project, as far as something needs them, and the selected ones in their
        #: order: by run directory.
        self.project = project.Resolved({})
        self.items: dict[str, Item] = {}
        #: What the files hold that were collected.
        self.loaded: dict[Path, Sequence[Instance]] = {}
        self._records: dict[str, Record] = {}
        self._needed = Needed(self.project, self.root, self._records)
        self._had_turn: set[str] = set()
        self._config = config
        self._refused: set[str] = set()
        if launcher_address is not None:
            launcher.use(launcher_address)
        self._warm = warm.current() if self._forks else None
        if self._warm is not None:
            self._warm.ensure()  # it imports while we collect

    @property
    def _speaks(self) -> bool:
        """Whether this process says what concerns the session: the first of xdist's workers does."""
        return bool(getattr(self._config, "workerinput", {"workerid": "gw0"})["workerid"] == "gw0")

    @property
    def _forks(self) -> bool:
        executes = not (executes_nothing(self._config) or self.no_execute or self.accept)
        return self.engine == "fork" and executes

    def wanted(self) -> bool:
        """Whether to go on: not in an xdist worker whose controller is gone."""
        return not self._parallel or os.getppid() == self._parent

    @property
    def seen_below(self) -> Path | None:
        """The root whose records order what runs; xdist's controller orders what its workers run.

        A worker that replaces another has to arrange all as that did, although there are new records.
        """
        return None if self._parallel else self.root

    def needed(self, item: Item) -> list[Item]:
        """The selected instances that come before this one: it refers to their outputs or measures."""
        return [self.items[key] for key in item.instance.needed if key in self.items]

    def stops(self, item: Item, needed: Item) -> bool:
        """Whether an instance cannot run if another one that it needs is red."""
        return self._needed.stops(item.instance, needed.instance.run_directory)

    def refusal(self, item: Item) -> str | None:
        """Why an instance is not to be run although nothing that is selected is against it."""
        return self._needed.refusal(item.instance)

    def keep(self, item: Item, record: Record) -> None:
        """This session executed the item."""
        self._records[item.instance.run_directory] = record

    def peek(self, item: Item) -> Record | None:
        """The record of this session's run of the item, if there is one."""
        key = item.instance.run_directory
        if key not in self._records and self._parallel:
            found = self.of_this_session(item)
            if found is not None:
                self._records[key] = found
        return self._records.get(key)

    def of_this_session(self, item: Item) -> Record | None:
        """The record on the disk, if some process of this session ran the item to an end."""
        try:
            found = read_record(item.run_directory)
        except RecordError:
            return None
        ended = found.light not in (Status.RUNNING, Status.INTERRUPTED)
        mine = found.session == self.identifier and found.node_id == item.node_id
        return found if ended and mine else None

    def known(self, item: Item, *, locked: bool = False) -> Record | None:
        """The record that stands for the item: of this session, or of the last run if that is up to date.

        The latter is judged by what is expected now.

        :param locked: whether this process has the directory's lock: only then can a judgement that has
            changed be written; without it there is no record then.
        """
        found = self.peek(item)
        if found is None and not self.force:
            found, _ = execution.up_to_date(self.request(item.instance, item.node_id))
            if found is None or doubts.reads_failed(self, found):
                return None
            if expectations.judge(found, item.instance.expected, self.root):
                if not locked:
                    return None
                write_record(item.run_directory, found)
            self.keep(item, found)
        return found

    def request(self, instance: Instance, node_id: str) -> Request:
        """What to execute for an instance.

        :raises RecordError: if the directory leads elsewhere. ``runs`` itself may be a link to another disk.
        """
        directory = self.root / instance.run_directory
        if directory.parent.is_symlink():
            raise RecordError(f"{directory.parent} is a symbolic link: an instance writes below runs only")
        file = file_of(node_id)
        instance, needed = self._needed.without_left_out(instance, file)
        return Request(
            kind=instance.kind,
            flow=self.root / instance.flow,
            instance=instance.name,
            directory=directory,
            config=instance.config,
            project_root=self.root,
            node_id=node_id,
            session=self.identifier,
            engine=self.engine,
            timeout=instance.timeout if instance.timeout is not None else self.timeout,
            inputs=instance.inputs,
            scenario=instance.scenario,
            python_path=self.python_path,
            reuse=not self.force,
            expected=instance.expected,
            needed=needed,
            remarks=instance.remarks,
            leftovers=options.leftovers(self._config).directories,
            undecided=options.leftovers(self._config).undecided,
        )

    def stale_before(self, item: Item) -> Iterator[str]:
        """What to say about instances that are needed, not selected, and would run if they were."""
        for node_id, instance in self._unselected(item.instance).items():
            found, reasons = execution.up_to_date(self.request(instance, node_id))
            if found is None:
                yield f"needs {node_id}, which is stale ({reasons[0]})"

    def _unselected(self, instance: Instance) -> dict[str, Instance]:
        """The instances that are needed, also by those that are needed, and not selected: by node id."""
        found: dict[str, Instance] = {}
        pending = [instance]
        while pending:
            for key in pending.pop().needed:
                node_id, needed = self.project.node_ids[key], self.project.instances[key]
                if key not in self.items and node_id not in found:
                    found[node_id] = needed
                    pending.append(needed)
        return found

    def needed_anywhere(self, instances: Iterable[Instance]) -> set[str]:
        """The node ids of what these instances need, also by way of others, in the whole project."""
        found: set[str] = set()
        pending = list(instances)
        while pending:
            for key in pending.pop().needed:
                node_id = self.project.node_ids[key]
                if node_id not in found:
                    found.add(node_id)
                    pending.append(self.project.instances[key])
        return found

    def collected(self, items: Sequence[Item]) -> None:
        """There are these to select from: find out what they need."""
        known = {item.node_id: item.instance for item in items}
        patterns = self._config.getini("ductaflow_instances")
        self.project = project.around(known, self.root, patterns, self.loaded)
        self._needed = Needed(self.project, self.root, self._records)
        self.tell(items)
        options.leftovers(self._config).known |= self.project.instances.keys()
        text = self.project.describe_dropped()
        if text and self._speaks:
            warn(self._config, text)

    def tell(self, items: Iterable[Item]) -> None:
        """Let items know what their instances need."""
        for item in items:
            key = item.instance.run_directory
            if self.project.node_ids.get(key) == item.node_id:  # else two share it, which is refused
                item.instance = self.project.instances[key]

    def had_turn(self, item: Item) -> bool:
        """Whether the item had its own turn before; from now on it had."""
        key = item.instance.run_directory
        if key in self._had_turn:
            return True
        self._had_turn.add(key)
        return False

    # --- pytest's hooks ---

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """What is left now is what runs."""
        self.items = {item.instance.run_directory: item for item in _instance_items(session.items)}
        if self._warm is not None and self.items:
            self._warm.preload(self._modules(), self.root)

    def _modules(self) -> list[str]:
        """What the warm process is to import for the selected instances."""
        instances = [item.instance for item in self.items.values()]
        flows = [self.root / instance.flow for instance in instances]
        builds = any(instance.kind == "build" for instance in instances)
        asked: list[str] = self._config.getini("ductaflow_preload")
        return [*preload.modules_for(self.root, flows, builds=builds), *asked]

    def pytest_runtest_logfinish(self) -> None:
        """Say which modules are not preloaded although they were to be, and why."""
        self._tell_refused()

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self) -> None:
        """Say it, if that is known only now: another worker may have executed what came later."""
        self._tell_refused()

    def _tell_refused(self) -> None:
        if self._warm is not None and self._speaks:
            refused = {
                module: reason
                for module, reason in self._warm.refused().items()
                if module not in self._refused
            }
            self._refused.update(refused)
            for reason in dict.fromkeys(refused.values()):
                modules = [module for module in refused if refused[module] == reason]
                verb = "is" if len(modules) == 1 else "are"
                warn(self._config, f"{', '.join(modules)} {verb} not preloaded: {reason}")

    def pytest_unconfigure(self) -> None:
        """Let the launcher go; keep what was learnt about files."""
        warm.release()
        if (self.root / RUNS).is_dir():
            digests.of_project(self.root).save()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """A run that was executed before its turn reports the time that it really took.

        An instance's reports carry its scenario, for the process that shows them.
        """
        report = yield
        if isinstance(getattr(item, "instance", None), Instance):
            # xdist sends all that a report has; as text, because it knows fewer values than JSON.
            report.__dict__["ductaflow"] = json.dumps(item.instance.scenario)  # type: ignore[attr-defined]
        earlier = getattr(item, "earlier", None)
        if call.when == "call" and earlier is not None:
            report.duration = earlier
        return report

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool | None:
        """A bad instance file is an error of its own, no reason not to run the others."""
        if self.bad_files and session.testsfailed == self.bad_files:
            session.config.option.continue_on_collection_errors = True
        if self.explain:
            explain(self, self._config)
            return True
        if self.items and not executes_nothing(self._config):
            leftovers.remember(self.root, self._config.getini("ductaflow_instances"))
        return None


def begin(config: pytest.Config, identifier: str, launcher_address: str | None = None) -> Session:
    """The state of this process's session, which begins now if it has not.

    :param identifier: of the session, as records have it.
    :param launcher_address: of the launcher, in a worker.
    """
    if SESSION not in config.stash:
        config.stash[SESSION] = Session(config, identifier, launcher_address)
        config.pluginmanager.register(config.stash[SESSION], "ductaflow-session")
    return config.stash[SESSION]


def _instance_items(items: Iterable[Any]) -> list[Item]:
    return [item for item in items if isinstance(getattr(item, "instance", None), Instance)]
