"""This session against an older copy of the runs: lights, measures, durations."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from pytest_ductaflow.expectations import are_equal
from pytest_ductaflow.printable import plain
from pytest_ductaflow.report import rows
from pytest_ductaflow.report.rows import Place, Row
from pytest_ductaflow.status import Status
from pytest_ductaflow.xfail import XFAILED

#: What is compared of each run.
_COMPARED: Final = ("light", "seconds", "measures")
#: Characters of a text measure in a line.
_LENGTH: Final = 60


def load(runs: Path) -> dict[str, Any]:
    """What the page needs of a directory with older runs: ``path``, and ``rows`` by their path."""
    place = Place(runs.parent, runs)
    found = rows.read_all(runs, place)
    return {
        "path": os.path.relpath(runs),
        "rows": {row["path"]: {key: row[key] for key in _COMPARED if key in row} for row in found},
    }


def lines(now: Sequence[Row], before: Mapping[str, Any]) -> list[str]:
    """The differences in words: one line for each instance whose light or measures differ, safe to print."""
    older = before["rows"]
    paths = {row["path"] for row in now}
    found = [line for row in now for line in _of(row, older.get(row["path"]))]
    gone = [path for path in older if path not in paths]
    found += [f"{path}: only in {before['path']}" for path in gone]
    return [plain(line) for line in found]


def _of(row: Row, older: Mapping[str, Any] | None) -> Iterator[str]:
    if older is None:
        yield f"{row['path']}: not in the older runs"
        return
    light = Status.ERROR.light if row["light"] == XFAILED else row["light"]  # older runs know of no marks
    changes = [f"{older['light']} → {light}"] if older["light"] != light else []
    measures, earlier = row.get("measures", {}), older.get("measures", {})
    for name in {**earlier, **measures}:
        if not are_equal(measures.get(name), earlier.get(name)):
            unit = row.get("units", {}).get(name, "")
            changes.append(f"{name} {_change(earlier.get(name), measures.get(name), unit)}")
    if changes:
        yield f"{row['path']}: {', '.join(changes)}"


def _change(earlier: Any, value: Any, unit: str) -> str:
    """``18.2 → 24.6 min (+35.2%)``."""
    unit = f" {unit}" if unit else ""
    if earlier is None:
        return f"{_text(value)}{unit} (new)"
    if value is None:
        return f"{_text(earlier)} (gone)"
    texts = [_text(earlier), _text(value)]
    if texts[0] == texts[1]:  # the difference is in a later digit
        texts = [repr(earlier), repr(value)]
    numbers = all(isinstance(one, (int, float)) and not isinstance(one, bool) for one in (earlier, value))
    return " → ".join(texts) + unit + (f" ({_percent(earlier, value)})" if numbers and earlier else "")


def _percent(earlier: float, value: float) -> str:
    change = 100 * (value - earlier) / abs(earlier)
    return f"{change:+.1f}%" if 0.05 <= abs(change) < 1e6 else f"{change:+.1g}%"


def _text(value: Any) -> str:
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return text if len(text) <= _LENGTH else f"{text[: _LENGTH - 1]}…"
