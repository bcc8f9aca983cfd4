"""What a session shows of its runs: who stands where, what fits on a page, how long it is going to take."""

import json
import random
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pytest_ductaflow.record import Record, write_record
from pytest_ductaflow.report import rows, sweep
from pytest_ductaflow.report.page import render
from pytest_ductaflow.report.rows import Place
from pytest_ductaflow.report.sweep import Expected, Sweep, as_text, shortened, with_configs


def run(directory: Path, **values: Any) -> Path:
    needed = {
        "kind": "flow",
        "flow": "flows/fit.py",
        "instance": directory.name,
        "status": "success",
        "started": "2025-01-01T00:00:00+00:00",
    }
    directory.mkdir(parents=True, exist_ok=True)
    write_record(directory, Record(**{**needed, **values}), durable=False)
    return directory


def expected(name: str, **values: Any) -> Expected:
    return Expected(
        id=f"i.json::{name}", path=f"fit/{name}", name=name, flow="flows/fit.py", kind="flow", **values
    )


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path, tmp_path / "runs")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Let time pass."""
    now = [1_000_000.0]
    monkeypatch.setattr(sweep.time, "time", lambda: now[0])

    def pass_time(seconds: float) -> None:
        now[0] += seconds

    return pass_time


def lights(found: list[dict[str, Any]]) -> dict[str, str]:
    return {row["name"]: row["light"] for row in found}


def test_instances_wait_run_and_end_in_the_order_in_which_they_run(place: Place) -> None:
    session = {"id": "now", "workers": ["main"]}
    run(place.runs / "fit/old", duration=7)
    run(place.runs / "fit/b", duration=3, status="error")
    seen = Sweep(place, session)
    seen.expect([expected("c"), expected("b", needs=["fit/c"]), expected("a", scenario={"x": 1})])
    assert [row["name"] for row in seen.rows()] == ["c", "b", "a", "old"]
    assert lights(seen.rows()) == {"c": "waiting", "b": "waiting", "a": "waiting", "old": "green"}
    found = {row["name"]: row for row in seen.rows()}
    assert found["b"]["expected"] == 3
    assert found["b"]["needs"] == ["fit/c"]
    assert found["a"]["scenario"] == {"x": 1}
    assert [row.get("now", False) for row in seen.rows()] == [True, True, True, False]

    seen.start("i.json::c")
    assert lights(seen.rows())["c"] == "running"
    assert [row["name"] for row in seen.running()] == ["c"]
    run(place.runs / "fit/c", status="warning", session="now")
    seen.end("i.json::c", worker="gw1", fresh=False)
    seen.start("i.json::b")
    seen.end("i.json::b", worker="gw0", fresh=True)
    found = {row["name"]: row for row in seen.rows()}
    assert lights(seen.rows()) == {"c": "orange", "b": "red", "a": "waiting", "old": "green"}
    assert found["c"]["worker"] == "gw1"
    assert found["c"]["id"] == "i.json::c"
    assert found["b"]["fresh"]
    assert found["b"]["needs"] == ["fit/c"]
    assert seen.counts() == {"orange": 1, "red": 1, "waiting": 1, "fresh": 1, "running": 0}
    assert seen.executed
    for node_id in ("i.json::nobody", "test_own.py::test_x"):  # other tests of the session
        seen.start(node_id)
        seen.end(node_id, worker="main", fresh=False)
    assert len(seen.rows()) == 4


def test_a_run_that_goes_on_shows_its_cell_and_last_line(place: Place) -> None:
    seen = Sweep(place)
    seen.expect([expected("a", scenario={"x": 1})])
    seen.start("i.json::a")
    assert lights(seen.rows()) == {"a": "running"}, "nothing is written yet"
    directory = run(
        place.runs / "fit/a", status="running", kind="build", cells={"total": 5, "done": 2, "current": 2}
    )
    (directory / "fit_execution_output.txt").write_text("one\ntwo\n" + "x" * 1000)
    run(directory / "runs/late", status="running", started="2025-01-01T00:00:09+00:00")
    run(directory / "runs/early", started="2025-01-01T00:00:01+00:00")
    (row,) = seen.rows()
    assert row["cells"] == {"total": 5, "done": 2, "current": 2}
    assert row["output"][:2] == ["one", "two"]
    assert len(row["output"][2]) <= 300
    assert [(nested["name"], nested["light"]) for nested in row["runs"]] == [
        ("early", "green"),
        ("late", "running"),
    ]
    assert row["scenario"] == {"x": 1}
    for damage in ("{", "{}", "[]", '{"flow": 5}'):
        (directory / "run.json").write_text(damage)
        assert lights(seen.rows()) == {"a": "running"}


def test_at_the_end_nothing_runs_and_what_was_stopped_is_red(place: Place) -> None:
    run(place.runs / "fit/before", duration=1)
    seen = Sweep(place, {"id": "now"})
    seen.expect([expected(name) for name in ("a", "before", "again", "never")])
    run(place.runs / "fit/again")
    seen.rows()
    for name in ("a", "before", "again"):
        seen.start(f"i.json::{name}")
    run(place.runs / "fit/a", status="running")
    run(place.runs / "fit/again", status="interrupted")
    found = seen.rows(finished=True)
    assert lights(found) == {"a": "red", "again": "red", "before": "green", "never": "waiting"}
    assert {row["name"] for row in found if row.get("now")} == {"a", "again", "never"}


def test_what_failed_before_it_was_executed_is_red_whatever_is_left_of_it(place: Place) -> None:
    run(place.runs / "fit/old")
    seen = Sweep(place, {"id": "now"})
    seen.expect([expected("old"), expected("new"), expected("skipped")])
    seen.end("i.json::old", worker="main", fresh=False, problem="fixture is broken")
    seen.end("i.json::new", worker="main", fresh=False, problem="fixture is broken")
    seen.end("i.json::skipped", worker="main", fresh=False)
    found = {row["name"]: row for row in seen.rows(finished=True)}
    assert found["old"]["light"] == found["new"]["light"] == "red"
    assert found["old"]["error"]["message"] == found["new"]["error"]["message"] == "fixture is broken"
    assert found["skipped"]["light"] == "waiting"
    assert "no record" in found["skipped"]["because"]
    assert not rows.is_current(found["old"], place.runs), "the next session looks again"
    assert render(seen, finished=True).count('name="ductaflow-records" content=""') == 1


def test_a_rerun_counts_once(place: Place) -> None:
    seen = Sweep(place)
    seen.expect([expected("a")])
    for status in ("error", "success"):
        seen.start("i.json::a")
        assert seen.counts()["running"] == 1
        run(place.runs / "fit/a", status=status)
        seen.end("i.json::a", worker="main", fresh=False)
        assert sum(seen.counts().values()) == 1
    assert lights(seen.rows()) == {"a": "green"}


# --- the time that is left ---


def test_a_rerun_starts_before_anybody_looked(place: Place) -> None:
    seen = Sweep(place)
    seen.expect([expected("a"), expected("b")])
    for name in "ab":
        run(place.runs / f"fit/{name}", status="error")
        seen.start(f"i.json::{name}")
        seen.end(f"i.json::{name}", worker="gw0", fresh=False)
    seen.start("i.json::a")
    assert lights(seen.rows()) == {"a": "running", "b": "red"}
    run(place.runs / "fit/a")
    seen.end("i.json::a", worker="gw0", fresh=False)
    assert lights(seen.rows()) == {"a": "green", "b": "red"}


def test_a_page_shows_what_others_ran_meanwhile(place: Place) -> None:
    for name in ("a", "b", "gone"):
        run(place.runs / f"fit/{name}")
    seen = Sweep(place, {"id": "now", "state": "finished"})
    seen.expect([expected("a")])
    seen.end("i.json::a", worker="main", fresh=False)
    assert lights(seen.rows()) == {"a": "green", "b": "green", "gone": "green"}
    run(place.runs / "fit/a", status="error")
    run(place.runs / "fit/b", status="warning")
    run(place.runs / "fit/new")
    shutil.rmtree(place.runs / "fit/gone")
    render(seen, finished=True)
    assert lights(seen.rows()) == {"a": "red", "b": "orange", "new": "green"}


def test_what_is_skipped_is_no_result_of_this_session(place: Place) -> None:
    run(place.runs / "fit/a")
    seen = Sweep(place, {"id": "now"})
    seen.expect([expected("a"), expected("never")])
    for name in ("a", "never"):
        seen.end(f"i.json::{name}", worker="main", fresh=False, skipped=True)
    assert seen.counts().total() == 0
    found = {row["name"]: row for row in seen.rows(finished=True)}
    assert (found["a"]["light"], found["a"]["now"]) == ("green", False)
    assert (found["never"]["light"], found["never"]["now"]) == ("waiting", False)


def test_nobody_guesses_without_any_duration(place: Place) -> None:
    seen = Sweep(place)
    seen.expect([expected("a")])
    seen.rows()
    assert seen.remaining() is None


def test_the_remaining_time_comes_from_recorded_durations(
    place: Place, clock: Callable[[float], None]
) -> None:
    for name, seconds in {"a": 10, "b": 20, "c": 30}.items():
        run(place.runs / "fit" / name, duration=seconds)
    seen = Sweep(place, {"workers": ["main"]})
    seen.expect([expected(name) for name in "abcd"])
    seen.rows()
    assert seen.remaining() == 10 + 20 + 30 + 20, "the new one takes as long as usual"
    seen.start("i.json::a")
    clock(4)
    assert seen.remaining() == 6 + 20 + 30 + 20
    clock(100)
    assert seen.remaining() == 20 + 30 + 20, "it takes longer than ever: nobody knows how long"
    seen.end("i.json::a", worker="main", fresh=False, took=12)
    assert seen.remaining() == pytest.approx(1.2 * (20 + 30 + 20)), "this machine is slower than the last one"
    for name in "bcd":
        run(place.runs / "fit" / name, duration=1)
        seen.end(f"i.json::{name}", worker="main", fresh=False)
    assert not seen.remaining()


def test_workers_share_the_work_but_not_one_instance(place: Place, clock: Callable[[float], None]) -> None:
    for name in "abcd":
        run(place.runs / "fit" / name, duration=10)
    seen = Sweep(place, {"workers": ["gw0", "gw1"]})
    seen.expect([expected(name) for name in "abcd"])
    seen.rows()
    assert seen.remaining() == 20
    for name in "abc":
        seen.end(f"i.json::{name}", worker="gw0", fresh=True)
    seen.start("i.json::d")
    clock(1)
    assert seen.remaining() == 9


# --- what fits ---


def test_rows_are_shortened_only_as_far_as_needed_the_least_missed_first() -> None:
    nested = {
        "path": "a/n",
        "light": "green",
        "output": ["x" * 200] * 20,
        "timings": [[n, 0.1] for n in range(50)],
    }
    error = {"type": "E", "message": "m", "traceback": "t" * 6000, "frames": [{"source": ["s" * 100]}] * 5}
    row = {
        "path": "a",
        "light": "red",
        "error": error,
        "output": ["y" * 200] * 20,
        "warnings": [{"text": f"w{n}"} for n in range(50)],
        "warned": 50,
        "config": {"long": "z" * 500, "short": 1},
        "runs": [nested, nested],
    }
    before = json.dumps(row)
    assert shortened(row, 100_000) is row
    last = len(as_text(row))
    for room in range(last, 0, -200):
        found = shortened(row, room)
        size = len(as_text(found))
        assert size <= max(room, 600)
        assert found["path"] == "a"
        assert found["error"]["type"] == "E"
        assert found["error"]["message"] == "m"
        assert found["warned"] == 50
        assert len(found["runs"]) == 2
        if size < last and size > 9000:
            assert found["error"] == error, "what explains a failure goes last"
            assert any(part.get("cut") for part in rows.parts_of(found))
    assert shortened(row, 0)["config"] == {"long": "…", "short": 1}
    assert json.dumps(row) == before, "the row itself is as it was"


def test_configs_are_the_inverse_of_their_differences(place: Place) -> None:
    chance = random.Random(5)
    for number in range(60):
        keys = chance.sample("abcdef", chance.randint(0, 6))
        config = {
            key: chance.choice([0, 1, "x", None, [1], {"deep": chance.randint(0, 1)}, False]) for key in keys
        }
        flow = f"flows/{chance.choice('fg')}.py"
        directory = run(place.runs / f"s/{number}", config=config, flow=flow, kind="build", runs=["runs/n"])
        run(directory / "runs/n", config=config if number % 2 else {}, flow="flows/n.py")
    seen = Sweep(place)
    found = [json.loads(text) for text in seen.texts()]
    assert any("without" in row for row in found)
    assert [with_configs(row, seen.configs()) for row in found] == seen.rows()


def test_what_happens_meanwhile_does_not_disturb_who_looks(place: Place) -> None:
    names = [str(number) for number in range(300)]
    seen = Sweep(place, {"id": "now", "workers": ["gw0", "gw1"]})
    seen.expect(expected(name) for name in names)
    problems: list[BaseException] = []

    def work(mine: list[str]) -> None:
        try:
            for name in mine:
                seen.start(f"i.json::{name}")
                run(place.runs / "fit" / name)
                seen.end(f"i.json::{name}", worker="gw0", fresh=False)
        except BaseException as problem:
            problems.append(problem)

    workers = [threading.Thread(target=work, args=(names[start::2],)) for start in (0, 1)]
    for worker in workers:
        worker.start()
    while any(worker.is_alive() for worker in workers):
        counts = seen.counts()
        assert sum(counts[light] for light in ("green", "running", "waiting")) == 300, counts
        json.loads(f"[{','.join(seen.texts())}]")
        seen.remaining()
    for worker in workers:
        worker.join()
    assert problems == []
    assert seen.counts()["green"] == 300
