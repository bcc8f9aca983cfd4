"""The text of a failed run, in pytest's manner: source lines, the error, where to look, what to do next."""

from __future__ import annotations

import contextlib
import functools
import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pytest_ductaflow import regular, strict_json
from pytest_ductaflow.errors import EXPECTATION_ERROR, RecordError
from pytest_ductaflow.paths import relative
from pytest_ductaflow.printable import coloured, plain
from pytest_ductaflow.record import Record, RunDirectory, read_record

#: Source lines shown above and below the failing one; the failing cell's beginning is cut to fit.
_ABOVE: Final = 25
_BELOW: Final = 3
#: Of a longer line (data in the code) the rest is not shown.
_WIDTH: Final = 1000
_CELL: Final = re.compile(r"^[ \t]*#[ \t]*%%")


@dataclass(frozen=True)
class Frame:
    """One step of a traceback: a place, and the lines around it as pytest prints them."""

    file: str
    line: int
    function: str
    source: tuple[str, ...]


def frames(error: dict[str, Any], root: Path) -> list[Frame]:
    """The steps of a recorded error, from the flow's cell to where it was raised."""
    places = error.get("frames") or []
    if not places and error.get("file") and error.get("line"):
        places = [{"file": error["file"], "line": error["line"], "function": "<module>"}]
    places = [place for place in places if place.get("line") and not _is_library(place["file"])]
    lines = functools.cache(_lines)  # a recursion has a thousand frames in one file
    return [
        Frame(
            place["file"],
            place["line"],
            place.get("function", ""),
            tuple(
                _source(lines(root / place["file"]), place["line"], whole_cell=index == 0 and _is_flow(place))
            ),
        )
        for index, place in enumerate(places)
    ]


def _is_flow(place: dict[str, Any]) -> bool:
    """Whether it is in code, which has cells: not in an instance file."""
    return str(place["file"]).endswith(".py")


def _is_library(file: str) -> bool:
    """Whether a recorded frame is no code of the project: those are relative to its root."""
    return Path(file).is_absolute() or file.startswith("<") or "site-packages" in file


def error_lines(error: dict[str, Any]) -> list[str]:
    """``E   ValueError: …``, all lines of the message; where a library raised it, that place."""
    kind, message = str(error.get("type", "Error")), str(error.get("message", ""))
    if kind == EXPECTATION_ERROR:
        return [f"E   {plain(line)}" for line in message.splitlines()]
    first, *rest = map(plain, (f"{kind}: {message}" if message else kind).splitlines())
    lines = [f"E   {first}", *(f"E     {line}" for line in rest)]
    innermost = (error.get("frames") or [{}])[-1]
    if innermost.get("file") and _is_library(innermost["file"]):
        lines.append(f"(raised in {innermost['file']}:{innermost['line']})")
    return lines


def is_chained(error: dict[str, Any]) -> bool:
    """Whether the traceback has more than the frames show: a cause, a context, or a group."""
    text = str(error.get("traceback", ""))
    return text.count("Traceback (most recent call last)") > 1 or "ExceptionGroup" in text


def sections(
    record: Record, directory: Path, root: Path, *, whole_traceback: bool = False
) -> list[tuple[str, str]]:
    """What stands below the traceback: title and text of each section."""
    error = record.error or {}
    failed_in, failed = _failed_run(record, directory)
    found = []
    if error.get("traceback") and (whole_traceback or is_chained(error)):
        found.append(("traceback", coloured(str(error["traceback"]).rstrip())))
    for step in error.get("via", ()):
        found.append(
            ("raised through", f"{step.get('file')}:{step.get('line')}, in run {relative(directory, root)}")
        )
    config = {key: value for key, value in failed.config.items() if key != "_project_root"}
    found.append(("config", strict_json.dumps(strict_json.redact(config)).rstrip()))
    found.append(("run directory", relative(failed_in, root)))
    next_steps = commands(record, directory, root).items()
    found.append(("reproduce", "\n".join(f"{f'{word}:':<7} {command}" for word, command in next_steps)))
    return found


def commands(record: Record, directory: Path, root: Path) -> dict[str, str]:
    """What to type next: ``re-run`` the instance, ``open`` the notebook of the run that failed."""
    failed_in, failed = _failed_run(record, directory)
    notebook = RunDirectory(failed_in, Path(failed.flow).stem).notebook
    found = {"open": f"jupyter lab {shlex.quote(relative(notebook, root))}"}
    if not record.node_id:
        return found
    # What is red by what is expected of it alone is judged again, but not executed.
    judged = (record.error or {}).get("type") == EXPECTATION_ERROR
    force = "--ductaflow-force " if judged else ""
    return {"re-run": f"pytest {force}{shlex.quote(record.node_id)}", **found}


def _failed_run(record: Record, directory: Path) -> tuple[Path, Record]:
    """The run whose error a record tells: its own, or a nested one."""
    nested = (record.error or {}).get("run")
    if nested:
        with contextlib.suppress(RecordError):
            return Path(nested), read_record(Path(nested))
    return directory, record


def _lines(path: Path) -> list[str]:
    try:
        return regular.read_text(path, errors="replace").split("\n")  # as Python counts lines
    except OSError:
        return []


def _source(text: list[str], line: int, *, whole_cell: bool) -> list[str]:
    """Lines around a place, the place marked with ``>``; of a flow those of its cell.

    :param text: all lines of its file.
    """
    if not 0 < line <= len(text):
        return []
    above = _ABOVE if whole_cell else 5
    first = line
    while first > 1 and line - first < above and not _CELL.match(text[first - 2]):
        first -= 1
    while first < line and not text[first - 1].strip():
        first += 1
    last = line
    while last < len(text) and last - line < _BELOW and not _CELL.match(text[last]):
        last += 1
    while last > line and not text[last - 1].strip():
        last -= 1
    numbered = range(first, last + 1)
    return [
        f"{'>' if number == line else ' '}   {plain(text[number - 1][:_WIDTH].expandtabs())}"
        for number in numbered
    ]
