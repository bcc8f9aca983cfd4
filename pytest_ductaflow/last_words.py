"""How a run ended, in lines that a search over text files finds.

The text file of a red run ends with its error: ``❌ Failed`` below the traceback. The record's ``printed``
says where the output of the run itself ends. Files of green and orange runs hold what was printed, no more.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def completed(flow: str, instance: str, seconds: float) -> str:
    """The line for a run that finished.

    :param flow: the stem of its file.
    """
    return f"✅ Completed {flow} | Instance: {instance} | Time: {seconds:.1f}s"


def failed(flow: str, instance: str, error: Mapping[str, Any]) -> str:
    """The line for a red run.

    :param error: the record's.
    """
    first = _described(error).partition("\n")[0].rstrip()
    return f"❌ Failed {flow} | Instance: {instance} | Error: {first}"


def append(
    path: Path, line: str, error: Mapping[str, Any], *, told: bool = False, printed: int | None = None
) -> int:
    """Write the error and the line below what a run printed; give the size of that, in bytes.

    :param told: the traceback stands there already: Python printed it.
    :param printed: the size, if something stands below already; that is replaced.
    :raises OSError: if it cannot be written; the file is as before, then.
    """
    text = f"{line}\n" if told and error.get("traceback") else f"{_in_full(error)}\n{line}\n"
    flags = os.O_RDWR | os.O_APPEND | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0)
    with open(os.open(path, flags), "r+b", buffering=0) as file:
        info = os.fstat(file.fileno())
        if not stat.S_ISREG(info.st_mode):
            raise OSError(0, "it is no file any more")
        size = info.st_size if printed is None else min(printed, info.st_size)
        file.truncate(size)
        file.seek(max(0, size - 1))
        between = b"\n" if size and file.read(1) != b"\n" else b""
        left = memoryview(between + text.encode("utf-8", "backslashreplace"))
        try:
            while left:
                left = left[file.write(left) :]
        except OSError:
            file.truncate(size)
            raise
    return size


def _in_full(error: Mapping[str, Any]) -> str:
    """The traceback if there is one, else where the run was."""
    if error.get("traceback"):
        return str(error["traceback"]).rstrip("\n")
    place = f"{error['file']}:{error['line']}: " if error.get("file") and error.get("line") else ""
    return place + _described(error)


def _described(error: Mapping[str, Any]) -> str:
    kind, message = str(error.get("type") or "Error"), str(error.get("message") or "").strip()
    return f"{kind}: {message}" if message else kind
