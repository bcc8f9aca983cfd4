"""The one way to execute: a request becomes a run directory with a record.

pytest's items, ``run_notebook``, ``run_step_flow``, a build's nested calls and (for everything but the
cells) scripts go through here. The order of a run: take the directory's lock, remove what the last run
left, write config, notebook and a record that says ``running``, let an engine execute while this thread
reads the output, keeps the record current and watches the deadline, then judge and write the record.
Nothing of the calling process (working directory, environment, ``sys.path``) is changed.
"""

from __future__ import annotations

import contextlib
import os
import platform
import socket
import sys
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from pytest_ductaflow import (
    context,
    digests,
    engines,
    expectations,
    figures,
    freshness,
    last_words,
    measures,
    outputs,
    reads,
    record,
    strict_json,
)
from pytest_ductaflow import flow as flow_file
from pytest_ductaflow.capture import OutputReader
from pytest_ductaflow.errors import FlowError, RecordError, in_words
from pytest_ductaflow.expectations import Expectation
from pytest_ductaflow.injection import notebook_of
from pytest_ductaflow.notebook_html import convert_notebook_to_html
from pytest_ductaflow.paths import relative
from pytest_ductaflow.record import Record, RunDirectory
from pytest_ductaflow.status import Status, decode

#: Seconds between two looks at a run's output and deadline.
_POLL: Final = 0.05
#: Seconds between two updates of the record while a run lasts.
_RECORD_INTERVAL: Final = 1.0
#: Seconds that a killed run has to disappear.
_STOP_TIMEOUT: Final = 5.0
#: The session of runs that no pytest started.
PROCESS_SESSION: Final = uuid.uuid4().hex


@dataclass(frozen=True)
class Request:
    """A run to execute.

    :param kind: ``flow`` or ``build``.
    :param flow: absolute path of the ``.py`` file.
    :param directory: the run directory, absolute or relative to the working directory.
    :param config: JSON types only; the flow's defaults are below it, ``_project_root`` is added to the run's.
    :param timeout: seconds for the whole run, ``None`` for no limit.
    :param inputs: files whose digests the record keeps: glob patterns and paths below the project root.
    :param python_path: directories to import from, besides the project root and the flow's own.
    :param reuse: as in the :class:`~pytest_ductaflow.context.Context`, for runs nested in this one.
    :param earlier: what earlier flows of the same build wrote: name to digest.
    :param expected: what is expected of the measures.
    :param needed: run directories that references lead to, as the record keeps them.
    :param remarks: what makes the run orange whatever it prints: a text and its place.
    :param leftovers: run directories that belong to no instance any more, ``runs/<step>/<instance>``.
    :param undecided: those of which that is not known, because an instance file is in error.
    """

    kind: str
    flow: Path
    instance: str
    directory: Path
    config: dict[str, Any]
    project_root: Path
    node_id: str | None = None
    session: str = PROCESS_SESSION
    engine: str = field(default_factory=engines.default)
    timeout: float | None = None
    inputs: tuple[str, ...] = ()
    scenario: dict[str, Any] = field(default_factory=dict)
    python_path: tuple[str, ...] = ()
    export_html: bool = False
    reuse: bool | None = None
    earlier: Mapping[str, str] = field(default_factory=dict)
    expected: tuple[Expectation, ...] = ()
    leftovers: frozenset[str] = frozenset()
    undecided: frozenset[str] = frozenset()
    needed: Mapping[str, str] = field(default_factory=dict)
    remarks: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        with contextlib.suppress(FlowError):  # executing it says what is wrong
            object.__setattr__(self, "config", flow_file.examine(self.flow).merged(self.config))

    @property
    def import_path(self) -> tuple[str, ...]:
        """What a flow can import from: the project root, pytest's ``pythonpath``, what stands beside it."""
        paths = (str(self.project_root), *self.python_path, str(self.flow.parent))
        return tuple(dict.fromkeys(paths))


