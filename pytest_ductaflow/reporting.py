"""What the controlling process shows: status words, a summary of the lights, pytest-html's columns.

It sees reports only, also those that xdist's workers send: an instance's light travels in
``user_properties``. Everything else is read from the run directory.
"""

from __future__ import annotations

import contextlib
import functools
import html
import os
from collections import Counter
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal
from urllib.parse import quote

import pytest

from pytest_ductaflow.errors import in_words
from pytest_ductaflow.names import file_of
from pytest_ductaflow.options import executes_nothing, instance_files, leftovers
from pytest_ductaflow.status import Status
from pytest_ductaflow.terminal import Endings, FailuresByCause, PutBack
from pytest_ductaflow.xfail import STRICT, XFAILED, verdict_of

if TYPE_CHECKING:
    from pytest_ductaflow.live import Live

_WORDS: Final = {
    Status.SUCCESS: ("passed", ".", ("PASSED (green)", {"green": True})),
    Status.WARNING: ("passed", "o", ("PASSED (orange)", {"yellow": True})),
    Status.ERROR: ("failed", "F", ("FAILED (red)", {"red": True})),
}
_LIGHTS: Final = ("green", "orange", "red")
_COLOURS: Final = {"green": "#1a7f37", "orange": "#b35900", "red": "#c1121f"}
_SYMBOLS: Final = {"green": "●", "orange": "▲", "red": "✖"}


def light_of(report: pytest.TestReport | pytest.CollectReport) -> Status | None:
    """The light that a report's instance has, ``None`` if it is no instance's or was not run.

    Anybody may call a property ``run_directory`` or ``status``: the session marks its instances' reports.
    """
    properties = dict(getattr(report, "user_properties", ()))
    try:
        return Status(str(properties["status"])) if hasattr(report, "ductaflow") else None
    except (KeyError, ValueError):
        return None


def is_up_to_date(report: pytest.TestReport) -> bool:
    """Whether the instance was not executed because its last run is up to date."""
    return ("up_to_date", True) in report.user_properties


