"""The status page: one self-contained HTML file, builds with their flows nested, from the records."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from pytest_ductaflow import strict_json
from pytest_ductaflow.capture import last_lines
from pytest_ductaflow.digests import digest_of_text
from pytest_ductaflow.errors import RecordError, describe_error
from pytest_ductaflow.record import CLI_OUTPUT_NAME, RECORD_NAME, Record, RunDirectory, now, runs_below
from pytest_ductaflow.status import Status, worst

#: Changes with what a page shows of the same records.
_LOOK: Final = "1"
#: So many bytes of a page hold its head.
_HEAD: Final = 1000
#: What may be another status tomorrow although its record is the same.
_UNSETTLED: Final = (Status.RUNNING, Status.INTERRUPTED)
_SYMBOLS = {"green": "●", "orange": "▲", "red": "✖", "running": "◌"}


@dataclass
class _Row:
    """One run on the page; ``runs`` are those nested in it."""

    name: str
    status: Status
    path: str
    flow: str = ""
    duration: float | None = None
    warnings: list[str] = field(default_factory=list)
    warning_count: int = 0
    error: str = ""
    traceback: str = ""
    config: str = ""
    output: list[str] = field(default_factory=list)
    links: list[tuple[str, str]] = field(default_factory=list)
    runs: list[_Row] = field(default_factory=list)

    @property
    def light(self) -> str:
        return self.status.light

    @property
    def symbol(self) -> str:
        return _SYMBOLS[self.light]


def generate_status_report(
    results: Sequence[Mapping[str, Any]] | None = None,
    model_root: str | os.PathLike[str] = "runs",
) -> str:
    """The status page of the runs below a directory, as an HTML string.

    :param results: a conductor's results: mappings with ``scenario`` (the instance's name), ``status`` and
        maybe ``error``. They choose and order the rows. What the record says counts; a result that says
        success and has no record to prove it is red. Without results the page shows every run.
    :param model_root: the directory; links on the page are relative to the page standing in it.
    """
    import jinja2  # at the point of use: only whoever renders needs it

    root = Path(model_root)
    records = _fingerprint(root)
    rows = _rows(root)
    if results is not None:
        rows = [_result_row(result, rows) for result in results]
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("pytest_ductaflow.report", ""), autoescape=True, trim_blocks=True
    )
    settled = results is None and not any(row.status in _UNSETTLED for row in _all(rows))
    page = environment.get_template("status.html.j2").render(
        rows=rows,
        counts=Counter(row.light for row in rows),
        symbols=_SYMBOLS,
        generated=now(),
        records=records if settled else "",
    )
    return page.encode("utf-8", "replace").decode()  # a message may hold a lone surrogate


def is_current(page: Path) -> bool:
    """Whether a page shows the runs beside it as they are: none was executed, removed or added since."""
    try:
        with open(page, "rb") as file:
            head = file.read(_HEAD)
    except OSError:
        return False
    return f'<meta name="ductaflow-records" content="{_fingerprint(page.parent)}">'.encode() in head


def _fingerprint(root: Path) -> str:
    """Of which records there are, and when each was written."""
    found: list[str] = []
    for folder, folders, names in os.walk(root):
        folders.sort()
        if RECORD_NAME in names:
            info = os.stat(os.path.join(folder, RECORD_NAME))
            found.append(f"{folder} {info.st_mtime_ns} {info.st_ino} {info.st_size}")
    return digest_of_text("\n".join([_LOOK, *found]))


def _all(rows: Sequence[_Row]) -> Iterator[_Row]:
    for row in rows:
        yield row
        yield from _all(row.runs)


def _rows(root: Path) -> list[_Row]:
    """All runs below a directory, nested runs in their builds."""
    top: list[_Row] = []
    open_rows: list[tuple[Path, _Row]] = []
    for path, record in runs_below(root):
        while open_rows and not path.is_relative_to(open_rows[-1][0]):
            open_rows.pop()
        try:
            row = _row(path, record, root)
        except Exception as problem:  # whatever is wrong with one record, the others are to be seen
            text = f"{path / RECORD_NAME}: damaged: {type(problem).__name__}: {problem}"
            row = _row(path, RecordError(text), root)
        (open_rows[-1][1].runs if open_rows else top).append(row)
        open_rows.append((path, row))
    return top


def _row(path: Path, record: Record | RecordError, root: Path) -> _Row:
    relative = path.relative_to(root).as_posix()
    if isinstance(record, RecordError):
        return _Row(path.name, Status.ERROR, relative, error=str(record))
    names = RunDirectory(path, Path(record.flow).stem)
    output = names.output if names.output.exists() else path / CLI_OUTPUT_NAME
    files = (("notebook", names.notebook), ("config", names.config), ("log", output), ("html", names.html))
    error = record.error or {}
    return _Row(
        name=record.instance,
        status=record.light,
        path=relative,
        flow=record.flow,
        duration=record.duration,
        warnings=[str(warning["text"]) for warning in record.warnings[:100]],
        warning_count=len(record.warnings),
        error=describe_error(error) if error else "",
        traceback="" if error.get("run") else str(error.get("traceback", "")),  # its flow's row has it
        config=strict_json.dumps(strict_json.redact(record.config)),
        output=last_lines(output, 20) if record.light is not Status.SUCCESS else [],
        links=[(label, quote(f"{relative}/{file.name}")) for label, file in files if file.exists()],
    )


def _result_row(result: Mapping[str, Any], rows: list[_Row]) -> _Row:
    """The row of a conductor's result; of several runs of one name the worst. A stated failure stays one."""
    name = str(result.get("scenario", result.get("instance", "")))
    found = [row for row in rows if row.name == name]
    if not found:
        stated = str(result.get("error") or "no record of this run was found")
        return _Row(name, Status.ERROR, "", error=stated)
    overall = worst([row.status for row in found])
    row = next(row for row in found if row.status is overall)
    if result.get("status") in ("failed", "error") and not row.status.is_red:
        return replace(row, status=Status.ERROR, error=str(result.get("error") or "failed"))
    return row
