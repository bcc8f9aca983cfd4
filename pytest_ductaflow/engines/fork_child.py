"""A kernel without sockets of its own: made once in the warm process, run in each of its forks.

It is ipykernel's application, kernel and shell; only what carries messages is ours. In place of zmq's
channels stands one socket to the driver, and the kernel's session writes each message to it at once.
Everything up to the user's own start-up code is prepared before the fork.
"""

from __future__ import annotations

import _io
import asyncio
import atexit
import ctypes
import errno
import gc
import json
import os
import signal
import socket
import sys
import threading
import time
import types
from collections import deque
from typing import Any, Final

import ipykernel
from ipykernel.ipkernel import IPythonKernel
from ipykernel.kernelapp import IPKernelApp
from jupyter_client.session import Session
from tornado.ioloop import IOLoop
from traitlets.config import Config
from traitlets.utils.importstring import import_item

from pytest_ductaflow import context
from pytest_ductaflow.engines import kernel as in_kernel
from pytest_ductaflow.engines import threads, tracing, wire
from pytest_ductaflow.engines.pages import WrittenPages, mapped

_PR_SET_PDEATHSIG: Final = 1
#: Messages that show nothing: they go together with the next one that does, or with the cell's end.
_CAN_WAIT: Final = frozenset({"status", "execute_input", "execute_reply"})
_libc: Final = ctypes.CDLL(None)


class _Published:
    """Stands where ipykernel has the socket that it publishes on."""


class _Session(Session):
    """Sends messages over the run's socket, whole and in order, from any thread."""

    def connect(self, channel: socket.socket) -> None:
        """Send over this socket, as this process only: a process that the flow forks has no voice."""
        self._channel, self._sending = channel, threading.Lock()
        self._held = b""
        self.pid = os.getpid()

    def disconnect(self) -> None:
        """Nobody listens any more: what objects say when they go is lost, as in any kernel that stops."""
        self.pid = -1

    def send(
        self,
        stream: Any,
        msg_or_type: Any,
        content: Any = None,
        parent: Any = None,
        ident: Any = None,
        buffers: Any = None,
        track: bool = False,
        header: Any = None,
        metadata: Any = None,
    ) -> Any:
        if isinstance(msg_or_type, dict):
            message = msg_or_type
            buffers = buffers or message.get("buffers", [])
        else:
            message = self.msg(msg_or_type, content=content, parent=parent, header=header, metadata=metadata)
        if os.getpid() != self.pid:
            return None
        body = {key: value for key, value in message.items() if key != "buffers"}
        pieces = wire.pack([self.pack(body), *(memoryview(part).cast("B") for part in buffers or ())])
        with self._sending:
            if message["msg_type"] in _CAN_WAIT and message["content"].get("execution_state") != "idle":
                self._held += b"".join(pieces)
                return message
            if not buffers:  # in one go: each would wake the driver
                pieces = [b"".join(pieces)]
            pieces[0] = self._held + pieces[0]
            self._held = b""
            try:
                for piece in pieces:
                    self._channel.sendall(piece)
            except ConnectionError:
                self.disconnect()
        return message

    def feed_identities(self, msg_list: Any, copy: bool = True) -> Any:
        return [], msg_list  # a message arrives as it is

    def deserialize(self, msg_list: Any, content: bool = True, copy: bool = True) -> Any:
        return msg_list


class _ShellChannel:
    """Stands where ipykernel has the thread that receives requests, as far as its kernel looks there."""

    parent_thread = threading.main_thread()  # that executes cells

    def __bool__(self) -> bool:
        return False


class _Broken(BaseException):
    """The kernel itself failed, not the cell. ipykernel would log it, and the driver wait for ever."""


class _Kernel(IPythonKernel):
    _execute_sleep = 0.0  # ipykernel waits for its sender thread; there is none
    _supports_kernel_subshells = False

    async def execute_request(self, stream: Any, ident: Any, parent: Any) -> None:
        try:
            await super().execute_request(stream, ident, parent)
        except Exception as error:
            raise _Broken from error