def execute(
    request: Request,
    *,
    echo: Callable[[str], None] | None = None,
    wanted: Callable[[], bool] | None = None,
    done: Callable[[], Record | None] | None = None,
    doubts: Callable[[Record], Iterable[reads.Doubt]] | None = None,
) -> Record:
    """Execute a request and return its finished record; a red run is a record, not an exception.

    :param echo: called with the run's output as it is printed.
    :param done: asked once the directory is ours; a record that it gives is taken instead of a run.
    :param wanted: asked now and then; when it says no, the run is stopped as by Ctrl-C.
    :param doubts: asked which inputs of the run, if it is not red, do not count.
    :raises RunBusy: if the directory is in use. :raises FlowError, ConfigError: if there is nothing to run.
    :raises FileError: if the system refuses what it needs; the run is red or has no record, then.
    :raises KeyboardInterrupt: after the run was stopped and recorded as interrupted.
    """
    with record.refused(request.directory):
        return _execute(request, echo, wanted, done, doubts)


def _execute(
    request: Request,
    echo: Callable[[str], None] | None,
    wanted: Callable[[], bool] | None,
    done: Callable[[], Record | None] | None,
    doubts: Callable[[Record], Iterable[reads.Doubt]] | None,
) -> Record:
    run = Run(request)
    files = engines.OPEN_FILES.get(engines.for_kernel(request.engine, run.flow.kernel), 0)
    with record.refused(request.directory, f"open the {files} files that a run needs"):
        engines.check_open_files(files)
    with record.lock(run.directory.path):
        if done is not None and (found := done()) is not None:
            return found
        run.begin()
        reader = OutputReader(run.directory.output)
        try:
            outcome, stopped = _watch(run, reader, echo, wanted)
        except BaseException as error:
            interrupted = isinstance(error, KeyboardInterrupt)
            message = str(error) or "stopped by the user"
            told = {"type": type(error).__name__, "message": message}
            with contextlib.suppress(OSError):  # the record says `running`: without the lock, interrupted
                run.end(told, reader, run.events, interrupted=interrupted)
            raise
        run.record.cells, run.record.pid = _cells(outcome), outcome.pid
        run.record.timings = [
            {"line": run.flow.line_of_executed(cell), "seconds": seconds} for cell, seconds in outcome.seconds
        ]
        remarks = [outcome.remark] if outcome.remark else []
        failure = _error(run, outcome, stopped)
        run.end(failure, reader, outcome.events, remarks, trace=outcome.trace, doubts=doubts)
    return run.record


def prepare(request: Request) -> RunDirectory:
    """Make the run directory as for a run (config, notebook) but execute nothing.

    A run of the same config that is there stays as it is: its notebook can be run cell by cell. A run of
    another config does not fit any more, and its record is removed.
    """
    run = Run(request)
    with record.lock(run.directory.path):
        with contextlib.suppress(RecordError):
            if (
                record.read_record(run.directory.path).config == run.config
                and run.directory.notebook.exists()
            ):
                return run.directory
        run.remove_outputs()
        record.remove(run.directory.record)
        run.write_files(durable=True)
    return run.directory


def refuse(request: Request, reason: str) -> Record:
    """Record that a request was not executed, so that no older record passes for it: red."""
    run = Run(request)
    with record.lock(run.directory.path, wait=True):
        run.refuse({"type": "NotRun", "message": reason})
    return run.record


def up_to_date(request: Request) -> tuple[Record | None, list[str]]:
    """The record of the last run if that is up to date, else the reasons why it is not."""
    found, reason = freshness.read_finished(request.directory)
    if found is None:
        return None, [reason]
    reasons = [*freshness.why_stale(request, found, request.earlier), *_of_leftovers(request, found)]
    reasons = list(dict.fromkeys(reasons))
    return (None, reasons) if reasons else (found, [])


