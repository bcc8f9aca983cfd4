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
    """pytest-html's rows."""
    text = (project.root / "report.html").read_text()
    (blob,) = re.findall('data-jsonblob="([^"]*)"', text)
    tests = json.loads(html.unescape(blob))["tests"]
    cells = [
        [re.sub("<.*?>", "", cell) for cell in row["resultsTableRow"]]
        for rows in tests.values()
        for row in rows
    ]
    found = {row[2].partition("::")[2]: row[0] for row in cells}
    lights = {row[2].partition("::")[2]: row[1].split()[-1] for row in cells}
    assert lights == {name: "red" if result == "Failed" else "green" for name, result in found.items()}
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


def test_another_attempt_counts_instead_of_the_crash(four: Project) -> None:
    four.write("conftest.py", DIES.format(marker="died") + AGAIN)
    result = four.run_apart("-n", "2", *OUTPUTS, "instances")
    assert said(result) == on_page(four) == dict.fromkeys(["a", "b", "c", "dies"], "Passed")
    assert result.ret == 0
