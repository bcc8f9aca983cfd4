"""Data frames and table files as rows of plain Python values. The only place that reads tables."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pytest_ductaflow import strict_json
from pytest_ductaflow.errors import ConfigError

if TYPE_CHECKING:
    import pandas


def read_table(path: Path) -> list[dict[str, Any]]:
    """The rows of a ``.csv``, ``.parquet`` or ``.xlsx`` file; an empty cell is ``None``.

    Integers stay integers beside empty cells; a CSV column is of numbers or truth values only if all its
    cells are; texts like ``NA`` or ``00123`` stay texts. Cells of the other kinds have types of their own.

    :raises ConfigError: if it is no table, is empty, or a cell has no JSON type (naming row and column).
    """
    kind = path.suffix.lower()
    if kind not in (".csv", ".parquet", ".xlsx"):
        raise ConfigError("is not a table: .csv, .parquet or .xlsx")
    if not path.is_file():
        raise ConfigError("does not exist")
    import pandas as pd  # slow to import, and only tables need it

    literal: dict[str, Any] = {"keep_default_na": False, "na_values": [""]}
    readers: dict[str, Callable[..., pandas.DataFrame]] = {
        ".csv": lambda **more: pd.read_csv(path, index_col=False, dtype=str, **literal, **more),
        ".parquet": lambda **more: pd.read_parquet(path, dtype_backend="numpy_nullable", **more),
        ".xlsx": lambda **more: pd.read_excel(path, dtype=object, **literal, **more),
    }
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)  # more cells than headings
            frame = readers[kind]()
            headings = list(frame.columns)
            if kind != ".parquet":  # pandas renames the second of two equal headings
                headings = readers[kind](header=None, nrows=1).iloc[0].tolist()
    except ImportError as error:
        raise ConfigError(f"needs another package: {error}") from None
    except pd.errors.EmptyDataError:
        raise ConfigError("the table is empty") from None
    except Exception as error:  # the readers raise many types; their text is what helps
        raise ConfigError(f"cannot be read as a table: {error}") from None
    if frame.empty:
        raise ConfigError("the table is empty")
    if len(set(map(str, headings))) < len(headings) or not all(isinstance(name, str) for name in headings):
        raise ConfigError(f"needs distinct text headings: {headings}")
    if kind == ".csv":
        try:
            frame = frame.apply(_typed)
        except ValueError as error:  # thousands of digits
            raise ConfigError(f"has a number that is too long: {error}") from None
    rows = records(frame)
    for number, row in enumerate(rows, 2):
        try:
            strict_json.check_types(row)
        except ConfigError as error:
            raise ConfigError(f"row {number}: {error}") from None
    return rows


def _typed(column: pandas.Series[Any]) -> pandas.Series[Any]:
    """A CSV column of texts with the type that all its cells have; ``00123`` is a text, and stays one."""
    cells = column.dropna().tolist()
    for pattern, convert in _TYPES:
        if cells and all(pattern.fullmatch(cell) for cell in cells):
            values = [convert(cell) if isinstance(cell, str) else None for cell in column]
            return type(column)(values, index=column.index, dtype=object)
    return column.astype(object)


def _boolean(text: str) -> bool:
    return text.lower() == "true"


_TYPES: Final[tuple[tuple[re.Pattern[str], Callable[[str], Any]], ...]] = (
    (re.compile(r"[+-]?(0|[1-9][0-9]*)"), int),
    (
        re.compile(
            r"[+-]?((0|[1-9][0-9]*)(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?|[+-]?inf|nan", re.IGNORECASE
        ),
        float,
    ),
    (re.compile(r"true|false", re.IGNORECASE), _boolean),
)


def records(frame: pandas.DataFrame) -> list[dict[str, Any]]:
    """Rows as Python values. Missing is ``None``, but ``NaN`` in a numpy float column stays ``NaN``."""
    import numpy as np

    columns: dict[str, list[Any]] = {}
    for name, column in frame.items():
        values = column.astype(object).tolist()
        if not (isinstance(column.dtype, np.dtype) and column.dtype.kind == "f"):
            missing = column.isna().tolist()
            values = [None if gone else value for value, gone in zip(values, missing, strict=True)]
        columns[str(name)] = [value.item() if isinstance(value, np.generic) else value for value in values]
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
