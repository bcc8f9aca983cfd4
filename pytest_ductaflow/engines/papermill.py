"""papermill's own way: nbclient and a fresh kernel for each run.

papermill reads and parameterises the notebook, drives nbclient and keeps the cell metadata. Ours are:
the kernel (this Python; ipc sockets in a directory that only this user may enter; its own process
group; no ``PYTEST_*`` in its environment), saving (whole or not at all, at most once a second), and
the verdict, which comes from the process itself and never from the notebook.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any, Final

import nbformat
import papermill
import psutil
from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from jupyter_core.utils import ensure_event_loop
from nbclient.exceptions import CellExecutionError, DeadKernelError
from papermill.clientwrap import PapermillNotebookClient
from papermill.engines import Engine, NotebookExecutionManager, papermill_engines

from pytest_ductaflow import context
from pytest_ductaflow.engines.base import Outcome, Signal, Task, child_context
from pytest_ductaflow.flow import NATIVE_KERNELS
from pytest_ductaflow.record import write_atomically

_ENGINE_NAME: Final = "ductaflow-papermill"
#: Seconds in which a kernel must be up.
_START_TIMEOUT: Final = 60
#: Seconds in which an idle kernel must have stopped after it was asked to.
_STOP_TIMEOUT: Final = 20
#: Seconds between two saves of a notebook that runs.
_SAVE_INTERVAL: Final = 1.0
#: A Unix socket's path holds 107 bytes; jupyter_client appends ``-1`` to ``-5``.
_SOCKET_LENGTH: Final = 100

_EXTENSION_ARGUMENTS: Final = (
    "--IPKernelApp.outstream_class=pytest_ductaflow.engines.child.OutputStream",
    "--IPKernelApp.extra_extensions=pytest_ductaflow.engines.child",
)


_silent = logging.getLogger(f"{__name__}.nbclient")  # what it would say, the outcome says
_silent.disabled = True


class PapermillRun:
    """One notebook in one kernel, driven by a thread of its own (see ``engines.EngineRun``)."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.done = Signal()
        self.outcome = Outcome()
        self._private = _private_directory()
        self._process: Any = None  # the kernel's Popen
        self._stopped = False
        self._last_save = 0.0
        self.events_file().touch()
        self._lifeline: tuple[int, int] | None = os.pipe() if os.name == "posix" else None
        self._thread = threading.Thread(
            target=self._work, name=f"ductaflow-{task.flow.path.stem}", daemon=True
        )
        self._thread.start()

    def events_file(self) -> Path:
        """Where the kernel reports to."""
        return self._private / "events.jsonl"

    def stop(self) -> None:
        """Kill the kernel and everything it started."""
        self._stopped = True
        if self._process is not None:
            kill_tree(self._process.pid)

    def _work(self) -> None:
        try:
            self._execute()
        except BaseException as error:  # the thread's last word is the outcome, whatever happened
            self.outcome.error = {"type": type(error).__name__, "message": str(error)}
        finally:
            with contextlib.suppress(Exception):
                self._tidy()
            with contextlib.suppress(Exception):
                ensure_event_loop().close()  # this thread's, which nbclient made
            self.done.set()

    def _execute(self) -> None:
        problem: Exception | None = None
        try:
            papermill.execute_notebook(
                input_path=_literal(self.task.notebook),
                output_path=None,  # we save ourselves, atomically
                parameters={"config": self.task.config},
                engine_name=_ENGINE_NAME,
                progress_bar=False,
                start_timeout=_START_TIMEOUT,
                autosave_cell_every=1,
                run=self,
            )
        except Exception as error:
            problem = error
        self._judge(problem)

    def _judge(self, problem: Exception | None) -> None:
        """Green needs evidence: every cell done, the kernel's own "finished", exit status 0."""
        outcome = self.outcome
        outcome.events = list(context.read_events(self.events_file()))
        status = self._process.poll() if self._process is not None else None
        said = {event["event"] for event in outcome.events}
        raised = [event for event in outcome.events if event["event"] == "error"]
        if isinstance(problem, papermill.PapermillExecutionError) and outcome.done == outcome.total:
            problem = None  # a cell tagged raises-exception did
        cell_failed = isinstance(problem, (papermill.PapermillExecutionError, CellExecutionError))
        if cell_failed or (problem is None and outcome.done < outcome.total):
            outcome.error = _error_of(raised[-1] if raised else None, outcome)
            if outcome.error is None:
                text = str(getattr(problem, "evalue", problem) or "a cell failed")
                outcome.error = {"type": str(getattr(problem, "ename", "Error")), "message": text}
        elif "ready" not in said and not outcome.done and not self._stopped:
            outcome.error = {
                "type": "KernelError",
                "message": f"the kernel did not start: {self._startup_log()}",
            }
            if problem is not None and not self._startup_log():
                outcome.error["message"] += f"{type(problem).__name__}: {problem}"
        elif isinstance(problem, DeadKernelError) or outcome.done < outcome.total:
            outcome.error = {"type": "DeadKernel", "message": f"the kernel {_death(status)}"}
        elif problem is not None:
            outcome.error = {"type": type(problem).__name__, "message": str(problem)}
        elif "finished" not in said or status != 0:
            if (
                status is not None
                and status in (-signal.SIGTERM, -getattr(signal, "SIGKILL", 9))
                and not self._stopped
            ):
                outcome.remark = (
                    "Warning: the kernel did not stop by itself after the last cell and was killed"
                )
                outcome.finished = True
            else:
                message = f"the kernel {_death(status)} after the last cell"
                outcome.error = {"type": "DeadKernel", "message": message}
        else:
            outcome.finished = True

    def _startup_log(self) -> str:
        with contextlib.suppress(OSError):
            lines = (self._private / "kernel.log").read_text("utf-8", "replace").strip().splitlines()
            return "\n".join(lines[-20:])
        return ""

    def _tidy(self) -> None:
        if self._process is not None:
            kill_tree(self._process.pid)
            if os.name == "posix":
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(self._process.pid, signal.SIGKILL)  # what the kernel left behind
        for descriptor in self._lifeline or ():
            with contextlib.suppress(OSError):
                os.close(descriptor)
        shutil.rmtree(self._private, ignore_errors=True)

    # --- called by the papermill engine below ---

    def drive(self, manager: NotebookExecutionManager, kernel_name: str, start_timeout: float) -> None:
        """Execute the cells of a parameterised notebook in a new kernel."""
        notebook = manager.nb
        notebook.metadata.papermill["parameters"] = {}  # the injected cell has them; NaN here is no JSON
        lines = iter(self.task.flow.lines)
        cells = []
        for cell in notebook.cells:
            injected = "injected-parameters" in cell.metadata.get("tags", [])
            line = None if injected else next(lines, None)
            if _runs(cell):
                cells.append({"source": cell.source, "line": line})
        self.outcome.total = len(cells)
        lifeline = self._lifeline[0] if self._lifeline else None
        file = self._private / "context.json"
        child_context(self.task, self.events_file(), lifeline, tuple(cells)).save(file)
        environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")}
        environment[context.VARIABLE] = str(file)
        kernel = _kernel_manager(kernel_name, self._private)
        with open(self._private / "kernel.log", "wb") as log:
            client = _Client(
                manager,
                km=kernel,
                run=self,
                kernel_name=kernel_name,
                log=_silent,
                startup_timeout=start_timeout,
                timeout=None,
                resources={"metadata": {"path": str(self.task.directory)}},
                extra_arguments=list(_EXTENSION_ARGUMENTS),
            )
            options: dict[str, Any] = {"env": environment, "stdout": log, "stderr": log, "cleanup_kc": True}
            if lifeline is not None:
                options["pass_fds"] = (lifeline,)
            try:
                client.execute(**options)
            finally:
                self._reap(client)

    def started(self, kernel: AsyncKernelManager) -> None:
        """The kernel's process exists."""
        self._process = getattr(kernel.provisioner, "process", None)
        if self._stopped and self._process is not None:  # stopped while it started
            kill_tree(self._process.pid)

    def cell_started(self, index: int) -> None:
        """A code cell is about to run."""
        self.outcome.current = index
        self.task.cell_started(index)

    def cell_done(self) -> None:
        """A code cell ran to its end."""
        self.outcome.done += 1

    def save(self, notebook: nbformat.NotebookNode, *, final: bool) -> None:
        """Save the notebook as a whole; while it runs at most once a second."""
        elapsed = time.monotonic() - self._last_save
        if final or elapsed >= _SAVE_INTERVAL:
            data = nbformat.writes(notebook).encode("utf-8", "backslashreplace")
            write_atomically(self.task.notebook, data, durable=final)
            self._last_save = time.monotonic()

    def _reap(self, client: _Client) -> None:
        if client.km is not None and client.km.has_kernel:
            self.stop()
        if self._process is not None:
            deadline = time.monotonic() + 5
            while self._process.poll() is None and time.monotonic() < deadline:
                time.sleep(0.01)


