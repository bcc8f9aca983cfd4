"""The launcher: a small process that is the ancestor of all that a session's runs start.

It starts the warm processes, and papermill's kernels, each kernel in a supervisor of its own; it holds what
outlives a run. It is a subreaper, too: a child that it did not start is what a supervisor left that was
killed, and is killed. It ends with its last client, however that ended, and nothing that it started
outlives it; if it is killed itself, its children are told so by the system and end their runs.

One thread, standard library only: it stays small, and a fork of it is cheap.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final

from pytest_ductaflow.engines import supervisor
from pytest_ductaflow.engines.supervisor import Client, Supervisor, Waker

#: Seconds that children have to leave by themselves, once the last client is gone, and to be gone, killed.
_LEAVE_TIMEOUT: Final = 1.0
_KILL_TIMEOUT: Final = 5.0
#: Seconds between two looks at whether they are, and the most of them.
_POLL: Final = 0.01
_LONG_POLL: Final = 1.0


class _Launcher:
    def __init__(self, listener: socket.socket, directory: Path) -> None:
        self._listener, self._directory = listener, directory
        self._clients: set[Client] = set()
        self._children: set[int] = set()
        self._waker = Waker(signal.SIGTERM)
        self._selector = selectors.DefaultSelector()
        for waited_for in (listener, self._waker):
            self._selector.register(waited_for, selectors.EVENT_READ)
        supervisor.become_subreaper()

    def serve(self) -> None:
        """Until the last client is gone."""
        served = False
        pause: float | None = None  # until the next look at what was killed
        while not self._waker.asked_to_end and (self._clients or not served):
            for key, _ in self._selector.select(pause):
                if key.fileobj is self._listener:
                    served = True
                    self._accept()
                elif key.fileobj is self._waker:
                    self._waker.clear()
                    pause = _POLL
                elif key.data in self._clients:  # not closed by what came before
                    self._read(key.data, ended=key.fd == key.data.process)
            if pause is not None:
                self._reap()
                strays = supervisor.kill_descendants(frozenset(self._children))
                pause = min(2 * pause, _LONG_POLL) if strays else None
        self._leave()

    def _leave(self) -> None:
        gone = self._directory.with_name(f"{self._directory.name}.gone")
        with contextlib.suppress(OSError):
            os.rename(self._directory, gone)  # at once, so that another may start at the same address
        started = time.monotonic()
        while self._reap() and time.monotonic() < started + _LEAVE_TIMEOUT:
            time.sleep(_POLL)
        while supervisor.kill_descendants() and time.monotonic() < started + _KILL_TIMEOUT:
            time.sleep(_POLL)
            self._reap()
        shutil.rmtree(gone, ignore_errors=True)

    # --- clients ---

    def _accept(self) -> None:
        connection, _ = self._listener.accept()
        client = Client(connection)
        self._clients.add(client)
        for descriptor in client.descriptors():
            self._selector.register(descriptor, selectors.EVENT_READ, client)
        if client.user != os.getuid():
            self._drop(client)

    def _drop(self, client: Client) -> None:
        for descriptor in client.descriptors():
            self._selector.unregister(descriptor)
        self._clients.discard(client)
        if self._clients:  # the last one is closed by our end, so its owner sees that
            client.close()

    def _read(self, client: Client, *, ended: bool) -> None:
        orders = None if ended else client.lines.receive()
        for order in orders or ():
            if order["do"] == "serve":
                self._serve(client, order)
            else:
                self._begin(client, order)
                orders = None  # from now on, it is its supervisor's client
        if orders is None:
            self._drop(client)

    # --- what is started ---

    def _serve(self, client: Client, order: dict[str, Any]) -> None:
        """Start a process that listens, and ends with the last of its own clients."""
        log, listener = client.lines.take_descriptors()
        command = [*order["command"], str(listener), order["directory"]]
        try:
            pid = _spawn(command, order["environment"], order["directory"], log, pass_fds=[listener])
            self._children.add(pid)
        except OSError as error:  # whoever connects to it sees the end at once, and reads this
            os.write(log, f"{error}\n".encode())
        finally:
            os.close(log)
            os.close(listener)

    def _begin(self, client: Client, order: dict[str, Any]) -> None:
        """Start a program in a supervisor, which answers the client and ends with the program."""
        parent = os.getpid()
        pid = os.fork()
        if pid:
            self._children.add(pid)
            return
        try:
            self._waker.forget()
            self._selector.close()
            self._listener.close()
            for other in self._clients - {client}:
                other.close()
            _supervise(parent, client, order)
        except BaseException:
            sys.excepthook(*sys.exc_info())
        finally:
            os._exit(0)

    def _reap(self) -> bool:
        """Reap what ended; whether there are children left."""
        with contextlib.suppress(ChildProcessError):
            while pid := os.waitpid(-1, os.WNOHANG)[0]:
                self._children.discard(pid)
            return True
        return False


def _supervise(parent: int, client: Client, order: dict[str, Any]) -> None:
    this = Supervisor(parent)
    [log] = client.lines.take_descriptors()
    environment = {**order["environment"], "JPY_PARENT_PID": str(os.getpid())}  # a kernel watches its parent
    try:
        pid = _spawn(order["command"], environment, order["directory"], log, umask=order["umask"])
    except OSError as error:
        client.tell(failed=[error.errno, error.strerror, error.filename])
        return
    os.close(log)
    client.tell(pid=pid)
    this.attend(pid, client, order["private"])


def _spawn(command: list[str], environment: dict[str, str], directory: str, log: int, **options: Any) -> int:
    """Start a program that dies with us; give its number."""
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        cwd=directory,
        env=environment,
        start_new_session=True,
        preexec_fn=supervisor.end_with_parent,
        **options,
    )
    process.returncode = 0  # we wait for all children ourselves
    return process.pid


def main() -> None:
    """``python -c … <listening descriptor> <directory>``."""
    listener = socket.socket(fileno=int(sys.argv[1]))
    listener.set_inheritable(False)
    _Launcher(listener, Path(sys.argv[2])).serve()
    os._exit(0)
