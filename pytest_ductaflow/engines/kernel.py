"""The part of every engine that runs in the kernel's process. Self-contained: standard library, IPython.

Whichever way the process came to be, :func:`set_up`

- points descriptors 1 and 2, and with them ``sys.stdout`` and ``sys.stderr``, at the run's output file:
  what is printed is on disk at once and in order, whoever prints it, and depends on no message;
- has each message to the driver say how far that file had grown, so that the notebook gets the same
  text at the same place (see :class:`pytest_ductaflow.capture.OutputText`);
- compiles cells under the flow's real file name and line numbers, so tracebacks, ``inspect``,
  warnings, debuggers and coverage speak of ``flows/x.py:42``;
- reports each exception that a cell raises or shows, with its frames, and at exit the process's own
  "finished".

For papermill's kernels it is an IPython extension, with :func:`open_stream` in place of ipykernel's
stream class; a forked kernel calls :func:`set_up` itself.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import functools
import io
import linecache
import logging
import os
import shutil
import signal
import sys
import threading
import warnings
import weakref
from collections import deque
from collections.abc import Callable
from types import FrameType
from typing import Any, Final

from pytest_ductaflow import context
from pytest_ductaflow.engines import measuring, tracing
from pytest_ductaflow.engines.exceptions import describe_exception

#: Where a message's metadata says how far the output file had grown.
OUTPUT: Final = "ductaflow_output"
#: Audit events of what starts another process: before, an unfinished line of ours is written.
_STARTS_OTHERS: Final = frozenset({"subprocess.Popen", "os.system", "os.posix_spawn", "os.exec"})
#: Of more stretches of stderr between two messages, the notebook shows the rest as stdout.
_MOST_MARKS: Final = 1000
_LINE_BUFFERED: Final = 1  # C's _IOLBF
#: Writes what C code printed and the C library still holds.
_flush_c: Final = (ctypes.CDLL(None) if os.name == "posix" else ctypes.CDLL("ucrtbase")).fflush


class Output:
    """The run's output file behind this process's descriptors 1 and 2."""

    def __init__(self, path: str) -> None:
        self._path = path
        # Two opened files, not one twice: the position of each is the end of its own last write.
        append = os.O_WRONLY | os.O_APPEND | getattr(os, "O_BINARY", 0)
        self._descriptors = os.open(path, append), os.open(path, append)
        self._marks: list[list[int]] = []

    def redirect(self) -> None:
        """From here on, what this process and its children print goes to the file."""
        for target, descriptor in zip((1, 2), self._descriptors, strict=True):
            os.dup2(descriptor, target, inheritable=True)
        sys.stdout, sys.stderr = open_stream(name="stdout"), open_stream(name="stderr", written=self._mark)
        sys.__stdout__ = sys.stdout  # type: ignore[misc] # what a notebook's own is, is for us to say
        sys.__stderr__ = sys.stderr  # type: ignore[misc]
        if sys.platform == "linux":  # C's own output appears line by line although it goes to a file
            libc = ctypes.CDLL(None)
            libc.setvbuf(ctypes.c_void_p.in_dll(libc, "stdout"), None, _LINE_BUFFERED, ctypes.c_size_t(0))
        os.register_at_fork(before=sys.stdout.flush)
        sys.addaudithook(_flush_before_others_print)

    def progress(self) -> list[Any]:
        """The file's size, and the stretches of it that were written to stderr since the last call."""
        marks, self._marks = self._marks, []
        return [os.fstat(self._descriptors[0]).st_size, marks]

    def _mark(self, count: int) -> None:
        with contextlib.suppress(OSError):  # somebody put something else behind descriptor 2
            end = os.lseek(2, 0, os.SEEK_CUR)
            if self._marks and self._marks[-1][1] == end - count:
                self._marks[-1][1] = end
            elif len(self._marks) < _MOST_MARKS:
                self._marks.append([end - count, end])


def _flush_before_others_print(event: str, _: Any) -> None:
    if event in _STARTS_OTHERS:
        sys.stdout.flush()


def open_stream(*_: Any, name: str = "", written: Any = None, **__: Any) -> io.TextIOWrapper:
    """A text stream on descriptor 1 or 2 that writes each line at once, as Python's own on a terminal.

    It is C from ``print`` to the system call. What UTF-8 cannot encode appears as a backslash escape.
    Takes the arguments of ipykernel's stream class: session, thread, name.
    """
    if (name or _[2]) == "stdout":
        raw, options = io.FileIO(1, "w", closefd=False), {"line_buffering": True}
    else:
        raw, options = _MarkedStream(2, "w", closefd=False), {"write_through": True}
        raw.written = written
    raw.name = f"<{name or _[2]}>"
    encoded: Any = raw  # a raw file serves as well as a buffered one
    return _TextStream(encoded, encoding="utf-8", errors="backslashreplace", newline="\n", **options)


