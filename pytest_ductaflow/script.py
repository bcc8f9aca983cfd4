"""A flow that runs as a script: the same run directory, config, capture and record as any run.

The script itself executes the cells, so its end is judged from inside: an uncaught exception arrives
at ``sys.excepthook``; whether the code reached its end shows the last instruction of its frame; a
process that dies leaves a record that says ``running`` with no lock held, which reads as interrupted.
"""

from __future__ import annotations

import atexit
import contextlib
import dis
import io
import os
import sys
import tempfile
import threading
import traceback
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Final

from pytest_ductaflow import context, engines, execution, record
from pytest_ductaflow import flow as flow_file
from pytest_ductaflow.capture import OutputFile, OutputReader
from pytest_ductaflow.errors import FlowError
from pytest_ductaflow.execution import Request
from pytest_ductaflow.paths import relative
from pytest_ductaflow.settings import project_of, settings_of

#: Seconds between two looks for output of subprocesses, to show it on the console.
_POLL: Final = 0.1


class ScriptRun:
    """One run of a script, in this process.

    :param output_dir: the run directory; without one only the output is captured, in the working directory.
    """

    def __init__(self, flow: Path, config: dict[str, Any], output_dir: str | None) -> None:
        around = context.current()
        self._directory = Path(os.path.abspath(output_dir)) if output_dir else None
        given = config.get("_project_root") or project_of(flow, self._directory or Path.cwd())
        root = Path(given or flow.parent.parent).resolve()
        self._request = Request(
            kind="build" if flow.parent.name == "builds" else "flow",
            flow=flow,
            instance=self._directory.name if self._directory else flow.stem,
            directory=self._directory or Path.cwd(),
            config={
                key: value for key, value in config.items() if key not in ("_project_root", "_no_execute")
            },
            project_root=root,
            python_path=settings_of(root).python_path,
            engine="script",
            session=around.session if around else execution.PROCESS_SESSION,
        )

    def prepare(self) -> None:
        """Write config and notebook, execute nothing."""
        directory = execution.prepare(self._request)
        print(f"🔍 Prepared, not executed: {directory.path}")

    def start(self, frame: FrameType) -> dict[str, Any]:
        """Set up the run around the script's ``frame``; return the config. Ends by itself at exit."""
        sys.path[:0] = [path for path in self._request.import_path if path not in sys.path]
        config = {**self._request.config, "_project_root": str(self._request.project_root)}
        frame.f_globals.update(self._own_names(config))
        if self._directory is None:
            _Console(_fresh(Path.cwd())).start()
            return config
        stack = contextlib.ExitStack()
        run = execution.Run(self._request)
        stack.enter_context(record.lock(run.directory.path))
        run.begin(script=True)
        os.chdir(run.directory.path)
        console = _Console(_fresh(run.directory.path))
        events = self._enter_context(run, stack)
        console.start()
        _Ending(frame, run, console, events, stack)
        return config

    def _own_names(self, config: dict[str, Any]) -> dict[str, Any]:
        """What the config has of the names that the parameters cell assigns, as a notebook gets them."""
        try:
            declared = flow_file.examine(self._request.flow).parameters
        except FlowError:  # a script that is no flow
            declared = None
        names = () if declared is None else declared.names
        return {name: config[name] for name in names if name in config}

    def _enter_context(self, run: execution.Run, stack: contextlib.ExitStack) -> Path:
        """Let ``run_notebook`` and other scripts find this run around them."""
        private = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ductaflow-")))
        events = private / "events.jsonl"
        events.touch()
        context.Context(
            project_root=str(self._request.project_root),
            run_directory=str(run.directory.path),
            flow=str(self._request.flow),
            session=self._request.session,
            engine=engines.default(),
            python_path=self._request.python_path,
            output=str(run.directory.path / record.CLI_OUTPUT_NAME),
            events=str(events),
        ).save(private / "context.json")
        os.environ[context.VARIABLE] = str(private / "context.json")
        return events


def _fresh(directory: Path) -> Path:
    path = directory / record.CLI_OUTPUT_NAME
    record.create_output(path)
    return path


