"""A run directory as the page shows it: plain JSON, as little of it as tells what happened.

A row is an object with the keys below; empty ones are left out. Times are Unix seconds, durations
seconds, paths relative to the directory of the runs.

``path`` (its key), ``id`` (node id), ``name``, ``light``, ``flow``, ``kind``, ``session``, ``scenario``,
``start``, ``seconds``, ``worker`` (process id until the worker's name is known), ``warned`` (count),
``warnings``, ``measures``, ``units``, ``judged`` (measures to light and reason), ``cells``, ``timings``,
``error``, ``config``, ``output``, ``files``, ``figures``, ``needs`` (paths of the runs whose outputs it
read), ``runs`` (rows of nested runs), ``xfail`` (what a mark ``xfail`` made of it, and the mark's reason),
``stamp`` (of the record that the row was made of).
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from pytest_ductaflow import figures, regular, strict_json
from pytest_ductaflow.capture import last_lines
from pytest_ductaflow.digests import digest_of_text
from pytest_ductaflow.errors import RecordError
from pytest_ductaflow.record import CLI_OUTPUT_NAME, RECORD_NAME, Record, RunDirectory, read_record
from pytest_ductaflow.report import clusters, failure
from pytest_ductaflow.status import Status

Row = dict[str, Any]

#: Lights, the worst last.
SEVERITY: Final = ("waiting", "green", "xfailed", "orange", "running", "red")

#: What a row may hold of long texts. All of them are in the run directory.
_LINES: Final = 20
_LINE: Final = 300
_WARNINGS: Final = 50
_TRACEBACK: Final = 6000
_MESSAGE: Final = 2000
_FRAMES: Final = 10
_VALUE: Final = 1000
#: The largest whole number that a float is sure to hold.
_LARGEST: Final = 2**53 - 1
#: The files of a run that most have; a row names its files only if it has others.
USUAL_FILES: Final = ("notebook", "config", "log")


@dataclass(frozen=True)
class Place:
    """Where runs lie: ``root`` is the project's, ``runs`` the directory of all runs; both absolute."""

    root: Path
    runs: Path


def below(path: Path, place: Place) -> list[Row]:
    """The rows of the runs in a run directory, as far as one finds them without its record."""
    if not path.is_dir():
        return []
    return [row for folder in sorted(path.iterdir()) if folder.is_dir() for row in read_all(folder, place)]


def read_all(path: Path, place: Place) -> list[Row]:
    """The rows of all runs in and below a directory."""
    return [read(found, place) for found in top_level(path)]


def top_level(runs: Path) -> Iterator[Path]:
    """The run directories below a directory that are in no other one, sorted."""
    for folder, folders, names in os.walk(runs):
        folders.sort()
        if RECORD_NAME in names:
            folders.clear()
            yield Path(folder)


def read(path: Path, place: Place) -> Row:
    """The row of a run directory, whatever is wrong with its record."""
    stamp = stamp_of(path)
    try:
        return {**_row(path, read_record(path), place), "stamp": stamp}
    except RecordError as problem:
        text = str(problem)
    except Exception as problem:
        text = f"{path / RECORD_NAME}: damaged: {type(problem).__name__}: {problem}"
    error = {"type": "RecordError", "message": text}
    return {
        "path": _relative(path, place.runs),
        "name": path.name,
        "light": Status.ERROR.light,
        "error": error,
        "files": [],
        "runs": below(path, place),
        "stamp": stamp,
    }


def is_current(row: Row, runs: Path) -> bool:
    """Whether nothing was recorded for this run, or one nested in it, since the row was made."""
    unsettled = row.get("light") == Status.RUNNING.light or "stamp" not in row
    return not unsettled and all(
        part.get("stamp") == stamp_of(Path(os.path.normpath(runs / part["path"]))) for part in parts_of(row)
    )


def parts_of(row: Row) -> Iterator[Row]:
    """The row and those nested in it."""
    yield row
    for nested in row.get("runs", ()):
        yield from parts_of(nested)


def stamp_of(path: Path) -> str:
    """What changes when a record is written."""
    try:
        info = os.stat(path / RECORD_NAME)
    except OSError:
        return ""
    return f"{info.st_mtime_ns:x}-{info.st_ino:x}-{info.st_size:x}"


def running(path: Path, place: Place) -> Row | None:
    """What is to be seen of a run that goes on: cell, last printed line, nested runs. Quick."""
    try:
        record = json.loads(regular.read_bytes(path / RECORD_NAME))
        stem = Path(record["flow"]).stem
        found = {
            "path": _relative(path, place.runs),
            "name": record["instance"],
            "flow": record["flow"],
            "kind": record["kind"],
            "light": Status(record["status"]).light,
            "start": _seconds(record["started"]),
            "worker": record.get("worker") or record["pid"],
            "session": record["session"],
            "cells": record["cells"],
            "seconds": record["duration"],
            "output": _output(path, stem, 3),
        }
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if found["light"] != Status.RUNNING.light:
        return found
    nested = _running_below(path, place) if found["kind"] == "build" else ()
    found["runs"] = sorted(nested, key=lambda row: row["start"])
    return {key: value for key, value in found.items() if value}


def _running_below(path: Path, place: Place) -> Iterator[Row]:
    for folder, folders, names in os.walk(path):
        if RECORD_NAME in names and Path(folder) != path:
            folders.clear()
            if row := running(Path(folder), place):
                yield row


