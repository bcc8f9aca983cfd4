"""Is a run up to date? Its record says what it was made of; this compares that with what is there now.

A record's fingerprint:

- ``code``: the flow's file, those of a build's flows, and the project's modules that were imported, each
  with the digest of its text and of its meaning. ``unused`` are modules that the code names, that exist
  and that were not imported.
- ``config``: compared as canonical JSON, the project root being wherever it is now.
- ``inputs``: path to state. The state is a content digest, or ``missing`` (it was looked for in vain),
  ``exists`` or ``directory`` (its existence was asked for), ``listing …`` for ``path/`` (the digest of
  the names in it), ``all`` for ``path/**`` (a directory that the config names: each file in it counts), or
  ``changed during the run`` or one of those in ``reads``, which are never fresh, or ``appended to``, which is
  no input at all. Paths are relative to the project root if below it.
- ``outputs``: what was made, nested runs included, relative to the run directory (see ``outputs``).
- ``environment``: Python's version, the libraries imported with theirs, the directories to import from.

No times count and no absolute paths, so ``runs/`` can come from another machine. Where anything is in doubt
there is a reason to run.
"""

from __future__ import annotations

import contextlib
import functools
import glob
import importlib
import importlib.machinery
import importlib.metadata
import importlib.util
import os
import platform
import re
import stat
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Final, Protocol

from pytest_ductaflow import (
    digests,
    flow,
    looks,
    meaning,
    modules,
    outputs,
    reads,
    record,
    regular,
    strict_json,
)
from pytest_ductaflow.digests import digest_of_text, is_digest, may_change_unseen, stat_of
from pytest_ductaflow.engines import tracing
from pytest_ductaflow.errors import FlowError, RecordError
from pytest_ductaflow.paths import name_of
from pytest_ductaflow.record import Record, RunDirectory
from pytest_ductaflow.status import Status

MISSING: Final = "missing"
EXISTS: Final = "exists"
DIRECTORY: Final = "directory"
ALL: Final = "all"
CHANGED: Final = "changed during the run"
APPENDED: Final = "appended to"
_LISTING: Final = "listing "
_WILD: Final = re.compile(r"[*?[]")
#: Seconds that two clocks may differ before one of them must be wrong.
_CLOCK_TOLERANCE: Final = 5.0
_LONGEST_VALUE: Final = 60
#: Of more reasons of one kind, the rest is counted.
_MOST_REASONS: Final = 10
#: What ductaflow itself leaves in run directories, besides files named after the flow.
_OURS: Final = re.compile(
    r"run\.json|\.run\.lock|\.digests|\.project\.json|_cli_execution_output\.txt|conductor_status_report\.html"
    r"|\..+\.[0-9a-f]{32}\.tmp"
)
#: The first component of each path in a distribution's list of files.
_TOP_LEVEL: Final = re.compile(r"^([A-Za-z_]\w*)(?:/|\.(?:py|so|pyd|abi3|cpython)\b)", re.MULTILINE)
_PACKAGE: Final = os.path.join(os.path.dirname(os.path.abspath(__file__)), "")
#: Endings of modules that are not read as text.
_NO_SOURCE: Final = (*importlib.machinery.EXTENSION_SUFFIXES, *importlib.machinery.BYTECODE_SUFFIXES)
_OUTPUT_ENDING: Final = "_execution_output.txt"


class Asked(Protocol):
    """What is to be run, as far as this module needs to know."""

    @property
    def flow(self) -> Path:
        """Absolute path of the flow's file."""

    @property
    def directory(self) -> Path:
        """The run directory."""

    @property
    def config(self) -> dict[str, Any]:
        """Without ``_project_root``."""

    @property
    def project_root(self) -> Path:
        """Absolute."""

    @property
    def inputs(self) -> tuple[str, ...]:
        """Glob patterns and paths below the project root."""

    @property
    def import_path(self) -> tuple[str, ...]:
        """Directories to import from, absolute."""

    @property
    def needed(self) -> Mapping[str, str]:
        """The run directories that references lead to, each with why it is left out, or ``""``."""


# --- what is declared ----------------------------------------------------------------------------


