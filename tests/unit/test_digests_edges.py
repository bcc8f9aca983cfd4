"""Digests of files that change just now, and what other processes left in ``runs/.digests``."""

import json
import os
import time
from pathlib import Path

import pytest

from pytest_ductaflow import digests
from pytest_ductaflow.digests import NAME, Digests, digest_of_bytes, may_change_unseen

from .test_digests import computed, make_old, root

__all__ = ["computed", "root"]  # fixtures

SECOND = 1_000_000_000


@pytest.mark.parametrize(
    ("age", "fraction", "unseen"),
    [
        (0, 1, True),
        (10_000_000, 1, True),
        (100_000_000, 1, False),
        (SECOND, 0, True),  # a file system that counts whole seconds
        (3 * SECOND, 0, False),
        (-SECOND, 1, True),  # a time to come
    ],
)
def test_how_long_a_file_may_change_unseen(age: int, fraction: int, unseen: bool) -> None:
    modified = 1_700_000_000 * SECOND + fraction
    assert may_change_unseen((1, modified, 1, modified), modified + age) is unseen


def test_a_file_whose_times_were_set_back_just_now_may_change_unseen() -> None:
    now = 1_700_000_000 * SECOND + 1
    assert may_change_unseen((1, now - 9 * SECOND, 1, now), now + 1)


def test_a_racily_clean_file_is_read_again_by_the_next_process(root: Path, computed: list[str]) -> None:
    path = root / "a.csv"
    one = Digests(root)
    path.write_text("two")
    os.utime(path, (time.time() + 0.5,) * 2)  # time enough on a slow machine
    one.of(path)
    one.save()
    make_old(path)
    assert Digests(root).of(path) == digest_of_bytes(b"two")
    assert computed == ["a.csv", "a.csv"]


def test_another_file_in_its_place_with_the_same_times_is_seen(root: Path) -> None:
    path = root / "a.csv"
    make_old(path)
    known, info = Digests(root), path.stat()
    known.of(path)
    (root / "new").write_text("two")
    os.utime(root / "new", ns=(info.st_atime_ns, info.st_mtime_ns))
    (root / "new").replace(path)
    assert known.of(path) == digest_of_bytes(b"two")


def test_a_link_has_the_digest_of_what_it_leads_to(root: Path) -> None:
    (root / "b.csv").write_text("two")
    (root / "link").symlink_to("a.csv")
    known = Digests(root)
    assert known.of("link") == digest_of_bytes(b"one")
    (root / "link").unlink()
    (root / "link").symlink_to("b.csv")
    assert known.of("link") == digest_of_bytes(b"two")
    (root / "b.csv").unlink()
    assert known.of("link") is None


def test_a_file_that_changes_while_it_is_read_has_no_digest(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = digests.digest

    def digest(path: str) -> str:
        found = real(path)
        with open(path, "a") as file:
            file.write("more")
        return found

    monkeypatch.setattr(digests, "digest", digest)
    assert Digests(root).of("a.csv") == "changing"


@pytest.mark.skipif(os.name != "posix" or os.getuid() == 0, reason="may read everything")
def test_a_file_that_may_not_be_read_says_so(root: Path) -> None:
    (root / "a.csv").chmod(0)
    assert (Digests(root).of("a.csv") or "").startswith("unreadable: ")


@pytest.mark.parametrize(
    "line",
    [
        "",
        "5",
        "null",
        "[]",
        "{}",
        '["a.csv"]',
        '["a.csv", null, 1, "blake2b:00"]',
        '[["a.csv"], [1, 2, 3, 4], 1, "blake2b:00"]',
        '["a.csv", [1, 2, 3, 4], "soon", "blake2b:00"]',
        pytest.param(
            '["a.csv", [1, 2, 3, 4], Infinity, "blake2b:00"]',
        ),
        "[" * 100_000,
        "\0\0\0",
    ],
    ids=range(12),
)
def test_a_line_that_is_not_ours_is_no_harm_and_the_others_are_used(
    root: Path, computed: list[str], line: str
) -> None:
    make_old(root / "a.csv")
    one = Digests(root)
    one.of("a.csv")
    one.save()
    file = root / "runs" / NAME
    file.write_text(f"{line}\n{file.read_text()}{line}\n")
    assert Digests(root).of("a.csv") == digest_of_bytes(b"one")
    assert computed == ["a.csv"]


def test_a_last_line_that_was_cut_short_harms_one_entry_only(root: Path, computed: list[str]) -> None:
    for name in "abc":
        (root / f"{name}.csv").write_text(name)
    make_old(root / "c.csv")
    file = root / "runs" / NAME
    file.write_text('["a.csv", [1, 2')
    for name in "abc":
        one = Digests(root)
        one.of(f"{name}.csv")
        one.save()
    computed.clear()
    next_one = Digests(root)
    assert [next_one.of(f"{name}.csv") for name in "abc"] == [digest_of_bytes(n) for n in (b"a", b"b", b"c")]
    assert computed == ["a.csv"]


def test_what_two_processes_learnt_is_kept(root: Path, computed: list[str]) -> None:
    (root / "b.csv").write_text("two")
    make_old(root / "b.csv")
    one, other = Digests(root), Digests(root)
    one.of("a.csv")
    other.of("b.csv")
    one.save()
    other.save()
    third = Digests(root)
    third.of("a.csv")
    third.of("b.csv")
    assert computed == ["a.csv", "b.csv"]


def test_writing_anew_keeps_the_last_of_each_file(root: Path, computed: list[str]) -> None:
    for number in range(5):
        (root / f"{number}.csv").write_text(str(number))
    make_old(root / "4.csv")
    (root / "runs" / NAME).write_text('["0.csv", [1, 2, 3, 4], 5, "blake2b:00"]\n' * 2000)
    known = Digests(root)
    for number in range(5):
        known.of(f"{number}.csv")
    known.save()
    lines = (root / "runs" / NAME).read_text().splitlines()
    assert [json.loads(line)[0] for line in lines] == [f"{number}.csv" for number in range(5)]
    computed.clear()
    next_one = Digests(root)
    assert [next_one.of(f"{number}.csv") is not None for number in range(5)] == [True] * 5
    assert computed == []


def test_paths_are_kept_relative_so_a_project_can_be_moved(root: Path) -> None:
    known = Digests(root)
    known.of(root / "a.csv")
    known.save()
    assert str(root) not in (root / "runs" / NAME).read_text()


def test_nothing_is_written_if_nothing_was_learnt(root: Path) -> None:
    make_old(root / "a.csv")
    one = Digests(root)
    one.of("a.csv")
    one.save()
    before = (root / "runs" / NAME).stat()
    time.sleep(0.02)
    other = Digests(root)
    other.of("a.csv")
    other.save()
    assert (root / "runs" / NAME).stat().st_mtime_ns == before.st_mtime_ns
