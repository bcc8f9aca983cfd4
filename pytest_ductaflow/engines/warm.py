"""Reaching the warm process (see ``fork_server``): finding the one of this session, or starting it.

Its address is a directory that only this user may enter. Whoever needs the process connects to the
socket in there, and starts it if nobody answers; binding the socket decides who does. A session names
the directory once and hands it on: to xdist's workers as text, to nested runs in their context. Each
process that uses it keeps one connection open; with the last of them the warm process ends.

Light: a session that only collects loads nothing but the standard library here.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

from pytest_ductaflow import context
from pytest_ductaflow.engines.processes import private_directory
from pytest_ductaflow.errors import DuctaflowError

SOCKET: Final = "socket"
LOG: Final = "log"
#: Seconds in which a process that is asked to leave has left.
_LEAVE_TIMEOUT: Final = 2.0
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


class WarmProcess:
    """This process's connection to a warm process. Callable from any thread.

    :param directory: its address. It need not exist yet.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._keeper: socket.socket | None = None
        self._lock = threading.Lock()
        self._preload: dict[str, None] = {}
        self._root = ""
        self._replies = b""
        self._process: subprocess.Popen[bytes] | None = None  # if we started it

    def ensure(self) -> None:
        """Start it if it does not run; come back at once, without waiting until it is warm."""
        with self._lock:
            if self._keeper is None:
                self._keeper = self._reach()
                self._send_preload()

    def preload(self, modules: Iterable[str], project_root: Path) -> None:
        """Have modules imported, once and in the background, so that forks start with them."""
        wanted = dict.fromkeys(modules)
        with self._lock:
            new = [name for name in wanted if name not in self._preload]
            self._root = str(project_root)
            self._preload |= wanted
            if self._keeper is not None and new:
                self._send_preload()

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

    def request(self, message: dict[str, Any], descriptors: list[int]) -> socket.socket:
        """Send a request over a connection of its own.

        :raises DuctaflowError: if the warm process cannot be reached or started.
        """
        for _ in range(3):
            self.ensure()
            try:
                connection = _connect(self.directory)
                try:
                    socket.send_fds(connection, [b"\n"], descriptors)
                    connection.sendall(json.dumps(message).encode() + b"\n")
                except BaseException:
                    connection.close()
                    raise
                return connection
            except OSError:
                self._forget()  # it is gone: the next round starts another
        raise DuctaflowError(f"the warm process cannot be reached: {self.log()}")

    def log(self) -> str:
        """The last lines of what it printed."""
        with contextlib.suppress(OSError):
            return "\n".join((self.directory / LOG).read_text("utf-8", "replace").splitlines()[-20:])
        return "it left no message"

    def release(self) -> None:
        """Let it go; if nobody else uses it, be back when it and its files are gone."""
        with self._lock:
            keeper, self._keeper = self._keeper, None
            if keeper is None:
                return
            with contextlib.suppress(OSError), keeper:
                keeper.shutdown(socket.SHUT_WR)
                keeper.settimeout(_LEAVE_TIMEOUT)
                while keeper.recv(1 << 16):
                    pass
            if self._process is not None and not self.directory.exists():  # we were the last
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._process.wait(_LEAVE_TIMEOUT)

    def _forget(self) -> None:
        with self._lock:
            if self._keeper is not None:
                self._keeper.close()
                self._keeper = None

    def _send_preload(self) -> None:
        assert self._keeper is not None
        if self._preload:
            message = {"do": "preload", "modules": list(self._preload), "root": self._root}
            with contextlib.suppress(OSError):
                self._keeper.sendall(json.dumps(message).encode() + b"\n")

    def _reach(self) -> socket.socket:
        for _ in range(100):
            with contextlib.suppress(FileNotFoundError, ConnectionRefusedError):
                return _connect(self.directory)
            with contextlib.suppress(OSError):
                return self._start()
            time.sleep(0.01)  # somebody else starts it, or the last one is leaving
        raise DuctaflowError(f"the warm process does not start: {self.log()}")

    def _start(self) -> socket.socket:
        """Bind its socket, connect to it, and only then start the process that listens: no race.

        :raises OSError: if somebody else was faster.
        """
        self.directory.mkdir(mode=0o700, exist_ok=True)
        path = self.directory / SOCKET
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
            try:
                listener.bind(str(path))
            except OSError:
                with contextlib.suppress(ConnectionRefusedError):
                    return _connect(self.directory)
                path.unlink(missing_ok=True)  # of one that was killed
                listener.bind(str(path))
            listener.listen(128)
            connection = _connect(self.directory)
            flags = ["-Xfrozen_modules=off"] if sys.version_info >= (3, 11) else []  # else debugpy warns
            command = [sys.executable, *flags, "-c", _MAIN, str(listener.fileno()), str(self.directory)]
            with open(self.directory / LOG, "ab") as log:
                self._process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    cwd=self.directory,
                    env=_environment(),
                    pass_fds=[listener.fileno()],
                    start_new_session=True,
                )
            return connection


_MAIN: Final = "from pytest_ductaflow.engines.fork_server import main; main()"
_known: dict[str, WarmProcess] = {}
_known_lock: Final = threading.Lock()


def use(address: str) -> None:
    """This is the address of the session that we belong to; for an environment as it is now."""
    with _known_lock:
        _known[_fingerprint()] = WarmProcess(Path(address))


def address() -> str:
    """Where the warm process of this session is or will be."""
    return str(current().directory)


def current() -> WarmProcess:
    """The warm process of this session and environment, not necessarily started yet."""
    with _known_lock:
        fingerprint = _fingerprint()
        if fingerprint not in _known:
            around = context.current() if not _known else None
            if around is not None and around.warm_process:
                directory = Path(around.warm_process)
            else:
                directory = private_directory()
                directory.rmdir()  # the name is what we want; whoever starts the process makes it
            _known[fingerprint] = WarmProcess(directory)
        return _known[fingerprint]


@contextlib.contextmanager
def session() -> Iterator[None]:
    """Use warm processes of this session's own, and let them go at its end.

    What they have imported in advance may be another version then. Sessions in several threads share
    them, until the last one ends.
    """
    global _sessions
    with _known_lock:
        if _sessions == 0:
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
                ours += _known.values()
                _known.clear()
                _known.update(_set_aside)
                _set_aside.clear()
        for process in ours:
            process.release()


_sessions = 0
_set_aside: dict[str, WarmProcess] = {}


def release() -> None:
    """Let all go that this process used."""
    with _known_lock:
        processes = list(_known.values())
        _known.clear()
    for process in processes:
        process.release()


atexit.register(release)


def _connect(directory: Path) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.connect(str(directory / SOCKET))
    except BaseException:
        connection.close()
        raise
    return connection


def _environment() -> dict[str, str]:
    """What the warm process is to have of our environment: nothing that belongs to one run or test."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_") and k != context.VARIABLE}
    # pandas loads pyarrow, whose allocator would start a thread to tidy up in the background.
    return {"JE_ARROW_MALLOC_CONF": "background_thread:false", **kept}


def _fingerprint() -> str:
    kept = {key: value for key, value in os.environ.items() if key.startswith(_ACT_AT_START)}
    return json.dumps(kept, sort_keys=True)
