"""What the system refuses is one line for each cause: what, where and why, in the system's own words."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.conftest import Project

#: In a conftest.py: no record gets to the disk, in whichever process.
FULL = """
import errno, os
replace = os.replace
def full(source, target, **options):
    if str(target).endswith("run.json"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(source))
    return replace(source, target, **options)
os.replace = full
"""


#: In a conftest.py: while one instance runs, few more files can be opened.
FEW = """
import os, resource
import pytest
@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if item.name == "a-2":
        top = os.open(os.devnull, os.O_RDONLY)
        os.close(top)
        resource.setrlimit(resource.RLIMIT_NOFILE, (top + 12, hard))
    try:
        return (yield)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
"""
#: In a conftest.py: no file may get bigger than this.
BIG = """
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, -1))
"""


def shown_by(result: pytest.RunResult) -> list[str]:
    """The lines of a session that failed in the ordinary way, without our source."""
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.no_fnmatch_line("*INTERNALERROR*")
    result.stdout.no_fnmatch_line("*Error: [[]Errno*")
    result.stdout.no_fnmatch_line("*.py:*")
    return result.outlines


@pytest.mark.parametrize(
    ("name", "doing"),
    [
        ("run.json", "remove run.json"),
        ("a.ipynb", "remove a.ipynb"),
        ("a_config.json", "write a_config.json"),
        ("a_execution_output.txt", "remove a_execution_output.txt"),
        (".run.lock", "lock .run.lock"),
    ],
)
def test_a_directory_in_a_files_place_is_one_line(project: Project, name: str, doing: str) -> None:
    project.flow("a")
    project.instance("a")
    (project.root / "runs/a/a" / name / "x").mkdir(parents=True)
    result = project.run("instances")
    result.assert_outcomes(failed=1)
    assert f"runs/a/a: cannot {doing}: Is a directory" in shown_by(result)
    result.stdout.fnmatch_lines(["0 green  0 orange  1 red*", "FAILED instances/a.json::a - runs/a/a: *"])


def test_what_is_in_the_way_of_all_runs_is_named_once(project: Project) -> None:
    project.flow("a")
    project.flow("b")
    project.instance("a", scenarios={"x": [1, 2]})
    project.instance("b")
    (project.root / "runs").symlink_to("nowhere")
    result = project.run("instances")
    result.assert_outcomes(failed=3)
    reason = "runs is a link to nowhere, which does not exist: a run directory cannot be made there"
    assert shown_by(result).count(reason) == 1
    result.stdout.fnmatch_lines(["*3 of 3: runs RecordError: *"])


@pytest.mark.parametrize(
    "options", [(), ("-n2",), ("--ductaflow-engine=papermill",)], ids=["alone", "workers", "papermill"]
)
def test_a_full_disk_is_one_cause_of_all_failures(project: Project, options: tuple[str, ...]) -> None:
    project.write("conftest.py", FULL)
    project.flow("a")
    project.instance("a", scenarios={"x": [1, 2, 3]})
    result = project.run_apart("instances", *options)
    result.assert_outcomes(failed=3)
    shown = shown_by(result)
    said = [line for line in shown if line.startswith("runs/a/")]
    assert len(said) == 1
    assert said[0].endswith(": cannot write run.json: No space left on device")
    result.stdout.fnmatch_lines(
        ["*3 of 3: runs FileError: PATH: cannot write run.json: No space left on device*"]
    )


@pytest.mark.skipif(sys.platform != "linux", reason="descriptors are counted as Linux gives them")
@pytest.mark.parametrize("options", [(), ("-n2",)], ids=["alone", "workers"])
@pytest.mark.parametrize(("engine", "files"), [("fork", 24), ("papermill", 64)])
def test_too_few_descriptors_are_one_line_and_the_next_one_runs(
    project: Project, engine: str, files: int, options: tuple[str, ...]
) -> None:
    project.write("conftest.py", FEW)
    project.flow("a")
    project.instance("a", scenarios={"x": [1, 2, 3]})
    result = project.run_apart("instances", f"--ductaflow-engine={engine}", *options)
    result.assert_outcomes(failed=1, passed=2)
    line = f"runs/a/a-2: cannot open the {files} files that a run needs: Too many open files"
    assert line in shown_by(result)


@pytest.mark.skipif(os.name != "posix", reason="there are no limits")
@pytest.mark.parametrize("options", [(), ("--no-execute",), ("-n2",)], ids=["alone", "prepare", "workers"])
def test_a_file_that_gets_too_big_is_one_cause(project: Project, options: tuple[str, ...]) -> None:
    project.write("conftest.py", BIG)
    project.flow("a")
    project.instance("a", scenarios={"x": [1, 2]}, config={"big": "y" * 30_000})
    result = project.run_apart("instances", *options)
    result.assert_outcomes(failed=2)
    said = [line for line in shown_by(result) if line.startswith("runs/a/a-")]
    assert len(said) == 1
    assert said[0].endswith(": cannot write a_config.json: File too large")


@pytest.mark.skipif(os.name != "posix", reason="other systems have other limits")
def test_a_name_that_is_too_long_is_one_line(project: Project) -> None:
    stem = "a" * 240
    project.flow(stem)
    project.instance("a", flow=f"flows/{stem}.py", step="a")
    result = project.run("instances")
    result.assert_outcomes(failed=1)
    (said,) = [line for line in shown_by(result) if line.startswith("runs/") and "cannot" in line]
    assert said.endswith(": File name too long")


def test_an_older_record_is_not_shown_as_the_reason(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.flow("a", "raise ValueError('the old one')")
    project.instance("a")
    project.run_apart("instances")
    project.write("conftest.py", FULL)
    project.flow("a", "print('new')")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(project.root / "summary.md"))
    result = project.run_apart("instances")
    line = "runs/a/a: cannot write run.json: No space left on device"
    assert line in shown_by(result)
    result.stdout.no_fnmatch_line("*the old one*")
    assert f"| instances/a.json::a | {line} |" in (project.root / "summary.md").read_text().splitlines()
    page = (project.root / "runs/conductor_status_report.html").read_text("utf-8")
    assert f'"type":"FileError","message":"{line}"' in page
    assert "the old one" not in page


@pytest.mark.parametrize("engine", ["fork", "papermill"])
def test_in_a_build_it_is_an_error_of_the_line_that_runs_the_flow(project: Project, engine: str) -> None:
    project.flow("a")
    call = "from pytest_ductaflow import run_notebook\nrun_notebook('../../../flows/a.py', execution_dir='x')"
    project.build("b", call)
    project.instance("b", build="builds/b.py")
    (project.root / "runs/b/b/x/run.json/y").mkdir(parents=True)
    result = project.run_apart("instances", f"--ductaflow-engine={engine}")
    result.assert_outcomes(failed=1)
    error = project.record("b/b")["error"]
    assert (error["type"], error["line"]) == ("FileError", 6)
    assert error["message"].endswith("runs/b/b/x: cannot remove run.json: Is a directory")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no named pipes")
def test_pipes_in_the_place_of_our_files_keep_nobody_waiting(project: Project) -> None:
    project.flow("a")
    project.instance("a")
    (project.root / "runs/a/a").mkdir(parents=True)
    (project.root / "runs/gone/b").mkdir(parents=True)
    for name in ("a/a/run.json", "gone/b/run.json", ".digests", "conductor_status_report.html"):
        os.mkfifo(project.root / "runs" / name)
    project.run_apart("instances").assert_outcomes(passed=1)
    assert project.record("a/a")["status"] == "success"
