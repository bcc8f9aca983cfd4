"""What a session's end shows of its instances: failures by cause, slowest, warnings; also on a job's page.

pytest's terminal prints reports. Those of a cluster are replaced, while it prints failures, by one report
that stands for them; before anything else happens they are put back, so all that counts, lists or
re-runs failures sees each of them.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import pytest

from pytest_ductaflow.errors import FlowWarning, in_words
from pytest_ductaflow.notices import warn
from pytest_ductaflow.xfail import STRICT, XFAILED, verdict_of

if TYPE_CHECKING:
    from pytest_ductaflow.record import Record
    from pytest_ductaflow.report.clusters import Cluster
    from pytest_ductaflow.report.summary import Outcome, Summary

#: Names the file to which a step of a GitHub workflow appends its summary.
_STEP_SUMMARY: Final = "GITHUB_STEP_SUMMARY"
#: Styles of ``--tb`` that show no tracebacks: what they show is short already.
_NO_TRACEBACKS: Final = ("no", "line")


def _without_waiting(path: str, flags: int) -> int:
    """Open a file to write; a pipe that nobody reads would keep us waiting."""
    descriptor = os.open(path, flags | getattr(os, "O_NONBLOCK", 0), 0o666)
    os.set_blocking(descriptor, True)
    return descriptor


class Endings:
    """How each instance of the session ended, from its reports and records. Hooks of the controller."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._outcomes: dict[str, Outcome] = {}
        self._warned: set[str] = set()  # node ids
        #: Why an instance could not be run, so that no record tells, as one would: by path.
        self.without_record: dict[str, dict[str, Any]] = {}
        #: Node ids of files that could not be collected.
        self.unreadable: dict[str, None] = {}
        #: How many instances did not end, and of how many, if the session was stopped.
        self.stopped: tuple[int, int] | None = None
        #: What is said of the status page.
        self.page = os.path.relpath(config.rootpath / "runs" / "conductor_status_report.html")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep what an instance's report says. What it says last counts: there are reruns."""
        scenario = getattr(report, "ductaflow", None)
        if scenario is None or (report.when == "teardown" and report.passed):
            return
        properties = dict(report.user_properties)
        if "run_directory" not in properties or "status" not in properties:
            return
        from pytest_ductaflow.report.summary import Outcome
        from pytest_ductaflow.status import Status

        path = str(properties["run_directory"]).removeprefix("runs/")
        light = Status(str(properties["status"])).light
        ended = self._outcomes.setdefault(report.nodeid, Outcome(report.nodeid, path, light))
        ended.light, ended.scenario = light, json.loads(scenario)
        self.without_record.pop(path, None)
        verdict = verdict_of(report)
        if verdict is not None and verdict.word == STRICT:
            ended.light = Status.ERROR.light
            flow = str(properties.get("flow", ""))
            self.without_record[path] = {"type": STRICT, "message": verdict.reason, "file": flow}
        if "problem" in properties:
            self.without_record[path] = {
                "type": properties["problem_type"],
                "message": properties["problem"],
                "file": "runs",
            }
        ended.fresh = "up_to_date" in properties
        ended.failed = report.failed or (report.when == "teardown" and ended.failed)
        ended.xfailed = verdict is not None and verdict.word == XFAILED
        if report.when == "call":
            ended.seconds = report.duration
        if properties.get("warnings"):
            self._warned.add(report.nodeid)

    @property
    def outcomes(self) -> list[Outcome]:
        """Of all instances so far."""
        return list(self._outcomes.values())

    def failed(self, node_id: str) -> None:
        """An instance failed without a light: its worker died, its set-up failed."""
        from pytest_ductaflow.report.summary import Outcome

        ended = self._outcomes.setdefault(node_id, Outcome(node_id, "", "red"))
        ended.light, ended.failed = "red", True

    def xfailed(self, node_id: str) -> None:
        """An instance failed as its mark expects, maybe before it could run."""
        from pytest_ductaflow.report.summary import Outcome

        self._outcomes.setdefault(node_id, Outcome(node_id, "", "red")).xfailed = True

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self) -> None:
        """Write the summary of a GitHub job."""
        target = os.environ.get(_STEP_SUMMARY)
        if not target or not (self._outcomes or self.unreadable or self.stopped):
            return
        from pytest_ductaflow.report.summary import markdown

        try:
            with open(target, "a", encoding="utf-8", opener=_without_waiting) as file:
                file.write(markdown(self.summary) + "\n")
        except Exception as error:  # a summary beside the results must not hide them
            warn(self._config, f"{_STEP_SUMMARY} cannot be written: {in_words(error)}")

    @cached_property
    def summary(self) -> Summary:
        """What is to be said at the end. Everything must have been reported."""
        from pytest_ductaflow.errors import describe_error
        from pytest_ductaflow.report.clusters import clusters, of_records
        from pytest_ductaflow.report.summary import Summary

        root = self._config.rootpath
        scenarios = {outcome.path: outcome.scenario for outcome in self.outcomes if outcome.path}
        failures, warned = of_records(self.records, root / "runs", root)
        expected = {outcome.path for outcome in self.outcomes if not outcome.failed}  # with a mark: xfail
        failures = [one for one in failures if one.path not in expected]
        return Summary(
            project=root.name,
            outcomes=self.outcomes,
            failures=clusters(failures, scenarios),
            warnings=clusters(warned, scenarios),
            errors={
                path: str(self.without_record.get(path, {}).get("message") or describe_error(one.error))
                for path, one in self.records.items()
                if one.error
            },
            problems=[*self._problems()],
            page=self.page,
        )

    def _problems(self) -> Iterator[str]:
        if self.stopped:
            missing, of = self.stopped
            yield f"stopped: {missing:,} of {of:,} instances did not end"
        if self.unreadable:
            yield f"cannot be read: {', '.join(self.unreadable)}"

    @cached_property
    def records(self) -> dict[str, Record]:
        """The records of the instances that failed or warned, by path. Whose is unreadable has none."""
        from pytest_ductaflow.errors import RecordError
        from pytest_ductaflow.record import Record, read_record

        found = {}
        for node_id, outcome in self._outcomes.items():
            if error := self.without_record.get(outcome.path):  # what is there is of an earlier run
                found[outcome.path] = Record("flow", "", outcome.name, "error", "", node_id, error=error)
            elif outcome.path and (outcome.light == "red" or node_id in self._warned):
                with contextlib.suppress(RecordError):
                    found[outcome.path] = read_record(self._config.rootpath / "runs" / outcome.path)
        return found

    def cluster_of(self, report: Any) -> int | None:
        """The number of the cluster to which a printed failure belongs, if its run explains it."""
        outcome = self._outcomes.get(getattr(report, "nodeid", ""))
        if outcome is None or outcome.light != "red" or not getattr(report, "failed", False):
            return None
        error = getattr(self.records.get(outcome.path), "error", None) or {}
        phase = "setup" if error.get("type") == "NotRun" else "call"
        if report.when != phase or hasattr(report, "wasxfail"):
            return None
        return self._number.get(outcome.path)

    @cached_property
    def _number(self) -> dict[str, int]:
        clusters = self.summary.failures
        return {path: number for number, cluster in enumerate(clusters) for path in cluster.paths}