def _row(path: Path, record: Record, place: Place) -> Row:
    names = RunDirectory(path, Path(record.flow).stem)
    light = record.light
    files = {
        "notebook": names.notebook,
        "config": names.config,
        "log": names.output,
        "html": names.html,
        "script's log": path / CLI_OUTPUT_NAME,
    }
    there = [name for name, file in files.items() if file.exists()]
    root = str(record.config.get("_project_root", place.root))
    config = {key: value for key, value in record.config.items() if key != "_project_root"}
    nested = [read(Path(os.path.normpath(path / name)), place) for name in record.runs]
    row = {
        "path": _relative(path, place.runs),
        "id": record.node_id,
        "name": record.instance or path.name,
        "light": light.light,
        "flow": record.flow,
        "kind": record.kind,
        "session": record.session,
        "scenario": shown(record.scenario, root),
        "start": _seconds(record.started),
        "seconds": record.duration,
        "worker": record.worker or record.pid,
        "warned": len(record.warnings),
        "warnings": [_warning(one, record.flow, place) for one in record.warnings[:_WARNINGS]],
        "cells": record.cells if light is not Status.SUCCESS else None,
        "timings": [[timing.get("line"), timing.get("seconds")] for timing in record.timings],
        "error": _error(record, path, place) if record.error else None,
        "config": shown(config, root),
        "output": _output(path, names.stem, _LINES, record.printed),
        "files": None if tuple(there) == USUAL_FILES else there,
        "figures": [f"{_relative(path, place.runs)}/{name}" for name in figures.of_run(names.notebook)],
        "needs": _needs(record, path, place),
        "runs": nested or (below(path, place) if record.kind == "build" else []),
        **_measures(record),
    }
    return {key: value for key, value in row.items() if value or (key == "files" and value is not None)}


def shown(values: Mapping[str, Any], root: str = "") -> dict[str, Any]:
    """A config or scenario without its secrets, and with a long value as the beginning of its JSON.

    Two long values that differ are still two: their digests are shown.

    :param root: the project's root; references below it are shown as an instance file writes them.
    """
    found = strict_json.redact(dict(values))
    return {key: _shown(_as_written(value, f"{root}/") if root else value) for key, value in found.items()}


def _as_written(value: Any, root: str) -> Any:
    if isinstance(value, dict):
        return {key: _as_written(one, root) for key, one in value.items()}
    if isinstance(value, list):
        return [_as_written(one, root) for one in value]
    return value.removeprefix(root) if isinstance(value, str) else value


def _shown(value: Any) -> Any:
    text = value if isinstance(value, str) else json.dumps(value)
    if len(text) <= _VALUE:
        return _exact(value)
    return f"{text[:_LINE]}… ({len(text):,} characters, {digest_of_text(text)[-8:]})"


def _exact(value: Any) -> Any:
    """The value with whole numbers as texts that JavaScript, whose numbers are floats, would round."""
    if isinstance(value, dict):
        return {key: _exact(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_exact(one) for one in value]
    return str(value) if isinstance(value, int) and abs(value) > _LARGEST else value


def _needs(record: Record, path: Path, place: Place) -> list[str]:
    """The instances whose outputs a run read."""
    own = _relative(path, place.runs)
    read_below = (name.split("/") for name in record.inputs if name.startswith(f"{place.runs.name}/"))
    needed = {"/".join(parts[1:3]) for parts in read_below if len(parts) > 3}
    return sorted(one for one in needed if not f"{own}/".startswith(f"{one}/"))  # it is no part of them


def _measures(record: Record) -> Row:
    found = record.measures.items()
    return {
        "measures": {name: _exact(measure["value"]) for name, measure in found},
        "units": {name: measure["unit"] for name, measure in found if measure["unit"]},
        "judged": {one["measure"]: [one["light"], one["text"]] for one in record.expectations},
    }


def _warning(warning: dict[str, Any], flow: str, place: Place) -> Row:
    kept = {key: warning[key] for key in ("line", "cell") if warning.get(key) is not None}
    where = clusters.place_of_warning(warning, flow, place.root)
    return {"text": str(warning["text"])[:_LINE], "place": where, **kept}


def _error(record: Record, path: Path, place: Place) -> Row:
    """What failed, and where; source lines as they are now, unless they changed since."""
    error = record.error or {}
    shown: Row = {
        "type": _short(str(error.get("type", "Error"))),
        "message": str(error.get("message", ""))[:_MESSAGE],
    }
    if error.get("run"):  # a flow's failure, which that flow's row explains
        shown["run"] = _relative(Path(error["run"]), place.runs)
    if error.get("file") and error.get("line"):
        shown["place"] = f"{error['file']}:{error['line']}"
    if error.get("cell") is not None:
        shown["cell"] = error["cell"]
    if error.get("run"):
        return shown
    ended = _seconds(record.ended or record.started) or 0
    frames = failure.frames(error, place.root)
    shown["frames"] = [
        {"place": f"{frame.file}:{frame.line}", "in": frame.function, "source": [*map(_short, frame.source)]}
        for frame in [*frames[:-_FRAMES][:1], *frames[-_FRAMES:]]  # of an endless recursion there are many
        if _last_change(place.root / frame.file) <= ended
    ]
    shown["traceback"] = str(error.get("traceback", ""))[-_TRACEBACK:]
    return {key: value for key, value in shown.items() if value not in (None, "", [])}


def _last_change(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0


def _output(path: Path, stem: str, count: int, printed: int | None = None) -> list[str]:
    file = RunDirectory(path, stem).output
    lines = last_lines(file if file.exists() else path / CLI_OUTPUT_NAME, count, printed)
    return [_short(line) for line in lines]


def _short(line: str) -> str:
    return line if len(line) <= _LINE else line[: _LINE - 1] + "…"


def _relative(path: Path, runs: Path) -> str:
    return Path(os.path.relpath(path, runs)).as_posix()


def _seconds(time: str | None) -> float | None:
    try:
        return round(datetime.fromisoformat(time).timestamp(), 3) if time else None
    except ValueError:
        return None
