"""Which failures are of one cause, and what is said of their scenarios."""

from __future__ import annotations

import itertools
import string
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_ductaflow.record import Record, write_record
from pytest_ductaflow.report.clusters import Cluster, Occurrence, clusters, of_records


def failure(path: str, message: str, cell: int | None = 3, kind: str = "ValueError") -> Occurrence:
    return Occurrence(path, "flows/assign.py", cell, "flows/assign.py:88", kind, message)


def messages(*texts: str) -> list[str]:
    """The messages of the clusters that these messages make."""
    found = [failure(f"a/{number}", text) for number, text in enumerate(texts)]
    return [one.message for one in clusters(found, {one.path: {} for one in found})]


# --- messages ---


@pytest.mark.parametrize(
    ("first", "second", "shown"),
    [
        ("negative flow: -3", "negative flow: 4.5e-7", "negative flow: -3 … 4.5e-7"),
        ("1,234 rows", "12 rows", "12 … 1,234 rows"),
        ("off by −5", "off by 0.5", "off by −5 … 0.5"),
        ("no column 'dep_delay' in 7 rows", "no column 'arr_delay' in 7 rows", "no column '…' in 7 rows"),
        ('no origin "JFK"', 'no origin "LGA"', 'no origin "…"'),
        ("'O\\'Hare' failed", '"x" failed', "'…' failed"),
        ("KeyError: 'it isn't'", "KeyError: 'is'", "KeyError: '…'"),
        ("[1, 2, 3] not in index", "[4] not in index", "[N, …] not in index"),
        ("['a', 'b'] not in index", "['c'] not in index", "['…', …] not in index"),
        ("no file /data/2013/jfk.csv", "no file /data/2014/lga.csv", "no file PATH"),
        ("no file runs/prepare/JFK/f.csv", "no file runs/prepare/LGA/f.csv", "no file PATH"),
        (r"no file C:\data\a", r"no file D:\b", "no file PATH"),
        ("cannot read jfk.csv", "cannot read lga.csv", "cannot read PATH"),
        (
            "needs instances/a.json::x, which failed",
            "needs instances/b.json::y-1, which failed",
            "needs PATH, which failed",
        ),
        ("at 2013-01-31 12:00:05", "at 2013-02-28T00:00:00Z", "at DATE"),
        ("object at 0x7f3a", "object at 0xbeef", "object at HEX"),
        (
            "run 123e4567-e89b-12d3-a456-426614174000",
            "run 00000000-e89b-12d3-a456-426614174000",
            "run UUID",
        ),
        ("commit 1234567", "commit deadbeef1", "commit …"),
        ("JFK_1 failed\nat 3", "JFK_7 failed\nat 4", "JFK_N failed\nat 3 … 4"),
        ("took 3.5s of 4s", "took 4s of 4s", "took 3.5 … 4s of 4s"),
    ],
)
def test_messages_that_differ_in_values_are_one(first: str, second: str, shown: str) -> None:
    assert messages(first, second) == [shown]
    assert messages(second, second) == [second]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("int32 overflow", "int64 overflow"),
        ("value is nan", "value is 3"),
        ("expected rows", "expected columns"),
        ("in km/h", "in m/s"),
        ("pandas.DataFrame", "pandas.Series"),
        ("don't stop", "don't go; can't stop"),
        ("x", ""),
        ("3 rows", "3 'rows'"),
    ],
)
def test_messages_that_differ_in_words_are_two(first: str, second: str) -> None:
    assert sorted(messages(first, second)) == sorted([first, second])


def test_flow_cell_and_type_tell_clusters_apart_and_lines_do_not() -> None:
    base = failure("a/1", "x")
    found = [
        base,
        failure("a/2", "x", cell=4),
        failure("a/3", "x", cell=None),
        failure("a/4", "x", kind="KeyError"),
        Occurrence("a/5", "flows/other.py", 3, "flows/other.py:88", "ValueError", "x"),
        Occurrence("a/6", "flows/assign.py", 3, "flows/assign.py:90", "ValueError", "x"),
    ]
    grouped = clusters(found, {one.path: {} for one in found})
    assert [one.paths for one in grouped] == [["a/1", "a/6"], ["a/2"], ["a/3"], ["a/4"], ["a/5"]]


