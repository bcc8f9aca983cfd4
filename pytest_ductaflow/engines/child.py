"""The part of an engine that runs in the kernel's process. Self-contained: standard library, IPython.

Loaded as an IPython extension, with :class:`OutputStream` as ipykernel's stream class. It

- points descriptors 1 and 2 at the run's output file and writes Python's own output there too, so the
  file does not depend on messages arriving;
- compiles cells under the flow's real file name and line numbers, so tracebacks, ``inspect``,
  warnings and debuggers speak of ``flows/x.py:42``;
- reports each exception with its frames, and at exit its own "finished";
- kills its process group when the driving process is gone.
"""

from __future__ import annotations

import atexit
import linecache
import logging
import os
import shutil
import signal
import sys
import threading
import traceback
import warnings
from collections import deque
from typing import Any, Final

from ipykernel.iostream import OutStream

from pytest_ductaflow import context
from pytest_ductaflow.capture import OutputFile
from pytest_ductaflow.status import decode

#: A notebook holds this many characters of one cell's text output from its head, and as many from its tail.
HEAD: Final = 500_000
TAIL: Final = 50_000

_context = context.current()
_output = OutputFile(_context.output) if _context else None
_streams: dict[str, OutputStream] = {}


class OutputStream(OutStream):
    """ipykernel's stream with the output file behind it. Text reaches the file before anything else."""

    errors: Any = "backslashreplace"

    def __init__(self, session: Any, pub_thread: Any, name: str, **options: Any) -> None:
        options["watchfd"] = False  # the file is the channel: see pytest_ductaflow.capture
        super().__init__(session, pub_thread, name, **options)
        self._published = 0
        self._held: deque[str] = deque()
        self._held_length = 0
        self._left_out = 0
        _streams[name] = self

    def write(self, string: str) -> int:
        """Write text; what UTF-8 cannot encode appears as a backslash escape."""
        if not isinstance(string, str):
            raise TypeError(f"write() argument must be str, not {type(string).__name__}")
        if _output is None:
            return super().write(string) or len(string)
        data = string.encode("utf-8", "backslashreplace")
        foreign = _output.write(data)
        if self._is_master_process():  # what a forked child prints is picked up as foreign
            publish_foreign(foreign)
            self._publish(data.decode())
        return len(string)

    def flush(self) -> None:
        """Nothing waits here: the file has it, and the cell's end (or a moment) sends the message."""
        if self._is_master_process() and self.pub_thread is not None:
            self._schedule_flush()

    def fileno(self) -> int:
        """The descriptor that subprocesses inherit, as for a script."""
        return 1 if self.name == "stdout" else 2

    @property
    def buffer(self) -> Any:
        """A binary stream to the same place, as ``sys.stdout.buffer`` of a script."""
        return open(self.fileno(), "wb", buffering=0, closefd=False)

    def end_cell(self) -> None:
        """Send everything of the cell that just ended."""
        if self._left_out:
            name = os.path.basename(_context.output) if _context else ""
            size = f"{self._left_out:,} characters"
            super().write(f"\n[… {size} left out here; the whole output is in {name} …]\n")
        if self._held:
            super().write("".join(self._held))
        self._held.clear()
        self._published = self._held_length = self._left_out = 0
        super().flush()

    def _publish(self, text: str) -> None:
        room = HEAD - self._published
        if room > 0:
            super().write(text[:room])
            self._published += len(text)
            text = text[room:]
        if text:
            text, cut = text[-TAIL:], max(0, len(text) - TAIL)
            self._left_out += cut
            self._held.append(text)
            self._held_length += len(text)
            while self._held_length - len(self._held[0]) >= TAIL:
                gone = len(self._held.popleft())
                self._held_length -= gone
                self._left_out += gone


def publish_foreign(blocks: Any) -> None:
    """Show in the notebook what subprocesses and C code wrote to the output file."""
    for block in blocks:
        _streams["stdout"]._publish(decode(block))


def load_ipython_extension(shell: Any) -> None:
    """Set up a kernel for the run that its environment names."""
    if _context is None or _output is None:
        return
    log = os.dup(2)
    _keep_kernel_log_apart(log)
    warnings.filterwarnings("ignore", module=r"(ipykernel|jupyter_client|tornado|traitlets|zmq)(\.|$)")
    _output.redirect(1, 2)
    sys.path[1:1] = [path for path in _context.python_path if path not in sys.path]
    _Cells(shell, _context)
    shell.ask_exit = _stop_early
    # The driver ends what the flow left running; ipykernel would wait for it, zombies included.
    shell.kernel._process_children = list
    if _context.lifeline is not None:
        watcher = threading.Thread(target=_watch, args=(_context.lifeline,), name="ductaflow-lifeline")
        watcher.daemon = True
        watcher.start()
    atexit.register(_finished, os.getpid(), log)
    _context.report("ready", pid=os.getpid())


