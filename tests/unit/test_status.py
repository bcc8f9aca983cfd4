import itertools
import re
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_ductaflow.status import Status, WarningLine, WarningScanner, decode, is_warning, worst

SIGN = "⚠️"


def scan(*pieces: bytes) -> list[WarningLine]:
    scanner = WarningScanner()
    found = [line for piece in pieces for line in scanner.feed(piece)]
    return found + scanner.close()


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(f"{SIGN} Warning: data issue", id="README sign"),
        pytest.param("Warning: missing file", id="README title case"),
        pytest.param("WARNING: deprecated", id="README upper case"),
        pytest.param("warning: low memory", id="README lower case"),
        pytest.param("wArNiNg: mixed", id="mixed case"),
        pytest.param("Warning:", id="nothing behind it"),
        pytest.param(f"   {SIGN} indented", id="indented"),
        pytest.param("UserWarning: from warnings.warn", id="inside a word"),
        pytest.param("1234567warning:", id="ends at character 15"),
        pytest.param("1234567890123" + SIGN, id="sign ends at character 15"),
        pytest.param("äöüßéèê" + "Warning: x", id="characters, not bytes"),
        pytest.param("\x1b[33mWarning: coloured\x1b[0m", id="colour codes before"),
        pytest.param("\x1b[1;38;5;208mWarn\x1b[0ming: x", id="colour codes within"),
    ],
)
def test_a_line_is_orange(line: str) -> None:
    assert is_warning(line)


@pytest.mark.parametrize(
    "line",
    [
        pytest.param("", id="empty"),
        pytest.param("Processing data with warning messages inside", id="README position 20"),
        pytest.param("warning_analysis.csv", id="README no colon"),
        pytest.param("a warning without colon", id="word only"),
        pytest.param("warning : space before the colon", id="space before colon"),
        pytest.param("12345678warning:", id="ends at character 16"),
        pytest.param("12345678901234" + SIGN, id="sign ends at character 16"),
        pytest.param("\x1b[31m12345678\x1b[0mwarning:", id="colour codes do not shift the limit"),
        pytest.param("\N{WARNING SIGN} text style", id="sign without emoji presentation"),
        pytest.param("Error: something", id="error lines never colour"),
        pytest.param("❌ Failed", id="failed lines never colour"),
    ],
)
def test_a_line_is_not_orange(line: str) -> None:
    assert not is_warning(line)


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        pytest.param(b"", [], id="nothing"),
        pytest.param(b"ok\nWarning: a\n", [(2, 3, "Warning: a")], id="second line"),
        pytest.param(b"Warning: a\nWarning: b\n", [(1, 0, "Warning: a"), (2, 11, "Warning: b")], id="two"),
        pytest.param(b"10%\r50%\rWarning: b\r100%\n", [(1, 8, "Warning: b")], id="behind a progress bar"),
        pytest.param(b"10%\r\nWarning: c\r\nok", [(2, 5, "Warning: c")], id="Windows line ends"),
        pytest.param(b"a\r\r\nWarning: d\n", [(2, 4, "Warning: d")], id="carriage return before a line end"),
        pytest.param(b"\n\n\nWarning: e", [(4, 3, "Warning: e")], id="no line end at the end"),
        pytest.param(b"a\x0bWarning: f\n", [(1, 0, "a\x0bWarning: f")], id="vertical tab ends no line"),
        pytest.param("a\u2028b\nWarning: g\n".encode(), [(2, 6, "Warning: g")], id="U+2028 ends no line"),
        pytest.param(b"\x1b[33m  Warning: h \x1b[0m\n", [(1, 0, "Warning: h")], id="text without colours"),
        pytest.param(
            b"Warn\x1b[0ming: i\n",
            [(1, 0, "Warning: i")],
            id="colours within the word",
        ),
        pytest.param(b"Warning: \xff\n", [(1, 0, "Warning: \\xff")], id="not UTF-8"),
        pytest.param(b"12345678warning:\n", [], id="too far right"),
    ],
)
def test_the_scanner_gives_line_offset_and_text(output: bytes, expected: list[tuple[int, int, str]]) -> None:
    assert scan(output) == expected