def declared(asked: Asked, code: Iterable[Path], earlier: Iterable[str] = ()) -> dict[str, str]:
    """Inputs that are named rather than seen to be read: name to ``""``, or to ``ALL`` for a directory.

    They are the instance's ``inputs``, paths in the config, string literals in the code that name existing
    files, and what earlier flows of the same build wrote.

    :param code: the files whose literals count. :param earlier: outputs of earlier flows, by name.
    """
    found: dict[str, str] = dict.fromkeys(earlier, "")
    root, directory = asked.project_root, asked.directory
    for pattern in asked.inputs:
        _find(pattern, (root,), found, directories=True)
    for text in _texts(asked.config):
        _find(text, (root, directory), found, directories=True)
    for path in code:
        known = digests.of_project(root).of(path)
        # In a clone of ductaflow itself its own modules are below the root: they name no data.
        if known is not None and not str(path).startswith(_PACKAGE):
            for text in meaning.mentions_in(path, known).texts:
                _find(text, (root, directory), found, directories=False)
                if text.startswith("/"):  # the end of an f-string: {root}/data/a.csv
                    _find(text.lstrip("/"), (root,), found, directories=False)
    for name in [name for name, kind in found.items() if kind == ALL]:
        for inside in _files_below(root / name):
            found.setdefault(name_of(inside, root), "")
    return {(f"{name}/**" if kind == ALL else name): kind for name, kind in found.items()}


def _find(text: str, places: Sequence[Path], found: dict[str, str], *, directories: bool) -> None:
    if not text or len(text) > 4096 or "\n" in text or "\0" in text:
        return
    text = os.path.expanduser(text)
    root = places[0]
    if not directories and not text.strip("/*?."):  # wildcards only: not every file that there is
        return
    wild = _WILD.search(text)
    # The end of an f-string, as in {root}/**/*.csv, is no pattern for the whole disk.
    everywhere = wild and os.path.isabs(text) and not text[: wild.start()].rpartition("/")[0].strip("/")
    if wild and not everywhere and ("/" in text or len(places) == 1):
        for path in glob.iglob(os.path.join(glob.escape(str(root)), text), recursive=True):
            if os.path.isfile(path):
                found.setdefault(name_of(path, root), "")
    for place in places:
        path = os.path.join(place, text)
        try:
            mode = os.stat(path).st_mode
        except (OSError, ValueError):
            continue
        if stat.S_ISREG(mode):
            found.setdefault(name_of(path, root), "")
        elif stat.S_ISDIR(mode) and directories and place == root:
            inside = Path(os.path.normpath(path))
            if not places[-1].is_relative_to(inside):  # else it holds the run itself
                found.setdefault(name_of(path, root), ALL)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)


def _files_below(directory: Path) -> Iterator[str]:
    """The files in a directory that are somebody's data: without what ductaflow itself leaves in runs."""
    seen: set[str] = set()
    for folder, folders, names in os.walk(directory, followlinks=True):
        real = os.path.realpath(folder)
        folders[:] = [] if real in seen else [name for name in folders if name not in tracing.UNSEEN]
        seen.add(real)
        for name in _not_ours(names):
            path = os.path.join(folder, name)
            if os.path.isfile(path):
                yield path


def _not_ours(names: Sequence[str]) -> list[str]:
    stems = [name.removesuffix(_OUTPUT_ENDING) for name in names if name.endswith(_OUTPUT_ENDING)]
    ours = {stem + end for stem in stems for end in (".ipynb", "_config.json", ".html", _OUTPUT_ENDING)}
    return [
        name
        for name in names
        if name not in ours and not _OURS.fullmatch(name) and name not in tracing.UNSEEN
    ]


class Snapshot:
    """The declared inputs before a run, by which it is known afterwards which of them changed meanwhile."""

    def __init__(self, asked: Asked, earlier: Mapping[str, str]) -> None:
        self.earlier = dict(earlier)
        self._root = asked.project_root
        self.moment = time.time_ns()
        self.states: dict[str, list[Any] | None] = {}
        for name in declared(asked, [asked.flow], earlier):
            self.states[name] = None if name.endswith("/**") else _state(self._root / name)


def _state(path: Path) -> list[Any] | None:
    try:
        info = os.stat(path)
    except OSError:
        return None
    found: list[Any] = list(stat_of(info))
    if may_change_unseen(stat_of(info), time.time_ns()):
        found.append(digests.digest(path))
    return found


# --- the fingerprint -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Evidence:
    """What is known of a run that finished.

    :param before: the declared inputs as they were. :param executed: the flow as it was executed.
    :param trace: what its process read and wrote, and ``summary`` what that said at its end.
    :param nested: the fingerprints of nested runs, as :func:`as_nested` gives them.
    """

    before: Snapshot
    executed: flow.Flow
    trace: Sequence[tuple[str, str, Any]]
    summary: Mapping[str, Any]
    nested: Sequence[Mapping[str, Any]]


