"""The warm process: it has imported a kernel and what flows import, and forks one child per run.

A process of its own, started by ``warm``, with one thread, so that a fork is safe; a module that leaves
threads behind when imported is not preloaded, nor is anything of the project. It listens on a Unix
socket in a directory that only its user may enter. A connection either keeps it alive and names modules
to preload, or carries one run: request in; process id, then exit status out. A connection that closes
before its run ended means that the driver is gone: the run is killed with all it started.

The process is the subreaper of its runs: what they leave behind becomes its child and is killed too.
With the last connection it removes its directory and ends.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import json
import os
import selectors
import shutil
import signal
import socket
import struct
import sys
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from pytest_ductaflow import context

_INITIAL: Final = dict(os.environ)  # before a kernel is imported, which sets some

from IPython.core.interactiveshell import InteractiveShell  # noqa: E402

from pytest_ductaflow.engines import fork_child, threads, tracing  # noqa: E402
from pytest_ductaflow.engines.pages import WrittenPages  # noqa: E402
from pytest_ductaflow.engines.processes import family  # noqa: E402

_PR_SET_CHILD_SUBREAPER: Final = 36
#: Seconds that killed processes have to disappear before their run is reported as ended anyway.
_KILL_TIMEOUT: Final = 5.0
#: Seconds between two looks at whether they have.
_KILL_POLL: Final = 0.005
#: Of an order, so many bytes go together with the driver's socket.
_ORDER: Final = 1 << 15
#: After so many quiet seconds a child is forked in advance beside one run, and beside several.
_QUIET_ALONE: Final = 0.006
_QUIET: Final = 0.01


@dataclass(eq=False)
class _Connection:
    socket: socket.socket
    received: bytes = b""
    descriptors: list[int] = field(default_factory=list)
    run: _Run | None = None


@dataclass(eq=False)
class _Spare:
    """A fork made while there was time, waiting for its run."""

    pid: int
    socket: socket.socket


@dataclass(eq=False)
class _Run:
    pid: int
    context: str
    directory: str
    connection: _Connection
    looks: bool  # at its pages
    strays: set[int] = field(default_factory=set)  # what left its process group
    status: int | None = None  # once it ended
    give_up: float = 0.0


class _Server:
    def __init__(self, listener: socket.socket, directory: Path, state: dict[str, Any]) -> None:
        self._listener, self._directory = listener, directory
        self._loaded: list[str] = []
        self._refused: dict[str, str] = state.get("refused", {})
        self._started_afresh = bool(state)
        self._connections: set[_Connection] = set()
        self._runs: dict[int, _Run] = {}
        self._shared: tracing.Loaded | None = None  # what all forks have in common, once it is complete
        self._spare: _Spare | None = None
        self._pages = WrittenPages()
        self._looked: set[str] = set()  # flows of which a run looked at its pages
        self._selector = selectors.DefaultSelector()
        self._selector.register(listener, selectors.EVENT_READ)
        self._wake, wake = socket.socketpair()
        self._wakers = (self._wake, wake)
        for end in self._wakers:
            end.setblocking(False)
        self._selector.register(self._wake, selectors.EVENT_READ)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(wake.fileno(), warn_on_full_buffer=False)
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        self._app = fork_child.make_application(_INITIAL)
        for descriptor, received, descriptors in state.get("connections", ()):
            entry = self._add(socket.socket(fileno=descriptor))
            entry.received, entry.descriptors = received.encode(), descriptors
            for kept in (descriptor, *descriptors):
                os.set_inheritable(kept, False)
        self._preload(state.get("modules", []), state.get("root", ""))
        for entry in self._connections:
            self._reply(entry, refused=self._refused)

    def serve(self) -> None:
        """Until the last connection is closed."""
        served = bool(self._connections)
        while self._connections or self._runs or not served:
            ending = any(run.status is not None for run in self._runs.values())
            pause = _KILL_POLL if ending else None if self._spare else self._quiet_time()
            events = self._selector.select(pause)
            if not events and self._spare is None:
                self._spare = self._fork()
            for key, _ in events:
                if key.fileobj is self._listener:
                    served = True
                    self._accept()
                elif key.fileobj is self._wake:
                    with contextlib.suppress(BlockingIOError):
                        self._wake.recv(1 << 16)
                else:
                    self._read(key.data)
            for run in list(self._runs.values()):
                self._check(run)
        self._drop_spare()
        gone = self._directory.with_name(f"{self._directory.name}.gone")
        with contextlib.suppress(OSError):
            os.rename(self._directory, gone)  # at once, so that another may start at the same address
        shutil.rmtree(gone, ignore_errors=True)

    def _quiet_time(self) -> float:
        """How long to wait before the next child is forked in advance.

        Between two runs it costs nobody anything. Beside a run it takes a core, which several runs may
        need themselves; alone, a run has its first cells to begin with, and then there is time.
        """
        return 0.0 if not self._runs else _QUIET_ALONE if len(self._runs) == 1 else _QUIET

    # --- connections ---

    def _accept(self) -> None:
        connection, _ = self._listener.accept()
        credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        if struct.unpack("3i", credentials)[1] == os.getuid():
            self._add(connection)
        else:
            connection.close()

    def _add(self, connection: socket.socket) -> _Connection:
        entry = _Connection(connection)
        self._connections.add(entry)
        self._selector.register(connection, selectors.EVENT_READ, entry)
        return entry

    def _read(self, connection: _Connection) -> None:
        try:
            data, descriptors, *_ = socket.recv_fds(connection.socket, 1 << 16, 4)
        except OSError:
            data, descriptors = b"", []
        connection.descriptors += descriptors
        connection.received += data
        *lines, connection.received = connection.received.split(b"\n")
        for line in lines:
            if line:
                self._do(connection, json.loads(line))
        if not data:
            self._hang_up(connection)

    def _do(self, connection: _Connection, message: dict[str, Any]) -> None:
        if message["do"] == "run":
            self._start_run(connection, message)
        else:
            self._preload(message["modules"], message["root"])
            refused = {name: self._refused[name] for name in message["modules"] if name in self._refused}
            self._reply(connection, refused=refused)

    def _reply(self, connection: _Connection, **message: Any) -> None:
        with contextlib.suppress(OSError):
            connection.socket.sendall(json.dumps(message).encode() + b"\n")

    def _hang_up(self, connection: _Connection) -> None:
        self._selector.unregister(connection.socket)
        self._connections.discard(connection)
        if self._connections or self._runs:
            connection.socket.close()  # the last one is closed by our end, so its owner sees that end
        for descriptor in connection.descriptors:
            os.close(descriptor)
        run = connection.run
        if run is not None and run.status is None:
            for process in family(run.pid):
                with contextlib.suppress(Exception):
                    process.kill()
            shutil.rmtree(os.path.dirname(run.context), ignore_errors=True)

    # --- runs ---

    def _start_run(self, connection: _Connection, message: dict[str, Any]) -> None:
        """Hand a run to the fork that waits for one."""
        flow = message["flow"]
        looks = flow not in self._looked and not any(run.looks for run in self._runs.values())
        if looks:
            self._looked.add(flow)
        order = json.dumps({**message, "look": looks}).encode() + b"\n"
        while True:
            spare, self._spare = self._spare or self._fork(), None
            try:
                with spare.socket:
                    socket.send_fds(spare.socket, [order[:_ORDER]], connection.descriptors)
                    if len(order) > _ORDER:  # else it may have closed its end already
                        spare.socket.sendall(order[_ORDER:])
                break
            except OSError:  # it died while it waited
                os.waitpid(spare.pid, 0)
        for descriptor in connection.descriptors:
            os.close(descriptor)
        connection.descriptors.clear()
        found = message["environment"][context.VARIABLE]
        run = _Run(spare.pid, found, message["directory"], connection, looks)
        connection.run = self._runs[spare.pid] = run
        self._reply(connection, pid=spare.pid, language=self._app.kernel.language_info)

    def _fork(self) -> _Spare:
        if self._shared is None:  # garbage of the imports goes, the rest is shared with every child
            self._shared = tracing.Loaded()
            gc.collect()
            gc.freeze()
        ours, theirs = socket.socketpair()
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                ours.close()
                self._forget_everything()
                status = fork_child.wait_for_run(self._app, theirs, self._shared, self._pages)
            except BaseException:
                sys.excepthook(*sys.exc_info())
            finally:
                os._exit(status)
        theirs.close()
        return _Spare(pid, ours)

    def _drop_spare(self) -> None:
        """It lacks what has been imported since: it ends when nobody is left to send it a run."""
        if self._spare is not None:
            self._spare.socket.close()
            os.waitpid(self._spare.pid, 0)
            self._spare = None

    def _forget_everything(self) -> None:
        """In the child: nothing of the server's is left open."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        self._selector.close()
        self._listener.close()
        for waker in self._wakers:
            waker.close()
        for connection in self._connections:
            connection.socket.close()
            for descriptor in connection.descriptors:
                os.close(descriptor)

    def _check(self, run: _Run) -> None:
        """See whether a run ended; report it when nothing that it started is left."""
        if run.status is None:
            if os.waitid(os.P_PID, run.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
                return
            # Not reaped yet, so its number still is that of its process group and of nothing else.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(run.pid, signal.SIGKILL)
            self._kill_strays(run)
            _, status = os.waitpid(run.pid, 0)
            run.status = os.waitstatus_to_exitcode(status)
            run.give_up = time.monotonic() + _KILL_TIMEOUT
        if self._something_left(run) and time.monotonic() < run.give_up:
            return
        del self._runs[run.pid]
        self._reply(run.connection, status=run.status)

    def _kill_strays(self, run: _Run) -> None:
        """Kill what left the run's process group: it has become our child, and knows its run."""
        for pid in _children():
            if not self._is_known(pid) and _belongs_to(pid, run):
                for process in family(pid):
                    run.strays.add(process.pid)
                    with contextlib.suppress(Exception):
                        process.kill()

    def _is_known(self, pid: int) -> bool:
        return pid in self._runs or (self._spare is not None and pid == self._spare.pid)

    def _something_left(self, run: _Run) -> bool:
        left = False
        for pid in _children():
            if self._is_known(pid):
                continue
            if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
                os.waitpid(pid, 0)
            elif pid in run.strays or _group(pid) == run.pid or _belongs_to(pid, run):
                run.strays.add(pid)  # while it dies, nothing else tells whose it is
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                left = True
        return left

    # --- modules ---

    def _preload(self, modules: list[str], root: str) -> None:
        for name in modules:
            if name in self._loaded or any(package in self._refused for package in _packages(name)):
                continue
            self._shared = None
            self._looked.clear()
            self._drop_spare()
            if self._started_afresh and (reason := _try_in_a_fork(name, root)):
                self._refused[name] = reason
                continue
            try:
                _import(name)
            except BaseException as error:
                self._refused[name] = f"{type(error).__name__}: {error}"
                continue
            reason = _unsafe(root)
            if reason is None:
                self._loaded.append(name)
            elif self._runs:  # too late to start afresh; what is there now was there when they started
                self._refused[name] = reason
            else:
                self._refused[name] = reason
                self._start_afresh(modules, root)

    def _start_afresh(self, modules: list[str], root: str) -> None:
        """A module cannot be unloaded: begin again without it, with the same connections."""
        kept = [(c.socket.fileno(), c.received.decode(), c.descriptors) for c in self._connections]
        sockets, received = [entry[0] for entry in kept], [fd for entry in kept for fd in entry[2]]
        for descriptor in (self._listener.fileno(), *sockets, *received):
            os.set_inheritable(descriptor, True)
        state: dict[str, Any] = {"refused": self._refused, "connections": kept, "root": root}
        state["modules"] = list(dict.fromkeys([*self._loaded, *modules]))
        arguments = [str(self._listener.fileno()), str(self._directory), json.dumps(state)]
        interpreter = sys.orig_argv[: sys.orig_argv.index("-c") + 2]
        os.execv(sys.executable, [sys.executable, *interpreter[1:], *arguments])


def _packages(name: str) -> Iterator[str]:
    """A module and the packages that it is in."""
    parts = name.split(".")
    return (".".join(parts[:end]) for end in range(len(parts), 0, -1))


def _import(name: str) -> None:
    """Import a module as a notebook would: some look then whether they are in one."""
    with InteractiveShell.instance().builtin_trap:
        importlib.import_module(name)


def _try_in_a_fork(name: str, root: str) -> str | None:
    """Import a module in a fork first and say why it must not be preloaded.

    Starting afresh takes all imports once more; where one module was refused, more are likely to be.
    """
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(reader)
            try:
                _import(name)
                reason = _unsafe(root)
            except BaseException as error:
                reason = f"{type(error).__name__}: {error}"
            os.write(writer, (reason or "").encode()[:_ORDER])
        finally:
            os._exit(0)
    os.close(writer)
    with open(reader, encoding="utf-8", errors="replace") as said:
        reason = said.read()
    _, status = os.waitpid(pid, 0)
    return reason or (f"importing it ends the process (status {status})" if status else None)


def _unsafe(root: str) -> str | None:
    """Why this process must not be forked, or not shared, any more."""
    if _threads() > 1:
        threads.end()
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore", DeprecationWarning
            )  # of forking with threads: that is the question
            pid = os.fork()  # BLAS libraries end their threads at a fork by themselves; was that all?
        if pid == 0:
            os._exit(0)
        os.waitpid(pid, 0)
        if _threads() > 1:
            return "it starts threads when imported, and a process with threads cannot be forked safely"
    if root:
        for name, module in list(sys.modules.items()):
            file = getattr(module, "__file__", None)
            ours = name.partition(".")[0] in ("pytest_ductaflow", "ductaflow")
            if file and not ours and _is_the_project_s(os.path.abspath(file), root):
                return f"it imports {name}, a module of the project, which may change between runs"
    return None


