"""A CSV file as columns of typed values.

CSV has no standard that programs keep to: in half of Europe a spreadsheet writes ``;`` between cells and a
comma in numbers, and people put blanks behind the separator. What the file itself makes certain is taken
as it is meant. Whatever could mean two things is refused with row and column, because a value that is
misread still runs, and is green.
"""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from pytest_ductaflow import regular
from pytest_ductaflow.errors import ConfigError

#: What may stand between cells; a comma unless the headings say otherwise.
_SEPARATORS: Final = (",", ";", "\t", "|")
#: The first line with which a spreadsheet is told the separator.
_SEP_LINE: Final = re.compile(r"sep=(.)\r?\n", re.IGNORECASE)
_INTEGER: Final = re.compile(r"[+-]?(0|[1-9][0-9]*)")
_FLOAT: Final = re.compile(
    r"[+-]?((0|[1-9][0-9]*)(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?|[+-]?inf|nan", re.IGNORECASE
)
_BOOLEAN: Final = re.compile(r"true|false", re.IGNORECASE)
_DECIMAL_COMMA: Final = re.compile(r"[+-]?(0|[1-9][0-9]*)?,[0-9]+([eE][+-]?[0-9]+)?")
#: A number with thousands separators: grouped by threes, perhaps with a decimal sign behind.
_GROUPED: Final = re.compile(
    r"[+-]?[1-9][0-9]{0,2}(?P<mark>[.,'’ \u00a0\u202f])[0-9]{3}((?P=mark)[0-9]{3})*([.,][0-9]+)?"
)
#: What a spreadsheet shows in place of a value that it could not compute.
ERROR_VALUES: Final = frozenset(
    {"#N/A", "#NV", "#REF!", "#DIV/0!", "#VALUE!", "#NAME?", "#NUM!", "#NULL!", "#SPILL!", "#CALC!"}
)


class Row(NamedTuple):
    """A row and its number in the file, as spreadsheets count."""

    number: int
    cells: list[str]


def read_csv(path: Path) -> list[tuple[int, dict[str, Any]]]:
    """The rows of a CSV file with their numbers, as Python values; an empty cell is ``None``.

    A column is of numbers or truth values only if all its cells are; texts like ``NA`` or ``00123`` stay.

    :raises ConfigError: if it is no table, or it is not certain what a cell means (naming row and column).
    """
    text = _decoded(regular.read_bytes(path))
    separator, headings, rows = _table(text)
    headings, rows = _without_empty_columns(headings, rows)
    check_headings(headings)
    columns = {
        name: [_cell(row.cells[index], row.number, name) for row in rows]
        for index, name in enumerate(headings)
    }
    numbers = [row.number for row in rows]
    commas = _DecimalCommas(separator)
    typed = {name: _typed(cells, name, numbers, commas) for name, cells in columns.items()}
    commas.check()
    values = zip(*typed.values(), strict=True)
    return [(number, dict(zip(typed, row, strict=True))) for number, row in zip(numbers, values, strict=True)]


def check_headings(headings: Sequence[Any]) -> None:
    """Refuse headings that are no keys of a config.

    :raises ConfigError: if one is missing, no text, or stands twice.
    """
    if not all(isinstance(name, str) and name for name in headings) or len(set(headings)) < len(headings):
        hint = ""
        if headings and headings[0] in ("", None):
            hint = ". Is the first column a data frame's index? Name it, or write the table with index=False"
        raise ConfigError(f"needs distinct text headings: {list(headings)}{hint}")


# --- the file ------------------------------------------------------------------------------------


def _decoded(data: bytes) -> str:
    utf16 = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        return data.decode("utf-16" if utf16 else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"cannot be read as a table: {error}. Save it as CSV in UTF-8") from None


def _table(text: str) -> tuple[str, list[str], list[Row]]:
    """The separator, the headings and the rows, each with as many cells as there are headings."""
    said = _SEP_LINE.match(text)
    if said:
        separator, text, first = said[1], text[said.end() :], 2
    else:
        separator, first = _separator(text), 1
    rows = _rows(text, separator, first)
    if len(rows) < 2:
        raise ConfigError("the table is empty")
    names = rows[0].cells
    if len(names) > 1 and all(name.startswith(" ") for name in names[1:]):  # `a, b`: written by hand
        rows = _rows(text, separator, first, blanks_behind=True)
    headings = [name.strip() for name in rows[0].cells]
    for number, cells in rows[1:]:
        if len(cells) != len(headings):
            mark = "tab" if separator == "\t" else repr(separator)
            raise ConfigError(
                f"row {number}: {len(cells)} cells for {len(headings)} headings, separated by {mark}"
            )
    filled = [row for row in rows[1:] if any(row.cells)]  # spreadsheets write rows of separators only
    if not filled:
        raise ConfigError("the table is empty")
    return separator, headings, filled


def _separator(text: str) -> str:
    """The one separator that makes the text a table.

    :raises ConfigError: if more than one does.
    """
    fits = []
    for separator in _SEPARATORS:
        try:
            rows = _rows(text, separator)
        except ConfigError:
            continue
        if rows and len(rows[0].cells) > 1 and all(len(row.cells) == len(rows[0].cells) for row in rows):
            fits.append(separator)
    if len(fits) > 1:
        marks = " or ".join(repr(separator) for separator in fits)
        raise ConfigError(f"row 1: it is not certain what separates the cells: {marks}. Quote the headings")
    if fits:
        return fits[0]
    heading = next(iter(text.splitlines()), "")
    in_heading = [separator for separator in _SEPARATORS if separator in heading]
    return in_heading[0] if len(in_heading) == 1 else ","


