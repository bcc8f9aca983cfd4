"""What is expected of measures: read from an instance file, and judged."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from pytest_ductaflow import write_instances
from pytest_ductaflow.errors import InstanceError, describe_error
from pytest_ductaflow.expectations import Expectation, judge
from pytest_ductaflow.record import Record, read_record, write_record
from pytest_ductaflow.report import failure

from .conftest import Project

FLOW = {"flow": "flows/fit.py"}


def made(status: str = "success", unit: str | None = None, **values: Any) -> Record:
    measures = {name: {"value": value, "unit": unit} for name, value in values.items()}
    return Record("flow", "flows/fit.py", "a", status, "2024-01-01T00:00:00+00:00", measures=measures)


def judged(value: Any, bounds: dict[str, Any], root: Path, unit: str | None = None, **options: Any) -> str:
    """The light and text of one measure."""
    run = made(unit=unit, x=value)
    baseline = bounds.get("baseline")
    judge(run, [Expectation("x", bounds, baseline, "instances/a.json", 4)], root)
    (found,) = run.expectations
    assert found["measure"] == "x"
    lights = {"success": "green", "warning": "orange", "error": "red"}
    assert lights[run.status] == found["light"]
    assert (run.error is not None) == (found["light"] == "red")
    assert bool(run.warnings) == (found["light"] == "orange")
    return f"{found['light']}: {found['text']}"


@pytest.mark.parametrize(
    ("value", "bounds", "said"),
    [
        (30, {"max": 30, "warn_max": 30}, "green: x = 30 min"),
        (34.2, {"max": 30, "warn_max": 20}, "red: x = 34.2 min, expected at most 30"),
        (25.0, {"max": 30, "warn_max": 20}, "orange: x = 25 min, over 20 (warn_max)"),
        (99, {"warn_max": 20.5}, "orange: x = 99 min, over 20.5 (warn_max)"),
        (1, {"min": 2, "warn_min": 3}, "red: x = 1 min, expected at least 2"),
        (2.5, {"min": 2, "warn_min": 3, "max": 9}, "orange: x = 2.5 min, under 3 (warn_min)"),
        (3, {"min": 2, "warn_min": 3, "warn_max": 3, "max": 3}, "green: x = 3 min"),
        (12345678.9, {"max": 1}, "red: x = 12345679 min, expected at most 1"),
        (30.0000001, {"max": 30}, "red: x = 30.0000001 min, expected at most 30"),
        (1 / 3, {"max": 0.25}, "red: x = 0.333333 min, expected at most 0.25"),
        (1e300, {"max": 1}, "red: x = 1e+300 min, expected at most 1"),
        ("fast", {"max": 30}, 'red: x = "fast" min, expected a number'),
        (True, {"min": 0}, "red: x = true min, expected a number"),
        (float("nan"), {"max": 30}, "red: x = NaN min, expected a number"),
        (True, {"equals": True}, "green: x = true min"),
        (1, {"equals": True}, "red: x = 1 min, expected true"),
        (1, {"equals": 1.0}, "green: x = 1 min"),
        (0.1 + 0.2, {"equals": 0.3}, "red: x = 0.30000000000000004 min, expected 0.3"),
        ("a\x1b", {"equals": "b\n"}, 'red: x = "a\\u001b" min, expected "b\\n"'),
        (5, {"max": 3, "equals": 4}, "red: x = 5 min, expected at most 3 and expected 4"),
        (7, {}, "green: x = 7 min"),
    ],
)
def test_limits_and_equality(value: Any, bounds: dict[str, Any], said: str, tmp_path: Path) -> None:
    assert judged(value, bounds, tmp_path, "min") == said


NEAR = {"rtol": 0.1, "warn_atol": 2}


@pytest.mark.parametrize(
    ("value", "bounds", "said"),
    [
        (100, {}, "green: x = 100"),
        (100.5, {}, "red: x = 100.5, expected 100 (baseline runs/fit/base)"),
        (102, NEAR, "green: x = 102"),
        (95, NEAR, "orange: x = 95, not 100 ± 2 (warn_atol, baseline runs/fit/base)"),
        (110, NEAR, "orange: x = 110, not 100 ± 2 (warn_atol, baseline runs/fit/base)"),
        (111, NEAR, "red: x = 111, expected 100 ± 10 (baseline runs/fit/base)"),
        (111, {"rtol": 0.1, "atol": 1}, "green: x = 111"),
        (999, {"warn_rtol": 0}, "orange: x = 999, not 100 (warn_rtol, baseline runs/fit/base)"),
        (90, {"max": 50, "rtol": 0.01}, "red: x = 90, expected at most 50 and expected 100 ± 1 (baseline*"),
        (100.0000001, {}, "red: x = 100.0000001, expected 100 (baseline runs/fit/base)"),
        (100.0000001, {"warn_atol": 1e-9}, "orange: x = 100.0000001, not 100 ± 1e-09 (warn_atol, base*"),
        (100.3, {"atol": 0.3}, "green: x = 100.3"),  # the difference is 0.29999999999999716
        (99.9, {"atol": 0.1}, "green: x = 99.9"),  # 0.09999999999999432
        (100.1, {"atol": 0.1}, "green: x = 100.1"),  # 0.09999999999999432
        (100.7, {"rtol": 0.007}, "green: x = 100.7"),  # 0.7000000000000028
        ("a", NEAR, 'red: x = "a", expected 100 (baseline runs/fit/base)'),
        (True, {}, "red: x = true, expected 100 (baseline runs/fit/base)"),
    ],
)
def test_a_baseline(value: Any, bounds: dict[str, Any], said: str, tmp_path: Path) -> None:
    (tmp_path / "runs/fit/base").mkdir(parents=True)
    write_record(tmp_path / "runs/fit/base", made(x=100))
    found = judged(value, {"baseline": "runs/fit/base", **bounds}, tmp_path)
    assert found.startswith(said.rstrip("*")) if said.endswith("*") else found == said


def test_a_rounding_error_is_no_difference(tmp_path: Path) -> None:
    (tmp_path / "runs/fit/base").mkdir(parents=True)
    write_record(tmp_path / "runs/fit/base", made(x=1.0))
    assert 1.1 - 1.0 > 0.1
    assert judged(1.1, {"baseline": "runs/fit/base", "atol": 0.1}, tmp_path) == "green: x = 1.1"
    assert judged(1.1000001, {"baseline": "runs/fit/base", "atol": 0.1}, tmp_path).startswith("red: ")


def test_a_baseline_that_has_no_such_measure_is_red_and_says_why(tmp_path: Path) -> None:
    directory = tmp_path / "runs/fit/base"
    bounds = {"baseline": "runs/fit/base", "warn_rtol": 9}
    assert judged(1, bounds, tmp_path) == "red: x = 1, but the baseline runs/fit/base has not run"
    directory.mkdir(parents=True)
    failed = made("error", x=1)
    failed.error = {"type": "ValueError", "message": ""}
    for record, reason in (
        (failed, "failed"),
        (made("running", x=1), "failed"),  # nobody holds its lock
        (made(y=1), "has no such measure"),
    ):
        write_record(directory, record)
        assert judged(1, bounds, tmp_path) == f"red: x = 1, but the baseline runs/fit/base {reason}"
    (directory / "run.json").write_text("{")
    assert judged(1, bounds, tmp_path).endswith("runs/fit/base has no usable record")
    write_record(directory, made(x=60, unit="s"))
    assert judged(60, bounds, tmp_path, "min").endswith("in the baseline runs/fit/base it is 60 s")
    assert judged(60, bounds, tmp_path) == "green: x = 60"
    fails = made(x=60)
    judge(fails, [Expectation("x", {"max": 1}, None, "a", 1)], tmp_path)
    write_record(directory, fails)  # what is expected of the baseline itself is another matter
    assert judged(60, bounds, tmp_path) == "green: x = 60"


def test_the_record_is_worst_of_run_and_expectations_and_can_be_judged_again(tmp_path: Path) -> None:
    printed = {"line": 3, "cell": 2, "text": "Warning: odd"}

    def expect(**bounds: dict[str, Any]) -> list[Expectation]:
        return [
            Expectation(name, b, None, "instances/a.json", 4 + n)
            for n, (name, b) in enumerate(bounds.items())
        ]

    run = made("warning", x=5, y=6)
    run.warnings = [printed]
    assert not judge(run, [], tmp_path)
    assert run.own_status is None
    assert judge(run, expect(x={"max": 9}), tmp_path)
    assert not judge(run, expect(x={"max": 9}), tmp_path)
    assert (run.status, run.own_status, run.error) == ("warning", "warning", None)
    assert judge(run, expect(x={"max": 1}, y={"warn_max": 1}, z={}, w={"min": 1}), tmp_path)
    assert (run.status, run.own_status) == ("error", "warning")
    assert run.error == {
        "type": "ExpectationError",
        "message": "x = 5, expected at most 1\nz was not recorded (recorded: x, y)\nw was not recorded (recorded: x, y)",
        "file": "instances/a.json",
        "line": 4,
    }
    assert describe_error(run.error) == "instances/a.json:4: ExpectationError: x = 5, expected at most 1"
    assert failure.error_lines(run.error)[:2] == [
        "E   x = 5, expected at most 1",
        "E   z was not recorded (recorded: x, y)",
    ]
    text = "⚠️ y = 6, over 1 (warn_max)"
    orange = {"line": None, "cell": None, "text": text, "measure": "y", "place": "instances/a.json:5"}
    assert run.warnings == [printed, orange]
    write_record(tmp_path, run)
    assert read_record(tmp_path) == run
    assert judge(run, [], tmp_path)
    assert (run.status, run.own_status, run.error, run.warnings) == ("warning", None, None, [printed])
    assert run.expectations == []


@pytest.mark.parametrize("status", ["error", "interrupted", "running"])
def test_a_run_that_is_red_by_itself_or_goes_on_is_not_judged(status: str, tmp_path: Path) -> None:
    run = made(status)
    run.error = {"type": "ValueError", "message": "bad"}
    assert not judge(run, [Expectation("x", {}, None, "a", 1)], tmp_path)
    assert (run.status, run.error, run.expectations) == (status, {"type": "ValueError", "message": "bad"}, [])


# --- in an instance file -------------------------------------------------------------------------


def test_expectations_hold_for_all_scenarios_and_name_their_place(project: Project) -> None:
    expect = {
        "x": {"max": 1},
        "y": {"baseline": "sweep-2", "rtol": 0.1},
        "z": {"baseline": "runs/other/a/runs/fit"},
    }
    found = project.load({**FLOW, "scenarios": {"v": [1, 2]}, "expect": expect})
    assert [[e.measure for e in instance.expected] for instance in found] == [["x", "y", "z"]] * 2
    assert [[e.baseline for e in instance.expected] for instance in found] == [
        [None, "runs/fit/sweep-2", "runs/other/a/runs/fit"],
        [None, None, "runs/other/a/runs/fit"],  # it is not compared with itself
    ]
    assert [instance.baselines for instance in found] == [
        ("runs/fit/sweep-2", "runs/other/a/runs/fit"),
        ("runs/other/a/runs/fit",),
    ]
    lines = (project.root / "instances/sweep.json").read_text().splitlines()
    for expectation in found[0].expected:
        assert expectation.file == "instances/sweep.json"
        assert f'"{expectation.measure}"' in lines[expectation.line - 1]


def test_a_baseline_may_be_a_template(project: Project) -> None:
    found = project.load(
        {
            **FLOW,
            "config": {"kind": "{o}"},
            "scenarios": {"o": ["J K", "L"], "m": [{"label": "base", "n": 0}, {"label": "more", "n": 1}]},
            "name": "{o}_{m}",
            "expect": {"x": {"baseline": "{o}_base"}, "y": {"baseline": "./runs/old/{kind}_{m}"}},
        }
    )
    assert [instance.baselines for instance in found] == [
        ("runs/old/J_K_base",),
        ("runs/fit/J_K_base", "runs/old/J_K_more"),
        ("runs/old/L_base",),
        ("runs/fit/L_base", "runs/old/L_more"),
    ]


def test_write_instances_takes_expectations(project: Project) -> None:
    path = project.root / "instances/sweep.json"
    expect = {"x": {"max": 1.5}}
    write_instances(pd.DataFrame({"v": [1, 2]}), path, flow="flows/fit.py", expect=expect)
    assert json.loads(path.read_text())["expect"] == expect
    assert [e.bounds for i in project.load(json.loads(path.read_text())) for e in i.expected] == [
        {"max": 1.5}
    ] * 2


@pytest.mark.parametrize(
    ("expect", "problem"),
    [
        ([], "expect: must be an object of measures, not a list"),
        ({"x": 30}, "expect.x: must be an object of min, warn_min, "),
        ({"x": {"maxx": 30}}, "expect.x.maxx: unknown key: did you mean 'max'?"),
        ({"x": {"foo": 30}}, "expect.x.foo: unknown key: the keys are min, "),
        ({"x": {"max": "30"}}, "expect.x.max: must be a finite number, not a string"),
        ({"x": {"max": True}}, "expect.x.max: must be a finite number, not true or false"),
        ({"x": {"max": float("nan")}}, "expect.x.max: must be a finite number, not the number nan"),
        ({"x": {"max": 10**400}}, "expect.x.max: must be a finite number, not "),
        (
            {"x": {"equals": None}},
            "expect.x.equals: must be a finite number, true or false, or a string, not null",
        ),
        ({"x": {"baseline": 3}}, "expect.x.baseline: must be a string: "),
        ({"x": {"baseline": "", "rtol": 1}}, "expect.x.baseline: must be a string: "),
        (
            {"x": {"baseline": "sweep", "rtol": -1}},
            "expect.x.rtol: must be a number of at least 0, not the number -1",
        ),
        ({"x": {"max": 3, "rtol": 1}}, "expect.x.rtol: is a distance from a `baseline`, and there is none"),
        ({"x": {"max": 3, "min": 4}}, "expect.x.max: is below `min`: 3 < 4"),
        ({"x": {"max": 3, "warn_max": 4}}, "expect.x.max: is below `warn_max`: 3 < 4"),
        ({"": {}}, "expect.: the measure's name is empty"),
        ({"a\nb": {}}, "expect.a\nb: the measure's name is not one line"),
        (
            {"x": {"baseline": "swep"}},
            "expect.x.baseline: no instance of this file is called 'swep': did you mean",
        ),
        ({"x": {"baseline": "runs/fit"}}, "expect.x.baseline: 'runs/fit' is no run directory: "),
        ({"x": {"baseline": "runs/../../etc/x"}}, "expect.x.baseline: 'runs/../../etc/x' leaves runs/"),
        ({"x": {"baseline": "runs/fit/*"}}, "expect.x.baseline: 'runs/fit/*' has a wildcard: "),
        ({"x": {"baseline": "{nope}"}}, "expect.x.baseline: {nope} in '{nope}': no such key in the config"),
    ],
)
def test_a_mistake_names_file_line_and_key(project: Project, expect: Any, problem: str) -> None:
    document = {**FLOW, "expect": expect}
    with pytest.raises(InstanceError) as caught:
        project.load(document)
    error = caught.value
    assert f"{error.key}: {error.problem}".startswith(problem)
    assert error.file == "instances/sweep.json"
    if error.key:
        lines = (project.root / "instances/sweep.json").read_text().splitlines()
        assert json.dumps(error.key.split(".")[-1]) in lines[error.line - 1]
