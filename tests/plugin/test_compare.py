"""``--ductaflow-compare``: a session against an older copy of the runs."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from pytest_ductaflow.report import comparison

if TYPE_CHECKING:
    from tests.conftest import Project

FLOW = """
from pytest_ductaflow import record_measure

record_measure("delay", {factor} * config["toll"], unit="min")
record_measure("kind", "plain")
if config["toll"] == {bad}:
    raise ValueError("negative flow")
"""


@pytest.fixture
def compared(project: Project) -> Project:
    """Three runs, of which the last failed, an older copy of them, and a flow that has changed since."""
    project.flow("assign", FLOW.format(factor=10, bad=3))
    project.instance("assign", scenarios={"toll": [1, 2, 3]}, name="toll_{toll}")
    assert project.run("instances").ret == 1
    shutil.copytree(project.root / "runs", project.root / "before")
    project.flow("assign", FLOW.format(factor=12.5, bad=2))
    return project


@pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["serial", "parallel"])
def test_lights_and_measures_that_differ_are_listed(compared: Project, workers: tuple[str, ...]) -> None:
    said = compared.run("instances", "--ductaflow-compare=before", *workers).stdout
    said.fnmatch_lines(
        [
            "*compared with before*",
            "assign/toll_1: delay 10 → 12.5 min (+25.0%)",
            "assign/toll_2: green → red, delay 20 → 25 min (+25.0%)",
            "assign/toll_3: red → green, delay 30 → 37.5 min (+25.0%)",
        ]
    )


def test_what_is_only_on_one_side_is_said(compared: Project) -> None:
    shutil.rmtree(compared.root / "before/assign/toll_1")
    shutil.copytree(compared.root / "before/assign/toll_2", compared.root / "before/assign/toll_9")
    said = compared.run("instances", "--ductaflow-compare=before").stdout
    said.fnmatch_lines(["assign/toll_1: not in the older runs", "assign/toll_9: only in before"])


def test_without_differences_that_is_said_and_the_page_compares(compared: Project) -> None:
    compared.run("instances")
    shutil.rmtree(compared.root / "before")
    shutil.copytree(compared.root / "runs", compared.root / "before")
    said = compared.run("instances", "--ductaflow-compare=before").stdout
    said.fnmatch_lines(["*compared with before*", "the same lights and measures"])
    assert '"before":{"path":"before"' in (compared.root / "runs/conductor_status_report.html").read_text()


def test_the_page_compares_although_all_is_up_to_date(project: Project) -> None:
    project.flow("assign", FLOW.format(factor=10, bad=3))
    project.instance("assign", scenarios={"toll": [1, 2]})
    project.run("instances")
    shutil.copytree(project.root / "runs", project.root / "before")
    project.run("instances", "--ductaflow-compare=before").stdout.fnmatch_lines(["*2 up to date*"])
    page = project.root / "runs/conductor_status_report.html"
    assert '"before":{"path":"before"' in page.read_text()
    project.run("instances").stdout.fnmatch_lines(["*2 up to date*"])
    assert '"before":null' in page.read_text(), "a session that compares nothing left the comparison"


def test_a_directory_without_runs_is_refused(compared: Project) -> None:
    result = compared.run("instances", "--ductaflow-compare=flows")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*--ductaflow-compare: 'flows' is no directory of runs: no */*/run.json"])


@pytest.mark.parametrize(
    ("earlier", "now", "said"),
    [
        (18.2, 24.6, "18.2 → 24.6 min (+35.2%)"),
        (-5, 5, "-5 → 5 min (+200.0%)"),
        (0, 3, "0 → 3 min"),
        (1000000.1, 1000000.2, "1000000.1 → 1000000.2 min (+1e-05%)"),
        (None, 2.5, "2.5 min (new)"),
        (2.5, None, "2.5 (gone)"),
        ("a\x1b[2J", "b" * 100, f"a\\x1b[2J → {'b' * 59}… min"),
    ],
)
def test_a_change_in_words(earlier: object, now: object, said: str) -> None:
    def row(value: object) -> dict[str, object]:
        return {"light": "green", "measures": {} if value is None else {"m": value}}

    before = {"path": "before", "rows": {"f/i": row(earlier)}}
    assert comparison.lines([{"path": "f/i", "units": {"m": "min"}, **row(now)}], before) == [
        f"f/i: m {said}"
    ]