def test_a_cluster_counts_instances_and_the_biggest_is_first() -> None:
    found = [
        failure("a/1", "rare"),
        failure("a/2", "row 1"),
        failure("a/2", "row 2"),
        failure("a/3", "row 1"),
    ]
    first, second = clusters(found, {f"a/{number}": {} for number in range(10)})
    assert first == Cluster(
        "flows/assign.py:88", "ValueError", "row 1 … 2", "row 1", 2, 10, ["a/2", "a/3"], []
    )
    assert first.title == "2 of 10: flows/assign.py:88 ValueError: row 1 … 2"
    assert (second.message, second.count) == ("rare", 1)
    assert clusters([], {}) == []


words = st.lists(st.sampled_from(["flow", "of", "'", "no", "at", "(", ")", "-", "=", ":"]), max_size=6)
values = st.one_of(
    st.integers().map(str),
    st.floats(allow_nan=False, allow_infinity=False).map(str),
    st.integers(0, 2**32).map(hex),
    st.uuids().map(str),
)


@given(words, st.lists(values, min_size=1, max_size=3), st.data())
def test_replacing_numbers_never_makes_another_cluster(
    fixed: list[str], first: list[str], data: st.DataObject
) -> None:
    second = data.draw(st.lists(values, min_size=len(first), max_size=len(first)))
    texts = [" ".join([*fixed, "x", *" x ".join(chosen).split(" ")]) for chosen in (first, second)]
    assert len(messages(*texts)) == 1


@given(st.lists(st.text(max_size=60), min_size=1, max_size=8))
def test_clusters_divide_what_there_is(texts: list[str]) -> None:
    found = [failure(f"a/{number}", text) for number, text in enumerate(texts)]
    grouped = clusters(found, {one.path: {} for one in found})
    assert sorted(path for one in grouped for path in one.paths) == sorted(one.path for one in found)
    for one in grouped:
        members = {texts[int(path[2:])].strip() for path in one.paths}
        assert (len(members) == 1) <= (one.message in members)
        assert one.example.strip() in members
    again = messages(*(text.translate(str.maketrans(string.digits, "7" * 10)) for text in texts))
    assert len(again) <= len(grouped) or len(set(texts)) < len(texts)


# --- scenarios ---


def grid(**dimensions: list[Any]) -> dict[str, dict[str, Any]]:
    product = itertools.product(*dimensions.values())
    return {f"a/{'_'.join(map(str, row))}": dict(zip(dimensions, row, strict=True)) for row in product}


def common(scenarios: dict[str, dict[str, Any]], *fails: Any) -> list[str]:
    """What is said if the scenarios for which this holds fail."""
    paths = [path for path, scenario in scenarios.items() if all(holds(scenario) for holds in fails)]
    (found,) = clusters([failure(path, "x") for path in paths], scenarios)
    return found.common


TOLLS = grid(toll=["low", "mid", "high"], year=[2020, 2025, 2030, 2035], origin=["JFK", "LGA"])


def test_a_value_that_only_the_cluster_has() -> None:
    assert common(TOLLS, lambda row: row["toll"] == "high") == ["all have toll = high, and no other"]


def test_values_that_only_the_cluster_has() -> None:
    assert common(TOLLS, lambda row: row["year"] >= 2030) == ["all have year in 2030, 2035"]


def test_a_value_that_others_have_too() -> None:
    said = common(TOLLS, lambda row: row["toll"] == "high" and (row["year"], row["origin"]) != (2020, "JFK"))
    assert said == ["all have toll = high"]


