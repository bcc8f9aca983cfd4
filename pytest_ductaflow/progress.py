"""A line below pytest's own output that says how far a session is, on a terminal.

A thread draws it under the cursor and puts the cursor back; whatever is written to the terminal's files
erases it first. So what pytest prints, and where, is the same as without it. Only sequences are used that
do not depend on where the cursor is: ESC D and ESC M move down (scrolling at the bottom) and up within a
column, ESC 7 and ESC 8 keep and restore the cursor, CSI J erases from the cursor on.
"""

from __future__ import annotations

import contextlib
import functools
import os
import queue
import re
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TextIO

import pytest

#: Seconds between two looks, at least; how many times as long as a look takes; after something was written.
_INTERVAL: Final = 0.25
_SHARE: Final = 20
_PAUSE: Final = 0.05
#: Instances that are named as running.
_NAMED: Final = 8

_BELOW: Final = "\x1bD\x1bM\x1b7\x1bD\r"  # to the start of the next line, which there is then
_BACK: Final = "\x1b8"
_ERASE: Final = "\x1b[J"
_NO_WRAP, _WRAP = "\x1b[?7l", "\x1b[0m\x1b[?7h"
_COLOURS: Final = {"green": "\x1b[32m", "orange": "\x1b[33m", "red": "\x1b[31m"}
_SYMBOLS: Final = {"green": "●", "orange": "▲", "red": "✖"}
_SEQUENCE: Final = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\^_78])")
_CONTROL: Final = re.compile("[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


@dataclass(frozen=True)
class Snapshot:
    """How far a session is.

    :param lights: instances by light. :param running: name, number of the cell (from 1) and of all cells
        of each running instance, 0 if not known. :param remaining: seconds.
    """

    done: int
    total: int
    lights: Mapping[str, int] = field(default_factory=dict)
    running: Sequence[tuple[str, int, int]] = ()
    remaining: float | None = None


def describe(now: Snapshot, width: int, *, colours: bool = False, symbols: bool = True) -> str:
    """The line, at most ``width`` columns wide: ``37/150  ● 30 ✖ 2  running: JFK_1 (cell 3/7)  …``."""
    lights = [light for light in _COLOURS if now.lights.get(light)]
    parts = [(f"{now.done}/{now.total}", "")]
    for light in lights:
        mark = _SYMBOLS[light] if symbols else light
        parts += [("  " if light == lights[0] else " ", ""), (f"{mark} {now.lights[light]}", _COLOURS[light])]
    left = "" if now.remaining is None else f"  about {_about(now.remaining)} left"
    room = width - sum(_columns(text) for text, _ in parts) - _columns(left)
    parts += [(_running(now.running, room), ""), (left, "")]
    pieces = []
    for text, colour in parts:
        shown = _cut(text, width)
        width -= _columns(shown)
        pieces.append(f"{colour}{shown}\x1b[0m" if colours and colour and shown else shown)
        if shown != text:
            break
    return "".join(pieces)


def _running(running: Sequence[tuple[str, int, int]], room: int) -> str:
    """As many names as there is room for."""
    shown = ""
    for count, (name, cell, cells) in enumerate(running[:_NAMED], 1):
        name = _CONTROL.sub("?", name)
        longer = f"{shown}, " if shown else "  running: "
        longer += f"{name} (cell {cell}/{cells})" if cell and cells else name
        rest = f" … {len(running) - count} more" if count < len(running) else ""
        if _columns(longer + rest) > room:
            break
        shown = longer
    else:
        count = min(len(running), _NAMED) + 1
    hidden = len(running) - count + 1
    more = f" … {hidden} more" if shown and hidden else f"  {hidden} running" if hidden else ""
    return shown + more if _columns(shown + more) <= room else ""


def _about(seconds: float) -> str:
    if seconds < 55:
        return f"{max(5, 5 * round(seconds / 5))} s" if seconds > 3 else "3 s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def _columns(text: str) -> int:
    from wcwidth import wcwidth  # only a session with a terminal needs it

    return sum(max(0, wcwidth(character)) for character in text)


def _cut(text: str, width: int) -> str:
    if _columns(text) <= width:
        return text
    while text and _columns(text) >= width:
        text = text[:-1]
    return text + "…" if width > 0 else ""


class Progress:
    """Draws the line while it is started.

    :param files: what may write to the terminal, the first of which is the terminal.
    :param look: says how far the session is; called in a thread.
    """

    def __init__(
        self, files: Iterable[TextIO], look: Callable[[], Snapshot], *, colours: bool = False
    ) -> None:
        self._files = list(dict.fromkeys(files))
        self._look = look
        self._colours = colours
        encoding = self._files[0].encoding or "ascii"
        try:
            "●▲✖…".encode(encoding)
        except (UnicodeEncodeError, LookupError):
            encoding, self._symbols = "ascii", False
        else:
            self._symbols = True
        self._encoding = encoding
        self._lock = threading.RLock()
        # Not an Event: Ctrl-C in the midst of `set` leaves its lock taken.
        self._wake: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._terminal = -1
        self._owner = -1  # process
        self._drawn = ""
        self._column = self._widest = 0

    def start(self) -> None:
        """Watch the files and draw. Does nothing if it is started."""
        if self._thread is not None:
            return
        # Not the file's own: while pytest captures, that is something else.
        self._terminal = os.dup(self._files[0].fileno())
        os.set_inheritable(self._terminal, False)
        self._owner = os.getpid()
        for file in self._files:
            file.flush()
            file.write = functools.partial(self._write, file, file.write)  # type: ignore[method-assign]
        self._thread = threading.Thread(target=self._work, name="ductaflow-progress", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Erase the line and let the files be as they were."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        with self._lock:
            self._erase()
            for file in self._files:
                del file.write  # the class has its own
        self._wake.put(None)
        thread.join(1)
        with self._lock:
            os.close(self._terminal)
            self._terminal = -1

    def _write(self, file: TextIO, write: Callable[[str], int], text: str) -> int:
        if os.getpid() != self._owner:  # a fork: the lock may be held by a thread that is not in it
            return write(text)
        with self._lock:
            self._erase()
            try:
                return write(text)
            finally:
                file.flush()  # what is written must be there before something is drawn below it
                self._follow(text)
                self._wake.put(None)

    def _follow(self, text: str) -> None:
        """Where the cursor is after a text, in columns, and up to where that row is written on."""
        try:
            width, _ = os.get_terminal_size(self._terminal)
        except OSError:  # it is gone
            return
        *before, line = _SEQUENCE.sub("", text).split("\n")
        if before:
            self._column = self._widest = 0
        for number, part in enumerate(line.split("\r")):
            if number:
                self._column = 0
            for columns in map(_columns, part):
                if self._column + columns > width:  # it does not fit any more
                    self._column = self._widest = 0
                self._column += columns
                self._widest = max(self._widest, self._column)

    def _work(self) -> None:
        wait = _INTERVAL
        while True:
            with contextlib.suppress(queue.Empty):
                self._wake.get(timeout=wait)
                time.sleep(_PAUSE)  # more is about to be written
            if self._thread is None:
                return
            while not self._wake.empty():
                self._wake.get()
            started = time.monotonic()
            try:
                self._draw(self._look())
            except Exception:  # a line beside the results: it must not disturb them
                with self._lock:
                    self._erase()
                return
            wait = max(_INTERVAL, _SHARE * (time.monotonic() - started))

    def _draw(self, now: Snapshot) -> None:
        with self._lock:
            if self._thread is None:
                return
            columns, lines = os.get_terminal_size(self._terminal)
            # A cursor behind the last column cannot be put back there.
            if lines < 3 or columns < 10 or self._column >= columns:
                return self._erase()
            text = describe(now, columns - 1, colours=self._colours, symbols=self._symbols)
            if text != self._drawn:
                self._send(self._erasure + _BELOW + _NO_WRAP + text + _WRAP + _BACK)
                self._drawn = text

    def _erase(self) -> None:
        if self._drawn:
            self._drawn = ""
            with contextlib.suppress(OSError):  # the terminal is gone
                self._send(self._erasure)

    @property
    def _erasure(self) -> str:
        # From the cursor on, in case that somebody else has moved it; but a text may have ended with \r.
        return _ERASE if self._column >= self._widest else f"{_BELOW}{_ERASE}{_BACK}"

    def _send(self, text: str) -> None:
        data = text.encode(self._encoding, "replace")
        while data:
            data = data[os.write(self._terminal, data) :]


def is_wanted(config: pytest.Config) -> bool:
    """Whether a session may have the line at all: somebody is looking, and reads nothing else there."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    return (
        os.name == "posix"
        and reporter is not None
        and not hasattr(config, "workerinput")
        and config.getoption("verbose") >= 0
        and config.getoption("capture", "no") != "no"
        and not (config.getoption("usepdb", False) or config.getoption("trace", False))
        and not (os.environ.get("CI") or os.environ.get("BUILD_NUMBER"))
        and os.environ.get("TERM", "dumb") != "dumb"
        and _is_terminal(sys.stdout)
    )


def _is_terminal(file: Any) -> bool:
    try:
        return bool(file.isatty()) and os.isatty(file.fileno())
    except (AttributeError, OSError, ValueError):
        return False


class ProgressLine:
    """Hooks of the controlling process: when there is a line, once instances are to run."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._progress: Progress | None = None

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtestloop(self) -> Generator[None, object, object]:
        """While tests run, and no longer."""
        try:
            return (yield)
        finally:
            if self._progress is not None:
                self._progress.stop()

    def start(self, look: Callable[[], Snapshot]) -> None:
        """Instances are going to run. :param look: says how far the session is."""
        if self._progress is None and is_wanted(self._config):
            # pytest has given them back by now, and keeps its hands on them only while a test runs.
            files = [file for file in (sys.stdout, sys.stderr) if _is_terminal(file)]
            colours = self._config.get_terminal_writer().hasmarkup
            self._progress = Progress(files, look, colours=colours)
            self._progress.start()

    def pytest_enter_pdb(self) -> None:
        """Somebody types."""
        if self._progress is not None:
            self._progress.stop()

    def pytest_leave_pdb(self) -> None:
        """It goes on."""
        if self._progress is not None:
            self._progress.start()
