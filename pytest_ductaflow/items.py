"""Instances as pytest items: one file is a collector, one instance a test."""

from __future__ import annotations

import contextlib
import functools
import os
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, cast

import pytest

from pytest_ductaflow import doubts, execution
from pytest_ductaflow.capture import last_lines
from pytest_ductaflow.errors import (
    DuctaflowError,
    FlowWarning,
    InstanceError,
    RecordError,
    RunBusy,
    RunFailed,
    describe_error,
    in_words,
)
from pytest_ductaflow.execution import Request
from pytest_ductaflow.flow import line_of_cell
from pytest_ductaflow.instance import Instance, Mark, lines_of, load_instances
from pytest_ductaflow.options import executes_nothing
from pytest_ductaflow.printable import coloured, plain
from pytest_ductaflow.record import Record, RunDirectory, child_records, lock, read_record
from pytest_ductaflow.report import failure
from pytest_ductaflow.representation import represent
from pytest_ductaflow.session import SESSION
from pytest_ductaflow.status import Status

#: More warning lines of one run than this are summarised.
FLOOD: Final = 100
#: Printed lines shown with a result.
_TAIL: Final = 20
#: Properties of a report: why an instance could not be run, and the error's type.
_PROBLEM: Final = ("problem", "problem_type")


class InstanceFile(pytest.File):
    """An instance file."""

    def collect(self) -> list[InstanceItem]:
        """Its instances, in its order."""
        session = self.config.stash[SESSION]
        try:
            instances = session.loaded[self.path] = load_instances(self.path, session.root)
            first = instances[0]
            decorators = [_decorator(mark) for mark in first.marks]
            decorators.append(getattr(pytest.mark, first.kind).with_args(name=Path(first.flow).stem))
            return [self._item(instance, decorators) for instance in instances]
        except InstanceError as error:
            problem = str(error)
        except (pytest.fail.Exception, pytest.PytestUnknownMarkWarning) as error:
            line = self.lines.get(("marks",), 1)  # an unregistered mark: --strict-markers, -W error
            problem = f"{os.path.relpath(self.path, session.root)}:{line}: marks: {error}"
        except Exception as error:  # ours, but one file must not keep the others from running
            problem = f"{os.path.relpath(self.path, session.root)}:1: {type(error).__name__}: {error}"
        session.bad_files += 1
        raise self.CollectError(plain(problem))

    def _item(self, instance: Instance, decorators: list[pytest.MarkDecorator]) -> InstanceItem:
        item: InstanceItem = InstanceItem.from_parent(self, name=instance.name, instance=instance)
        for decorator in decorators:
            item.add_marker(decorator)
        return item

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], *args: Any, **options: Any) -> Any:
        """A mistake in the file as one line, also in the short summary."""
        if not isinstance(excinfo.value, self.CollectError):
            return super().repr_failure(excinfo, *args, **options)
        if hasattr(self.config, "workerinput"):
            return str(excinfo.value)  # as text it is equal in all workers, so xdist shows it once
        shown = excinfo.getrepr(style="native")
        entry: Any = shown.reprtraceback.reprentries[-1]
        entry.lines = [f"{excinfo.value}\n"]
        shown.reprtraceback.reprentries = [entry]
        assert shown.reprcrash is not None
        text = str(excinfo.value)  # the short summary has the file already, and cuts what is too long
        shown.reprcrash.message = text.replace(f"{self.nodeid}:", "line ", 1)
        return shown

    @functools.cached_property
    def lines(self) -> dict[tuple[str | int, ...], int]:
        """The line of every place in the file."""
        return lines_of(self.path)