class _Application(IPKernelApp):
    """ipykernel's application without its sockets, threads and files."""

    default_extensions: Any  # of IPython's base class, which comes without types
    extensions: Any
    extra_extensions: Any

    def init_connection_file(self) -> None: ...
    def init_poller(self) -> None: ...
    def init_heartbeat(self) -> None: ...
    def write_connection_file(self, **_: Any) -> None: ...
    def log_connection_info(self) -> None: ...
    def close(self) -> None: ...

    def init_sockets(self) -> None:
        self.session = _Session(parent=self)
        self.iopub_socket = _Published()

    def init_io(self) -> None:
        self.displayhook = import_item(str(self.displayhook_class))(self.session, self.iopub_socket)
        sys.displayhook = self.displayhook
        self.patch_io()

    def init_kernel(self) -> None:
        self.kernel = _Kernel.instance(
            parent=self,
            session=self.session,
            iopub_socket=self.iopub_socket,
            shell_channel_thread=_ShellChannel(),
            log=self.log,
            profile_dir=self.profile_dir,
            user_ns=self.user_ns,
        )
        self.displayhook.get_execution_count = lambda: self.kernel.execution_count

    def init_extensions(self) -> None:
        """Before the fork only IPython's own: others may run any code."""
        extensions, self.extensions, extra, self.extra_extensions = (
            self.extensions,
            [],
            self.extra_extensions,
            [],
        )
        super().init_extensions()
        self.default_extensions, self.extensions, self.extra_extensions = [], extensions, extra

    def init_code(self) -> None:
        """After the fork, like the user's extensions."""

    def start_up(self) -> None:
        """The user's extensions and start-up files, if there are any."""
        own = (self.extensions, self.extra_extensions, self.exec_lines, self.exec_files, self.code_to_run)
        if not any((*own, self.file_to_run, self.module_to_run, *self._startup_files())):
            self.shell.user_ns_hidden.update(self.shell.user_ns)
            return
        super().init_extensions()
        self._run_startup_files()
        self._run_exec_lines()
        self._run_exec_files()
        if self.hide_initial_ns:
            self.shell.user_ns_hidden.update(self.shell.user_ns)
        self._run_cmd_line_code()
        self._run_module()

    def _startup_files(self) -> list[str]:
        """What stands in the profile's start-up directory when the warm process begins."""
        if self._found is None:
            directory = self.profile_dir.startup_dir
            self._found = [name for name in os.listdir(directory) if name.endswith((".py", ".ipy"))]
        return self._found

    _found: list[str] | None = None


#: Libraries that any kernel loads: not the flow's choice.
_known_libraries: set[str] = set()
#: Environment variables that importing and preparing a kernel sets, as it does in any kernel.
_set_by_the_kernel: dict[str, str] = {}


def make_application(initial: dict[str, str]) -> Any:
    """The kernel, ready to run in forks of this process.

    :param initial: the environment in which this process began.
    """
    config = Config()
    config.HistoryManager.enabled = False  # no thread that writes a database; nbclient's kernels have none
    config.IPKernelApp.connection_file = "kernel.json"  # libraries know a kernel by this section
    application = _Application.instance(config=config)
    application.initialize([])
    in_kernel.ignore_warnings_about_the_kernel()
    loop = asyncio.new_event_loop()
    _warm_up(application, loop)
    loop.close()
    application.shell._sys_modules_keys = set(sys.modules)
    application._startup_files()
    tracing.installed()
    _known_libraries.update(tracing.Loaded().top_level())
    _set_by_the_kernel.update({k: v for k, v in os.environ.items() if initial.get(k) != v})
    sys.argv = _arguments("")  # what is imported now looks at it, too
    os.environ["JPY_PARENT_PID"] = str(os.getppid())
    return application


def wait_for_run(application: Any, orders: socket.socket, loaded: tracing.Loaded, pages: WrittenPages) -> int:
    """In a fresh fork: wait for a run, be its kernel until the driver says that was all.

    :param orders: says what to run; brings the socket to the driver.
    :param loaded: the modules that are.
    :param pages: of memory, that runs write to.
    :returns: the exit status.
    """
    os.setsid()
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    pages.copy()
    gc.enable()
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    _warm_up(application, loop)
    with orders:
        received, descriptors, *_ = socket.recv_fds(orders, 1 << 16, 1)
        while received and not received.endswith(b"\n"):
            received += orders.recv(1 << 16)
    if not received:
        return 0  # nobody needs us any more
    request, channel = json.loads(received), socket.socket(fileno=descriptors[0])
    channel.set_inheritable(False)
    threading.main_thread()._set_native_id()  # type: ignore[attr-defined] # Python forgets that after a fork
    shared = mapped() if request["look"] else []
    log = _become(request, application.shell)
    run_context = context.current()
    assert run_context is not None
    application.session.connect(channel)
    finished = in_kernel.set_up(application.shell, run_context, log, loaded, frozenset(_known_libraries))
    application.start_up()
    run_context.report("ready", pid=os.getpid())
    loop.run_until_complete(_serve(application.kernel, channel))
    _leave(application.shell, loaded)
    finished()
    if request["look"]:
        pages.look(shared)
    return 0


def _warm_up(application: Any, loop: asyncio.AbstractEventLoop) -> None:
    """Execute a cell that does nothing, while there is time.

    The first time, code that is loaded on demand is loaded; in a fork, the memory that any cell touches
    becomes its own.
    """
    ours, theirs = socket.socketpair()
    with ours, theirs:
        application.session.connect(theirs)
        request = {"code": "pass", "store_history": False}
        for kind, content in (("execute_request", request), ("shutdown_request", {})):
            for piece in wire.pack([application.session.pack(application.session.msg(kind, content))]):
                ours.sendall(piece)
        loop.run_until_complete(_serve(application.kernel, theirs))


