"""Digests of files: computed once, as long as nothing can have changed."""

import os
import time
from pathlib import Path

import pytest

from pytest_ductaflow import digests
from pytest_ductaflow.digests import NAME, Digests, may_change_unseen


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "runs").mkdir()
    (tmp_path / "a.csv").write_text("one")
    return tmp_path


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was read."""
    found: list[str] = []
    real = digests.digest

    def digest(path: str) -> str:
        found.append(Path(path).name)
        return real(path)

    monkeypatch.setattr(digests, "digest", digest)
    return found


def make_old(path: Path) -> None:
    """Wait until the file is no longer just modified."""
    while may_change_unseen(digests.stat_of(path.stat()), time.time_ns()):
        time.sleep(0.005)


def test_an_unchanged_file_is_read_once(root: Path, computed: list[str]) -> None:
    make_old(root / "a.csv")
    known = Digests(root)
    first = known.of(root / "a.csv")
    assert first == known.of("a.csv") == digests.digest_of_bytes(b"one")
    assert computed == ["a.csv"]


def test_a_file_modified_just_before_is_read_again(root: Path, computed: list[str]) -> None:
    known = Digests(root)
    (root / "a.csv").write_text("two")
    os.utime(root / "a.csv", (time.time() + 60,) * 2)  # however slow the machine is, this was just before
    known.of("a.csv")
    known.of("a.csv")
    assert computed == ["a.csv", "a.csv"]


def test_the_same_size_and_time_do_not_hide_a_change(root: Path) -> None:
    path = root / "a.csv"
    make_old(path)
    known = Digests(root)
    before, info = known.of(path), path.stat()
    path.write_text("two")
    os.utime(path, ns=(info.st_atime_ns, info.st_mtime_ns))
    assert known.of(path) == digests.digest_of_bytes(b"two") != before


def test_no_file_has_no_digest(root: Path) -> None:
    known = Digests(root)
    assert known.of("nothing") is None
    assert known.of("runs") is None
    assert known.of("a.csv/below") is None


def test_what_one_process_learnt_another_knows(root: Path, computed: list[str]) -> None:
    make_old(root / "a.csv")
    one = Digests(root)
    one.of("a.csv")
    one.save()
    assert Digests(root).of("a.csv") == digests.digest_of_bytes(b"one")
    assert computed == ["a.csv"]


def test_a_damaged_file_is_no_harm(root: Path) -> None:
    (root / "runs" / NAME).write_bytes(b'{"no\n["a.csv", 1]\n["a.csv", [1,2,3,4], 5, "blake2b:00"]\n\xff\n')
    assert Digests(root).of("a.csv") == digests.digest_of_bytes(b"one")


def test_a_file_full_of_outdated_lines_is_written_anew(root: Path) -> None:
    make_old(root / "a.csv")
    line = '["a.csv", [1, 2, 3, 4], 5, "blake2b:00"]\n'
    (root / "runs" / NAME).write_text(line * 3000)
    known = Digests(root)
    known.of("a.csv")
    known.save()
    assert len((root / "runs" / NAME).read_text().splitlines()) == 1
    assert [path.name for path in (root / "runs").iterdir()] == [NAME]


def test_without_runs_nothing_is_kept(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("one")
    known = Digests(tmp_path)
    known.of("a.csv")
    known.save()
    assert not (tmp_path / "runs").exists()
