"""The three lights, and which printed lines are warnings.

Red is an exception (or a dead or timed-out process), and nothing else; orange is a run that finished
but printed a warning line; green is everything else that finished. What an instance file expects of the
measures can only make that worse (see ``expectations``). A line is a warning line when its
first 15 characters hold ``⚠️`` or, in any case, ``warning:``. A line ends at ``\\n`` or ``\\r``, so a
warning behind a progress bar is found too. Terminal colour codes are not characters of the line.
"""

from __future__ import annotations

import enum
import re
from typing import Final, NamedTuple

#: How many characters of a line are looked at.
PREFIX_LENGTH: Final = 15
#: How much of a warning line the record keeps, in characters.
TEXT_LENGTH: Final = 500
#: A line can be arbitrarily long; no more bytes than this are held of an unfinished one.
_HELD: Final = 8192

_INDICATOR: Final = re.compile("⚠️|warning:", re.IGNORECASE)
_COLOUR: Final = re.compile(r"\x1b\[[0-9;:?]*[ -/]*[@-~]")
_LINE_END: Final = re.compile(rb"\r\n|\n|\r")
_INDICATOR_BYTES: Final = re.compile(rb"\xe2\x9a\xa0|warning:|\x1b", re.IGNORECASE)


class Status(str, enum.Enum):
    """How a run stands. The values are those of the record's ``status``."""

    SUCCESS = "success"
    WARNING = "warning"
    ERROR = "error"
    RUNNING = "running"
    INTERRUPTED = "interrupted"

    @property
    def light(self) -> str:
        """``green``, ``orange``, ``red``, or ``running`` for a run that has no light yet."""
        return _LIGHTS[self]

    @property
    def is_red(self) -> bool:
        """Whether the run failed or died."""
        return self in (Status.ERROR, Status.INTERRUPTED)


_LIGHTS: Final = {
    Status.SUCCESS: "green",
    Status.WARNING: "orange",
    Status.ERROR: "red",
    Status.INTERRUPTED: "red",
    Status.RUNNING: "running",
}


def decode(data: bytes) -> str:
    """Printed bytes as text; bytes that are not UTF-8 stay visible as ``\\xNN``."""
    return data.decode("utf-8", "backslashreplace")


def is_warning(line: str) -> bool:
    """Whether this printed line (without its end) makes a run orange."""
    return _INDICATOR.search(_COLOUR.sub("", line)[:PREFIX_LENGTH]) is not None


class WarningLine(NamedTuple):
    """A warning line: 1-based line and byte offset in the output file, and its text."""

    line: int
    offset: int
    text: str


class WarningScanner:
    """Finds the warning lines of an output that arrives in pieces of bytes.

    Memory is bounded: only the head of an unfinished line is kept.
    """

    def __init__(self) -> None:
        self._head = b""  # of the line that has not ended yet
        self._start = 0  # offset of that line
        self._line = 1  # its number, as editors and grep count
        self._offset = 0  # of the next byte to come
        self._after_cr = False

    def feed(self, data: bytes) -> list[WarningLine]:
        """The warning lines that end within ``data``, which follows what was fed before."""
        found: list[WarningLine] = []
        position = 0
        if not _INDICATOR_BYTES.search(self._head + data):
            position = self._skip_lines(data)
        elif self._after_cr and data[:1] == b"\n":  # the second half of \r\n
            position = 1
            self._line += 1
            self._start = self._offset + 1
        for end in _LINE_END.finditer(data, position):
            self._hold(data[position : end.start()])
            found += self._end_line()
            position = end.end()
            self._start = self._offset + position
            self._line += end.group() != b"\r"
        self._hold(data[position:])
        self._after_cr = data.endswith(b"\r") if data else self._after_cr
        self._offset += len(data)
        return found

    def _skip_lines(self, data: bytes) -> int:
        """Pass over whole lines, none of which can be a warning; return where the last one begins."""
        last = max(data.rfind(b"\n"), data.rfind(b"\r")) + 1
        if last:
            self._head = b""
            self._line += data.count(b"\n", 0, last)
            self._start = self._offset + last
        return last

    def close(self) -> list[WarningLine]:
        """The last line, if it is a warning line that no line end followed."""
        return self._end_line()

    def _hold(self, piece: bytes) -> None:
        room = _HELD - len(self._head)
        if room > 0:
            self._head += piece[:room]

    def _end_line(self) -> list[WarningLine]:
        text, self._head = decode(self._head), b""
        if not is_warning(text):
            return []
        shown = _COLOUR.sub("", text).strip()[:TEXT_LENGTH]
        return [WarningLine(self._line, self._start, shown)]


def worst(statuses: list[Status]) -> Status:
    """The status that a list of runs has as a whole; no runs are a success."""
    order = [Status.SUCCESS, Status.WARNING, Status.RUNNING, Status.INTERRUPTED, Status.ERROR]
    return max(statuses, key=order.index, default=Status.SUCCESS)
