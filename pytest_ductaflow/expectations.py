"""Expectations: what an instance file says of a run's measures, and the judgement of a run by them.

Outside the inner band (``warn_…``) a measure is orange, outside the outer one red. They judge a run that
finished, and are no part of what makes it stale: a record keeps the run's own status, so that a run
can be judged again, by other thresholds or against a baseline that has changed, without being executed.
"""

from __future__ import annotations

import difflib
import itertools
import math
import operator
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pytest_ductaflow import strict_json
from pytest_ductaflow.errors import EXPECTATION_ERROR, RecordError
from pytest_ductaflow.measures import is_number, problem_of_name
from pytest_ductaflow.record import RECORD_NAME, Record, read_record
from pytest_ductaflow.status import Status, worst
from pytest_ductaflow.strict_json import KeyPath, kind_of

_LIMITS: Final = ("min", "warn_min", "warn_max", "max")  # in this order they must not fall
_TOLERANCES: Final = ("rtol", "atol", "warn_rtol", "warn_atol")
#: So many measures are named where one was not recorded.
_NAMED: Final = 10
_KEYS: Final = {
    **dict.fromkeys(_LIMITS, "a finite number"),
    "equals": "a finite number, true or false, or a string",
    "baseline": "a string: an instance of this file, or a run directory below runs/",
    **dict.fromkeys(_TOLERANCES, "a number of at least 0"),
}


@dataclass(frozen=True)
class Expectation:
    """What is expected of one measure.

    :param bounds: as in the instance file: ``min``, ``warn_max``, ``equals``, ``rtol``, …
    :param baseline: the run directory to compare with, relative to the project root.
    :param file: the instance file, relative to the project root. :param line: 1-based, 0 if
        the expectations come from elsewhere.
    """

    measure: str
    bounds: Mapping[str, Any]
    baseline: str | None
    file: str
    line: int


def mistake(expect: Mapping[str, Any]) -> tuple[KeyPath, str] | None:
    """The first mistake in an instance file's ``expect``: where, and what."""
    for name, bounds in expect.items():
        if reason := problem_of_name(name, 1000):  # a build's may have a nested run's name before it
            return (name,), f"the measure's name {reason}"
        if not isinstance(bounds, dict):
            return (name,), f"must be an object of {', '.join(_KEYS)}, not {kind_of(bounds)}"
        for key, value in bounds.items():
            if key not in _KEYS:
                near = difflib.get_close_matches(key, _KEYS, 1)
                hint = f"did you mean {near[0]!r}?" if near else f"the keys are {', '.join(_KEYS)}"
                return (name, key), f"unknown key: {hint}"
            if not _has_type(key, value):
                return (name, key), f"must be {_KEYS[key]}, not {kind_of(value)}"
            if key in _TOLERANCES and "baseline" not in bounds:
                return (name, key), "is a distance from a `baseline`, and there is none"
        given = [key for key in _LIMITS if key in bounds]
        for lower, upper in itertools.pairwise(given):
            if bounds[lower] > bounds[upper]:
                return (name, upper), f"is below `{lower}`: {bounds[upper]} < {bounds[lower]}"
    return None


def _has_type(key: str, value: Any) -> bool:
    if key == "baseline":
        return isinstance(value, str) and bool(value)
    if key == "equals" and isinstance(value, (str, bool)):
        return True
    return is_number(value) and (key not in _TOLERANCES or value >= 0)


def judge(made: Record, expected: Sequence[Expectation], root: Path) -> bool:
    """Judge a run that finished by what is expected now, in its record.

    A run that is red by itself, or goes on, is not judged.

    :param root: the project root, below which baselines are.
    :returns: whether that changed the record.
    """
    own = made.own_light
    if own not in (Status.SUCCESS, Status.WARNING):
        return False
    before = _judgement(made)
    judged = [(expectation, *_judged(expectation, made, root)) for expectation in expected]
    made.own_status = own.value if judged else None
    made.status = worst([own, *(status for _, status, _ in judged)]).value
    made.expectations = [
        {"measure": expectation.measure, "light": status.light, "text": text}
        for expectation, status, text in judged
    ]
    made.warnings = [warning for warning in made.warnings if "measure" not in warning] + [
        {
            "line": None,
            "cell": None,
            "text": f"⚠️ {text}",
            "measure": expectation.measure,
            "place": f"{expectation.file}:{expectation.line}" if expectation.line else expectation.file,
        }
        for expectation, status, text in judged
        if status is Status.WARNING
    ]
    broken = [(expectation, text) for expectation, status, text in judged if status is Status.ERROR]
    made.error = None
    if broken:
        first = broken[0][0]
        message = "\n".join(text for _, text in broken)
        made.error = {
            "type": EXPECTATION_ERROR,
            "message": message,
            "file": first.file,
            "line": first.line,
        }
    return _judgement(made) != before


def _judgement(made: Record) -> tuple[Any, ...]:
    return made.status, made.own_status, made.expectations, made.warnings, made.error


