"""All runs as a data frame."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pytest_ductaflow.errors import RecordError, describe_error
from pytest_ductaflow.leftovers import currency
from pytest_ductaflow.record import Record, runs_below
from pytest_ductaflow.status import Status

if TYPE_CHECKING:
    import pandas


def load_runs(runs_dir: str | os.PathLike[str] = "runs", *, current: bool = False) -> pandas.DataFrame:
    """All runs below a directory as a data frame, one row a run, nested runs included.

    Columns: ``directory``, ``parent`` (the build's directory, or None), ``kind``, ``flow``,
    ``instance``, ``node_id``, ``status``, ``light``, ``duration`` (s), ``warnings`` (count), ``error``
    (one line), ``started``, ``ended``, ``current`` (False for a leftover, a run of an instance that the
    project no longer has, and for runs nested in it; None where that is not known: no pytest session has
    run there, or an instance file is in error), then one column for each config key (nested keys with dots; a
    key with the name of a column above is prefixed ``config.``), then one for each measure with its
    values: the measure's name, or ``measure.<name>`` if there is such a column already.

    :param runs_dir: the directory of all runs, or one below it.
    :param current: leave leftovers out. They are not read then, so a flow that asks for this depends on
        none of them.
    :raises RecordError: if ``current`` is asked for and it is not known which runs are.
    """
    root = Path(runs_dir)
    is_current = currency(root)
    if current and isinstance(is_current, str):
        raise RecordError(f"it is not known which runs are current: {is_current}")
    wanted = is_current if current and not isinstance(is_current, str) else lambda _: True
    return frame_of(runs_below(root, wanted), is_current)


def frame_of(
    runs: Iterable[tuple[Path, Record | RecordError]], is_current: Callable[[Path], bool] | str
) -> pandas.DataFrame:
    """Runs as a data frame, as :func:`load_runs` describes it. A build comes before what is nested in it.

    :param is_current: says of a run directory whether it is current; a text if that is not known.
    """
    import pandas as pd

    rows: list[dict[str, Any]] = []
    measured: list[dict[str, Any]] = []  # of each row
    parents: list[Path] = []
    by_hand: dict[Path, bool] = {}
    for path, record in runs:
        while parents and not path.is_relative_to(parents[-1]):
            parents.pop()
        row: dict[str, Any] = dict.fromkeys(_COLUMNS)
        row |= {"directory": path.as_posix(), "parent": parents[-1].as_posix() if parents else None}
        if isinstance(record, RecordError):
            row |= {"instance": path.name, "status": Status.ERROR.value, "light": "red", "error": str(record)}
        else:
            row |= {key: getattr(record, key) for key in _COLUMNS if hasattr(record, key)}
            row |= {
                "light": record.light.light,
                "warnings": len(record.warnings),
                "error": describe_error(record.error) if record.error else None,
            }
            for key, value in _flatten(record.config).items():
                while key in row:
                    key = f"config.{key}"
                row[key] = value
        by_hand[path] = row["node_id"] is None and all(by_hand[parent] for parent in parents)
        row["current"] = is_current(path) if not isinstance(is_current, str) else by_hand[path] or None
        parents.append(path)
        rows.append(row)
        measures = {} if isinstance(record, RecordError) else record.measures
        measured.append({name: measure["value"] for name, measure in measures.items()})
    _add_measures(rows, measured)
    frame = pd.DataFrame(rows, columns=None if rows else list(_COLUMNS))
    for name in ("parent", "node_id", "error"):  # a missing text is None, not NaN
        frame[name] = pd.Series([row[name] for row in rows], dtype=object)
    return frame


def _add_measures(rows: list[dict[str, Any]], measured: list[dict[str, Any]]) -> None:
    """Add the measures to the rows, each under one name in all of them."""
    taken = {*_COLUMNS, *(key for row in rows for key in row)}
    columns: dict[str, str] = {}
    for name in dict.fromkeys(name for measures in measured for name in measures):
        column = name
        while column in taken:
            column = f"measure.{column}"
        taken.add(column)
        columns[name] = column
    for row, measures in zip(rows, measured, strict=True):
        row |= {columns[name]: value for name, value in measures.items()}


_COLUMNS: Final = (
    "directory",
    "parent",
    "kind",
    "flow",
    "instance",
    "node_id",
    "status",
    "light",
    "duration",
    "warnings",
    "error",
    "started",
    "ended",
    "current",
)


def _flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, dict) and value:
            for inner, item in _flatten(value, f"{prefix}{key}.").items():
                flat[inner if inner not in flat else f"{inner}'"] = item
        elif key != "_project_root":
            name = prefix + key
            flat[name if name not in flat else f"{name}'"] = value
    return flat
