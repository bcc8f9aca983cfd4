"""A fork of the warm process for each run: no interpreter, kernel or import to wait for, and no port.

The driver hands the warm process one end of a socket pair; the fork speaks Jupyter's messages over it,
and to nbclient it looks like any kernel. The request's own connection tells the process id and, when all
that the run started is gone, how it ended.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import socket
import time
import uuid
from collections import deque
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
from pytest_ductaflow.engines import warm, wire
from pytest_ductaflow.engines.base import Task
from pytest_ductaflow.engines.driver import SAVE_INTERVAL, STOP_TIMEOUT, Client, NotebookRun, TextClient
from pytest_ductaflow.engines.processes import kill_tree, private_directory
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
        environment = self.prepare_kernel(warm_process=str(process.directory))
        log = self.private / "kernel.log"
        self._fork = Fork(process, self.task.directory, environment, log, flow=str(self.task.flow.path))

    def connect(self, manager: NotebookExecutionManager, kernel_name: str) -> None:
        """Execute the notebook in the fork."""
        assert self._fork is not None
        self._fork.started()
        if self.stopped:  # in the meantime
            self._fork.kill()
        try:
            _RunClient(manager, run=self, fork=self._fork, kernel_name=kernel_name).execute()
        finally:
            self._fork.shut_down()

    def wait_for_exit(self) -> None:
        """Come back when nothing of the fork is left."""
        if self._fork is not None:
            self._fork.close()
            self.exit_status, self.overdue = self._fork.exit_status, self._fork.overdue

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
        self.exit_status: int | None = None
        self.overdue = False  # it was asked to end by itself, and had to be killed
        self.language: dict[str, Any] = {}
        self.session = Session(check_pid=False)  # builds messages; nothing is sent by it
        self.shell_channel = self  # where nbclient's widgets send
        self._process = process
        self._pid: int | None = None
        self._said = b""
        self._arrived: deque[dict[str, Any]] = deque()
        self._unpacker = wire.Unpacker()
        self._channel, theirs = socket.socketpair()
        message = {
            "do": "run",
            "directory": str(directory),
            "environment": environment,
            "umask": _umask(),
            "log": str(log),
            "flow": flow,
        }
        try:
            with theirs:
                self._control = process.request(message, [theirs.fileno()])
        except BaseException:
            self._channel.close()
            raise

    def started(self) -> None:
        """Wait until it exists.

        :raises DuctaflowError: if it cannot be made.
        """
        self._control.settimeout(_START_TIMEOUT)
        try:
            said = self._next("pid")
        except TimeoutError:
            raise DuctaflowError(
                f"the warm process made no fork within {_START_TIMEOUT:g} s: {self._process.log()}"
            ) from None
        if said is None:
            raise DuctaflowError(f"the warm process ended: {self._process.log()}")
        self._pid, self.language = said["pid"], said["language"]

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
            readable, writable, _ = select.select([self._channel], [self._channel], [])
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
            if not select.select([self._channel], [], [], timeout)[0]:
                return None
            if not self._receive():
                raise DeadKernelError("the kernel died")
        return self._arrived.popleft()

    def kill(self) -> None:
        """Kill it with all it started."""
        if self._pid is None:
            with contextlib.suppress(OSError):
                self._control.shutdown(socket.SHUT_RDWR)  # the warm process takes it for our end
        elif self.exit_status is None:
            kill_tree(self._pid)

    def shut_down(self) -> None:
        """Ask it to end by itself."""
        self.send(self.session.msg("shutdown_request"))

    def close(self) -> None:
        """Wait until nothing of it is left; kill it if it does not end by itself."""
        if self._pid is None:
            self.shut_down()
        for limit in (STOP_TIMEOUT, _KILL_TIMEOUT):
            try:
                self._control.settimeout(limit)
                said = self._next("status")
                self.exit_status = said["status"] if said else None
                break
            except TimeoutError:
                self.overdue = True
                self.kill()
        self.release()

    def release(self) -> None:
        """Close the connections; a fork that still runs is killed by the warm process."""
        self._control.close()
        self._channel.close()

    def _receive(self) -> bool:
        """Take what has arrived; whether there will be more."""
        try:
            data = self._channel.recv(1 << 20)
        except ConnectionError:
            return False
        for body, *buffers in self._unpacker.feed(data):
            message = self.session.unpack(body)
            message["buffers"] = buffers
            message["header"] = extract_dates(message["header"])
            self._arrived.append(message)
        return bool(data)

    def _next(self, key: str) -> dict[str, Any] | None:
        """The next message of the warm process that has this key; ``None`` if the process is gone."""
        while True:
            line, end, rest = self._said.partition(b"\n")
            if end:
                self._said = rest
                message: dict[str, Any] = json.loads(line)
                if key in message:
                    return message
                continue
            try:
                data = self._control.recv(1 << 16)
            except ConnectionError:
                return None
            if not data:
                return None
            self._said += data


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
            warm_process=str(process.directory),
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
            fork.close()
    finally:
        shutil.rmtree(private, ignore_errors=True)


def _umask() -> int:
    """This process's umask. Asking for it by setting it would hit other threads."""
    for line in Path("/proc/self/status").read_text("ascii").splitlines():
        if line.startswith("Umask:"):
            return int(line.split()[1], 8)
    raise DuctaflowError("this system does not say the process's umask")