def test_values_that_only_together_set_the_cluster_apart() -> None:
    said = common(TOLLS, lambda row: row["toll"] == "high" and row["origin"] == "LGA")
    assert said == ["all have toll = high and origin = LGA, and no other"]
    numbered = {path: {**row, "seed": path} for path, row in TOLLS.items()}
    said = common(numbered, lambda row: row["toll"] == "high" and row["origin"] == "LGA")
    assert said == ["all have toll = high and origin = LGA, and no other"]
    said = common(TOLLS, lambda row: row["toll"] == "high" and row["year"] >= 2030)
    assert said == ["all have toll = high and year in 2030, 2035, and no other"]


def test_the_most_telling_is_first_and_no_more_than_three_are_said() -> None:
    scenarios = {
        f"a/{n}": {"g": n < 25, "b": n < 20, "c": n < 11, "d": n < 12, "e": n < 13, "same": 1}
        for n in range(30)
    }
    failed = [f"a/{n}" for n in range(10)]
    (found,) = clusters([failure(path, "x") for path in failed], scenarios)
    assert found.common == ["all have c = true", "all have d = true", "all have e = true"]


def test_many_numbers_are_a_range_if_they_are_one() -> None:
    scenarios = grid(n=list(range(20)), kind=["a", "b"])
    assert common(scenarios, lambda row: row["n"] >= 10) == ["all have n from 10 to 19"]
    assert common(scenarios, lambda row: row["n"] % 2) == []


def test_nothing_is_said_where_nothing_distinguishes() -> None:
    assert common(TOLLS) == []  # all fail
    assert common({"a/1": {"toll": "high"}}) == []
    assert (
        common(
            grid(toll=["low", "high"], year=[1, 2, 3]),
            lambda row: (row["toll"] == "low") != (row["year"] == 2),
        )
        == []
    )
    assert common({"a/1": {}, "a/2": {}}) == []


def test_what_each_member_has_alone_is_said_only_if_there_is_nothing_else() -> None:
    scenarios = {f"a/{n}": {"seed": n, "toll": "high" if n < 3 else "low"} for n in range(9)}
    assert common(scenarios, lambda row: row["seed"] < 3) == ["all have toll = high, and no other"]
    years = grid(year=[2020, 2025, 2030, 2035])
    assert common(years, lambda row: row["year"] >= 2030) == ["all have year in 2030, 2035"]


def test_of_one_instance_only_what_it_has_alone() -> None:
    scenarios = {f"a/{n}": {"seed": n, "toll": "high" if n == 3 else "low"} for n in range(9)}
    assert common(scenarios, lambda row: row["seed"] == 3) == ["has toll = high, and no other"]
    assert common(scenarios, lambda row: row["seed"] == 4) == []


def test_other_dimensions_missing_ones_and_secrets() -> None:
    scenarios = grid(toll=["low", "high"], token=["s3cr3t-1", "s3cr3t-2"])
    scenarios |= {"b/1": {"month": 1}, "b/2": {"month": 2}, "c/1": {}}
    said = common(scenarios, lambda row: row.get("toll") == "high")
    assert said == ["all have toll = high, and no other"]
    assert common(scenarios, lambda row: "month" in row) == []
    assert "s3cr3t" not in str(common(scenarios, lambda row: row.get("token") == "s3cr3t-1"))


def test_values_of_any_json_type_and_length() -> None:
    scenarios = {
        f"a/{n}": {"x": value} for n, value in enumerate([1, True, "1", None, [1, 2], {"a": 1}, "y" * 99])
    }
    for path, value in zip(
        scenarios, ["1", "true", "1", "null", "[1,2]", '{"a":1}', "y" * 39 + "…"], strict=True
    ):
        found = [failure(path, "x"), failure("a/extra", "x")]
        extended = {**scenarios, "a/extra": scenarios[path]}
        assert clusters(found, extended)[0].common == [f"all have x = {value}, and no other"]


