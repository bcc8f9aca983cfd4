"""What a run finds and leaves in its directory, and what a build makes of it."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.conftest import Project

RUN = "from pathlib import Path\nfrom pytest_ductaflow import run_notebook\nroot = Path(config['_project_root'])\n"


def test_a_build_may_run_two_flows_in_one_directory(project: Project) -> None:
    project.flow("a", "open('table.csv', 'w').write('1')")
    project.flow("b", "print(open('table.csv').read())")
    calls = [f"run_notebook(root / 'flows/{name}.py', execution_dir='runs/x')" for name in "ab"]
    project.build("both", RUN + "\n".join(calls))
    project.instance("both", build="builds/both.py")
    project.run("instances").assert_outcomes(passed=1)
    assert (project.root / "runs/both/both/runs/x/table.csv").exists()


def test_a_build_that_retried_a_red_flow_in_the_same_directory_is_orange(project: Project) -> None:
    project.flow("a", "if config['fail']:\n    raise ValueError")
    call = "run_notebook(root / 'flows/a.py', config={'fail': %s}, execution_dir='runs/x')\n"
    project.build("retry", RUN + f"try:\n    {call % True}except Exception:\n    {call % False}")
    project.instance("retry", build="builds/retry.py")
    project.run_apart("instances").assert_outcomes(passed=1)
    assert project.record("retry/retry")["status"] == "warning"


def test_preparing_for_another_config_removes_the_last_runs_outputs(project: Project) -> None:
    project.flow("a", "open('out.csv', 'w').write('1')")
    project.instance("a", config={"x": 1})
    project.run("instances")
    project.instance("a", config={"x": 2})
    project.run("instances", "--no-execute")
    assert not (project.root / "runs/a/a/out.csv").exists()


def test_a_refused_instance_keeps_its_last_results(project: Project) -> None:
    project.flow("a", "open('out.csv', 'w').write('1')")
    project.flow("b", "open('mine.csv', 'w').write(open(config['input']).read())")
    project.instance("a")
    project.instance("b", config={"input": "runs/a/a/out.csv"})
    project.run("instances").assert_outcomes(passed=2)
    project.flow("a", "1 / 0")
    project.run("instances").assert_outcomes(failed=1, errors=1)
    assert project.record("b/b")["status"] == "error"
    assert (project.root / "runs/b/b/mine.csv").exists()


def test_a_script_that_loads_its_config_in_a_helper_and_exits_early_is_red(project: Project) -> None:
    project.flow(
        "a",
        """
        import sys
        from pytest_ductaflow import load_cli_config
        def load():
            return load_cli_config("c.json")
        config = load()
        sys.exit(3)
        """,
    )
    project.write("c.json", {})
    script = [sys.executable, "flows/a.py", "--output-dir", "runs/a/a"]
    done = subprocess.run(script, cwd=project.root, env=project.environment(), timeout=60, check=False)
    assert done.returncode == 3
    assert project.record("a/a")["status"] == "error"
