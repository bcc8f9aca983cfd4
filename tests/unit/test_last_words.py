import errno
import os
import resource
import signal
from pathlib import Path

import pytest

from pytest_ductaflow import last_words

ERROR = {"type": "ValueError", "message": "bad\nvery", "traceback": "Traceback\nValueError: bad\nvery\n"}


@pytest.mark.parametrize("before", ["", "a\n", "a", "a\r"])
def test_the_error_begins_a_line_of_its_own(tmp_path: Path, before: str) -> None:
    file = tmp_path / "it.txt"
    file.write_bytes(before.encode())
    line = last_words.failed("it", "one", ERROR)
    assert last_words.append(file, line, ERROR) == len(before)
    between = "\n" if before and not before.endswith("\n") else ""
    expected = f"{before}{between}{ERROR['traceback']}❌ Failed it | Instance: one | Error: ValueError: bad\n"
    assert file.read_bytes().decode() == expected


def test_a_traceback_that_python_printed_is_not_repeated(tmp_path: Path) -> None:
    file = tmp_path / "it.txt"
    file.write_text("printed\n")
    last_words.append(file, "the line", ERROR, told=True)
    assert file.read_text("utf-8") == "printed\nthe line\n"
    last_words.append(file, "the line", {"type": "SystemExit", "message": "left"}, told=True, printed=8)
    assert file.read_text("utf-8") == "printed\nSystemExit: left\nthe line\n"


@pytest.mark.parametrize(
    ("error", "shown"),
    [
        ({}, "Error"),
        ({"type": "E", "message": None}, "E"),
        ({"type": "E", "message": "\n"}, "E"),
        ({"type": "E", "message": "\ud800"}, "E: \\ud800"),
        ({"type": "E", "message": "m", "file": "flows/x.py", "line": 4}, "flows/x.py:4: E: m"),
        ({"type": "E", "message": "m", "file": "flows/x.py", "line": None}, "E: m"),
    ],
)
def test_an_error_without_traceback_is_a_line(tmp_path: Path, error: dict[str, object], shown: str) -> None:
    file = tmp_path / "it.txt"
    file.touch()
    last_words.append(file, "the line", error)
    assert file.read_text("utf-8") == f"{shown}\nthe line\n"


@pytest.mark.parametrize("kind", ["nothing", "directory", "link", "pipe"])
def test_only_a_file_is_written_to(tmp_path: Path, kind: str) -> None:
    path, other = tmp_path / "it.txt", tmp_path / "other.txt"
    other.touch()
    if kind == "directory":
        path.mkdir()
    elif kind == "link":
        path.symlink_to(other)
    elif kind == "pipe":
        os.mkfifo(path)
    with pytest.raises(OSError, match=r"."):
        last_words.append(path, "the line", ERROR)
    assert other.read_bytes() == b""


@pytest.mark.skipif(not hasattr(signal, "SIGXFSZ"), reason="the limit stands for a full disk")
def test_a_file_that_cannot_grow_stays_as_it_was(tmp_path: Path) -> None:
    file = tmp_path / "it.txt"
    file.write_bytes(b"x" * 4090)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(OSError, match=os.strerror(errno.EFBIG)):
            last_words.append(file, "the line", ERROR)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    assert file.read_bytes() == b"x" * 4090
