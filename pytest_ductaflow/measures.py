"""Measures: what a run says about its result in numbers, truths and short texts.

A flow or build calls :func:`record_measure`; the process that drives the run gets it as an event and
writes it into the record, a build's together with those of its flows. Only what is fit for tables, plots
and comparisons is a measure: anything else is refused at once, in the flow's own line.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from pytest_ductaflow import context
from pytest_ductaflow.errors import ConfigError

#: The longest name or unit, and the longest text as a value, in characters.
_LONGEST_NAME: Final = 100
_LONGEST_TEXT: Final = 1000
_EVENT: Final = "measure"

#: As records hold them: name to ``{"value": …, "unit": …}``.
Measures = dict[str, dict[str, Any]]


def record_measure(name: str, value: Any, unit: str | None = None) -> None:
    """Keep a number, a truth or a short text about the result of this run, in its record.

    The last value of a name counts. Callable from threads and from processes that the run started; it
    prints nothing. Outside a run, in a notebook opened by hand for example, it only checks its arguments.

    :param name: one line of at most 100 characters, for example ``"mean_delay"``.
    :param value: a finite number, ``True`` or ``False``, or a text of at most 1,000 characters; also as a
        scalar of numpy or pandas.
    :param unit: of the value, for people: ``"min"``.
    :raises ConfigError: for anything else: ``NaN``, ``None``, a list, …
    """
    if reason := problem_of_name(name):
        raise ConfigError(f"record_measure: the name {_short(name)} {reason}")
    plain = _plain(name, value)
    if unit is not None and (reason := problem_of_name(unit)):
        raise ConfigError(f"record_measure: the unit {_short(unit)} of {name!r} {reason}")
    file = os.environ.get(context.VARIABLE)
    if file:
        with context.unseen():
            run = _run_of(file)
            if run is not None:
                run.report(_EVENT, name=name, value=plain, unit=unit)


def problem_of_name(name: object, longest: int = _LONGEST_NAME) -> str | None:
    """Why this is no name of a measure, ``None`` if it is one."""
    if not isinstance(name, str):
        return f"is {type(name).__name__}, not a text"
    if not name.strip():
        return "is empty"
    if len(name) > longest:
        return f"has more than {longest} characters"
    if not name.isprintable():
        return "is not one line of printable characters"
    return None


def is_number(value: object) -> bool:
    """Whether this is a finite number; a truth is none."""
    return type(value) in (int, float) and abs(value) <= sys.float_info.max  # type: ignore[arg-type] # NaN is not


def recorded(events: Iterable[Mapping[str, Any]]) -> Measures:
    """The measures among a run's events; the last of a name counts."""
    return {
        event["name"]: {"value": event["value"], "unit": event["unit"]}
        for event in events
        if event["event"] == _EVENT
    }


def with_nested(own: Measures, nested: Sequence[tuple[tuple[str, ...], Measures]]) -> Measures:
    """A build's measures: its own, and those of its nested runs; its own win.

    One that several nested runs recorded appears once for each: ``<nested run>.<name>``.

    :param nested: for each run what it can be called by, the shortest first, and its measures.
    """
    found = dict(own)
    recorded_by: dict[str, list[tuple[tuple[str, ...], dict[str, Any]]]] = {}
    for names, measures in nested:
        for name, measure in measures.items():
            recorded_by.setdefault(name, []).append((names, measure))
    for name, entries in recorded_by.items():
        if len(entries) == 1:
            found.setdefault(name, entries[0][1])
            continue
        called = next(  # what tells them apart
            (
                called
                for called in zip(*(names for names, _ in entries), strict=True)
                if len({*called}) == len(called)
            ),
            entries[0][0],
        )
        for run, (_, measure) in zip(called, entries, strict=True):
            found.setdefault(f"{run}.{name}", measure)
    return found


@functools.lru_cache(maxsize=1)  # a call must cost next to nothing; each run has a file of its own
def _run_of(file: str) -> context.Context | None:
    return context.current()


def _plain(name: str, value: Any) -> bool | int | float | str:
    """The value as a JSON type."""
    given = value
    if not isinstance(value, (bool, int, float, str)) and not getattr(value, "ndim", 0):
        item = getattr(value, "item", None)  # numpy's, pandas', torch's scalars
        value = item() if callable(item) and not isinstance(value, type) else value
    if isinstance(value, bool):
        return value
    if isinstance(value, str):
        if len(value) > _LONGEST_TEXT:
            raise ConfigError(
                f"record_measure: {name!r} is a text of {len(value):,} characters: "
                f"at most {_LONGEST_TEXT:,} are a measure"
            )
        return str.__str__(value)  # of a subclass, such as an enum, its text
    if isinstance(value, (int, float)):
        number = int(value) if isinstance(value, int) else float(value)
        if is_number(number):
            return number
    raise ConfigError(
        f"record_measure: {name!r} is {_short(given)} ({type(given).__name__}): "
        "a measure is a finite number, True or False, or a text"
    )


def _short(value: object) -> str:
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > sys.float_info.max:
        return "a number out of range"  # Python refuses to write very long ones
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:59]}…"
