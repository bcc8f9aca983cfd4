"""The warm process: it has imported a kernel and what flows import, and each run is a fork of it.

A process of its own, started by the launcher, with one thread, so that a fork is safe; a module that leaves
threads behind when imported is not preloaded, nor is anything of the project. It listens on a Unix
socket in a directory that only its user may enter. A connection either keeps it alive and names modules
to preload, or asks for one run: it is handed, with the order, to a slot (see ``slots``), which supervises
the run and answers. With the last connection the process removes its directory and ends.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import selectors
import shutil
import socket
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

_INITIAL: Final = dict(os.environ)  # before a kernel is imported, which sets some

from IPython.core.interactiveshell import InteractiveShell  # noqa: E402

from pytest_ductaflow.engines import fork_child, slots, threads, tracing  # noqa: E402
from pytest_ductaflow.engines.pages import WrittenPages  # noqa: E402
from pytest_ductaflow.engines.slots import Slot  # noqa: E402
from pytest_ductaflow.engines.supervisor import Client, Waker  # noqa: E402

#: After so many quiet seconds a child is forked in advance beside one run, and beside several.
_QUIET_ALONE: Final = 0.006
_QUIET: Final = 0.01
#: Bytes of a reason that a pipe takes in one go.
_SAID: Final = 1 << 15


class _Server:
    def __init__(self, listener: socket.socket, directory: Path, state: dict[str, Any]) -> None:
        self._listener, self._directory = listener, directory
        self._loaded: list[str] = []
        self._refused: dict[str, str] = state.get("refused", {})
        self._started_afresh = bool(state)
        self._connections: set[Client] = set()
        self._slots: list[Slot] = []
        self._shared: tracing.Loaded | None = None  # what all forks have in common, once it is complete
        self._pages = WrittenPages()
        self._looked: set[str] = set()  # flows of which a run looked at its pages
        self._waker = Waker()
        self._selector = selectors.DefaultSelector()
        for waited_for in (listener, self._waker):
            self._selector.register(waited_for, selectors.EVENT_READ)
        self._app = fork_child.make_application(_INITIAL)
        for descriptor, received, descriptors in state.get("connections", ()):
            entry = self._add(socket.socket(fileno=descriptor))
            entry.lines.received, entry.lines.descriptors = received.encode(), descriptors
            for kept in (descriptor, *descriptors):
                os.set_inheritable(kept, False)
        self._preload(state.get("modules", []), state.get("root", ""))
        for entry in self._connections:
            entry.tell(refused=self._refused)

    def serve(self) -> None:
        """Until the last connection is closed."""
        served = bool(self._connections)
        while self._connections or self._busy() or not served:
            ready = any(slot.prepared for slot in self._slots)
            events = self._selector.select(None if ready else self._quiet_time())
            if not events and not ready:
                self._prepare_run()
            for key, _ in events:
                if key.fileobj is self._listener:
                    served = True
                    self._accept()
                elif key.fileobj is self._waker:
                    self._waker.clear()
                    self._reap()
                elif isinstance(key.data, Slot):
                    self._hear(key.data)
                elif key.data in self._connections:  # not closed by what came before
                    self._read(key.data, ended=key.fd == key.data.process)
        gone = self._directory.with_name(f"{self._directory.name}.gone")
        with contextlib.suppress(OSError):
            os.rename(self._directory, gone)  # at once, so that another may start at the same address
        shutil.rmtree(gone, ignore_errors=True)

    def _busy(self) -> int:
        """How many runs go on."""
        return sum(slot.busy for slot in self._slots)

    def _quiet_time(self) -> float:
        """How long to wait before the next child is forked in advance.

        Between two runs it costs nobody anything. Beside a run it takes a core, which several runs may
        need themselves; alone, a run has its first cells to begin with, and then there is time.
        """
        busy = self._busy()
        return 0.0 if not busy else _QUIET_ALONE if busy == 1 else _QUIET

    # --- connections ---

    def _accept(self) -> None:
        connection, _ = self._listener.accept()
        client = self._add(connection)
        if client.user != os.getuid():
            self._drop(client)

    def _add(self, connection: socket.socket) -> Client:
        client = Client(connection)
        self._connections.add(client)
        for descriptor in client.descriptors():
            self._selector.register(descriptor, selectors.EVENT_READ, client)
        return client

    def _drop(self, client: Client, *, close: bool = True) -> None:
        for descriptor in client.descriptors():
            self._selector.unregister(descriptor)
        self._connections.discard(client)
        if close:
            client.close()

    def _read(self, client: Client, *, ended: bool) -> None:
        orders = None if ended else client.lines.receive()
        if orders is None:
            last = not self._busy() and self._connections == {client}
            self._drop(client, close=not last)  # the last one is closed by our end, so its owner sees that
        for order in orders or ():
            if order["do"] == "run":
                self._start_run(client, order)
            else:
                self._preload(order["modules"], order["root"])
                client.tell(
                    refused={name: self._refused[name] for name in order["modules"] if name in self._refused}
                )

    # --- runs ---

    def _start_run(self, connection: Client, order: dict[str, Any]) -> None:
        """Hand a run, with the connection over which it was asked for, to a slot."""
        flow = order["flow"]
        looks = flow not in self._looked and not any(slot.looks for slot in self._slots)
        if looks:
            self._looked.add(flow)
        descriptors = [*connection.lines.descriptors, connection.connection.fileno()]
        while True:
            free = [slot for slot in self._slots if not slot.busy and not slot.stale]
            slot = max(free, key=lambda slot: slot.prepared, default=None) or self._make_slot()
            try:
                slot.run({**order, "look": looks}, descriptors)
                break
            except OSError:  # it died
                self._lose(slot)
        self._drop(connection)

    def _prepare_run(self) -> None:
        """Have a fork made for the next run, unless one waits already."""
        free = [slot for slot in self._slots if not slot.busy and not slot.stale]
        if not any(slot.prepared for slot in free):
            (free[0] if free else self._make_slot()).prepare()

    def _make_slot(self) -> Slot:
        if self._shared is None:  # garbage of the imports goes, the rest is shared with every child
            self._shared = tracing.Loaded()
            gc.collect()
            gc.freeze()
        loaded = self._shared
        slot = slots.make(
            self._forget_everything,
            lambda orders: fork_child.wait_for_run(self._app, orders, loaded, self._pages),
            self._app.kernel.language_info,
        )
        self._slots.append(slot)
        self._selector.register(slot.control, selectors.EVENT_READ, slot)
        return slot

    def _hear(self, slot: Slot) -> None:
        """A slot says that its run is over, or is gone."""
        try:
            over = bool(slot.control.recv(1 << 10))
        except OSError:
            over = False
        slot.busy = slot.looks = False
        if not over or slot.stale:
            self._lose(slot)

    def _lose(self, slot: Slot) -> None:
        """Let a slot end."""
        self._slots.remove(slot)
        self._selector.unregister(slot.control)
        slot.control.close()

    def _reap(self) -> None:
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass

    def _forget_everything(self) -> None:
        """In a slot: nothing of the server's is left open."""
        self._waker.forget()
        self._selector.close()
        self._listener.close()
        for slot in self._slots:
            slot.control.close()
        for connection in self._connections:
            connection.close()

    # --- modules ---

    def _preload(self, modules: list[str], root: str) -> None:
        for name in modules:
            if name in self._loaded or any(package in self._refused for package in _packages(name)):
                continue
            self._shared = None
            self._looked.clear()
            self._drop_slots()
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
            elif self._busy():  # too late to start afresh; what is there now was there when they started
                self._refused[name] = reason
            else:
                self._refused[name] = reason
                self._start_afresh(modules, root)

    def _drop_slots(self) -> None:
        """They lack what is imported now: those that are free end, the others when they are."""
        for slot in list(self._slots):
            slot.stale = True
            if not slot.busy:
                self._lose(slot)

    def _start_afresh(self, modules: list[str], root: str) -> None:
        """A module cannot be unloaded: begin again without it, with the same connections."""
        clients = self._connections
        kept = [(c.connection.fileno(), c.lines.received.decode(), c.lines.descriptors) for c in clients]
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
            os.write(writer, (reason or "").encode()[:_SAID])
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


def main() -> None:
    """``python -c … <listening descriptor> <directory> [<state>]``."""
    if sys.path[0] == "":  # the kernel's own start-up puts it back, in the run's directory
        del sys.path[0]
    listener = socket.socket(fileno=int(sys.argv[1]))
    listener.set_inheritable(False)
    state = json.loads(sys.argv[3]) if len(sys.argv) > 3 else {}
    _Server(listener, Path(sys.argv[2]), state).serve()
    os._exit(0)
