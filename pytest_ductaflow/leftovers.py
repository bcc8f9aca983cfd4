"""Leftovers: run directories of instances that the project no longer has. They never count.

An instance's record has its node id; a run by hand has none, and is no leftover. A leftover's directory
is that of no instance now, whatever ``active`` chooses and whichever file the instance stands in: so a
scenario that is gone or renamed leaves one, and so does another ``step``, but an instance file that
moved does not. What is nested in a leftover belongs to it. As long as an instance file is in error, or
there is none, nobody knows, and nothing is a leftover.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pytest_ductaflow import context, regular, strict_json
from pytest_ductaflow.errors import ConfigError, InstanceError
from pytest_ductaflow.instance import inactive_names, load_instances
from pytest_ductaflow.names import file_of
from pytest_ductaflow.record import RECORD_NAME, write_atomically
from pytest_ductaflow.references import RUNS
from pytest_ductaflow.settings import instance_files

#: Below the directory of runs: which files hold instances, as the last session had it.
PROJECT_NAME: Final = ".project.json"
#: So many are named in one line.
_MOST_NAMED: Final = 3
_KEY: Final = "ductaflow_instances"


@dataclass(frozen=True)
class Leftover:
    """A run directory, ``runs/<step>/<instance>``, and why it belongs to no instance."""

    directory: str
    node_id: str
    why: str


class Leftovers:
    """The leftovers of a project, as they are when they are first asked for.

    :param root: the project root, absolute.
    :param patterns: glob patterns of instance files, relative to the root.
    :param runs: the directory of all runs.
    """

    def __init__(self, root: Path, patterns: Iterable[str], runs: Path | None = None) -> None:
        self.root = root
        self.patterns = tuple(patterns)
        self.runs = root / RUNS if runs is None else runs
        #: Run directories that are known to be those of instances.
        self.known: set[str] = set()
        self._loaded: dict[str, dict[str, str]] = {}  # file to its run directories and the names there
        self._inactive: dict[str, frozenset[str] | None] = {}  # names that are not active, of each file
        self._problems: dict[str, str] = {}  # of each file in error

    @functools.cached_property
    def found(self) -> dict[str, Leftover]:
        """By run directory, sorted; none while that cannot be known (see :attr:`problem`)."""
        if not self._unclaimed or self.problem is not None:
            return {}
        found = [Leftover(directory, id_, self._why(id_)) for directory, id_ in self._unclaimed.items()]
        return {leftover.directory: leftover for leftover in sorted(found, key=lambda one: one.directory)}

    @functools.cached_property
    def directories(self) -> frozenset[str]:
        """The run directories that are leftovers."""
        return frozenset(self.found)

    @functools.cached_property
    def undecided(self) -> frozenset[str]:
        """The run directories of which nobody knows whether they are leftovers: a file is in error."""
        return frozenset(self._unclaimed if self._unclaimed and self._problems else ())

    @functools.cached_property
    def _unclaimed(self) -> dict[str, str]:
        """Run directories of no instance that is known, and the node ids of their records."""
        candidates = dict(self._without_instance())
        for node_id in candidates.values():  # a file that only the command line named
            name = file_of(node_id)
            if name not in self._loaded and name not in self._problems and (self.root / name).is_file():
                self._load(name)
        return {
            directory: node_id
            for directory, node_id in candidates.items()
            if not self._has(directory) and not self._may_have(directory, node_id)
        }

    @property
    def problem(self) -> str | None:
        """Why it is not known what the project holds, ``None`` if it is."""
        if not self._files:
            return f"no file matches {', '.join(self.patterns)} (ini {_KEY}) below {self.root}"
        return next(iter(self._problems.values()), None)

    @functools.cached_property
    def _files(self) -> list[str]:
        names = [file.relative_to(self.root).as_posix() for file in instance_files(self.root, self.patterns)]
        for name in names:
            self._load(name)
        return names

    def _load(self, name: str) -> None:
        try:
            instances = load_instances(self.root / name, self.root)
            self._loaded[name] = {instance.run_directory: instance.name for instance in instances}
        except InstanceError as error:
            self._problems[name] = str(error)
        except Exception as error:  # ours: as bad as any other
            self._problems[name] = f"{name}:1: {type(error).__name__}: {error}"

    def _without_instance(self) -> Iterator[tuple[str, str]]:
        """Run directories of no active instance whose record has a node id, and that id."""
        folders = [folder for step in _folders(self.runs) for folder in _folders(step)]
        unknown = {f"{RUNS}/{folder.parent.name}/{folder.name}": folder for folder in folders}
        unknown = {key: folder for key, folder in unknown.items() if key not in self.known}
        if not unknown or not self._files:  # only with unknown ones the files are read
            return
        held = {path for name in self._files for path in self._loaded.get(name, ())}
        unknown = {key: folder for key, folder in unknown.items() if key not in held}
        for directory, folder in unknown.items():
            if (node_id := _node_id(folder)) is not None:
                yield directory, node_id

    @functools.cached_property
    def _folded(self) -> dict[str, list[str]]:
        folded: dict[str, list[str]] = {}
        for path in (path for held in self._loaded.values() for path in held):
            folded.setdefault(_fold(path), []).append(path)
        return folded

    def _has(self, directory: str) -> bool:
        """Whether an instance runs there: maybe under a name that is the same only on this file system."""
        others = self._folded.get(_fold(directory), ())
        return directory in others or any(self._same(directory, other) for other in others)

    def _same(self, one: str, other: str) -> bool:
        with contextlib.suppress(OSError):
            return os.path.samefile(self.path_of(one), self.path_of(other))
        return False

    def path_of(self, directory: str) -> Path:
        """Where a run directory, ``runs/<step>/<instance>``, lies."""
        return self.runs / directory.partition("/")[2]

    def _may_have(self, directory: str, node_id: str) -> bool:
        """Whether another ``active`` of some file would have an instance there."""
        start, _, name = directory.rpartition("/")
        for file, held in self._loaded.items():
            if start in {path.rpartition("/")[0] for path in held}:
                if file not in self._inactive:
                    self._inactive[file] = inactive_names(self.root / file, self.root)
                names = self._inactive[file]
                if name in names if names is not None else file == file_of(node_id):
                    return True
        return False

    def _why(self, node_id: str) -> str:
        file, _, name = node_id.partition("::")
        if not (self.root / file).is_file():
            return f"there is no {file}"
        if name in self._loaded.get(file, {}).values():
            return f"{name} of {file} has another run directory now"
        return f"{file} has no {name}"


def line(leftovers: Mapping[str, Leftover]) -> str:
    """One line that names some of them; empty if there are none."""
    if not leftovers:
        return ""
    named = ", ".join([*leftovers][:_MOST_NAMED]) + (", …" if len(leftovers) > _MOST_NAMED else "")
    count = f"{len(leftovers):,} leftovers" if len(leftovers) > 1 else "1 leftover"
    gone = "whose instances are gone" if len(leftovers) > 1 else "whose instance is gone"
    return f"{count}, {gone}: {named} (ductaflow prune lists them)"


def _folders(directory: Path) -> list[Path]:
    """The directories in a directory, links left out: no run of ours lies behind one."""
    try:
        with os.scandir(directory) as entries:
            return [Path(entry.path) for entry in entries if entry.is_dir(follow_symlinks=False)]
    except OSError:
        return []


def _node_id(directory: Path) -> str | None:
    try:
        node_id = json.loads(regular.read_bytes(directory / RECORD_NAME))["node_id"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return node_id if isinstance(node_id, str) and "::" in node_id else None


def _fold(path: str) -> str:
    return unicodedata.normalize("NFC", path).casefold()


# --- without pytest ------------------------------------------------------------------------------


def remember(root: Path, patterns: Sequence[str]) -> None:
    """Keep which files hold instances, for whoever looks at the runs without pytest."""
    data = strict_json.dumps({_KEY: list(patterns)}).encode()
    path = root / RUNS / PROJECT_NAME
    with contextlib.suppress(OSError):  # a full disk: the runs themselves will say so
        if path.is_file() and path.read_bytes() == data:
            return
        path.parent.mkdir(exist_ok=True)
        write_atomically(path, data, durable=False)


def of_runs(directory: Path) -> Leftovers | None:
    """The project to whose runs a directory belongs, ``None`` if no session has run there."""
    path = Path(os.path.abspath(directory))
    for runs in (path, *path.parents):
        try:
            data = strict_json.load(runs / PROJECT_NAME)
        except ConfigError:
            continue
        patterns = data.get(_KEY) if isinstance(data, dict) else None
        if isinstance(patterns, list) and all(isinstance(pattern, str) for pattern in patterns):
            return Leftovers(_root_of(runs), patterns, runs)
    return None


def _root_of(runs: Path) -> Path:
    """The root of the project with these runs; within a run, ``runs`` may be what a link leads to."""
    around = context.current()
    if around is not None:
        root = Path(around.project_root)
        with contextlib.suppress(OSError):
            if os.path.samefile(root / RUNS, runs):
                return root
    return runs.parent


def below(runs: Path) -> list[str]:
    """The leftovers in a directory of runs, as paths below it; none if that is not known."""
    project = of_runs(runs)
    if project is None or project.runs != runs:
        return []
    return [path.partition("/")[2] for path in project.found]


def currency(directory: Path) -> Callable[[Path], bool] | str:
    """What tells whether a path below a directory of runs is that of a current run: in no leftover.

    What it reads itself is no input of the run around it.

    :returns: a text if that cannot be known: why.
    """
    with context.unseen():
        project = of_runs(directory)
        if project is None:
            return f"no pytest session has run there, as far as {directory} tells"
        leftovers = {project.path_of(directory) for directory in project.directories}
        if project.problem is not None:
            return project.problem

    def is_current(path: Path) -> bool:
        path = Path(os.path.abspath(path))
        return not any(place in leftovers for place in (path, *path.parents))

    return is_current
