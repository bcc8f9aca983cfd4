"""What a run was seen to read in the run directories of others: it orders them, and not all of it counts.

No reference tells of a flow's own globs, nor of ``load_runs``; its last record does. So the next session runs
what was read before what read it. The first time, a flow may read what this session has still to make, or
what is left of a run that failed; and a leftover nobody makes again. Such a run is orange, and the state of
such inputs in its record is never up to date.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pytest_ductaflow import graph, regular
from pytest_ductaflow.record import RECORD_NAME
from pytest_ductaflow.references import DEPTH, RUNS, run_directory_of

#: States of inputs that are never up to date.
OF_LEFTOVER: Final = "of a leftover"
UNDECIDED: Final = "perhaps of a leftover"
TOO_EARLY: Final = "read too early"
OF_FAILED: Final = "of a run that failed"
NO_FILE: Final = "not a regular file"  # a pipe or a device: what comes out of it is never the same
NEVER_FRESH: Final = frozenset({OF_LEFTOVER, UNDECIDED, TOO_EARLY, OF_FAILED, NO_FILE})

#: So many files are named in one line.
_MOST_NAMED: Final = 3


@dataclass(frozen=True)
class Doubt:
    """Inputs that do not count.

    :param state: theirs in the record. :param names: theirs. :param line: the warning line that says so.
    """

    state: str
    names: tuple[str, ...]
    line: str


# --- what was read -------------------------------------------------------------------------------


def by_run(inputs: Iterable[str], among: Set[str] | Mapping[str, object]) -> dict[str, list[str]]:
    """Inputs that are one of these run directories or lie in one, by run directory.

    :param inputs: as records name them.
    :param among: run directories, ``runs/<step>/<instance>``.
    """
    found: dict[str, list[str]] = {}
    for name in inputs:
        if name.startswith(f"{RUNS}/"):
            directory = run_directory_of(name)
            if directory in among:
                found.setdefault(directory, []).append(name)
    return found


def with_steps(inputs: Iterable[str], among: Set[str] | Mapping[str, object]) -> dict[str, list[str]]:
    """As :func:`by_run`; a step that was listed, or looked for in vain, is read as a whole."""
    inputs = list(inputs)
    found = by_run(inputs, among)
    listed = {name.rstrip("/"): name for name in inputs if _is_step(name)}
    if listed:  # else nobody goes through thousands of run directories for each run
        for directory in among:
            step = directory.rpartition("/")[0]
            if step in listed:
                found.setdefault(directory, []).append(listed[step])
    return found


def _is_step(name: str) -> bool:
    return name.startswith(f"{RUNS}/") and name.rstrip("/").count("/") == DEPTH - 2


def file_among(names: Sequence[str]) -> str:
    """A file rather than a directory that was listed or is named as a whole."""
    return next((name for name in names if not name.endswith(("/", "*"))), names[0].rstrip("/*"))


# --- what does not count -------------------------------------------------------------------------


def of_leftovers(inputs: Iterable[str], leftovers: Set[str]) -> Iterator[Doubt]:
    """The inputs that nobody makes again."""
    found = by_run(inputs, leftovers) if leftovers else {}
    if len(found) == 1:
        line = f"⚠️ read {_shown(found)}, a leftover: its instance is gone (see: ductaflow prune)"
        yield _doubt(OF_LEFTOVER, found, line)
    elif found:
        gone = f"{len(found):,} leftovers, whose instances are gone (see: ductaflow prune)"
        yield _doubt(OF_LEFTOVER, found, f"⚠️ read {gone}: {_shown(found)}")


def of_undecided(inputs: Iterable[str], directories: Set[str]) -> Iterator[Doubt]:
    """The inputs of which nobody knows whether they are made again."""
    found = by_run(inputs, directories) if directories else {}
    if found:
        why = "an instance file is in error, so it may be of a leftover"
        yield _doubt(UNDECIDED, found, f"⚠️ read {_shown(found)}: {why}")


def too_early(found: Mapping[str, Sequence[str]]) -> Iterator[Doubt]:
    """:param found: inputs by run directory, each of which this session had still to run."""
    if found:
        first = next(iter(found)).rpartition("/")[2]
        ran = f"ran {first}" if len(found) == 1 else f"made them ({len(found):,} runs)"
        yield _doubt(TOO_EARLY, found, f"⚠️ read {_shown(found)} before this session {ran}")


def of_failed(found: Mapping[str, Sequence[str]]) -> Iterator[Doubt]:
    """:param found: inputs by run directory, in each of which the run failed."""
    if found:
        runs = "a run" if len(found) == 1 else f"{len(found):,} runs"
        yield _doubt(OF_FAILED, found, f"⚠️ read {_shown(found)} of {runs} that failed")


def _doubt(state: str, found: Mapping[str, Sequence[str]], line: str) -> Doubt:
    return Doubt(state, tuple(name for names in found.values() for name in names), line)


def _shown(found: Mapping[str, Sequence[str]]) -> str:
    names = list(dict.fromkeys(file_among(names) for names in found.values()))
    more = f", … {len(names) - _MOST_NAMED:,} more" if len(names) > _MOST_NAMED else ""
    return ", ".join(names[:_MOST_NAMED]) + more


# --- the order of the next session ---------------------------------------------------------------


def also_seen(needed: Mapping[str, Sequence[str]], root: Path) -> dict[str, list[str]]:
    """What comes before what: what is needed, and what the last run was seen to read.

    Where waiting for what was seen would close a cycle, it is not waited for.

    :param needed: each run directory to those that it needs.
    """
    there = _existing(needed, root)
    seen = {node: [other for other in _seen(root / node, needed) if other != node] for node in there}
    edges = {node: list(dict.fromkeys([*others, *seen.get(node, ())])) for node, others in needed.items()}
    if not any(seen.values()):
        return edges
    component = graph.components(edges)
    return {
        node: [one for one in others if one in needed[node] or component[one] != component[node]]
        for node, others in edges.items()
    }


def _existing(nodes: Iterable[str], root: Path) -> list[str]:
    """Those of the run directories that there are; looking for the record of each takes longer."""
    names: dict[str, set[str]] = {}
    there = []
    for node in nodes:
        step, _, name = node.rpartition("/")
        if step not in names:
            try:
                names[step] = set(os.listdir(root / step))
            except OSError:
                names[step] = set()
        if name in names[step]:
            there.append(node)
    return there


def _seen(directory: Path, among: Mapping[str, object]) -> Iterable[str]:
    """The run directories in which the last run of a directory read."""
    try:
        data = regular.read_bytes(directory / RECORD_NAME)
        if f'"{RUNS}/'.encode() not in data:  # most have nothing there, and parsing takes longer
            return ()
        inputs = json.loads(data)["inputs"]
        return with_steps(inputs, among) if isinstance(inputs, dict) else ()
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return ()
