"""Measures that flows record: in the record, with every engine and way to run."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from pytest_ductaflow import load_runs
from pytest_ductaflow.engines import ENGINES

if TYPE_CHECKING:
    from tests.conftest import Project

EVERYWHERE = """
import os, subprocess, sys, threading
from pytest_ductaflow import record_measure

record_measure("rows", 1)
record_measure("rows", 10 * config["x"])
record_measure("who", f"x is {config['x']}")
record_measure("ok", True)
thread = threading.Thread(target=record_measure, args=("in a thread", 1.5), kwargs={"unit": "min"})
thread.start()
thread.join()
pid = os.fork()
if pid == 0:
    record_measure("in a fork", 2)
    os._exit(0)
os.waitpid(pid, 0)
code = "from pytest_ductaflow import record_measure; record_measure('in a script', 3)"
subprocess.run([sys.executable, "-c", code], check=True)
"""
PIPELINE = """
from pytest_ductaflow import RunFailed, record_measure, run_notebook

root = config["_project_root"]
record_measure("build", 0)
record_measure("name", "build")
for name in ("a", "b"):
    run_notebook(f"{root}/flows/part.py", config={"name": name}, execution_dir=f"runs/{name}")
try:
    run_notebook(f"{root}/flows/bad.py", config={}, execution_dir="runs/bad")
except RunFailed:
    record_measure("caught", True)
"""
WAYS = [(engine, workers) for engine in ENGINES for workers in ((), ("-n", "2"))]


def measured(record: dict[str, Any]) -> dict[str, Any]:
    return {name: measure["value"] for name, measure in record["measures"].items()}


@pytest.fixture(scope="module")
def furnished(new_project: Callable[[], Project]) -> Callable[[], Project]:
    def furnish() -> Project:
        project = new_project()
        project.flow("everywhere", EVERYWHERE)
        project.flow("part", "from pytest_ductaflow import record_measure\n" + PART)
        project.flow("bad", "from pytest_ductaflow import record_measure\n" + BAD)
        project.build("pipeline", PIPELINE)
        project.instance("everywhere", scenarios={"x": [1, 2]})
        project.instance("pipeline", build="builds/pipeline.py")
        project.instance("bad")
        return project

    return furnish


PART = """
record_measure("rows", len(config["name"]), unit="1")
record_measure(f"only in {config['name']}", True)
record_measure("name", config["name"])
open(config["_project_root"] + "/log.txt", "a").write("part\\n")
"""
BAD = """
record_measure("until then", 4)
raise ValueError("on purpose")
record_measure("after", 5)
"""


@pytest.mark.parametrize(("engine", "workers"), WAYS)
def test_all_that_a_run_records_is_in_its_record(
    furnished: Callable[[], Project], engine: str, workers: tuple[str, ...]
) -> None:
    project = furnished()
    result = project.run_apart("instances", f"--ductaflow-engine={engine}", *workers)
    result.assert_outcomes(passed=3, failed=1, warnings=1)
    records = project.records()
    for x in (1, 2):
        record = records[f"everywhere/everywhere-{x}"]
        assert record["measures"] == {
            "rows": {"value": 10 * x, "unit": None},
            "who": {"value": f"x is {x}", "unit": None},
            "ok": {"value": True, "unit": None},
            "in a thread": {"value": 1.5, "unit": "min"},
            "in a fork": {"value": 2, "unit": None},
            "in a script": {"value": 3, "unit": None},
        }
        output = project.root / f"runs/everywhere/everywhere-{x}/everywhere_execution_output.txt"
        assert output.read_text() == ""
    assert measured(records["bad/bad"]) == {"until then": 4}
    build = records["pipeline/pipeline"]
    assert measured(build) == {
        "build": 0,
        "name": "build",
        "caught": True,
        "a.rows": 1,
        "b.rows": 1,
        "a.name": "a",
        "b.name": "b",
        "only in a": True,
        "only in b": True,
        "until then": 4,
    }
    assert build["measures"]["a.rows"]["unit"] == "1"

    (project.root / "builds/pipeline.py").open("a").write(
        "print('edited')\n"
    )  # its flows are taken as they are
    project.run_apart("instances/pipeline.json", f"--ductaflow-engine={engine}", *workers)
    again = project.record("pipeline/pipeline")
    assert again["started"] > build["started"]
    assert again["measures"] == build["measures"]
    assert (project.root / "log.txt").read_text() == "part\n" * 2


def test_measures_are_columns(project: Project) -> None:
    body = (
        "from pytest_ductaflow import record_measure\nfor n, v in config['m'].items(): record_measure(n, v)"
    )
    project.flow("step", body)
    some = {"rows": 3, "light": "dim", "m": 1, "only": 2.5, "measure.light": True}
    project.instance("a", flow="flows/step.py", config={"m": some, "only": "config"})
    project.instance("b", flow="flows/step.py", config={"m": {"only": 7}})
    project.run("instances")
    frame = load_runs(project.root / "runs").set_index("instance")
    assert frame.loc["a", ["rows", "light", "measure.light", "m", "only", "measure.only"]].tolist() == [
        3,
        "green",
        "dim",
        1,
        "config",
        2.5,
    ]
    assert frame.loc["a", "measure.measure.light"]
    assert frame.loc["b", "measure.only"] == 7
    assert frame.loc["b", ["rows", "only"]].isna().all()


def test_a_flow_run_as_a_script_keeps_its_measures(project: Project) -> None:
    head = "from pytest_ductaflow import is_notebook_execution, load_cli_config, record_measure\n"
    cli = "if not is_notebook_execution():\n    config = load_cli_config('none.json')\n"
    project.flow("step", head + cli + "record_measure('x', config['x'], unit='km')")
    project.build("all", SCRIPTS)
    project.instance("all", build="builds/all.py")
    config = project.write("config.json", {"x": 5})
    arguments = ["flows/step.py", "--config", str(config), "--output-dir", "runs/step/by_hand"]
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=project.root,
        env=project.environment(),
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert project.record("step/by_hand")["measures"] == {"x": {"value": 5, "unit": "km"}}
    project.run("instances").assert_outcomes(passed=1)
    assert measured(project.record("all/all")) == {"s.x": 5, "n.x": 6}


SCRIPTS = """
import subprocess, sys
from pytest_ductaflow import run_notebook