class InstanceItem(pytest.Item):
    """An instance: executing it is the test."""

    def __init__(self, *, instance: Instance, **options: Any) -> None:
        super().__init__(**options)
        self.instance = instance
        self.ductaflow = self.config.stash[SESSION]
        #: As collected; xdist's loadgroup appends the group's name to pytest's own.
        self.node_id: Final[str] = self.nodeid
        #: Seconds that the run took, if it was not this item's turn that executed it.
        self.earlier: float | None = None
        #: This session's run, if nothing is left to do but to report it.
        self.ran: Record | None = None
        if instance.scenario:
            self.add_marker(_scenario_mark(instance.scenario))
        self.extra_keyword_matches.update(str(value) for value in instance.scenario.values())

    @functools.cached_property
    def run_directory(self) -> Path:
        """Absolute path of the run directory."""
        return self.ductaflow.root / self.instance.run_directory

    def reportinfo(self) -> tuple[Path, int, str]:
        """The JSON file and the 0-based line where this instance stands."""
        assert isinstance(self.parent, InstanceFile)
        lines, place = self.parent.lines, self.instance.place
        while place and place not in lines:
            place = place[:-1]
        # Not the bare name: pytest takes a name with a dot for Class.method and prints it as a::b.
        return self.path, lines.get(place, 1) - 1, f"{self.name} ({self.instance.flow})"

    def setup(self) -> None:
        """Have what this instance needs executed first, and do not go on if it is red."""
        if self.ran is not None:
            error = self.ran.error or {}
            if error.get("type") == "NotRun":
                self._tell(self.ran)
                pytest.fail(str(error["message"]), pytrace=False)
            return
        if self.ductaflow.no_execute or self.ductaflow.accept or executes_nothing(self.config):
            return
        for problem in self.ductaflow.stale_before(self):
            try:
                self.warn(pytest.PytestWarning(f"ductaflow: {problem}"))
            except pytest.PytestWarning as error:  # a filter makes it one: said without our source
                pytest.fail(str(error), pytrace=False)
        reason = self._refused()
        if reason is not None:
            pytest.fail(reason, pytrace=False)

    def _refused(self) -> str | None:
        """Have what is needed executed; if some of it is red, record that this is not run, and say why.

        A red baseline keeps nobody from running: only the measures are compared with it, afterwards.
        """
        for needed in self.ductaflow.needed(self):
            record = needed.ensure()
            if record is not None and record.light.is_red and self.ductaflow.stops(self, needed):
                return self._refuse(f"needs {needed.node_id}, which failed")
        reason = self.ductaflow.refusal(self)
        return self._refuse(reason) if reason else None

    def _refuse(self, reason: str) -> str:
        refused = self.ductaflow.peek(self)
        if refused is None:
            refused = execution.refuse(self.request(), reason)
            self.ductaflow.keep(self, refused)
        self._tell(refused)
        return reason

    def runtest(self) -> None:
        """Execute the instance (or take the run that this session already made of it)."""
        if self.ductaflow.no_execute:
            prepared = execution.prepare(self.request())
            where = self.instance.run_directory
            kept = prepared.record.exists()
            pytest.skip(
                f"holds a run of this config, left as it is: {where}"
                if kept
                else f"prepared, not executed: {where}"
            )
        record = self.ran or self._have_run()
        self._tell(record)
        lines = self.output_tail(record)
        if lines:
            self.add_report_section("call", "stdout", coloured("\n".join(lines)) + "\n")
        raised = self._warn(record)
        if record.light.is_red:
            raise RunFailed(str(self.run_directory), record.error or {})
        if raised is not None:
            raise raised

    def _have_run(self) -> Record:
        """The record of this turn."""
        if self.ductaflow.accept:
            return self._accept()
        again = self.ductaflow.had_turn(self)  # a rerun is a new run
        record = None if again else self.ductaflow.known(self)
        if record is None:
            return self._execute(again=again)
        if record.session == self.ductaflow.identifier:
            self.earlier = record.duration
        return record

    def _accept(self) -> Record:
        try:
            return execution.accept(self.request())
        except (RecordError, RunBusy) as error:
            problem = str(error)
        pytest.fail(f"{self.node_id} {problem}", pytrace=False)

    def _tell(self, record: Record) -> None:
        """Properties of the report: for JUnit, and for whoever shows results."""
        properties = {
            "run_directory": self.instance.run_directory,
            "status": record.status,
            "flow": record.flow,
            "warnings": len(list(_warnings_of(record, self.run_directory, self.ductaflow.root))),
        }
        if record.session != self.ductaflow.identifier:
            properties["up_to_date"] = True
        if record.accepted:
            properties["accepted"] = record.accepted[-1]["time"]
        told = {*properties, *_PROBLEM}  # by an earlier attempt
        kept = [(key, value) for key, value in self.user_properties if key not in told]
        self.user_properties = [*kept, *properties.items()]

    def _tell_problem(self, kind: str, problem: str) -> None:
        """The same for an instance that could not be run, so that no record tells why."""
        self.user_properties += [
            ("run_directory", self.instance.run_directory),
            ("status", Status.ERROR.value),
            *zip(_PROBLEM, (problem, kind), strict=True),
        ]

    def ensure(self) -> Record | None:
        """The record of this session's run, executing it if nobody has; ``None`` if it is not to be run."""
        if self.is_not_to_be_run():
            return None
        found = self.ductaflow.peek(self)
        if found is None and self._refused() is None:
            return self.ductaflow.known(self) or self._execute(again=False)
        return found or self.ductaflow.peek(self)

    def is_not_to_be_run(self) -> bool:
        """Whether a mark keeps pytest from running this. A condition in words is pytest's to evaluate: when
        in doubt it is not run ahead of its turn, and who needs it judges what is there."""

        def applies(mark: pytest.Mark) -> bool:
            conditions = [mark.kwargs["condition"]] if "condition" in mark.kwargs else list(mark.args)
            return any(isinstance(condition, str) or bool(condition) for condition in conditions)

        return (
            self.get_closest_marker("skip") is not None
            or any(applies(mark) for mark in self.iter_markers("skipif"))
            or any(
                mark.kwargs.get("run") is False
                and (applies(mark) or not (mark.args or "condition" in mark.kwargs))
                for mark in self.iter_markers("xfail")
            )
        )

    def _execute(self, *, again: bool) -> Record:
        """Execute the instance. Another process of this session may be about to, or have just done so."""
        echo = _show if self.config.getoption("capture", "fd") == "no" else None
        doubts_of = functools.partial(doubts.of_run, self.ductaflow, self)
        done = None if again else functools.partial(self.ductaflow.known, self, locked=True)
        while True:
            try:
                record = execution.execute(
                    self.request(), echo=echo, wanted=self.ductaflow.wanted, done=done, doubts=doubts_of
                )
            except RunBusy:
                with lock(self.run_directory, wait=True):
                    continue
            self.ductaflow.keep(self, record)
            return record

    def request(self) -> Request:
        """What to execute.

        :raises RecordError: if the directory leads elsewhere. ``runs`` itself may be a link to another disk.
        """
        return self.ductaflow.request(self.instance, self.node_id)

    def output_tail(self, record: Record) -> list[str]:
        """The last printed lines; of a failed flow inside a build, that flow's."""
        error = record.error or {}
        directory = self.run_directory
        if error.get("run"):
            with contextlib.suppress(RecordError):
                directory, record = Path(error["run"]), read_record(Path(error["run"]))
        return last_lines(RunDirectory(directory, Path(record.flow).stem).output, _TAIL, record.printed)

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], *args: Any, **options: Any) -> Any:
        """A failed run in pytest's manner; other errors as short as they can be."""
        error = excinfo.value
        if isinstance(error, RunFailed):
            return self._repr_run(excinfo, error.error)
        if isinstance(error, FlowWarning):
            return (
                f"{error}\norange counts as failure here (a warning filter makes FlowWarning an error)\n"
                f"run directory: {self.instance.run_directory}"
            )
        if isinstance(error, (DuctaflowError, OSError)):  # no record says it
            problem = _said_of(error, self.ductaflow.root)
            self._tell_problem(type(error).__name__, problem)
            return problem
        return super().repr_failure(excinfo, *args, **options)

    def _repr_run(self, excinfo: pytest.ExceptionInfo[BaseException], error: dict[str, Any]) -> Any:
        style = self.config.getoption("tbstyle", "auto")
        try:
            record = read_record(self.run_directory)
            whole = style == "long"
            below = failure.sections(record, self.run_directory, self.ductaflow.root, whole_traceback=whole)
        except RecordError:
            below = []
        known = {key: value for key, value in error.items() if value is not None}
        error = {"file": self.instance.flow, **known}
        return represent(excinfo, error, below, style=style, place=self.node_id, root=self.ductaflow.root)

    def _warn(self, record: Record) -> FlowWarning | None:
        """Issue the run's warning lines; return the first that a filter turned into an error."""
        raised = None
        for text in self._warning_texts(record):
            try:
                self.warn(FlowWarning(text))
            except FlowWarning as warning:
                raised = raised or warning
        return raised

    def _warning_texts(self, record: Record) -> list[str]:
        found = list(_warnings_of(record, self.run_directory, self.ductaflow.root))
        if len(found) <= FLOOD:
            return [plain(f"{text} ({place})") for text, place in found]
        common = Counter(text for text, _ in found).most_common(3)
        shown = "; ".join(f"{text} (×{count})" for text, count in common)
        where = f"{self.instance.run_directory}/{Path(record.flow).stem}_execution_output.txt"
        return [
            plain(f"{len(found):,} warning lines, most often: {shown}. All are in {where} and the record")
        ]


