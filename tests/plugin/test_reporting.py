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
    result.stdout.fnmatch_lines(
        ["status page: *conductor_status_report.html cannot be written: Is a directory"]
    )


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


def test_an_instance_that_was_collected_and_never_reported_is_red(project: Project) -> None:
    project.write(
        "conftest.py",
        """
def pytest_runtest_protocol(item):
    return True if item.name == "lost" else None
""",
    )
    project.flow("a")
    project.instance("a")
    project.instance("lost", flow="flows/a.py")
    result = project.run("instances", "--junitxml=junit.xml")
    result.assert_outcomes(passed=1, failed=1)
    assert result.ret == 1
    result.stdout.fnmatch_lines(
        ["1 green  0 orange  1 red*", "collected but not reported: instances/lost.json::lost"]
    )
    assert 'failures="1"' in (project.root / "junit.xml").read_text()


def test_what_a_stopped_session_left_out_is_not_lost(project: Project) -> None:
    project.flow("a", "1 / 0")
    project.instance("a")
    project.instance("b", flow="flows/a.py")
    for arguments in (["-x"], ["--collect-only"], ["--fixtures"], ["--stepwise"]):
        project.run("instances", *arguments).stdout.no_fnmatch_line("*not reported*")


def test_an_instance_whose_set_up_failed_is_red_in_the_lights(project: Project) -> None:
    project.write("conftest.py", "def pytest_runtest_setup(item):\n    raise OSError\n")
    project.flow("a")
    project.instance("a")
    result = project.run("instances")
    result.stdout.fnmatch_lines(["0 green  0 orange  1 red*"])


def test_an_id_is_escaped_in_the_html_report_whatever_the_ini_says(project: Project) -> None:
    project.ini("ductaflow_instances = elsewhere/*.json")
    project.flow("a")
    project.instance("<b>", flow="flows/a.py", name="a")
    project.run("instances/<b>.json", "--html=report.html", "--self-contained-html")
    assert 'col-testId\\">&lt;b' not in (project.root / "report.html").read_text()
    text = (project.root / "report.html").read_text()
    assert "instances/<b>.json::a</td>" not in text
