"""What a session says at its end."""

from __future__ import annotations

import html
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_ductaflow.report.clusters import Cluster
from pytest_ductaflow.report.summary import (
    Outcome,
    Summary,
    cluster_lines,
    duration,
    markdown,
    slowest_line,
    warning_lines,
)


def cluster(count: int = 5, message: str = "negative flow: N", common: tuple[str, ...] = ()) -> Cluster:
    paths = [f"assign/JFK_{number}" for number in range(count)]
    return Cluster(
        "flows/a.py:88", "ValueError", message, "negative flow: -3", count, 150, paths, list(common)
    )


def test_a_cluster_is_at_most_three_lines() -> None:
    assert cluster_lines(
        cluster(common=("all have toll = high", "all have year = 2030")), {"re-run": "pytest x"}
    ) == [
        "5 of 150: flows/a.py:88 ValueError: negative flow: N",
        "  all have toll = high; all have year = 2030",
        "  JFK_0, JFK_1, JFK_2 … and 2 more; re-run: pytest x",
    ]
    assert cluster_lines(cluster(2, "first\nsecond")) == [
        "2 of 150: flows/a.py:88 ValueError: first …",
        "  JFK_0, JFK_1",
    ]


def test_of_warnings_the_biggest_clusters_are_shown() -> None:
    lines = list(warning_lines([cluster(1)] * 22))
    assert len(lines) == 41
    assert lines[-1] == "… and 2 more (--ductaflow-tracebacks=all: each)"
    assert list(warning_lines([])) == []


def test_what_took_longest_is_named_unless_there_is_only_one() -> None:
    found = [Outcome(f"a.json::x{n}", f"a/x{n}", "green", seconds=n * 40.0) for n in range(5)]
    assert slowest_line(Summary("p", found)) == "slowest: x4 2 min 40 s, x3 2 min 0 s, x2 1 min 20 s"
    found[4].fresh = True
    assert slowest_line(Summary("p", found[3:])) == ""
    assert [duration(seconds) for seconds in (0.031, 12.34, 3700)] == ["0.03 s", "12.3 s", "1 h 1 min"]


@pytest.mark.parametrize("hostile", ["\x1b[2J\x1b]0;x\x07", "a\rb", "\x9b1A", "\u202eevil", "\ud800"])
def test_no_text_moves_the_cursor(hostile: str) -> None:
    lines = cluster_lines(cluster(2, hostile, (hostile,)), {"open": hostile})
    assert not re.search("[\x00-\x1f\x7f-\x9f\u202a-\u202e]", "".join(lines))
    "".join(lines).encode()


def cells(text: str) -> list[list[str]]:
    """The cells of a Markdown text's tables, as they are shown."""
    rows = [re.split(r"(?<!\\)\|", line)[1:-1] for line in text.splitlines() if line.startswith("|")]
    return [
        [re.sub(r"\\([!-/:-@[-`{-~])", r"\1", html.unescape(cell.strip())) for cell in row] for row in rows
    ]


def test_markdown_has_counts_clusters_and_failed_instances() -> None:
    found = [
        Outcome("i.json::JFK_1", "a/JFK_1", "red", seconds=2, failed=True),
        Outcome("i.json::LGA_1", "a/LGA_1", "orange", seconds=3),
        Outcome("i.json::EWR_1", "a/EWR_1", "green", fresh=True),
        Outcome("i.json::dead", "", "red", failed=True),
    ]
    errors = {"a/JFK_1": "flows/a.py:88: ValueError: negative flow: -3"}
    text = markdown(
        Summary("demo", found, [cluster(common=("all have x = 1",))], [cluster()], errors, "runs/p.html")
    )
    first, _, facts, *_ = text.splitlines()
    assert first == "### demo: ● 1 green ▲ 1 orange ✖ 2 red"
    assert (
        facts
        == "4 instances · 1 up to date · slowest: LGA\\_1 3.0 s, JFK\\_1 2.0 s · status page: runs/p.html"
    )
    shown = cells(text)
    assert ["5 of 150", "flows/a.py:88", "ValueError: negative flow: N", "all have x = 1"] in shown
    assert ["i.json::JFK_1", "flows/a.py:88: ValueError: negative flow: -3"] in shown
    assert ["i.json::dead", "see the log"] in shown
    assert [row[0] for row in shown].count("failed instance") == 1


@given(st.text(max_size=80))
def test_nothing_in_a_cell_is_markdown_or_html(text: str) -> None:
    found = [Outcome("i.json::x", "a/x", "red", failed=True)]
    written = markdown(Summary(text, found, errors={"a/x": text}))
    assert len(written.encode().decode().splitlines()) == 7
    row = next(line for line in written.splitlines() if line.startswith("| i.json"))
    bare = re.sub(r"\\.", "", row[1:-1].replace("|", "", 1))
    assert not re.search(r"[*_`\[\]<>|~#$!]|&(?!amp;|lt;|gt;)|://", bare)


def test_a_long_markdown_summary_is_cut() -> None:
    found = [Outcome(f"i.json::{'x' * 90}{n}", f"a/x{n}", "red", failed=True) for n in range(10_000)]
    errors = {one.path: "<é>" * 1000 for one in found}
    text = markdown(Summary("p", found, [cluster(message="&" * 5000)] * 5000, [], errors))
    assert len(text.encode()) < 310_000
    assert re.search(r"… and \d,\d{3} more failures", text)
    assert re.search(r"… and \d,\d{3} more failed instances", text)
