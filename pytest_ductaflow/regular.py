"""Reading files that may be something else: opening a pipe would wait for somebody to write to it."""

from __future__ import annotations

import errno
import os
import stat


def read_bytes(path: str | os.PathLike[str], size: int = -1) -> bytes:
    """The content of a regular file.

    :param size: so many bytes at most; by default all.
    :raises OSError: if it cannot be read, or is a pipe, a socket or a device.
    """
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    with open(os.open(path, flags), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "is not a regular file", os.fspath(path))
        return file.read(size)
