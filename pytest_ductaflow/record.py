"""The run directory and its record, ``run.json``: the one truth about a run.

The record is written to a temporary file, fsynced and renamed, so it is never half there. A lock that
the kernel releases when its process dies tells a run that goes on from one that died: a record that
says ``running`` and has no lock held is ``interrupted``, hence red. No symbolic link is followed on
write or delete.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import re
import uuid
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Final

from pytest_ductaflow import regular, strict_json
from pytest_ductaflow.errors import ConfigError, DuctaflowError, FileError, RecordError, RunBusy
from pytest_ductaflow.figures import FIGURES
from pytest_ductaflow.status import Status, worst

SCHEMA: Final = 1
RECORD_NAME: Final = "run.json"
#: In a run directory: held while somebody executes there.
LOCK_NAME: Final = ".run.lock"
_TEMPORARY: Final = re.compile(r"\..+\.[0-9a-f]{32}\.tmp")
#: Name of the output file of a flow that runs as a script.
CLI_OUTPUT_NAME: Final = "_cli_execution_output.txt"


@dataclass(frozen=True)
class RunDirectory:
    """The names of a run's files. ``stem`` is the stem of the flow's file."""

    path: Path
    stem: str

    @property
    def notebook(self) -> Path:
        """The executed notebook."""
        return self.path / f"{self.stem}.ipynb"

    @property
    def config(self) -> Path:
        """The exact config that was injected."""
        return self.path / f"{self.stem}_config.json"

    @property
    def output(self) -> Path:
        """Everything printed."""
        return self.path / f"{self.stem}_execution_output.txt"

    @property
    def html(self) -> Path:
        """HTML of the notebook, when it was asked for."""
        return self.path / f"{self.stem}.html"

    @property
    def record(self) -> Path:
        """The record."""
        return self.path / RECORD_NAME

    @functools.cached_property  # asked for each file of a run
    def own_files(self) -> frozenset[str]:
        """Names of the files that are ours, so not outputs of the flow."""
        ours = (self.notebook, self.config, self.output, self.html, self.record)
        return frozenset(path.name for path in ours) | {LOCK_NAME, CLI_OUTPUT_NAME, FIGURES}


def is_own(directory: RunDirectory, name: str) -> bool:
    """Whether a name in a run directory, at its top, is one of ours."""
    return name in directory.own_files or _TEMPORARY.fullmatch(name) is not None


@dataclass
class Record:
    """What ``run.json`` holds. JSON types only.

    Times are ISO 8601 in UTC, durations seconds, ``flow`` and ``inputs`` relative to the project root,
    ``runs`` and ``outputs`` relative to the run directory. ``pid`` is the run's own process, 0 as long as
    there is none; ``worker`` is the process that has it executed. ``cells.current`` is the 0-based notebook
    cell that runs or ran last; ``timings`` say how many seconds each cell took and at which line of the
    flow it starts (``None``: the injected config); ``warnings`` hold 1-based lines of the output file.
    ``measures`` are name to ``{"value": …, "unit": …}``; ``expectations`` are what was judged of them,
    ``{"measure": …, "light": …, "text": …}`` each, and ``own_status`` is then the run's own status, without
    them. What ``inputs``, ``outputs``, ``code`` and ``environment`` hold is described in ``freshness``;
    ``needed`` are the run directories that references led to, relative to the project root, each with ``""``
    or, if it was left out, why. ``accepted`` is when somebody declared the run up to date, and despite what.
    ``printed`` is the size in bytes of what a red run printed: its error follows in the same file.
    """

    kind: str
    flow: str
    instance: str
    status: str
    started: str
    node_id: str | None = None
    session: str | None = None
    engine: str = ""
    host: str = ""
    pid: int = 0
    worker: int = 0
    ended: str | None = None
    duration: float | None = None
    cells: dict[str, Any] = field(default_factory=lambda: {"total": 0, "done": 0, "current": None})
    timings: list[dict[str, Any]] = field(default_factory=list)
    warnings: list[dict[str, Any]] = field(default_factory=list)
    error: dict[str, Any] | None = None
    runs: list[str] = field(default_factory=list)
    measures: dict[str, dict[str, Any]] = field(default_factory=dict)
    expectations: list[dict[str, str]] = field(default_factory=list)
    own_status: str | None = None
    inputs: dict[str, str] = field(default_factory=dict)
    needed: dict[str, str] = field(default_factory=dict)
    outputs: dict[str, str] = field(default_factory=dict)
    code: dict[str, dict[str, Any]] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    scenario: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, Any] = field(default_factory=dict)
    accepted: list[dict[str, Any]] = field(default_factory=list)
    printed: int | None = None
    schema: int = SCHEMA

    @property
    def light(self) -> Status:
        """The status as an enum."""
        return Status(self.status)

    @property
    def own_light(self) -> Status:
        """The status of the run itself, whatever was expected of its measures."""
        return Status(self.own_status or self.status)


def now() -> str:
    """The time as records hold it."""
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds")


def make_directory(path: Path) -> Path:
    """Create a run directory and return it resolved.

    :raises RecordError: if it is a symbolic link or a file. :raises FileError: if it cannot be made.
    """
    with refused(path.parent, f"make {path.name}"):
        if path.is_symlink():
            raise RecordError(f"{path} is a symbolic link: a run directory must be a real one")
        try:
            path.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            raise RecordError(_in_the_way(path)) from None
        return path.resolve()


def _in_the_way(path: Path) -> str:
    """What keeps a directory from being made."""
    for place in reversed((path, *path.parents)):
        if not place.is_dir():
            leads = place.is_symlink() and not place.exists()
            what = f"is a link to {os.readlink(place)}, which does not exist" if leads else "is a file"
            return f"{place} {what}: a run directory cannot be made there"
    return f"{path} cannot be made: something else was there a moment ago"


@contextlib.contextmanager
def refused(directory: Path, doing: str | None = None) -> Iterator[None]:
    """What the system refuses in here is said with its place.

    :param doing: what is done: ``write run.json``; by default a run, and the error names the file.
    :raises FileError: in place of any other :class:`OSError`.
    """
    try:
        yield
    except DuctaflowError:  # some are an OSError, too
        raise
    except OSError as problem:
        if doing is None:
            file = problem.filename
            doing = f"use {os.path.relpath(file, directory)}" if isinstance(file, str) else "run"
        raise FileError(directory, doing, problem) from None


def write_atomically(path: Path, data: bytes, *, durable: bool = True, last: bool = True) -> None:
    """Replace a file as a whole: at no moment is it missing or half there, whatever happens.

    :param durable: also wait until its content is on the disk.
    :param last: no other file of this directory follows: wait until the directory is on the disk, too.
    :raises FileError: if it cannot be written; the file is as before, then.
    """
    with refused(path.parent, f"write {path.name}"):
        _write_atomically(path, data, durable=durable, last=last)


def _write_atomically(path: Path, data: bytes, *, durable: bool, last: bool) -> None:
    temporary = path.parent / f".{path.name}.{uuid.uuid4().hex}.tmp"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        with open(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    if durable and last and os.name == "posix":
        directory = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


def create_output(path: Path) -> None:
    """Make an empty file in place of whatever stood there; a symbolic link is removed, not followed."""
    remove(path)
    with refused(path.parent, f"write {path.name}"):
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))


def remove(path: Path) -> None:
    """Delete a file or a symbolic link, if there is one."""
    with refused(path.parent, f"remove {path.name}"):
        path.unlink(missing_ok=True)


def write_record(directory: Path, record: Record, *, durable: bool = True) -> None:
    """Write ``run.json`` atomically."""
    write_atomically(directory / RECORD_NAME, strict_json.dumps(asdict(record)).encode(), durable=durable)


def read_record(directory: Path) -> Record:
    """Read a record as it stands; ``running`` becomes ``interrupted`` if nobody holds the lock.

    :raises RecordError: if there is none, it is damaged, or its schema is unknown.
    """
    path = directory / RECORD_NAME
    try:
        data = strict_json.load(path)
    except ConfigError as error:
        raise RecordError(f"no usable record: {error}") from None
    if not isinstance(data, dict) or data.get("schema") != SCHEMA:
        raise RecordError(f"{path}: not a record of schema {SCHEMA}")
    try:
        record = Record(**{f.name: data[f.name] for f in fields(Record) if f.name in data})
        status = record.light
        _check_types(record)
        Status(record.own_status or status)
    except (TypeError, ValueError) as error:
        raise RecordError(f"{path}: damaged: {error}") from None
    if status is Status.RUNNING and not is_locked(directory):
        record.status = Status.INTERRUPTED.value
        record.error = {"type": "Interrupted", "message": "the process died or was stopped during the run"}
    return record


def last_duration(directory: Path) -> float | None:
    """The seconds that the last run took, if a record says so. Quick: nothing else is checked."""
    try:
        duration = json.loads(regular.read_bytes(directory / RECORD_NAME))["duration"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return float(duration) if isinstance(duration, (int, float)) else None


def _check_types(record: Record) -> None:
    """:raises ValueError: for a value that no record of ours has; readers rely on it."""
    texts = ("kind", "flow", "instance", "status", "started")
    objects = (
        "cells",
        "measures",
        "inputs",
        "needed",
        "outputs",
        "code",
        "config",
        "scenario",
        "environment",
    )
    good = (
        all(isinstance(getattr(record, name), str) for name in texts)
        and all(isinstance(getattr(record, name), dict) for name in objects)
        and all(
            isinstance(value, str)
            for name in ("inputs", "needed", "outputs")
            for value in getattr(record, name).values()
        )
        and all(isinstance(entry, dict) for entry in record.code.values())
        and all(map(_is_measure, record.measures.values()))
        and isinstance(record.expectations, list)
        and all(map(_is_judgement, record.expectations))
        and isinstance(record.own_status, (str, type(None)))
        and isinstance(record.accepted, list)
        and isinstance(record.printed, (int, type(None)))
        and isinstance(record.timings, list)
        and all(isinstance(timing, dict) for timing in record.timings)
        and isinstance(record.warnings, list)
        and all(isinstance(warning, dict) and "text" in warning for warning in record.warnings)
        and isinstance(record.runs, list)
        and all(isinstance(run, str) for run in record.runs)
        and (record.error is None or isinstance(record.error, dict))
        and (record.duration is None or isinstance(record.duration, (int, float)))
    )
    if not good:
        raise ValueError("a value has a wrong type")


def _is_measure(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and type(value.get("value")) in (bool, int, float, str)
        and isinstance(value.get("unit", 0), (str, type(None)))
    )


def _is_judgement(value: Any) -> bool:
    keys = ("measure", "light", "text")
    return isinstance(value, dict) and all(isinstance(value.get(key), str) for key in keys)


@contextlib.contextmanager
def lock(directory: Path, *, wait: bool = False, patience: float = 1.0) -> Iterator[None]:
    """Hold the run directory's lock. The operating system releases it when the process ends.

    :param wait: wait for another process that executes there, instead of refusing.
    :param patience: seconds to wait otherwise: somebody may only be looking.
    :raises RunBusy: if another process (or thread) holds it. :raises FileError: if it cannot be opened.
    """
    import filelock  # at the point of use: flows import this package too

    held = filelock.FileLock(directory / LOCK_NAME, is_singleton=False)
    try:
        held.acquire(timeout=-1 if wait else patience, poll_interval=0.01)
    except filelock.Timeout:
        raise RunBusy(f"another process is executing in {directory}") from None
    except OSError as problem:
        raise FileError(directory, f"lock {LOCK_NAME}", problem) from None
    try:
        yield
    finally:
        held.release()


def is_locked(directory: Path) -> bool:
    """Whether a process is executing in this directory now."""
    if not (directory / LOCK_NAME).exists():
        return False
    try:
        with lock(directory, patience=0.05):
            return False
    except (RunBusy, OSError):
        return True


def child_records(parent: Record, directory: Path) -> Iterator[tuple[Path, Record]]:
    """The records of a run's nested runs, in order; a missing or damaged one counts as red."""
    for name in parent.runs:
        path = Path(os.path.normpath(directory / name))
        try:
            yield path, read_record(path)
        except RecordError as problem:
            error = {"type": "RecordError", "message": str(problem)}
            yield path, Record("flow", "", path.name, Status.ERROR.value, "", error=error)


