"""A fork of the warm process for each run: no interpreter, kernel or import to wait for, and no port.

The driver hands the warm process one end of a socket pair; the fork speaks Jupyter's messages over it,
and to nbclient it looks like any kernel. The request's own connection tells the process id and, when all
that the run started is gone, how it ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import socket
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import Empty
from typing import Any, Final

from jupyter_client.jsonutil import extract_dates
from jupyter_client.session import Session
from jupyter_core.utils import run_sync
from nbclient.exceptions import DeadKernelError
from papermill.engines import NotebookExecutionManager

from pytest_ductaflow import context
from pytest_ductaflow.capture import OutputText
from pytest_ductaflow.engines import warm, wire
from pytest_ductaflow.engines.base import Task
from pytest_ductaflow.engines.driver import STOP_TIMEOUT, Client, NotebookRun, TextClient
from pytest_ductaflow.engines.processes import kill_tree, private_directory
from pytest_ductaflow.errors import DuctaflowError
from pytest_ductaflow.flow import NATIVE_KERNELS

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
        self._fork = Fork(process, self.task.directory, environment, self.private / "kernel.log")

    def connect(self, manager: NotebookExecutionManager, kernel_name: str) -> None:
        """Execute the notebook in the fork."""
        assert self._fork is not None
        try:
            self._fork.started()
            if self.stopped:  # in the meantime
                self._fork.kill()
            _RunClient(manager, run=self, fork=self._fork, kernel_name=kernel_name).execute()
        finally:
            self._fork.close()
            self.exit_status = self._fork.exit_status

    def stop(self) -> None:
        """Kill the fork and everything it started."""
        self.stopped = True
        if self._fork is not None:
            self._fork.kill()

    def tidy(self) -> None:
        """Let go a fork that papermill did not come to use."""
        if self._fork is not None:
            self._fork.release()


class Fork:
    """A kernel in a fork. To nbclient it is kernel manager and kernel client in one.

    :param environment: of the new process; it names the run's context.
    :param log: what the process prints that is not the run's.
    :raises DuctaflowError: if the warm process cannot be reached.
    """

    def __init__(
        self, process: warm.WarmProcess, directory: Path, environment: dict[str, str], log: Path
    ) -> None:
        self.exit_status: int | None = None
        self.session = Session(check_pid=False)  # builds messages; nothing is sent by it
        self.iopub_channel, self.shell_channel = _Channel(self), _Channel(self)
        self._said = b""
        self._channel, theirs = socket.socketpair()
        message = {
            "do": "run",
            "directory": str(directory),
            "environment": environment,
            "umask": _umask(),
            "log": str(log),
        }
        try:
            with theirs:
                self._control = process.request(message, [theirs.fileno()])
        except BaseException:
            self._channel.close()
            raise
        self._process, self._pid = process, None

    def started(self) -> None:
        """Wait until it exists.

        :raises DuctaflowError: if it cannot be made.
        """
        self._pid = self._next("pid")
        if self._pid is None:
            raise DuctaflowError(f"the warm process ended: {self._process.log()}")

    # --- as a kernel client ---

    async def open(self) -> None:
        """Listen to the kernel, in the event loop that runs now."""
        reader, self._writer = await asyncio.open_connection(sock=self._channel, limit=1 << 22)
        self._listening = asyncio.ensure_future(self._listen(reader))

    def execute(self, code: str, store_history: bool = True, stop_on_error: bool = True) -> str:
        """Ask for the execution of a cell; give the request's id."""
        content = {
            "code": code,
            "silent": False,
            "store_history": store_history,
            "user_expressions": {},
            "allow_stdin": False,
            "stop_on_error": stop_on_error,
        }
        return self._request("execute_request", content)

    def kernel_info(self) -> str:
        """Ask what the kernel is; give the request's id."""
        return self._request("kernel_info_request", {})

    def send(self, message: dict[str, Any]) -> None:
        """Send a message; what does not go at once goes while the event loop runs."""
        body = {key: value for key, value in message.items() if key != "buffers"}
        buffers = [memoryview(part).cast("B") for part in message.get("buffers") or ()]
        for piece in wire.pack([self.session.pack(body), *buffers]):
            self._writer.write(piece)

    # --- as a kernel manager ---

    async def is_alive(self) -> bool:
        """Its end is noticed at once, as the end of its messages."""
        return True

    def kill(self) -> None:
        """Kill it with all it started."""
        if self._pid is not None and self.exit_status is None:
            kill_tree(self._pid)

    async def shut_down(self) -> None:
        """Ask it to end by itself, and listen no more."""
        self._request("shutdown_request", {})
        self._listening.cancel()
        self._writer.close()
        with contextlib.suppress(asyncio.CancelledError, ConnectionError):
            await self._listening
        with contextlib.suppress(ConnectionError):
            await self._writer.wait_closed()

    def close(self) -> None:
        """Come back when nothing of it is left: it has been asked to end, or else is killed."""
        for limit in (STOP_TIMEOUT, _KILL_TIMEOUT):
            try:
                self._control.settimeout(limit)
                self.exit_status = self._next("status")
                break
            except TimeoutError:
                self.kill()
        self.release()

    # --- within ---

    def _request(self, kind: str, content: dict[str, Any]) -> str:
        message = self.session.msg(kind, content)
        self.send(message)
        return str(message["header"]["msg_id"])

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        unpacker = wire.Unpacker()
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(1 << 20):
                for body, *buffers in unpacker.feed(data):
                    message = self.session.unpack(body)
                    message["buffers"] = buffers
                    for part in ("header", "parent_header"):
                        message[part] = extract_dates(message[part])
                    published = message.pop("channel") == "iopub"
                    (self.iopub_channel if published else self.shell_channel).messages.put_nowait(message)
        self.shell_channel.messages.put_nowait(None)  # whoever waits for a reply waits in vain

    def _next(self, key: str) -> int | None:
        """The next number of this name that the warm process says; ``None`` if it is gone."""
        while True:
            *lines, self._said = self._said.split(b"\n")
            for line in lines:
                message = json.loads(line)
                if key in message:
                    return int(message[key])
            try:
                data = self._control.recv(1 << 16)
            except ConnectionError:
                return None
            if not data:
                return None
            self._said += data

    def release(self) -> None:
        """Close the connections; a fork that still runs is killed by the warm process."""
        self._control.close()
        self._channel.close()


