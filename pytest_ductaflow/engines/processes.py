"""Processes of runs: ending one with all it started, and saying how one ended."""

from __future__ import annotations

import contextlib
import os
import signal
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import psutil

#: A Unix socket's path holds 107 bytes; below a private directory it takes so many of them.
_SOCKET_LENGTH: Final = 107
_BELOW: Final = 26


def private_directory() -> Path:
    """A new directory that only this user may enter, with a path short enough for sockets in it."""
    directory = tempfile.mkdtemp(prefix="ductaflow-")
    if os.name == "posix" and len(os.fsencode(directory)) + _BELOW > _SOCKET_LENGTH:
        os.rmdir(directory)
        directory = tempfile.mkdtemp(prefix="ductaflow-", dir="/tmp")
    return Path(directory)


def family(pid: int) -> list[psutil.Process]:
    """A process and all its descendants; empty if it is gone."""
    import psutil  # where something is to be ended; most runs end by themselves

    try:
        root = psutil.Process(pid)
        return [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def kill_tree(pid: int, grace: float = 0.5) -> None:
    """End a process and all its descendants: SIGTERM, a moment, SIGKILL.

    Nothing is waited for with ``waitpid``: the exit status belongs to whoever started the process.
    """
    import psutil

    members = family(pid)
    for process in members:
        with contextlib.suppress(psutil.Error):
            process.terminate()
    deadline = time.monotonic() + grace
    while any(map(_alive, members)) and time.monotonic() < deadline:
        time.sleep(0.01)
    for process in members:
        with contextlib.suppress(psutil.Error):
            for member in (*process.children(recursive=True), process):
                member.kill()


def kill_group(group: int, patience: float = 1.0) -> None:
    """Kill what is left of a process group, and see it gone."""
    deadline = time.monotonic() + patience
    with contextlib.suppress(ProcessLookupError, PermissionError):
        while True:
            os.killpg(group, signal.SIGKILL)
            if time.monotonic() > deadline:
                return
            time.sleep(0.005)


def describe_end(status: int | None) -> str:
    """How a process ended, for people. ``status`` is as in ``Popen.returncode``."""
    if status is None:
        return "disappeared"
    if status < 0:
        try:
            name = signal.Signals(-status).name
        except ValueError:
            name = f"signal {-status}"
        return f"died of {name}"
    return f"exited with status {status}"


def _alive(process: psutil.Process) -> bool:
    import psutil

    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False
