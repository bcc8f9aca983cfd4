"""A failed run as pytest's own representation objects, so that styles, colours and xdist work.

The objects come from pytest's public ``ExceptionInfo.getrepr``; their lines and places are replaced by
those of the flow. xdist sends exactly these objects from workers, so nothing is lost on the way.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from pytest_ductaflow.errors import EXPECTATION_ERROR, describe_error
from pytest_ductaflow.printable import coloured, plain
from pytest_ductaflow.report import failure


def represent(
    excinfo: pytest.ExceptionInfo[BaseException],
    error: dict[str, Any],
    sections: Iterable[tuple[str, str]],
    *,
    style: str,
    place: str,
    root: Path,
) -> Any:
    """The representation of a recorded error.

    :param excinfo: the exception that stands for it in this process.
    :param error: the record's error. :param sections: title and text of what stands below it.
    :param style: pytest's ``--tb``. :param place: the id, for the style that shows none.
    :param root: the project root, to read source lines from.
    """
    shown = excinfo.getrepr(style="long")
    crash, trace = shown.reprcrash, shown.reprtraceback
    assert crash is not None
    crash.path, crash.lineno = str(error.get("file")), error.get("line") or 1
    if style == "line":  # pytest prints file and line before it, and no id
        said = {key: error.get(key) for key in ("type", "message")}
        crash.message = f"{plain(describe_error(said))} ({place})"
    else:
        crash.message = plain(_in_summary(error))
    trace.extraline = None
    trace.reprentries = _entries(trace.reprentries[-1], crash, error, style, root)
    if style != "line":
        for title, text in sections:
            shown.addsection(title, text)
    return shown


def _in_summary(error: dict[str, Any]) -> str:
    """What pytest's short summary says behind the id, and cuts to the terminal's width."""
    if error.get("type") == EXPECTATION_ERROR:  # where it is expected says less than what
        return str(error.get("message", "")).partition("\n")[0]
    return describe_error(error)


def _entries(template: Any, crash: Any, error: dict[str, Any], style: str, root: Path) -> list[Any]:
    def entry(lines: list[str], place: Any = None) -> Any:
        made = copy.copy(template)
        made.lines, made.reprfileloc = lines, place
        made.reprfuncargs = made.reprlocals = None
        made.style = "short" if style == "short" else "long"
        return made

    message = failure.error_lines(error)
    if style == "native" and error.get("traceback"):
        return [entry(coloured(str(error["traceback"])).splitlines())]
    frames = failure.frames(error, root)
    if style == "line" or not frames:
        return [entry(message)]
    entries = []
    for frame in frames:
        place = copy.copy(crash)
        last = frame is frames[-1]
        place.path, place.lineno = frame.file, frame.line
        place.message = str(error.get("type")) if last and style != "short" else f"in {frame.function}"
        lines = list(frame.source)
        if style == "short":
            lines = [f"    {line[1:].strip()}" for line in lines if line.startswith(">")]
        entries.append(entry(lines + (message if last else []), place))
    return entries
