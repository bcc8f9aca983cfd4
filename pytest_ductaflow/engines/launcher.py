"""Reaching the launcher (see ``launcher_process``): finding the one of this session, or starting it.

Its address is a directory that only this user may enter. Whoever needs the process connects to the
socket in there, and starts it if nobody answers; binding the socket decides who does. A session names
the directory once and hands it on: to xdist's workers as text, to nested runs in their context. Each
process that uses it keeps one connection open; with the last of them the launcher and all that it
started end.

Light: a session that only collects loads nothing but the standard library here. Linux only.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any, Final

from pytest_ductaflow import context
from pytest_ductaflow.engines import wire
from pytest_ductaflow.engines.processes import private_directory
from pytest_ductaflow.errors import DuctaflowError

SOCKET: Final = "socket"
LOG: Final = "log"
#: Seconds in which a process that is asked to leave has left, and in which one answers.
_LEAVE_TIMEOUT: Final = 2.0
_ANSWER_TIMEOUT: Final = 60.0


class Service:
    """This process's connection to one that listens on a socket. Callable from any thread.

    :param directory: its address. It need not exist yet.
    :param name: for people.
    """

    def __init__(self, directory: Path, name: str) -> None:
        self.directory = directory
        self._name = name
        self._lock = threading.Lock()
        self._keeper: socket.socket | None = None
        self._owner = 0  # the process that opened it

    def ensure(self) -> None:
        """Start it if it does not run; come back at once, without waiting until it is ready."""
        with self._lock:
            if self._owner != os.getpid():  # a fork of the process that opened it does not keep it
                self._close_keeper()
            if self._keeper is None:
                self._keeper, self._owner = self._reach(), os.getpid()
                self.reached(self._keeper)

    def request(self, message: dict[str, Any], descriptors: Sequence[int] = ()) -> socket.socket:
        """Send a request over a connection of its own.

        :raises DuctaflowError: if the process cannot be reached or started.
        """
        for _ in range(3):
            self.ensure()
            try:
                connection = connect(self.directory)
                try:
                    wire.send_line(connection, message, descriptors)
                except BaseException:
                    connection.close()
                    raise
                return connection
            except OSError:
                with self._lock:
                    self._close_keeper()  # it is gone: the next round starts another
        raise DuctaflowError(f"{self._name} cannot be reached: {self.log()}")

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
            self.left()

    def start(self) -> None:
        """Start the process. Somebody else may be faster.

        :raises OSError: if it does not work; it is tried again.
        """
        raise NotImplementedError

    def reached(self, keeper: socket.socket) -> None:
        """A connection has been opened that keeps it."""

    def left(self) -> None:
        """We use it no more."""

    def _close_keeper(self) -> None:
        if self._keeper is not None:
            self._keeper.close()
            self._keeper = None

    def _reach(self) -> socket.socket:
        for _ in range(200):
            with contextlib.suppress(FileNotFoundError, ConnectionRefusedError):
                return connect(self.directory)
            with contextlib.suppress(OSError):
                self.start()
                return connect(self.directory)
            time.sleep(0.01)  # somebody else starts it, or the last one is leaving
        raise DuctaflowError(f"{self._name} does not start: {self.log()}")


class Launcher(Service):
    """The launcher as processes see it that have something started."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, "the launcher")
        self._process: subprocess.Popen[bytes] | None = None  # if we started it

    def begin(self, command: list[str], log: IO[bytes], **order: Any) -> Started:
        """Start a program in a supervisor of its own, and with a process group of its own.

        :param log: where its output goes.
        :param order: ``environment``, ``directory``, and ``private``: a directory that is to be removed if
            we are killed.
        :raises OSError: if the program cannot be started.
        """
        message = {"do": "begin", "command": command, "umask": umask(), **order}
        lines = wire.Lines(self.request(message, [log.fileno()]))
        answer = _answer(lines)
        if answer is None or "failed" in answer:
            lines.connection.close()
            raise OSError(*(answer["failed"] if answer else ["the launcher ended"]))
        return Started(answer["pid"], lines)

    def serve(self, directory: Path, command: list[str], environment: dict[str, str]) -> None:
        """Start a process that listens in a directory; it can be connected to at once.

        :param command: gets the listening descriptor and the directory as further arguments.
        :raises OSError: if one listens there already.
        """
        self.ensure()
        directory.mkdir(mode=0o700, exist_ok=True)
        with listen(directory) as listener, open(directory / LOG, "ab") as log:
            order = {"directory": str(directory), "command": command, "environment": environment}
            self.request({"do": "serve", **order}, [log.fileno(), listener.fileno()]).close()

    def start(self) -> None:
        """Bind its socket, and only then start the process that listens: no race."""
        self.directory.mkdir(mode=0o700, exist_ok=True)
        with listen(self.directory) as listener, open(self.directory / LOG, "ab") as log:
            flags = ["-Xfrozen_modules=off"] if sys.version_info >= (3, 11) else []
            command = [sys.executable, *flags, "-c", _MAIN, str(listener.fileno()), str(self.directory)]
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.directory,
                env={k: v for k, v in os.environ.items() if k != context.VARIABLE},
                pass_fds=[listener.fileno()],
                start_new_session=True,
            )

    def left(self) -> None:
        """See it gone, if we were the last, also if it was killed before."""
        with contextlib.suppress(FileNotFoundError, ConnectionRefusedError):
            connect(self.directory).close()
            return
        shutil.rmtree(self.directory, ignore_errors=True)
        if self._process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_LEAVE_TIMEOUT)