class _MarkedStream(io.FileIO):
    """Says how much it wrote."""

    written: Any = None

    def write(self, data: Any) -> int:
        if self.written is None:
            return super().write(data)
        sys.stdout.flush()
        count = super().write(data)
        self.written(count)
        return count


class _TextStream(io.TextIOWrapper):
    def close(self) -> None:
        """A script could close its output; a notebook goes on."""
        self.flush()


def load_ipython_extension(shell: Any) -> None:
    """Set up a fresh kernel for the run that its environment names."""
    run = context.current()
    if run is None:
        return
    ignore_warnings_about_the_kernel()
    loaded = tracing.Loaded()
    atexit.register(set_up(shell, run, os.dup(2), loaded, loaded.top_level()))
    if run.lifeline is not None:
        os.set_inheritable(run.lifeline, False)
        threading.Thread(target=_watch, args=(run,), name="ductaflow-lifeline", daemon=True).start()
    run.report("ready", pid=os.getpid())


def set_up(
    shell: Any, run: context.Context, log: int, loaded: tracing.Loaded, libraries: frozenset[str]
) -> Callable[[], None]:
    """Make this process that of a run.

    :param log: descriptor for what is not the flow's: the kernel's own messages, and the last words
        after the flow's exit handlers.
    :param loaded: what is loaded before the run.
    :param libraries: top-level modules that the kernel itself loads.
    :returns: to be called when the last of the flow's code has run.
    """
    _keep_kernel_log_apart(log)
    output = Output(run.output)
    output.redirect()
    sys.path[1:1] = [path for path in run.python_path if path not in sys.path]
    _mark_messages(shell.kernel, output)
    _pack_lone_surrogates(shell.kernel.session)
    _Cells(shell, run)
    shell.ask_exit = _stop_early
    shell._tee = _no_copy
    # The driver ends what the flow left running; ipykernel would wait for it, zombies included.
    shell.kernel._process_children = list
    measurement = measuring.start(run.measuring)
    trace = None
    if run.trace is not None:
        trace = tracing.Trace(run.trace, run.project_root)
        trace.watch()
    return functools.partial(_finished, os.getpid(), run, log, measurement, trace, loaded, libraries)


def ignore_warnings_about_the_kernel() -> None:
    """What Python warns about in the kernel's own code is not the flow's output."""
    warnings.filterwarnings("ignore", module=r"(ipykernel|jupyter_client|tornado|traitlets|zmq)(\.|$)")


