"""An instance whose worker crashed: terminal, JUnit, pytest-html and the page count and name the same."""

from __future__ import annotations

import html
import json
import re
import xml.etree.ElementTree as ElementTree
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.conftest import Project

#: Under xdist the worker that runs the instance `dies` does so, each time or the first time only.
DIES = """
import os, pathlib
def pytest_runtest_call(item):
    if item.name == "dies" and "PYTEST_XDIST_WORKER" in os.environ and not pathlib.Path("died").exists():
        pathlib.Path({marker!r}).touch()
        os._exit(9)
"""
#: As pytest-rerunfailures does.
AGAIN = """
def pytest_handlecrashitem(crashitem, report, sched):
    sched.mark_test_pending(crashitem)
    report.outcome = "rerun"
"""
OUTPUTS = ("--junitxml=junit.xml", "--html=report.html", "-rA")


@pytest.fixture
def four(project: Project) -> Project:
    """Four instances, of which `dies` has a worker that dies."""
    project.flow("fit", "print('fitted')")
    for name in ("a", "b", "c", "dies"):
        project.instance(name, flow="flows/fit.py")
    project.write("conftest.py", DIES.format(marker="dying"))
    return project


def said(result: pytest.RunResult) -> dict[str, str]:
    """The lines of the terminal's short summary: name to word."""
    lines = [
        re.fullmatch(r"(PASSED|FAILED|ERROR) instances/(\w+)\.json::\w+( .*)?", line)
        for line in result.outlines
    ]
    return {match[2]: match[1].capitalize() for match in lines if match}


def cases(project: Project) -> dict[str, str]:
    """JUnit's test cases."""
    suite = ElementTree.parse(project.root / "junit.xml").getroot()[0]
    found = {
        str(case.get("name")): "Passed" if case.find("failure") is None else "Failed"
        for case in suite.iter("testcase")
    }
    assert len(found) == len(list(suite.iter("testcase")))
    assert int(suite.get("tests", 0)) == len(found)
    assert suite.get("failures") == str(list(found.values()).count("Failed"))
    assert suite.get("errors") == "0"
    return found


def rows(project: Project) -> dict[str, str]:
    """pytest-html's rows, all of instances."""
    found = all_rows(project)
    lights = {name: light for name, (_, light) in found.items()}
    assert lights == {name: "red" if word == "Failed" else "green" for name, (word, _) in found.items()}
    return {name: word for name, (word, _) in found.items()}


def all_rows(project: Project) -> dict[str, tuple[str, str]]:
    """pytest-html's rows: name to word and light."""
    text = (project.root / "report.html").read_text()
    (blob,) = re.findall('data-jsonblob="([^"]*)"', text)
    tests = json.loads(html.unescape(blob))["tests"]
    cells = [
        [re.sub("<.*?>", "", cell) for cell in row["resultsTableRow"]]
        for rows in tests.values()
        for row in rows
    ]
    found = {row[2].partition("::")[2]: (row[0], row[1].rpartition(" ")[2]) for row in cells}
    assert len(cells) == len(found)
    assert f">{len(found)} test" in text
    return found


def on_page(project: Project) -> dict[str, str]:
    """The status page's rows of this session that ended."""
    page = (project.root / "runs/conductor_status_report.html").read_text("utf-8")
    data = json.loads(page.partition('id="data">')[2].partition("</script>")[0])
    words = {"green": "Passed", "red": "Failed"}
    return {row["name"]: words[row["light"]] for row in data["rows"] if row["light"] in words}


@pytest.mark.parametrize(
    "options",
    [
        "",
        "--self-contained-html --max-worker-restart=0",
        "--dist=loadfile --max-worker-restart=0",
        "--dist=worksteal --max-worker-restart=0",
        "-x",
    ],
)
def test_all_that_shows_results_counts_and_names_the_same(four: Project, options: str) -> None:
    result = four.run_apart("-n", "2", *options.split(), *OUTPUTS, "instances")
    shown = said(result)
    assert shown["dies"] == "Failed"
    assert cases(four) == rows(four) == on_page(four) == shown
    assert result.ret != 0
    if options != "-x":
        assert shown.keys() == {"a", "b", "c", "dies"}


def test_a_test_beside_instances_is_counted_as_they_are(four: Project) -> None:
    """An ordinary test whose worker crashed, which pytest-html alone does not show."""
    four.write("test_beside.py", "def test_passes(): pass\ndef dies(): pass\n")
    four.ini("python_functions = test_* dies")
    (four.root / "instances/dies.json").unlink()
    result = four.run_apart("-n", "2", *OUTPUTS, "instances", "test_beside.py")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["FAILED test_beside.py::dies*", "*= 1 failed, 4 passed*"])
    expected = {**dict.fromkeys(["a", "b", "c", "test_passes"], "Passed"), "dies": "Failed"}
    assert cases(four) == {name: word for name, (word, _) in all_rows(four).items()} == expected
    assert {name: light for name, (_, light) in all_rows(four).items() if light} == dict.fromkeys(
        "abc", "green"
    )
    assert on_page(four) == dict.fromkeys("abc", "Passed")


def test_workers_that_die_while_they_collect_are_a_failure(four: Project) -> None:
    """Nobody knows what was to run: that is no session without tests, which some take for a good one."""
    dies = "import os\ndef pytest_collection(): os._exit(9)\nif 'PYTEST_XDIST_WORKER' not in os.environ: del pytest_collection\n"
    four.write("conftest.py", dies)
    result = four.run_apart("-n", "2", "--max-worker-restart=0", *OUTPUTS, "instances")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["the workers died while they collected; *", "*= 1 error in *"])
    result.stdout.no_fnmatch_line("*no instance in*")
    suite = ElementTree.parse(four.root / "junit.xml").getroot()[0]
    assert (suite.get("tests"), suite.get("errors")) == ("1", "1")
    text = html.unescape((four.root / "report.html").read_text())
    assert text.count("the workers died while they collected") == 1


def test_another_attempt_counts_instead_of_the_crash(four: Project) -> None:
    four.write("conftest.py", DIES.format(marker="died") + AGAIN)
    result = four.run_apart("-n", "2", *OUTPUTS, "instances")
    assert said(result) == on_page(four) == dict.fromkeys(["a", "b", "c", "dies"], "Passed")
    assert result.ret == 0
