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


def faults(work: Callable[[], object]) -> int:
    """How often the system had to step in, while this was done."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    work()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def memory_of(pages: int) -> mmap.mmap:
    memory = mmap.mmap(-1, pages * mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory[:] = b"\1" * len(memory)
    return memory


def write_every_other(memory: mmap.mmap, first: int = 0) -> None:
    for place in range(first * mmap.PAGESIZE, len(memory), 2 * mmap.PAGESIZE):
        memory[place] = 2


def test_what_a_run_wrote_to_is_copied_before_the_next_one_begins() -> None:
    pages, memory = WrittenPages(), memory_of(PAGES)

    def write(*, copied: bool, look: bool = False, first: int = 0) -> int:
        shared = mapped()
        if copied:
            pages.copy()
        needed = faults(lambda: write_every_other(memory, first))
        if look:
            pages.look(shared)
        return needed

    assert forked(lambda: write(copied=True, look=True)) >= PAGES // 2, "nothing is known yet"
    assert forked(lambda: write(copied=False)) >= PAGES // 2
    assert forked(lambda: write(copied=True, look=True)) < PAGES // 20, "it looks again"
    assert forked(lambda: write(copied=True)) < PAGES // 20
    assert memory[:] == b"\1" * len(memory), "what forks write is theirs"
    others = forked(lambda: write(copied=True, first=1))
    assert others >= PAGES // 2 - PAGES // 20, "only what was written to is copied"


def test_memory_that_a_run_takes_for_itself_is_nobody_s_business() -> None:
    pages = WrittenPages()

    def take() -> int:
        shared = mapped()
        memory = memory_of(40_000)
        pages.look(shared)
        return len(memory)

    forked(take)
    assert 0 < forked(lambda: faults(pages.copy)) < 4_000


def test_more_than_there_is_room_for_is_left_out() -> None:
    pages, memory = WrittenPages(), memory_of(40_000)

    def write() -> int:
        shared = mapped()
        write_every_other(memory)
        pages.look(shared)
        return 0

    forked(write)
    assert 5_000 < forked(lambda: faults(pages.copy)) < 10_000
