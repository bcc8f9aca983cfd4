"""Everything a run prints, in one file that is both the record and the channel.

The run's process has descriptors 1 and 2 on the output file itself, opened for appending, so
subprocesses and C code write there in order, without a pipe, a thread or a buffer of ours, and
what was printed survives any crash. Python's own ``sys.stdout`` writes to the same file through
:class:`OutputFile`, which also notices what others appended since (the gap before its own write), so
that a notebook or a console can show those bytes too.

Loads nothing but the standard library: it runs in every kernel.
"""

from __future__ import annotations

import codecs
import os
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

from pytest_ductaflow import regular
from pytest_ductaflow.status import WarningLine, WarningScanner, decode

_BLOCK: Final = 1 << 20
#: The bytes of a UTF-8 character after its first.
_CONTINUATION: Final = bytes(range(0x80, 0xC0))
#: Of one cell's text a notebook holds this many bytes from the head, and as many from the tail.
HEAD: Final = 500_000
TAIL: Final = 50_000


class OutputFile:
    """The writing end, in the process that prints. Safe for threads and after a fork."""

    def __init__(self, path: str) -> None:
        append = os.O_WRONLY | os.O_APPEND | getattr(os, "O_BINARY", 0)
        self._write_fd = os.open(path, append)
        self._read_fd = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        self._seen = os.fstat(self._read_fd).st_size
        self._lock = threading.RLock()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._renew_lock)

    def redirect(self, *descriptors: int) -> None:
        """Point descriptors (1 and 2) at the file; subprocesses inherit them."""
        for descriptor in descriptors:
            os.dup2(self._write_fd, descriptor, inheritable=True)

    def write(self, data: bytes) -> Iterator[bytes]:
        """Append ``data``; then give, in blocks, what others appended between our last look and it."""
        with self._lock:
            view = memoryview(data)
            while view:
                view = view[os.write(self._write_fd, view) :]
            end = os.lseek(self._write_fd, 0, os.SEEK_CUR)
            foreign = (self._seen, max(self._seen, end - len(data)))
            self._seen = max(self._seen, end)
        return self._blocks(*foreign)

    def take_foreign(self) -> Iterator[bytes]:
        """What others appended since our last look, in blocks."""
        with self._lock:
            size = os.fstat(self._read_fd).st_size
            foreign = (self._seen, max(self._seen, size))
            self._seen = foreign[1]
        return self._blocks(*foreign)

    def _blocks(self, start: int, end: int) -> Iterator[bytes]:
        while start < end:
            block = _read_at(self._read_fd, min(_BLOCK, end - start), start)
            if not block:
                return
            start += len(block)
            yield block

    def _renew_lock(self) -> None:
        self._lock = threading.RLock()


