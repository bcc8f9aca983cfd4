"""Failures that share a cause, and what the scenarios that share it have in common.

Two failures (or warning lines) are of one cluster if the flow, the cell, the error's type and the message
are the same, where two messages are the same if they differ in values only: numbers, dates, quoted texts,
paths. A cluster's message shows such a value as it is where all its members agree, else a placeholder.
"""

from __future__ import annotations

import functools
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

from pytest_ductaflow import strict_json
from pytest_ductaflow.flow import line_of_cell
from pytest_ductaflow.record import Record, child_records, read_record

#: So much of a message is compared, in characters.
_COMPARED: Final = 600
#: Sentences about one cluster, conditions in one of them, values in one of those, characters of a value.
_SENTENCES: Final = 3
_CONDITIONS: Final = 3
_VALUES: Final = 5
_LENGTH: Final = 40
#: So many clusters are searched for conditions that only together set them apart.
_SEARCHED: Final = 200


@dataclass(frozen=True)
class Occurrence:
    """One failure, or one warning line, of an instance.

    :param path: the instance's run directory, below that of all runs.
    :param flow: the flow that failed, of a build's nested runs that flow. :param cell: its cell, if known.
    :param place: file and line, ``flows/assign.py:88``. :param type: the error's, ``""`` for a warning line.
    """

    path: str
    flow: str
    cell: int | None
    place: str
    type: str
    message: str


@dataclass(frozen=True)
class Cluster:
    """Occurrences of one cause.

    :param message: with placeholders for values that differ. :param example: the first message as it is.
    :param count: instances in it. :param of: instances considered. :param paths: of those in it.
    :param common: sentences on what the scenarios in it have in common, and the others do not.
    """

    place: str
    type: str
    message: str
    example: str
    count: int
    of: int
    paths: list[str]
    common: list[str]

    @property
    def title(self) -> str:
        """One line: ``42 of 150: flows/assign.py:88 ValueError: negative flow: N``."""
        first, *rest = self.message.splitlines() or [""]
        said = ": ".join(part for part in (self.type, first + " …" * bool(rest)) if part)
        return f"{self.count} of {self.of}: {' '.join(part for part in (self.place, said) if part)}"


def clusters(found: Sequence[Occurrence], scenarios: Mapping[str, Mapping[str, Any]]) -> list[Cluster]:
    """The clusters of failures or warning lines, the biggest first.

    :param scenarios: the scenario of every instance considered, also of those with no occurrence, by path.
    """
    groups: dict[tuple[object, ...], list[Occurrence]] = {}
    for one in found:
        key = (one.flow, repr(one.cell), one.type, _parse(one.message.strip()).key)
        groups.setdefault(key, []).append(one)
    members = [(group, list(dict.fromkeys(one.path for one in group))) for group in groups.values()]
    members.sort(key=lambda entry: -len(entry[1]))
    dimensions = _Dimensions(scenarios)
    return [
        Cluster(
            place=Counter(one.place for one in group).most_common(1)[0][0],
            type=group[0].type,
            message=_common_message([one.message.strip() for one in group]),
            example=group[0].message,
            count=len(paths),
            of=max(len(scenarios), len(paths)),
            paths=paths,
            common=dimensions.in_common(paths, search=rank < _SEARCHED),
        )
        for rank, (group, paths) in enumerate(members)
    ]


# --- messages -----------------------------------------------------------------------------------------

