"""A fork of the warm process for each run: no interpreter, kernel or import to wait for, and no port.

The driver hands the warm process one end of a socket pair; the fork speaks Jupyter's messages over it,
and to nbclient it looks like any kernel. Over the request's own connection the fork's supervisor tells the
process id, how the process ended, and when nothing is left of all that it started. The run ends with its
process, whoever else still holds its sockets.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import socket
import time
import uuid
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import nbformat
from jupyter_client.jsonutil import extract_dates
from jupyter_client.session import Session
from nbclient.client import timestamp
from nbclient.exceptions import CellExecutionComplete, CellExecutionError, CellTimeoutError, DeadKernelError
from papermill.engines import NotebookExecutionManager

from pytest_ductaflow import context
from pytest_ductaflow.capture import OutputText
from pytest_ductaflow.engines import launcher, warm, wire
from pytest_ductaflow.engines.base import Task
from pytest_ductaflow.engines.driver import SAVE_INTERVAL, STOP_TIMEOUT, Client, NotebookRun, TextClient
from pytest_ductaflow.engines.processes import private_directory
from pytest_ductaflow.errors import DuctaflowError
from pytest_ductaflow.flow import NATIVE_KERNELS
from pytest_ductaflow.reader import runs

_LONG: Final = 3600.0
#: Seconds in which a fork must have been made; importing what is preloaded comes first.
_START_TIMEOUT: Final = 60.0
#: Seconds that a killed run has to be gone.
_KILL_TIMEOUT: Final = 10.0


class ForkRun(NotebookRun):
    """A run in a fork of the warm process."""

    def __init__(self, task: Task) -> None:
        self._fork: Fork | None = None
        super().__init__(task)

    def prepare(self) -> None:
        """Have the fork made."""
        process = warm.current()
        environment = self.prepare_kernel(**process.addresses)
        log = self.private / "kernel.log"
        self._fork = Fork(process, self.task.directory, environment, log, flow=str(self.task.flow.path))

    def connect(self, manager: NotebookExecutionManager, kernel_name: str) -> None:
        """Execute the notebook in the fork."""
        assert self._fork is not None
        self.outcome.pid = self._fork.started()
        if self.stopped:  # in the meantime
            self._fork.kill()
        try:
            _RunClient(manager, run=self, fork=self._fork, kernel_name=kernel_name).execute()
        finally:
            self._fork.shut_down()

    def wait_for_exit(self) -> None:
        """Come back when nothing of the fork is left."""
        if self._fork is not None:
            self._fork.wait()
            self.exit_status, self.overdue = self._fork.exit_status, self._fork.overdue
            self._fork.close()

    def stop(self) -> None:
        """Kill the fork and everything it started."""
        self.stopped = True
        if self._fork is not None:
            self._fork.kill()


class Fork:
    """A kernel in a fork, spoken to over one socket.

    :param environment: of the new process; it names the run's context.
    :param log: what the process prints that is not the run's.
    :param flow: what runs in it: runs of the same flow use the same memory.
    :raises DuctaflowError: if the warm process cannot be reached.
    """

    def __init__(
        self,
        process: warm.WarmProcess,
        directory: Path,
        environment: dict[str, str],
        log: Path,
        *,
        flow: str = "",
    ) -> None:
        self.overdue = False  # it was asked to end by itself, and had to be killed
        self.language: dict[str, Any] = {}
        self.session = Session(check_pid=False)  # builds messages; nothing is sent by it
        self.shell_channel = self  # where nbclient's widgets send
        self._process = process
        self._pid: int | None = None
        self._said: dict[str, Any] = {}
        self._silent = False  # the supervisor: it ended, too
        self._arrived: deque[dict[str, Any]] = deque()
        self._unpacker = wire.Unpacker()
        self._channel, theirs = socket.socketpair()
        message = {
            "do": "run",
            "directory": str(directory),
            "environment": environment,
            "umask": launcher.umask(),
            "log": str(log),
            "flow": flow,
        }
        try:
            with theirs:
                self._control = process.request(message, [theirs.fileno()])
        except BaseException:
            self._channel.close()
            raise
        self._lines = wire.Lines(self._control)

    def started(self) -> int:
        """Wait until it exists; give its process id.

        :raises DuctaflowError: if it cannot be made.
        """
        if not self._hear("pid", _START_TIMEOUT):
            problem = "ended" if self._silent else f"made no fork within {_START_TIMEOUT:g} s"
            raise DuctaflowError(f"the warm process {problem}: {self._process.log()}")
        self._pid, self.language = int(self._said["pid"]), self._said["language"]
        return self._pid

    def execute(self, code: str, **content: Any) -> str:
        """Ask for the execution of a cell; give the request's id."""
        message = self.session.msg(
            "execute_request", {"code": code, "silent": False, "allow_stdin": False, **content}
        )
        self.send(message)
        return str(message["header"]["msg_id"])

    def send(self, message: dict[str, Any]) -> None:
        """Send a message. What arrives in the meantime is kept, so neither side blocks the other."""
        body = {key: value for key, value in message.items() if key != "buffers"}
        parts = [memoryview(part).cast("B") for part in message.get("buffers") or ()]
        left = memoryview(b"".join(wire.pack([self.session.pack(body), *parts])))
        while left:
            readable, writable = self._select(None, [self._channel])
            if readable and not self._receive():
                return  # it died: whoever waits for the answer learns that
            if writable:
                with contextlib.suppress(BlockingIOError, ConnectionError):
                    left = left[self._channel.send(left, socket.MSG_DONTWAIT) :]

    def next_message(self, timeout: float) -> dict[str, Any] | None:
        """The next message, ``None`` if none comes within ``timeout`` seconds.

        :raises DeadKernelError: when there will be no more.
        """
        while not self._arrived:
            if not self._select(timeout)[0]:
                return None
            if not self._receive():
                raise DeadKernelError("the kernel died")
        return self._arrived.popleft()

    def kill(self) -> None:
        """Kill it with all it started. Callable from any thread."""
        with contextlib.suppress(OSError):
            if self._pid is None:
                self._control.shutdown(socket.SHUT_RDWR)  # the warm process takes it for our end
            else:
                wire.send_line(self._control, {"do": "end"})

    def shut_down(self) -> None:
        """Ask it to end by itself."""
        self.send(self.session.msg("shutdown_request"))

    def wait(self) -> None:
        """Wait until its process ended; kill it if it does not end by itself."""
        if self._pid is None:
            self.shut_down()
        if not self._hear("status", STOP_TIMEOUT) and not self._silent:
            self.overdue = True
            self.kill()
            self._hear("status", _KILL_TIMEOUT)

    def close(self) -> None:
        """Wait until nothing is left of what it started, then close the connections."""
        self._hear("gone", _KILL_TIMEOUT)
        self._control.close()
        self._channel.close()

    @property
    def exit_status(self) -> int | None:
        """As in ``Popen.returncode``, once its process has ended."""
        return self._said.get("status")

    def _receive(self) -> bool:
        """Take what has arrived; whether there will be more."""
        try:
            data = self._channel.recv(1 << 20, socket.MSG_DONTWAIT if self._ended else 0)
        except (BlockingIOError, ConnectionError):
            return False
        for body, *buffers in self._unpacker.feed(data):
            message = self.session.unpack(body)
            message["buffers"] = buffers
            message["header"] = extract_dates(message["header"])
            self._arrived.append(message)
        return bool(data)

    def _select(self, timeout: float | None, writable: Sequence[socket.socket] = ()) -> tuple[Any, Any]:
        """Whether messages, or the end of all messages, can be read, and what can be written to.

        A process that the run left behind may hold its end of the channel: only the supervisor knows
        that the run is over.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while not self._ended:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            readable, ready, _ = select.select([self._channel, self._control], writable, [], left)
            if self._control in readable:
                self._take_news()
            if self._channel in readable or ready or not readable:
                return self._channel in readable, ready
        return True, []

    @property
    def _ended(self) -> bool:
        """Whether there is nobody any more who would send messages."""
        return self._silent or "status" in self._said

    def _take_news(self) -> None:
        """Take what the supervisor says."""
        news = self._lines.receive()
        self._silent = news is None
        for said in news or ():
            self._said |= said

    def _hear(self, what: str, timeout: float) -> bool:
        """Whether the supervisor says this within ``timeout`` seconds."""
        deadline = time.monotonic() + timeout
        while what not in self._said and not self._silent:
            left = max(0.0, deadline - time.monotonic())
            if not select.select([self._control], [], [], left)[0]:
                return False
            self._take_news()
        return what in self._said


class _ForkClient(TextClient):
    """Executes cells in a fork. What comes back is processed by nbclient."""

    def __init__(self, manager: NotebookExecutionManager, *, fork: Fork, **options: Any) -> None:
        super().__init__(manager, **options)
        self._fork = fork

    def execute(self, **_: Any) -> nbformat.NotebookNode:
        self.reset_execution_trackers()
        self.kc = self._fork
        self.papermill_execute_cells()
        self.nb.metadata["language_info"] = self._fork.language
        self.set_widgets_metadata()
        return self.nb

    def execute_cell(self, cell: nbformat.NotebookNode, cell_index: int, **_: Any) -> nbformat.NotebookNode:
        if not runs(cell):
            return cell
        cell["metadata"]["execution"] = {}
        cell.outputs = []
        self.clear_before_next_output = False
        self.code_cells_executed += 1
        allowed = self.allow_errors or "raises-exception" in cell.metadata.get("tags", [])
        limit = self._get_timeout(cell)
        deadline = None if limit is None else time.monotonic() + limit
        request = self._fork.execute(cell.source, stop_on_error=not allowed)
        reply: dict[str, Any] = {}
        while True:
            message = self._next_message(deadline)
            if message is None:
                raise CellTimeoutError.error_from_timeout_and_cell("Cell execution timed out", limit, cell)
            if message["parent_header"].get("msg_id") != request:
                continue
            if message["msg_type"] == "execute_reply":
                reply = message["content"]
                cell["metadata"]["execution"]["shell.execute_reply"] = timestamp(message)
                continue
            try:
                self.process_message(message, cell, cell_index)
            except CellExecutionComplete:
                break
        if reply["status"] == "error" and not allowed:
            raise CellExecutionError.from_cell_and_msg(cell, reply)
        return cell

    def _next_message(self, deadline: float | None) -> dict[str, Any] | None:
        left = _LONG if deadline is None else deadline - time.monotonic()
        return self._fork.next_message(max(0.0, left))


class _RunClient(Client, _ForkClient):
    """The client of a run, which has its notebook saved while it waits."""

    def __init__(self, manager: NotebookExecutionManager, **options: Any) -> None:
        super().__init__(manager, **options)
        self._save_at = time.monotonic() + SAVE_INTERVAL

    def _next_message(self, deadline: float | None) -> dict[str, Any]:
        while True:
            message = self._fork.next_message(max(0.0, self._save_at - time.monotonic()))
            if time.monotonic() >= self._save_at:
                self._save_at = time.monotonic() + self._run.save_running()
            if message is not None:
                return message


def execute_plainly(manager: NotebookExecutionManager, kernel_name: str, **options: Any) -> None:
    """Execute a notebook that papermill was asked for (``papermill --engine ductaflow-fork``).

    :raises DuctaflowError: for a kernel that is not this Python.
    """
    if kernel_name not in NATIVE_KERNELS:
        raise DuctaflowError(f"the notebook asks for the kernel {kernel_name!r}; a fork is this Python only")
    private, process = private_directory(), warm.current()
    try:
        output, events = private / "output.txt", private / "events.jsonl"
        output.touch()
        events.touch()
        place = os.getcwd()
        context.Context(
            project_root=place,
            run_directory=place,
            flow="",
            session=uuid.uuid4().hex,
            engine="fork",
            python_path=(),
            output=str(output),
            events=str(events),
            **process.addresses,
        ).save(private / "context.json")
        environment = {**os.environ, context.VARIABLE: str(private / "context.json")}
        fork = Fork(process, Path(place), environment, private / "kernel.log")
        try:
            fork.started()
            client = _ForkClient(
                manager, text=OutputText(output), fork=fork, kernel_name=kernel_name, **options
            )
            client.execute()
        except BaseException:
            fork.kill()
            raise
        finally:
            fork.shut_down()
            fork.wait()
            fork.close()
    finally:
        shutil.rmtree(private, ignore_errors=True)