class Reporting:
    """Hooks of the controlling process."""

    def __init__(self, config: pytest.Config, identifier: str) -> None:
        self._config = config
        self._identifier = identifier
        self._lights: dict[str, str] = {}
        self._summarising = False
        self._any = False
        self._expected: dict[str, None] = {}
        self._reported: set[str] = set()
        self._lost: list[str] = []
        self._crash: object = None  # the last report of a test whose worker died
        self._collected_by_workers = self._worker_died = False
        self._workers: dict[str, Any] = {}  # where an instance was last heard of
        self._endings = Endings(config)
        self._failures = FailuresByCause(config, self._endings)
        for part in (self._endings, self._failures, PutBack(self._failures)):
            config.pluginmanager.register(part)

    def pytest_report_header(self) -> str | None:
        """Which engine executes instances, and why."""
        if not self._has_instances():
            return None
        from pytest_ductaflow import engines  # only a project with instances needs it

        engine, reason = engines.choose(self._config.getoption("--ductaflow-engine"))
        return f"ductaflow: engine {engine} ({reason})"

    def pytest_report_teststatus(self, report: Any) -> tuple[str, str, tuple[str, dict[str, bool]]] | None:
        """The light in the status word of verbose mode; expected failures keep pytest's words."""
        if getattr(report, "when", None) != "call" or hasattr(report, "wasxfail"):
            return None
        light = light_of(report)
        verdict = verdict_of(report)
        if light is not None and verdict is not None:  # strict, and it passed
            light = Status.ERROR
        if light is None or report.outcome not in ("passed", "failed"):  # pytest-rerunfailures has "rerun"
            return None
        if report.passed and is_up_to_date(report):
            return "up to date", "u", (f"UP-TO-DATE ({light.light})", _WORDS[light][2][1])
        if report.failed and not light.is_red:  # a warning filter made orange an error
            category, letter, word, markup = "failed", "F", f"FAILED ({light.light})", {"red": True}
        else:
            category, letter, (word, markup) = _WORDS[Status.ERROR if light.is_red else light]
        return category, letter, (word.split()[0] if self._summarising else word, markup)

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """Remember that there are instances, also if none gets to its end."""
        self._any = self._any or self._is_instance(nodeid)

    @pytest.hookimpl(optionalhook=True, tryfirst=True)
    def pytest_handlecrashitem(self, crashitem: str, report: Any) -> None:
        """The worker of a test died: that is its call's failure. xdist has no phase for it.

        An ordinary test counts as instances do in a project that has them.
        """
        if self._is_instance(crashitem) or self._has_instances():
            report.when = "call"
            self._crash = report

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> Generator[None, object, object]:
        """After a crash nothing else is reported, and pytest-html shows a test when its teardown is."""
        self._count(report)
        result = yield
        if report is self._crash and report.failed:  # pytest-rerunfailures may have another attempt made
            teardown = self._made_up(report.nodeid, "teardown")
            self._config.hook.pytest_runtest_logreport(report=teardown)
        return result

    def _count(self, report: pytest.TestReport) -> None:
        """Count the lights. What failed without one (its worker died, its set-up failed) is red."""
        if hasattr(report, "node"):
            self._workers[report.nodeid] = report.node
        rerun = str(report.outcome) == "rerun"  # of pytest-rerunfailures
        if not rerun and (report.when != "setup" or not report.passed):
            self._reported.add(report.nodeid)
        light, verdict = light_of(report), verdict_of(report)
        if verdict is not None and verdict.word == XFAILED:
            if light is not None or self._is_instance(report.nodeid):
                self._lights[report.nodeid] = XFAILED
                self._endings.xfailed(report.nodeid)
        elif verdict is not None and verdict.word == STRICT and light is not None:
            self._lights[report.nodeid] = Status.ERROR.light
        elif light is not None:
            if report.when != "teardown" or report.nodeid not in self._lights:
                self._lights[report.nodeid] = light.light
        elif report.failed and (hasattr(report, "ductaflow") or self._is_instance(report.nodeid)):
            self._lights[report.nodeid] = Status.ERROR.light
            self._endings.failed(report.nodeid)

    # --- what was collected must be reported ---

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """A file that cannot be read."""
        if report.failed:
            self._endings.unreadable[report.nodeid] = None

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> Generator[None, object, object]:
        """Remember which instances are to run. Under xdist only its workers know, and they tell.

        What ran and did not come to its turn is reported here: later, who is interrupted cannot capture.
        """
        self._expected |= dict.fromkeys(item.nodeid for item in session.items if hasattr(item, "ductaflow"))
        try:
            return (yield)
        finally:
            if self._unreported and not executes_nothing(self._config):
                from pytest_ductaflow.ahead import report_ahead

                report_ahead(session, self._identifier, self._unreported)

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, ids: list[str]) -> None:
        """The same for a worker's instances."""
        self._collected_by_workers = True
        self._expected |= dict.fromkeys(nodeid for nodeid in ids if self._is_instance(nodeid))

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, error: object) -> None:
        """Remember that a worker died: if each does so while it collects, nobody knows what was to run."""
        self._worker_died = self._worker_died or bool(error)

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        """An instance that vanished (with its worker) is a failure of its own, wherever results are shown."""
        nothing = exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED and not self._collected_by_workers
        if nothing and self._worker_died and self._has_instances():
            problem = "the workers died while they collected; without -n pytest may show where"
            failed = pytest.CollectReport(".", "failed", problem, [])
            self._config.hook.pytest_collectreport(report=failed)
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
            return
        if executes_nothing(self._config):
            return
        lost = self._unreported
        if not lost:
            return
        ended = (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.NO_TESTS_COLLECTED)
        if exitstatus not in ended or session.shouldstop or session.shouldfail:
            self._endings.stopped = len(lost), len(self._expected)
            return
        for nodeid in lost:
            text = "collected, but never reported: it was lost"
            for report in (self._made_up(nodeid, "call", text), self._made_up(nodeid, "teardown")):
                self._config.hook.pytest_runtest_logreport(report=report)
        self._lost = lost
        session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def _made_up(
        self, nodeid: str, when: Literal["call", "teardown"], problem: str | None = None
    ) -> pytest.TestReport:
        """A report of a phase that no process reported."""
        place = (file_of(nodeid), None, nodeid)
        report = pytest.TestReport(nodeid, place, {}, "failed" if problem else "passed", problem, when)
        if nodeid in self._workers:  # JUnit tells tests of different workers apart
            report.node = self._workers[nodeid]  # type: ignore[attr-defined]
        return report

    @property
    def _unreported(self) -> list[str]:
        """The instances that were to be run, and of which no report came."""
        return [nodeid for nodeid in self._expected if nodeid not in self._reported]

    def _is_instance(self, nodeid: str) -> bool:
        """Whether an id is that of an instance. The controlling process may not have collected it."""
        file = file_of(nodeid)
        return file.endswith(".json") and self._config.rootpath / file in self._files_of_instances

    @functools.cached_property
    def _files_of_instances(self) -> set[Path]:
        return instance_files(self._config)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter, exitstatus: int) -> None:
        """How many are green, orange and red, what took long, what warned, and where the status page is."""
        self._summarising = True  # the short summary comes next, and tools look for "FAILED <id>" in it
        left = terminalreporter.stats.get("deselected") or terminalreporter.stats.get("error")
        if exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED and not left:
            from pytest_ductaflow.nothing import why_nothing

            if text := why_nothing(self._config):
                terminalreporter.write_line(f"ductaflow: {text}", yellow=True)
        if not (self._any or self._lights):
            return
        quiet = terminalreporter.verbosity < 0
        if quiet:
            terminalreporter.ensure_newline()
        else:
            terminalreporter.section("lights", sep="-")
        self._show_lights(terminalreporter)
        if self._lost:
            terminalreporter.write_line(f"collected but not reported: {', '.join(self._lost)}", red=True)
        if self._lights and not quiet:
            self._show_endings(terminalreporter)
        live: Live | None = self._config.pluginmanager.get_plugin("ductaflow-live")
        if live is not None and live.outcome is not None:
            terminalreporter.write_line(f"status page: {live.outcome}")
        if line := self._leftovers():
            terminalreporter.write_line(line, yellow=True)

    def _leftovers(self) -> str:
        """One line that names them."""
        from pytest_ductaflow.leftovers import line  # only a session with instances gets here

        try:
            return line(leftovers(self._config).found)
        except Exception as error:  # beside the results: it must not hide them
            return f"leftovers are not known: {in_words(error)}"

    def _show_lights(self, terminalreporter: pytest.TerminalReporter) -> None:
        counts = Counter(self._lights.values())
        for light in _LIGHTS:
            markup = {"yellow" if light == "orange" else light: True}
            terminalreporter.write(f"{counts[light]} {light}", **markup)
            terminalreporter.write("  ")
        if counts[XFAILED]:
            terminalreporter.write(f"{counts[XFAILED]} xfailed  ", yellow=True)
        if fresh := sum(outcome.fresh for outcome in self._endings.outcomes):
            terminalreporter.write(f"({fresh} up to date)")
        terminalreporter.line("")
        if self._endings.stopped:
            missing, of = self._endings.stopped
            terminalreporter.write_line(f"stopped: {missing:,} of {of:,} instances did not end", yellow=True)

    def _show_endings(self, terminalreporter: pytest.TerminalReporter) -> None:
        from pytest_ductaflow.report import summary  # only a session with instances gets here

        ended = self._endings.summary
        if line := summary.slowest_line(ended):
            terminalreporter.write_line(line)
        if self._failures.together:
            text = "failures are shown by cause (--ductaflow-tracebacks=all: each)"
            terminalreporter.write_line(f"{self._failures.together} {text}")
        if ended.warnings:
            terminalreporter.write_line("warnings:", yellow=True)
        for line in summary.warning_lines(ended.warnings):
            terminalreporter.write_line(f"  {line}")

    # --- pytest-html ---

    def _has_instances(self) -> bool:
        return bool(self._files_of_instances)

    @pytest.hookimpl(optionalhook=True)
    def pytest_html_report_title(self, report: Any) -> None:
        """The project's name."""
        if self._has_instances():
            report.title = f"{self._config.rootpath.name}: scenarios"

    @pytest.hookimpl(optionalhook=True)
    def pytest_html_results_summary(self, prefix: list[str]) -> None:
        """The lights, and the way to the status page."""
        if not self._lights:
            return
        counts = Counter(self._lights.values())
        lights = (*_LIGHTS, XFAILED) if counts[XFAILED] else _LIGHTS
        shown = " &nbsp; ".join(f"{_coloured(light)}: {counts[light]}" for light in lights)
        link = f"{self._way_to_runs}conductor_status_report.html"
        prefix.append(f'<p><b>Lights</b> &nbsp; {shown} &nbsp; <a href="{link}">status page</a></p>')

    @pytest.hookimpl(optionalhook=True)
    def pytest_html_results_table_header(self, cells: list[str]) -> None:
        """Columns light and flow; duration is pytest-html's own."""
        if self._has_instances():
            cells.insert(2, '<th class="sortable" data-column-type="flow">Flow</th>')
            cells.insert(1, '<th class="sortable" data-column-type="light">Light</th>')

    @pytest.hookimpl(optionalhook=True)
    def pytest_html_results_table_row(self, report: Any, cells: list[str]) -> None:
        """An instance's light, flow and files. The test id, which pytest-html leaves raw, is escaped."""
        if not cells or not _has_row(report):
            return
        mine = hasattr(report, "ductaflow") or self._is_instance(report.nodeid)
        if mine or self._has_instances():
            suffix = f"::{report.when}" if report.when != "call" else ""
            cells[1] = f'<td class="col-testId">{html.escape(report.nodeid + suffix)}</td>'
        if not self._has_instances():  # an instance file that only the command line names: no columns
            return
        light, properties = light_of(report), dict(getattr(report, "user_properties", ()))
        verdict, shown = verdict_of(report), light.light if light else "red" if mine and report.failed else ""
        if mine and verdict is not None:
            shown = {XFAILED: XFAILED, STRICT: "red"}.get(verdict.word, shown)
        cells.insert(2, f'<td class="col-flow">{html.escape(str(properties.get("flow", "")))}</td>')
        cells.insert(1, f'<td class="col-light">{_coloured(shown) if shown else ""}</td>')
        if light is not None:
            cells[-1] = f'<td class="col-links">{self._links(properties)}</td>'

    @pytest.hookimpl(optionalhook=True)
    def pytest_html_results_table_html(self, report: Any, data: list[str]) -> None:
        """An instance's config and output."""
        if light_of(report) is None or not _has_row(report):
            return
        from pytest_ductaflow import strict_json
        from pytest_ductaflow.capture import excerpt
        from pytest_ductaflow.errors import ConfigError, RecordError
        from pytest_ductaflow.record import read_record

        properties = dict(report.user_properties)
        directory = Path(self._config.rootpath, str(properties["run_directory"]))
        files = {kind: directory / name for kind, name in _files(str(properties["flow"])).items()}
        if report.passed:
            data.clear()  # "No log output captured." and the tail of what follows
        printed = None
        with contextlib.suppress(RecordError):
            printed = read_record(directory).printed  # the error is shown already
        output = excerpt(files["log"], printed=printed)
        data.append(html.escape(f" output: {files['log'].name} ".center(80, "-") + "\n" + output))
        try:
            config = strict_json.dumps(strict_json.redact(strict_json.load(files["config"])))
        except ConfigError as error:
            config = str(error)
        data.append(html.escape(" config ".center(80, "-") + "\n" + config))

    def _links(self, properties: dict[str, Any]) -> str:
        """To those files of a run that there are: one that never started has none."""
        run = str(properties["run_directory"])
        way = self._way_to_runs + quote(run.removeprefix("runs/"))
        there = Path(self._config.rootpath, run)
        return " ".join(
            f'<a href="{way}/{quote(name)}">{kind}</a>'
            for kind, name in _files(str(properties["flow"])).items()
            if (there / name).is_file()
        )

    @functools.cached_property
    def _way_to_runs(self) -> str:
        """The way from the HTML report to the directory of the runs, safe in an attribute."""
        target = self._config.getoption("htmlpath", None)
        root = self._config.rootpath
        start = Path(os.path.abspath(os.path.expanduser(str(target)))).parent if target else root
        way = Path(os.path.relpath(root / "runs", start)).as_posix()
        return "" if way == "." else f"{quote(way)}/"


def _has_row(report: Any) -> bool:
    """Whether pytest-html shows this report: it asks for the row of every phase, and drops most."""
    return report.when == "call" or not report.passed


@functools.lru_cache(maxsize=1000)
def _files(flow: str) -> dict[str, str]:
    """The names of an instance's files in its run directory."""
    from pytest_ductaflow.record import RunDirectory

    names = RunDirectory(Path(), Path(flow).stem)
    found = {"notebook": names.notebook, "config": names.config, "log": names.output}
    return {kind: path.name for kind, path in found.items()}


def _coloured(light: str) -> str:
    colour, symbol = _COLOURS.get(light, "inherit"), _SYMBOLS.get(light, "")
    return f'<span style="color: {colour}">{symbol} {light}</span>'
