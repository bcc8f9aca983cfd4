"""How large a status page gets: what it shows is cut so that its size is bounded, whatever runs print."""

import json
import random
import string
from pathlib import Path
from typing import Any

import pytest

from pytest_ductaflow.report.page import render
from pytest_ductaflow.report.rows import Place
from pytest_ductaflow.report.sweep import Sweep
from tests.unit.test_report_sweep import run


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path, tmp_path / "runs")


_POOL = "".join(random.Random(1).choices(string.ascii_letters + ' <>&"', k=1_000_000))


def _text(chance: random.Random, size: int) -> str:
    start = chance.randrange(len(_POOL) - size)
    return _POOL[start : start + size]


def _large_run(directory: Path, chance: random.Random, *, nested: int, red: float, text: int) -> None:
    """A run with about everything a run can have, all texts different."""
    status = "error" if chance.random() < red else "warning"
    place = {"file": "flows/fit.py", "line": 3, "function": "f"}
    values: dict[str, Any] = {
        "status": status,
        "duration": chance.random(),
        "scenario": {"origin": chance.choice("abc"), "month": chance.randint(1, 12)},
        "config": {f"key{n}": _text(chance, 20) for n in range(8)} | {"long": _text(chance, text)},
        "warnings": [
            {"line": n, "cell": 0, "text": "Warning: " + _text(chance, 100)} for n in range(text // 50)
        ],
        "timings": [{"line": n, "seconds": 0.1} for n in range(20)],
        "measures": {"delay": {"value": chance.random(), "unit": "min"}},
        "runs": [f"runs/{n}" for n in range(nested)],
        "kind": "build" if nested else "flow",
    }
    if status == "error":
        message, trace = _text(chance, text), _text(chance, 10 * text)
        values["error"] = {
            "type": "ValueError",
            "message": message,
            "traceback": trace,
            "frames": [place] * 5,
            **place,
        }
    run(directory, ended="2100-01-01T00:00:00+00:00", **values)
    (directory / "fit_execution_output.txt").write_text("\n".join(_text(chance, text) for _ in range(20)))
    for number in range(nested):
        _large_run(directory / f"runs/{number}", chance, nested=0, red=red, text=text)


@pytest.mark.parametrize("red", [0.08, 1])
def test_a_page_of_a_hundred_builds_is_at_most_a_megabyte(place: Place, red: float) -> None:
    (place.root / "flows").mkdir()
    (place.root / "flows/fit.py").write_text("# %%\n" + ("x = 1  # " + "long " * 100 + "\n") * 10)
    chance = random.Random(1)
    for number in range(100):
        _large_run(place.runs / f"s/{number}", chance, nested=4, red=red, text=2000)
    text = render(Sweep(place), finished=True)
    assert len(text.encode()) <= 1_000_000
    data = json.loads(text.split('id="data">')[1].split("</script>")[0])
    assert len(data["rows"]) == 100
    assert all(len(row["runs"]) == 4 for row in data["rows"])
    assert all(row["error"]["message"] for row in data["rows"] if row["light"] == "red")


@pytest.mark.parametrize(("count", "red"), [(10_000, 0.08), (3_000, 1)])
def test_a_page_of_ten_thousand_is_at_most_ten_megabytes(place: Place, count: int, red: float) -> None:
    chance = random.Random(1)
    for number in range(count):
        _large_run(place.runs / f"s/{number}", chance, nested=0, red=red, text=500)
    text = render(Sweep(place), finished=True)
    assert len(text.encode()) <= 10_000_000
    data = json.loads(text.split('id="data">')[1].split("</script>")[0])
    assert len(data["rows"]) == count


def test_one_enormous_run_is_no_enormous_page(place: Place) -> None:
    (place.root / "flows").mkdir()
    (place.root / "flows/fit.py").write_text("# %%\nraise ValueError('" + "x" * 3_000_000 + "')\n")
    error = {"type": "T" * 100_000, "message": "m" * 3_000_000, "traceback": "t" * 3_000_000}
    error |= {
        "file": "flows/fit.py",
        "line": 2,
        "frames": [{"file": "flows/fit.py", "line": 2, "function": "f"}] * 1000,
    }
    run(
        place.runs / "s/a",
        status="error",
        ended="2100-01-01T00:00:00+00:00",
        error=error,
        config={"data": list(range(300_000)), **{f"key{n}": n for n in range(1000)}},
        scenario={"x": "s" * 100_000},
        measures={"text": {"value": "v" * 100_000, "unit": ""}},
        warnings=[{"line": 1, "cell": 0, "text": "Warning: " + "w" * 3_000_000}] * 3,
    )
    (place.runs / "s/a/fit_execution_output.txt").write_text("o" * 3_000_000)
    assert len(render(Sweep(place), finished=True).encode()) <= 1_000_000
