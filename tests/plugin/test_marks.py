"""Marks of instance files are pytest's marks."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.conftest import Project


@pytest.fixture(scope="module")
def marked(new_project: Callable[[], Project]) -> tuple[Project, pytest.RunResult]:
    project = new_project()
    project.flow("ok")
    project.flow("red", "raise ValueError('on purpose')")
    expected = {"name": "xfail", "reason": "ticket 12"}
    project.instance("a_skip", flow="flows/red.py", marks=[{"name": "skip", "reason": "no data yet"}])
    project.instance(
        "b_skipif_true",
        flow="flows/red.py",
        marks=[{"name": "skipif", "condition": True, "reason": "not on Sundays"}],
    )
    project.instance(
        "c_skipif_false",
        flow="flows/ok.py",
        marks=[{"name": "skipif", "condition": False, "reason": "never seen"}],
    )
    project.instance("d_xfail_red", flow="flows/red.py", marks=[expected])
    project.instance("e_xfail_green", flow="flows/ok.py", marks=[expected])
    project.instance("f_strict", flow="flows/ok.py", marks=[{**expected, "strict": True}])
    project.instance("g_condition_false", flow="flows/ok.py", marks=[{**expected, "condition": False}, "ci"])
    project.instance("h_not_run", flow="flows/red.py", marks=[{**expected, "run": False}])
    return project, project.run_apart("-v", "-ra", "instances")


def test_marks_decide_the_outcome(marked: tuple[Project, pytest.RunResult]) -> None:
    _, result = marked
    result.assert_outcomes(passed=2, skipped=2, xfailed=2, xpassed=1, failed=1)
    result.stdout.fnmatch_lines(
        [
            "instances/a_skip.json::a_skip SKIPPED (no data yet)*",
            "instances/b_skipif_true.json::b_skipif_true SKIPPED (not on Sundays)*",
            "instances/c_skipif_false.json::c_skipif_false PASSED (green)*",
            "instances/d_xfail_red.json::d_xfail_red XFAIL (ticket 12)*",
            "instances/e_xfail_green.json::e_xfail_green XPASS (ticket 12)*",
            "instances/f_strict.json::f_strict FAILED*",
            "instances/g_condition_false.json::g_condition_false PASSED (green)*",
            "instances/h_not_run.json::h_not_run XFAIL (*ticket 12)*",
        ]
    )


def test_reasons_stand_in_the_summary(marked: tuple[Project, pytest.RunResult]) -> None:
    _, result = marked
    result.stdout.fnmatch_lines_random(
        [
            "SKIPPED * instances/a_skip.json*: no data yet",
            "SKIPPED * instances/b_skipif_true.json:1: not on Sundays",
            "XFAIL instances/d_xfail_red.json::d_xfail_red - ticket 12",
            "XPASS instances/e_xfail_green.json::e_xfail_green - ticket 12",
            "FAILED*instances/f_strict.json::f_strict*XPASS(strict)*ticket 12*",
        ]
    )


def test_a_strict_mark_makes_an_unexpected_pass_red(
    marked: tuple[Project, pytest.RunResult],
) -> None:
    _, result = marked
    result.stdout.fnmatch_lines(["instances/f_strict.json::f_strict FAILED (red)*"])
    result.stdout.fnmatch_lines(["3 green  0 orange  1 red  2 xfailed*"])


def test_what_is_skipped_leaves_no_run_and_what_is_expected_to_fail_is_red(
    marked: tuple[Project, pytest.RunResult],
) -> None:
    project, _ = marked
    assert {name: record["status"] for name, record in project.records().items()} == {
        "ok/c_skipif_false": "success",
        "red/d_xfail_red": "error",
        "ok/e_xfail_green": "success",
        "ok/f_strict": "success",
        "ok/g_condition_false": "success",
    }


def test_a_skipped_instance_is_not_executed_for_one_that_needs_it(project: Project) -> None:
    project.flow("first", "raise ValueError")
    project.flow("second", "print(config['input'])")
    project.instance("first", marks=["skip"])
    project.instance("second", config={"input": "runs/first/first/out.csv"})
    project.run("instances").assert_outcomes(passed=1, skipped=1)
    assert list(project.records()) == ["second/second"]


def test_strict_markers_refuse_an_unknown_mark_naming_file_and_line(project: Project) -> None:
    project.flow("fit")
    project.instance("fit", marks=["ci"])
    project.instance("typo", flow="flows/fit.py", marks=["ci", "cii"])
    result = project.run("--collect-only", "-q", "--strict-markers")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    line = project.line_of("instances/typo.json", '"marks"')
    result.stdout.fnmatch_lines([f"instances/typo.json:{line}: marks: 'cii' not found in `markers`*"])
    assert "instances/fit.json::fit" in result.outlines


def test_the_marks_that_we_set_are_listed(project: Project) -> None:
    result = project.run("--markers")
    result.stdout.fnmatch_lines(
        ["@pytest.mark.flow(name): *", "@pytest.mark.build(name): *", "@pytest.mark.scenario(*): *"]
    )