def fingerprint(asked: Asked, made: Record, evidence: Evidence) -> None:
    """Write what a run was made of into its record, which has its ``runs`` and own ``outputs`` already.

    Where that is not known of a nested run, it is not of this one.
    """
    if not all(entry["known"] for entry in evidence.nested):
        return
    root, known = asked.project_root, digests.of_project(asked.project_root)
    by_it = {
        kind: {name for by, name, _ in evidence.trace if by == kind}
        for kind in tracing.BY_THE_RUN | {tracing.LINKED}
    }
    own = _Own(asked, made, evidence.nested)
    main = name_of(asked.flow, root)
    imported = {name: state for kind, name, state in evidence.trace if kind == tracing.MODULE}
    imported = {**dict.fromkeys(evidence.summary["modules"]), **imported}
    imported.pop(main, None)
    sources = [name for name in imported if name.endswith(".py") and (root / name).exists()]
    files = [asked.flow, *(root / name for name in sources)]
    appended = by_it[tracing.APPENDED]
    written = by_it[tracing.WRITTEN] | appended

    def counts(name: str) -> bool:
        return name not in made.code and not own.covers(name)

    places = _import_path(asked, evidence.summary["import_path"])
    made.code, seen_twice = {}, set()
    for code in (
        *(nested["code"] for nested in evidence.nested),
        _code(asked, evidence, imported, sources, places),
    ):
        seen_twice |= _merge(made.code, code)
    inputs = _seen_inputs(evidence.trace, root, by_it, counts, own.covers)
    inputs |= dict.fromkeys(seen_twice, CHANGED)
    for name, state in imported.items():
        if state is not None and _has_changed(root / name, state):
            inputs[name] = CHANGED
        elif not name.endswith(".py"):  # an extension module
            inputs[name] = known.of(name) or MISSING
    for name, state in _declared_inputs(
        asked, files, evidence.before, written, by_it[tracing.LINKED]
    ).items():
        if counts(name.removesuffix("/**")) and inputs.get(name, MISSING) in (MISSING, EXISTS):
            inputs[name] = state
    for entry in evidence.nested:
        for name, state in entry["inputs"].items():
            if not own.made(name.rstrip("/*"), state):
                inputs[name] = _both(inputs.get(name, state), state)
    for name in modules.in_vain(evidence.summary["unresolved"], places, root):
        inputs.setdefault(name, MISSING)
    inputs |= {name: APPENDED for name in appended if name not in inputs and not own.covers(name)}
    made.inputs = dict(sorted(inputs.items()))
    for name in sorted((written | by_it[tracing.MADE]) - appended):
        # What was written by way of somebody's link is what that leads to.
        state = outputs.state_of(root / name, known) if name in by_it[tracing.MADE] else known.of(name)
        if state and not own.is_ours(name):
            made.outputs.setdefault(_from(asked.directory, root / name), state)
    made.outputs |= own.outputs_of_nested
    made.environment = _environment(asked, files, evidence)


def as_nested(finished: Record, directory: Path, root: Path) -> dict[str, Any]:
    """What a build needs to know of a flow's run: its fingerprint, and the names of its files."""
    own = RunDirectory(directory, Path(finished.flow).stem).own_files
    return {
        "inputs": finished.inputs,
        "code": finished.code,
        "environment": finished.environment,
        "outputs": {name_of(directory / name, root): state for name, state in finished.outputs.items()},
        "own": [name_of(directory / name, root) for name in own],
        "known": is_known(finished),
    }


def _from(directory: Path, path: Path) -> str:
    return os.path.relpath(path, directory).replace(os.sep, "/")


class _Own:
    """What lies in a run directory because of the run: no input of it."""

    def __init__(self, asked: Asked, made: Record, nested: Sequence[Mapping[str, Any]]) -> None:
        root = asked.project_root
        self.directory = name_of(asked.directory, root) + "/"
        own = RunDirectory(asked.directory, asked.flow.stem).own_files
        self._ours = {name_of(asked.directory / name, root) for name in own}
        self._names = {*self._ours, *(name_of(asked.directory / name, root) for name in made.outputs)}
        self._states: dict[str, str] = {}
        for entry in nested:
            self._ours.update(entry["own"])
            self._states |= entry["outputs"]
        self._names |= self._ours | self._states.keys()
        self.outputs_of_nested = {
            _from(asked.directory, root / name): state for name, state in self._states.items()
        }
        self._nested = tuple(name_of(asked.directory / run, root) + "/" for run in made.runs)

    def made(self, name: str, state: str) -> bool:
        """Whether the input of a nested run is what the run itself made.

        A file elsewhere that a flow looked for, and a later one wrote, is not: it was another one then.
        """
        elsewhere = name in self._states and not name.startswith(self.directory)
        return state == self._states[name] if elsewhere else self.covers(name)

    def is_ours(self, name: str) -> bool:
        """Whether this is a file that we keep of a run."""
        return name in self._ours

    def covers(self, name: str) -> bool:
        """Whether the run made this file, or this directory holds the run or nested ones."""
        directory = f"{name}/"
        return name in self._names or any(
            run.startswith(directory) for run in (self.directory, *self._nested)
        )