#: What is a value in a message, by the kind of it; what comes first is tried first.
_VALUE: Final = re.compile(
    r"""
    (?P<quoted> (?<!\w) (?:[bBrRuU]{1,2})? (?:
        '(?:[^'\\\n]|\\.|(?<=\w)'(?=\w))*'(?!\w) | "(?:[^"\\\n]|\\.)*" | `[^`\n]*` | “[^”\n]*” | «[^»\n]*» ))
    | (?P<uuid> (?<![\w-]) [0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12} (?![\w-]) )
    | (?P<date> (?<![\w.]) (?:
        (?: \d{4}-\d\d-\d\d | \d{4}/\d\d?/\d\d? | \d\d?\.\d\d?\.\d{4} )
            (?: [T ]\d\d:\d\d(?::\d\d(?:\.\d+)?)? (?:Z|[+-]\d\d:?\d\d)? )?
        | \d\d?:\d\d:\d\d(?:\.\d+)? ) (?!\w) )
    | (?P<path>
        (?<![\w./\\@%~+=-]) (?: (?:[A-Za-z]:)?[\\/] | ~[\\/] | \.{1,2}[\\/] )
            [\w.@%~+=-]+ (?: [\\/:]+[\w.@%~+=-]+ )* /?
        | (?<![\w./\\@%~+=-]) [\w.@%~+=-]+ (?: [\\/][\w.@%~+=-]+ ){2,} (?: ::?[\w.@%~+=-]+ )* /?
        | (?<![\w./\\@%~+=-]) [\w@%~+=-]+ (?: [\\/][\w@%~+=-]+ )?
            \.(?:csv|parquet|feather|json|txt|tsv|log|xlsx?|h5|hdf5?|nc|py|ipynb|html|png|pdf|svg|tiff?
                |zip|gz|db|sqlite|duckdb|ya?ml|toml|pkl|npy|npz|shp|gpkg|xml) (?!\w) (?: ::?[\w.@%~+=-]+ )* )
    | (?P<hex> (?<!\w) 0[xX][0-9a-fA-F]+
        | (?<![\w-]) (?=[a-fA-F]*\d) (?=\d*[a-fA-F]) [0-9a-fA-F]{8,} (?!\w) )
    | (?P<number> (?: (?<![\w.)\]'"-]) [+−-] )? (?<![A-Za-z0-9])
        (?: \d+(?:,\d{3})+(?:\.\d+)? | \d+(?:\.\d*)? | \.\d+ ) (?: [eE][+-]?\d+ )? )
    """,
    re.VERBOSE,
)
#: Kinds that may stand for one another.
_NUMERIC: Final = ("number", "hex", "uuid")
_PLACEHOLDERS: Final = {"number": "N", "hex": "HEX", "uuid": "UUID", "date": "DATE", "path": "PATH"}
#: What stands between the values of a list, which may be of any length.
_BETWEEN: Final = re.compile(r"\s*[,;]\s*|[ \n]+")


class _Value(NamedTuple):
    """A value, or a list of values of one kind, as it stands in a message."""

    text: str
    kind: str
    is_list: bool