class OutputReader:
    """The reading end, in the process that watches a run: new bytes, warning lines and their cells."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = regular.open_file(path, buffering=0)
        self._scanner = WarningScanner()
        self._cells: list[tuple[int, int]] = []  # (offset at which a cell started, cell)
        self._warnings: list[WarningLine] = []

    def cell_started(self, cell: int) -> None:
        """Note that what is printed from here on belongs to this cell. Callable from any thread."""
        self._cells.append((self.path.stat().st_size, cell))

    def read(self) -> bytes:
        """The next piece of new output, empty if there is none."""
        data = self._file.read(_BLOCK) or b""
        self._warnings += self._scanner.feed(data)
        return data

    def warnings(self) -> list[dict[str, Any]]:
        """All warning lines so far as the record holds them: ``line``, ``cell`` and ``text``."""
        return [{"line": w.line, "cell": self._cell_at(w.offset), "text": w.text} for w in self._warnings]

    def close(self) -> None:
        """Finish: a last line without an end counts too."""
        self._warnings += self._scanner.close()
        self._file.close()

    def _cell_at(self, offset: int) -> int | None:
        cell = None
        for start, index in self._cells:
            if start > offset:
                break
            cell = index
        return cell


class OutputText:
    """The output file as a notebook shows it: pieces of text, each of ``stdout`` or ``stderr``.

    The kernel says now and then how far the file had grown and which stretches of it went to stderr;
    what subprocesses and C code wrote counts as stdout. Of a cell that printed very much, head and tail
    are given, with a notice between them.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._at = 0
        self._room = HEAD
        self._held: int | None = None  # where the text of this cell that found no room begins

    def until(self, end: int, stderr: Iterable[Iterable[int]] = ()) -> list[tuple[str, str]]:
        """The text from where we were up to ``end``, in order: stream's name and text."""
        stretches = self._stretches(end, stderr)
        self._at = max(self._at, end)
        pieces = []
        for name, start, stop in stretches:
            text, used = self._head(start, stop)
            self._room -= used
            if start + used < stop and self._held is None:
                self._held, self._room = start + used, 0
            if text:
                pieces.append((name, text))
        return pieces

    def rest(self) -> list[tuple[str, str]]:
        """All that is left: what was printed since the last word of the kernel."""
        return [*self.until(self._size()), *self.end_cell()]

    def pending(self) -> str:
        """What was printed since, as far as there is room for it. Nothing is taken."""
        return self._head(self._at, self._size())[0]

    def end_cell(self) -> list[tuple[str, str]]:
        """The tail of a cell that printed very much. From here on it is another cell's text."""
        held, self._held, self._room = self._held, None, HEAD
        if held is None:
            return []
        start = max(held, self._at - TAIL)
        tail = decode(self._read(start, self._at).lstrip(_CONTINUATION if start > held else b""))
        if start > held:
            size = f"{start - held:,} bytes"
            tail = f"\n[… {size} left out here; the whole output is in {self._path.name} …]\n{tail}"
        return [("stdout", tail)]

    def _stretches(self, end: int, stderr: Iterable[Iterable[int]]) -> list[tuple[str, int, int]]:
        found, at = [], self._at
        for start, stop in stderr:
            start, stop = max(start, at), min(stop, end)
            if start < stop:
                found += [("stdout", at, start), ("stderr", start, stop)]
                at = stop
        return [*found, ("stdout", at, end)]

    def _head(self, start: int, stop: int) -> tuple[str, int]:
        """As much text as there is room for, whole characters only, and how many bytes that is."""
        data = self._read(start, min(stop, start + self._room))
        if len(data) < stop - start:
            data = data[: len(data) - _incomplete(data)]
        return decode(data), len(data)

    def _read(self, start: int, stop: int) -> bytes:
        if start >= stop:
            return b""
        with regular.open_file(self._path, buffering=0) as file:
            file.seek(start)
            parts = []
            while start < stop and (part := file.read(stop - start)):
                parts.append(part)
                start += len(part)
        return b"".join(parts)

    def _size(self) -> int:
        return self._path.stat().st_size


def _incomplete(data: bytes) -> int:
    """How many bytes at the end begin a character that is cut."""
    for back in range(1, min(3, len(data)) + 1):
        byte = data[-back]
        if byte >= 0xC0:
            return back if back < (2 if byte < 0xE0 else 3 if byte < 0xF0 else 4) else 0
        if byte < 0x80:
            break
    return 0


def last_lines(path: Path, count: int, printed: int | None = None) -> list[str]:
    """The last printed lines, as a terminal would show them: of a progress bar only its last state.

    :param printed: so many bytes of the file were printed (``Record.printed``); by default all.
    """
    try:
        with regular.open_file(path) as file:
            size = _size(file, printed)
            file.seek(max(0, size - (64 << 10)))
            lines = decode(file.read(size - file.tell())).replace("\r\n", "\n").rstrip("\n").split("\n")
    except OSError:
        return []
    shown = [line.rstrip("\r").rsplit("\r", 1)[-1] for line in lines[-count:]]
    return shown if any(shown) else []


def excerpt(path: Path, size: int = 20_000, printed: int | None = None) -> str:
    """Head and tail of an output file, at most ``size`` bytes, with a visible notice between them.

    :param printed: as for :func:`last_lines`.
    """
    try:
        with regular.open_file(path) as file:
            total = _size(file, printed)
            if total <= size:
                return decode(file.read(total))
            head = codecs.getincrementaldecoder("utf-8")("backslashreplace").decode(file.read(size // 2))
            file.seek(total - size // 2)
            tail = decode(file.read(size // 2).lstrip(_CONTINUATION))
    except OSError:
        return ""
    return f"{head}\n[… {total - size:,} of {total:,} bytes left out; all are in {path.name} …]\n{tail}"


def _size(file: Any, printed: int | None) -> int:
    size = os.fstat(file.fileno()).st_size
    return size if printed is None else min(size, printed)


def _read_at(descriptor: int, count: int, offset: int) -> bytes:
    if hasattr(os, "pread"):
        return os.pread(descriptor, count, offset)
    os.lseek(descriptor, offset, os.SEEK_SET)
    return os.read(descriptor, count)