class _Ending:
    """Writes the record when the script ends, however it does."""

    def __init__(
        self,
        frame: FrameType,
        run: execution.Run,
        console: _Console,
        events: Path,
        stack: contextlib.ExitStack,
    ) -> None:
        self._frame, self._run, self._console, self._stack = frame, run, console, stack
        self._events = events
        self._pid = os.getpid()
        self._error: dict[str, Any] | None = None
        self._previous_hook = sys.excepthook
        sys.excepthook = self._failed
        atexit.register(self._at_exit)

    def _failed(self, kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        flow, root = str(self._run.request.flow), self._run.request.project_root
        frames = [frame for frame in traceback.extract_tb(trace) if frame.filename == flow]
        self._error = {
            "type": kind.__qualname__,
            "message": str(error),
            "file": relative(Path(flow), root),
            "line": frames[-1].lineno if frames else None,
            "traceback": "".join(traceback.format_exception(kind, error, trace)),
        }
        directory, cause = getattr(error, "directory", None), getattr(error, "error", None)
        if isinstance(directory, str) and isinstance(cause, dict):
            self._error |= {"run": directory, "cause": cause}
        self._previous_hook(kind, error, trace)

    def _at_exit(self) -> None:
        if os.getpid() != self._pid:  # a forked child's exit is not the script's
            return
        self._console.stop()
        if self._error is None and not _reached_end(self._frame):
            line = self._frame.f_lineno
            file = relative(self._run.request.flow, self._run.request.project_root)
            message = "stopped early: the script was left before its end"
            self._error = {"type": "SystemExit", "message": message, "file": file, "line": line}
        reader = self._console.reader
        while reader.read():
            pass
        reader.close()
        self._run.end(self._error, reader, list(context.read_events(self._events)))
        self._stack.close()


def _reached_end(frame: FrameType) -> bool:
    """Whether a finished frame ran to its last instruction, rather than being left by ``SystemExit``."""
    code = frame.f_code.co_code
    last = frame.f_lasti
    return 0 <= last < len(code) and dis.opname[code[last]].startswith("RETURN")


class _Console:
    """Sends what the script prints to the output file and shows it on the console as before."""

    def __init__(self, path: Path) -> None:
        self.reader = OutputReader(path)
        self._file = OutputFile(str(path))
        self._terminals = {1: os.dup(1), 2: os.dup(2)}
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._show_others, name="ductaflow-console", daemon=True)

    def start(self) -> None:
        """Redirect from here on."""
        sys.stdout.flush()
        sys.stderr.flush()
        encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
        self._file.redirect(1, 2)
        sys.stdout = _Stream(self._file, 1, self._terminals, encoding)
        sys.stderr = _Stream(self._file, 2, self._terminals, encoding)
        self._thread.start()
        atexit.register(self.stop)

    def stop(self) -> None:
        """Show the last of it; what follows goes to the file only."""
        if not self._stopped.is_set():
            self._stopped.set()
            self._thread.join()
            self._show(self._file.take_foreign())

    def _show_others(self) -> None:
        while not self._stopped.wait(_POLL):
            self._show(self._file.take_foreign())

    def _show(self, blocks: Any) -> None:
        for block in blocks:
            _write_all(self._terminals[1], block)


class _Stream(io.TextIOBase):
    """``sys.stdout`` or ``sys.stderr`` of a captured script: the file first, then the console."""

    errors: Any = "backslashreplace"

    def __init__(self, file: OutputFile, descriptor: int, terminals: dict[int, int], encoding: str) -> None:
        self._file, self._descriptor, self._terminals = file, descriptor, terminals
        self._console_encoding = encoding

    @property
    def encoding(self) -> str:  # type: ignore[override] # TextIOBase declares a plain attribute
        return "utf-8"

    @property
    def buffer(self) -> Any:
        """Binary output to the same place."""
        return open(self._descriptor, "wb", buffering=0, closefd=False)

    def write(self, text: str) -> int:
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        for block in self._file.write(text.encode("utf-8", "backslashreplace")):
            _write_all(self._terminals[1], block)
        shown = text.encode(self._console_encoding, "backslashreplace")
        _write_all(self._terminals[self._descriptor], shown)
        return len(text)

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._descriptor

    def isatty(self) -> bool:
        return os.isatty(self._terminals[self._descriptor])


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    with contextlib.suppress(OSError):  # a closed console must not end the run
        while view:
            view = view[os.write(descriptor, view) :]
