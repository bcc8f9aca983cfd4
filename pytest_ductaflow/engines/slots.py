"""Slots: processes between the warm process and its forks, each a supervisor for one run after the other.

A slot is a fork of the warm process, made when more runs go on at once than ever before. It forks the
processes of its runs, so that what each of them leaves behind becomes the slot's child and nobody else's
(see ``supervisor``). To fork it is as good as the warm process itself, and a run still costs one fork.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from pytest_ductaflow import context
from pytest_ductaflow.engines import wire
from pytest_ductaflow.engines.supervisor import Client, Supervisor

#: In a fork: waits for its orders on a socket and is the run's process; gives its exit status.
Run = Callable[[socket.socket], int]
#: How often a fork may die before its run begins.
_ATTEMPTS: Final = 3


@dataclass(eq=False)
class Slot:
    """A slot as the warm process sees it.

    :param control: to the slot; closed, it ends.
    :param prepared: whether it has a fork that waits for a run.
    :param busy: whether it has a run.
    :param looks: whether that run looks at its pages.
    :param stale: whether it lacks what has been imported since.
    """

    pid: int
    control: socket.socket
    prepared: bool = False
    busy: bool = False
    looks: bool = False
    stale: bool = False

    def prepare(self) -> None:
        """Have it make a fork for the next run."""
        self.prepared = True
        with contextlib.suppress(OSError):  # it died: that is seen as its end
            wire.send_line(self.control, {"do": "prepare"})

    def run(self, order: dict[str, Any], descriptors: list[int]) -> None:
        """Hand it a run.

        :param descriptors: the run's socket, and the connection over which it was asked for.
        :raises OSError: if the slot is gone.
        """
        wire.send_line(self.control, order, descriptors)
        self.prepared, self.busy, self.looks = False, True, order["look"]


def make(forget: Callable[[], None], run: Run, language: dict[str, Any]) -> Slot:
    """Fork a slot.

    :param forget: in the slot, closes what belongs to the warm process.
    :param run: what its forks do.
    :param language: what the kernel says of its language.
    """
    ours, theirs = socket.socketpair()
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        try:
            ours.close()
            forget()
            _Process(parent, theirs, run, language).serve()
        except BaseException:
            sys.excepthook(*sys.exc_info())
        finally:
            os._exit(0)  # with its parent gone, the system ends a fork that waits
    theirs.close()
    return Slot(pid, ours)


@dataclass(eq=False)
class _Fork:
    pid: int
    socket: socket.socket  # brings it orders


class _Process:
    """In the slot itself."""

    def __init__(
        self,
        parent: int,
        control: socket.socket,
        run: Run,
        language: dict[str, Any],
    ) -> None:
        self._supervisor = Supervisor(parent)
        self._control, self._lines = control, wire.Lines(control)
        self._run, self._language = run, language
        self._waiting: _Fork | None = None

    def serve(self) -> None:
        """Until the warm process wants no more."""
        while not self._supervisor.waker.asked_to_end:
            if self._control.fileno() not in self._supervisor.wait(self._control.fileno()):
                continue
            orders = self._lines.receive()
            if orders is None:
                return
            for order in orders:
                if order["do"] == "prepare":
                    self._waiting = self._waiting or self._fork()
                elif self._execute(order):
                    wire.send_line(self._control, {"idle": True})
                else:
                    return  # something of the run lives on: it would be taken for the next one's

    def _execute(self, order: dict[str, Any]) -> bool:
        """Have a run executed; whether nothing of it is left."""
        channel, connection = self._lines.take_descriptors()
        client = Client(socket.socket(fileno=connection))
        fork = self._start(order, channel, client)
        os.close(channel)
        if fork is None:
            client.close()
            return True
        client.tell(pid=fork.pid, language=self._language)
        private = os.path.dirname(order["environment"][context.VARIABLE])
        return self._supervisor.attend(fork.pid, client, private)

    def _start(self, order: dict[str, Any], channel: int, client: Client) -> _Fork | None:
        """Hand the run to the fork that waits; ``None`` if forks die before they have taken it."""
        for _ in range(_ATTEMPTS):
            fork, self._waiting = self._waiting or self._fork(client, channel), None
            with fork.socket:
                try:
                    wire.send_line(fork.socket, order, [channel])
                    return fork
                except OSError:
                    os.waitpid(fork.pid, 0)
        return None

    def _fork(self, client: Client | None = None, channel: int | None = None) -> _Fork:
        """:param client: who asks for a run already, and its channel."""
        ours, theirs = socket.socketpair()
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                ours.close()
                self._control.close()
                self._supervisor.waker.forget()
                if client is not None and channel is not None:
                    client.close()
                    os.close(channel)
                for descriptor in self._lines.descriptors:
                    os.close(descriptor)
                status = self._run(theirs)
            except BaseException:
                sys.excepthook(*sys.exc_info())
            finally:
                os._exit(status)
        theirs.close()
        return _Fork(pid, ours)
