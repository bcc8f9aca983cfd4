"""The status page of sessions in which not everything goes its way: it says no more than what is known."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.conftest import Project


def data(project: Project) -> dict[str, Any]:
    """What the page holds."""
    page = (project.root / "runs/conductor_status_report.html").read_text("utf-8")
    found: dict[str, Any] = json.loads(page.partition('id="data">')[2].partition("</script>")[0])
    return found


def lights(project: Project) -> dict[str, str]:
    return {row["name"]: row["light"] for row in data(project)["rows"]}


@pytest.fixture
def green(project: Project) -> Project:
    """Three instances that were green once."""
    project.flow("fit", "print('fitted')")
    project.instance("fit", scenarios={"x": [1, 2, 3]}, name="x{x}")
    project.run("instances").assert_outcomes(passed=3)
    return project


def test_an_instance_whose_worker_died_before_it_began_is_red(green: Project) -> None:
    green.write(
        "conftest.py",
        "import os\ndef pytest_runtest_setup(item):\n    item.name == 'x2' and os._exit(9)\n",
    )
    said = green.run_apart("instances", "-n", "2", "--ductaflow-force", "--ductaflow-compare=runs")
    said.stdout.fnmatch_lines(["fit/x2: green → red"])
    assert lights(green) == {"x1": "green", "x2": "red", "x3": "green"}
    row = next(row for row in data(green)["rows"] if row["name"] == "x2")
    assert "crashed" in row["error"]["message"]


@pytest.mark.parametrize("reason", ["a mark", "--no-execute"])
def test_what_was_not_run_is_no_result_of_this_session(green: Project, reason: str) -> None:
    green.flow("fit", "raise ValueError")
    marks = [{"name": "skip", "reason": "later"}]
    green.instance("fit", scenarios={"x": [1, 2, 3]}, name="x{x}", marks=marks if reason == "a mark" else [])
    options = [reason] if reason.startswith("--") else []
    green.run("instances", *options).assert_outcomes(skipped=3)
    assert not any(row.get("now") for row in data(green)["rows"])


def test_a_file_that_cannot_be_read_is_said(green: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    summary = green.root / "summary.md"
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    green.write("instances/bad.json", {"flo": "flows/fit.py"})
    green.run("instances", "--continue-on-collection-errors")
    (problem,) = data(green)["session"]["problems"]
    assert problem.startswith("instances/bad.json:2: flo: unknown key")
    heading = summary.read_text("utf-8").splitlines()[0]
    assert heading.endswith("✖ cannot be read: instances/bad.json")
    (green.root / "instances/bad.json").unlink()
    green.run("instances")
    assert "problems" not in data(green)["session"]


def test_a_session_that_was_stopped_says_so(project: Project) -> None:
    project.flow("wait", "import time\nopen('began', 'w').close()\ntime.sleep(100 * (config['x'] - 1))")
    project.instance("wait", scenarios={"x": [1, 2, 3]}, name="x{x}")
    summary = project.root / "summary.md"
    process = subprocess.Popen(
        [sys.executable, "-m", "pytest", "-p", "no:hypothesispytest", "instances"],
        cwd=project.root,
        env={**project.environment(), "GITHUB_STEP_SUMMARY": str(summary)},
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    until = time.monotonic() + 60
    while not (project.root / "runs/wait/x2/began").exists():
        assert time.monotonic() < until
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGINT)
    said, _ = process.communicate(timeout=60)
    assert "stopped: 2 of 3 instances did not end" in said
    assert "✖ stopped: 2 of 3 instances did not end" in summary.read_text("utf-8").splitlines()[0]
    assert data(project)["session"]["state"] == "stopped"
    assert lights(project) == {"x1": "green", "x2": "red", "x3": "waiting"}


def test_what_another_session_ran_meanwhile_is_shown(project: Project) -> None:
    project.flow(
        "fit",
        """
        import os, pathlib, time
        root = pathlib.Path(config["_project_root"])
        (root / f"began_{config['x']}").touch()
        while config["x"] == 2 and not (root / "go").exists():
            time.sleep(0.05)
        print("Warning: few" if (root / "few").exists() else "enough")
        """,
    )
    project.instance("fit", scenarios={"x": [1, 2]}, name="x{x}")
    project.write("go", "")
    project.run_apart("instances").assert_outcomes(passed=2)
    (project.root / "go").unlink()
    (project.root / "began_2").unlink()
    command = [sys.executable, "-m", "pytest", "-p", "no:hypothesispytest", "--ductaflow-force"]
    process = subprocess.Popen(
        [*command, "instances/fit.json::x2"],
        cwd=project.root,
        env=project.environment(),
        stdout=subprocess.DEVNULL,
    )
    until = time.monotonic() + 60
    while not (project.root / "began_2").exists():
        assert time.monotonic() < until
        time.sleep(0.05)
    time.sleep(2)  # the page is written meanwhile, and all old runs are read
    project.write("few", "")
    project.run_apart("instances/fit.json::x1", "--ductaflow-force").assert_outcomes(passed=1, warnings=1)
    project.write("go", "")
    process.wait(60)
    assert lights(project) == {"x1": "orange", "x2": "orange"}


@pytest.mark.parametrize("options", [[], ["-n", "2"], ["--ductaflow-engine=papermill"]])
def test_lights_agree_with_what_pytest_makes_of_the_mark_xfail(
    project: Project, options: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    project.flow("ok", "")
    project.flow("red", "raise ValueError('known')")
    mark = {"name": "xfail", "reason": "ticket 12"}
    project.instance("failed", flow="flows/red.py")
    project.instance("xfailed", flow="flows/red.py", marks=[mark])
    project.instance("not_run", flow="flows/red.py", marks=[{**mark, "run": False}])
    project.instance("xpassed", flow="flows/ok.py", marks=[mark])
    project.instance("strict", flow="flows/ok.py", marks=[{**mark, "strict": True}])
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(project.root / "summary.md"))
    seen = {"failed": "red", "xfailed": "xfailed", "not_run": "xfailed", "xpassed": "green", "strict": "red"}
    for _ in range(2):  # the second time, two are up to date
        result = project.run_apart("instances", "--html=report.html", *options)
        result.assert_outcomes(failed=2, xfailed=2, xpassed=1)
        result.stdout.fnmatch_lines(["1 green  0 orange  2 red  2 xfailed*"])
        assert lights(project) == seen
        found = data(project)
        assert all(row["now"] for row in found["rows"])
        assert sorted(path for one in found["clusters"] for path in one["paths"]) == [
            "ok/strict",
            "red/failed",
        ]
        rows = {row["name"]: row for row in found["rows"]}
        assert rows["strict"]["error"] == {"type": "XPASS(strict)", "message": "ticket 12"}
        assert {name: row.get("xfail") for name, row in rows.items()} == {
            "failed": None,
            "xfailed": ["xfailed", "ticket 12"],
            "not_run": ["xfailed", "[NOTRUN] ticket 12"],
            "xpassed": ["xpassed", "ticket 12"],
            "strict": ["XPASS(strict)", "ticket 12"],
        }
        summary = (project.root / "summary.md").read_text("utf-8")
        assert ": ● 1 green ✖ 2 red\n\n5 instances" in summary
        assert "2 xfailed" in summary
        assert "known" in summary
        assert "XPASS" in summary
        (project.root / "summary.md").unlink()
        assert "xfailed</span>: 2" in (project.root / "report.html").read_text("utf-8")


def test_marks_count_as_they_are_now_also_where_nothing_is_executed(green: Project) -> None:
    def mark(*marks: dict[str, Any]) -> None:
        green.instance("fit", scenarios={"x": [1, 2, 3]}, name="x{x}", marks=list(marks))

    mark({"name": "xfail", "strict": True})
    green.run("instances").assert_outcomes(failed=3)
    assert set(lights(green).values()) == {"red"}
    mark({"name": "xfail"})
    green.run("instances").assert_outcomes(xpassed=3)
    assert set(lights(green).values()) == {"green"}
    mark()
    assert green.run("instances").ret == 0
    assert set(lights(green).values()) == {"green"}
    assert not any("xfail" in row for row in data(green)["rows"])
    green.flow("fit", "raise ValueError")
    mark({"name": "xfail"})
    green.run("instances").assert_outcomes(xfailed=3)
    green.run("instances", "--ductaflow-compare=runs", "-k", "x1").stdout.fnmatch_lines(["the same lights*"])
    assert set(lights(green).values()) == {"xfailed"}, "those of another session stay what they were"
    mark()
    green.run("instances", "-k", "x1")
    assert lights(green) == {"x1": "red", "x2": "xfailed", "x3": "xfailed"}
