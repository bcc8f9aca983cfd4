"""Data frames and table files as rows of plain Python values. The only place that reads tables."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pytest_ductaflow import regular, strict_json
from pytest_ductaflow.csv_tables import ERROR_VALUES, check_headings, read_csv
from pytest_ductaflow.errors import ConfigError

if TYPE_CHECKING:
    import pandas


def read_table(path: Path) -> list[dict[str, Any]]:
    """The rows of a ``.csv``, ``.parquet`` or ``.xlsx`` file; an empty cell is ``None``.

    Integers stay integers beside empty cells. A CSV cell's type is that of its column; cells of the other
    kinds have types of their own. A data frame's index counts as columns if it has a name.

    :raises ConfigError: if it is no table, is empty, a cell has no JSON type or it is not certain what it
        means (naming row and column).
    """
    kind = path.suffix.lower()
    if kind not in _READERS:
        raise ConfigError("is not a table: .csv, .parquet or .xlsx")
    if not path.exists():
        raise ConfigError("does not exist")
    try:
        rows = _READERS[kind](path)
    except ConfigError:
        raise
    except ImportError as error:
        raise ConfigError(
            f"needs another package: {error} (pip install 'pytest-ductaflow[tables]')"
        ) from None
    except OSError as error:
        raise ConfigError(f"cannot be read as a table: {error.strerror or error}") from None
    except Exception as error:  # the readers raise many types; their text is what helps
        raise ConfigError(f"cannot be read as a table: {error}") from None
    if not rows:
        raise ConfigError("the table is empty")
    for number, row in rows:
        try:
            strict_json.check_types(row)
        except ConfigError as error:
            raise ConfigError(f"row {number}: {error}") from None
    return [row for _, row in rows]


def _read_parquet(path: Path) -> list[tuple[int, dict[str, Any]]]:
    import pandas as pd  # slow to import, and only tables need it

    frame = pd.read_parquet(io.BytesIO(regular.read_bytes(path)), dtype_backend="numpy_nullable")
    if not isinstance(frame.index, pd.RangeIndex) or frame.index.name is not None:
        if any(name is None for name in frame.index.names):
            raise ConfigError(
                "has an index without a name: name it (`label` names the scenarios), "
                "or write the table with index=False"
            )
        frame = with_index(frame)
    check_headings(list(frame.columns))
    return list(enumerate(records(frame), 2))


def _read_xlsx(path: Path) -> list[tuple[int, dict[str, Any]]]:
    import openpyxl  # slow to import, and only workbooks need it

    # What the cells hold, and what they showed when a spreadsheet program saved the file.
    data = regular.read_bytes(path)
    sheets = openpyxl.load_workbook(io.BytesIO(data)).worksheets
    saved = openpyxl.load_workbook(io.BytesIO(data), data_only=True)
    filled = [sheet for sheet in sheets if any(cell.value is not None for row in sheet for cell in row)]
    if len(filled) > 1:
        names = ", ".join(repr(sheet.title) for sheet in filled)
        raise ConfigError(f"has several sheets: {names}: keep the scenarios in a workbook of their own")
    if not filled:
        return []
    values = saved[filled[0].title]
    lines = [line for line in filled[0].iter_rows() if any(cell.value is not None for cell in line)]
    used = [index for index in range(len(lines[0])) if any(line[index].value is not None for line in lines)]
    cells = [lines[0][index].value for index in used]
    headings = [cell.strip() if isinstance(cell, str) else cell for cell in cells]
    check_headings(headings)
    rows = []
    for line in lines[1:]:
        shown = {
            name: _cell_of(line[index], values[line[index].coordinate], name)
            for index, name in zip(used, headings, strict=True)
        }
        rows.append((line[0].row, shown))
    return rows


def _cell_of(cell: Any, saved: Any, name: str) -> Any:
    """A cell's value; of a formula what it was when a spreadsheet program saved the file."""
    place, value = f"row {cell.row}, {name}", saved.value
    if saved.data_type == "e" or (isinstance(value, str) and value in ERROR_VALUES):
        raise ConfigError(f"{place}: {value} is a spreadsheet's error, not a value")
    if value is None and cell.data_type == "f":
        raise ConfigError(
            f"{place}: the formula has no value in the file: open it in a spreadsheet program and save it"
        )
    if isinstance(value, float) and value.is_integer():
        return int(value)  # a spreadsheet knows no whole numbers, and shows this one as such
    return None if value == "" else value


_READERS: Final[dict[str, Callable[[Path], list[tuple[int, dict[str, Any]]]]]] = {
    ".csv": read_csv,
    ".parquet": _read_parquet,
    ".xlsx": _read_xlsx,
}


def with_index(frame: pandas.DataFrame) -> pandas.DataFrame:
    """The frame with the named levels of its index as columns; a column of that name goes before."""
    levels = {
        str(name): frame.index.get_level_values(position).to_series(index=frame.index)
        for position, name in enumerate(frame.index.names)
        if name is not None and name not in frame.columns
    }
    return frame.assign(**levels)[[*levels, *frame.columns]] if levels else frame


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
