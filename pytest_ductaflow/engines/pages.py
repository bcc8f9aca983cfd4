"""Copies, made ahead of time, of the memory that a run is going to write to.

A fork shares all memory with the warm process until it writes; then the system stops it, page by page, to
copy. All runs of a flow write to about the same pages (reference counts above all). So of each flow one run
looks at its end which pages have become its own, and forks that wait for a run have these copied by then.
They take no more memory for it and do nothing else than they would; where the system cannot tell or
cannot copy, the pages are copied when they are written to, as ever.

Source: Linux's documentation of ``pagemap`` (admin-guide/mm) and of ``madvise(2)``.
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
from collections.abc import Iterable, Iterator
from typing import Final

_MADV_POPULATE_WRITE: Final = 23  # since Linux 5.14
#: What pagemap says of a page: it is there, nobody else has it, it is of a file (or shared on purpose).
_PRESENT, _EXCLUSIVE, _FILE = 1 << 63, 1 << 56, 1 << 61
_ENTRY: Final = 8  # bytes, of pagemap as of our table
#: Of one mapping, so many pages at most are looked at: 1 GiB.
_LOOKED_AT: Final = 1 << 18
#: So many pages at most are remembered: 32 MiB.
_MOST: Final = 8192


class WrittenPages:
    """Where runs write to. It lies in memory that the warm process and its forks have in common."""

    def __init__(self) -> None:
        self._madvise = ctypes.CDLL(None).madvise
        self._madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
        #: The count of stretches, then of each the address and the size in bytes.
        self._table = memoryview(mmap.mmap(-1, (1 + 2 * _MOST) * _ENTRY)).cast("Q")

    def copy(self) -> None:
        """In a fork that waits for its run: have an own copy of them."""
        for place in range(1, 1 + 2 * self._table[0], 2):
            self._madvise(self._table[place], self._table[place + 1], _MADV_POPULATE_WRITE)

    def look(self, shared: Iterable[range]) -> None:
        """At the end of a run: remember what this process has for itself.

        What is remembered already is part of it: the process had it copied before its run.

        :param shared: the memory that it began with (:func:`mapped`).
        """
        stretches: list[tuple[int, int]] = []
        with contextlib.suppress(OSError):
            stretches = _stretches(_own_pages(shared))
        self._table[0] = 0
        for number, stretch in enumerate(stretches):
            self._table[1 + 2 * number], self._table[2 + 2 * number] = stretch
        self._table[0] = len(stretches)


def mapped() -> list[range]:
    """The memory that this process may write to, as numbers of pages."""
    found = []
    with contextlib.suppress(OSError), open("/proc/self/maps", "rb") as maps:
        for line in maps:
            bounds, access, *_ = line.split()
            if access == b"rw-p" and b"[stack]" not in line:
                found.append(range(*(int(bound, 16) // mmap.PAGESIZE for bound in bounds.split(b"-"))))
    return found


def _own_pages(memory: Iterable[range]) -> Iterator[int]:
    """The numbers of the pages of this memory that nobody else has."""
    with open("/proc/self/pagemap", "rb", buffering=0) as pagemap:
        for pages in memory:
            count = min(len(pages), _LOOKED_AT)
            entries = os.pread(pagemap.fileno(), count * _ENTRY, pages.start * _ENTRY)
            for page, entry in zip(pages, memoryview(entries).cast("Q"), strict=False):
                if entry & (_PRESENT | _EXCLUSIVE | _FILE) == _PRESENT | _EXCLUSIVE:
                    yield page


def _stretches(pages: Iterator[int]) -> list[tuple[int, int]]:
    """Pages that lie side by side as one: address and size in bytes."""
    found: list[list[int]] = []
    for page, _ in zip(pages, range(_MOST), strict=False):
        if found and found[-1][0] + found[-1][1] == page:
            found[-1][1] += 1
        else:
            found.append([page, 1])
    return [(page * mmap.PAGESIZE, count * mmap.PAGESIZE) for page, count in found]