def take(request: Request) -> Record | None:
    """Let the last run stand for this one if it is up to date, judged by what is expected now.

    The directory's lock is held; the run around is told as if it had just run.
    """
    found, _ = up_to_date(request)
    if found is not None:
        if expectations.judge(found, request.expected, request.project_root):
            record.write_record(request.directory, found)
        Run(request).take(found)
    return found


def _of_leftovers(request: Request, found: Record) -> list[str]:
    """Why a run is not up to date although all is as it was: whose outputs it read is gone since."""
    return [
        f"input {state}: {reads.file_among(names)}"
        for state, directories in (
            (reads.OF_LEFTOVER, request.leftovers),
            (reads.UNDECIDED, request.undecided),
        )
        if directories
        for names in reads.by_run(found.inputs, directories).values()
    ]


def accept(request: Request) -> Record:
    """Declare the last run up to date as it is. What is expected of its measures is not declared met.

    :raises RecordError: if there is none that finished, or something about it cannot be accepted.
    """
    if not request.directory.exists():
        raise RecordError("cannot be accepted: never run")
    with record.lock(request.directory):
        found, reason = freshness.read_finished(request.directory)
        if found is None:
            raise RecordError(f"cannot be accepted: {reason}")
        before = len(found.accepted)
        if left := [*freshness.accept(request, found), *_of_leftovers(request, found)]:
            raise RecordError(f"cannot be accepted: {'; '.join(left)}")
        judged = expectations.judge(found, request.expected, request.project_root)
        if judged or len(found.accepted) > before:
            record.write_record(request.directory, found)
    return found


# --- the steps of a run --------------------------------------------------------------------------


