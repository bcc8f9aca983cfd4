"""What a run's process knows about the run it is in.

The process that executes a run leaves a small JSON file and names it in the environment; whatever
runs inside (a flow's code, a build's ``run_notebook``, a script it starts) finds it there. Facts that
the outside needs go back as lines of an events file: errors with their frames, nested runs, and the
child's own word that it finished. A file, because it outlives the child however that dies.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

#: Environment variable with the path of the context file.
VARIABLE: Final = "DUCTAFLOW_CONTEXT"

#: Of each thread: ``us`` is whether what it does now is our work.
within: Final = threading.local()


@contextlib.contextmanager
def unseen() -> Iterator[None]:
    """What this thread does in here is our work, not the flow's: it is not traced."""
    before = getattr(within, "us", False)
    within.us = True
    try:
        yield
    finally:
        within.us = before


@dataclass(frozen=True)
class Context:
    """The run that this process is in. Paths are absolute.

    :param python_path: what a flow can import from besides its environment.
    :param output: the output file. :param events: the events file.
    :param lifeline: descriptor that reaches end-of-file when the driving process is gone.
    :param cells: the code cells in order of execution: ``source``, and ``line`` in the flow's file.
    :param launcher: address of the session's launcher, where there is one.
    :param warm_process: address of the warm process, if the run is a fork of it.
    :param measuring: what coverage is to measure here.
    :param trace: the file in which the process traces what it reads.
    :param reuse: whether nested runs that are up to date are taken instead of executed: ``True``, unless
        they say otherwise; ``None``, only if they say so; ``False``, never.
    """

    project_root: str
    run_directory: str
    flow: str
    session: str
    engine: str
    python_path: tuple[str, ...]
    output: str
    events: str
    lifeline: int | None = None
    cells: tuple[dict[str, Any], ...] = ()
    launcher: str | None = None
    warm_process: str | None = None
    measuring: dict[str, Any] | None = None
    trace: str | None = None
    reuse: bool | None = None

    def save(self, path: Path) -> None:
        """Write the context file."""
        path.write_text(json.dumps(asdict(self)), encoding="utf-8")

    def report(self, event: str, **details: Any) -> None:
        """Append one line to the events file."""
        line = json.dumps({"event": event, **details}) + "\n"
        with contextlib.suppress(OSError):  # the driver is gone: nobody reads it any more
            descriptor = os.open(self.events, os.O_WRONLY | os.O_APPEND)
            try:
                os.write(descriptor, line.encode())
            finally:
                os.close(descriptor)


def current() -> Context | None:
    """The run that this process is in, or ``None`` outside a run."""
    path = os.environ.get(VARIABLE)
    if not path:
        return None
    try:
        data = json.loads(Path(path).read_text("utf-8"))
        data["python_path"] = tuple(data["python_path"])
        data["cells"] = tuple(data["cells"])
        return Context(**data)
    except (OSError, ValueError, TypeError, KeyError):
        return None


def read_events(path: Path) -> Iterator[dict[str, Any]]:
    """The events so far; a last line that is not complete yet is left out."""
    with contextlib.suppress(OSError):
        for line in path.read_bytes().splitlines():
            with contextlib.suppress(ValueError):
                yield json.loads(line)
