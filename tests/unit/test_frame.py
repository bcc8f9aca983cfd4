from pathlib import Path
from typing import Any

import pytest

from pytest_ductaflow.frame import load_runs
from pytest_ductaflow.record import Record, write_record


def run(directory: Path, **values: Any) -> Path:
    needed = {"kind": "flow", "flow": "flows/fit.py", "status": "success", "started": "t"}
    directory.mkdir(parents=True, exist_ok=True)
    write_record(directory, Record(**{**needed, "instance": directory.name, **values}))
    return directory


def test_no_runs_make_an_empty_frame_with_the_columns(tmp_path: Path) -> None:
    frame = load_runs(tmp_path / "none")
    assert len(frame) == 0
    assert list(frame.columns)[:7] == ["directory", "parent", "kind", "flow", "instance", "node_id", "status"]


def test_a_run_is_a_row_with_its_config_in_columns(tmp_path: Path) -> None:
    run(
        tmp_path / "runs/fit/a",
        status="warning",
        duration=2.5,
        ended="t2",
        node_id="i.json::a",
        warnings=[{"line": 1, "cell": 0, "text": "Warning: x"}] * 3,
        config={
            "year": 2013,
            "db": {"host": "h", "deep": {"x": 1}, "none": {}},
            "list": [1],
            "_project_root": "/p",
        },
    )
    frame = load_runs(tmp_path / "runs")
    assert frame.iloc[0].to_dict() == {
        "directory": (tmp_path / "runs/fit/a").as_posix(),
        "parent": None,
        "kind": "flow",
        "flow": "flows/fit.py",
        "instance": "a",
        "node_id": "i.json::a",
        "status": "warning",
        "light": "orange",
        "duration": 2.5,
        "warnings": 3,
        "error": None,
        "started": "t",
        "ended": "t2",
        "current": None,
        "year": 2013,
        "db.host": "h",
        "db.deep.x": 1,
        "db.none": {},
        "list": [1],
    }


def test_an_error_is_one_line_in_the_frame(tmp_path: Path) -> None:
    error = {"type": "ValueError", "message": "bad\nworse", "file": "flows/x.py", "line": 3}
    run(tmp_path / "a", status="error", error=error)
    row = load_runs(tmp_path).iloc[0]
    assert (row["light"], row["error"]) == ("red", "flows/x.py:3: ValueError: bad")


def test_nested_runs_name_their_build(tmp_path: Path) -> None:
    for name in ("all/x", "all/x/runs/one", "all/x/runs/two", "all/x/runs/two/runs/deep", "all/xy", "fit/z"):
        run(tmp_path / name)
    frame = load_runs(tmp_path)
    parents = {
        Path(child).name: Path(parent).name if isinstance(parent, str) else None
        for child, parent in zip(frame["directory"], frame["parent"], strict=True)
    }
    assert parents == {"x": None, "one": "x", "two": "x", "deep": "two", "xy": None, "z": None}


def test_what_a_run_does_not_have_is_none_beside_others_that_have_it(tmp_path: Path) -> None:
    run(tmp_path / "all", node_id="i.json::all")
    run(tmp_path / "all/runs/x", status="error", error={"type": "E", "message": "m"})
    frame = load_runs(tmp_path)
    assert (frame["parent"][0], frame["error"][0], frame["node_id"][1]) == (None, None, None)


def test_a_damaged_record_is_a_red_row(tmp_path: Path) -> None:
    run(tmp_path / "fit/a", config={"year": 1})
    (tmp_path / "fit/b").mkdir()
    (tmp_path / "fit/b/run.json").write_text("{")
    row = load_runs(tmp_path).iloc[1]
    assert (row["instance"], row["status"], row["light"]) == ("b", "error", "red")
    assert "no usable record" in row["error"]


def test_a_config_key_called_like_a_column_is_prefixed(tmp_path: Path) -> None:
    run(tmp_path / "a", config={"status": "mine", "duration": 9, "flow": "f"}, duration=1.0)
    row = load_runs(tmp_path).iloc[0]
    assert (row["status"], row["duration"], row["flow"]) == ("success", 1.0, "flows/fit.py")
    assert (row["config.status"], row["config.duration"], row["config.flow"]) == ("mine", 9, "f")


@pytest.mark.parametrize(
    "config", [{"status": 1, "config": {"status": 2}}, {"a": {"b": 1}, "a.b": 2}], ids=["prefix", "dots"]
)
def test_config_keys_that_look_alike_are_all_kept(tmp_path: Path, config: dict) -> None:
    run(tmp_path / "a", config=config)
    row = load_runs(tmp_path).iloc[0]
    assert {1, 2} <= {value for value in row if not isinstance(value, dict)}
