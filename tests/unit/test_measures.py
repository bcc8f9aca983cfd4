import decimal
import enum
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from pytest_ductaflow import context, measures, record_measure
from pytest_ductaflow.errors import ConfigError


class Level(enum.IntEnum):
    HIGH = 3


class Mode(str, enum.Enum):
    FAST = "fast"


@pytest.fixture
def events(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The events file of a run that this process is in."""
    path = tmp_path / "events"
    path.touch()
    names = {"project_root": "/p", "run_directory": "/p/runs/x/y", "flow": "/p/flows/x.py", "session": "s"}
    around = context.Context(**names, engine="fork", python_path=(), output="", events=str(path))
    around.save(tmp_path / "context.json")
    monkeypatch.setenv(context.VARIABLE, str(tmp_path / "context.json"))
    return path


def recorded(events: Path) -> measures.Measures:
    return measures.recorded(context.read_events(events))


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        (12.3, 12.3),
        (7, 7),
        (True, True),
        ("a\nb ä \x1b\ud800", "a\nb ä \x1b\ud800"),
        ("", ""),
        (np.float64(0.1), 0.1),
        (np.float32(0.5), 0.5),
        (np.int64(2**62), 2**62),
        (np.bool_(False), False),
        (np.str_("t"), "t"),
        (np.array(3.0), 3.0),
        (pd.Series([1, 2]).mean(), 1.5),
        (Level.HIGH, 3),
        (Mode.FAST, "fast"),
        (-0.0, -0.0),
        (sys.float_info.max, sys.float_info.max),
    ],
    ids=repr,
)
def test_a_plain_value_and_a_scalar_are_kept_as_json_types(events: Path, value: Any, kept: Any) -> None:
    assert record_measure("m", value, unit="min") is None
    found = recorded(events)["m"]
    assert found == {"value": kept, "unit": "min"}
    assert type(found["value"]) is type(kept)


@pytest.mark.parametrize(
    "value",
    [
        None,
        float("nan"),
        float("inf"),
        -float("inf"),
        np.float64("nan"),
        pd.NA,
        pd.NaT,
        pd.Timestamp("2024-01-01"),
        np.datetime64("2024-01-01"),
        1j,
        np.complex128(1),
        decimal.Decimal("1.5"),
        b"bytes",
        [1],
        (1,),
        {"a": 1},
        {1},
        np.array([3.0]),
        pd.Series([3.0]),
        pd.DataFrame({"a": [1]}),
        np.float64,
        len,
        10**400,
        -(10**5000),
        "x" * 1001,
        object(),
    ],
    ids=lambda value: type(value).__name__,
)
def test_anything_else_is_refused_with_its_name_and_what_it_is(events: Path, value: Any) -> None:
    with pytest.raises(ConfigError, match=r"^record_measure: 'mean delay' is ") as caught:
        record_measure("mean delay", value)
    assert "measure" in str(caught.value).partition(" is ")[2]
    assert len(str(caught.value)) < 250
    assert recorded(events) == {}


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("", "is empty"),
        ("  ", "is empty"),
        ("a\nb", "is not one line of printable characters"),
        ("a\x1b[31m", "is not one line"),
        ("half \ud800", "is not one line"),
        ("x" * 101, "has more than 100 characters"),
        (3, "is int, not a text"),
        (None, "is NoneType, not a text"),
    ],
)
def test_names_and_units_are_one_printable_line(events: Path, name: Any, problem: str) -> None:
    with pytest.raises(ConfigError, match=f"^record_measure: the name .* {problem}"):
        record_measure(name, 1)
    if name is not None:
        with pytest.raises(ConfigError, match=f"^record_measure: the unit .* of 'm' {problem}"):
            record_measure("m", 1, unit=name)
    assert recorded(events) == {}


def test_the_last_value_of_a_name_counts_and_other_events_are_none(events: Path) -> None:
    around = context.current()
    assert around is not None
    record_measure("b", 1)
    around.report("finished")
    record_measure("a", 2, "€/km²")
    record_measure("b", "two", unit="h")
    assert recorded(events) == {"b": {"value": "two", "unit": "h"}, "a": {"value": 2, "unit": "€/km²"}}
    assert list(recorded(events)) == ["b", "a"]


def test_threads_lose_nothing(events: Path) -> None:
    def work(number: int) -> None:
        for index in range(50):
            record_measure(f"{number}.{index}", index)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(recorded(events)) == 400


def test_outside_a_run_it_only_checks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv(context.VARIABLE, raising=False)
    monkeypatch.chdir(tmp_path)
    record_measure("m", 1)
    monkeypatch.setenv(context.VARIABLE, str(tmp_path / "gone"))  # the run ended, a process of it did not
    record_measure("m", 1)
    with pytest.raises(ConfigError):
        record_measure("m", None)
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr() == ("", "")


def test_nothing_heavy_is_imported(events: Path) -> None:
    code = (
        "import sys; from pytest_ductaflow import record_measure; record_measure('m', 1)\n"
        "print({'numpy', 'pandas', 'IPython', 'pytest', 'papermill'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
    assert recorded(events) == {"m": {"value": 1, "unit": None}}


# --- a build's -----------------------------------------------------------------------------------


def of(**values: Any) -> measures.Measures:
    return {name: {"value": value, "unit": None} for name, value in values.items()}


def test_a_build_has_its_own_measures_and_those_of_its_runs() -> None:
    nested = [
        (("a", "runs/a"), of(rows=1, only_a=1, own=1)),
        (("b", "runs/b"), of(rows=2, only_b=2)),
        (("c", "runs/c"), {}),
    ]
    found = measures.with_nested(of(own=0), nested)
    assert found == of(**{"own": 0, "a.rows": 1, "b.rows": 2, "only_a": 1, "only_b": 2})


def test_what_own_and_several_nested_runs_recorded_is_told_apart() -> None:
    nested = [(("a",), of(rows=1)), (("b",), of(rows=2, **{"a.rows": 9}))]
    assert measures.with_nested(of(rows=0), nested) == of(**{"rows": 0, "a.rows": 1, "b.rows": 2})
    same_name = [(("x", "runs/1/x", "runs/1/x/f"), of(n=1)), (("x", "runs/2/x", "runs/2/x/f"), of(n=2))]
    assert measures.with_nested({}, same_name) == of(**{"runs/1/x.n": 1, "runs/2/x.n": 2})
    same_directory = [(("x", "runs/x", "runs/x/f"), of(n=1)), (("x", "runs/x", "runs/x/g"), of(n=2))]
    assert measures.with_nested({}, same_directory) == of(**{"runs/x/f.n": 1, "runs/x/g.n": 2})
