"""Content digests of files, and how an unchanged stat saves computing one again.

A stat is trusted as git trusts its index: size, modification time, change time and inode are those of
when the digest was computed, and the file had not been modified just before, when a second change can
leave the same times. What is known is kept in ``runs/.digests``, a file that can be deleted at any time.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat as stat_bits
import time
import uuid
from pathlib import Path
from typing import Final

from pytest_ductaflow import regular

#: Below ``runs``: what is known about files, as JSON lines.
NAME: Final = ".digests"
#: Nanoseconds within which a file may change again and keep its times: how coarse clocks of file systems
#: are (a timer tick), and those that count whole seconds.
_TICK: Final = 20_000_000
_COARSE_TICK: Final = 2_000_000_000
#: So often a file that changes while it is read is read again.
_ATTEMPTS: Final = 5

#: Size in bytes, modification time in ns, inode, change time in ns.
Stat = tuple[int, int, int, int]

_START: Final = "blake2b:"


def stat_of(info: os.stat_result) -> Stat:
    """What changes when a file does."""
    return info.st_size, info.st_mtime_ns, info.st_ino, info.st_ctime_ns


def may_change_unseen(stat: Stat, moment: int) -> bool:
    """Whether a file was modified so shortly before that it can change and look the same (racily clean).

    :param moment: when the stat was taken, nanoseconds since the epoch.
    """
    tick = _COARSE_TICK if stat[1] % 1_000_000_000 == 0 else _TICK
    return max(stat[1], stat[3]) + tick > moment


def digest(path: str | os.PathLike[str]) -> str:
    """Content digest of a file, as records hold it."""
    result = hashlib.blake2b(digest_size=20)
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            result.update(block)
    return f"{_START}{result.hexdigest()}"


def is_digest(state: str) -> bool:
    """Whether a recorded state is that of a file that could be read; an unreadable one equals no other."""
    return state.startswith(_START)


def digest_of_bytes(data: bytes) -> str:
    """Digest of a file with this content."""
    return f"{_START}{hashlib.blake2b(data, digest_size=20).hexdigest()}"


def digest_of_text(text: str) -> str:
    """Digest of a text, in the same form."""
    return digest_of_bytes(text.encode("utf-8", "backslashreplace"))


class Digests:
    """The digests of a project's files.

    :param root: the project root; paths are kept relative to it.
    """

    def __init__(self, root: Path) -> None:
        self._root = str(root) + os.sep
        self._file = root / "runs" / NAME
        self._known: dict[str, tuple[Stat, int, str]] | None = None
        self._new: dict[str, None] = {}
        self._lines = 0

    def of(self, path: str | os.PathLike[str]) -> str | None:
        """The digest of a file, ``None`` if there is no file. A relative path is one below the root."""
        name = os.fspath(path).removeprefix(self._root)
        path = os.path.join(self._root, name)
        known = self._load()
        for _ in range(_ATTEMPTS):
            moment = time.time_ns()
            try:
                info = os.stat(path)
                if not stat_bits.S_ISREG(info.st_mode):
                    return None
                stat = stat_of(info)
                entry = known.get(name)
                if entry is not None and entry[0] == stat and not may_change_unseen(stat, entry[1]):
                    return entry[2]
                result = digest(path)
                if stat_of(os.stat(path)) == stat:
                    break
            except (FileNotFoundError, NotADirectoryError):
                return None
            except OSError as error:
                return f"unreadable: {error.strerror}"
        else:
            return "changing"
        known[name] = stat, moment, result
        self._new[name] = None
        return result

    def save(self) -> None:
        """Keep what was learnt for the next process. Without ``runs``, or on a full disk, nothing is kept."""
        if self._known is None or not self._new:
            return
        outdated = self._lines > 2 * len(self._known) + 1000  # most of the file
        names = self._known if outdated else self._new
        data = "".join(f"{json.dumps([name, *self._known[name]])}\n" for name in names).encode()
        file = self._file.with_name(f".{NAME}.{uuid.uuid4().hex}.tmp") if outdated else self._file
        with contextlib.suppress(OSError):
            descriptor = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT | _PLAIN, 0o666)
            try:
                os.write(descriptor, data)
            finally:
                os.close(descriptor)
            if outdated:
                os.replace(file, self._file)
        self._new.clear()

    def _load(self) -> dict[str, tuple[Stat, int, str]]:
        if self._known is None:
            self._known = {}
            try:
                lines = regular.read_bytes(self._file).splitlines()
            except OSError:
                lines = []
            self._lines = len(lines)
            for line in lines:
                with contextlib.suppress(
                    ValueError, TypeError, OverflowError, RecursionError
                ):  # cut short, or not ours
                    name, stat, moment, result = json.loads(line)
                    self._known[name] = (tuple(stat), int(moment), str(result))
        return self._known


_PLAIN: Final = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)  # nor a pipe without a reader
_projects: dict[Path, Digests] = {}


def of_project(root: Path) -> Digests:
    """The digests that this process knows of a project."""
    if root not in _projects:
        _projects[root] = Digests(root)
    return _projects[root]
