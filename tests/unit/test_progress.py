"""What the progress line says, and that nobody else's output shows a trace of it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import struct
import termios
import time
from collections.abc import Iterator
from typing import TextIO

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from wcwidth import wcswidth, wcwidth

from pytest_ductaflow.progress import Progress, Snapshot, describe

pyte = pytest.importorskip("pyte")

NOW = Snapshot(
    37, 150, {"green": 30, "orange": 5, "red": 2}, [("JFK_1", 3, 7), ("LGA_1", 1, 7), ("EWR_1", 0, 0)], 125
)


@pytest.mark.parametrize(
    ("width", "line"),
    [
        (
            120,
            "37/150  ● 30 ▲ 5 ✖ 2  running: JFK_1 (cell 3/7), LGA_1 (cell 1/7), EWR_1  about 2 min left",
        ),
        (75, "37/150  ● 30 ▲ 5 ✖ 2  running: JFK_1 (cell 3/7) … 2 more  about 2 min left"),
        (60, "37/150  ● 30 ▲ 5 ✖ 2  3 running  about 2 min left"),
        (40, "37/150  ● 30 ▲ 5 ✖ 2  about 2 min left"),
        (30, "37/150  ● 30 ▲ 5 ✖ 2  about 2…"),
        (5, "37/1…"),
    ],
)
def test_the_line_is_cut_where_it_hurts_least(width: int, line: str) -> None:
    assert describe(NOW, width) == line


def test_what_is_not_known_is_not_said() -> None:
    assert describe(Snapshot(0, 3), 80) == "0/3"
    assert describe(Snapshot(1, 3, {"red": 1}), 80, symbols=False) == "1/3  red 1"
    assert describe(Snapshot(1, 3, {"red": 1}), 80, colours=True) == "1/3  \x1b[31m✖ 1\x1b[0m"
    times = [describe(Snapshot(0, 1, remaining=seconds), 80)[5:] for seconds in (1, 33, 58, 3600, 8000)]
    assert times == [
        "about 3 s left",
        "about 35 s left",
        "about 1 min left",
        "about 1 h 0 min left",
        "about 2 h 13 min left",
    ]


@given(
    st.lists(
        st.tuples(st.text("abc数e\u0301é\x1b\n😀_", max_size=20), st.integers(0, 9), st.integers(0, 9)),
        max_size=12,
    ),
    st.integers(1, 120),
    st.one_of(st.none(), st.floats(0, 1e6)),
)
def test_the_line_is_never_wider_than_it_may_be(
    running: list[tuple[str, int, int]], width: int, remaining: float | None
) -> None:
    line = describe(Snapshot(37, 150, {"green": 30}, running, remaining), width)
    assert 0 < wcswidth(line) <= width
    assert not re.search("[\x00-\x1f]", line)


# --- on a terminal ---

COLUMNS, LINES = 20, 5


@contextlib.contextmanager
def terminal() -> Iterator[tuple[TextIO, int]]:
    """A pseudo-terminal: the file that a program has, and our end."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
    os.set_blocking(master, False)
    with open(slave, "w", encoding="utf-8") as file:
        yield file, master
    os.close(master)


def read(master: int) -> str:
    found = b""
    with contextlib.suppress(BlockingIOError):
        while data := os.read(master, 65536):
            found += data
    return found.decode()


class Screen:
    def __init__(self) -> None:
        self.screen = pyte.HistoryScreen(COLUMNS, LINES, history=1000, ratio=1)
        self.feed = pyte.Stream(self.screen).feed

    @property
    def content(self) -> tuple[list[str], list[str], tuple[int, int]]:
        above = ["".join(line[n].data for n in range(COLUMNS)) for line in self.screen.history.top]
        cursor = self.screen.cursor
        return above, self.lines, (cursor.x, cursor.y + len(above))

    @property
    def lines(self) -> list[str]:
        buffer = self.screen.buffer  # pyte's own display fails where half of a wide character is overwritten
        return ["".join(buffer[row][column].data for column in range(COLUMNS)) for row in range(LINES)]


pieces = st.one_of(
    st.sampled_from(
        [
            "\n",
            "a",
            "word ",
            "\r",
            "数据",
            "\x1b[31mred\x1b[0m",
            "x" * 19,
            "y" * 20,
            "z" * 47,
            "1\n2\n3\n",
            None,
        ]
    )
)


@settings(max_examples=200, deadline=None)
@given(st.lists(pieces, max_size=25))
def test_whatever_is_written_stands_where_it_would_without_the_line(written: list[str | None]) -> None:
    expected, shown = Screen(), Screen()
    with terminal() as (file, master):
        progress = Progress([file], lambda: NOW)
        progress._terminal, progress._owner = os.dup(file.fileno()), os.getpid()
        progress._thread = object()  # type: ignore[assignment]  # drawn here, between any two pieces
        for number, piece in enumerate(written):
            if piece is None:
                progress._draw(Snapshot(number, 99))
                shown.feed(read(master))
                line = [row.rstrip() for row in shown.lines if re.fullmatch(r"\d+/99 *", row)]
                assert len(line) <= 1
                continue
            expected.feed(piece.replace("\n", "\r\n"))
            progress._write(file, file.write, piece)
            shown.feed(read(master))
        progress._erase()
        shown.feed(read(master))
        os.close(progress._terminal)
    above, display, (column, row) = expected.content
    # A terminal takes a wide character that does not fit any more to the next line; pyte halves it.
    assume(not any(wcwidth(line[-1]) == 2 for line in [*above, *display]))
    text = "\n".join([*above, *display]).rstrip("\n ")
    assert "\n".join([*shown.content[0], *shown.content[1]]).rstrip("\n ") == text
    assert shown.content[2] == (column, row)


def test_a_thread_draws_and_at_the_end_all_is_as_it_was() -> None:
    looks: list[Snapshot] = []

    def look() -> Snapshot:
        looks.append(Snapshot(len(looks), 9))
        return looks[-1]

    with terminal() as (file, master):
        progress = Progress([file], look)
        progress.start()
        progress.start()
        file.write("pytest")
        screen = Screen()
        deadline = time.monotonic() + 20
        while len(looks) < 3 and time.monotonic() < deadline:
            time.sleep(0.01)
        screen.feed(read(master))
        assert screen.screen.display[0].rstrip() == "pytest"
        assert re.fullmatch(r"\d/9", screen.screen.display[1].rstrip())
        progress.stop()
        progress.stop()
        assert "write" not in vars(file)
        file.write(" ends\n")
        file.flush()
        screen.feed(read(master))
        assert "".join(screen.screen.display).split() == ["pytest", "ends"]
        progress.start()
        progress.stop()
        assert "write" not in vars(file)


def test_a_look_that_fails_ends_the_line_and_nothing_else() -> None:
    def look() -> Snapshot:
        raise OSError

    with terminal() as (file, master):
        progress = Progress([file], look)
        progress.start()
        assert progress._thread is not None
        progress._thread.join(20)
        file.write("pytest goes on")
        progress.stop()
        file.flush()
        assert read(master) == "pytest goes on"


def test_a_fork_writes_without_the_line() -> None:
    with terminal() as (file, master):
        progress = Progress([file], lambda: NOW)
        progress.start()
        with progress._lock:
            child = os.fork()
            if child == 0:
                file.write("child")
                file.flush()
                os._exit(0)
            os.waitpid(child, 0)
        progress.stop()
        assert "child" in read(master)