class FailuresByCause:
    """While pytest prints failures, one report stands for all that share a cause."""

    def __init__(self, config: pytest.Config, endings: Endings) -> None:
        self._config = config
        self._endings = endings
        self._taken: dict[str, tuple[list[Any], list[Any]]] = {}
        self._flow_warnings: set[int] = set()  # ids of the terminal's reports of warning lines
        #: How many failures were shown together with others.
        self.together = 0

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_terminal_summary(
        self, terminalreporter: pytest.TerminalReporter
    ) -> Generator[None, None, None]:
        """Outside of the terminal's own wrapper, which prints failures before all other implementations."""
        style = self._config.getoption("tbstyle", "auto")
        clusters = self._config.getoption("--ductaflow-tracebacks") == "clusters"
        warnings = terminalreporter.stats.get("warnings")
        if warnings and clusters and terminalreporter.verbosity >= 0:  # they are shown by cause
            terminalreporter.stats["warnings"] = [
                one for one in warnings if id(one) not in self._flow_warnings
            ]
        if clusters and style not in _NO_TRACEBACKS:
            for category in ("failed", "error"):
                if reports := terminalreporter.stats.get(category):
                    shown = self._shown(reports)
                    self._taken[category] = reports, shown
                    terminalreporter.stats[category] = shown
        try:
            yield
        finally:
            self.put_back(terminalreporter)
            if warnings:
                before = {id(one) for one in warnings}
                came = [one for one in terminalreporter.stats["warnings"] if id(one) not in before]
                terminalreporter.stats["warnings"] = [*warnings, *came]

    @pytest.hookimpl(trylast=True)
    def pytest_warning_recorded(self, warning_message: Any) -> None:
        """Know the reports that the terminal, which came before us, has just made of warning lines."""
        terminal = self._config.pluginmanager.get_plugin("terminalreporter")
        if terminal is not None and issubclass(warning_message.category, FlowWarning):
            self._flow_warnings.update(map(id, terminal.stats.get("warnings", ())[-1:]))

    def put_back(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Let the terminal have all reports again, and those that came since."""
        for category, (reports, shown) in self._taken.items():
            now = terminalreporter.stats.get(category)
            if now is shown:
                known = {id(report) for report in reports}
                came = [one for one in now if id(one) not in known and not isinstance(one, _StandIn)]
                reports.extend(came)
                terminalreporter.stats[category] = reports
        self._taken.clear()

    def _shown(self, reports: Sequence[Any]) -> list[Any]:
        """The reports, but one that stands for all of a cluster in the place of its first."""
        members: dict[int, list[Any]] = {}
        for report in reports:
            number = None if hasattr(report, "_pdbshown") else self._endings.cluster_of(report)
            if number is not None:
                members.setdefault(number, []).append(report)
        replaced: dict[int, Any] = {}
        for number, found in members.items():
            if len(found) > 1:
                self.together += len(found)
                stands = self._stand_in(self._endings.summary.failures[number], found[0])
                replaced |= {id(report): None for report in found} | {id(found[0]): stands}
        return [shown for report in reports if (shown := replaced.get(id(report), report)) is not None]

    def _stand_in(self, cluster: Cluster, report: Any) -> Any:
        from pytest_ductaflow.report import failure
        from pytest_ductaflow.report.summary import cluster_lines

        root = self._config.rootpath
        path = cluster.paths[0]
        steps = failure.commands(self._endings.records[path], root / "runs" / path, root)
        if report.when == "setup" or path in self._endings.without_record:  # there is nothing to open
            steps.pop("open")
        title, *lines = cluster_lines(cluster, steps)
        whole = None if report.when == "setup" else report.longrepr
        shown = _FirstOfCluster(lines, whole)
        sections = [] if whole is None else report.sections
        place = (report.location[0], None, title)
        return _StandIn("", place, {}, "failed", shown, report.when, sections)  # type: ignore[arg-type]


class _StandIn(pytest.TestReport):
    """A report that pytest prints like any other."""


@dataclass(frozen=True)
class _FirstOfCluster:
    """What a cluster's instances have in common, and below it the failure of the first of them.

    :param whole: pytest's representation of that failure, ``None`` to leave it out.
    """

    lines: Sequence[str]
    whole: Any

    def toterminal(self, writer: Any) -> None:
        """Print it, as pytest asks of a representation."""
        for line in self.lines:
            writer.line(line)
        if hasattr(self.whole, "toterminal"):
            self.whole.toterminal(writer)
        elif self.whole is not None:
            writer.line(str(self.whole))


class PutBack:
    """Before any other implementation of the hook, and after the terminal printed the failures."""

    def __init__(self, failures: FailuresByCause) -> None:
        self._failures = failures

    @pytest.hookimpl(tryfirst=True)
    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Nobody else is to see what stood for the failures."""
        self._failures.put_back(terminalreporter)