def _rows(text: str, separator: str, first: int = 1, *, blanks_behind: bool = False) -> list[Row]:
    lines = io.StringIO(text, newline="")
    reader = csv.reader(lines, delimiter=separator, skipinitialspace=blanks_behind, strict=True)
    try:
        return [Row(number, cells) for number, cells in enumerate(reader, first) if cells]
    except csv.Error as error:
        raise ConfigError(f"cannot be read as a table: line {reader.line_num}: {error}") from None


def _without_empty_columns(headings: list[str], rows: list[Row]) -> tuple[list[str], list[Row]]:
    """Without columns that have neither heading nor cells, as spreadsheets write them."""
    kept = [
        index for index, name in enumerate(headings) if name or any(row.cells[index].strip() for row in rows)
    ]
    return [headings[index] for index in kept], [
        Row(number, [cells[index] for index in kept]) for number, cells in rows
    ]


# --- its cells -----------------------------------------------------------------------------------


def _cell(text: str, number: int, name: str) -> str | None:
    if text in ERROR_VALUES:
        raise ConfigError(f"row {number}, {name}: {text} is a spreadsheet's error, not a value")
    return text or None


class _DecimalCommas:
    """The numbers of a file that are written with a decimal comma, ``0,5``."""

    def __init__(self, separator: str) -> None:
        self._separator = separator
        self._certain = False
        self._doubtful: tuple[str, str] | None = None  # a cell that may be thousands, and where
        self._point: tuple[str, str] | None = None  # a cell with a decimal point, and where

    def convert(self, cell: str, place: str) -> float:
        """The value of a cell.

        :raises ConfigError: where commas separate the cells; the comma in a quoted cell may be anything.
        """
        if self._separator == ",":
            raise ConfigError(
                f"{place}: {cell!r} may be a number with a decimal comma, or a text: write a point, "
                "or keep texts like this in .xlsx, .parquet or the instance file"
            )
        if "," in cell:
            if _GROUPED.fullmatch(cell):
                self._doubtful = self._doubtful or (cell, place)
            else:
                self._certain = True
        return float(cell.replace(",", "."))

    def saw_point(self, cell: str, place: str) -> None:
        """A number with a decimal point stands in the file, too."""
        self._point = self._point or (cell, place)

    def check(self) -> None:
        """:raises ConfigError: if it is not certain for the file as a whole."""
        if self._doubtful and not self._certain:
            cell, place = self._doubtful
            raise ConfigError(f"{place}: {cell!r} may have a decimal comma or a thousands separator")
        if self._point and (self._certain or self._doubtful):
            cell, place = self._point
            raise ConfigError(
                f"{place}: {cell!r} has a decimal point (or separates thousands), "
                "other numbers have a decimal comma"
            )


def _typed(
    cells: Sequence[str | None], name: str, numbers: Sequence[int], commas: _DecimalCommas
) -> list[Any]:
    """A column of texts with the type that all its cells have; blanks around a number do not count."""
    filled = [
        (text.strip(), f"row {number}, {name}")
        for text, number in zip(cells, numbers, strict=True)
        if text is not None
    ]
    if not filled:
        return list(cells)
    for text, place in filled:
        if not text and len(filled) > 1:
            raise ConfigError(f"{place}: holds blanks only: leave the cell empty, or write a value")
    for pattern, convert in _TYPES:
        if all(pattern.fullmatch(text) for text, _ in filled):
            if convert is float:
                for text, place in filled:
                    if "." in text:
                        commas.saw_point(text, place)
            try:
                return [None if cell is None else convert(cell.strip()) for cell in cells]
            except ValueError as error:  # thousands of digits
                raise ConfigError(f"{name}: has a number that is too long: {error}") from None
    if all(_DECIMAL_COMMA.fullmatch(text) or _INTEGER.fullmatch(text) for text, _ in filled):
        values = iter([commas.convert(text, place) for text, place in filled])
        return [None if cell is None else next(values) for cell in cells]
    numbers_only = (_FLOAT, _DECIMAL_COMMA, _GROUPED)
    if all(any(pattern.fullmatch(text) for pattern in numbers_only) for text, _ in filled):
        text, place = _first(filled, _GROUPED) or _first(filled, _DECIMAL_COMMA) or filled[0]
        raise ConfigError(f"{place}: {text!r} is a number that can be read in two ways: write it like 1234.5")
    return list(cells)


def _first(filled: Iterable[tuple[str, str]], pattern: re.Pattern[str]) -> tuple[str, str] | None:
    return next(((text, place) for text, place in filled if pattern.fullmatch(text)), None)


def _boolean(text: str) -> bool:
    return text.lower() == "true"


_TYPES: Final[tuple[tuple[re.Pattern[str], Callable[[str], Any]], ...]] = (
    (_INTEGER, int),
    (_FLOAT, float),
    (_BOOLEAN, _boolean),
)