def _both(one: str, other: str) -> str:
    """The state of an input of two nested runs: if it was not the same for both, it changed in between."""
    if one == other or other in (APPENDED, EXISTS):
        return one
    return other if one in (APPENDED, EXISTS) else CHANGED


def _seen_inputs(
    trace: Sequence[tuple[str, str, Any]],
    root: Path,
    by_it: Mapping[str, Set[str]],
    counts: Callable[[str], bool],
    covers: Callable[[str], bool],
) -> dict[str, str]:
    """What the trace tells. A file of code that is read as data counts by its content, too.

    :param by_it: what the run made, by kind of line.
    """
    known = digests.of_project(root)
    inputs: dict[str, str] = {}
    written = by_it[tracing.WRITTEN] | by_it[tracing.APPENDED]
    walked = {name for kind, name, _ in trace if kind == tracing.WALKED}

    def has_changed(name: str, state: Sequence[Any]) -> bool:
        return _has_changed(root / name, state, linked=name in by_it[tracing.LINKED])

    for kind, name, state in trace:
        path = root / name
        if kind in (tracing.MODULE, tracing.WALKED) or kind in by_it:
            continue
        if covers(name) if kind == tracing.READ else not counts(name):
            continue
        if kind.startswith(tracing.LISTED_BY):
            if kind.removeprefix(tracing.LISTED_BY) in walked:
                continue  # it looked for modules, or for distributions
            kind = tracing.LISTED
        if kind == tracing.LISTED:
            inputs |= {name: MISSING} if state is None else {f"{name}/": _listing(state)}
        elif kind == tracing.LOOKED_FOR and (name in inputs or name in by_it[tracing.MADE]):
            continue  # a directory that it looked for and then made is output
        elif state is None:
            inputs[name] = MISSING
        elif state == DIRECTORY:
            inputs[name] = DIRECTORY
        elif kind == tracing.READ and regular.is_special(path):
            inputs[name] = reads.NO_FILE
        elif kind == tracing.LOOKED_FOR and (name in written or has_changed(name, state)):
            inputs[name] = EXISTS
        else:
            inputs[name] = CHANGED if has_changed(name, state) else known.of(path) or EXISTS
    return inputs


def _declared_inputs(
    asked: Asked, files: Sequence[Path], before: Snapshot, written: Set[str], linked: Set[str]
) -> dict[str, str]:
    root, known = asked.project_root, digests.of_project(asked.project_root)
    now = declared(asked, files, before.earlier)
    names = dict.fromkeys([*before.states, *now])
    filled = [  # a directory into which something is written is no input as a whole
        name.removesuffix("**")
        for name in names
        if name.endswith("/**")
        and any(
            other.startswith(name.removesuffix("**"))
            for other in (*written, *(now.keys() - before.states.keys()))
        )
    ]
    inputs: dict[str, str] = {}
    for name in names:
        if name in written or any(name.startswith(place) for place in filled):
            continue
        if name.endswith("/**"):
            inputs[name] = ALL
            continue
        state = before.states.get(name)
        if state is None:  # named by a module that was not known before
            info = _state(root / name)
            changed = info is None or may_change_unseen(tuple(info[:4]), before.moment)
        else:
            changed = _has_changed(root / name, state, linked=name in linked)
        inputs[name] = CHANGED if changed else known.of(name) or MISSING
    return inputs


def _has_changed(path: Path, state: Sequence[Any], *, linked: bool = False) -> bool:
    """:param linked: the run gave the file another name, which changes its last time."""
    try:
        now = stat_of(os.stat(path))
    except OSError:
        return True
    compared = 3 if linked else 4
    return list(now[:compared]) != list(state[:compared]) or (
        len(state) > 4 and digests.digest(path) != state[4]
    )


def _listing(names: Sequence[str]) -> str:
    return _LISTING + digest_of_text("\n".join(sorted(_not_ours(names))))


def _import_path(asked: Asked, more: Iterable[str]) -> list[str]:
    """Where modules are looked for: as it was to be, and what the run itself added in the project."""
    return list(
        dict.fromkeys([*asked.import_path, *(os.path.join(asked.project_root, name) for name in more)])
    )