def _judged(expectation: Expectation, made: Record, root: Path) -> tuple[Status, str]:
    """The status of one measure, and the line that says why."""
    measure = made.measures.get(expectation.measure)
    if measure is None:
        return Status.ERROR, f"{expectation.measure} was not recorded{_recorded(expectation, made)}"
    value, bounds = measure["value"], expectation.bounds
    problems = [*_outside_limits(value, bounds), *_unequal(value, bounds)]
    others = [*bounds.values()]
    if expectation.baseline is not None:
        other = _measure_of(root / expectation.baseline, expectation.measure)
        problems += _off_baseline(measure, other, bounds, expectation.baseline)
        others += [other["value"]] if isinstance(other, dict) else []
    text = f"{expectation.measure} = {_shown(value, *others)}{_unit(measure)}"
    status = worst([one for one, _ in problems])
    if problems:
        text += f", {' and '.join(problem for one, problem in problems if one is status)}"
    return status, text


def _recorded(expectation: Expectation, made: Record) -> str:
    """What was recorded instead."""
    if not made.measures:
        return " (no measure was)"
    names = [*made.measures]
    shown = ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED:,} more" if len(names) > _NAMED else "")
    near = difflib.get_close_matches(expectation.measure, names, 1)
    hint = f": did you mean {near[0]!r}?" if near else ""
    return f"{hint} (recorded: {shown})"


_Problems = Iterator[tuple[Status, str]]


def _outside_limits(value: Any, bounds: Mapping[str, Any]) -> _Problems:
    if not is_number(value):
        if any(key in bounds for key in _LIMITS):
            yield Status.ERROR, "expected a number"
        return
    for key, beyond, outer, inner in (
        ("max", operator.gt, "at most", "over"),
        ("min", operator.lt, "at least", "under"),
    ):
        warn = f"warn_{key}"
        if key in bounds and beyond(value, bounds[key]):
            yield Status.ERROR, f"expected {outer} {_shown(bounds[key], value)}"
        elif warn in bounds and beyond(value, bounds[warn]):
            yield Status.WARNING, f"{inner} {_shown(bounds[warn], value)} ({warn})"


def _unequal(value: Any, bounds: Mapping[str, Any]) -> _Problems:
    if "equals" in bounds and not are_equal(value, bounds["equals"]):
        yield Status.ERROR, f"expected {_shown(bounds['equals'], value)}"


def _off_baseline(
    measure: Mapping[str, Any], other: dict[str, Any] | str, bounds: Mapping[str, Any], baseline: str
) -> _Problems:
    if isinstance(other, str):
        yield Status.ERROR, f"but the baseline {baseline} {other}"
        return
    if measure["unit"] and other["unit"] and measure["unit"] != other["unit"]:
        yield Status.ERROR, f"but in the baseline {baseline} it is {_shown(other['value'])}{_unit(other)}"
        return
    value, wanted = measure["value"], other["value"]
    inner = [key for key in ("warn_rtol", "warn_atol") if key in bounds]
    outer = not inner or "rtol" in bounds or "atol" in bounds
    if outer and _is_beyond(value, wanted, bounds, ""):
        yield Status.ERROR, f"expected {_band(value, wanted, bounds, '')} (baseline {baseline})"
    elif inner and _is_beyond(value, wanted, bounds, "warn_"):
        band = _band(value, wanted, bounds, "warn_")
        yield Status.WARNING, f"not {band} ({' and '.join(inner)}, baseline {baseline})"


def _measure_of(directory: Path, name: str) -> dict[str, Any] | str:
    """A baseline's measure, or the reason why there is none."""
    if not (directory / RECORD_NAME).exists():
        return "has not run"
    try:
        found = read_record(directory)
    except RecordError:
        return "has no usable record"
    if found.own_light is Status.RUNNING:
        return "is being executed"
    if found.own_light.is_red:
        return "failed"
    return found.measures.get(name, "has no such measure")


def _is_beyond(value: Any, wanted: Any, bounds: Mapping[str, Any], prefix: str) -> bool:
    if not (is_number(value) and is_number(wanted)):
        return not are_equal(value, wanted)
    width = _width(wanted, bounds, prefix)
    rounding = 4 * math.ulp(max(abs(value), abs(wanted))) if width else 0  # 1.1 is not more than 1 ± 0.1
    return bool(abs(value - wanted) > width + rounding)


def _width(wanted: Any, bounds: Mapping[str, Any], prefix: str) -> float:
    """The half width of the band around a baseline's value."""
    return float(bounds.get(f"{prefix}atol", 0) + bounds.get(f"{prefix}rtol", 0) * abs(wanted))


def _band(value: Any, wanted: Any, bounds: Mapping[str, Any], prefix: str) -> str:
    width = _width(wanted, bounds, prefix) if is_number(wanted) and is_number(value) else 0
    return f"{_shown(wanted, value)} ± {_shown(width)}" if width else _shown(wanted, value)


def are_equal(one: Any, other: Any) -> bool:
    """As JSON values: ``1`` is ``1.0``, but not ``true``."""
    return bool(one == other) and isinstance(one, bool) == isinstance(other, bool)


def _unit(measure: Mapping[str, Any]) -> str:
    return f" {measure['unit']}" if measure["unit"] else ""


def _shown(value: Any, *others: Any) -> str:
    """The value for people: some six digits, but all if it looked like one of the others then."""
    if type(value) is not float or not is_number(value):
        return strict_json.encodable(strict_json.dumps(value, indent=None).strip())
    digits = max(6, len(str(int(abs(value)))))
    text = f"{value:.{digits}g}" if digits < 16 else repr(value)
    same = any(type(other) in (int, float) and other != value and float(text) == other for other in others)
    return repr(value) if same else text