@given(
    st.lists(
        st.fixed_dictionaries({"a": st.integers(0, 2), "b": st.sampled_from("xyz"), "c": st.booleans()}),
        min_size=2,
        max_size=12,
    ),
    st.data(),
)
def test_what_is_said_is_true(rows: list[dict[str, Any]], data: st.DataObject) -> None:
    scenarios = {f"a/{number}": row for number, row in enumerate(rows)}
    failed = data.draw(st.sets(st.sampled_from(sorted(scenarios)), min_size=1))
    (found,) = clusters([failure(path, "x") for path in sorted(failed)], scenarios)
    assert len(found.common) <= 3
    for sentence in found.common:
        said, _, only = sentence.removeprefix("all have ").removeprefix("has ").partition(", and no ")
        meeting = set(scenarios)
        for condition in said.split(" and "):
            name, _, texts = condition.replace(" in ", " = ").partition(" = ")
            shown = {path: str(row[name]).lower() for path, row in scenarios.items()}
            meeting &= {path for path in scenarios if shown[path] in texts.split(", ")}
        assert failed <= meeting
        if only or " in " in sentence:
            assert failed == meeting
        else:
            assert meeting < set(scenarios)


@pytest.mark.parametrize("causes", [1, 3, 3000, 10_000])
def test_ten_thousand_failures(causes: int) -> None:
    scenarios = {f"a/{n}": {"seed": n, "toll": n % 3, "year": n % 50} for n in range(10_000)}
    found = [
        failure(path, f"negative flow {number} of 'JFK' in /data/{number}/f.csv", cell=number % causes)
        for number, path in enumerate(scenarios)
    ]
    assert len(clusters(found, scenarios)) == causes


# --- records ---


def test_records_with_their_nested_runs_become_occurrences(tmp_path: Path) -> None:
    runs = tmp_path / "runs"

    def record(where: str, **keys: Any) -> Record:
        made = Record(
            **{"kind": "flow", "flow": "flows/fit.py", "instance": "x", "status": "success", "started": ""}
            | keys
        )
        (runs / where).mkdir(parents=True)
        write_record(runs / where, made)
        return made

    error = {"type": "ValueError", "message": "bad", "cell": 2, "file": "helper.py", "line": 7}
    nested = str(runs / "all/JFK/runs/fit")
    top = {
        "all/JFK": record(
            "all/JFK",
            kind="build",
            flow="builds/all.py",
            status="error",
            error={**error, "run": nested, "via": [{"file": "builds/all.py", "line": 3}]},
            runs=["runs/fit"],
            warnings=[{"line": 1, "cell": None, "text": "Warning: own"}],
        ),
        "all/LGA": record(
            "all/LGA", kind="build", flow="builds/all.py", status="warning", runs=["runs/fit", "runs/gone"]
        ),
        "fit/x": record("fit/x", status="error", error={"type": "NotRun", "message": "needs a"}),
        "fit/ok": record("fit/ok"),
    }
    record("all/JFK/runs/fit", status="error", error=error, warnings=[{"line": 1, "cell": 4, "text": "⚠️ 3"}])
    record("all/LGA/runs/fit", status="error", error=error)
    failures, warned = of_records(top, runs, tmp_path)
    assert failures == [
        Occurrence("all/JFK", "flows/fit.py", 2, "helper.py:7", "ValueError", "bad"),
        Occurrence("fit/x", "flows/fit.py", None, "flows/fit.py", "NotRun", "needs a"),
    ]
    assert warned[:3] == [
        Occurrence("all/JFK", "builds/all.py", None, "builds/all.py", "", "Warning: own"),
        Occurrence("all/JFK", "flows/fit.py", 4, "flows/fit.py", "", "⚠️ 3"),
        Occurrence("all/LGA", "flows/fit.py", 2, "helper.py:7", "ValueError", "bad"),
    ]
    assert (warned[3].path, warned[3].type) == ("all/LGA", "RecordError")
