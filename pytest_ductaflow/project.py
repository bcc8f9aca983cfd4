"""All instances of a project: which of them need which.

Two kinds of reference differ where it matters. One *by name* names one run directory; a cycle of such is a
mistake. A pattern, a whole step and ``{"$paths": …}`` take what there is; where that would close a cycle, it
is not waited for. References are matched against instances, never against what lies on the disk: a
run directory that no instance has any more leads nowhere.
"""

from __future__ import annotations

import bisect
import contextlib
import difflib
import functools
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import translate
from pathlib import Path
from typing import Any

from pytest_ductaflow import graph
from pytest_ductaflow.errors import InstanceError
from pytest_ductaflow.instance import Instance, Need, Several, load_instances
from pytest_ductaflow.names import file_of, without_group
from pytest_ductaflow.references import DEPTH, RUNS, Mention, is_in, is_wild, run_directory_of
from pytest_ductaflow.settings import instance_files
from pytest_ductaflow.strict_json import KeyPath, dotted

#: Of more dropped references, the rest is counted.
_MOST_DROPPED = 3


@dataclass
class Resolved:
    """The instances of a project, which know what they need.

    :param instances: run directory to instance, in the order of collection.
    :param node_ids: run directory to pytest's id of the instance.
    :param problems: run directory to mistakes: the place in its file, and what is wrong.
    :param in_error: instance files that cannot be read; which instances they hold is not known.
    :param dropped: what is not waited for, because that would close a cycle: an instance's run directory,
        the reference, the run directory that it leads to.
    """

    instances: dict[str, Instance]
    node_ids: dict[str, str] = field(default_factory=dict)
    problems: dict[str, list[tuple[KeyPath, str]]] = field(default_factory=dict)
    dropped: list[tuple[str, Mention, str]] = field(default_factory=list)
    in_error: tuple[str, ...] = ()

    def describe_dropped(self) -> str | None:
        """One line for what is not waited for; ``None`` if there is nothing."""
        if not self.dropped:
            return None
        shown = [
            f"{self.node_ids.get(directory, directory)} does not wait for {target} "
            f"({dotted(mention.where)}: {mention.text!r})"
            for directory, mention, target in self.dropped[:_MOST_DROPPED]
        ]
        rest = len(self.dropped) - len(shown)
        more = f"; and {rest} more" if rest else ""
        return f"each would have to wait for the other: {'; '.join(shown)}{more}"


def load(
    root: Path, patterns: Iterable[str], loaded: Mapping[Path, Sequence[Instance]] | None = None
) -> tuple[dict[str, Instance], tuple[str, ...]]:
    """All instances of a project by node id, in the order of collection.

    :param loaded: what some of the files hold; these are not read again.
    :returns: the instances, and the names of the files that cannot be read.
    """
    found: dict[str, Instance] = {}
    in_error: list[str] = []
    for file in instance_files(root, patterns):
        try:
            found |= _by_node_id((loaded or {}).get(file) or load_instances(file, root), file, root)
        except Exception:  # whichever it is, it is told when the file is collected
            in_error.append(file.relative_to(root).as_posix())
    return found, tuple(in_error)


def _by_node_id(instances: Iterable[Instance], file: Path, root: Path) -> dict[str, Instance]:
    name = file.relative_to(root).as_posix()
    return {f"{name}::{instance.name}": instance for instance in instances}


def of_ids(node_ids: Iterable[str], root: Path, patterns: Iterable[str]) -> dict[str, Instance]:
    """The instances among the ids of tests, which know what they need."""
    plain = {node_id: without_group(node_id) for node_id in node_ids}
    known: dict[str, Instance] = {}
    for name in dict.fromkeys(file_of(node_id) for node_id in plain):
        if name.endswith(".json"):
            with contextlib.suppress(InstanceError):  # somebody else's, or changed since it was collected
                known |= _by_node_id(load_instances(root / name, root), root / name, root)
    found = around({key: known[key] for key in plain.values() if key in known}, root, patterns)
    resolved = {found.node_ids[directory]: instance for directory, instance in found.instances.items()}
    return {node_id: resolved[key] for node_id, key in plain.items() if key in resolved}