def _code(
    asked: Asked, evidence: Evidence, imported: Iterable[str], sources: Sequence[str], places: Sequence[str]
) -> dict[str, dict[str, Any]]:
    root, known, executed = asked.project_root, digests.of_project(asked.project_root), evidence.executed
    texts = {name: _text_of(root / name) for name in sources}
    own = modules.top_level(imported, places, root) | _tops(evidence.summary["unresolved"])
    docstrings = looks.at_docstrings((executed.text, *texts.values()), own)
    entries: dict[str, dict[str, Any]] = {
        name_of(asked.flow, root): {
            "kind": "flow",
            "text": executed.digest,
            "meaning": executed.meaning(docstrings=docstrings),
        }
    }
    for name, text in texts.items():
        entries[name] = {
            "kind": "module",
            "text": known.of(name) or MISSING,
            "meaning": meaning.of_module(text, docstrings=docstrings),
        }
    for entry in entries.values():
        entry["docstrings"] = docstrings
    if looks.at_lines((executed.text, *texts.values())):
        for entry in entries.values():
            entry["meaning"] = entry["text"]
    for name in modules.candidates([asked.flow, *(root / name for name in sources)], imported, places, root):
        entries.setdefault(name, {"kind": "unused"})
    return entries


def _text_of(path: Path) -> str:
    try:
        return regular.read_text(path, "utf-8-sig")
    except (OSError, UnicodeDecodeError):
        return ""


def _merge(code: dict[str, dict[str, Any]], more: Mapping[str, dict[str, Any]]) -> set[str]:
    """Add what another run was made of: of each file, that counts which counts most of it.

    :returns: the files of which the two used different texts.
    """
    changed = set()
    for name, entry in more.items():
        old = code.get(name, entry)
        if old.get("text", entry.get("text")) != entry.get("text", old.get("text")):
            changed.add(name)
        code[name] = max(old, entry, key=_how_much)
    return changed


def _how_much(entry: Mapping[str, Any]) -> int:
    """How much of a file counts: nothing, what it does, with docstrings, or all of its text."""
    if entry["kind"] == "unused":
        return 0
    return 3 if entry["meaning"] == entry["text"] else 2 if entry.get("docstrings") else 1


def _tops(names: Iterable[str]) -> set[str]:
    return {name.partition(".")[0] for name in names}


def _environment(asked: Asked, files: Sequence[Path], evidence: Evidence) -> dict[str, Any]:
    root, known = asked.project_root, digests.of_project(asked.project_root)
    names = set(evidence.summary["libraries"])
    for path in files:
        found = known.of(path)
        if found is not None:
            names |= {name.partition(".")[0] for name in meaning.mentions_in(path, found).imports}
    versions = {owner: version_of(owner) for name in names for owner in _owners().get(name, ())}
    absent = _tops(evidence.summary["unresolved"])
    for entry in evidence.nested:
        versions |= entry["environment"].get("libraries", {})
        absent |= set(entry["environment"].get("absent", ()))
    return {
        "python": platform.python_version(),
        "platform": sys.platform,
        "libraries": {name: versions[name] for name in sorted(versions)},
        "absent": sorted(absent),
        "import_path": [name_of(path, root) for path in asked.import_path],
        "own_path": _own_path(evidence, asked),
    }


def _own_path(evidence: Evidence, asked: Asked) -> list[str]:
    """What the run, or one nested in it, added to the directories to import from."""
    nested = (name for entry in evidence.nested for name in entry["environment"].get("own_path", ()))
    given = {name_of(path, asked.project_root) for path in asked.import_path}
    found = dict.fromkeys([*evidence.summary["import_path"], *nested])
    return [name for name in found if name not in given]


def prepare() -> None:
    """Have at hand what any fingerprint needs. To be called while there is nothing else to do."""
    _owners()


def notice_installations() -> None:
    """Forget what is installed if that may have changed: a notebook's process lives for days."""
    global _installed
    found = []
    for path in sys.path:
        with contextlib.suppress(OSError):
            found.append((path, os.stat(path or os.curdir).st_mtime_ns))
    if found != _installed:
        _installed = found
        for remembered in (_owners, version_of, _is_installed):
            remembered.cache_clear()
        importlib.invalidate_caches()


#: The directories to import from, each with its modification time, when that was noticed last.
_installed: list[tuple[str, int]] = []


@functools.cache
def _owners() -> dict[str, list[str]]:
    """Top-level module to the distributions it comes from, read off their lists of files."""
    found: dict[str, list[str]] = {}
    for distribution in importlib.metadata.distributions():
        name = distribution.metadata["Name"]
        for top in set(_TOP_LEVEL.findall(distribution.read_text("RECORD") or "")):
            found.setdefault(top, []).append(name)
    return found