def runs_below(
    root: Path, wanted: Callable[[Path], bool] = lambda _: True
) -> Iterator[tuple[Path, Record | RecordError]]:
    """Every run directory below ``root``, sorted; a damaged record comes as its error.

    :param wanted: says of a directory whether to look into it.
    """
    for folder, folders, names in os.walk(root) if wanted(root) else ():
        folders[:] = sorted(name for name in folders if wanted(Path(folder, name)))
        if RECORD_NAME in names:
            path = Path(folder)
            try:
                yield path, read_record(path)
            except RecordError as error:
                yield path, error


def analyze_execution_logs(output_dir: str | os.PathLike[str]) -> str:
    """The light of a directory: ``success``, ``warning`` or ``error``.

    Read from the records of all runs in and below it, not guessed from the text. It is ``error``
    unless a record proves otherwise: no directory, no record, a damaged one, or a run that still goes on.
    A red run inside a build that caught the failure leaves the build as its own record says.
    """
    root = Path(output_dir)
    statuses: list[Status] = []
    covered: list[Path] = []  # directories whose own record speaks for what is below them
    for path, record in runs_below(root):
        if any(path.is_relative_to(build) for build in covered):
            continue
        if isinstance(record, RecordError):
            return Status.ERROR.value
        statuses.append(record.light)
        if record.kind == "build":
            covered.append(path)
    finished = {Status.SUCCESS, Status.WARNING}
    return worst(statuses).value if statuses and finished.issuperset(statuses) else Status.ERROR.value
