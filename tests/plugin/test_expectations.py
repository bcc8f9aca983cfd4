"""Expectations of measures: said in pytest's words, and judged again without executing again."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from pytest_ductaflow import analyze_execution_logs, load_runs

if TYPE_CHECKING:
    from tests.conftest import Project

STEP = """
from pytest_ductaflow import record_measure
open(config["_project_root"] + "/log.txt", "a").write(config["name"] + "\\n")
if config.get("fail"):
    raise ValueError("on purpose")
record_measure("delay", config["delay"], unit="min")
"""
RUNS = {"base": 10, "same": 10, "near": 10.4, "far": 13}


@pytest.fixture
def one(project: Project) -> Project:
    """A flow that records the delay that its config says."""
    project.flow("step", STEP)
    return project


def write(project: Project, expect: dict[str, Any] | None = None, **delays: float) -> None:
    scenarios = [{"label": name, "name": name, "delay": delay} for name, delay in delays.items()]
    keys = {"expect": expect} if expect is not None else {}
    project.instance("step", scenarios=scenarios, name="{name}", **keys)


def executed(project: Project) -> list[str]:
    """What was executed since this was asked last."""
    log = project.root / "log.txt"
    names = log.read_text().split() if log.exists() else []
    log.unlink(missing_ok=True)
    return sorted(names)


def lights(project: Project) -> dict[str, str]:
    frame = load_runs(project.root / "runs")
    return dict(zip(frame["instance"], frame["light"], strict=True))


def explained(project: Project, *arguments: str) -> list[str]:
    return project.run("--ductaflow-explain", *arguments).outlines


def test_a_regression_is_a_failed_test(one: Project) -> None:
    write(one, {"delay": {"max": 30, "warn_max": 20}}, good=12, odd=25.0, bad=34.2)
    line = one.line_of("instances/step.json", '"delay": {')
    result = one.run("instances", "-v", "--junitxml=junit.xml")
    result.stdout.fnmatch_lines(
        [
            "*::good PASSED (green) *",
            "*::odd PASSED (orange) *",
            "*::bad FAILED (red) *",
            '>       "delay": {',
            "E   delay = 34.2 min, expected at most 30",
            f"instances/step.json:{line}: ExpectationError",
            "re-run: pytest --ductaflow-force instances/step.json::bad",
            "1 green  1 orange  1 red*",
            f"  1 of 3: instances/step.json:{line} ⚠️ delay = 25 min, over 20 (warn_max)",
            "FAILED instances/step.json::bad - delay = 34.2 min, expected at most 30",
        ]
    )
    result.assert_outcomes(passed=2, failed=1, warnings=1)
    assert "Traceback" not in result.stdout.str()
    record = one.record("step/bad")
    text = "delay = 34.2 min, expected at most 30"
    assert (record["status"], record["own_status"]) == ("error", "success")
    assert record["expectations"] == [{"measure": "delay", "light": "red", "text": text}]
    assert record["error"] == {
        "type": "ExpectationError",
        "message": text,
        "file": "instances/step.json",
        "line": line,
    }
    assert lights(one) == {"good": "green", "odd": "orange", "bad": "red"}
    assert analyze_execution_logs(one.root / "runs/step/bad") == "error"
    page = (one.root / "runs/conductor_status_report.html").read_text("utf-8")
    assert "expected at most 30" in page
    assert "over 20 (warn_max)" in page
    strict = one.run("instances/step.json::odd", "-W", "error::pytest_ductaflow.FlowWarning")
    strict.assert_outcomes(failed=1)
    for style in ("short", "line", "native", "no"):
        one.run("instances/step.json::bad", f"--tb={style}").assert_outcomes(failed=1)


def test_thresholds_are_judged_again_and_nothing_is_executed(one: Project) -> None:
    write(one, delay=25)
    one.run("instances").assert_outcomes(passed=1)
    assert executed(one) == ["delay"]
    node = "instances/step.json::delay"
    for expect, light, word in (
        ({"delay": {"max": 20}}, "red", "FAILED (red)"),
        ({"delay": {"max": 20}}, "red", "FAILED (red)"),
        ({"delay": {"max": 30, "warn_max": 20}}, "orange", "UP-TO-DATE (orange)"),
        ({"delay": {"min": 26}, "gone": {}}, "red", "FAILED (red)"),
        ({"delay": {"max": 26}}, "green", "UP-TO-DATE (green)"),
        ({"gone": {}}, "red", "FAILED (red)"),
        (None, "green", "UP-TO-DATE (green)"),
    ):
        write(one, expect, delay=25)
        before = (one.root / "runs/step/delay/run.json").read_bytes()
        lines = explained(one, "instances")
        assert f"{node}: {'would fail' if light == 'red' else 'up to date'}" in lines
        assert (one.root / "runs/step/delay/run.json").read_bytes() == before
        result = one.run("instances", "-v")
        result.stdout.fnmatch_lines([f"{node} {word} *", f"*1 {light}*"])
        assert ("up to date" in result.outlines[-1]) == (light != "red")
        assert lights(one) == {"delay": light}
        assert executed(one) == []
    one.run("instances", "--ductaflow-force")
    assert executed(one) == ["delay"]


def test_explain_says_what_would_fail_and_why(one: Project) -> None:
    write(one, {"delay": {"max": 20}, "gone": {}}, bad=25, good=3)
    one.run("instances")
    lines = explained(one, "instances")
    start = lines.index("instances/step.json::bad: would fail")
    assert lines[start : start + 6] == [
        "instances/step.json::bad: would fail",
        "    delay = 25 min, expected at most 20",
        "    gone was not recorded (recorded: delay)",
        "instances/step.json::good: would fail",
        "    gone was not recorded (recorded: delay)",
        "0 would run, 0 may run, 0 up to date, 2 would fail",
    ]
    assert "2 would run, 0 may run, 0 up to date" in explained(one, "instances", "--ductaflow-force")
    write(one, {"delay": {"max": 20}}, bad=26, good=3)
    lines = explained(one, "instances")
    assert "instances/step.json::bad: would run" in lines
    assert "    config: delay 25 → 26" in lines
    assert "1 would run, 0 may run, 1 up to date" in lines


def test_what_is_red_by_itself_is_executed_again_and_not_judged(one: Project) -> None:
    one.instance("step", config={"name": "a", "delay": 1, "fail": True}, expect={"delay": {"max": 3}})
    for _ in range(2):
        one.run("instances").stdout.fnmatch_lines(["E   ValueError: on purpose"])
        assert executed(one) == ["a"]
        assert one.record("step/step")["expectations"] == []


def test_accepting_a_run_does_not_declare_expectations_met(one: Project) -> None:
    write(one, {"delay": {"max": 20}}, a=25)
    one.run("instances")
    path = one.root / "flows/step.py"
    path.write_text(path.read_text() + "x = 1\n")
    result = one.run("instances", "--ductaflow-accept")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["E   delay = 25 min, expected at most 20"])
    assert one.record("step/a")["accepted"]
    write(one, {"delay": {"max": 30}}, a=25)
    one.run("instances", "-v").stdout.fnmatch_lines(["*UP-TO-DATE (green)*"])
    assert executed(one) == ["a"]


def test_who_refers_to_what_fails_now_is_not_run(one: Project) -> None:
    one.flow("use", "print(config['input'])")
    one.instance("use", config={"input": "runs/step/a/step.ipynb"})
    write(one, a=25)
    one.run("instances").assert_outcomes(passed=2)
    write(one, {"delay": {"max": 20}}, a=25)
    result = one.run("instances/use.json")
    result.stdout.fnmatch_lines(["*needs runs/step/a, whose last run failed"])
    result = one.run("instances")
    result.assert_outcomes(failed=1, errors=1)
    assert lights(one) == {"a": "red", "use": "red"}
    write(one, {"delay": {"max": 30}}, a=25)
    one.run("instances/use.json").assert_outcomes(
        passed=1
    )  # it is not red any more, whatever the record says
    assert executed(one) == ["a"]


BAND = {"delay": {"baseline": "base", "rtol": 0.1, "warn_atol": 0.2}}


@pytest.mark.parametrize("workers", [(), ("-n", "2"), ("-n", "2", "--dist=load")], ids=" ".join)
def test_a_baseline_comes_first_and_is_compared_with(
    new_project: Callable[[], Project], workers: tuple[str, ...]
) -> None:
    project = new_project()
    project.flow("step", STEP)
    order = ("far", "near", "same", "base")
    write(project, BAND, **{name: RUNS[name] for name in order})
    project.instance("other", flow="flows/step.py", config={"name": "z", "delay": 10}, expect=OTHER)
    result = project.run_apart("instances", "-v", *workers)
    result.assert_outcomes(passed=4, failed=1, warnings=3 if "--dist=load" in workers else 2)
    assert sorted(executed(project)) == ["base", "far", "near", "same", "z"]
    expected = {"base": "green", "same": "green", "near": "orange", "far": "red", "other": "orange"}
    assert lights(project) == expected
    records = project.records()
    for name in ("far", "near", "same"):
        assert records["step/base"]["ended"] <= records[f"step/{name}"]["started"]
    line = project.line_of("instances/step.json", '"delay": {')
    result.stdout.fnmatch_lines(
        [
            "E   delay = 13 min, expected 10 ± 1 (baseline runs/step/base)",
            f"instances/step.json:{line}: ExpectationError",
        ]
    )
    text = "⚠️ delay = 10.4 min, not 10 ± 0.2 (warn_atol, baseline runs/step/base)"
    assert [warning["text"] for warning in records["step/near"]["warnings"]] == [text]

    for base, judged in ((10.4, {"same": "orange", "near": "green", "far": "red"}), (13, {"far": "green"})):
        write(project, BAND, **{**{name: RUNS[name] for name in order}, "base": base})
        project.run_apart("instances", *workers)
        assert executed(project) == ["base"]
        assert {name: lights(project)[name] for name in judged} == judged


OTHER = {"delay": {"baseline": "runs/step/near", "warn_rtol": 0.01}}


def test_a_baseline_is_no_input_and_its_failure_keeps_nobody_from_running(one: Project) -> None:
    expect = {"delay": {"baseline": "base", "max": 11}}
    write(one, expect, base=10, a=10)
    one.run("instances").assert_outcomes(passed=2)
    assert executed(one) == ["a", "base"]

    def base(**config: Any) -> None:
        path = one.root / "instances/step.json"
        document = json.loads(path.read_text())
        document["scenarios"][0] |= config
        path.write_text(json.dumps(document))

    base(fail=True)
    result = one.run("instances")
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(["E   delay = 10 min, but the baseline runs/step/base failed"])
    assert executed(one) == ["base"]
    base(fail=False, delay=12)  # red by its own limit, and nevertheless there to compare with
    result = one.run("instances")
    result.stdout.fnmatch_lines(["E   delay = 10 min, expected 12 (baseline runs/step/base)"])
    assert executed(one) == ["base"]
    base(delay=10)
    one.run("instances").stdout.fnmatch_lines(["*== 1 passed, 1 up to date in *"])
    assert executed(one) == ["base"]


def test_an_unselected_baseline(one: Project) -> None:
    write(one, BAND, base=10, near=10.4)
    near, base = "instances/step.json::near", "instances/step.json::base"
    result = one.run(near)
    result.assert_outcomes(failed=1, warnings=1)
    result.stdout.fnmatch_lines(
        [
            "E   delay = 10.4 min, but the baseline runs/step/base has not run",
            f"*needs {base}, which is stale*",
        ]
    )
    assert executed(one) == ["near"]
    lines = explained(one, near, "--ductaflow-with-needed")
    assert [line for line in lines if "step.json" in line or line.startswith("  ")] == [
        f"{base}: would run",
        "    never run",
        f"{near}: would fail",
        "    delay = 10.4 min, but the baseline runs/step/base has not run",
        f"    expect: its baseline is made again by {base}",
    ]
    result = one.run(near, "--ductaflow-with-needed", "-v")
    result.stdout.fnmatch_lines([f"{base} PASSED (green)*", f"{near} UP-TO-DATE (orange)*"])
    assert executed(one) == ["base"]
    shutil.rmtree(one.root / "runs/step/base")
    one.run(near).assert_outcomes(failed=1, warnings=1)
    assert executed(one) == []


def test_baselines_in_a_circle_are_an_error(one: Project) -> None:
    for name, other in (("a", "b"), ("b", "a")):
        expect = {"delay": {"baseline": f"runs/step/{other}"}}
        one.instance(name, flow="flows/step.py", config={"name": name, "delay": 1}, expect=expect)
    result = one.run("instances")
    result.assert_outcomes(errors=2)
    walk = "instances/a.json::a → instances/b.json::b → instances/a.json::a"
    result.stdout.fnmatch_lines([f"*instances/a.json:1: expect: dependency cycle: {walk}*"])


def test_a_build_is_judged_by_the_measures_of_its_flows(one: Project) -> None:
    body = """
    from pytest_ductaflow import run_notebook
    root = config["_project_root"]
    for name, delay in config["delays"].items():
        flow = f"{root}/flows/step.py"
        run_notebook(flow, config={"name": name, "delay": delay}, execution_dir=f"runs/{name}")
    """
    one.build("all", body)
    expect = {"a.delay": {"max": 3}, "b.delay": {"equals": 4}}
    one.instance("all", build="builds/all.py", config={"delays": {"a": 3, "b": 4}}, expect=expect)
    one.run("instances").assert_outcomes(passed=1)
    one.instance("all", build="builds/all.py", config={"delays": {"a": 5, "b": 4}}, expect=expect)
    one.run("instances").stdout.fnmatch_lines(["E   a.delay = 5 min, expected at most 3"])
    assert executed(one) == ["a", "a", "b"]
    assert lights(one) == {"all": "red", "a": "green", "b": "green"}


def test_a_mistake_is_a_collection_error_and_other_files_run(one: Project) -> None:
    write(one, a=1)
    one.instance("bad", flow="flows/step.py", expect={"delay": {"maximum": 3}})
    result = one.run("instances")
    result.assert_outcomes(passed=1, errors=1)
    line = one.line_of("instances/bad.json", '"maximum"')
    result.stdout.fnmatch_lines([f"*instances/bad.json:{line}: expect.delay.maximum: unknown key: *"])
