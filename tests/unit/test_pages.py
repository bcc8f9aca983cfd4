"""The memory that runs write to, copied ahead in real forks."""

import mmap
import os
import resource
import sys
from collections.abc import Callable

import pytest

if sys.platform != "linux":
    pytest.skip("Linux only", allow_module_level=True)

from pytest_ductaflow.engines.pages import WrittenPages, mapped

PAGES = 400


def forked(work: Callable[[], int]) -> int:
    """What it gives in a fork of this process."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.write(writing, str(work()).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with open(reading) as file:
        said = file.read()
    os.waitpid(pid, 0)
    return int(said)


def faults() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


def test_what_a_run_wrote_to_is_copied_before_the_next_one_begins() -> None:
    pages = WrittenPages()
    memory = mmap.mmap(-1, PAGES * mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory[:] = b"\1" * len(memory)

    def write(*, copied: bool, look: bool = False) -> int:
        shared = mapped()
        if copied:
            pages.copy()
        before = faults()
        for page in range(0, PAGES, 2):
            memory[page * mmap.PAGESIZE] = 2
        needed = faults() - before
        if look:
            pages.look(shared)
        return needed

    assert forked(lambda: write(copied=True, look=True)) >= PAGES // 2, "nothing is known yet"
    assert forked(lambda: write(copied=False)) >= PAGES // 2
    assert forked(lambda: write(copied=True, look=True)) < PAGES // 20, "it looks again"
    assert forked(lambda: write(copied=True)) < PAGES // 20
    assert memory[:] == b"\1" * len(memory), "what forks write is theirs"

    def others() -> int:
        pages.copy()
        before = faults()
        for page in range(1, PAGES, 2):
            memory[page * mmap.PAGESIZE] = 2
        return faults() - before

    assert forked(others) >= PAGES // 2 - PAGES // 20, "only what was written to is copied"


def test_memory_that_a_run_takes_for_itself_is_nobody_s_business() -> None:
    pages = WrittenPages()

    def take() -> int:
        shared = mapped()
        memory = mmap.mmap(-1, 40_000 * mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        memory[:] = b"\1" * len(memory)
        pages.look(shared)
        return len(memory)

    def copy() -> int:
        before = faults()
        pages.copy()
        return faults() - before

    forked(take)
    assert 0 < forked(copy) < 4_000


def test_more_than_there_is_room_for_is_left_out() -> None:
    pages = WrittenPages()
    memory = mmap.mmap(-1, 40_000 * mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory[:] = b"\1" * len(memory)

    def write_every_other_page() -> int:
        shared = mapped()
        for page in range(0, 40_000, 2):
            memory[page * mmap.PAGESIZE] = 2
        pages.look(shared)
        return 0

    def copy() -> int:
        before = faults()
        pages.copy()
        return faults() - before

    forked(write_every_other_page)
    assert 5_000 < forked(copy) < 10_000
