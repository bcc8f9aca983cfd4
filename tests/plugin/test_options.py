"""pytest's options and ours, on instances."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import pytest

if TYPE_CHECKING:
    from tests.conftest import Project

NUMBERS = [{"label": "good", "x": 1}, {"label": "bad", "x": -1}, {"label": "late", "x": 2}]


@pytest.fixture
def numbers(project: Project) -> Project:
    project.flow("fit", "print('x is', config['x'])\nassert config['x'] > 0, 'negative'")
    project.instance("fit", scenarios=NUMBERS, name="{label}")
    return project


def test_x_stops_and_lf_runs_what_failed(numbers: Project) -> None:
    result = numbers.run("-x", "instances")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*stopping after 1 failures*"])
    assert sorted(numbers.records()) == ["fit/bad", "fit/good"]
    assert numbers.node_ids("--lf") == ["instances/fit.json::bad"]
    numbers.instance("fit", scenarios=[*NUMBERS[:1], {"label": "bad", "x": 3}, *NUMBERS[2:]], name="{label}")
    numbers.run("--lf", "instances").assert_outcomes(passed=1)
    assert numbers.record("fit/bad")["status"] == "success"
    assert sorted(numbers.records()) == ["fit/bad", "fit/good"]


def test_junit_xml_has_the_runs_properties(numbers: Project) -> None:
    numbers.run("--junitxml=junit.xml", "-k", "good or bad", "instances").assert_outcomes(
        passed=1, failed=1, deselected=1
    )
    cases = {case.get("name"): case for case in ElementTree.parse("junit.xml").iter("testcase")}
    assert list(cases) == ["good", "bad"]
    for name, status in {"good": "success", "bad": "error"}.items():
        properties = {item.get("name"): item.get("value") for item in cases[name].iter("property")}
        assert properties == {
            "run_directory": f"runs/fit/{name}",
            "status": status,
            "flow": "flows/fit.py",
            "warnings": "0",
        }
        assert float(cases[name].get("time", "0")) >= numbers.record(f"fit/{name}")["duration"]
    failure = cases["bad"].find("failure")
    assert failure is not None
    assert failure.get("message") == "flows/fit.py:6: AssertionError: negative"
    assert ">   assert config['x'] > 0, 'negative'" in (failure.text or "")


def test_no_execute_prepares_run_directories_and_stops(numbers: Project) -> None:
    numbers.write("runs/fit/bad/run.json", {"schema": 1, "status": "success"})
    result = numbers.run("--no-execute", "-rs", "instances")
    assert result.ret == pytest.ExitCode.OK
    result.assert_outcomes(skipped=3)
    result.stdout.fnmatch_lines(["SKIPPED * prepared, not executed: runs/fit/good"])
    for name, x in {"good": 1, "bad": -1, "late": 2}.items():
        directory = numbers.root / "runs/fit" / name
        config = {"x": x, "_project_root": str(numbers.root)}
        assert json.loads((directory / "fit_config.json").read_text()) == config
        cells = json.loads((directory / "fit.ipynb").read_text())["cells"]
        tags = [cell["metadata"].get("tags", []) for cell in cells]
        assert tags == [["parameters"], ["injected-parameters"], []]
        assert not any(cell["outputs"] for cell in cells)
    assert numbers.records() == {}  # an older record proves nothing about what was prepared


def test_no_execute_runs_nothing_that_is_needed_either(project: Project) -> None:
    project.flow("first", "raise ValueError")
    project.flow("second")
    project.instance("first")
    project.instance("second", config={"input": "runs/first/first/out.csv"})
    project.run("--no-execute", "instances").assert_outcomes(skipped=2)
    assert project.records() == {}


def test_s_shows_the_output_as_it_comes(numbers: Project) -> None:
    result = numbers.run("-s", "-k", "good", "instances")
    result.stdout.fnmatch_lines(["*x is 1*"])


def test_pythonpath_and_the_project_root_are_importable(project: Project) -> None:
    project.ini("pythonpath = src")
    project.write("src/from_src.py", "X = 'src'\n")
    project.write("from_root.py", "X = 'root'\n")
    project.flow("fit", "import from_src, from_root\nprint(from_src.X, from_root.X)")
    project.instance("fit")
    project.run("instances").assert_outcomes(passed=1)
    assert (project.root / "runs/fit/fit/fit_execution_output.txt").read_text() == "src root\n"


# --- mistakes on the command line ---


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--ductaflow-engine=turbo", "--ductaflow-engine: 'turbo' is not one of fork, papermill"),
        *(
            (
                f"--ductaflow-timeout={value}",
                f"--ductaflow-timeout: '{value}' is not a number of seconds above 0",
            )
            for value in ("soon", "0", "-1", "nan", "inf")
        ),
    ],
)
def test_a_bad_value_is_a_usage_error_that_names_the_option(
    project: Project, option: str, message: str
) -> None:
    project.flow("fit")
    project.instance("fit")
    result = project.run(option, "instances")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: {message}"])
    assert not (project.root / "runs").exists()


def test_options_are_described(project: Project) -> None:
    result = project.run("--help")
    result.stdout.fnmatch_lines_random(
        [
            "*--ductaflow-engine*",
            "*--ductaflow-timeout*",
            "*--no-execute*",
            "*ductaflow_instances (args)*",
        ]
    )


# --- timeouts ---


@pytest.fixture(scope="module")
def stopped(new_project: Callable[[], Project]) -> tuple[Project, pytest.RunResult]:
    project = new_project()
    project.flow("endless", "import time\nprint('begun', flush=True)\nwhile True:\n    time.sleep(0.1)")
    project.instance("general", flow="flows/endless.py")
    project.instance("own", flow="flows/endless.py", timeout=1.5)
    return project, project.run_apart("--ductaflow-timeout=1", "--ductaflow-tracebacks=all", "instances")


def test_a_timeout_is_red_with_the_limit_in_its_text(stopped: tuple[Project, pytest.RunResult]) -> None:
    project, result = stopped
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(["E   Timeout: stopped after 1 s, the run's timeout*", "*0 green*2 red*"])
    record = project.record("endless/general")
    assert record["status"] == "error"
    assert (record["error"]["type"], record["error"]["message"]) == (
        "Timeout",
        "stopped after 1 s, the run's timeout, in the cell that starts at line 5",
    )
    assert 1 <= record["duration"] < 6


def test_an_instances_own_timeout_wins_over_the_option(stopped: tuple[Project, pytest.RunResult]) -> None:
    project, result = stopped
    result.stdout.fnmatch_lines(["FAILED instances/own.json::own - *Timeout: stopped after 1.5 s*"])
    assert 1.5 <= project.record("endless/own")["duration"] < 8