class Run:
    """A run from its first file to its record; whoever executes the cells calls ``begin`` and ``end``.

    :raises ConfigError, FlowError, RecordError: if the request cannot be run; nothing is touched then.
    """

    def __init__(self, request: Request) -> None:
        strict_json.check_types(request.config)
        self.request = request
        self.flow = flow_file.read(request.flow)
        self.directory = RunDirectory(record.make_directory(request.directory), request.flow.stem)
        self.config = {**request.config, "_project_root": str(request.project_root)}
        self._before: dict[str, outputs.Entry] = {}
        self._last_runs: Sequence[str] = ()
        self._inputs: freshness.Snapshot | None = None
        self._started = 0.0
        self.record: Record
        #: What the run has reported, once it was stopped from outside.
        self.events: Sequence[dict[str, Any]] = ()

    def begin(self, *, script: bool = False) -> None:
        """Remove what the last run left; write config, notebook and a record that says ``running``.

        :param script: the flow runs as a script: its notebook is for opening, with the config in it.
        """
        names = self.directory
        left = self.remove_outputs()
        figures.remove(names.notebook)
        for path in (
            names.record,
            names.html,
            names.notebook,
            names.output,
            names.path / record.CLI_OUTPUT_NAME,
        ):
            record.remove(path)
        if not script:
            record.create_output(names.output)
        self._before = {name: it for name, it in outputs.entries(names).items() if name not in left}
        self._inputs = freshness.Snapshot(self.request, self.request.earlier)
        self.write_files(durable=script)
        self.record = self._new_record()
        record.write_record(names.path, self.record, durable=False)
        self._tell("run")
        self._started = time.monotonic()

    def _tell(self, event: str, **details: Any) -> None:
        """Report to the run around this one, if there is one."""
        around = context.current()
        if around is not None and Path(around.run_directory) != self.directory.path:
            around.report(event, directory=str(self.directory.path), **details)

    def take(self, found: Record) -> None:
        """Let the last run stand for this one."""
        self.record = found
        names = self.directory
        if self.request.export_html and not names.html.is_file():
            record.remove(names.html)
            convert_notebook_to_html(names.notebook, names.html)
        self._tell("run")
        self._tell_ended(found)

    def remove_outputs(self) -> set[str]:
        """Delete what the last run made here; give the directories of its that had to stay."""
        if (last := self._last()) is None:
            return set()
        self._last_runs = last.runs
        if last.flow == relative(self.request.flow, self.request.project_root):
            return outputs.remove(self.directory, last)
        return outputs.remove_run(RunDirectory(self.directory.path, Path(last.flow).stem), last)

    def _last(self) -> Record | None:
        """The last run here, if it is ours to replace.

        An instance has its directory for itself, whichever flow it ran last time. A build may run several
        flows in one directory, each using what the last one made.
        """
        try:
            last = record.read_record(self.directory.path)
        except RecordError:
            return None
        same_flow = last.flow == relative(self.request.flow, self.request.project_root)
        instances = last.node_id is not None and self.request.node_id is not None
        return last if same_flow or instances else None

    def end(
        self,
        error: dict[str, Any] | None,
        reader: OutputReader | None = None,
        events: Sequence[dict[str, Any]] = (),
        remarks: Sequence[str] = (),
        *,
        interrupted: bool = False,
        trace: Sequence[tuple[str, str, Any]] | None = None,
        doubts: Callable[[Record], Iterable[reads.Doubt]] | None = None,
    ) -> None:
        """Judge the evidence and write the final record.

        :param trace: what the run read and wrote; without it nobody will take the run for up to date.
        """
        names, final = self.directory, self.record
        final.error = _top_error(error) if error else None
        if reader is not None:
            final.warnings = reader.warnings()
        children = [event["directory"] for event in events if event["event"] == "run"]
        final.runs = [Path(os.path.relpath(path, names.path)).as_posix() for path in dict.fromkeys(children)]
        if self.request.export_html and not interrupted:
            try:
                record.remove(names.html)  # a link that the flow made there is not followed
                convert_notebook_to_html(names.notebook, names.html)
            except Exception as problem:  # asked for beside the run: it must not turn a good run red
                remarks = [*remarks, f"⚠️ HTML export failed: {in_words(problem)}"]
        final.warnings += [{"line": None, "cell": None, "text": remark} for remark in remarks]
        for text, place in (*self._remarks_on_parameters(), *self.request.remarks):
            final.warnings.append({"line": None, "cell": None, "text": text, "place": place})
        nested = list(record.child_records(final, names.path))
        ended = [event for event in events if event["event"] == "ended"]
        final.status = (Status.INTERRUPTED if interrupted else _status(final, nested, ended)).value
        final.measures = measures.with_nested(measures.recorded(events), _measured(final, nested, ended))
        if not final.light.is_red:  # else what it did not come to may be taken again
            for run in set(self._last_runs).difference(final.runs):
                outputs.remove_nested(names, run)
        known = digests.of_project(self.request.project_root)
        final.outputs = outputs.made(names, self._before, known)
        final.ended = record.now()
        final.duration = round(time.monotonic() - self._started, 3)
        summary = next((event for event in events if event["event"] == "traced"), None)
        if trace is not None and summary is not None and not summary["lost"] and not final.light.is_red:
            assert self._inputs is not None
            made_of = [event["made_of"] for event in ended]
            evidence = freshness.Evidence(self._inputs, self.flow, trace, summary, made_of)
            freshness.fingerprint(self.request, final, evidence)
            self._doubt(final, doubts)
        if final.error is not None and reader is not None:
            self._write_last_words(reader.path)
        expectations.judge(final, self.request.expected, self.request.project_root)
        record.write_record(names.path, final)
        self._tell_ended(final)

    def _remarks_on_parameters(self) -> Iterator[tuple[str, str]]:
        for remark in self.flow.parameters.remarks(self.config):
            yield remark.text, f"{self.record.flow}:{remark.line}"

    def _doubt(self, final: Record, doubts: Callable[[Record], Iterable[reads.Doubt]] | None) -> None:
        """A run that read what does not count is orange, and not up to date."""
        found = [*(doubts(final) if doubts is not None else ())]
        found += reads.of_leftovers(final.inputs, self.request.leftovers)
        found += reads.of_undecided(final.inputs, self.request.undecided)
        for doubt in found:
            final.inputs |= dict.fromkeys(doubt.names, doubt.state)
            final.warnings.append({"line": None, "cell": None, "text": doubt.line})
            final.status = Status.WARNING.value  # it is not red

    def _write_last_words(self, text_file: Path, printed: int | None = None) -> None:
        """Write the error below what was printed. That it cannot be written changes no light."""
        final = self.record
        assert final.error is not None
        line = last_words.failed(self.directory.stem, final.instance, final.error)
        script = self.request.engine == "script"  # Python has printed the traceback
        try:
            final.printed = last_words.append(text_file, line, final.error, told=script, printed=printed)
        except OSError as problem:
            text = f"⚠️ the error is not in {text_file.name}: {problem.strerror}"
            final.warnings.append({"line": None, "cell": None, "text": text})

    def _tell_ended(self, final: Record) -> None:
        made_of = freshness.as_nested(final, self.directory.path, self.request.project_root)
        self._tell(
            "ended",
            status=final.status,
            made_of=made_of,
            flow=final.flow,
            instance=final.instance,
            measures=final.measures,
        )

    def refuse(self, error: dict[str, Any]) -> None:
        """Write a red record: what earlier runs wrote may be the last good results.

        They stay outputs, so that the next run starts clean. Only the text file gets the error at its end.
        """
        self.record = self._new_record()
        printed = None
        if (last := self._last()) is not None:
            self.record.outputs = last.outputs
            if last.flow == self.record.flow:
                printed = last.printed
            else:
                self.record.outputs |= outputs.own(RunDirectory(self.directory.path, Path(last.flow).stem))
        self.record.error, self.record.status = error, Status.ERROR.value
        self.record.ended, self.record.duration = record.now(), 0.0
        if self.directory.output.is_file():
            self._write_last_words(self.directory.output, printed)
        record.write_record(self.directory.path, self.record)
        self._tell("run")
        self._tell_ended(self.record)

    def write_files(self, *, durable: bool) -> None:
        """Write config and notebook. ``durable``: nobody writes them again."""
        request, names = self.request, self.directory
        text = notebook_of(self.flow, self.config, names.path, request.project_root, request.import_path)
        files = {self.directory.config: strict_json.dumps(self.config), self.directory.notebook: text}
        for path, content in files.items():  # the record holds the config too, and the engine saves again
            record.write_atomically(path, content.encode("utf-8", "backslashreplace"), durable=durable)

    def _new_record(self) -> Record:
        request = self.request
        return Record(
            kind=request.kind,
            flow=relative(request.flow, request.project_root),
            instance=request.instance,
            status=Status.RUNNING.value,
            started=record.now(),
            node_id=request.node_id,
            session=request.session,
            engine=engines.for_kernel(request.engine, self.flow.kernel),
            host=socket.gethostname(),
            pid=os.getpid() if request.engine == "script" else 0,
            worker=os.getpid(),
            config=self.config,
            scenario=request.scenario,
            needed=dict(request.needed),
            environment={"python": platform.python_version(), "platform": sys.platform},
        )