class _Cells:
    """Knows which cell of the flow runs; compiles it in place and reports what it raises."""

    def __init__(self, shell: Any, run: context.Context) -> None:
        self._context = run
        self._waiting = deque(run.cells)
        self._cell: dict[str, Any] = {}
        self._source: str | None = None  # of the cell that runs, magics already transformed
        self._compiler = shell.compile
        self._cache, self._parse = self._compiler.cache, self._compiler.ast_parse
        self._compiler.cache, self._compiler.ast_parse = self._cache_cell, self._parse_cell
        with open(run.flow, encoding="utf-8") as file:
            lines = file.read().splitlines(keepends=True)
        linecache.cache[run.flow] = (sum(map(len, lines)), None, lines, run.flow)
        shell.events.register("post_run_cell", self._ended)

    def _cache_cell(self, transformed: str, number: int = 0, raw_code: str | None = None) -> str:
        for position, cell in enumerate(self._waiting):
            if cell["source"] == raw_code:
                for _ in range(position + 1):
                    self._waiting.popleft()
                self._cell = cell
                if cell["line"] is None:  # the injected parameters stand in no file
                    break
                self._source = transformed
                return self._context.flow
        self._source = None
        return str(self._cache(transformed, number, raw_code))

    def _parse_cell(self, source: str, filename: str = "<unknown>", symbol: str = "exec") -> Any:
        if source == self._source and filename == self._context.flow:
            source = "\n" * (self._cell["line"] - 1) + source
        return self._parse(source, filename, symbol)

    def _ended(self, result: Any) -> None:
        if _output is not None:
            publish_foreign(_output.take_foreign())
        for stream in _streams.values():
            stream.end_cell()
        error = result.error_before_exec or result.error_in_exec
        if error is not None:
            self._context.report("error", **describe_exception(error, self._context))


def describe_exception(error: BaseException, run: context.Context) -> dict[str, Any]:
    """An exception as plain data: type, message, the frames from the flow on, the traceback as text."""
    root = run.project_root.rstrip(os.sep) + os.sep
    frames = traceback.extract_tb(error.__traceback__)
    in_flow = [index for index, frame in enumerate(frames) if frame.filename == run.flow]
    trace = traceback.TracebackException.from_exception(error)
    _trim(trace, run.flow)
    shown = [
        {"file": frame.filename.removeprefix(root), "line": frame.lineno, "function": frame.name}
        for frame in (frames[in_flow[0] :] if in_flow else ())
    ]
    if isinstance(error, SyntaxError) and error.filename == run.flow:
        shown = [{"file": run.flow.removeprefix(root), "line": error.lineno, "function": "<module>"}]
    place = next((f for f in reversed(shown) if f["file"] == run.flow.removeprefix(root)), {})
    try:
        message = str(error)
    except Exception as failure:  # a broken __str__ must not hide the error
        message = f"<no message: {type(failure).__name__} in __str__>"
    details: dict[str, Any] = {
        "type": type(error).__qualname__,
        "message": message.encode("utf-8", "backslashreplace").decode(),
        "file": place.get("file"),
        "line": place.get("line"),
        "frames": shown,
        "traceback": "".join(trace.format())
        .replace(f'File "{root}', 'File "')
        .encode("utf-8", "backslashreplace")
        .decode(),
    }
    directory, cause = getattr(error, "directory", None), getattr(error, "error", None)
    if isinstance(directory, str) and isinstance(cause, dict):  # RunFailed: a flow of this build failed
        details["run"], details["cause"] = directory, cause
    return details


def _trim(trace: traceback.TracebackException, flow: str) -> None:
    """Leave out the frames of IPython above the flow's own, in the whole chain."""
    seen = trace
    while seen is not None:
        own = [index for index, frame in enumerate(seen.stack) if frame.filename == flow]
        if own:
            del seen.stack[: own[0]]
        elif isinstance(seen, traceback.TracebackException) and any(
            "IPython" in f.filename for f in seen.stack
        ):
            seen.stack.clear()
        following = seen.__cause__ or (None if seen.__suppress_context__ else seen.__context__)
        if following is None:
            return
        seen = following


def _keep_kernel_log_apart(log: int) -> None:
    """What ipykernel logs about itself goes where its start-up messages go, not among the flow's lines."""
    from ipykernel.kernelapp import IPKernelApp

    stream = open(log, "w", encoding="utf-8", errors="backslashreplace")  # noqa: SIM115 # for its life
    for handler in IPKernelApp.instance().log.handlers:
        if isinstance(handler, logging.StreamHandler):
            handler.setStream(stream)


def _stop_early() -> None:
    """``exit()`` and ``quit()`` stop a script; ipykernel would go on with the next cell."""
    raise SystemExit


def _finished(pid: int, log: int) -> None:
    """The flow's exit handlers have run: what is printed from here on is not the flow's."""
    if _context is not None and os.getpid() == pid:
        _context.report("finished")
        os.dup2(log, 1)
        os.dup2(log, 2)


def _watch(lifeline: int) -> None:
    while os.read(lifeline, 1):
        pass
    if _context is not None:  # the driver cannot tidy up any more
        shutil.rmtree(os.path.dirname(_context.events), ignore_errors=True)
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(1)
