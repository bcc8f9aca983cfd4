"""The driving side of every engine: papermill reads and parameterises, nbclient executes and collects.

An engine brings a kernel; here is what all have in common: a thread per run, telling which cell runs,
the text of the output file put among the notebook's outputs, saving (whole or not at all, once a second
at most), and the verdict, which comes from the kernel's process itself and never from the notebook.
"""

from __future__ import annotations

import contextlib
import copy
import logging
import os
import re
import shutil
import threading
import time
from pathlib import Path
from typing import Any, Final

import nbformat
import papermill
from jupyter_core.utils import ensure_event_loop
from nbclient.exceptions import CellExecutionError, DeadKernelError
from papermill.clientwrap import PapermillNotebookClient
from papermill.engines import Engine, NotebookExecutionManager, papermill_engines

from pytest_ductaflow import context, figures
from pytest_ductaflow.capture import OutputText
from pytest_ductaflow.engines import measuring, tracing
from pytest_ductaflow.engines.base import Outcome, Signal, Task, child_context
from pytest_ductaflow.engines.processes import describe_end, private_directory
from pytest_ductaflow.errors import FileError, in_words
from pytest_ductaflow.reader import runs
from pytest_ductaflow.record import write_atomically

_ENGINE_NAME: Final = "ductaflow"
_TRACE: Final = "trace.jsonl"
#: Seconds in which an idle kernel must have stopped after it was asked to.
STOP_TIMEOUT: Final = 10
#: Seconds between two saves of a notebook that runs: what is on disk is never older than one.
SAVE_INTERVAL: Final = 0.8
#: Where a message's metadata says how far the output file had grown (``engines.kernel.OUTPUT``).
_OUTPUT: Final = "ductaflow_output"
_COLOUR: Final = re.compile(r"\x1b\[[0-9;]*m")

silent = logging.getLogger(f"{__name__}.nbclient")  # what it would say, the outcome says
silent.disabled = True


