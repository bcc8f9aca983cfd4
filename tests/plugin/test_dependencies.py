"""Instances that need others, serially and with xdist: the same records."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.conftest import Project

Runs = dict[str, tuple[pytest.RunResult, dict[str, dict[str, Any]], list[str]]]

LOG = """
import pathlib
def log(text):
    with open(pathlib.Path(config["_project_root"], "log.txt"), "a") as file:
        file.write(text + "\\n")
"""
#: What two runs of the same instance may differ in.
VOLATILE = ("started", "ended", "duration", "pid", "worker", "session", "timings")


@pytest.fixture(scope="module")
def runs(new_project: Callable[[], Project]) -> Runs:
    """The same project run serially and with two workers."""
    project = new_project()
    slow = "import time\ntime.sleep(1)\n"  # both workers are there before it ends
    project.flow(
        "first", LOG + slow + "log('first')\npathlib.Path('out.csv').write_text('a,b')\nprint('⚠️ odd')"
    )
    project.flow("use", LOG + "log('use')\nprint(open(config['input']).read())")
    project.flow("red", LOG + slow + "log('red')\nraise ValueError('on purpose')")
    uses = {"input": "runs/first/first/out.csv"}
    project.instance("a_use", flow="flows/use.py", config=uses, scenarios={"x": [1, 2, 3]}, name="{x}")
    project.instance("first")
    project.instance("b_needs", flow="flows/use.py", config={"input": "runs/red/red/out.csv"})
    project.instance("red")
    found: Runs = {}
    for name, arguments in {"serial": [], "xdist": ["-n", "2"]}.items():
        result = project.run_apart("-v", "-rA", "instances", *arguments)
        log = project.root / "log.txt"
        found[name] = (result, project.records(), log.read_text().split())
        log.unlink()
        shutil.rmtree(project.root / "runs")
    return found


@pytest.mark.parametrize("way", ["serial", "xdist"])
def test_what_is_needed_runs_once_and_before(runs: Runs, way: str) -> None:
    _, records, log = runs[way]
    assert sorted(log) == ["first", "red", "use", "use", "use"]
    assert log.index("first") < log.index("use")
    for x in "123":
        assert records["first/first"]["ended"] <= records[f"use/{x}"]["started"]
        assert records[f"use/{x}"]["status"] == "success"


@pytest.mark.parametrize("way", ["serial", "xdist"])
def test_what_needs_a_red_instance_is_an_error_and_red(runs: Runs, way: str) -> None:
    result, records, _ = runs[way]
    result.assert_outcomes(passed=4, failed=1, errors=1, warnings=1)
    reason = "needs instances/red.json::red, which failed"
    lines = [line for line in result.outlines if line.startswith("ERROR instances/b_needs.json::b_needs - ")]
    assert len(lines) == 1
    assert lines[0].endswith(reason)
    record = records["use/b_needs"]
    assert (record["status"], record["error"]["message"]) == ("error", reason)
    result.stdout.fnmatch_lines(["3 green  1 orange  2 red*"])


def test_serial_and_parallel_runs_have_equal_records(runs: Runs) -> None:
    without_times = [
        {
            name: {key: value for key, value in record.items() if key not in VOLATILE}
            for name, record in runs[way][1].items()
        }
        for way in ("serial", "xdist")
    ]
    assert without_times[0] == without_times[1]
    assert len(without_times[0]) == 6
    assert without_times[0]["first/first"]["outputs"].keys() == {"out.csv"}
    assert without_times[0]["use/1"]["inputs"].keys() == {"log.txt", "runs/first/first/out.csv"}


def test_all_runs_of_one_pytest_are_one_session(runs: Runs) -> None:
    sessions = [{record["session"] for record in runs[way][1].values()} for way in ("serial", "xdist")]
    assert [len(found) for found in sessions] == [1, 1]
    assert sessions[0] != sessions[1]


def test_xdist_used_two_processes(runs: Runs) -> None:
    executed = {record["worker"] for record in runs["xdist"][1].values()}
    assert len(executed) == 2


def test_both_ways_end_in_the_same_summary(runs: Runs) -> None:
    summaries = []
    for way in ("serial", "xdist"):
        lines = runs[way][0].outlines
        start = next(n for n, line in enumerate(lines) if " short test summary " in line)
        summaries.append(sorted(lines[start + 1 : -1]))
    assert summaries[0] == summaries[1]


def test_a_needed_instance_that_is_not_selected_is_not_run(project: Project) -> None:
    project.flow("first", "raise ValueError")
    project.flow("use", "print(open(config['input']).read())")
    project.instance("first")
    project.instance("use", config={"input": "runs/first/first/out.csv"})
    project.write("runs/first/first/out.csv", "of an earlier run")
    project.run("instances/use.json").assert_outcomes(passed=1)
    assert list(project.records()) == ["use/use"]


def test_what_needs_a_refused_instance_is_refused_too(project: Project) -> None:
    project.flow("red", "raise ValueError('on purpose')")
    project.flow("use", "print('executed')")
    project.instance("a", flow="flows/red.py")
    project.instance("b", flow="flows/use.py", config={"input": "runs/red/a/out.csv"})
    project.instance("c", flow="flows/use.py", config={"input": "runs/use/b/out.csv"})
    project.run("instances").assert_outcomes(failed=1, errors=2)
    assert {name: record["error"]["type"] for name, record in project.records().items()} == {
        "red/a": "ValueError",
        "use/b": "NotRun",
        "use/c": "NotRun",
    }


def test_a_chain_runs_in_order_across_workers(project: Project) -> None:
    project.flow("make", "import time\ntime.sleep(1)\nopen('out.csv', 'w').write('a,b')")
    project.flow("use", "text = open(config['input']).read()\nopen('out.csv', 'w').write(text)")
    project.instance("a", flow="flows/make.py")
    project.instance("b", flow="flows/use.py", config={"input": "runs/make/a/out.csv"})
    project.instance("c", flow="flows/use.py", step="skipped", marks=["skip"])  # so that d starts at once
    project.instance("d", flow="flows/use.py", config={"input": "runs/use/b/out.csv"})
    result = project.run_apart("-n", "2", "instances")
    result.assert_outcomes(passed=3, skipped=1)


#: The second worker is slow: between its look at the record and its run, the first worker's run ends.
SLOW_WORKER = """
import json, os, pathlib, time
from pytest_ductaflow import flow

read_flow = flow.read

def read_flow_slowly(path):
    record = pathlib.Path(__file__).parent / "runs/first/first/run.json"
    deadline = time.monotonic() + 20
    while path.stem == "first" and time.monotonic() < deadline:
        if record.exists() and json.loads(record.read_text())["status"] == "success":
            break
        time.sleep(0.02)
    return read_flow(path)

if os.environ.get("PYTEST_XDIST_WORKER") == "gw1":
    flow.read = read_flow_slowly
"""


def test_a_run_that_ends_while_another_worker_prepares_it_is_not_repeated(project: Project) -> None:
    project.write("conftest.py", SLOW_WORKER)
    project.flow("first", LOG + "import time\ntime.sleep(1)\nlog('first')")
    project.flow("use", LOG + "log('use')")
    project.instance("first")
    project.instance("use", config={"input": "runs/first/first/out.csv"})
    project.run_apart("-n", "2", "instances").assert_outcomes(passed=2)
    assert (project.root / "log.txt").read_text().split() == ["first", "use"]