root = config["_project_root"]
script = [f"{root}/flows/step.py", "--config", f"{root}/config.json", "--output-dir", "runs/s"]
subprocess.run([sys.executable, *script], check=True)
run_notebook(f"{root}/flows/step.py", config={"x": 7}, execution_dir="runs/n")
run_notebook(f"{root}/flows/step.py", config={"x": 6}, execution_dir="runs/n")
"""


@pytest.mark.parametrize("engine", ENGINES)
def test_a_bad_measure_is_an_error_in_the_flow_s_own_line(project: Project, engine: str) -> None:
    project.flow("step", "from pytest_ductaflow import record_measure\nrecord_measure('x', None)")
    project.instance("step")
    result = project.run("instances", f"--ductaflow-engine={engine}")
    result.stdout.fnmatch_lines(
        [">   record_measure('x', None)", "E   ConfigError: record_measure: 'x' is None (NoneType): *"]
    )


@pytest.mark.parametrize("engine", ENGINES)
def test_what_is_stopped_keeps_what_it_had_recorded(project: Project, engine: str) -> None:
    project.flow("step", "import time\nfrom pytest_ductaflow import record_measure\n" + SLOW)
    project.instance("step", timeout=60)
    code = (
        "import os, pytest, pytest_ductaflow.session as module\n"
        "module.Session.wanted = lambda self: not os.path.exists('there')\n"
        f"pytest.main(['instances', '--ductaflow-engine={engine}'])"
    )
    subprocess.run([sys.executable, "-c", code], cwd=project.root, env=project.environment(), timeout=100)
    record = project.record("step/step")
    assert record["status"] == "interrupted"
    assert measured(record) == {"x": 1}


SLOW = "record_measure('x', 1)\nopen(config['_project_root'] + '/there', 'w').close()\ntime.sleep(60)"
