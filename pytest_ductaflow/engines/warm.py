"""Reaching the warm process (see ``fork_server``): the one of this session and environment.

The launcher starts it, in a directory below its own; whoever needs it connects to the socket in there.
Each process that uses it keeps one connection open; with the last of them the warm process ends.

Light: a session that only collects loads nothing but the standard library here.
"""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import json
import os
import socket
import sys
import threading
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

from pytest_ductaflow import context
from pytest_ductaflow.engines import launcher, wire
from pytest_ductaflow.engines.launcher import Launcher, Service

#: Variables that act when a process starts: to each set of values belongs a warm process.
_ACT_AT_START: Final = (
    "PYTHON",
    "LD_",
    "LC_",
    "LANG",
    "OMP_",
    "OPENBLAS_",
    "MKL_",
    "BLIS_",
    "NUMEXPR_",
    "MALLOC_",
    "ARROW_",
    "MPL",
    "IPYTHON",
    "JUPYTER",
    "HOME",
)


class WarmProcess(Service):
    """This process's connection to a warm process. Callable from any thread.

    :param launcher: starts it.
    :param name: the last part of its address, which names the environment that it has.
    """

    def __init__(self, launcher: Launcher, name: str) -> None:
        super().__init__(launcher.directory / name, "the warm process")
        self._launcher = launcher
        self._preload: dict[str, None] = {}
        self._root = ""
        self._replies = b""

    @property
    def addresses(self) -> dict[str, Any]:
        """What the context of a fork says of it."""
        return {"launcher": str(self._launcher.directory), "warm_process": str(self.directory)}

    def preload(self, modules: Iterable[str], project_root: Path) -> None:
        """Have modules imported, once and in the background, so that forks start with them."""
        wanted = dict.fromkeys(modules)
        with self._lock:
            new = [name for name in wanted if name not in self._preload]
            self._root = str(project_root)
            self._preload |= wanted
            if self._keeper is not None and new:
                self.reached(self._keeper)

    def refused(self) -> dict[str, str]:
        """What the warm process said so far that it does not preload, each with the reason."""
        with self._lock:
            if self._keeper is not None:
                with contextlib.suppress(OSError):
                    while data := self._keeper.recv(1 << 16, socket.MSG_DONTWAIT):
                        self._replies += data
        found: dict[str, str] = {}
        for line in self._replies.splitlines():
            with contextlib.suppress(ValueError):
                found |= json.loads(line)["refused"]
        return found

    def ensure(self) -> None:
        """Start it if it does not run, and keep its launcher, which ends all with its last client."""
        self._launcher.ensure()
        super().ensure()

    def start(self) -> None:
        """Have the launcher start it."""
        flags = ["-Xfrozen_modules=off"] if sys.version_info >= (3, 11) else []  # else debugpy warns
        self._launcher.serve(self.directory, [sys.executable, *flags, "-c", _MAIN], _environment())

    def reached(self, keeper: socket.socket) -> None:
        """Tell it what to preload."""
        if self._preload:
            message = {"do": "preload", "modules": list(self._preload), "root": self._root}
            with contextlib.suppress(OSError):
                wire.send_line(keeper, message)


_MAIN: Final = "from pytest_ductaflow.engines.fork_server import main; main()"
_known: dict[str, WarmProcess] = {}
_known_lock: Final = threading.Lock()


def current() -> WarmProcess:
    """The warm process of this session and environment, not necessarily started yet."""
    with _known_lock:
        fingerprint = _fingerprint()
        if fingerprint not in _known:
            around = context.current() if not _known else None
            ours = around is not None and around.warm_process  # a kernel has set variables of its own
            name = Path(ours).name if ours else f"{fingerprint}{_own}"
            _known[fingerprint] = WarmProcess(launcher.current(), name)
        return _known[fingerprint]


@contextlib.contextmanager
def session() -> Iterator[None]:
    """Use warm processes of this session's own, and let them go at its end.

    What they have imported in advance may be another version then. Sessions in several threads share
    them, until the last one ends.
    """
    global _sessions, _own
    with _known_lock:
        if _sessions == 0:
            _own = f"-{uuid.uuid4().hex[:4]}"
            _set_aside.update(_known)
            _known.clear()
        _sessions += 1
    try:
        yield
    finally:
        ours: list[WarmProcess] = []
        with _known_lock:
            _sessions -= 1
            if _sessions == 0:
                _own = ""
                ours += _known.values()
                _known.clear()
                _known.update(_set_aside)
                _set_aside.clear()
        for process in ours:
            process.release()


_sessions = 0
_own = ""  # ends the names of this session's warm processes
_set_aside: dict[str, WarmProcess] = {}


def release() -> None:
    """Let all go that this process used, and the launcher."""
    with _known_lock:
        processes = list(_known.values())
        _known.clear()
    for process in processes:
        process.release()
    launcher.release()


atexit.register(release)


def _environment() -> dict[str, str]:
    """What the warm process is to have of our environment: nothing that belongs to one run or test."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_") and k != context.VARIABLE}
    # pandas loads pyarrow, whose allocator would start a thread to tidy up in the background.
    return {"JE_ARROW_MALLOC_CONF": "background_thread:false", **kept}


def _fingerprint() -> str:
    kept = {key: value for key, value in os.environ.items() if key.startswith(_ACT_AT_START)}
    text = json.dumps([sys.executable, kept], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]
