import json
from pathlib import Path

import pytest

from pytest_ductaflow import context
from pytest_ductaflow.context import Context, current, read_events


def make(tmp_path: Path, **values: object) -> Context:
    known = {
        "project_root": str(tmp_path),
        "run_directory": str(tmp_path / "runs/fit/ä"),
        "flow": "flows/fit.py",
        "session": "s",
        "engine": "papermill",
        "python_path": ("/a", "/b"),
        "output": str(tmp_path / "out.txt"),
        "events": str(tmp_path / "events"),
    }
    return Context(**{**known, **values})  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def _outside_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(context.VARIABLE, raising=False)


def test_outside_a_run_there_is_none() -> None:
    assert current() is None


def test_inside_a_run_it_is_what_was_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved = make(
        tmp_path, lifeline=7, cells=({"source": "x = '\ud800'", "line": 3}, {"source": "", "line": None})
    )
    saved.save(tmp_path / "context.json")
    monkeypatch.setenv(context.VARIABLE, str(tmp_path / "context.json"))
    assert current() == saved


@pytest.mark.parametrize(
    "content",
    [None, "", "{", "[]", "3", "{}", '{"python_path": [], "cells": []}', b"\xff"],
    ids=["missing", "empty", "cut off", "list", "number", "no keys", "few keys", "not UTF-8"],
)
def test_a_damaged_context_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str | bytes | None
) -> None:
    path = tmp_path / "context.json"
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    monkeypatch.setenv(context.VARIABLE, str(path))
    assert current() is None


def test_events_arrive_in_order_with_any_text(tmp_path: Path) -> None:
    run = make(tmp_path)
    Path(run.events).touch()
    run.report("cell", index=0)
    run.report("error", message="two\nlines\u2028 ä \ud800", frames=[{"line": 3}])
    run.report("finished")
    assert list(read_events(Path(run.events))) == [
        {"event": "cell", "index": 0},
        {"event": "error", "message": "two\nlines\u2028 ä \ud800", "frames": [{"line": 3}]},
        {"event": "finished"},
    ]


@pytest.mark.parametrize("torn", [b'{"event": "fin', b'{"event": "x\\u00', b"\xff\xfe", b""], ids=repr)
def test_a_last_event_that_is_not_complete_is_left_out(tmp_path: Path, torn: bytes) -> None:
    (tmp_path / "events").write_bytes(b'{"event": "cell"}\n' + torn)
    assert list(read_events(tmp_path / "events")) == [{"event": "cell"}]


def test_a_damaged_event_in_the_middle_hides_no_other(tmp_path: Path) -> None:
    (tmp_path / "events").write_bytes(b'{"event": "a"}\n{"eve\n{"event": "b"}\n')
    assert [event["event"] for event in read_events(tmp_path / "events")] == ["a", "b"]


def test_no_events_file_means_no_events(tmp_path: Path) -> None:
    assert list(read_events(tmp_path / "none")) == []


def test_reporting_to_nobody_is_no_error_and_makes_no_file(tmp_path: Path) -> None:
    make(tmp_path).report("finished")
    assert not (tmp_path / "events").exists()


def test_a_context_file_is_plain_json(tmp_path: Path) -> None:
    make(tmp_path).save(tmp_path / "context.json")
    assert json.loads((tmp_path / "context.json").read_text("utf-8"))["python_path"] == ["/a", "/b"]