def around(
    known: Mapping[str, Instance],
    root: Path,
    patterns: Iterable[str],
    loaded: Mapping[Path, Sequence[Instance]] | None = None,
) -> Resolved:
    """Find out what instances need, the rest of their project being read only if it may matter.

    :param known: the instances by node id, as ``load_instances`` returns them.
    :param root: the project root, absolute. :param patterns: those of the project's instance files.
    :param loaded: as for :func:`load`.
    """
    directories = {instance.run_directory for instance in known.values()}
    everywhere = any(
        not mention.by_name or run_directory_of(mention.path) not in directories
        for instance in known.values()
        for mention in instance.mentions
    )
    ours: Mapping[str, Instance] = known
    in_error: tuple[str, ...] = ()
    baselines = {run_directory_of(path) for instance in known.values() for path in instance.baselines}
    if everywhere or baselines - directories:
        whole, in_error = load(root, patterns, loaded)
        others = {
            key: one for key, one in whole.items() if key in known or one.run_directory not in directories
        }
        ours = {**others, **known}  # in the order of collection
    return replace(resolve(ours, root), in_error=in_error)


def resolve(instances: Mapping[str, Instance], root: Path) -> Resolved:
    """Find out what instances need.

    Their configs get absolute paths for references, and lists for ``{"$paths": …}``.

    :param instances: all of a project by node id, as ``load_instances`` returns them, in the order of
        collection. Of two with one run directory the first counts.
    :param root: the project root, absolute.
    """
    found = Resolved({})
    for node_id, instance in instances.items():
        if instance.run_directory not in found.instances:
            found.instances[instance.run_directory] = instance
            found.node_ids[instance.run_directory] = node_id
    index = _Index(found.instances)
    needed = {directory: _needed(instance, index) for directory, instance in found.instances.items()}
    _drop_cycles(needed, index, found)
    for directory, instance in found.instances.items():
        if needed[directory] or instance.mentions:
            found.instances[directory] = _resolved(instance, needed[directory], index, root, found)
    return found


def _needed(instance: Instance, index: _Index) -> dict[str, Need]:
    own = instance.run_directory
    needed: dict[str, Need] = {}
    for mention in instance.mentions:
        need = Need((mention.text,), mention.by_name)  # one for all: a pattern may lead to thousands
        for target in index.leads_to(mention.path):
            if target in needed:
                needed[target] = needed[target].and_also(need)
            elif target != own:
                needed[target] = need
    for baseline in instance.baselines:
        target = run_directory_of(baseline)
        if target in index.position:
            compared = Need((), by_name=False, compared=True)
            needed[target] = needed[target].and_also(compared) if target in needed else compared
    return needed


def _drop_cycles(needed: dict[str, dict[str, Need]], index: _Index, found: Resolved) -> None:
    """Do not wait for what only patterns lead to, and what waits in turn."""
    if all(need.is_firm for needs in needed.values() for need in needs.values()):
        return
    component = graph.components(needed)
    for directory, needs in needed.items():
        closing = {
            target
            for target, need in needs.items()
            if not need.is_firm and component[target] == component[directory]
        }
        for target in closing:
            del needs[target]
        if closing:
            found.dropped += [
                (directory, mention, target)
                for mention in found.instances[directory].mentions
                for target in index.leads_to(mention.path)
                if target in closing
            ]


def _resolved(
    instance: Instance, needed: dict[str, Need], index: _Index, root: Path, found: Resolved
) -> Instance:
    own = instance.run_directory
    changes: dict[KeyPath, Any] = {}
    inputs = list(instance.inputs)
    several: list[Several] = []
    for mention in instance.mentions:
        leads_to = index.leads_to(mention.path)
        targets = [target for target in leads_to if target in needed]
        if mention.as_list:
            if mistake := _mistake(mention, targets, own, index):
                found.problems.setdefault(own, []).append((mention.place, mistake))
            else:
                rest = mention.path.split("/")[DEPTH:]
                paths = {target: "/".join((str(root), target, *rest)) for target in targets}
                changes[mention.where] = list(paths.values())
                several.append(Several(mention.text, mention.where, paths, as_list=True))
            continue
        holds_own = not is_wild(mention.path) and is_in(own, mention.path)
        if not set(leads_to) - {own} or (holds_own and not targets):
            continue  # a path to write to, or to something else
        if mention.injected is not None:
            changes[mention.where] = mention.injected
        inputs += _inputs(mention, targets, holds_own=holds_own)
        if not mention.by_name:
            several.append(Several(mention.text, mention.where, dict.fromkeys(targets, "")))
    return replace(
        instance,
        config=_changed(instance.config, changes, ("config",)) if changes else instance.config,
        inputs=tuple(dict.fromkeys(inputs)),
        needed=needed,
        several=tuple(one for one in several if one.paths) if instance.needs == "finished" else (),
    )


