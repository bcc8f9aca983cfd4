"""Instances with real xdist workers: parallel where they can be, whatever happens to a worker."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.conftest import Project

LOG = "import os, time\nlog = open(config['_project_root'] + '/log.txt', 'a')\n"
TESTS = """
import pytest, time

def note(text):
    with open("fixtures.txt", "a") as file:
        file.write(text + "\\n")

@pytest.fixture(scope="session")
def of_session():
    note("session")
    yield
    note("end")
    raise ValueError("the session's fixture does not end well")

@pytest.fixture(scope="module")
def of_module(of_session):
    note("module")
    yield
    note("down")

@pytest.mark.parametrize("n", range(20))
def test_it(of_module, n):
    time.sleep(0.01)
"""


@pytest.fixture
def fan(new_project: Callable[[], Project]) -> Project:
    """One instance that ten others need."""
    project = new_project()
    project.flow("first", "open('out.txt', 'w').write('1')")
    project.flow("fan", LOG + "open(config['input']).read()\ntime.sleep(0.2)")
    project.instance("first")
    scenarios = {"x": list(range(10))}
    uses = {"input": "runs/first/first/out.txt"}
    project.instance("a_fan", flow="flows/fan.py", config=uses, scenarios=scenarios, name="{x}")
    return project


def workers_of(project: Project) -> set[int]:
    """The processes that executed the fan."""
    return {record["worker"] for name, record in project.records().items() if name.startswith("fan/")}


def test_a_fan_out_runs_in_parallel_among_ordinary_tests(fan: Project) -> None:
    fan.flow("first", "import time\ntime.sleep(1.5)\nopen('out.txt', 'w').write('1')")
    fan.write("test_ordinary.py", TESTS)
    result = fan.run_apart("-n", "2", "-v", "instances", "test_ordinary.py")
    used = (fan.root / "fixtures.txt").read_text().split()
    result.assert_outcomes(passed=31, errors=used.count("end"))
    assert "scheduling tests via Scheduling" in result.stdout.str()
    records = fan.records()
    first = records["first/first"]["ended"]
    assert all(record["started"] >= first for name, record in records.items() if name.startswith("fan/"))
    assert len(workers_of(fan)) == 2
    assert (
        used.count("session") == used.count("end") <= 2
    )  # once for each worker, although instances came between
    assert used.count("module") == used.count("down") <= 4
    result = fan.run_apart("-n", "2", "instances")
    result.stdout.fnmatch_lines(["*= 11 up to date in *"])


def test_a_worker_that_dies_keeps_nobody_waiting(fan: Project) -> None:
    fan.write(
        "conftest.py",
        "import os, pytest\n"
        "@pytest.hookimpl(tryfirst=True)\n"
        "def pytest_runtest_call(item):\n"
        "    if item.name in ('first', '3') and 'PYTEST_XDIST_WORKER' in os.environ: os._exit(9)\n",
    )
    result = fan.run_apart("-n", "2", "instances", timeout=100)
    # Whoever needs `first` executes it then.
    result.assert_outcomes(passed=9, failed=2)
    for name in ("first.json::first", "a_fan.json::3"):
        result.stdout.fnmatch_lines([f"*worker * crashed while running 'instances/{name}'*"])


def test_the_first_failure_ends_it(fan: Project) -> None:
    fan.flow("first", "raise ValueError('no')")
    result = fan.run_apart("-n", "2", "-x", "instances", timeout=60)
    assert result.parseoutcomes().get("failed", 0) == 1
    assert "fan/0" not in {name for name, record in fan.records().items() if record["status"] == "success"}


@pytest.mark.parametrize("arguments", [("--dist=loadfile",), ("--dist", "worksteal")])
def test_the_user_s_distribution_is_respected_with_a_warning(
    fan: Project, arguments: tuple[str, ...]
) -> None:
    result = fan.run_apart("-n", "2", *arguments, "instances", "-v", timeout=60)
    result.assert_outcomes(passed=11, warnings=1)
    shown = result.stdout.str()
    assert "scheduling tests via Scheduling" not in shown
    assert f"--dist={arguments[-1].removeprefix('--dist=')} is respected" in shown


def test_more_workers_than_instances(new_project: Callable[[], Project]) -> None:
    project = new_project()
    project.flow("step")
    project.instance("step")
    project.write("instances/bad.json", "{")
    result = project.run_apart("-n", "4", "instances", timeout=60)
    result.assert_outcomes(passed=1, errors=1)
