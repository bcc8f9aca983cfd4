"""Where filters make warnings errors, ours fail what they concern, or are shown; they never end the session."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.conftest import Project

NOT_INTERNAL = "*INTERNALERROR*"


@pytest.fixture
def strict(project: Project) -> Project:
    """Warnings are errors, and two instances, one of which needs the other."""
    project.ini("filterwarnings = error")
    project.flow("first", "open('out.csv', 'w').write('1')")
    project.flow("use", "print(open(config['input']).read())")
    project.instance("first")
    project.instance("use", config={"input": "runs/first/first/out.csv"})
    return project


@pytest.mark.parametrize("option", ["ini", "-W error"])
def test_a_warning_of_no_test_is_shown(strict: Project, option: str) -> None:
    if option != "ini":
        strict.ini()
    result = strict.run_apart("-n", "2", "--dist=loadfile", *([] if option == "ini" else option.split()))
    assert result.ret == 0
    result.stdout.no_fnmatch_line(NOT_INTERNAL)
    text = "*PytestWarning: ductaflow: --dist=loadfile is respected: an instance may keep a worker waiting*"
    result.stdout.fnmatch_lines([text, "2 green *", "*2 passed, 1 warning*"])


@pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["serial", "xdist"])
def test_a_module_that_is_not_preloaded_is_named(strict: Project, workers: tuple[str, ...]) -> None:
    strict.ini("filterwarnings = error", "ductaflow_preload = no_such_module")
    result = strict.run_apart(*workers, "--ductaflow-engine=fork", "instances")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["*PytestWarning: ductaflow: no_such_module is not preloaded: *"])
    result.stdout.no_fnmatch_line(NOT_INTERNAL)


def test_filters_that_ignore_are_respected(strict: Project) -> None:
    strict.ini("filterwarnings =", "    error", "    ignore:ductaflow", "ductaflow_preload = no_such_module")
    result = strict.run_apart("instances", "--ductaflow-engine=fork")
    assert result.ret == 0
    result.stdout.no_fnmatch_line("*ductaflow: no_such*")


def test_a_stale_needed_instance_fails_the_one_that_needs_it(strict: Project) -> None:
    strict.run("instances").assert_outcomes(passed=2)
    strict.flow("first", "open('out.csv', 'w').write('2')")
    strict.instance("other", flow="flows/first.py")
    result = strict.run("instances/use.json", "instances/other.json")
    result.assert_outcomes(passed=1, errors=1)
    said = "ductaflow: needs instances/first.json::first, which is stale (code: flows/first.py*"
    result.stdout.fnmatch_lines([said, f"ERROR instances/use.json::use - *{said}"])
    assert not [line for line in result.outlines if "self.warn(" in line or "items.py" in line]


@pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["serial", "xdist"])
def test_an_unknown_mark_is_an_error_of_its_file(strict: Project, workers: tuple[str, ...]) -> None:
    strict.instance("marked", flow="flows/first.py", marks=["unknown"])
    result = strict.run_apart(*workers, "instances")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["ERROR instances/marked.json - *marks: Unknown pytest.mark.unknown*"])
    result.stdout.fnmatch_lines(["*2 passed, 1 error*"])


def test_a_job_summary_that_cannot_be_written_is_said(
    strict: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(strict.root))
    result = strict.run("instances")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["*ductaflow: GITHUB_STEP_SUMMARY cannot be written: /*: Is a directory*"])


def test_orange_fails_and_only_orange(strict: Project) -> None:
    strict.ini("filterwarnings = error::pytest_ductaflow.FlowWarning")
    strict.flow("orange", "print('⚠️ odd', '\\d')")
    strict.instance("orange")
    strict.run_apart("-n", "2", "--dist=loadfile").assert_outcomes(passed=2, failed=1, warnings=1)