@functools.cache
def version_of(distribution: str) -> str | None:
    """The version that is installed, ``None`` if it is not."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


# --- the comparison ------------------------------------------------------------------------------


def read_finished(directory: Path) -> tuple[Record | None, str]:
    """The record of a run that finished and is not red, or the reason why there is none.

    What was expected of its measures does not count here.
    """
    if not (directory / record.RECORD_NAME).exists():
        return None, "never run" if not directory.exists() else "there is no record of a run"
    try:
        found = record.read_record(directory)
    except RecordError as error:
        return None, f"record: {error}"
    if found.own_light in (Status.SUCCESS, Status.WARNING):
        return found, ""
    return None, {
        Status.ERROR: "the last run failed",
        Status.INTERRUPTED: "the last run was interrupted",
    }.get(found.light, "it is being executed")


def why_stale(asked: Asked, found: Record, earlier: Iterable[str] = ()) -> list[str]:
    """Why a run that finished is not up to date; nothing if it is.

    :param found: its record. :param earlier: what earlier flows of the same build wrote, by name.
    """
    root = asked.project_root
    if found.flow != name_of(asked.flow, root):
        return [f"flow: {found.flow} → {name_of(asked.flow, root)}"]
    if not is_known(found):
        return [*_nested_changes(found, asked), "it is not known what the last run read"]
    reasons = [
        *_nested_changes(found, asked),
        *_clock(found),
        *_config_changes(found, asked),
        *_needed_changes(found, asked),
        *_code_changes(found, asked),
        *_input_changes(found, asked, earlier),
        *_output_changes(found, asked),
        *_environment_changes(found, asked),
    ]
    return _shortened(reasons)


def is_known(made: Record) -> bool:
    """Whether the record says what the run was made of: not if it failed, or ran as a script."""
    return {"libraries", "import_path", "absent"} <= made.environment.keys() and made.flow in made.code


def _shortened(reasons: Sequence[str]) -> list[str]:
    kinds: dict[str, list[str]] = {}
    for reason in reasons:
        kinds.setdefault(reason.partition(":")[0], []).append(reason)
    shown = []
    for kind, all_of_it in kinds.items():
        shown += all_of_it[:_MOST_REASONS]
        if len(all_of_it) > _MOST_REASONS:
            shown.append(f"{kind}: … and {len(all_of_it) - _MOST_REASONS} more")
    return shown


def _clock(found: Record) -> Iterator[str]:
    for moment in (found.started, found.ended):
        try:
            ahead = (datetime.fromisoformat(moment or "") - datetime.now(timezone.utc)).total_seconds()
        except (ValueError, TypeError):
            yield f"record: {moment!r} is no time"
            continue
        if ahead > _CLOCK_TOLERANCE:
            yield f"clock: it has gone backwards since the last run ({moment})"
            return


def _config_changes(found: Record, asked: Asked) -> Iterator[str]:
    old, then = dict(found.config), str(found.config.get("_project_root", ""))
    new = {**asked.config, "_project_root": str(asked.project_root)}
    if strict_json.canonical(old) == strict_json.canonical(new):
        return
    yield from _differences(_portable(old, then), _portable(new, str(asked.project_root)), "")


def _portable(value: Any, root: str) -> Any:
    """With the project root, wherever it is, as a dot."""
    if isinstance(value, str):
        if value == root:
            return "."
        return f".{os.sep}{value[len(root) + 1 :]}" if root and value.startswith(root + os.sep) else value
    if isinstance(value, dict):
        return {key: _portable(item, root) for key, item in value.items()}
    if isinstance(value, list):
        return [_portable(item, root) for item in value]
    return value


def _differences(old: Any, new: Any, place: str, key: str = "") -> Iterator[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        for name in dict.fromkeys([*new, *old]):
            inner = f"{place}.{name}" if place else str(name)
            if name not in old:
                yield f"config: {inner} = {_shown(new[name], name)} is new"
            elif name not in new:
                yield f"config: {inner} is gone (it was {_shown(old[name], name)})"
            else:
                yield from _differences(old[name], new[name], inner, str(name))
    elif strict_json.canonical(old) != strict_json.canonical(new):
        yield f"config: {place} {_shown(old, key)} → {_shown(new, key)}"


def _shown(value: Any, key: str) -> str:
    text = strict_json.dumps(strict_json.redact({key: value})[key], indent=None).strip()
    return text if len(text) <= _LONGEST_VALUE else f"{text[: _LONGEST_VALUE - 1]}…"


def _needed_changes(found: Record, asked: Asked) -> Iterator[str]:
    """Not what others wrote, that is inputs, but which others there are."""
    for name in dict.fromkeys([*asked.needed, *found.needed]):
        old, new = found.needed.get(name), asked.needed.get(name)
        if new is None:
            yield f"needed: {name} is no longer referred to"
        elif old is None and not new:
            yield f"needed: {name} is new"
        elif old != new:
            yield f"needed: {name} {f'is left out: {new}' if new else f'is no longer left out ({old})'}"


def _code_changes(found: Record, asked: Asked) -> Iterator[str]:
    root, known = asked.project_root, digests.of_project(asked.project_root)
    places = _import_path(asked, found.environment.get("own_path", ()))
    used = [name for name, entry in found.code.items() if entry.get("kind") != "unused"]
    for name in used:
        entry, now = found.code[name], known.of(name)
        if now is None:
            yield f"code missing: {name}"
        elif now != entry.get("text"):
            try:
                meant = _meaning_now(found, asked, name)
            except FlowError as error:
                yield f"code: {error}"
                continue
            if meant != entry.get("meaning") or _counts_by_now(found, root, places, name):
                yield f"code: {name}{_cell_of(found, asked, name) if entry.get('kind') == 'flow' else ''}"
    for name in sorted(_candidates(found, root, places) - found.code.keys()):
        if name not in found.inputs:
            yield f"code appeared: {name}"


def _candidates(found: Record, root: Path, places: Sequence[str]) -> set[str]:
    used = [name for name, entry in found.code.items() if entry.get("kind") != "unused"]
    flows = {name for name in used if found.code[name].get("kind") == "flow"}
    others = [name for name in found.inputs if name.endswith(_NO_SOURCE)]
    loaded = [*(name for name in used if name not in flows), *others]
    return modules.candidates([root / name for name in used], loaded, places, root)


def _meaning_now(found: Record, asked: Asked, name: str) -> str:
    """:raises FlowError: if it is no flow any more."""
    entry, path = found.code[name], asked.project_root / name
    docstrings = bool(entry.get("docstrings"))
    if entry.get("kind") == "module":
        return meaning.of_module(_text_of(path), docstrings=docstrings)
    return flow.read(path).meaning(docstrings=docstrings)


def _counts_by_now(found: Record, root: Path, places: Sequence[str], name: str) -> bool:
    """Whether more of a text counts than an older version of ours recorded."""
    if "docstrings" in found.code[name]:
        return False
    used = [name for name, entry in found.code.items() if entry.get("kind") != "unused"]
    texts = [_text_of(root / name) for name in used]
    own = modules.top_level(used, places, root) | set(found.environment.get("absent", ()))
    return looks.at_lines(texts) or looks.at_docstrings(texts, own)


def _cell_of(found: Record, asked: Asked, name: str) -> str:
    """Which cell of a flow changed, if the notebook of the run is still there to compare with."""
    runs = [(asked.directory, found), *record.child_records(found, asked.directory)]
    for directory, made in runs:
        if made.flow != name:
            continue
        now = flow.read(asked.project_root / name)
        old = flow.executed_cells(RunDirectory(directory, Path(name).stem).notebook)
        index = None if old is None else meaning.first_difference(old, now.cells)
        if index is not None:
            number, line = now.place_of(index)
            return f", cell {number}" + (f" (line {line})" if line else "")
    return ""


def _input_changes(found: Record, asked: Asked, earlier: Iterable[str]) -> Iterator[str]:
    root, known = asked.project_root, digests.of_project(asked.project_root)
    for name, state in found.inputs.items():
        if state in (ALL, APPENDED):
            continue
        if state == CHANGED:
            yield f"input changed during the last run: {name}"
        elif state in reads.NEVER_FRESH:
            yield f"input {state}: {name}"
        elif state.startswith(_LISTING):
            try:
                now = _listing(os.listdir(root / name))
            except OSError:
                now = MISSING
            if now != state:
                yield f"input {'missing' if now == MISSING else 'changed: other files in'}: {name}"
        elif state in (MISSING, EXISTS, DIRECTORY):
            path = os.path.join(root, name)
            there = os.path.isdir(path) if state == DIRECTORY else os.path.lexists(path)
            if there == (state == MISSING):
                yield f"input {'appeared' if there else 'missing'}: {name}"
        else:
            now_is = known.of(name)
            if now_is != state or not is_digest(state):
                yield f"input {'missing' if now_is is None else 'changed'}: {name}"
    files = [root / name for name, entry in found.code.items() if entry.get("kind") != "unused"]
    start = name_of(asked.directory, root)
    made = {f"{start}/{name}" for name in found.outputs}
    known_names = (found.inputs, found.code, made)
    news = [
        name for name in declared(asked, files, earlier) if not any(name in names for names in known_names)
    ]
    if news:
        own = _Own(asked, found, ())
        filled = [name.removesuffix("**") for name in news if name.endswith("/**")]
        for name in news:
            if not own.covers(name.removesuffix("/**")) and not any(map(name.startswith, filled)):
                yield f"input appeared: {name}"


def _output_changes(found: Record, asked: Asked) -> Iterator[str]:
    known = digests.of_project(asked.project_root)
    for name, gone in outputs.changed(found, asked.directory, asked.project_root, known):
        shown = name_of(asked.directory / name, asked.project_root)
        yield f"output {'missing' if gone else 'changed'}: {shown}"
    names = RunDirectory(asked.directory, asked.flow.stem)
    for path in (names.notebook, names.config, names.output):
        if not path.is_file():
            yield f"output missing: {name_of(path, asked.project_root)}"


def _nested_changes(found: Record, asked: Asked) -> Iterator[str]:
    for path, nested in record.child_records(found, asked.directory):
        if nested.light not in (Status.SUCCESS, Status.WARNING):
            yield f"nested run: {name_of(path, asked.project_root)} is {nested.light.light}"


def _environment_changes(found: Record, asked: Asked) -> Iterator[str]:
    then, now = found.environment, platform.python_version()
    if str(then.get("python")).split(".")[:2] != now.split(".")[:2]:
        yield f"environment: Python {then.get('python')} → {now}"
    if then.get("platform") != sys.platform:
        yield f"environment: {then.get('platform')} → {sys.platform}"
    for name, version in then["libraries"].items():
        if version_of(name) != version:
            yield f"environment: {name} {version or 'absent'} → {version_of(name) or 'absent'}"
    for name in then["absent"]:
        if _is_installed(name):
            yield f"environment: {name} absent → {version_of(name) or 'there'}"
    import_path = [name_of(path, asked.project_root) for path in asked.import_path]
    if then["import_path"] != import_path:
        yield f"environment: import path {then['import_path']} → {import_path}"


@functools.cache
def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False


# --- declared up to date -------------------------------------------------------------------------


def accept(asked: Asked, found: Record) -> list[str]:
    """Make a run that finished up to date as it is; the record keeps that, and despite what.

    :returns: what cannot be accepted; the record is of no use then.
    """
    reasons = why_stale(asked, found)
    if not reasons or not is_known(found):
        return reasons
    root, known = asked.project_root, digests.of_project(asked.project_root)
    own = _Own(asked, found, ())
    found.inputs = {name: _state_now(root, name, state) for name, state in found.inputs.items()}
    found.code = {name: entry for name, entry in found.code.items() if (root / name).is_file()}
    places = _import_path(asked, found.environment.get("own_path", ()))
    for name, entry in found.code.items():
        if entry["kind"] != "unused":
            exact = entry["text"] == entry["meaning"]
            entry["text"] = known.of(name)
            entry["meaning"] = entry["text"] if exact else _meaning_now(found, asked, name)
    files = [root / name for name, entry in found.code.items() if entry["kind"] != "unused"]
    for name in _candidates(found, root, places):
        if name not in found.inputs:
            found.code.setdefault(name, {"kind": "unused"})
    for name, kind in declared(asked, files).items():
        if name not in found.code and not own.covers(name.removesuffix("/**")):
            found.inputs.setdefault(name, kind or known.of(name) or MISSING)
    made = {name: outputs.state_of(os.path.normpath(asked.directory / name), known) for name in found.outputs}
    found.outputs = {name: state for name, state in made.items() if state is not None}
    found.config = {**asked.config, "_project_root": str(root)}
    found.needed = dict(asked.needed)
    libraries = {name: version_of(name) for name in found.environment["libraries"]}
    found.environment |= {
        "python": platform.python_version(),
        "platform": sys.platform,
        "libraries": {name: version for name, version in libraries.items() if version is not None},
        "absent": [name for name in found.environment["absent"] if not _is_installed(name)],
        "import_path": [name_of(path, root) for path in asked.import_path],
    }
    found.accepted.append({"time": record.now(), "reasons": reasons})
    return why_stale(asked, found)


def differs(root: Path, name: str, state: str) -> bool:
    """Whether an input is not now what it was when it was read, as the record has it."""
    if state in (EXISTS, DIRECTORY):
        return not os.path.lexists(root / name)
    return state == CHANGED or _state_now(root, name.rstrip("/"), state) != state


def _state_now(root: Path, name: str, state: str) -> str:
    if state in (ALL, APPENDED):
        return state
    path = root / name
    if state.startswith(_LISTING):
        return _listing(os.listdir(path)) if path.is_dir() else MISSING
    if path.is_dir():
        return DIRECTORY
    return digests.of_project(root).of(path) or MISSING
