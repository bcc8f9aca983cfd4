"""Runs of instances that the project no longer has: they never count, and whoever reads one is told."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from pytest_ductaflow import generate_status_report, leftovers, load_runs

if TYPE_CHECKING:
    from tests.conftest import Project


def fit(project: Project, *ks: int) -> None:
    """Instances ``fit-1``, …, each of which writes its number to ``o.txt``."""
    project.flow("fit", "open('o.txt', 'w').write(str(config['k']))")
    project.instance("fit", scenarios={"k": list(ks)})


def test_the_frame_knows_the_instances_also_of_other_patterns(project: Project) -> None:
    project.ini("ductaflow_instances = sweeps/*.json")
    project.flow("fit", "open('o.txt', 'w').write(str(config['k']))")
    keys = {"flow": "flows/fit.py", "name": "fit-{k}"}
    project.write("sweeps/all.json", {**keys, "scenarios": {"k": [1, 2]}})
    project.run()
    frame = load_runs(project.root / "runs")
    assert frame[["instance", "current"]].to_numpy().tolist() == [["fit-1", True], ["fit-2", True]]
    project.write("sweeps/all.json", {**keys, "scenarios": {"k": [2]}})
    assert load_runs(project.root / "runs")["current"].tolist() == [False, True]


@pytest.mark.parametrize("option", ["--collect-only", "--ductaflow-explain"])
def test_what_executes_nothing_leaves_nothing(project: Project, option: str) -> None:
    fit(project, 1)
    project.run(option)
    assert not (project.root / "runs").exists()


#: A flow with a glob of its own, which no reference tells.
SUM = """
from pathlib import Path
print(sum(int(path.read_text()) for path in sorted(Path("../../fit").glob("*/o.txt"))))
"""


def swept(project: Project, body: str = SUM) -> None:
    """Three fits and what reads them all, run; then the third is removed."""
    fit(project, 1, 2, 3)
    project.flow("use", body)
    project.instance("use")
    assert project.run_apart("-q").ret == 0
    fit(project, 1, 2)


def texts(project: Project, run: str = "use/use") -> list[str]:
    return [warning["text"] for warning in project.record(run)["warnings"]]


@pytest.mark.parametrize("arguments", [[], ["-n2"]], ids=" ".join)
def test_what_may_be_one_while_a_file_is_in_error_is_no_reason_to_be_green(
    project: Project, arguments: list[str]
) -> None:
    swept(project)
    project.write("instances/other.json", "{")
    for _ in range(2):
        result = project.run_apart("-v", "instances", *arguments)
        assert any("2 green  1 orange  0 red  (2 up to date)" in line for line in result.outlines)
        said = "⚠️ read runs/fit/fit-3/o.txt: an instance file is in error, so it may be of a leftover"
        assert texts(project) == [said]
    project.instance("other", flow="flows/fit.py", config={"k": 3}, name="fit-3")  # it was no leftover
    project.run("instances")
    assert texts(project) == []


@pytest.mark.parametrize(
    "arguments", [["--ductaflow-engine=fork"], ["--ductaflow-engine=papermill"], ["-n2"]]
)
def test_a_run_that_reads_one_is_orange_until_it_is_gone(project: Project, arguments: list[str]) -> None:
    swept(project)
    for _ in range(2):  # and it is not up to date
        result = project.run_apart("-v", *arguments)
        assert "2 green  1 orange  0 red  (2 up to date)" in result.outlines
        assert (
            "1 leftover, whose instance is gone: runs/fit/fit-3 (ductaflow prune lists them)"
            in result.outlines
        )
        assert texts(project) == [
            "⚠️ read runs/fit/fit-3/o.txt, a leftover: its instance is gone (see: ductaflow prune)"
        ]
    explained = project.run("--ductaflow-explain").outlines
    assert "    input of a leftover: runs/fit/fit-3/o.txt" in explained
    shutil.rmtree(project.root / "runs/fit/fit-3")
    result = project.run_apart("-v", *arguments)
    assert "3 green  0 orange  0 red  (2 up to date)" in result.outlines
    assert not any("leftover," in line for line in result.outlines)
    assert (project.root / "runs/use/use/use_execution_output.txt").read_text() == "3\n"


def test_a_run_that_read_one_runs_again_when_its_instance_is_back(project: Project) -> None:
    swept(project)
    project.run("-q")
    fit(project, 1, 2, 3)
    result = project.run("-v")
    result.stdout.fnmatch_lines(["*use.json::use PASSED (green)*"])
    assert texts(project) == []


def test_what_was_read_before_it_became_one_is_not_up_to_date(project: Project) -> None:
    swept(project)
    explained = project.run("--ductaflow-explain", "instances/use.json").outlines
    assert explained[-5:-2] == [
        "instances/use.json::use: would run",
        "    input of a leftover: runs/fit/fit-3/o.txt",
        "1 would run, 0 may run, 0 up to date",
    ]


def test_it_cannot_be_accepted_as_it_is(project: Project) -> None:
    swept(project)
    result = project.run("--ductaflow-accept")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["*cannot be accepted: input of a leftover: runs/fit/fit-3/o.txt"])


@pytest.mark.parametrize(
    ("call", "light"),
    [("load_runs('../../fit')", "orange"), ("load_runs('../../fit', current=True)", "green")],
)
def test_load_runs_reads_them_only_if_they_are_asked_for(project: Project, call: str, light: str) -> None:
    swept(project, f"from pytest_ductaflow import load_runs\nprint(*{call}['current'])")
    result = project.run("-v")
    result.stdout.fnmatch_lines([f"*use.json::use * ({light})*"])
    shown = (project.root / "runs/use/use/use_execution_output.txt").read_text().split()
    if light == "orange":
        assert shown == ["True", "True", "False"]
        assert texts(project)[0].startswith("⚠️ read runs/fit/fit-3/run.json, a leftover")
    else:
        assert texts(project) == []


def test_a_build_whose_flow_reads_one_is_orange(project: Project) -> None:
    fit(project, 1, 2)
    project.flow("inner", "print(open('../../../../fit/fit-2/o.txt').read())")
    project.build(
        "all",
        """
        from pathlib import Path
        from pytest_ductaflow import run_notebook
        flow = Path(config["_project_root"], "flows/inner.py")
        run_notebook(flow, config=config, execution_dir="runs/inner")
        """,
    )
    project.instance("later", build="builds/all.py", name="all")
    project.run("-q")
    assert project.record("all/all")["status"] == "success"
    fit(project, 1)
    project.run("-q")
    assert project.record("all/all")["status"] == "warning"
    assert texts(project, "all/all")[0].startswith("⚠️ read runs/fit/fit-2/o.txt, a leftover")


def test_while_a_file_is_in_error_nothing_is_said_of_them(project: Project) -> None:
    swept(project)
    project.write("instances/bad.json", "{")
    result = project.run("-v")
    result.stdout.fnmatch_lines(["*use.json::use PASSED (orange)*"])  # it may have read one
    assert not any("leftover," in line for line in result.outlines)


@pytest.mark.parametrize(
    "arguments",
    [["instances/use.json"], ["-k", "fit-1"], ["instances/fit.json::fit-1"], ["-n2", "instances/use.json"]],
)
def test_what_is_not_selected_is_no_leftover(project: Project, arguments: list[str]) -> None:
    fit(project, 1, 2)
    project.flow("use", SUM)
    project.instance("use")
    project.run_apart("-q")
    result = project.run_apart(*arguments)
    assert result.ret == 0
    assert not any("leftover," in line for line in result.outlines)


# --- on the page ---------------------------------------------------------------------------------


def page(project: Project) -> dict[str, Any]:
    text = (project.root / "runs/conductor_status_report.html").read_text("utf-8")
    data: dict[str, Any] = json.loads(text.split('id="data">')[1].split("</script>")[0])
    return data


@pytest.mark.parametrize("arguments", [[], ["-n2"]])
def test_the_page_sets_them_apart(project: Project, arguments: list[str]) -> None:
    swept(project)
    project.run_apart("-q", *arguments)
    shown = page(project)
    assert sorted(row["path"] for row in shown["rows"]) == ["fit/fit-1", "fit/fit-2", "use/use"]
    (leftover,) = shown["leftovers"]
    assert (leftover["path"], leftover["id"], leftover["light"]) == (
        "fit/fit-3",
        "instances/fit.json::fit-3",
        "green",
    )


def test_a_page_of_runs_that_are_all_up_to_date_is_made_again_when_one_becomes_a_leftover(
    project: Project,
) -> None:
    fit(project, 1, 2)
    project.run("-q")
    assert page(project)["leftovers"] == []
    before = (project.root / "runs/conductor_status_report.html").stat().st_mtime_ns
    project.run("-q")
    assert (project.root / "runs/conductor_status_report.html").stat().st_mtime_ns == before
    fit(project, 1)
    project.run("-q")
    assert [row["path"] for row in page(project)["leftovers"]] == ["fit/fit-2"]
    assert [row["path"] for row in page(project)["rows"]] == ["fit/fit-1"]


def test_a_page_without_a_session_sets_them_apart_too(project: Project) -> None:
    fit(project, 1, 2)
    project.run("-q")
    fit(project, 1)
    text = generate_status_report(model_root=project.root / "runs")
    shown = json.loads(text.split('id="data">')[1].split("</script>")[0])
    assert [row["path"] for row in shown["leftovers"]] == ["fit/fit-2"]
    assert [row["path"] for row in shown["rows"]] == ["fit/fit-1"]


LOOP = """
import pandas as pd
from pytest_ductaflow import run_instances
runs = run_instances(pd.DataFrame({"row": [1]}), flow="flows/use.py", progress=False)
print(*runs["light"], *runs["up_to_date"])
"""


def test_a_loop_s_run_that_reads_one_is_orange_too(project: Project) -> None:
    swept(project)
    for _ in range(2):  # and it is not up to date
        assert project.python("-c", LOOP).stdout == "orange False\n"
    assert texts(project, "use/use-1") == [
        "⚠️ read runs/fit/fit-3/o.txt, a leftover: its instance is gone (see: ductaflow prune)"
    ]


def test_no_file_is_read_for_run_directories_that_are_known(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit(project, 1, 2)
    project.run("instances").assert_outcomes(passed=2)
    read: list[Any] = []
    monkeypatch.setattr(leftovers, "load_instances", lambda *given: read.append(given) or [])
    found = leftovers.Leftovers(project.root, ["instances/*.json"])
    found.known |= {"runs/fit/fit-1", "runs/fit/fit-2"}
    assert (found.directories, found.undecided, read) == (frozenset(), frozenset(), [])
    found = leftovers.Leftovers(project.root, ["instances/*.json"])
    assert found.directories == {"runs/fit/fit-1", "runs/fit/fit-2"}
    assert len(read) == 1
