"""How cells are executed: choosing an engine. It starts a task and hands back a run in progress."""

from __future__ import annotations

from typing import Final

from pytest_ductaflow.engines.base import EngineRun, Outcome, Task
from pytest_ductaflow.errors import DuctaflowError

__all__ = ["DEFAULT", "ENGINES", "EngineRun", "Outcome", "Task", "start"]

#: The engines by the name that ``--ductaflow-engine`` takes.
ENGINES: Final = ("papermill",)
DEFAULT: Final = "papermill"


def start(task: Task) -> EngineRun:
    """Start a task with its engine.

    :raises DuctaflowError: for an unknown engine.
    """
    if task.engine != "papermill":
        raise DuctaflowError(f"unknown engine {task.engine!r} (there is {', '.join(ENGINES)})")
    from pytest_ductaflow.engines.papermill import PapermillRun  # loads papermill and nbclient

    return PapermillRun(task)