def _inputs(mention: Mention, targets: Sequence[str], *, holds_own: bool) -> Iterator[str]:
    """What of a reference counts as inputs: paths and patterns relative to the project root."""
    if not holds_own:
        yield mention.path
    parts = mention.path.split("/")
    if holds_own or (is_wild(mention.path) and len(parts) <= DEPTH and parts[-1] != "**"):
        yield from targets  # it names directories, and what they hold is meant


def _mistake(mention: Mention, targets: Sequence[str], own: str, index: _Index) -> str | None:
    """Why ``{"$paths": …}`` is no list of paths."""
    first, *parts = mention.path.split("/")
    shown = repr(mention.text)
    form = f"write {RUNS}/<step>/<instance>/<file>, with wildcards in <step> and <instance> only"
    if first != RUNS or len(parts) < DEPTH - 1:
        return f"{shown} names no run directories: {form}"
    if "**" in parts:
        return f"{shown} has `**`, which stands for any number of directories: {form}"
    if is_wild("/".join(parts[DEPTH - 1 :])):
        return f"{shown} has a wildcard behind the run directory: {form}"
    if targets:
        return None
    leads_to = index.leads_to(mention.path)
    if set(leads_to) - {own}:
        return f"{shown} leads only to instances that need this one"
    if leads_to:
        return f"{shown} leads to this instance only"
    return f"{shown} leads to no instance{index.near(mention.path)}"


def without(instance: Instance, left_out: Collection[str]) -> Instance:
    """A resolved instance whose ``{"$paths": …}`` have no paths into these run directories."""
    changes = {
        several.where: [path for target, path in several.paths.items() if target not in left_out]
        for several in instance.several
        if several.as_list
    }
    return replace(instance, config=_changed(instance.config, changes, ("config",)))


def _changed(value: Any, changes: Mapping[KeyPath, Any], path: KeyPath) -> Any:
    """A config with some values replaced; itself it stays as it was."""
    if path in changes:
        return changes[path]
    if isinstance(value, dict):
        return {key: _changed(item, changes, (*path, key)) for key, item in value.items()}
    if isinstance(value, list):
        return [_changed(item, changes, (*path, index)) for index, item in enumerate(value)]
    return value


class _Index:
    """The run directories of a project, by step and name."""

    def __init__(self, directories: Iterable[str]) -> None:
        self.position = {directory: index for index, directory in enumerate(directories)}
        steps: dict[str, list[str]] = {}
        for directory in self.position:
            _, step, name = directory.split("/")
            steps.setdefault(step, []).append(name)
        self._steps = {step: sorted(names) for step, names in sorted(steps.items())}
        self._known: dict[str, tuple[str, ...]] = {}

    def leads_to(self, path: str) -> tuple[str, ...]:
        """The run directories that a path or pattern lies in, is, or holds; in their order."""
        if path not in self._known:
            self._known[path] = tuple(sorted(self._found(path), key=self.position.__getitem__))
        return self._known[path]

    def _found(self, path: str) -> Iterator[str]:
        directory = run_directory_of(path)
        if not is_wild(directory) and directory.count("/") == DEPTH - 1:
            if directory in self.position:
                yield directory
            return
        parts = [] if path == "." else path.split("/")
        if "**" in parts:  # it holds whatever there is from there on
            parts = parts[: parts.index("**")]
        runs, step, name = (*parts, *["*"] * DEPTH)[:DEPTH]
        if next(_matching(runs, [RUNS]), None) is None:
            return
        for matched in _matching(step, list(self._steps)):
            yield from (f"{RUNS}/{matched}/{found}" for found in _matching(name, self._steps[matched]))

    def near(self, path: str) -> str:
        """A hint: the nearest step, or instance of its step, to the one that a path names."""
        _, step, name, *_ = path.split("/")
        meant, known, before = (step, [*self._steps], RUNS)
        if step in self._steps:
            meant, known, before = (name, self._steps[step], f"{RUNS}/{step}")
        found = difflib.get_close_matches(meant, known, 1)
        return f": did you mean {before}/{found[0]}?" if found else ""


def _matching(pattern: str, names: Sequence[str]) -> Iterator[str]:
    """Those of the sorted names that match; only those that begin as the pattern does are looked at."""
    wild = next((index for index, character in enumerate(pattern) if character in "*?["), len(pattern))
    start, matches = pattern[:wild], _matcher(pattern)
    for index in range(bisect.bisect_left(names, start), len(names)):
        if not names[index].startswith(start):
            break
        if matches(names[index]):
            yield names[index]


@functools.lru_cache(maxsize=1024)
def _matcher(pattern: str) -> Any:
    return re.compile(translate(pattern)).match