def test_a_line_is_found_when_its_end_arrives() -> None:
    scanner = WarningScanner()
    assert scanner.feed(b"Warn") == []
    assert scanner.feed(b"ing: x") == []
    assert scanner.feed(b"\n") == [(1, 0, "Warning: x")]
    assert scanner.close() == []


def test_an_empty_piece_between_the_halves_of_a_windows_line_end_changes_nothing() -> None:
    assert scan(b"a\r", b"", b"\nWarning: x\n") == [(2, 3, "Warning: x")]


def test_closing_gives_the_last_line_once() -> None:
    scanner = WarningScanner()
    scanner.feed(b"Warning: x")
    assert scanner.close() == [(1, 0, "Warning: x")]
    assert scanner.close() == []


def test_a_huge_line_is_cut_and_takes_no_memory() -> None:
    scanner = WarningScanner()
    block = b"x" * (1 << 20)
    tracemalloc.start()
    try:
        scanner.feed(b"Warning: ")
        for _ in range(64):
            scanner.feed(block)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    (found,) = scanner.feed(b"\n")
    assert found == (1, 0, "Warning: " + "x" * 491)
    assert peak < 8 << 20


def test_after_a_huge_line_offsets_go_on_right() -> None:
    assert scan(b"x" * 100_000 + b"\nWarning: y\n") == [(2, 100_001, "Warning: y")]


PIECES = st.lists(
    st.sampled_from(
        [
            b"\r",
            b"\n",
            b"\r\n",
            b"Warning: x",
            "⚠️ y".encode(),
            b"Warn\x1b[31ming: z",
            b"1234567",
            b"\x1b[31m",
            b"\xff",
            b" ",
            b"warning:",
        ]
    ),
    max_size=20,
).map(b"".join)


@given(PIECES, st.data())
def test_output_in_any_pieces_gives_what_it_gives_at_once(output: bytes, data: st.DataObject) -> None:
    cuts = data.draw(st.lists(st.integers(0, len(output)), max_size=8).map(sorted))
    ends = [0, *cuts, len(output)]
    assert scan(*(output[a:b] for a, b in itertools.pairwise(ends))) == scan(output)


@given(PIECES)
def test_the_scanner_agrees_with_looking_at_each_line_alone(output: bytes) -> None:
    expected = []
    for match in re.finditer(rb"[^\r\n]+", output):
        line = decode(match.group())
        if is_warning(line):
            text = re.sub(r"\x1b\[31m", "", line).strip()
            expected.append((output.count(b"\n", 0, match.start()) + 1, match.start(), text))
    assert scan(output) == expected


@pytest.mark.parametrize(
    ("status", "light", "red"),
    [
        ("success", "green", False),
        ("warning", "orange", False),
        ("error", "red", True),
        ("running", "running", False),
        ("interrupted", "red", True),
    ],
)
def test_each_status_has_its_light(status: str, light: str, red: bool) -> None:
    assert Status(status).light == light
    assert Status(status).is_red is red


@pytest.mark.parametrize(
    ("statuses", "expected"),
    [
        pytest.param([], "success", id="none"),
        pytest.param(["success", "warning"], "warning", id="orange over green"),
        pytest.param(["error", "warning", "success"], "error", id="red over orange"),
        pytest.param(["interrupted", "running"], "interrupted", id="died over running"),
        pytest.param(["running", "warning"], "running", id="running over orange"),
        pytest.param(["error", "interrupted"], "error", id="failed over died"),
    ],
)
def test_the_worst_status_stands_for_all(statuses: list[str], expected: str) -> None:
    assert worst([Status(status) for status in statuses]) == expected


def test_bytes_that_are_no_text_stay_visible() -> None:
    assert decode(b"caf\xe9 \xed\xa0\x80 \xf0\x9f\x8e\x89") == "caf\\xe9 \\xed\\xa0\\x80 🎉"
