"""A session while it runs: how far it is, and the status page, written again as instances start and end.

Hooks of the controlling process tell a sweep what happens; a thread writes the page, at most once a
second and for at most a fiftieth of its time. A page that nobody writes any more tells so itself.
"""

from __future__ import annotations

import os
import platform
import shlex
import threading
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

import pytest

from pytest_ductaflow.errors import in_words
from pytest_ductaflow.options import leftovers
from pytest_ductaflow.progress import Snapshot
from pytest_ductaflow.xfail import verdict_of

if TYPE_CHECKING:
    from pytest_ductaflow.instance import Instance
    from pytest_ductaflow.leftovers import Leftovers
    from pytest_ductaflow.report.sweep import Sweep

PAGE: Final = "conductor_status_report.html"
#: Seconds between two pages, at least; and how many times as long as writing one takes.
_INTERVAL: Final = 1.0
_SHARE: Final = 50
#: Lines of differences from older runs that the terminal shows.
_COMPARED: Final = 30
#: Characters of a file's problem on the page.
_LONGEST: Final = 500
#: Exit status of a session that ran to its end.
_ENDED: Final = (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.NO_TESTS_COLLECTED)


class Live:
    """Hooks of the controlling process, and the thread that writes.

    :param identifier: of the session, as records have it.
    :param expected: called when it is known that instances are to run, with what says how far they are.
    """

    def __init__(
        self,
        config: pytest.Config,
        identifier: str,
        expected: Callable[[Callable[[], Snapshot]], None] = lambda _: None,
    ) -> None:
        self._config = config
        self._expected = expected
        self._writes = config.getoption("--ductaflow-report") != "none"
        self._runs = config.rootpath / "runs"
        #: What the terminal says of the page: its path, or why there is none; ``None`` if none is wanted.
        self.outcome = os.path.relpath(self._runs / PAGE) if self._writes else None
        self.sweep: Sweep | None = None
        self._session: dict[str, Any] = {"id": identifier, "state": "running", "started": time.time()}
        self._workers: dict[str, None] = {}
        self._before: dict[str, Any] | None = None  # older runs to compare with
        self._interval = _INTERVAL
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._work, name="ductaflow-page", daemon=True)

    # --- hooks ---

    def pytest_runtestloop(self, session: pytest.Session) -> None:
        """What is to run, without xdist."""
        found: list[Any] = [item for item in session.items if _is_instance(getattr(item, "instance", None))]
        self._expect({item.nodeid: item.instance for item in found})

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, node: Any, ids: list[str]) -> None:
        """What is to run, as the first worker collected it."""
        self._workers[node.gateway.id] = None
        if self.sweep is None:
            from pytest_ductaflow import project  # xdist's controller knows nothing but ids

            patterns = self._config.getini("ductaflow_instances")
            self._expect(project.of_ids(ids, self._config.rootpath, patterns))

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """A test starts."""
        if self.sweep is not None:
            self.sweep.start(nodeid)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """A test ended, did not get to its call, or died with its worker (`when` is "???" then)."""
        ended = report.when not in ("setup", "teardown") or (report.when == "setup" and not report.passed)
        if self.sweep is not None and ended:
            self.sweep.end(
                report.nodeid,
                worker=getattr(report, "worker_id", "main"),
                fresh=("up_to_date", True) in report.user_properties,
                took=getattr(report, "duration", 0.0),
                problem=_problem(report),
                problem_type=str(dict(report.user_properties).get("problem_type", "")),
                skipped=report.skipped and "status" not in dict(report.user_properties),
                xfail=verdict_of(report),
            )

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """A file that cannot be read: what is in it will not run."""
        if report.failed:
            problem, known = _problem(report), self._session.setdefault("problems", [])
            text = problem if problem.startswith(report.nodeid) else f"{report.nodeid}: {problem}"
            if text[:_LONGEST] not in known:  # each of xdist's workers says it
                known.append(text[:_LONGEST])

    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        """The last page: what was not run is not going to."""
        if self.sweep is None:
            return
        if not self._writes:
            return
        self._over.set()
        self._thread.join()
        stopped = exitstatus not in _ENDED or session.shouldstop or session.shouldfail
        self._session |= {
            "state": "stopped" if stopped else "finished",
            "ended": time.time(),
            "remaining": None,
        }
        self._write(finished=True)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """What differs from older runs."""
        if self.sweep is None or self._before is None:
            return
        from pytest_ductaflow.report import comparison

        terminalreporter.section(f"compared with {self._before['path']}", sep="-")
        try:
            found = comparison.lines(self.sweep.rows(finished=True), self._before)
        except Exception as error:  # as beside the results as the page
            terminalreporter.write_line(f"not compared: {in_words(error)}")
            return
        for line in found[:_COMPARED]:
            terminalreporter.write_line(line)
        if len(found) > _COMPARED:
            terminalreporter.write_line(f"… and {len(found) - _COMPARED} more, on the status page")
        if not found:
            terminalreporter.write_line("the same lights and measures")

    @property
    def _leftovers(self) -> Leftovers:
        return leftovers(self._config)

    # --- writing ---

    def _expect(self, instances: dict[str, Instance]) -> None:
        if not instances:
            return
        from pytest_ductaflow.report import comparison, rows  # only a session with instances gets here
        from pytest_ductaflow.report.page import read_back
        from pytest_ductaflow.report.rows import Place
        from pytest_ductaflow.report.sweep import Expected, Sweep

        self._workers = self._workers or {"main": None}
        self._session |= {
            "command": shlex.join(["pytest", *map(str, self._config.invocation_params.args)]),
            "selected": len(instances),
            "versions": {
                "Python": platform.python_version(),
                "pytest": pytest.__version__,
                "pytest-ductaflow": version("pytest-ductaflow"),
            },
            "html": self._html(),
        }
        if older := self._config.getoption("--ductaflow-compare"):
            self._before = comparison.load(Path(os.path.abspath(older)))
        place = Place(self._config.rootpath, self._runs)
        selected = {instance.run_directory for instance in instances.values()}
        self._leftovers.known |= selected
        self.sweep = Sweep(
            place,
            self._session,
            before=lambda: read_back(self._runs / PAGE),
            leftovers=lambda: map(_below_runs, self._leftovers.found),
        )
        self.sweep.expect(
            Expected(
                id=node_id,
                path=_below_runs(instance.run_directory),
                name=instance.name,
                flow=instance.flow,
                kind=instance.kind,
                scenario=rows.shown(instance.scenario),
                needs=[_below_runs(key) for key in instance.needed if key in selected],
            )
            for node_id, instance in instances.items()
        )
        if self._writes:
            self._thread.start()
        self._expected(self.look)

    def look(self) -> Snapshot:
        """How far the session is; called in another thread."""
        if self.sweep is None:
            return Snapshot(0, 0)
        counts, workers = self.sweep.counts(), list(self._workers)
        self._session["workers"] = workers
        running = self.sweep.running()
        return Snapshot(
            done=self._session["selected"] - counts["running"] - counts["waiting"],
            total=self._session["selected"],
            lights=counts,
            running=[(row["name"], *_cell(row)) for row in running],
            remaining=self.sweep.remaining(),
        )

    def _html(self) -> str | None:
        """The way from the page to pytest-html's report."""
        target = self._config.getoption("htmlpath", None)
        if not target:
            return None
        path = os.path.abspath(os.path.expanduser(str(target)))
        return quote(Path(os.path.relpath(path, self._runs)).as_posix())

    def _work(self) -> None:
        while not self._over.wait(self._interval):
            assert self.sweep is not None
            if self.sweep.executed:
                self._write(finished=False)

    def _write(self, *, finished: bool) -> None:
        from pytest_ductaflow.record import write_atomically
        from pytest_ductaflow.report.page import is_current, render

        assert self.sweep is not None
        page = self._runs / PAGE
        self._session |= {"workers": list(self._workers), "interval": self._interval}
        started = time.monotonic()
        try:
            self._runs.mkdir(exist_ok=True)  # all may have been skipped
            kept = self._before is None and not self._session.get("problems")
            idle = finished and kept and not self.sweep.executed and not self.sweep.differs
            if not (idle and is_current(page, map(_below_runs, self._leftovers.found))):
                self.sweep.texts(finished=finished)  # what is read the first time is no measure of the next
                started = time.monotonic()
                if not finished:
                    self._session["remaining"] = self.sweep.remaining()
                text = render(self.sweep, finished=finished, before=self._before)
                write_atomically(page, text.encode(), durable=False)
            self.outcome = os.path.relpath(page)
        except Exception as error:  # a page beside the results: a full disk must not hide them
            words = getattr(error, "strerror", None) or f"{type(error).__name__}: {error}"
            self.outcome = f"{os.path.relpath(page)} cannot be written: {words}"
        wanted = max(_INTERVAL, _SHARE * (time.monotonic() - started))
        self._interval = min(wanted, 3 * max(self._interval, 4.0))  # the page waits for the next one: `dies`


def _problem(report: pytest.TestReport | pytest.CollectReport) -> str:
    """Why an instance failed that was not executed, and has no record of it: the error's last line."""
    properties = dict(getattr(report, "user_properties", ()))
    if not report.failed or "status" in properties:
        return str(properties.get("problem", ""))
    # An instance file's own line names the file; what pytest's short summary says of it does not.
    crash = None if isinstance(report, pytest.CollectReport) else getattr(report.longrepr, "reprcrash", None)
    return str(getattr(crash, "message", "") or report.longreprtext.strip().split("\n")[-1] or "failed")


def _cell(row: dict[str, Any]) -> tuple[int, int]:
    """The number of the cell that runs, and of all cells; 0 if not known."""
    cells = row.get("cells", {})
    total = cells.get("total") or 0
    return (min((cells.get("current") or 0) + 1, total), total) if total else (0, 0)


def _is_instance(found: Any) -> bool:
    from pytest_ductaflow.instance import Instance

    return isinstance(found, Instance)


def _below_runs(run_directory: str) -> str:
    return run_directory.partition("/")[2]
