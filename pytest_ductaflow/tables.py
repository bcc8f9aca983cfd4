"""Data frames and table files as rows of plain Python values. The only place that reads tables."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_ductaflow import strict_json
from pytest_ductaflow.errors import ConfigError

if TYPE_CHECKING:
    import pandas


def read_table(path: Path) -> list[dict[str, Any]]:
    """The rows of a ``.csv``, ``.parquet`` or ``.xlsx`` file; an empty cell is ``None``.

    Integers stay integers beside empty cells, and text like ``NA`` stays text.

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
        ".csv": lambda **more: pd.read_csv(path, index_col=False, **literal, **more),
        ".parquet": lambda **more: pd.read_parquet(path, **more),
        ".xlsx": lambda **more: pd.read_excel(path, **literal, **more),
    }
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)  # more cells than headings
            frame = readers[kind](dtype_backend="numpy_nullable")
            headings = list(frame.columns)
            if kind != ".parquet":  # pandas renames the second of two equal headings
                headings = readers[kind](header=None, nrows=1, dtype=str).iloc[0].tolist()
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
    rows = records(frame)
    for number, row in enumerate(rows, 2):
        try:
            strict_json.check_types(row)
        except ConfigError as error:
            raise ConfigError(f"row {number}: {error}") from None
    return rows


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
