"""What is up to date is not executed again, says so, and keeps its light."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

import pytest_ductaflow
from pytest_ductaflow import freshness

if TYPE_CHECKING:
    from tests.conftest import Project

#: Writes a line for each execution, which counts as no input.
LOG = 'open(config["_project_root"] + "/log.txt", "a").write(f"{config.get(\'x\', 0)}\\n")\n'


@pytest.fixture
def one(project: Project) -> Project:
    """A project whose flow reads a file, by config."""
    project.flow("step", LOG + "threshold = 3\nprint(open(config['_project_root'] + '/data/a.csv').read())")
    project.write("data/a.csv", "1,2")
    project.instance("step", config={"x": 1, "limit": 30.0, "password": "old"})
    return project


def executions(project: Project) -> int:
    log = project.root / "log.txt"
    return len(log.read_text().splitlines()) if log.exists() else 0


def explained(project: Project, *arguments: str) -> list[str]:
    result = project.run("--ductaflow-explain", *arguments)
    assert result.ret in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED)
    return result.outlines


def rewrite(project: Project, name: str, old: str, new: str) -> None:
    path = project.root / name
    text = path.read_text("utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


def test_it_passes_as_u_and_up_to_date(one: Project) -> None:
    one.run("instances").assert_outcomes(passed=1)
    result = one.run("instances", "--junitxml=junit.xml")
    result.stdout.fnmatch_lines(["instances/step.json u *", "*== 1 up to date in *"])
    assert executions(one) == 1
    assert '<property name="up_to_date" value="True"' in (one.root / "junit.xml").read_text()
    one.run("instances", "-v").stdout.fnmatch_lines(["*::step UP-TO-DATE (green) *"])
    result = one.run("instances", "--ductaflow-force")
    result.assert_outcomes(passed=1)
    assert executions(one) == 2


def test_orange_stays_orange(project: Project) -> None:
    project.flow("step", "print('Warning: odd')")
    project.instance("step")
    project.run("instances")
    result = project.run("instances", "-v")
    result.stdout.fnmatch_lines(
        ["*UP-TO-DATE (orange)*", "0 green  1 orange*", "*flows/step.py:*Warning: odd*"]
    )
    result = project.run("instances", "-W", "error::pytest_ductaflow.FlowWarning")
    result.assert_outcomes(failed=1)


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (
            lambda p: rewrite(p, "instances/step.json", "30.0", "45.0"),
            "config: limit 30.0 → 45.0",
        ),
        (lambda p: rewrite(p, "instances/step.json", '"old"', '"new"'), 'config: password "***" → "***"'),
        (lambda p: rewrite(p, "instances/step.json", '"x": 1,', '"y": 1,'), "config: y = 1 is new"),
        (lambda p: rewrite(p, "data/a.csv", "1", "3"), "input changed: data/a.csv"),
        (lambda p: (p.root / "data/a.csv").unlink(), "input missing: data/a.csv"),
        (lambda p: rewrite(p, "flows/step.py", "= 3", "= 4"), "code: flows/step.py, cell 2 (line 5)"),
        (
            lambda p: (p.root / "runs/step/step/step.ipynb").unlink(),
            "output missing: runs/step/step/step.ipynb",
        ),
        (lambda p: shutil.rmtree(p.root / "runs"), "never run"),
        (
            lambda p: rewrite(p, "runs/step/step/run.json", '"schema": 1', '"schema": 99'),
            "record: * schema 1",
        ),
        (lambda p: p.write("runs/step/step/run.json", "{"), "record: no usable record: *"),
        (
            lambda p: rewrite(p, "runs/step/step/run.json", '"started": "20', '"started": "30'),
            "clock: it has gone backwards since the last run*",
        ),
        (
            lambda p: rewrite(p, "runs/step/step/run.json", '"python": "3.', '"python": "2.'),
            "environment: Python 2.* → 3.*",
        ),
        (lambda p: rewrite(p, "runs/step/step/run.json", '"success"', '"error"'), "the last run failed"),
        (
            lambda p: rewrite(p, "runs/step/step/run.json", '"success"', '"running"'),
            "the last run was interr*",
        ),
    ],
)
def test_a_change_is_explained_and_runs(one: Project, edit: Callable[[Project], None], reason: str) -> None:
    one.run("instances")
    edit(one)
    lines = pytest.LineMatcher(explained(one, "instances"))
    lines.fnmatch_lines(["instances/step.json::step: would run", f"    {reason}", "1 would run, 0 may run*"])
    assert executions(one) == 1
    one.run("instances")
    assert executions(one) == 2


@pytest.mark.parametrize(
    "edit",
    [
        lambda p: rewrite(p, "flows/step.py", "threshold = 3", "# better\nthreshold  =  3\n\n# %%"),
        lambda p: os.utime(p.root / "data/a.csv"),
        lambda p: p.write("data/other.csv", "new"),
        lambda p: rewrite(p, "instances/step.json", '"flow"', '"description": "words", "flow"'),
        lambda p: shutil.rmtree(p.root / ".pytest_cache", ignore_errors=True),
    ],
    ids=["comment", "touch", "another file", "description", "cache"],
)
def test_what_changes_nothing_runs_nothing(one: Project, edit: Callable[[Project], None]) -> None:
    one.run("instances")
    edit(one)
    lines = explained(one, "instances")
    assert "instances/step.json::step: up to date" in lines, lines
    one.run("instances")
    assert executions(one) == 1


def test_a_moved_project_is_up_to_date(one: Project, tmp_path_factory: pytest.TempPathFactory) -> None:
    one.instance("needs", flow="flows/step.py", config={"file": "runs/step/step/step.ipynb"})
    one.run("instances")
    other = tmp_path_factory.mktemp("other") / "project"
    shutil.copytree(one.root, other)
    command = [sys.executable, "-m", "pytest", "-p", "no:hypothesispytest", "instances"]
    environment = {**one.environment(), "HOME": str(other)}
    shown = subprocess.run(command, cwd=other, env=environment, capture_output=True, text=True).stdout
    assert "2 up to date" in shown
    assert len((other / "log.txt").read_text().splitlines()) == 2


def test_accepted_runs_are_up_to_date_and_their_records_say_so(one: Project) -> None:
    one.run("instances")
    rewrite(one, "data/a.csv", "1", "3")
    rewrite(one, "flows/step.py", "= 3", "= 4")
    one.run("instances", "--ductaflow-accept").stdout.fnmatch_lines(["* 1 up to date in *"])
    record = one.record("step/step")
    assert record["accepted"][0]["reasons"] == [
        "code: flows/step.py, cell 2 (line 5)",
        "input changed: data/a.csv",
    ]
    one.run("instances").stdout.fnmatch_lines(["* 1 up to date in *"])
    assert executions(one) == 1


def test_what_failed_or_never_ran_cannot_be_accepted(project: Project) -> None:
    project.flow("red", "raise ValueError('no')")
    project.instance("red")
    result = project.run("instances", "--ductaflow-accept")
    result.stdout.fnmatch_lines(["*red.json::red cannot be accepted: never run"])
    result.assert_outcomes(failed=1)
    project.run("instances")
    result = project.run("instances", "--ductaflow-accept")
    result.stdout.fnmatch_lines(["*red.json::red cannot be accepted: the last run failed"])


@pytest.mark.parametrize(
    "pair", [("--ductaflow-force", "--ductaflow-accept"), ("--no-execute", "--ductaflow-explain")]
)
def test_options_that_contradict_each_other_are_refused(one: Project, pair: tuple[str, str]) -> None:
    result = one.run("instances", *pair)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "exclude each other" in result.stderr.str()


# --- instances that need others --------------------------------------------------------------------


@pytest.fixture
def chain(project: Project) -> Project:
    project.flow("prepare", LOG + "open('out.csv', 'w').write(str(config['x'] // 10))")
    project.flow("use", LOG + "print(open(config['input']).read())")
    project.instance("prepare", config={}, scenarios={"x": [10, 20]}, name="{x}")
    project.instance("a_use", flow="flows/use.py", config={"input": "runs/prepare/10/out.csv"})
    return project


def test_what_is_needed_and_stale_is_said_and_can_be_added(chain: Project) -> None:
    chain.run("instances")
    rewrite(chain, "instances/prepare.json", "10", "11")
    rewrite(chain, "instances/prepare.json", '"{x}"', '"10"')
    rewrite(chain, "instances/prepare.json", ",\n      20", "")
    needs = "needs instances/prepare.json::10, which is stale (config: x 10 → 11)"
    result = chain.run("instances/a_use.json")
    result.stdout.fnmatch_lines([f"*PytestWarning: ductaflow: {needs}", "*1 up to date*"])
    assert f"    {needs}" in explained(chain, "instances", "-k", "a_use")
    result = chain.run("instances/a_use.json", "--ductaflow-with-needed", "-v")
    result.stdout.fnmatch_lines(["*prepare.json::10 PASSED*", "*a_use.json::a_use UP-TO-DATE*"])


def test_with_needed_adds_what_was_deselected(chain: Project) -> None:
    result = chain.run("instances", "-k", "a_use", "--ductaflow-with-needed", "-v")
    result.assert_outcomes(passed=2, deselected=1)
    assert executions(chain) == 2


def test_it_is_said_what_would_be_rewritten(chain: Project) -> None:
    chain.run("instances")
    rewrite(chain, "flows/prepare.py", "// 10", "// 5")
    lines = pytest.LineMatcher(explained(chain, "instances", "-n", "2"))
    lines.fnmatch_lines(
        [
            "instances/prepare.json::10: would run",
            "    code: flows/prepare.py, cell 2 (line 5)",
            "instances/a_use.json::a_use: may run",
            "    input: runs/prepare/10/out.csv will be rewritten by instances/prepare.json::10",
            "2 would run, 1 may run, 0 up to date",
        ]
    )


def test_only_what_an_output_changed_for_runs(chain: Project) -> None:
    chain.run("instances")
    rewrite(chain, "instances/prepare.json", "20", "21")
    chain.run("instances", "-v").stdout.fnmatch_lines_random(
        ["*::10 UP-TO-DATE*", "*prepare.json::21 PASSED*", "*a_use UP-TO-DATE*"]
    )
    rewrite(chain, "flows/prepare.py", "config['x'] // 10", "config['x'] // 10 + 0")
    chain.run("instances", "-v").stdout.fnmatch_lines_random(
        ["*::10 PASSED*", "*prepare.json::21 PASSED*", "*a_use UP-TO-DATE*"]
    )


# --- builds ------------------------------------------------------------------------------------------


@pytest.fixture
def five(project: Project) -> Project:
    """A build of five flows, each of which reads what the one before wrote."""
    for number in range(5):
        before = f"open('../{number - 1}/out.txt').read()" if number else "'0'"
        body = f"value = int({before})\nADDED = 1\nopen('out.txt', 'w').write(str(value + ADDED))"
        project.flow(f"flow_{number}", LOG.replace("config.get('x', 0)", str(number)) + body)
    project.build(
        "all",
        "from pytest_ductaflow import run_notebook\n"
        "for number in range(5):\n"
        "    flow = f\"{config['_project_root']}/flows/flow_{number}.py\"\n"
        "    run_notebook(flow, config={}, execution_dir=f'runs/{number}', reuse=config['reuse'])\n",
    )
    project.instance("all", build="builds/all.py", config={"reuse": True})
    return project


def order_of(project: Project) -> list[str]:
    """Which flows were executed since the last look."""
    log = project.root / "log.txt"
    found = log.read_text().split() if log.exists() else []
    log.unlink(missing_ok=True)
    return found


def test_a_build_takes_flows_that_are_up_to_date(five: Project) -> None:
    rewrite(five, "flows/flow_2.py", "ADDED = 1", "ADDED = 1 / 0")
    five.run("instances").assert_outcomes(failed=1)
    assert order_of(five) == ["0", "1", "2"]
    rewrite(five, "flows/flow_2.py", "ADDED = 1 / 0", "ADDED = 1")
    five.run("instances").assert_outcomes(passed=1)
    assert order_of(five) == ["2", "3", "4"]
    five.run("instances").stdout.fnmatch_lines(["*1 up to date*"])
    rewrite(five, "flows/flow_2.py", "ADDED = 1", "ADDED = 2 - 1")
    five.run("instances").assert_outcomes(passed=1)
    assert order_of(five) == ["2"]
    rewrite(five, "flows/flow_2.py", "ADDED = 2 - 1", "ADDED = 7")
    assert "    code: flows/flow_2.py, cell 2 (line 5)" in explained(five, "instances")
    five.run("instances").assert_outcomes(passed=1)
    assert order_of(five) == ["2", "3", "4"]
    rewrite(five, "flows/flow_3.py", "ADDED = 1", "ADDED = 1  # words")
    five.run("instances").stdout.fnmatch_lines(["*1 up to date*"])
    five.run("instances", "--ductaflow-force")
    assert order_of(five) == list("01234")
    output = (five.root / "runs/all/all/all_execution_output.txt").read_text()
    assert "up to date" not in output


def test_reuse_false_and_scripts_always_execute(five: Project) -> None:
    five.instance("all", build="builds/all.py", config={"reuse": False})
    five.run("instances")
    order_of(five)
    rewrite(five, "flows/flow_4.py", "ADDED = 1", "ADDED = 3")
    five.run("instances")
    assert order_of(five) == list("01234")
    script = (
        "from pytest_ductaflow import run_notebook; run_notebook('flows/flow_0.py', execution_dir='by_hand')"
    )
    for _ in range(2):
        five.python("-c", script)
    assert order_of(five) == ["0", "0"]


def test_what_is_gone_from_a_build_is_made_again(five: Project) -> None:
    five.run("instances")
    order_of(five)
    (five.root / "runs/all/all/runs/1/out.txt").unlink()
    five.run("instances").assert_outcomes(passed=1)
    assert order_of(five) == ["1"]
    shutil.rmtree(five.root / "runs/all/all/runs/4")
    five.run("instances").assert_outcomes(passed=1)
    assert order_of(five) == ["4"]


# --- two at once -----------------------------------------------------------------------------------


def test_two_sessions_execute_each_instance_once(new_project: Callable[[], Project]) -> None:
    project = new_project()
    project.flow("step", LOG + "import time\ntime.sleep(0.5)")
    project.instance("step", scenarios={"x": [1, 2, 3]}, name="{x}")
    command = [sys.executable, "-m", "pytest", "-p", "no:hypothesispytest", "instances", "-q"]
    sessions = [
        subprocess.Popen(
            command, cwd=project.root, env=project.environment(), stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    shown = [session.communicate(timeout=60)[0] for session in sessions]
    assert [session.returncode for session in sessions] == [0, 0], shown
    assert executions(project) == 3
    assert sum(text.count("up to date") for text in shown) >= 1


def test_the_end_of_an_f_string_is_no_pattern_for_the_whole_disk(project: Project) -> None:
    project.write("data/deep/a.csv", "1")
    project.flow(
        "count",
        """
        import glob
        root = config["_project_root"]
        print(len(glob.glob(f"{root}/**/*.csv", recursive=True)), "/**", "**")
        """,
    )
    project.instance("count")
    project.run_apart("instances", timeout=60).assert_outcomes(passed=1)
    assert "data/deep/a.csv" in project.record("count/count")["inputs"]
    assert "pytest.ini" not in project.record("count/count")["inputs"]
    project.run_apart("instances").stdout.fnmatch_lines(["*1 up to date*"])


def test_in_a_clone_of_ductaflow_its_own_modules_name_no_data(tmp_path: Path) -> None:
    package = Path(pytest_ductaflow.__file__).parent
    asked = SimpleNamespace(project_root=package.parent, directory=tmp_path, inputs=(), config={})
    assert freshness.declared(asked, sorted(package.glob("*.py"))) == {}  # type: ignore[arg-type]