def _mark_messages(kernel: Any, output: Output) -> None:
    session, send, published = kernel.session, kernel.session.send, kernel.iopub_socket

    def send_marked(
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
        if stream is published:
            metadata = {**(metadata or {}), OUTPUT: output.progress()}
            if isinstance(msg_or_type, dict):
                msg_or_type["metadata"].update(metadata)
        return send(stream, msg_or_type, content, parent, ident, buffers, track, header, metadata)

    session.send = send_marked


def _pack_lone_surrogates(session: Any) -> None:
    """Half a surrogate pair has no UTF-8: a message with one could not be sent. It becomes an escape."""
    pack = session.pack

    def pack_all(message: Any) -> Any:
        try:
            return pack(message)
        except UnicodeEncodeError:
            return pack(_without_lone_surrogates(message))

    session.pack = pack_all


def _without_lone_surrogates(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, dict):
        return {_without_lone_surrogates(key): _without_lone_surrogates(item) for key, item in value.items()}
    return [_without_lone_surrogates(item) for item in value] if isinstance(value, (list, tuple)) else value


class _Cells:
    """Knows which cell of the flow runs; compiles it in place; reports the errors that it raises or shows."""

    def __init__(self, shell: Any, run: context.Context) -> None:
        self._context = run
        self._waiting = deque(run.cells)
        self._cell: dict[str, Any] = {}
        self._source: str | None = None  # of what is compiled next, magics already transformed
        self._line = 0  # of the flow, where that begins
        self._compiler = shell.compile
        self._cache, self._parse = self._compiler.cache, self._compiler.ast_parse
        self._compiler.cache, self._compiler.ast_parse = self._cache_cell, self._parse_cell
        if run.flow:
            with open(run.flow, encoding="utf-8") as file:
                lines = file.readlines()  # Python's line ends, which are not those of splitlines
            linecache.cache[run.flow] = (sum(map(len, lines)), None, lines, run.flow)
        self._exception_of, self._show = shell._get_exc_info, shell.showtraceback
        shell.showtraceback = self._show_traceback
        shell.events.register("post_run_cell", self._ended)

    def _cache_cell(self, transformed: str, number: int = 0, raw_code: str | None = None) -> str:
        line = self._line_within(raw_code) if self._is_running() else self._next_line(raw_code)
        if line is None:
            self._source = None
            return str(self._cache(transformed, number, raw_code))
        self._source, self._line = transformed, line
        return self._context.flow

    def _is_running(self) -> bool:
        """Whether a cell of the flow is executing another one: it is on the stack."""
        frame: FrameType | None = sys._getframe()
        while frame is not None and frame.f_code.co_filename != self._context.flow:
            frame = frame.f_back
        return frame is not None

    def _next_line(self, code: str | None) -> int | None:
        """Where the cell begins that is to be executed now; the injected parameters stand in no file."""
        for position, cell in enumerate(self._waiting):
            if cell["source"] == code:
                for _ in range(position + 1):
                    self._waiting.popleft()
                self._cell = cell
                line: int | None = cell["line"]
                return line
        return None

    def _line_within(self, code: str | None) -> int | None:
        """Where code begins that is all of the running cell but a magic on top, such as ``%%capture``."""
        source, code = self._cell.get("source", "").rstrip(), (code or "").rstrip()
        magic, _, below = source.partition("\n")
        if self._cell.get("line") is None or not magic.startswith("%%") or below != code:
            return None
        return int(self._cell["line"]) + 1

    def _parse_cell(self, source: str, filename: str = "<unknown>", symbol: str = "exec") -> Any:
        if source == self._source and filename == self._context.flow:
            source = "\n" * (self._line - 1) + source
        return self._parse(source, filename, symbol)

    def _ended(self, result: Any) -> None:
        """A cell ended, or one that was executed within another (``%%capture``)."""
        ignore_warnings_about_the_kernel()  # still, if the flow makes errors of all warnings
        for error in (result.error_before_exec, result.error_in_exec):
            if error is not None:
                self._report("error", error)

    def _show_traceback(self, exc_tuple: Any = None, *options: Any, **more: Any) -> Any:
        """Of a cell's own error, and of one that did not make it fail: of ``%run``, of a ``_repr_html_``."""
        with contextlib.suppress(Exception):  # there is none; showing it must go on in any case
            self._report("shown", self._exception_of(exc_tuple)[1])
        return self._show(exc_tuple, *options, **more)

    def _report(self, event: str, error: BaseException) -> None:
        expected = self._cell.get("may_fail", False) and not isinstance(error, SystemExit)
        if not expected:
            self._context.report(event, **describe_exception(error, self._context, sys._getframe()))


def _keep_kernel_log_apart(log: int) -> None:
    """What ipykernel logs about itself goes where its start-up messages go, not among the flow's lines."""
    from ipykernel.kernelapp import IPKernelApp

    stream = open(log, "w", encoding="utf-8", errors="backslashreplace")  # noqa: SIM115 # for its life
    for handler in IPKernelApp.instance().log.handlers:
        if isinstance(handler, logging.StreamHandler):
            handler.setStream(stream)


def _no_copy(channel: str) -> contextlib.nullcontext[None]:
    """IPython keeps a copy of all text in memory for ``%notebook``; it is in a file already."""
    return contextlib.nullcontext()


def _stop_early() -> None:
    """``exit()`` and ``quit()`` stop a script; ipykernel would go on with the next cell."""
    raise SystemExit


def _finished(
    pid: int,
    run: context.Context,
    log: int,
    measurement: Any,
    trace: tracing.Trace | None,
    loaded: tracing.Loaded,
    libraries: frozenset[str],
) -> None:
    """The flow's exit handlers have run: what is printed from here on is not the flow's."""
    if os.getpid() == pid:
        weakref.finalize._exitfunc()  # type: ignore[attr-defined] # may be registered before us, so come later
        measuring.stop(measurement)
        _flush_c(None)
        if trace is not None:
            run.report("traced", **trace.summary(loaded, libraries))
        run.report("finished")
        for descriptor in (1, 2):
            if _is_open(descriptor, run.output):  # closed ones may be somebody's files by now
                os.dup2(log, descriptor)


def _is_open(descriptor: int, path: str) -> bool:
    """Whether this file stands behind a descriptor."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except OSError:
        return False


def _watch(run: context.Context) -> None:
    assert run.lifeline is not None
    while os.read(run.lifeline, 1):
        pass
    # The driver is gone and cannot tidy up any more.
    shutil.rmtree(os.path.dirname(run.events), ignore_errors=True)
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(1)