class _Channel:
    """One of a kernel client's channels, as far as nbclient uses it."""

    def __init__(self, fork: Fork) -> None:
        self._fork = fork
        self.messages: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()

    async def get_msg(self, timeout: float | None = None) -> dict[str, Any]:
        """The next message. :raises Empty: after ``timeout`` seconds. :raises DeadKernelError: if it died."""
        try:
            message = await asyncio.wait_for(self.messages.get(), timeout)
        except asyncio.TimeoutError:
            raise Empty from None
        if message is None:
            raise DeadKernelError("the kernel died")
        return message

    def send(self, message: dict[str, Any]) -> None:
        """Send a message to the kernel."""
        self._fork.send(message)


class _ForkedKernel(TextClient):
    """A client whose kernel is a fork."""

    _fork: Fork

    async def _async_poll_kernel_alive(self) -> None:
        """The channels say at once when it died."""

    @contextmanager
    def setup_kernel(self, **_: Any) -> Iterator[None]:
        self.km = self.kc = self._fork
        _open(self._fork)
        try:
            yield
        finally:
            self.km = self.kc = None
            _shut_down(self._fork)


_open = run_sync(Fork.open)
_shut_down = run_sync(Fork.shut_down)


class _RunClient(_ForkedKernel, Client):
    def __init__(self, manager: NotebookExecutionManager, *, fork: Fork, **options: Any) -> None:
        super().__init__(manager, **options)
        self._fork = fork


class _PlainClient(_ForkedKernel):
    def __init__(self, manager: NotebookExecutionManager, *, fork: Fork, **options: Any) -> None:
        super().__init__(manager, **options)
        self._fork = fork


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
            client = _PlainClient(
                manager, text=OutputText(output), fork=fork, kernel_name=kernel_name, **options
            )
            client.execute()
        except BaseException:
            fork.kill()
            raise
        finally:
            fork.close()
    finally:
        shutil.rmtree(private, ignore_errors=True)


def _umask() -> int:
    """This process's umask. Asking for it by setting it would hit other threads."""
    for line in Path("/proc/self/status").read_text("ascii").splitlines():
        if line.startswith("Umask:"):
            return int(line.split()[1], 8)
    raise DuctaflowError("this system does not say the process's umask")