def _become(request: dict[str, Any], shell: Any) -> int:
    """Take on what a new process would have; give the descriptor of the kernel's own log."""
    log = os.open(request["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    for descriptor in (1, 2):
        os.dup2(log, descriptor)
    os.chdir(request["directory"])
    shell.starting_dir = request["directory"]
    shell.user_ns["_dh"][:] = [shell.starting_dir]
    os.umask(request["umask"])
    parent = {"JPY_PARENT_PID": str(os.getppid())}  # some know by it that they are in a kernel
    environment = {**_set_by_the_kernel, **request["environment"], **parent}
    zone = os.environ.get("TZ")
    for name in os.environ.keys() - environment.keys():
        del os.environ[name]
    os.environ.update({k: v for k, v in environment.items() if os.environ.get(k) != v})
    shell.init_environment()  # what a kernel sets: a pager, colours
    if os.environ.get("TZ") != zone:
        time.tzset()
    sys.argv = _arguments(os.path.dirname(request["log"]))
    # Other libraries draw from the system's entropy at each use, or (random) reseed themselves.
    if "numpy.random" in sys.modules:
        sys.modules["numpy.random"].seed()
    if "multiprocessing.process" in sys.modules:
        sys.modules["multiprocessing.process"].current_process().authkey = os.urandom(32)
    threads.start()
    return log


def _arguments(directory: str) -> list[str]:
    """A kernel's command line."""
    launcher = os.path.join(os.path.dirname(os.path.dirname(ipykernel.__file__)), "ipykernel_launcher.py")
    return [launcher, "-f", os.path.join(directory, "kernel.json")]


async def _serve(kernel: Any, channel: socket.socket) -> None:
    """Handle requests as ipykernel would, one after the other, the event loop running all the time."""
    loop = asyncio.get_running_loop()
    kernel.io_loop = IOLoop.current()
    unpacker, waiting, arrived = wire.Unpacker(), deque[list[bytes]](), asyncio.Event()
    gone = False

    def receive() -> None:
        """Take what arrived at once.

        Were it still to be read when a cell begins, the loop would have that to do after the cell; a loop
        that runs within the cell (nest_asyncio) would do it, and leave the outer one at a loss.
        """
        nonlocal gone
        try:
            data = channel.recv(1 << 20, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            gone = True
            loop.remove_reader(channel)
        waiting.extend(unpacker.feed(data))
        arrived.set()

    loop.add_reader(channel, receive)
    while True:
        while not waiting:
            if gone:
                raise ConnectionResetError("the driver is gone")
            arrived.clear()
            await arrived.wait()
        body, *buffers = waiting.popleft()
        message = kernel.session.unpack(body)
        message["buffers"] = [memoryview(part) for part in buffers]
        if message["header"]["msg_type"] == "shutdown_request":
            loop.remove_reader(channel)
            kernel.session.disconnect()
            return
        await kernel.dispatch_shell(message)


def _leave(shell: Any, loaded: tracing.Loaded) -> None:
    """End as Python does, but for taking all its modules apart: that would copy most of the shared memory.

    :param loaded: what was loaded before the run.
    """
    threading._shutdown()  # type: ignore[attr-defined] # waits for threads, as at any exit
    atexit._run_exitfuncs()
    # What the flow and its modules still hold goes now, so that files are written and finalizers run.
    for name in ("last_exc", "last_type", "last_value", "last_traceback"):
        sys.__dict__.pop(name, None)
    shell._last_traceback = None
    shell.displayhook.exec_result = None
    shell.user_ns.clear()
    gc.collect()
    for module in loaded.later().values():
        if issubclass(type(module), types.ModuleType):
            content = object.__getattribute__(module, "__dict__")  # a lazy one is not to be loaded now
            file = content.get("__file__")
            if type(file) is str and not file.startswith(tracing.installed()):
                content.update(dict.fromkeys(content.keys() - {"__builtins__", "__file__"}))
    gc.collect()
    for thing in gc.get_objects():
        # Its type is asked, not the object, as isinstance does: that fails with a proxy of what is gone,
        # and evaluates a lazy one. And not io.IOBase, whose check is slow.
        if issubclass(type(thing), _io._IOBase):
            _flush(thing)
    tracker = sys.modules.get("multiprocessing.resource_tracker")
    if tracker is not None and hasattr(tracker._resource_tracker, "_stop"):
        tracker._resource_tracker._stop()  # has shared memory that nobody unlinked removed


def _flush(file: Any) -> None:
    try:
        if not file.closed and file.writable():
            file.flush()
    except Exception as error:  # as at any exit: a pipe whose other end is gone, a class of the user's
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO):
            raise