def _watch(
    run: Run,
    reader: OutputReader,
    echo: Callable[[str], None] | None,
    wanted: Callable[[], bool] | None,
) -> tuple[engines.Outcome, str | None]:
    """Let the engine work; return its outcome and why we stopped it, if we did."""
    request, current = run.request, run.record
    deadline = None if request.timeout is None else time.monotonic() + request.timeout
    engine = engines.start(
        engines.Task(
            flow=run.flow,
            notebook=run.directory.notebook,
            directory=run.directory.path,
            output=run.directory.output,
            project_root=request.project_root,
            python_path=request.import_path,
            reuse=request.reuse,
            session=request.session,
            engine=request.engine,
            cell_started=reader.cell_started,
        )
    )
    stopped = None
    written = time.monotonic()
    try:
        freshness.prepare()
        while not engine.done.wait(_POLL):
            _drain(reader, echo)
            if wanted is not None and not wanted():
                raise KeyboardInterrupt
            late = deadline is not None and time.monotonic() > deadline and engine.exit_status is None
            if late and stopped is None:
                stopped = f"stopped after {request.timeout:g} s, the run's timeout"
                engine.stop()
            cells, current.pid = _cells(engine.outcome), engine.outcome.pid
            if cells != current.cells and time.monotonic() - written > _RECORD_INTERVAL:
                written, current.cells = time.monotonic(), cells
                record.write_record(run.directory.path, current, durable=False)
    except BaseException:
        engine.stop()
        engine.done.wait(_STOP_TIMEOUT)
        current.cells, current.pid = _cells(engine.outcome), engine.outcome.pid
        run.events = engine.outcome.events
        raise
    finally:
        _drain(reader, echo)
        reader.close()
        engine.done.close()
    return engine.outcome, stopped