def _is_the_project_s(file: str, root: str) -> bool:
    return file.startswith(root + os.sep) and not file.startswith(tracing.installed())


def _threads() -> int:
    return len(os.listdir("/proc/self/task"))


def _children() -> list[int]:
    """Our children: runs, and what became ours when its parent ended."""
    try:
        with open(f"/proc/self/task/{os.getpid()}/children", encoding="ascii") as file:
            return [int(pid) for pid in file.read().split()]
    except OSError:  # a kernel without that file
        import psutil

        return [child.pid for child in psutil.Process().children()]


def _belongs_to(pid: int, run: _Run) -> bool:
    with contextlib.suppress(OSError):
        if f"{context.VARIABLE}={run.context}".encode() in Path(f"/proc/{pid}/environ").read_bytes():
            return True
    with contextlib.suppress(OSError):
        place = os.readlink(f"/proc/{pid}/cwd")
        return place == run.directory or place.startswith(run.directory + os.sep)
    return False


def _group(pid: int) -> int | None:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return None


def main() -> None:
    """``python -c … <listening descriptor> <directory> [<state>]``."""
    if sys.path[0] == "":  # the kernel's own start-up puts it back, in the run's directory
        del sys.path[0]
    listener = socket.socket(fileno=int(sys.argv[1]))
    listener.set_inheritable(False)
    state = json.loads(sys.argv[3]) if len(sys.argv) > 3 else {}
    _Server(listener, Path(sys.argv[2]), state).serve()
    os._exit(0)