class _Message(NamedTuple):
    """A message as fixed texts with values between: one text more than there are values."""

    texts: tuple[str, ...]
    values: tuple[_Value, ...]

    @property
    def key(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Equal for messages that differ in values only."""
        kinds = ("number" if value.kind in _NUMERIC else value.kind for value in self.values)
        return self.texts, tuple(kinds)


@functools.lru_cache(maxsize=10_000)
def _parse(message: str) -> _Message:
    texts: list[str] = []
    values: list[_Value] = []
    end = 0
    message = message[:_COMPARED]
    for match in _VALUE.finditer(message):
        kind, between = str(match.lastgroup), message[end : match.start()]
        before = values[-1] if values else None
        if before is not None and before.kind == kind and _BETWEEN.fullmatch(between):
            values[-1] = _Value(before.text + between + match.group(), kind, True)
        else:
            texts.append(between)
            values.append(_Value(match.group(), kind, False))
        end = match.end()
    return _Message((*texts, message[end:]), tuple(values))


def _common_message(messages: Sequence[str]) -> str:
    """The message of all, with placeholders for the values in which they differ."""
    distinct = list(dict.fromkeys(messages))
    if len(distinct) == 1:
        return distinct[0]
    parsed = [_parse(message) for message in distinct]
    pieces = [parsed[0].texts[0]]
    for column, text in zip(
        zip(*(one.values for one in parsed), strict=True), parsed[0].texts[1:], strict=True
    ):
        pieces += [_placeholder(column, in_name=pieces[-1].endswith("_")), text]
    return "".join(pieces) + " …" * any(len(message) > _COMPARED for message in distinct)


def _placeholder(column: Sequence[_Value], *, in_name: bool) -> str:
    """What stands for the values that a place of the message has in its members.

    :param in_name: the values are part of names, such as ``JFK_1``.
    """
    first = column[0]
    if all(value.text == first.text for value in column):
        return first.text
    kinds = {value.kind for value in column}
    if kinds == {"quoted"}:
        shown = f"{first.text[0]}…{first.text[-1]}" if first.text[0] in "'\"`“«" else "'…'"
    elif kinds == {"number"} and not in_name and not any(value.is_list for value in column):
        return _range([value.text for value in column])
    else:
        shown = _PLACEHOLDERS[first.kind] if len(kinds) == 1 else "…"
    return f"{shown}, …" if any(value.is_list for value in column) else shown


def _range(numbers: Sequence[str]) -> str:
    """``7.5 … 76``: the lowest and the highest, as they were written."""
    ordered = sorted(numbers, key=lambda text: float(text.replace(",", "").replace("−", "-")))
    return f"{ordered[0]} … {ordered[-1]}"


# --- scenarios ----------------------------------------------------------------------------------------

#: A value of a dimension, to compare and to show. Text and number are never the same.
_Level = tuple[bool, str]


class _Condition(NamedTuple):
    """That a dimension has one of these values; ``others``: how many outside of the cluster have one, too."""

    dimension: str
    levels: tuple[_Level, ...]
    others: int
    like_a_name: bool  # each member has its own value


class _Dimensions:
    """The scenarios of all instances, to tell some of them from the others."""

    def __init__(self, scenarios: Mapping[str, Mapping[str, Any]]) -> None:
        self._of: dict[str, dict[str, _Level]] = {}
        self._having: dict[str, dict[_Level, set[str]]] = {}
        self._numbers: dict[_Level, float] = {}
        for path, scenario in scenarios.items():
            levels = self._of[path] = {
                dimension: self._level(value)
                for dimension, value in strict_json.redact(dict(scenario)).items()
            }
            for dimension, level in levels.items():
                self._having.setdefault(dimension, {}).setdefault(level, set()).add(path)
        self._order = {  # of levels, as they come first
            dimension: {level: position for position, level in enumerate(having)}
            for dimension, having in self._having.items()
        }
        # Dimensions of which no value occurs twice: they name a scenario.
        self._names = {
            dimension
            for dimension, having in self._having.items()
            if all(len(paths) == 1 for paths in having.values())
        }

    def _level(self, value: Any) -> _Level:
        if isinstance(value, str):
            return True, value
        level = (False, strict_json.canonical(value))
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            self._numbers[level] = value
        return level

    def in_common(self, paths: Sequence[str], *, search: bool) -> list[str]:
        """What these have in common and the others do not, the most telling first.

        :param search: also look for conditions that only together exclude all others.
        """
        members = [self._of.get(path, {}) for path in paths]
        if len(self._of) < 2 or len(members) >= len(self._of):
            return []
        found = list(self._conditions(members))
        alone = [one for one in found if not one.others]
        single = [one for one in alone if len(one.levels) == 1 and not one.like_a_name]
        several = [one for one in alone if len(one.levels) > 1 and not one.like_a_name]
        shared = sorted(
            (one for one in found if one.others and len(one.levels) == 1), key=lambda one: one.others
        )
        verb = "all have" if len(members) > 1 else "has"
        searched = search and len(members) > 1 and not (single or several)
        together = self._together(found, set(paths)) if searched else []
        sentences = [f"{self._said(one)}, and no other" for one in single]
        if together:
            sentences.append(f"{' and '.join(map(self._said, together))}, and no other")
        sentences += [self._said(one) for one in several]
        if len(members) > 1:
            sentences += [self._said(one) for one in shared if one not in together]
            sentences = sentences or [self._said(one) for one in alone]
        return [f"{verb} {said}" for said in sentences if said][:_SENTENCES]

    def _conditions(self, members: Sequence[Mapping[str, _Level]]) -> Iterator[_Condition]:
        """The dimensions that all members have, and of whose values they have only some."""
        for dimension in members[0]:
            counts: Counter[_Level | None] = Counter(member.get(dimension) for member in members)
            having = self._having[dimension]
            if None in counts or len(counts) == len(having):
                continue
            present = [level for level in counts if level is not None]
            levels = tuple(sorted(present, key=self._order[dimension].__getitem__))
            others = sum(len(having[level]) for level in levels) - len(members)
            one_each = len(counts) == len(members) and (len(members) > 1 or dimension in self._names)
            yield _Condition(dimension, levels, others, one_each)

    def _together(self, found: Iterable[_Condition], members: set[str]) -> list[_Condition]:
        """A few conditions that only together exclude all others; none if there are none."""
        usable = [
            one
            for one in found
            if len(one.levels) == 1 or (len(one.levels) <= _VALUES and 2 * len(one.levels) <= len(members))
        ]
        chosen: list[_Condition] = []
        left: set[str] | None = None
        while usable and len(chosen) < _CONDITIONS:
            remaining = {one: self._meeting(one, left) - members for one in usable}
            best = min(usable, key=lambda one: (len(remaining[one]), len(one.levels)))
            if left is not None and len(remaining[best]) == len(left):
                return []
            chosen.append(best)
            usable.remove(best)
            left = remaining[best]
            if not left:
                return sorted(chosen, key=lambda one: len(one.levels))
        return []

    def _meeting(self, condition: _Condition, among: set[str] | None) -> set[str]:
        having = self._having[condition.dimension]
        sets = [having[level] for level in condition.levels]
        if among is not None:
            sets = [found & among for found in sets]
        return sets[0] if len(sets) == 1 else set().union(*sets)

    def _said(self, condition: _Condition) -> str:
        """The condition in words; ``""`` if it has too many values to be said."""
        name, levels = _short(condition.dimension), condition.levels
        if len(levels) == 1:
            return f"{name} = {_short(levels[0][1])}"
        if len(levels) <= _VALUES:
            return f"{name} in {', '.join(_short(text) for _, text in levels)}"
        all_levels = self._having[condition.dimension]
        if condition.like_a_name or not all(level in self._numbers for level in all_levels):
            return ""
        inside = sorted(levels, key=self._numbers.__getitem__)
        low, high = (self._numbers[inside[0]], self._numbers[inside[-1]])
        between = sum(low <= self._numbers[level] <= high for level in all_levels)
        return f"{name} from {inside[0][1]} to {inside[-1][1]}" if between == len(levels) else ""


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _LENGTH else text[: _LENGTH - 1] + "…"


# --- records ------------------------------------------------------------------------------------------


def failure_of(path: str, record: Record) -> Occurrence | None:
    """The failure of a red run; of a build that a flow's failure ended, that flow's.

    :param path: of the instance.
    """
    error = record.error
    if error is None or not record.light.is_red:
        return None
    flow, cell = record.flow, error.get("cell", record.cells.get("current"))
    if error.get("run"):
        cell = error.get("cell")
        try:
            flow = read_record(Path(str(error["run"]))).flow
        except Exception:  # overwritten since, or damaged: the place is known all the same
            flow = str(error.get("file") or flow)
    return Occurrence(path, flow, cell, _place(error, flow), str(error.get("type") or "Error"), _text(error))


def place_of_warning(warning: Mapping[str, Any], flow: str, root: Path) -> str:
    """Where a run warned: the line at which its cell starts, or what its record says."""
    line = line_of_cell(root / flow, warning.get("cell"))
    return str(warning.get("place") or (f"{flow}:{line}" if line else flow))


def warnings_of(path: str, record: Record, directory: Path, root: Path) -> Iterator[Occurrence]:
    """The warning lines of a run and its nested runs, and nested failures that a build caught.

    :param path: of the instance. :param directory: the run's. :param root: the project's.
    """
    for warning in record.warnings:
        cell = warning.get("cell")
        place = place_of_warning(warning, record.flow, root)
        yield Occurrence(path, record.flow, cell, place, "", str(warning["text"]))
    for where, child in child_records(record, directory):
        yield from warnings_of(path, child, where, root)
        if record.error is None and (caught := failure_of(path, child)) is not None:
            yield caught


def of_records(
    records: Mapping[str, Record], runs: Path, root: Path
) -> tuple[list[Occurrence], list[Occurrence]]:
    """The failures and the warnings of instances.

    :param records: by run directory below ``runs``. :param root: the project's, to find lines in its flows.
    """
    failures = [one for path, record in records.items() if (one := failure_of(path, record)) is not None]
    warned = [
        one
        for path, record in records.items()
        if record.warnings or record.runs
        for one in warnings_of(path, record, Path(os.path.normpath(runs / path)), root)
    ]
    return failures, warned


def _place(error: Mapping[str, Any], flow: str) -> str:
    file, line = str(error.get("file") or flow), error.get("line")
    return f"{file}:{line}" if line else file


def _text(error: Mapping[str, Any]) -> str:
    return str(error.get("message") or "")