def _said_of(error: Exception, root: Path) -> str:
    """One line for an error that is no run's: paths of the project as its users write them."""
    return plain(in_words(error).replace(f"{root}{os.sep}", ""))


def _warnings_of(record: Record, directory: Path, root: Path) -> Iterator[tuple[str, str]]:
    """A run's warning lines and those of its nested runs, each with the place of its cell or expectation."""
    for warning in record.warnings:
        line = line_of_cell(root / record.flow, warning.get("cell"))
        place = warning.get("place") or (f"{record.flow}:{line}" if line else record.flow)
        yield str(warning["text"]), str(place)
    for path, child in child_records(record, directory):
        yield from _warnings_of(child, path, root)
        if child.light.is_red and record.error is None:
            yield f"{describe_error(child.error or {})}", f"caught by {record.flow}"


def _show(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def _scenario_mark(values: dict[str, Any]) -> pytest.MarkDecorator:
    decorator = pytest.mark.scenario.with_args()
    # Not as keywords of with_args: a dimension may be called `self`. The dict is this decorator's own.
    cast("dict[str, Any]", decorator.kwargs).update(values)
    return decorator


def _decorator(mark: Mark) -> pytest.MarkDecorator:
    decorator: pytest.MarkDecorator = getattr(pytest.mark, mark.name)
    if mark.name in ("skipif", "xfail") and "condition" in mark.arguments:
        rest = {key: value for key, value in mark.arguments.items() if key != "condition"}
        return decorator.with_args(mark.arguments["condition"], **rest)
    return decorator.with_args(**mark.arguments)
