"""The supervisor of a run: parent of the run's process and of everything that this leaves behind.

It is a small process between the one that starts runs (the launcher, or the warm process) and a run's own
process, and supervises one run at a time. It is a *subreaper*: where a process ends before the ones that it
started, these become its children, however they were started and whatever they did to get away. So what is
below it is what the run started, and nothing else is.

It tells whoever asked for the run how the run's process ended, at once; then it ends what that left, and
says when nothing is left. It ends the run when it is asked to, when whoever asked for it is gone, and when
its own parent dies. Linux only, one thread, standard library only.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import shutil
import signal
import socket
import struct
import time
from typing import Any, Final, NamedTuple

from pytest_ductaflow.engines import wire

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_CHILD_SUBREAPER: Final = 36
#: Seconds between SIGTERM and SIGKILL.
GRACE: Final = 0.5
#: Seconds after which what cannot be killed (it waits for a device) is given up.
_PATIENCE: Final = 5.0
#: Seconds between two looks at what is left.
_POLL: Final = 0.01
_libc: Final = ctypes.CDLL(None)


def become_subreaper() -> None:
    """From now on, what our descendants leave behind becomes ours."""
    _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def end_with_parent(how: signal.Signals = signal.SIGKILL) -> None:
    """Get a signal when the parent of this process dies. It must not have died yet."""
    _libc.prctl(_PR_SET_PDEATHSIG, how, 0, 0, 0)


class Client:
    """A connection to a process that asks for something. Whether it is gone does not depend on who else
    holds its end: a process that it forked does not speak for it.
    """

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.lines = wire.Lines(connection)
        self.process: int | None = None  # a descriptor that can be read when it ended
        credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        pid, self.user, _ = struct.unpack("3i", credentials)
        # It ended before, or is not known here, or Python was built for an older system.
        with contextlib.suppress(OSError, AttributeError):
            self.process = os.pidfd_open(pid)

    def descriptors(self) -> list[int]:
        """What to wait for."""
        own = [] if self.process is None else [self.process]
        return [self.connection.fileno(), *own]

    def tell(self, **message: Any) -> None:
        """Send a message; nobody may be there to read it."""
        with contextlib.suppress(OSError):
            wire.send_line(self.connection, message)

    def close(self) -> None:
        """Close all that is open."""
        self.connection.close()
        for descriptor in self.lines.take_descriptors():
            os.close(descriptor)
        if self.process is not None:
            os.close(self.process)
            self.process = None


class Waker:
    """Wakes who waits, as soon as a child ends.

    :param heeds: signals that ask this process to end.
    """

    def __init__(self, *heeds: signal.Signals) -> None:
        self.asked_to_end = False
        self._ends = socket.socketpair()
        for end in self._ends:
            end.setblocking(False)
        handlers = {signal.SIGCHLD: lambda *_: None, **dict.fromkeys(heeds, self._end)}
        self._before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
        signal.set_wakeup_fd(self._ends[1].fileno(), warn_on_full_buffer=False)

    def _end(self, *_: Any) -> None:
        self.asked_to_end = True

    def fileno(self) -> int:
        """What to wait for."""
        return self._ends[0].fileno()

    def clear(self) -> None:
        """What woke us has been seen."""
        with contextlib.suppress(BlockingIOError):
            self._ends[0].recv(1 << 16)

    def forget(self) -> None:
        """In a fork: signals are what they are in any process."""
        signal.set_wakeup_fd(-1)
        for number, handler in self._before.items():
            signal.signal(number, handler)
        for end in self._ends:
            end.close()


class Supervisor:
    """This process, from now on a supervisor.

    :param parent: the process that made it.
    """

    def __init__(self, parent: int) -> None:
        self.waker = Waker(signal.SIGTERM)
        become_subreaper()
        end_with_parent(signal.SIGTERM)
        if os.getppid() != parent:
            os._exit(1)

    def wait(self, *descriptors: int, timeout: float | None = None) -> list[int]:
        """Those of the descriptors that can be read; none if a signal came or the time is over."""
        poll = select.poll()
        for descriptor in (*descriptors, self.waker.fileno()):
            poll.register(descriptor, select.POLLIN)
        found = [ready for ready, _ in poll.poll(None if timeout is None else timeout * 1000)]
        if self.waker.fileno() in found:
            self.waker.clear()
        return found

    def attend(self, pid: int, client: Client, private: str) -> bool:
        """Supervise a run until nothing of it is left. The client's connection is closed then.

        :param pid: the run's process, a child of ours.
        :param client: who asked for it.
        :param private: a directory of its, which is removed if it is gone and cannot do it.
        :returns: whether really nothing is left.
        """
        status: int | None = None
        gone = asked = False
        ending: _Ending | None = None
        while True:
            left, ended = _reap(pid)
            if ended is not None:
                status = ended
                if left:
                    client.tell(status=status)
            if not left or (ending is not None and ending.is_hopeless()):
                break
            if status is not None or gone or asked or self.waker.asked_to_end:
                ending = ending or _Ending()
                ending.press()
            watched = [] if gone else client.descriptors()
            ready = self.wait(*watched, timeout=_POLL if ending else None)
            if client.process in ready:
                gone = True
            elif client.connection.fileno() in ready:
                orders = client.lines.receive()
                gone, asked = gone or orders is None, asked or bool(orders)
        client.tell(status=status, gone=True)
        client.close()
        if gone:
            shutil.rmtree(private, ignore_errors=True)
        return not left


class _Ending:
    """All our descendants are to go: SIGTERM, a moment, SIGKILL until there are none."""

    def __init__(self) -> None:
        self._since = time.monotonic()
        self._asked = False

    def press(self) -> None:
        """Do what is to be done now."""
        if not self._asked:
            self._asked = True
            for pid in descendants(os.getpid()):
                _send(os.kill, pid, signal.SIGTERM)
        elif time.monotonic() > self._since + GRACE:
            kill_descendants()

    def is_hopeless(self) -> bool:
        """Whether it has been tried for long enough."""
        return time.monotonic() > self._since + GRACE + _PATIENCE


class _Process(NamedTuple):
    pid: int
    parent: int
    group: int
    lives: bool  # no zombie; of one whose threads go on there may be children


def kill_descendants(spared: frozenset[int] = frozenset()) -> bool:
    """Kill all descendants of this process, once; whether there were any.

    By process groups too: of a group the system kills all at once, also a process that is just forking. But
    no group that holds others: a fork that has just been made is still in the group of who made it.

    :param spared: children that stay, with their descendants.
    """
    everyone = _processes()
    found = _below(everyone, os.getpid(), spared)
    theirs = {process.pid for process in found}
    others = {process.group for process in everyone if process.lives and process.pid not in theirs}
    for process in found:
        _send(os.kill, process.pid, signal.SIGKILL)
        if process.group not in others:
            _send(os.killpg, process.group, signal.SIGKILL)
    return bool(found)


def descendants(ancestor: int) -> list[int]:
    """The living processes below one."""
    return [process.pid for process in _below(_processes(), ancestor)]


def _below(everyone: list[_Process], ancestor: int, spared: frozenset[int] = frozenset()) -> list[_Process]:
    """:param spared: processes that are left out, with all below them."""
    children: dict[int, list[_Process]] = {}
    for process in everyone:
        children.setdefault(process.parent, []).append(process)
    found: list[_Process] = []
    pending = [ancestor]
    while pending:
        below = [process for process in children.get(pending.pop(), ()) if process.pid not in spared]
        pending += [process.pid for process in below]
        found += [process for process in below if process.lives]
    return found


def _processes() -> list[_Process]:
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError), open(f"/proc/{name}/stat", "rb", buffering=0) as file:
                state, parent, group, *_ = file.read().rpartition(b")")[2].split(maxsplit=3)
                found.append(_Process(int(name), int(parent), int(group), state not in b"ZX"))
    return found


def _reap(run: int) -> tuple[bool, int | None]:
    """Reap what ended. Whether children are left, and how the run's process ended if it is among them."""
    status = None
    with contextlib.suppress(ChildProcessError):
        while True:
            pid, how = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return True, status
            if pid == run:
                status = os.waitstatus_to_exitcode(how)
    return False, status


def _send(kill: Any, target: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        kill(target, number)
