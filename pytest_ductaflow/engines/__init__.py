"""How cells are executed: choosing an engine. It starts a task and hands back a run in progress.

``fork`` runs each notebook in a fork of a warm process, ``papermill`` in a fresh kernel. Both give the
same notebook and the same files.
"""

from __future__ import annotations

import os
import sys
from typing import Final

from pytest_ductaflow.engines.base import EngineRun, Outcome, Task
from pytest_ductaflow.errors import DuctaflowError

__all__ = [
    "ENGINES",
    "OPEN_FILES",
    "EngineRun",
    "Outcome",
    "Task",
    "available",
    "check_open_files",
    "choose",
    "default",
    "start",
]

#: The engines by the name that ``--ductaflow-engine`` takes.
ENGINES: Final = ("fork", "papermill")
#: So many files a run opens at most in the process that starts it, with some to spare.
OPEN_FILES: Final = {"fork": 24, "papermill": 64}


def available(platform: str = sys.platform) -> tuple[str, ...]:
    """The engines that work on this platform. Only on Linux is a fork of a warm process safe."""
    return ENGINES if platform == "linux" else ("papermill",)


def default(platform: str = sys.platform) -> str:
    """The engine that is used unless another is asked for."""
    return available(platform)[0]


def choose(asked: str | None, platform: str = sys.platform) -> tuple[str, str]:
    """The engine to use, and why.

    :raises DuctaflowError: for a name that is no engine, or none of this platform.
    """
    if asked is None:
        if "fork" in available(platform):
            return "fork", "each run is a fork of a warm process"
        return "papermill", f"a fresh kernel for each run: forking a warm process is not safe on {platform}"
    if asked not in ENGINES:
        raise DuctaflowError(f"{asked!r} is not one of {', '.join(ENGINES)}")
    if asked not in available(platform):
        raise DuctaflowError(f"{asked!r} works on Linux only; here there is {', '.join(available(platform))}")
    return asked, "asked for"


def for_kernel(engine: str, kernel: str) -> str:
    """The engine that executes a flow: a fork is this Python, any other kernel must be started."""
    from pytest_ductaflow.flow import NATIVE_KERNELS  # not for the launcher, which imports this package

    return engine if kernel in NATIVE_KERNELS else "papermill"


def check_open_files(count: int) -> None:
    """See that so many files can be opened: zmq, if it cannot open one, ends the whole process.

    :raises OSError: if they cannot.
    """
    held: list[int] = []
    try:
        held.append(os.open(os.devnull, os.O_RDONLY))
        while len(held) < count:
            held.append(os.dup(held[0]))
    finally:
        for descriptor in held:
            os.close(descriptor)


def start(task: Task) -> EngineRun:
    """Start a task with its engine.

    :raises DuctaflowError: for an unknown engine.
    """
    engine, _ = choose(task.engine)
    if for_kernel(engine, task.flow.kernel) == "fork":
        from pytest_ductaflow.engines.fork import ForkRun  # loads papermill and nbclient

        return ForkRun(task)
    from pytest_ductaflow.engines.papermill import PapermillRun

    return PapermillRun(task)
