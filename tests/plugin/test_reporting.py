"""What the controlling process shows must not depend on other people's tests, plugins or files."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.conftest import Project


def test_a_property_of_somebody_elses_test_is_no_light(project: Project) -> None:
    project.write(
        "test_own.py", "def test_own(record_property):\n    record_property('run_directory', '/tmp')\n"
    )
    result = project.run("test_own.py")
    result.assert_outcomes(passed=1)
    result.stdout.no_fnmatch_line("*- lights -*")


def test_a_projects_own_json_collector_has_no_lights(project: Project) -> None:
    project.write(
        "conftest.py",
        """
import pytest
class Case(pytest.Item):
    def runtest(self): pass
class Cases(pytest.File):
    def collect(self): yield Case.from_parent(self, name="case1")
def pytest_collect_file(file_path, parent):
    if file_path.name == "test_cases.json":
        return Cases.from_parent(parent, path=file_path)
""",
    )
    project.write("cases/test_cases.json", {})
    result = project.run("cases")
    result.assert_outcomes(passed=1)
    result.stdout.no_fnmatch_line("*- lights -*")
    assert not (project.root / "runs").exists()


def test_a_session_of_skipped_instances_only_ends_well(project: Project) -> None:
    project.flow("a")
    project.instance("a", marks=["skip"])
    result = project.run("instances")
    result.assert_outcomes(skipped=1)
    assert result.ret == 0
    result.stdout.fnmatch_lines(["status page: runs/conductor_status_report.html"])


def test_a_page_that_cannot_be_written_is_one_line(project: Project) -> None:
    project.flow("a")
    project.instance("a")
    (project.root / "runs" / "conductor_status_report.html").mkdir(parents=True)
    result = project.run("instances")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["status page: not written: IsADirectoryError: *"])


def test_without_pytests_terminal_a_red_instance_is_a_failure_not_an_internal_error(project: Project) -> None:
    project.flow("a", "1 / 0")
    project.instance("a")
    result = project.run("-p", "no:terminal", "instances")
    assert result.ret == 1


def test_a_rerun_is_counted_as_the_rerun_plugin_counts_it(project: Project) -> None:
    project.write(
        "conftest.py",
        """
import pytest
@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if call.when == "call":
        report.outcome = "rerun"
    return report
@pytest.hookimpl(trylast=True)
def pytest_report_teststatus(report):
    if report.outcome == "rerun":
        return "rerun", "R", "RERUN"
""",
    )
    project.flow("a")
    project.instance("a")
    result = project.run("instances", "-v")
    result.stdout.fnmatch_lines(["*instances/a.json::a RERUN*"])
    assert result.parseoutcomes() == {"rerun": 1}
