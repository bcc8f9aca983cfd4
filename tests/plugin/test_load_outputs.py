"""``load_outputs``: one file of every current run as one data frame."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest

from pytest_ductaflow import ConfigError, OutputError, RecordError, load_outputs

if TYPE_CHECKING:
    from tests.conftest import Project

WRITE = """
import pandas as pd
table = pd.DataFrame({"year": [1, 2], "rate": [config["rate"], 7], "instance": ["i", "i"]})
"""
SAVE = {
    "out.csv": "table.to_csv('out.csv', index=False)",
    "out.parquet": "table.to_parquet('out.parquet')",
    "out.feather": "table.to_feather('out.feather')",
    "out.xlsx": "table.to_excel('out.xlsx', index=False)",
    "out.json": "table.to_json('out.json')",
    "rows.json": "table.to_json('rows.json', orient='records')",
}
#: Reads what the instances of `step` wrote.
FAN_IN = """
from pytest_ductaflow import load_outputs
frame = load_outputs("out.csv", config["runs"])
print(*frame["instance"], *frame["rate"])
"""


def made_by_hand(project: Project, name: str, **changes: Any) -> None:
    """A run of `step` that no session made, with its file."""
    record = {"schema": 1, "kind": "flow", "flow": "flows/step.py", "instance": name, "status": "success"}
    record |= {"started": "2026-01-01T00:00:00+00:00", "scenario": {"rate": name}, **changes}
    project.write(f"runs/step/{name}/run.json", record)
    project.write(f"runs/step/{name}/out.csv", f"year,rate\n1,{name}\n")


@pytest.fixture
def swept(project: Project) -> Project:
    project.flow("step", WRITE + SAVE["out.csv"])
    project.instance("step", scenarios={"rate": [1, 2], "instance": ["a"]}, name="s{rate}")
    return project


# --- what comes back -------------------------------------------------------------------------------


def test_the_file_of_every_run_whatever_its_kind(swept: Project) -> None:
    swept.flow("step", WRITE + "\n".join(SAVE.values()))
    swept.run("instances").assert_outcomes(passed=2)
    expected = pd.DataFrame(
        {
            "instance": ["s1", "s1", "s2", "s2"],
            "rate": [1, 1, 2, 2],
            "scenario.instance": ["a"] * 4,
            "year": [1, 2, 1, 2],
            "output.rate": [1, 7, 2, 7],
            "output.instance": ["i"] * 4,
        }
    )
    for name in SAVE:
        frame = load_outputs(name, "runs/step")
        pd.testing.assert_frame_equal(frame, expected, check_dtype=False)
    pd.testing.assert_frame_equal(load_outputs("out.csv"), expected)
    assert list(load_outputs("out.csv", usecols=["year"])) == [
        "instance",
        "rate",
        "scenario.instance",
        "year",
    ]


def test_one_json_object_is_one_row(project: Project) -> None:
    for name in "ab":
        made_by_hand(project, name)
        project.write(f"runs/step/{name}/total.json", {"total": 3, "of": {"cars": 1, "list": [1, 2]}})
    frame = load_outputs("total.json")
    assert list(frame) == ["instance", "rate", "total", "of.cars", "of.list"]
    assert frame["total"].tolist() == [3, 3]
    assert frame["of.list"].tolist() == [[1, 2], [1, 2]]


def test_files_of_nested_runs_are_named_by_their_path(project: Project) -> None:
    made_by_hand(project, "a")
    made_by_hand(project, "a/runs/fit", instance="fit")
    assert load_outputs("out.csv")["instance"].tolist() == ["a"]
    assert load_outputs("runs/fit/out.csv")["instance"].tolist() == ["a"]
    assert load_outputs("out.csv", "runs/step/a/runs")["instance"].tolist() == ["fit"]


# --- what does not count ---------------------------------------------------------------------------


def test_red_runs_are_left_out_and_named(project: Project) -> None:
    made_by_hand(project, "a")
    made_by_hand(project, "b", status="error", error={"type": "ValueError", "message": "bad"})
    made_by_hand(project, "c", status="running")  # by nobody any more
    project.write("runs/step/d/run.json", "{")
    project.write("runs/step/d/out.csv", "year\n1\n")
    made_by_hand(project, "e", status="warning")
    with pytest.warns(UserWarning, match=r"out\.csv of red runs is left out") as caught:
        frame = load_outputs("out.csv")
    assert frame["instance"].tolist() == ["a", "e"]
    text = str(caught[0].message)
    assert "runs/step/b (red: ValueError: bad), runs/step/c (red: Interrupted" in text
    assert "runs/step/d (red: " in text
    assert caught[0].filename == __file__


def test_a_missing_file_is_named(project: Project) -> None:
    for name in "abcdefgh":
        made_by_hand(project, name)
        if name != "b":
            (project.root / f"runs/step/{name}/out.csv").unlink()
    shown = "runs/step/a, runs/step/c, runs/step/d, runs/step/e, runs/step/f, … and 2 more"
    with pytest.raises(OutputError, match="no out") as caught:
        load_outputs("out.csv")
    assert str(caught.value) == f"no out.csv in {shown}"
    with pytest.warns(UserWarning, match="there is no out.csv in runs/step/a"):
        assert load_outputs("out.csv", missing="skip")["instance"].tolist() == ["b"]


def test_leftovers_do_not_count_and_who_does_must_be_known(swept: Project) -> None:
    swept.run("instances")
    swept.instance("step", scenarios={"rate": [2, 3], "instance": ["a"]}, name="s{rate}")
    swept.run("instances")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load_outputs("out.csv")["instance"].unique().tolist() == ["s2", "s3"]
    swept.write("instances/bad.json", "{")
    with pytest.raises(RecordError, match="instances/bad"):
        load_outputs("out.csv")


@pytest.mark.parametrize(
    ("name", "error", "said"),
    [
        ("out.pkl", ConfigError, "'out.pkl' does not end in one of .csv, .parquet, .feather, .xlsx, .json"),
        ("out", ConfigError, "'out' does not end in one of"),
        ("../a/out.csv", ConfigError, "is no path below a run directory"),
        ("/out.csv", ConfigError, "is no path below a run directory"),
        ("*.csv", OutputError, r"no \*.csv in runs/step/a"),
        ("empty.csv", OutputError, "runs/step/a/empty.csv cannot be read: EmptyDataError"),
        ("list.json", OutputError, "runs/step/a/list.json cannot be read: ValueError: holds neither"),
    ],
)
def test_what_cannot_be_read_is_said(project: Project, name: str, error: type[Exception], said: str) -> None:
    made_by_hand(project, "a")
    project.write("runs/step/a/empty.csv", "")
    project.write("runs/step/a/list.json", "[1]")
    with pytest.raises(error, match=said):
        load_outputs(name)


def test_nothing_to_read_is_an_error_and_no_empty_frame(project: Project) -> None:
    with pytest.raises(OutputError, match="there is no directory runs/none"):
        load_outputs("out.csv", "runs/none")
    (project.root / "runs").mkdir()
    with pytest.raises(OutputError, match="no run in runs has out"):
        load_outputs("out.csv")
    made_by_hand(project, "b", status="error")
    with pytest.raises(OutputError, match=r"no run in runs has out.csv; not read: runs/step/b \(red"):
        load_outputs("out.csv")
    with pytest.raises(ConfigError, match="missing is 'raise' or 'skip'"):
        load_outputs("out.csv", missing="ignore")  # type: ignore[arg-type]


# --- in a flow -------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ["fork", "papermill"])
def test_in_a_flow_it_is_fan_in(swept: Project, engine: str) -> None:
    option = f"--ductaflow-engine={engine}"
    swept.run("instances", option).assert_outcomes(passed=2)
    swept.flow("all", FAN_IN)
    swept.instance("all", config={"runs": "runs/step"})  # stands before `step`
    swept.run("instances", option).assert_outcomes(passed=1)
    text = swept.root / "runs/all/all/all_execution_output.txt"
    assert text.read_text() == "s1 s1 s2 s2 1 1 2 2\n"
    swept.run("instances", option).stdout.fnmatch_lines(["*3 up to date*"])
    swept.flow("step", WRITE.replace("7]", "8]") + SAVE["out.csv"])
    result = swept.run("instances", option, "-v")
    lines = [line for line in result.outlines if "PASSED" in line]
    assert ["all.json" in line for line in lines] == [False, False, True], lines
    assert swept.record("all/all")["status"] == "success"
    swept.run("instances", option).stdout.fnmatch_lines(["*3 up to date*"])


def test_in_a_flow_a_red_run_makes_it_orange_until_that_is_green(swept: Project) -> None:
    swept.flow("step", WRITE + SAVE["out.csv"] + "\nassert config['rate'] != 2\n")
    swept.run("instances")
    swept.flow("all", FAN_IN.replace('config["runs"]', '"runs/step"'))
    swept.instance("zall", flow="flows/all.py")  # comes after `step`
    swept.run("instances")
    record = swept.record("all/zall")
    assert record["status"] == "warning"
    [text] = [warning["text"] for warning in record["warnings"]]
    assert text.startswith("⚠️ load_outputs: out.csv of red runs is left out: runs/step/s2 (red: ")
    swept.flow("step", WRITE + SAVE["out.csv"])
    swept.run("instances").assert_outcomes(passed=3)
    assert swept.record("all/zall")["status"] == "success"
    assert "s2" in (swept.root / "runs/all/zall/all_execution_output.txt").read_text()


def test_in_a_flow_a_leftover_is_left_out_and_no_reason_for_orange(swept: Project) -> None:
    swept.flow("all", FAN_IN.replace('config["runs"]', '"runs/step"'))
    swept.instance("zall", flow="flows/all.py")
    swept.run("instances").assert_outcomes(passed=3)
    swept.instance("step", scenarios={"rate": [1], "instance": ["a"]}, name="s{rate}")
    swept.run("instances")
    assert swept.record("all/zall")["status"] == "success"
    assert (swept.root / "runs/all/zall/all_execution_output.txt").read_text() == "s1 s1 1 1\n"
    swept.run("instances").stdout.fnmatch_lines(["*2 up to date*"])