class NotebookRun:
    """One notebook in one kernel, driven by a thread of its own (see ``engines.EngineRun``).

    An engine defines how the kernel starts (:meth:`connect`), stops, and what became of its process.
    """

    #: As in ``Popen.returncode``, once the kernel's process has ended.
    exit_status: int | None = None

    def __init__(self, task: Task) -> None:
        self.task = task
        self.done = Signal()
        self.outcome = Outcome()
        self.private = private_directory()
        self.text = OutputText(task.output)
        self.stopped = False
        #: Whether we killed the kernel because it did not stop by itself after the last cell.
        self.overdue = False
        #: The first error that a cell showed which may not.
        self.shown: dict[str, Any] | None = None
        self.events_file().touch()
        self._manager: _Manager | None = None
        self._thread = threading.Thread(
            target=self._work, name=f"ductaflow-{task.flow.path.stem}", daemon=True
        )
        self._thread.start()

    # --- what an engine defines ---

    def prepare(self) -> None:
        """Begin to start a kernel, before papermill reads the notebook."""

    def connect(self, manager: NotebookExecutionManager, kernel_name: str) -> None:
        """Execute the notebook's cells in the kernel and ask it to stop."""
        raise NotImplementedError

    def wait_for_exit(self) -> None:
        """Come back when nothing of the kernel is left; ``exit_status`` is known then."""

    def stop(self) -> None:
        """Kill the kernel and everything it started."""
        raise NotImplementedError

    def tidy(self) -> None:
        """Release what the engine holds."""

    # --- what execution.py uses ---

    def events_file(self) -> Path:
        """Where the kernel reports to."""
        return self.private / "events.jsonl"

    # --- the thread ---

    def _work(self) -> None:
        try:
            with tracing.unseen():  # in a build, which is traced itself
                self._execute()
        except BaseException as error:  # the thread's last word is the outcome, whatever happened
            if isinstance(error, FileError):
                message = error.problem
            else:
                message = in_words(error) if isinstance(error, OSError) else str(error)
            self.outcome.error = {"type": type(error).__name__, "message": message}
        finally:
            with contextlib.suppress(Exception):
                self.tidy()
            shutil.rmtree(self.private, ignore_errors=True)
            with contextlib.suppress(Exception):
                ensure_event_loop().close()  # this thread's, which nbclient made
            self.done.set()

    def _execute(self) -> None:
        problem: Exception | None = None
        try:
            self.prepare()
            papermill.execute_notebook(
                input_path=_literal(self.task.notebook),
                output_path=None,  # we save ourselves, atomically
                engine_name=_ENGINE_NAME,
                progress_bar=False,
                run=self,
            )
        except Exception as error:
            problem = error
        self.wait_for_exit()
        if self._manager is not None:
            self._take_rest(self._manager.nb)
            with contextlib.suppress(OSError):  # beside the run
                figures.write(self._manager.nb, self.task.notebook)
        self._judge(problem)
        with contextlib.suppress(OSError, ValueError):
            self.outcome.trace = tracing.read(self.private / _TRACE)
        measuring.collect(self.private)

    def _judge(self, problem: Exception | None) -> None:
        """Green needs evidence: every cell done, the kernel's own "finished", exit status 0."""
        outcome, status = self.outcome, self.exit_status
        outcome.events = list(context.read_events(self.events_file()))
        said = {event["event"] for event in outcome.events}
        error = self._error()
        if problem is None and (
            error or outcome.done < outcome.total
        ):  # the client stops at a cell that fails
            outcome.error = error or {"type": "Error", "message": "a cell failed"}
        elif "ready" not in said and not outcome.done and not self.stopped:
            outcome.error = {
                "type": "KernelError",
                "message": f"the kernel did not start: {_with_reason_first(self._kernel_log())}",
            }
            if problem is not None and not self._kernel_log():
                outcome.error["message"] += in_words(problem)
        elif isinstance(problem, FileError):  # the notebook cannot be saved
            outcome.error = {"type": "FileError", "message": problem.problem}
        elif isinstance(problem, DeadKernelError) or outcome.done < outcome.total:
            outcome.error = {"type": "DeadKernel", "message": f"the kernel {describe_end(status)}"}
        elif problem is not None:
            outcome.error = {"type": type(problem).__name__, "message": str(problem)}
        elif self.overdue and not self.stopped:
            outcome.remark = "Warning: the kernel did not stop by itself after the last cell and was killed"
            outcome.finished = True
        elif "finished" not in said or status != 0:
            message = f"the kernel {describe_end(status)} after the last cell"
            if last := self._kernel_log().rpartition("\n")[2]:
                message += f" ({last})"
            outcome.error = {"type": "DeadKernel", "message": message}
        else:
            outcome.finished = True

    def _error(self) -> dict[str, Any] | None:
        """What a cell raised, else the first that one only showed; best from the process's own words."""
        raised = [event for event in self.outcome.events if event["event"] == "error"]
        shown = [event for event in self.outcome.events if event["event"] == "shown"]
        if raised or shown:
            event = raised[-1] if raised else shown[0]
            error = {key: value for key, value in event.items() if key != "event"}
            return _left_early(error, self.outcome) if raised else error
        return self.shown

    def _kernel_log(self) -> str:
        with contextlib.suppress(OSError):
            lines = (self.private / "kernel.log").read_text("utf-8", "replace").strip().splitlines()
            return "\n".join(lines[-20:])
        return ""

    # --- what engines use ---

    def prepare_kernel(self, **place: Any) -> dict[str, str]:
        """Write the context of the kernel's process; return the environment that names it.

        :param place: what the engine adds to the context.
        """
        flow = self.task.flow
        cells = tuple(
            {"source": cell.source, "line": line, "may_fail": may_fail(cell)}
            for cell, line in zip(flow.notebook.cells, flow.lines, strict=True)
            if runs(cell)
        )
        self.outcome.total = len(cells) + flow.added
        file, trace = self.private / "context.json", self.private / _TRACE
        trace.touch()
        place |= {"measuring": measuring.request(self.private), "trace": str(trace)}
        child_context(self.task, self.events_file(), cells, **place).save(file)
        environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")}
        return {**environment, context.VARIABLE: str(file)}

    # --- called by papermill's engine and client below ---

    def drive(self, manager: _Manager, kernel_name: str) -> None:
        """Execute the cells of a parameterised notebook."""
        self._manager = manager
        manager.nb.metadata.papermill["parameters"] = {}  # the injected cell has them
        self.connect(manager, kernel_name)

    def cell_started(self, index: int) -> None:
        """A code cell is about to run."""
        self.outcome.current = index
        self.task.cell_started(index)

    def error_shown(self, output: dict[str, Any]) -> None:
        """An error is among the outputs of the cell that runs, whether or not the cell fails of it."""
        if self.shown is None:
            traceback = _COLOUR.sub("", "\n".join(output["traceback"]))
            self.shown = {"type": output["ename"], "message": output["evalue"], "traceback": f"{traceback}\n"}

    def save_running(self) -> float:
        """Save the notebook as it is now; give the seconds until the next time."""
        assert self._manager is not None
        started = time.monotonic()
        notebook, index = self._manager.nb, self.outcome.current
        if index is not None and (text := self.text.pending()):
            notebook = copy.copy(notebook)
            notebook.cells = list(notebook.cells)
            cell = notebook.cells[index] = copy.copy(notebook.cells[index])
            cell.outputs = [*cell.outputs, nbformat.v4.new_output("stream", name="stdout", text=text)]
        self._save(notebook, durable=False)
        return max(SAVE_INTERVAL, 4 * (time.monotonic() - started))  # a huge notebook takes its time

    def save_at_the_end(self, notebook: nbformat.NotebookNode) -> None:
        """Save the notebook for good."""
        self._save(notebook, durable=True)

    def _save(self, notebook: nbformat.NotebookNode, *, durable: bool) -> None:
        data = nbformat.v4.writes(notebook).encode("utf-8", "backslashreplace")
        write_atomically(self.task.notebook, data, durable=durable, last=False)  # the record follows

    def _take_rest(self, notebook: nbformat.NotebookNode) -> None:
        """What was printed after the kernel's last word (at exit, by a thread, before it died)."""
        rest = [] if self.outcome.current is None else self.text.rest()
        if rest:
            outputs = notebook.cells[self.outcome.current].outputs
            for name, text in rest:
                outputs.append(nbformat.v4.new_output("stream", name=name, text=text))
                join_streams(outputs)
            self.save_at_the_end(notebook)


