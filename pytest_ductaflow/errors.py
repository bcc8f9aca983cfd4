"""What can go wrong, as types. Every error pickles, because errors cross process boundaries.

Some are Python's own or papermill's as well, because projects of the original ductaflow catch those.
"""

from __future__ import annotations

import errno
import os
import sys
from typing import Any, Final

#: The type of a record's error if the run finished, but its measures are not as expected.
EXPECTATION_ERROR: Final = "ExpectationError"


class DuctaflowError(Exception):
    """Base of all errors that this package raises on purpose."""


class ConfigError(DuctaflowError, ValueError):
    """A config that is not JSON, cannot be read, or holds a value that JSON has no type for."""


class InstanceError(DuctaflowError):
    """A mistake in an instance file.

    Its text names the file, the line and the key: ``instances/a.json:3: scenarios.origin: …``.

    :param file: the instance file, relative to the project root.
    :param line: 1-based line of the key at fault.
    :param key: dotted path of the key, ``""`` for the whole file.
    :param problem: what is wrong and, where there is one, the way out.
    """

    def __init__(self, file: str, line: int, key: str, problem: str) -> None:
        super().__init__(file, line, key, problem)
        self.file, self.line, self.key, self.problem = file, line, key, problem

    def __str__(self) -> str:
        key = f"{self.key}: " if self.key else ""
        return f"{self.file}:{self.line}: {key}{self.problem}"


class FlowError(DuctaflowError):
    """A flow's file that cannot be run: missing, outside the project, with code that the notebook would lose.

    :param problem: what is wrong and, where there is one, the way out.
    :param line: 1-based line of the file, if it has one.
    """

    def __init__(self, problem: str, line: int | None = None) -> None:
        super().__init__(problem, line)
        self.problem, self.line = problem, line

    def __str__(self) -> str:
        return self.problem

    def at(self, file: str | os.PathLike[str]) -> str:
        """The problem with its place: ``flows/x.py:3: …``."""
        return f"{os.fspath(file)}:{self.line}: {self}" if self.line else f"{os.fspath(file)}: {self}"


class FlowNotFound(FlowError, FileNotFoundError):
    """There is no such flow."""

    def __init__(self, problem: str, line: int | None = None) -> None:
        super().__init__(problem, line)
        self.errno, self.strerror = errno.ENOENT, problem


class HTMLError(DuctaflowError, RuntimeError):
    """A notebook cannot be converted to HTML: nbconvert or its template is missing."""


class FileError(DuctaflowError, OSError):
    """The system refuses what a run needs: its directory, a file in it, a descriptor.

    :param directory: where: the run directory, or the directory of the file.
    :param doing: what cannot be done: ``write run.json``.
    :param problem: what the system says.
    """

    def __init__(self, directory: str | os.PathLike[str], doing: str, problem: OSError) -> None:
        OSError.__init__(self, problem.errno, problem.strerror or str(problem))
        self.directory, self.doing = os.fspath(directory), doing

    def __str__(self) -> str:
        return f"{self.directory}: {self.problem}"

    @property
    def problem(self) -> str:
        """What cannot be done, and why."""
        return f"cannot {self.doing}: {self.strerror}"

    def __reduce__(self) -> Any:
        return FileError, (self.directory, self.doing, OSError(self.errno, self.strerror))


class OutputError(DuctaflowError):
    """A file of some run that is missing or cannot be read."""


class RecordError(DuctaflowError):
    """A ``run.json`` that is unreadable, damaged or of an unknown schema."""


class RunBusy(DuctaflowError):
    """Another process is executing in this run directory."""


class RunFailed(DuctaflowError):
    """A run ended red.

    :param directory: the run directory that holds the evidence.
    :param error: the record's ``error`` (type, message, cell, file, line, traceback).
    """

    def __init__(self, directory: str, error: dict[str, Any]) -> None:
        Exception.__init__(self, directory, error)  # not papermill's, see run_failed
        self.directory, self.error = directory, error

    def __str__(self) -> str:
        return f"{describe_error(self.error)}\nRun directory: {self.directory}"


def run_failed(directory: str, error: dict[str, Any]) -> RunFailed:
    """A :class:`RunFailed` that is papermill's ``PapermillExecutionError``, too, if papermill is loaded."""
    papermill = sys.modules.get("papermill.exceptions")
    if papermill is None:
        return RunFailed(directory, error)

    class Failed(RunFailed, papermill.PapermillExecutionError):  # type: ignore[misc,name-defined] # untyped
        def __init__(self) -> None:
            RunFailed.__init__(self, directory, error)
            self.cell_index = self.exec_count = error.get("cell")
            self.source = ""
            self.ename, self.evalue = str(error.get("type")), str(error.get("message"))
            self.traceback = str(error.get("traceback") or "").splitlines()

        def __reduce__(self) -> Any:
            return run_failed, (directory, error)

    Failed.__name__, Failed.__qualname__ = RunFailed.__name__, RunFailed.__qualname__
    return Failed()


class FlowWarning(UserWarning):
    """A line that a flow printed and that makes its run orange.

    ``-W error::pytest_ductaflow.FlowWarning`` makes orange runs fail.
    """


def in_words(error: Exception) -> str:
    """What an exception says to users: ours as they are, what the system refuses in its own words.

    ``/p/page.html: Is a directory``, ``ValueError: …``.
    """
    if isinstance(error, DuctaflowError):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        named = isinstance(error.filename, (str, bytes))  # it may be a descriptor
        return f"{os.fsdecode(error.filename)}: {error.strerror}" if named else error.strerror
    return f"{type(error).__name__}: {error}"


def describe_error(error: dict[str, Any]) -> str:
    """One line for a record's error: ``flows/x.py:42: ValueError: negative flow``."""
    place = str(error.get("file") or "")
    if place and error.get("line"):
        place = f"{place}:{error['line']}"
    message = str(error.get("message") or "").strip()
    first_line = message.splitlines()[0] if message else ""
    parts = (place, str(error.get("type") or "Error"), first_line)
    return ": ".join(part for part in parts if part)
