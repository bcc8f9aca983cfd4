"""A pipe in the place of a file keeps no session waiting: it is refused by its name, or is nobody's business."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.conftest import Project

pytestmark = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no named pipes")

RUN = "runs/a/a"
FILES = ("a.ipynb", "a_config.json", "a_execution_output.txt", ".run.lock")


def pipe(project: Project, name: str) -> None:
    """A pipe, in place of what is there."""
    path = project.root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    os.mkfifo(path)


def session(project: Project, *options: str) -> pytest.RunResult:
    """A session, which is over before its deadline (else this raises) and ends in the ordinary way."""
    result = project.run_apart("-q", *options, timeout=120)
    result.stdout.no_fnmatch_line("*INTERNALERROR*")
    result.stdout.no_fnmatch_line("*Errno*")
    return result


@pytest.fixture
def one(project: Project) -> Project:
    project.flow("a", "print('hello')")
    project.instance("a")
    return project


@pytest.mark.parametrize("engine", ["fork", "papermill"])
@pytest.mark.parametrize("names", [("run.json",), FILES], ids=["record", "others"])
def test_in_the_place_of_a_runs_files_it_is_replaced(
    one: Project, names: tuple[str, ...], engine: str
) -> None:
    session(one, f"--ductaflow-engine={engine}").assert_outcomes(passed=1)
    for name in names:
        pipe(one, f"{RUN}/{name}")
    assert "instances/a.json::a: would run" in session(one, "--ductaflow-explain").outlines
    session(one, f"--ductaflow-engine={engine}").assert_outcomes(passed=1)
    assert all((one.root / RUN / name).is_file() for name in names if name != ".run.lock")
    assert one.record("a/a")["status"] == "success"


@pytest.mark.parametrize("option", ["--ductaflow-accept", "--no-execute"])
def test_whatever_else_a_session_does_it_does_not_wait(one: Project, option: str) -> None:
    session(one).assert_outcomes(passed=1)
    for name in ("run.json", *FILES):
        pipe(one, f"{RUN}/{name}")
    session(one, option)


def test_of_a_failed_run_it_shows_no_output(one: Project) -> None:
    one.flow(
        "a", "import os\nos.remove('a_execution_output.txt')\nos.mkfifo('a_execution_output.txt')\n1 / 0"
    )
    result = session(one, "--ductaflow-engine=papermill")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*flows/a.py:8: ZeroDivisionError*"])


def test_what_an_instance_names_is_refused(one: Project) -> None:
    no_file = "is not a regular file"
    expected = {
        "csv": ("t.csv", {"scenarios": "t.csv"}, f"scenarios: t.csv: cannot be read as a table: {no_file}"),
        "pq": (
            "t.parquet",
            {"scenarios": "t.parquet"},
            f"scenarios: t.parquet: cannot be read as a table: {no_file}",
        ),
        "xlsx": (
            "t.xlsx",
            {"scenarios": "t.xlsx"},
            f"scenarios: t.xlsx: cannot be read as a table: {no_file}",
        ),
        "config": ("c.json", {"config": "c.json"}, f"config: c.json: {no_file}"),
        "defaults": ("config/flows/b.json", {"flow": "flows/b.py"}, f"flow: config/flows/b.json: {no_file}"),
        "flow": ("flows/c.py", {"flow": "flows/c.py"}, f"flow: flows/c.py: cannot be read: {no_file}"),
        "input": (
            "data/p",
            {"inputs": ["data/p"]},
            f"inputs[0]: 'data/p' {no_file}: nobody can tell whether it has changed",
        ),
    }
    one.flow("b")
    for name, (path, keys, _) in expected.items():
        pipe(one, path)
        one.instance(name, **{"flow": "flows/a.py", **keys})
    lines = session(one, "--collect-only").outlines
    for name, (_, _, problem) in expected.items():
        told = [line for line in lines if line.startswith(f"instances/{name}.json:")]
        assert [line.partition(": ")[2] for line in told] == [problem], name


def test_what_nobody_asks_for_is_ignored(one: Project) -> None:
    one.instance("a", inputs=["data", "more/*"])
    for name in (
        "data/p",
        "more/p",
        "flows/b.py",
        "builds/b.py",
        "pyproject.toml",
        "tox.ini",
        "instances/b.json",
    ):
        pipe(one, name)
    session(one).assert_outcomes(passed=1)
    session(one).stdout.fnmatch_lines(["1 up to date *"])


def test_what_a_run_read_out_of_one_is_never_up_to_date(one: Project) -> None:
    read = "print(open(config['_project_root'] + '/p').read())"
    write = "import subprocess\nsubprocess.Popen('sleep 0.1; echo 1 > ../../../p', shell=True)\n"
    one.flow("a", write + read)
    pipe(one, "p")
    session(one).assert_outcomes(passed=1)
    assert "    input not a regular file: p" in session(one, "--ductaflow-explain").outlines