class _Manager(NotebookExecutionManager):
    """papermill's bookkeeping; the run saves. Cells that did not run stay ``pending``."""

    def __init__(self, nb: nbformat.NotebookNode, run: NotebookRun) -> None:
        self._run = run
        super().__init__(nb, progress_bar=False, autosave_cell_every=0)

    def save(self, **_: Any) -> None:
        self.last_save_time = self.now()

    def notebook_complete(self, **_: Any) -> None:
        waiting = [cell for cell in self.nb.cells if cell.metadata.papermill["status"] == self.PENDING]
        super().notebook_complete()
        if self._run.outcome.done < self._run.outcome.total:
            for cell in waiting:
                cell.metadata.papermill["status"] = self.PENDING
        self._run.save_at_the_end(self.nb)


class _Engine(Engine):
    """Registered with papermill for runs of ours: each brings its own kernel."""

    @classmethod
    def execute_notebook(
        cls, nb: nbformat.NotebookNode, kernel_name: str, *, run: NotebookRun, **_: Any
    ) -> nbformat.NotebookNode:
        manager = _Manager(nb, run)
        manager.notebook_start()
        try:
            run.drive(manager, kernel_name)
        finally:
            manager.notebook_complete()
        return nbformat.v4.new_notebook()  # it is saved and judged; papermill would only write it once more


papermill_engines.register(_ENGINE_NAME, _Engine)