class _Manager(NotebookExecutionManager):
    """papermill's bookkeeping, saving through the run. Cells that did not run stay ``pending``."""

    def __init__(self, nb: nbformat.NotebookNode, run: PapermillRun, **options: Any) -> None:
        self._run = run
        super().__init__(nb, **options)

    def save(self, **_: Any) -> None:
        self._run.save(self.nb, final=False)
        self.last_save_time = self.now()

    def notebook_complete(self, **_: Any) -> None:
        waiting = [cell for cell in self.nb.cells if cell.metadata.papermill["status"] == self.PENDING]
        super().notebook_complete()
        if self._run.outcome.done < self._run.outcome.total:
            for cell in waiting:
                cell.metadata.papermill["status"] = self.PENDING
        self._run.save(self.nb, final=True)


class _Engine(Engine):
    """Registered with papermill under ``ductaflow-papermill``."""

    @classmethod
    def execute_notebook(
        cls,
        nb: nbformat.NotebookNode,
        kernel_name: str,
        *,
        run: PapermillRun,
        autosave_cell_every: int,
        start_timeout: float,
        **_: Any,
    ) -> nbformat.NotebookNode:
        manager = _Manager(nb, run, progress_bar=False, autosave_cell_every=autosave_cell_every)
        manager.notebook_start()
        try:
            run.drive(manager, kernel_name, start_timeout)
        finally:
            manager.notebook_complete()
        return manager.nb


