"""Green, orange and red: status words, the summary of lights, warnings."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.conftest import Project

Ran = tuple["Project", pytest.RunResult]


@pytest.fixture(scope="module", params=[(), ("-n", "2")], ids=["serial", "xdist"])
def ran(new_project: Callable[[], Project], request: pytest.FixtureRequest) -> Ran:
    """One run each of what makes a light."""
    project = new_project()
    project.flow("fit", "print('fine')\nif config.get('warn'): print(config['warn'])")
    rows = [{"label": "green"}, {"label": "orange", "warn": "⚠️ 3 rows dropped"}]
    project.instance("fit", scenarios=rows, name="{label}")
    project.flow("flood", "for i in range(150): print('Warning: row', i % 2)")
    project.instance("flood")
    project.flow("red", "print('⚠️ look here')\nraise ValueError('on purpose')")
    project.instance("red")
    project.build(
        "careful",
        """
        from pytest_ductaflow import run_notebook
        try:
            run_notebook("flows/red.py", execution_dir="runs/red")
        except Exception:
            print("went on")
        """,
    )
    project.instance("careful", build="builds/careful.py")
    return project, project.run_apart("-v", "--ductaflow-tracebacks=all", "instances", *request.param)


def test_verbose_mode_shows_the_light_in_the_status_word(ran: Ran) -> None:
    _, result = ran
    expected = {
        "careful.json::careful": "PASSED (orange)",
        "fit.json::green": "PASSED (green)",
        "fit.json::orange": "PASSED (orange)",
        "flood.json::flood": "PASSED (orange)",
        "red.json::red": "FAILED (red)",
    }
    failures = next(number for number, line in enumerate(result.outlines) if " FAILURES " in line)
    words = re.compile(r"(PASSED|FAILED) \(\w+\)")
    shown = {}
    for line in result.outlines[:failures]:
        if found := words.search(line):  # xdist puts the word before the node id
            shown[line.partition("instances/")[2].split()[0]] = found.group()
    assert shown == expected
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.assert_outcomes(passed=4, failed=1, warnings=5)


def test_a_section_counts_the_lights_and_names_the_status_page(ran: Ran) -> None:
    project, result = ran
    result.stdout.fnmatch_lines(["-* lights -*", "1 green  3 orange  1 red*", "status page: runs/*.html"])
    assert (project.root / "runs/conductor_status_report.html").is_file()


def test_each_warning_line_is_in_pytests_summary_with_its_instance(ran: Ran) -> None:
    project, result = ran
    text = result.stdout.str()
    summary = text[text.index(" warnings summary ") : text.index("- lights -")]
    assert summary.count("3 rows dropped") == 1
    lines = summary.splitlines()
    place = lines.index("instances/fit.json::orange")
    assert "FlowWarning: ⚠️ 3 rows dropped (flows/fit.py:5)" in "\n".join(lines[place : place + 3])
    row = project.line_of("instances/fit.json", '"orange"') - 1
    assert f"instances/fit.json:{row}: FlowWarning" in lines[place + 1]
    assert "FlowWarning: ⚠️ look here (flows/red.py:5)" in summary  # of a red run too


def test_what_a_build_caught_makes_it_orange_and_is_told(ran: Ran) -> None:
    project, result = ran
    result.stdout.fnmatch_lines(
        ["*FlowWarning: flows/red.py:6: ValueError: on purpose (caught by builds/careful.py)"]
    )
    record = project.record("careful/careful")
    assert (record["status"], record["runs"]) == ("warning", ["runs/red"])
    assert project.record("careful/careful/runs/red")["status"] == "error"


def test_a_flood_is_one_warning_and_the_record_has_every_line(ran: Ran) -> None:
    project, result = ran
    told = [
        line for line in result.outlines if "FlowWarning" in line and "row" in line and "dropped" not in line
    ]
    assert len(told) == 1
    assert "150 warning lines, most often: Warning: row 0 (×75); Warning: row 1 (×75)" in told[0]
    assert "runs/flood/flood/flood_execution_output.txt" in told[0]
    warnings = project.record("flood/flood")["warnings"]
    assert [warning["line"] for warning in warnings] == list(range(1, 151))


# --- warning filters: each of these runs one flow ---


@pytest.fixture
def orange(project: Project) -> Project:
    project.flow("fit", "print('Warning: few rows')")
    project.instance("fit")
    return project


def test_orange_fails_where_flow_warnings_are_errors(orange: Project) -> None:
    result = orange.run("-v", "-W", "error::pytest_ductaflow.FlowWarning", "instances")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "instances/fit.json::fit FAILED (orange)*",
            "Warning: few rows (flows/fit.py:5)",
            "orange counts as failure here*",
            "0 green  1 orange  0 red*",
            "FAILED* instances/fit.json::fit - *Warning: few rows*",
        ]
    )
    assert orange.record("fit/fit")["status"] == "warning"


def test_an_ignored_warning_is_silent_and_the_light_stays(orange: Project) -> None:
    orange.ini("filterwarnings = ignore::pytest_ductaflow.FlowWarning")
    result = orange.run("-v", "instances")
    result.assert_outcomes(passed=1, warnings=0)
    result.stdout.fnmatch_lines(["instances/fit.json::fit PASSED (orange)*"])
    assert len(orange.record("fit/fit")["warnings"]) == 1


def test_a_filter_by_message_chooses_which_lines_fail(orange: Project) -> None:
    orange.ini("filterwarnings =", "    error:Warning. few:pytest_ductaflow.FlowWarning")
    orange.run("instances").assert_outcomes(failed=1)


def test_a_green_run_is_green_where_every_warning_is_an_error(project: Project) -> None:
    project.flow("fit")
    project.instance("fit")
    result = project.run_apart("-W", "error", "instances")
    assert (result.ret, result.errlines) == (pytest.ExitCode.OK, [])


def test_a_report_without_an_instance_keeps_pytests_words(project: Project) -> None:
    project.write("test_plain.py", "def test_plain(): pass\n")
    result = project.run("-v")
    result.stdout.fnmatch_lines(["test_plain.py::test_plain PASSED *"])
    result.stdout.no_fnmatch_line("*lights*")
    assert not (project.root / "runs").exists()


def test_the_light_travels_in_the_reports_properties(orange: Project) -> None:
    orange.write(
        "conftest.py",
        "import json, pathlib\n"
        "def pytest_runtest_logreport(report):\n"
        "    if report.when == 'call':\n"
        "        pathlib.Path('seen.json').write_text(json.dumps(report.user_properties))\n",
    )
    orange.run("instances").assert_outcomes(passed=1, warnings=1)
    assert dict(json.loads((orange.root / "seen.json").read_text())) == {
        "run_directory": "runs/fit/fit",
        "status": "warning",
        "flow": "flows/fit.py",
        "warnings": 1,
    }