class TextClient(PapermillNotebookClient):
    """papermill's client, which takes the text of outputs from the output file.

    :param text: where the text comes from.
    """

    def __init__(self, manager: NotebookExecutionManager, *, text: OutputText, **options: Any) -> None:
        super().__init__(manager, **options)
        self._text = text

    def process_message(self, msg: dict[str, Any], cell: nbformat.NotebookNode, cell_index: int) -> Any:
        """Put the text that was printed before the message among the outputs, then what it brings."""
        end, stderr = msg.get("metadata", {}).pop(_OUTPUT, (0, ()))
        pieces = self._text.until(end, stderr)
        if msg["msg_type"] == "status" and msg["content"]["execution_state"] == "idle":
            pieces += self._text.end_cell()
        for name, text in pieces:
            content = {"name": name, "text": text}
            stream = {**msg, "header": {"msg_type": "stream"}, "msg_type": "stream", "content": content}
            super().process_message(stream, cell, cell_index)
            join_streams(cell.outputs)
        return super().process_message(msg, cell, cell_index)


class Client(TextClient):
    """The client of a run: tells it which cell starts and which one ended well."""

    def __init__(self, manager: NotebookExecutionManager, *, run: NotebookRun, **options: Any) -> None:
        super().__init__(manager, text=run.text, log=silent, timeout=None, **options)
        self._run = run

    def execute_cell(self, cell: nbformat.NotebookNode, cell_index: int, **options: Any) -> Any:
        """Execute a cell and note how far the run is."""
        if not runs(cell):
            return super().execute_cell(cell, cell_index, **options)
        self._run.cell_started(cell_index)
        started = time.monotonic()
        try:
            result = super().execute_cell(cell, cell_index, **options)
        except BaseException:  # papermill marks a cell that raises, but not one whose kernel died
            self.nb_man.cell_exception(cell, cell_index)
            raise
        finally:
            self._run.outcome.seconds.append((cell_index, round(time.monotonic() - started, 4)))
        if self._run.shown is not None:  # papermill would go on, and fail at the end; or not, for sys.exit(0)
            raise CellExecutionError("", self._run.shown["type"], self._run.shown["message"])
        self._run.outcome.done += 1
        return result

    def process_message(self, msg: dict[str, Any], cell: nbformat.NotebookNode, cell_index: int) -> Any:
        """Notice errors, also those that end up in no output: of a widget, or cleared."""
        if msg["msg_type"] == "error":
            content = msg["content"]
            if not may_fail(cell) or content["ename"] == "SystemExit":
                self._run.error_shown(content)
        return super().process_message(msg, cell, cell_index)


def _with_reason_first(log: str) -> str:
    """A traceback's last line says why; where only one line is shown, it must be that one."""
    _, _, reason = log.rpartition("\n")
    return f"{reason}\n{log}" if log.startswith("Traceback ") else log


def may_fail(cell: nbformat.NotebookNode) -> bool:
    """Whether an exception is expected in a cell: it is none of the run's."""
    return "raises-exception" in cell.metadata.get("tags", ())


def join_streams(outputs: list[nbformat.NotebookNode]) -> None:
    """Join the last two outputs if they are text of the same stream, as frontends show them."""
    if len(outputs) > 1 and all(output["output_type"] == "stream" for output in outputs[-2:]):
        before, last = outputs[-2:]
        if before["name"] == last["name"]:
            before["text"] += last["text"]
            outputs.pop()


def _literal(path: Path) -> str:
    """papermill formats paths with the parameters: braces in ours are meant as they are."""
    return str(path).replace("{", "{{").replace("}", "}}")


def _left_early(error: dict[str, Any], outcome: Outcome) -> dict[str, Any]:
    if error["type"] == "SystemExit":
        left = outcome.total - outcome.done - 1
        code = error["message"] or "0"
        rest = f"; {left} more cell{'s' * (left != 1)} never ran" if left else ""
        error["message"] = f"stopped early: exit status {code}{rest}"
    return error