papermill_engines.register(_ENGINE_NAME, _Engine)


class _Client(PapermillNotebookClient):
    """papermill's client, telling the run which cell starts and which one ended well."""

    def __init__(self, manager: NotebookExecutionManager, *, run: PapermillRun, **options: Any) -> None:
        super().__init__(manager, **options)
        self._run = run

    async def async_start_new_kernel(self, **options: Any) -> None:
        await super().async_start_new_kernel(**options)
        self._run.started(self.km)

    def start_new_kernel(self, **options: Any) -> None:
        super().start_new_kernel(**options)
        self._run.started(self.km)

    def execute_cell(self, cell: nbformat.NotebookNode, cell_index: int, **options: Any) -> Any:
        if not _runs(cell):
            return super().execute_cell(cell, cell_index, **options)
        self._run.cell_started(cell_index)
        result = super().execute_cell(cell, cell_index, **options)
        stopped = any(output.get("ename") == "SystemExit" for output in cell.get("outputs", ()))
        if stopped:  # papermill takes sys.exit(0) for a success and would go on
            raise CellExecutionError("", "SystemExit", "stopped early")
        self._run.cell_done()
        return result


class _NativeKernel(KernelSpecManager):
    """``python3`` is the Python that runs us, whatever kernel of that name the user has installed."""

    def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
        if kernel_name in NATIVE_KERNELS:
            argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
            if sys.version_info >= (3, 11):
                argv.insert(1, "-Xfrozen_modules=off")  # else the debugger prints a warning into the run
            return KernelSpec(argv=argv, display_name="Python 3", language="python")
        return super().get_kernel_spec(kernel_name)


class _KernelManager(AsyncKernelManager):
    """Asks a kernel to stop without interrupting it first: it is idle, and the interrupt can hit its loop."""

    async def _async_interrupt_kernel(self) -> None:
        pass


def _kernel_manager(kernel_name: str, private: Path) -> AsyncKernelManager:
    manager = _KernelManager(
        shutdown_wait_time=_STOP_TIMEOUT,
        kernel_name=kernel_name,
        kernel_spec_manager=_NativeKernel(),
        connection_file=str(private / "kernel.json"),
    )
    if os.name == "posix":
        manager.transport = "ipc"
        manager.ip = str(private / "k")
    return manager


def _private_directory() -> Path:
    """A new directory that only this user may enter, with a path short enough for sockets in it."""
    directory = tempfile.mkdtemp(prefix="ductaflow-")
    if os.name == "posix" and len(os.fsencode(directory)) + 2 > _SOCKET_LENGTH:
        os.rmdir(directory)
        directory = tempfile.mkdtemp(prefix="ductaflow-", dir="/tmp")
    return Path(directory)


def _literal(path: Path) -> str:
    """papermill formats paths with the parameters: braces in ours are meant as they are."""
    return str(path).replace("{", "{{").replace("}", "}}")


def _runs(cell: nbformat.NotebookNode) -> bool:
    if cell.cell_type != "code" or not cell.source.strip():
        return False
    return "skip-execution" not in cell.metadata.get("tags", [])


def _error_of(event: dict[str, Any] | None, outcome: Outcome) -> dict[str, Any] | None:
    if event is None:
        return None
    error = {key: value for key, value in event.items() if key != "event"}
    if error["type"] == "SystemExit":
        left = outcome.total - outcome.done - 1
        code = error["message"] or "0"
        rest = f"; {left} more cell{'s' * (left != 1)} never ran" if left else ""
        error["message"] = f"stopped early: exit status {code}{rest}"
    return error


def _death(status: int | None) -> str:
    """How a process ended, for people."""
    if status is None:
        return "disappeared"
    if status < 0:
        try:
            name = signal.Signals(-status).name
        except ValueError:
            name = f"signal {-status}"
        return f"died of {name}"
    return f"exited with status {status}"


def kill_tree(pid: int, grace: float = 0.5) -> None:
    """End a process and all its descendants: SIGTERM, a moment, SIGKILL.

    Nothing is waited for with ``waitpid``: the exit status belongs to whoever started the process.
    """
    try:
        root = psutil.Process(pid)
        family = [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return
    for process in family:
        with contextlib.suppress(psutil.Error):
            process.terminate()
    deadline = time.monotonic() + grace
    while any(map(_alive, family)) and time.monotonic() < deadline:
        time.sleep(0.01)
    for process in family:
        with contextlib.suppress(psutil.Error):
            for member in (*process.children(recursive=True), process):
                member.kill()


def _alive(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False
