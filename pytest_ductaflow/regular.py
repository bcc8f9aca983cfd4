"""Reading files that may be something else: opening a pipe would wait for somebody to write to it."""

from __future__ import annotations

import errno
import io
import os
import stat
from typing import BinaryIO


def open_file(path: str | os.PathLike[str], buffering: int = -1) -> BinaryIO:
    """Open a regular file to read bytes.

    :param buffering: as for :func:`open`.
    :raises OSError: if it cannot be read, or is a pipe, a socket or a device.
    """
    return open(path, "rb", buffering, opener=_opener)


def is_special(path: str | os.PathLike[str]) -> bool:
    """Whether there is something that is neither a regular file nor a directory: a pipe, a device."""
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def _opener(path: str, flags: int) -> int:
    descriptor = os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode):
        return descriptor
    os.close(descriptor)
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    raise OSError(errno.EINVAL, "is not a regular file", path)


def read_bytes(path: str | os.PathLike[str], size: int = -1) -> bytes:
    """The content of a regular file.

    :param size: so many bytes at most; by default all.
    :raises OSError: as :func:`open_file` does.
    """
    with open_file(path) as file:
        return file.read(size)


def read_text(path: str | os.PathLike[str], encoding: str = "utf-8", errors: str = "strict") -> str:
    """The text of a regular file, with ``\\n`` at the end of each line.

    :raises OSError: as :func:`open_file` does. :raises UnicodeDecodeError: if it is no text.
    """
    with io.TextIOWrapper(open_file(path), encoding, errors) as file:
        return file.read()