class Started:
    """A process that the launcher began for us; as ``subprocess.Popen``, as far as jupyter_client looks."""

    stdin = stdout = stderr = None

    def __init__(self, pid: int, lines: wire.Lines) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._lines = lines
        self._gone = False
        self._lock = threading.Lock()

    def poll(self) -> int | None:
        """How it ended, ``None`` if it did not yet."""
        self._listen(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int | None:
        """Wait until it ended."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while self.returncode is None and self._listen(_left(deadline)):
            pass
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send a signal to it, if it still runs."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """Ask it to end."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Kill it."""
        self.send_signal(signal.SIGKILL)

    def end(self) -> None:
        """Have it ended with all that it started. Callable from any thread."""
        with contextlib.suppress(OSError):
            wire.send_line(self._lines.connection, {"do": "end"})

    def close(self, timeout: float) -> None:
        """Wait until nothing is left of what it started."""
        deadline = time.monotonic() + timeout
        while not self._gone and self._listen(_left(deadline)):
            pass
        self._lines.connection.close()

    def _listen(self, timeout: float | None) -> bool:
        """Whether its supervisor said something within some seconds, and may say more."""
        with self._lock:
            if self._gone or not wire.readable(self._lines.connection, timeout):
                return False
            news = self._lines.receive()
            for said in news or ():
                self.returncode = said.get("status", self.returncode)
                self._gone = self._gone or "gone" in said
            if news is None:  # the supervisor died, and the process with it
                self._gone = True
                if self.returncode is None:
                    self.returncode = -signal.SIGKILL
            return not self._gone


_MAIN: Final = "from pytest_ductaflow.engines.launcher_process import main; main()"
_known: list[Launcher] = []
_known_lock: Final = threading.Lock()


def available(platform: str = sys.platform) -> bool:
    """Whether this platform has what it needs: subreapers."""
    return platform == "linux"


def use(address: str) -> None:
    """This is the address of the session that we belong to."""
    with _known_lock:
        _known[:] = [Launcher(Path(address))]


def current() -> Launcher:
    """The launcher of this session, not necessarily started yet."""
    with _known_lock:
        if not _known:
            around = context.current()
            if around is not None and around.launcher:
                directory = Path(around.launcher)
            else:
                directory = private_directory()
                directory.rmdir()  # the name is what we want; whoever starts the process makes it
            _known.append(Launcher(directory))
        return _known[0]


def release() -> None:
    """Let it go, if this process used it."""
    with _known_lock:
        launchers = list(_known)
        _known.clear()
    for launcher in launchers:
        launcher.release()


def connect(directory: Path) -> socket.socket:
    """Connect to the process that listens in a directory."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.connect(str(directory / SOCKET))
    except BaseException:
        connection.close()
        raise
    return connection


def listen(directory: Path) -> socket.socket:
    """Listen in a directory.

    :raises OSError: if somebody does already.
    """
    path = directory / SOCKET
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        try:
            listener.bind(str(path))
        except OSError:
            with contextlib.suppress(ConnectionRefusedError):
                connect(directory).close()
                raise
            path.unlink(missing_ok=True)  # of one that was killed
            listener.bind(str(path))
        listener.listen(128)
    except BaseException:
        listener.close()
        raise
    return listener


def umask() -> int:
    """This process's umask. Asking for it by setting it would hit other threads."""
    for line in Path("/proc/self/status").read_text("ascii").splitlines():
        if line.startswith("Umask:"):
            return int(line.split()[1], 8)
    raise DuctaflowError("this system does not say the process's umask")


def _answer(lines: wire.Lines) -> dict[str, Any] | None:
    while wire.readable(lines.connection, _ANSWER_TIMEOUT):
        found = lines.receive()
        if found is None:
            return None
        if found:
            return found[0]
    return None


def _left(deadline: float | None) -> float | None:
    return None if deadline is None else max(0.0, deadline - time.monotonic())
