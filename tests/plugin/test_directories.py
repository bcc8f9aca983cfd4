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


def test_the_output_of_a_red_run_that_is_not_selected_is_not_used(project: Project) -> None:
    project.flow("a", "open('out.csv', 'w').write('1')\nraise ValueError")
    project.flow("b", "print(open(config['input']).read())")
    project.instance("a")
    project.instance("b", config={"input": "runs/a/a/out.csv"})
    project.run_apart("instances/a.json")
    result = project.run_apart("instances/b.json")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*needs runs/a/a, whose last run failed*"])
    (project.root / "runs/a/a/run.json").unlink()  # now somebody put the file there
    project.run_apart("instances/b.json").assert_outcomes(passed=1)


def test_marks_of_a_needed_instance_are_respected_however_they_are_written(project: Project) -> None:
    project.write(
        "conftest.py",
        """
import pytest
MARKS = {
    "a": pytest.mark.xfail(run=False, reason="r"),
    "c": pytest.mark.skipif(condition=True, reason="r"),
    "d": pytest.mark.skipif("True", reason="r"),
}
def pytest_collection_modifyitems(items):
    for item in items:
        if item.name in MARKS:
            item.add_marker(MARKS[item.name])
    items.reverse()
""",
    )
    project.flow("a", "open(config['_project_root'] + '/ran', 'w')")
    for name in "acd":
        project.instance(name, flow="flows/a.py")
    project.flow("b")
    project.instance("b", config={"inputs": [f"runs/a/{name}/x" for name in "acd"]})
    project.run_apart("instances").assert_outcomes(passed=1, xfailed=1, skipped=2)
    assert not (project.root / "ran").exists()


def test_an_instance_does_not_write_through_a_linked_step(project: Project) -> None:
    project.flow("a")
    project.instance("a")
    outside = project.root / "outside"
    outside.mkdir()
    (project.root / "runs").mkdir()
    (project.root / "runs/a").symlink_to(outside)
    result = project.run("instances")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*runs/a is a symbolic link*"])
    assert not list(outside.iterdir())
