"""What every engine takes, gives and implements.

Everything about *what* a run is (directory, config, record, lights, deadline) is ``execution.py``'s;
an engine only executes the cells of a notebook in a process of its own and says, with evidence, how
that ended.
"""

from __future__ import annotations

import select
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from pytest_ductaflow.context import Context

if TYPE_CHECKING:  # the launcher, too, imports this package, and reads no flows
    from pytest_ductaflow.flow import Flow


@dataclass(frozen=True)
class Task:
    """What an engine needs to know.

    :param notebook: where the notebook stands, with its parameters, and is saved while it runs.
    :param cell_started: called with the notebook's 0-based cell index before that cell runs.
    :param engine: the engine's name, which nested runs use too.
    :param reuse: as in the :class:`~pytest_ductaflow.context.Context`.
    """

    flow: Flow
    notebook: Path
    directory: Path
    output: Path
    project_root: Path
    python_path: tuple[str, ...]
    session: str
    engine: str
    cell_started: Callable[[int], None]
    reuse: bool | None = None


@dataclass
class Outcome:
    """How the execution ended.

    :param finished: all cells ran, and the process said so itself and ended with status 0.
    :param error: as in the record, if it did not.
    :param events: what the process reported, in order.
    :param pid: of the run's process, 0 until it is there.
    :param remark: something odd that is no error, worth a warning.
    :param seconds: of each cell that ended, the notebook's 0-based cell index and how long it took.
    :param trace: what the process read and wrote, as ``tracing.read`` gives it; ``None`` if that is unknown.
    """

    finished: bool = False
    error: dict[str, Any] | None = None
    total: int = 0
    done: int = 0
    current: int | None = None
    seconds: list[tuple[int, float]] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)
    pid: int = 0
    remark: str | None = None
    trace: list[tuple[str, str, Any]] | None = None


class Signal:
    """An event between threads that a KeyboardInterrupt cannot break.

    ``threading.Event`` keeps its lock when the interrupt arrives while ``wait`` takes it, and the other
    thread's ``set`` then waits for ever. A socket has no such moment.
    """

    def __init__(self) -> None:
        self._waiting, self._setting = socket.socketpair()

    def set(self) -> None:
        """Wake whoever waits, now and later."""
        self._setting.close()

    def wait(self, timeout: float) -> bool:
        """Whether it was set, at the latest after ``timeout`` seconds."""
        return bool(select.select([self._waiting], [], [], timeout)[0])

    def close(self) -> None:
        """Release the sockets."""
        self._waiting.close()
        self._setting.close()


class EngineRun(Protocol):
    """A run in progress.

    :param exit_status: of the run's process, as in ``Popen.returncode``, once it ended; what it left
        running is ended after it, and only then the run is done.
    """

    done: Signal
    outcome: Outcome
    exit_status: int | None

    def stop(self) -> None:
        """Kill the process and all it started, at once. ``done`` is set soon after."""

    def events_file(self) -> Path:
        """Where the process reports to."""


def child_context(task: Task, events: Path, cells: tuple[dict[str, Any], ...], **place: Any) -> Context:
    """The context of the process that executes a task. ``place``: what depends on the engine."""
    return Context(
        project_root=str(task.project_root),
        run_directory=str(task.directory),
        flow=str(task.flow.path),
        session=task.session,
        engine=task.engine,
        reuse=task.reuse,
        python_path=task.python_path,
        output=str(task.output),
        events=str(events),
        cells=cells,
        **place,
    )