def _error(run: Run, outcome: engines.Outcome, stopped: str | None) -> dict[str, Any] | None:
    """The record's error, ``None`` if there is the evidence that the run finished."""
    if outcome.finished and stopped is None:
        return None
    error = dict(outcome.error or {"type": "Error", "message": "the run did not finish"})
    if stopped is not None:
        error = {"type": "Timeout", "message": stopped}
    if outcome.current is not None:
        error.setdefault("cell", outcome.current)
        if error.get("line") is None and (line := run.flow.line_of_executed(outcome.current)):
            message = f"{error['message']}, in the cell that starts at line {line}"  # there is no traceback
            error |= {"file": run.record.flow, "line": line, "message": message}
    return error


def _cells(outcome: engines.Outcome) -> dict[str, Any]:
    return {"total": outcome.total, "done": outcome.done, "current": outcome.current}


def _drain(reader: OutputReader, echo: Callable[[str], None] | None) -> None:
    while data := reader.read():
        if echo is not None:
            echo(decode(data))


def _top_error(error: dict[str, Any]) -> dict[str, Any]:
    """A flow's failure inside a build: the flow's own error on top, and the way it came."""
    if "cause" not in error:
        return error
    cause = dict(error["cause"])
    via = {key: error.get(key) for key in ("file", "line", "cell")}
    cause["run"] = cause.get("run") or error["run"]
    cause["via"] = [*cause.get("via", []), via]
    return cause


def _status(
    current: Record, nested: Sequence[tuple[Path, Record]], ended: Sequence[Mapping[str, Any]]
) -> Status:
    """:param nested: the nested runs' records; a retry leaves only the record of the last one.
    :param ended: what every nested run said at its end."""
    if current.error is not None:
        return Status.ERROR
    lights = [*(child.light for _, child in nested), *(Status(event["status"]) for event in ended)]
    if current.warnings or any(status != Status.SUCCESS for status in lights):
        return Status.WARNING
    return Status.SUCCESS


def _measured(
    current: Record, nested: Sequence[tuple[Path, Record]], ended: Sequence[Mapping[str, Any]]
) -> list[tuple[tuple[str, ...], measures.Measures]]:
    """What nested runs can be called by, and their measures: as they said at their end, scripts in records.

    Of a retry the last one counts; several flows may have run in one directory.
    """
    found = {(event["directory"], event["flow"]): (event["instance"], event["measures"]) for event in ended}
    told = {directory for directory, _ in found}
    for path, child in nested:
        if str(path) not in told:
            found[str(path), child.flow] = (child.instance, child.measures)
    directories = {str(path): name for (path, _), name in zip(nested, current.runs, strict=True)}
    return [
        ((name, (place := directories.get(directory, directory)), f"{place}/{Path(flow).stem}"), measured)
        for (directory, flow), (name, measured) in found.items()
    ]
