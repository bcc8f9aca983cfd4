"""An instance file becomes validated, expanded instances.

The way of a file: strict JSON, the keys and their types, the base config (inline, a file, or the
default beside the flow), one variant for each scenario, names, templates, references. Every mistake
is an :class:`~pytest_ductaflow.errors.InstanceError` that names file, line and key. The JSON Schema
``instance.schema.json`` in this package describes the same keys for editors.

An instance file may come from a pull request: it chooses values, and cannot execute code, leave the
project, or pick an engine or a kernel.
"""

from __future__ import annotations

import contextlib
import difflib
import functools
import itertools
import math
import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Final, Literal

from pytest_ductaflow import expectations, references, regular, shadows, strict_json
from pytest_ductaflow import flow as flow_file
from pytest_ductaflow.context import unseen
from pytest_ductaflow.errors import ConfigError, FlowError, InstanceError
from pytest_ductaflow.expectations import Expectation
from pytest_ductaflow.names import check_name, check_pattern, default_name, label_text
from pytest_ductaflow.parameters import Parameters
from pytest_ductaflow.paths import relative
from pytest_ductaflow.problem import Problem as _Problem
from pytest_ductaflow.problem import near as _near
from pytest_ductaflow.references import DEPTH, RUNS, Locator, Mention, is_in, is_wild, run_directory_of
from pytest_ductaflow.strict_json import PATHS, KeyPath
from pytest_ductaflow.strict_json import kind_of as _kind
from pytest_ductaflow.tables import read_table, records, with_index

if TYPE_CHECKING:
    import pandas

_KEYS: Final = {
    "$schema": "a string",
    "description": "a string",
    "flow": "a string",
    "build": "a string",
    "config": "an object, or the path of a JSON file",
    "overrides": "an object",
    "scenarios": "an object of dimensions, a list of objects, or the path of a table",
    "active": "a list of names",
    "name": "a string",
    "step": "a string",
    "marks": "a list of marks",
    "timeout": "a number of seconds above 0",
    "inputs": "a list of glob patterns",
    "needs": '"all" or "finished"',
    "expect": "an object of measures",
}
_MARK_ARGUMENTS: Final[dict[str, dict[str, type]]] = {
    "skip": {"reason": str},
    "skipif": {"condition": bool, "reason": str},
    "xfail": {"condition": bool, "reason": str, "strict": bool, "run": bool},
}
#: Marks that would reach into pytest (fixtures, imports) from an instance file.
_REFUSED_MARKS: Final = frozenset(
    {"parametrize", "usefixtures", "filterwarnings", "flow", "build", "scenario"}
)

#: The longest timeout, in seconds: some thirty years.
_LONGEST: Final = 1e9
#: The longest text that a template may become, in characters.
_LONGEST_TEXT: Final = 1_000_000
_SURROGATE: Final = re.compile("[\ud800-\udfff]")
#: So many names of instances that are not active are looked at.
_MOST_NAMES: Final = 50_000
#: How many templates may need one another, one inside the other; each is some levels of recursion.
_LONGEST_CHAIN: Final = 50
_FIELD: Final = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")


@dataclass(frozen=True)
class Mark:
    """A pytest mark: a name, and arguments of plain values."""

    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Need:
    """Why an instance needs another one.

    :param texts: the references that lead there; none if only its measures are compared with.
    :param by_name: whether one of them names it, rather than a pattern or a step that it is part of.
    :param compared: whether it is a baseline.
    """

    texts: tuple[str, ...]
    by_name: bool
    compared: bool = False

    @property
    def is_firm(self) -> bool:
        """Whether it must come first, even if that closes a cycle."""
        return self.by_name or self.compared

    def and_also(self, other: Need) -> Need:
        """Both reasons in one."""
        return Need(
            (*self.texts, *other.texts), self.by_name or other.by_name, self.compared or other.compared
        )


@dataclass(frozen=True)
class Several:
    """A reference that takes what there is: a pattern, a whole step, or ``{"$paths": …}``.

    :param where: the place in the instance: ``("config", "models")``.
    :param paths: run directories that it leads to, and the absolute paths of the list.
    """

    text: str
    where: KeyPath
    paths: Mapping[str, str]
    as_list: bool = False


@dataclass(frozen=True)
class Instance:
    """A named flow or build with its config: one test item, one run directory.

    As it is read from its file it does not know yet where its references lead: ``project`` finds that out.

    :param flow: the ``.py`` file, a POSIX path relative to the project root.
    :param config: after merging and templates; when resolved, references are absolute paths.
    :param scenario: what this scenario varies: dimension or column to value (or label).
    :param timeout: seconds for the whole instance, ``None`` for no limit of its own.
    :param inputs: glob patterns and paths relative to the project root; when resolved, with the references.
    :param mentions: what may be references.
    :param needs: ``all``: what it needs has to be green or orange; ``finished``: of what only patterns lead
        to, what is not is left out.
    :param needed: when resolved: run directories of the instances that it needs, and why.
    :param several: when resolved, with ``finished``: of what something may be left out.
    :param place: where in the file the instance stands, for :func:`lines_of`.
    :param expected: what is expected of the run's measures.
    :param remarks: what makes the run orange whatever it prints: a text and its place.
    """

    name: str
    step: str
    kind: Literal["flow", "build"]
    flow: str
    config: dict[str, Any]
    scenario: dict[str, Any]
    marks: tuple[Mark, ...]
    timeout: float | None
    inputs: tuple[str, ...]
    place: KeyPath
    mentions: tuple[Mention, ...] = ()
    needs: Literal["all", "finished"] = "all"
    needed: Mapping[str, Need] = field(default_factory=dict)
    several: tuple[Several, ...] = ()
    expected: tuple[Expectation, ...] = ()
    remarks: tuple[tuple[str, str], ...] = ()

    @property
    def run_directory(self) -> str:
        """``runs/<step>/<name>``, relative to the project root."""
        return f"{RUNS}/{self.step}/{self.name}"

    @property
    def baselines(self) -> tuple[str, ...]:
        """Run directories of others with whose measures this run's are compared, below ``runs/``."""
        found = (expectation.baseline for expectation in self.expected)
        return tuple(path for path in found if path and run_directory_of(path) != self.run_directory)


@dataclass(frozen=True)
class _Variant:
    """One scenario before it has a name: what it changes, its labels, where it stands."""

    values: dict[str, Any]
    labels: dict[str, str]
    place: KeyPath
    places: dict[str, KeyPath]  # of each value
    label: str | None = None  # given for the scenario as a whole


def load_instances(file: Path, root: Path) -> list[Instance]:
    """Read, validate and expand an instance file.

    :param file: the JSON file.
    :param root: the project root, absolute.
    :returns: the instances in the file's order: dimensions as nested loops, lists and tables as they stand.
    :raises InstanceError: on the first mistake, naming file, line and key.
    """
    shown = relative(file, root)
    try:
        text = strict_json.read_text(file)
    except strict_json.JSONProblem as problem:
        raise InstanceError(shown, problem.line, problem.key, problem.message) from None
    except OSError as error:
        raise InstanceError(shown, 1, "", f"cannot be read: {error.strerror or error}") from None
    return parse_instances(text, file, root)


def parse_instances(text: str, file: Path, root: Path) -> list[Instance]:
    """As :func:`load_instances`, from the text of a file that need not exist."""
    shown = relative(file, root)
    try:
        data = strict_json.loads(text)
    except strict_json.JSONProblem as problem:
        raise InstanceError(shown, problem.line, problem.key, problem.message) from None
    try:
        return _expand(data, text, file, root)
    except _Problem as problem:
        line = strict_json.locate(text, problem.path)
        message = strict_json.encodable(problem.message)
        raise InstanceError(shown, line, strict_json.dotted(problem.path), message) from None


def inactive_names(file: Path, root: Path) -> frozenset[str] | None:
    """The names that a good file's instances have with any other ``active``, or with none.

    :returns: ``None`` if there are too many to tell them all.
    """
    data = strict_json.loads(strict_json.read_text(file))
    if "active" not in data:
        return frozenset()
    kind = "flow" if "flow" in data else "build"
    flow, _ = _flow_path(data[kind], kind, root)
    base = _base_config(data, kind, flow, root)
    namer = _namer(data, file.stem)
    scenarios, rest = data["scenarios"], {key: value for key, value in data.items() if key != "active"}
    chosen: list[list[str] | None] = [None]
    if isinstance(scenarios, dict):
        if math.prod(len(values) + 1 for values in scenarios.values()) > _MOST_NAMES:
            return None
        chosen += [
            list(names)
            for size in range(1, len(scenarios))
            for names in itertools.combinations(scenarios, size)
        ]
    found = set()
    for active in chosen:
        with contextlib.suppress(_Problem):  # what cannot be collected leaves no run directory
            for variant in _variants(rest if active is None else {**rest, "active": active}, root):
                with contextlib.suppress(_Problem):
                    config = strict_json.merge(base, variant.values)
                    found.add(namer(variant, _Filler({**config, **_labels_of(variant)}, label_text)))
    return frozenset(found)


def lines_of(file: Path) -> dict[KeyPath, int]:
    """The 1-based line of every place in an instance file; empty if it is gone or damaged."""
    try:
        return strict_json.lines(strict_json.read_text(file))
    except (OSError, ConfigError, AssertionError, IndexError):
        return {}


def write_instances(
    df: pandas.DataFrame,
    path: str | os.PathLike[str],
    *,
    flow: str | None = None,
    build: str | None = None,
    config: Mapping[str, Any] | str | None = None,
    **keys: Any,
) -> Path:
    """Turn a data frame into an instance file: one scenario for each row, one line for each scenario.

    :param df: one column for each config key. A named or non-default index gives the labels, and its
        levels that have a name are config keys, too.
        Numpy scalars become Python values; missing values become ``null``, except ``NaN`` in a
        float column, which stays ``NaN``. Values are taken literally: braces in them are no templates.
    :param path: the instance file to write, for example ``instances/sweep.json``.
    :param flow: path of the flow below the project root; or
    :param build: path of the build. Exactly one of the two.
    :param config: the base config that each row is merged over, or the path of a JSON file.
    :param keys: other keys of the instance file: ``name``, ``step``, ``marks``, ``timeout``, …
    :returns: the path written. :raises ConfigError: if a value has no JSON type, naming row and column.
    """
    text = text_of_instances("write_instances", df, flow=flow, build=build, config=config, **keys)
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text, encoding="utf-8")
    return target


def text_of_instances(
    caller: str,
    df: pandas.DataFrame,
    *,
    flow: str | None,
    build: str | None,
    config: Mapping[str, Any] | str | None,
    **keys: Any,
) -> str:
    """The instance file of a data frame, as :func:`write_instances` writes it.

    :param caller: the function that errors name.
    """
    import pandas as pd  # slow to import, and only data frames need it

    if (flow is None) == (build is None):
        raise ConfigError(f"{caller}: give exactly one of flow and build")
    if "scenarios" in keys:
        raise ConfigError(f"{caller}: the scenarios are the rows of the data frame")
    if unknown := set(keys) - set(_KEYS):
        raise ConfigError(f"{caller}: unknown key {sorted(unknown)[0]!r}")
    if df.empty:
        raise ConfigError(f"{caller}: the data frame has no rows")
    if len({str(column) for column in df.columns}) < len(df.columns):
        raise ConfigError(f"{caller}: two columns have one name: {list(df.columns)}")
    head = {"flow": flow, "build": build, "config": config, **keys}
    head = {key: value for key, value in head.items() if value is not None}
    labelled = df.index.name is not None or not isinstance(df.index, pd.RangeIndex)
    rows: list[str] = []
    labels: dict[str, int] = {}
    try:
        strict_json.check_types(head)
        for position, (label, row) in enumerate(zip(df.index, records(with_index(df)), strict=True)):
            try:
                strict_json.check_types(row)
            except ConfigError as error:
                raise ConfigError(f"row {position}: {error}") from None
            row = {key: value if key == "label" else _escape(value) for key, value in row.items()}
            if labelled:
                row.setdefault("label", "-".join(map(str, label)) if isinstance(label, tuple) else str(label))
            rows.append(strict_json.dumps(row, indent=None).rstrip())
            if (
                "label" in row
                and labels.setdefault(key := label_text(str(row["label"])).casefold(), position) != position
            ):
                raise ConfigError(f"rows {labels[key]} and {position} have the same label {row['label']!r}")
    except ConfigError as error:
        raise ConfigError(f"{caller}: {error}") from None
    beginning = strict_json.dumps(head).rstrip().removesuffix("}").rstrip()
    return f'{beginning},\n  "scenarios": [\n    ' + ",\n    ".join(rows) + "\n  ]\n}\n"


# --- the file as a whole -------------------------------------------------------------------------


def _expand(data: Any, text: str, file: Path, root: Path) -> list[Instance]:
    if not isinstance(data, dict):
        raise _Problem((), f"an instance file holds one JSON object, not {_kind(data)}")
    _check_encodable(data)
    _check_keys(data)
    kind: Literal["flow", "build"] = "flow" if "flow" in data else "build"
    flow, about = _flow_path(data[kind], kind, root)
    base = _base_config(data, kind, flow, root)
    step = data.get("step", default_name(PurePosixPath(flow).stem))
    if reason := check_name(step):
        raise _Problem(("step",) if "step" in data else (kind,), f"the step {step!r} {reason}")
    marks = tuple(_mark(mark, ("marks", index)) for index, mark in enumerate(data.get("marks", ())))
    variants = list(_variants(data, root))
    namer = _namer(data, file.stem)
    configs = (about.merged(base), *(variant.values for variant in variants))
    has_dollar = any(map(references.has_dollar, configs))
    locator = Locator(root)
    inputs_of = _inputs(data.get("inputs", []), root)
    instances: list[Instance] = []
    fillers: list[_Filler] = []  # of each instance
    names: dict[str, str] = {}
    for variant in variants:
        config = strict_json.merge(base, variant.values)
        fillers.append(_Filler({**config, **_labels_of(variant)}, label_text))
        name = namer(variant, fillers[-1])
        if (other := names.setdefault(name.casefold(), name)) != name or len(names) == len(instances):
            same = "stands twice" if other == name else f"differs from {other!r} by case only"
            place = list(variant.places.values())[-1] if variant.places else ("name",)
            raise _Problem(place, f"the name {name!r} {same}: give labels or a `name`")
        try:
            _check_own_keys(config)
            fill = _Filler(config)
            config = about.merged(_fill(config, fill, ("config",)))
            plain = references.checked(config, ("config",)) if has_dollar else config
            place_of = functools.partial(_place_of, variant=variant, data=data)
            mentions = references.in_config(config, locator, f"{RUNS}/{step}/{name}", place_of)
            config = plain
        except _Problem as problem:
            raise _Problem(_place_of(problem.path, variant, data), problem.message) from None
        if config and about.parameters is None:
            raise _Problem((kind,), f"{flow}: {flow_file.NO_PARAMETERS}")
        inputs = inputs_of(fill)
        scenario = {
            key: config[key] if key in variant.values else label for key, label in variant.labels.items()
        }
        instances.append(
            Instance(
                name=name,
                step=step,
                kind=kind,
                flow=flow,
                config=config,
                scenario=scenario,
                marks=marks,
                timeout=data.get("timeout"),
                inputs=inputs,
                place=variant.place,
                mentions=(*mentions, *references.in_inputs(inputs, locator)),
                needs=data.get("needs", "all"),
            )
        )
        own = instances[-1].run_directory
        if any(not mention.as_list and is_in(mention.path, own) for mention in mentions):
            raise _Problem(
                variant.place or ("config",),
                f"refers to its own run directory {own}: a dependency cycle. "
                "A flow already runs there; use a path relative to it",
            )
    shown = relative(file, root)
    if kind == "flow" and about.parameters is not None:
        instances = _with_remarks(instances, variants, about.parameters, data, text, shown)
    if "expect" in data:
        lines = strict_json.lines(text)
        places = {name: (shown, lines[("expect", name)]) for name in data["expect"]}
        return _with_expectations(instances, fillers, data["expect"], places, locator)
    return instances


def _with_remarks(
    instances: list[Instance],
    variants: list[_Variant],
    parameters: Parameters,
    data: dict[str, Any],
    text: str,
    shown: str,
) -> list[Instance]:
    """Say which keys of an instance's config its flow does not declare: they are probably misspelt."""
    lines: dict[KeyPath, int] = {}
    made = []
    for instance, variant in zip(instances, variants, strict=True):
        remarks = []
        for path, hint in parameters.undeclared(instance.config):
            lines = lines or strict_json.lines(text)
            place = _place_of(("config", *path), variant, data)
            while place and place not in lines:
                place = place[:-1]
            key = strict_json.dotted(path)
            remark = f"⚠️ `{key}` is not declared in the parameters cell of {instance.flow}: {hint}"
            remarks.append((remark, f"{shown}:{lines.get(place, 1)}"))
        made.append(replace(instance, remarks=tuple(remarks)) if remarks else instance)
    return made


def _with_expectations(
    instances: list[Instance],
    fillers: list[_Filler],
    expect: dict[str, dict[str, Any]],
    places: dict[str, tuple[str, int]],
    locator: Locator,
) -> list[Instance]:
    if mistake := expectations.mistake(expect):
        raise _Problem(("expect", *mistake[0]), mistake[1])
    directories = {instance.name: instance.run_directory for instance in instances}
    made = []
    for instance, fill in zip(instances, fillers, strict=True):
        expected = []
        for measure, bounds in expect.items():
            baseline = None
            if "baseline" in bounds:
                path = ("expect", measure, "baseline")
                baseline = _baseline(fill(bounds["baseline"], path), path, directories, locator)
            own = baseline == instance.run_directory  # it is not compared with itself
            expected.append(Expectation(measure, bounds, None if own else baseline, *places[measure]))
        made.append(replace(instance, expected=tuple(expected)))
    return made


def _baseline(text: str, path: KeyPath, directories: Mapping[str, str], locator: Locator) -> str:
    """The run directory of a baseline, relative to the project root."""
    found = locator.path_of(text)
    if found is None or not is_in(found, RUNS):
        if text.startswith((f"{RUNS}/", f"./{RUNS}/")):
            raise _Problem(path, f"{text!r} leaves {RUNS}/")
        if text not in directories:
            raise _Problem(path, f"no instance of this file is called {text!r}{_near(text, directories)}")
        return directories[text]
    if found.count("/") < DEPTH - 1:
        raise _Problem(path, f"{text!r} is no run directory: those are {RUNS}/<step>/<instance>")
    if is_wild(found):
        raise _Problem(path, f"{text!r} has a wildcard: a baseline is one run")
    return found


def _check_own_keys(config: dict[str, Any]) -> None:
    """Keys with an underscore are ours: ``_no_execute`` would make a green build of one that did nothing."""
    for key in config:
        if key.startswith("_"):
            raise _Problem(("config", key), "config keys that start with `_` are set by ductaflow only")


def _place_of(path: KeyPath, variant: _Variant, data: dict[str, Any]) -> KeyPath:
    """The place in the instance file of a place in the config."""
    key = path[1] if len(path) > 1 else None
    if key in variant.places:
        return (*variant.places[str(key)], *path[2:])
    if key in data.get("overrides", {}):
        return ("overrides", *path[1:])
    return path


def _inputs(patterns: list[str], root: Path) -> Callable[[_Filler], tuple[str, ...]]:
    """The patterns of ``inputs`` for an instance, its templates filled; each is checked once."""
    known: set[str] = set()

    def inputs_of(fill: _Filler) -> tuple[str, ...]:
        filled = []
        for index, template in enumerate(patterns):
            path: KeyPath = ("inputs", index)
            pattern = fill(template, path) if _any_braces(template) else template
            if pattern not in known:
                _check_input(pattern, path, root)
                known.add(pattern)
            filled.append(pattern)
        return tuple(filled)

    return inputs_of


def _check_input(pattern: str, path: KeyPath, root: Path) -> None:
    _contained(pattern, root, path)
    if reason := check_pattern(pattern):
        raise _Problem(path, f"{pattern!r} {reason}")
    if regular.is_special(root / pattern):
        raise _Problem(path, f"{pattern!r} is not a regular file: nobody can tell whether it has changed")
    if ".." in re.split(r"[/\\]", pattern):  # behind a wildcard it leads nobody knows where
        raise _Problem(path, f"{pattern!r} must not contain `..`")


def _check_keys(data: dict[str, Any]) -> None:
    for key, value in data.items():
        if key not in _KEYS:
            near = difflib.get_close_matches(key, _KEYS, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"the keys are {', '.join(_KEYS)}"
            raise _Problem((key,), f"unknown key: {hint}")
        if not _has_type(key, value):
            given = repr(value) if key == "needs" and isinstance(value, str) else _kind(value)
            raise _Problem((key,), f"must be {_KEYS[key]}, not {given}")
    if "flow" in data and "build" in data:
        raise _Problem(("build",), "there is a `flow` too: an instance has exactly one of `flow` and `build`")
    if "flow" not in data and "build" not in data:
        raise _Problem((), "has neither `flow` nor `build`: name the .py file to run")
    if "active" in data and "scenarios" not in data:
        raise _Problem(("active",), "there are no `scenarios` to choose from")


def _check_encodable(value: Any, path: KeyPath = ()) -> None:
    """Refuse lone surrogates in keys and texts: names, ids and reports are sent and stored as UTF-8.

    Values of a config, also those from a list of scenarios, are no part of those and may hold any text.
    """
    if isinstance(value, str):
        row = len(path) > 2 and path[0] == "scenarios" and isinstance(path[1], int) and path[2] != "label"
        in_config = row or (len(path) > 1 and path[0] in ("config", "overrides"))
        if not in_config and _SURROGATE.search(value):
            raise _Problem(path, "has half of a surrogate pair, which is no character")
    elif isinstance(value, dict):
        for key, item in value.items():
            if _SURROGATE.search(key):
                raise _Problem((*path, key), "the key has half of a surrogate pair, which is no character")
            _check_encodable(item, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            _check_encodable(item, (*path, index))


def _has_type(key: str, value: Any) -> bool:
    if key == "config":
        return isinstance(value, (dict, str))
    if key in ("overrides", "expect"):
        return isinstance(value, dict)
    if key == "scenarios":
        return isinstance(value, (dict, list, str))
    if key in ("active", "inputs"):
        return isinstance(value, list) and all(isinstance(item, str) for item in value)
    if key == "needs":
        return value in ("all", "finished")
    if key == "marks":
        return isinstance(value, list) and all(isinstance(item, (str, dict)) for item in value)
    if key == "timeout":
        return isinstance(value, (int, float)) and value is not True and 0 < value <= _LONGEST
    return isinstance(value, str)


def _contained(text: str, root: Path, path: KeyPath, given: str | None = None) -> Path:
    """The path of a text that must lead to below the project root; ``given`` is the text as it stands."""
    shown = text if given is None else given
    if "\0" in text:
        raise _Problem(path, "has a NUL character")
    if not text or text.startswith(("/", "\\")) or re.match(r"[A-Za-z]:", text):
        raise _Problem(path, f"{shown!r} must be a path below the project root, relative to it")
    resolved = Path(os.path.realpath(root / text))
    if not resolved.is_relative_to(os.path.realpath(root)):
        raise _Problem(path, f"{shown!r} leads outside the project root ({resolved})")
    return root / text


def _flow_path(text: str, kind: str, root: Path) -> tuple[str, flow_file.About]:
    flow = os.path.normpath(text).replace(os.sep, "/") if text else text
    path = _contained(flow, root, (kind,), text)
    if path.suffix != ".py":
        raise _Problem((kind,), f"{text!r} is not a .py file")
    try:
        with unseen():  # in a build, what it calls counts by its meaning
            about = flow_file.examine(root / flow)
            shadows.check(root / flow, root)
            return flow, about
    except FlowError as error:
        raise _Problem((kind,), error.at(flow)) from None


def _base_config(data: dict[str, Any], kind: str, flow: str, root: Path) -> dict[str, Any]:
    config = data.get("config")
    if config is None:
        default = root / "config" / f"{kind}s" / f"{PurePosixPath(flow).stem}.json"
        config = _config_file(default, root, (kind,)) if default.exists() else {}
    elif isinstance(config, str):
        config = _config_file(_contained(config, root, ("config",)), root, ("config",))
    return strict_json.merge(config, data.get("overrides", {}))


def _config_file(path: Path, root: Path, key: KeyPath) -> dict[str, Any]:
    shown = relative(path, root)
    if not os.path.realpath(path).startswith(os.path.realpath(root) + os.sep):
        raise _Problem(key, f"{shown} leads outside the project root")
    try:
        config = strict_json.load(path)
    except ConfigError as error:
        raise _Problem(key, str(error).replace(str(path), shown)) from None
    if not isinstance(config, dict):
        raise _Problem(key, f"{shown} must hold a JSON object, not {_kind(config)}")
    try:
        _check_encodable(config, ("config",))
    except _Problem as problem:
        raise _Problem(key, f"{shown}: {strict_json.dotted(problem.path[1:])}: {problem.message}") from None
    return config


def _mark(mark: Any, path: KeyPath) -> Mark:
    """``"ci"``, ``"skip"``, or ``{"name": "xfail", "reason": "…", "strict": true}``."""
    if isinstance(mark, str):
        mark = {"name": mark}
    name = mark.get("name")
    if not isinstance(name, str) or not name.isidentifier() or name.startswith("_"):
        raise _Problem(path, 'a mark is a name, or an object such as {"name": "skip", "reason": "…"}')
    if name in _REFUSED_MARKS:
        raise _Problem(path, f"the mark {name!r} cannot be set in an instance file")
    arguments = {key: value for key, value in mark.items() if key != "name"}
    known = _MARK_ARGUMENTS.get(name, {})
    for key, value in arguments.items():
        if key not in known:
            allowed = ", ".join(known) or "none"
            raise _Problem((*path, key), f"unknown argument of the mark {name!r} (allowed: {allowed})")
        if not isinstance(value, known[key]):
            raise _Problem((*path, key), f"must be {_kind(known[key]())}, not {_kind(value)}")
    if name == "skipif" and set(arguments) != {"condition", "reason"}:
        raise _Problem(path, "skipif needs `condition` (true or false) and `reason`")
    return Mark(name, arguments)


# --- scenarios -----------------------------------------------------------------------------------


def _variants(data: dict[str, Any], root: Path) -> Iterable[_Variant]:
    scenarios = data.get("scenarios")
    if scenarios is None:
        return [_Variant({}, {}, (), {})]
    if isinstance(scenarios, dict):
        return _cross_product(scenarios, data.get("active"))
    if isinstance(scenarios, str):
        rows = _table(scenarios, root)
        variants = [_row_variant(row, ("scenarios",)) for row in rows]
    else:
        if not scenarios:
            raise _Problem(("scenarios",), "the list is empty")
        variants = [_list_variant(row, ("scenarios", index)) for index, row in enumerate(scenarios)]
    active = data.get("active")
    if active is None:
        return variants
    labelled = [(variant.label or _joined(variant), variant) for variant in variants]
    chosen = dict(labelled)
    for index, name in enumerate(active):
        if name not in chosen:
            raise _Problem(("active", index), f"no scenario has the label {name!r}{_near(name, chosen)}")
    if not active:
        raise _Problem(("active",), "the list is empty")
    return [variant for label, variant in labelled if label in set(active)]


def _cross_product(dimensions: dict[str, Any], active: list[str] | None) -> list[_Variant]:
    if not dimensions:
        raise _Problem(("scenarios",), "there is no dimension")
    for index, name in enumerate(active or ()):
        if name not in dimensions:
            raise _Problem(("active", index), f"there is no dimension {name!r}{_near(name, dimensions)}")
    if active is not None and not active:
        raise _Problem(("active",), "the list is empty")
    axes: list[list[_Variant]] = []
    for name, values in dimensions.items():
        path: KeyPath = ("scenarios", name)
        if not isinstance(values, list):
            raise _Problem(path, f"a dimension is a list of values, not {_kind(values)}")
        if not values:
            raise _Problem(path, "the dimension is empty")
        if active is None or name in active:
            axes.append([_dimension_value(name, value, i, (*path, i)) for i, value in enumerate(values)])
    return [
        _Variant(
            functools.reduce(strict_json.merge, (variant.values for variant in combination), {}),
            {key: label for variant in combination for key, label in variant.labels.items()},
            combination[0].place,
            {key: place for variant in combination for key, place in variant.places.items()},
        )
        for combination in itertools.product(*axes)
    ]


def _dimension_value(name: str, value: Any, index: int, path: KeyPath) -> _Variant:
    if isinstance(value, dict) and "label" in value:
        label = value["label"]
        if not isinstance(label, str):
            raise _Problem((*path, "label"), f"a label is a string, not {_kind(label)}")
        rest = {key: item for key, item in value.items() if key != "label"}
        return _Variant(rest, {name: label}, path, {name: path, **{key: (*path, key) for key in rest}})
    return _Variant({name: value}, {name: _value_label(name, value, index)}, path, {name: path})


def _value_label(name: str, value: Any, index: int) -> str:
    """As pytest makes ids of parameter values: plain values as they are, others by name and index."""
    if value is None or isinstance(value, (str, int, float)):
        return str(value)
    return f"{name}{index}"


def _list_variant(row: Any, path: KeyPath) -> _Variant:
    if not isinstance(row, dict):
        raise _Problem(path, f"a scenario is an object, not {_kind(row)}")
    if not row:
        raise _Problem(path, "the scenario is empty")
    return _row_variant(row, path)


def _row_variant(row: dict[str, Any], path: KeyPath) -> _Variant:
    label = row.get("label")
    if label is not None and not isinstance(label, (str, int, float)):
        raise _Problem((*path, "label"), f"a label is a string, not {_kind(label)}")
    values = {key: value for key, value in row.items() if key != "label"}
    index = path[-1] if isinstance(path[-1], int) else 0
    labels = {key: _value_label(key, value, index) for key, value in values.items()}
    places = {key: path if path == ("scenarios",) else (*path, key) for key in values}  # a table has one
    return _Variant(values, labels, path, places, None if label is None else str(label))


def _joined(variant: _Variant) -> str:
    return "-".join(variant.labels.values())


def _table(text: str, root: Path) -> list[dict[str, Any]]:
    try:
        return read_table(_contained(text, root, ("scenarios",)))
    except ConfigError as error:
        raise _Problem(("scenarios",), f"{text}: {error}") from None


# --- names, templates, references ----------------------------------------------------------------


def _labels_of(variant: _Variant) -> dict[str, str]:
    labels = {key: label_text(label) for key, label in variant.labels.items()}
    return labels if variant.label is None else {**labels, "label": label_text(variant.label)}


def _namer(data: dict[str, Any], stem: str) -> Callable[[_Variant, _Filler], str]:
    template = data.get("name")
    default = default_name(stem)

    def name_of(variant: _Variant, fill: _Filler) -> str:
        if template is not None:
            name = fill(template, ("name",))
        elif variant.place == ():
            name = default
        else:
            label = variant.label if variant.label is not None else _joined(variant)
            name = f"{default}-{label_text(label)}"
        if problem := check_name(name):
            place = ("name",) if template is not None else variant.place
            raise _Problem(place, f"the name {name!r} {problem}: give `name` or a `label`")
        return name

    return name_of


def _any_braces(value: Any) -> bool:
    if isinstance(value, str):
        return "{" in value or "}" in value
    if isinstance(value, dict):
        return any(_any_braces(item) for item in value.values())
    return isinstance(value, list) and any(_any_braces(item) for item in value)


def _fill(value: Any, fill: Callable[[str, KeyPath], str], path: KeyPath) -> Any:
    """A config value with its templates filled."""
    if isinstance(value, str):
        return fill(value, path) if _any_braces(value) else value
    if isinstance(value, dict):
        return {key: _fill(item, fill, (*path, key)) for key, item in value.items()}
    if isinstance(value, list):
        return [_fill(item, fill, (*path, index)) for index, item in enumerate(value)]
    return value


class _Filler:
    """Fills ``{key}`` from values; a value may be a template itself, and is filled once."""

    def __init__(self, values: Mapping[str, Any], convert: Callable[[str], str] = str) -> None:
        self._values, self._convert = values, convert
        self._filled: dict[str, str] = {}
        self._within: list[str] = []

    def __call__(self, template: str, path: KeyPath) -> str:
        parts: list[str] = []
        position = length = 0
        for match in _FIELD.finditer(template):
            parts += (template[position : match.start()], self._field(match, template, path))
            position = match.end()
            length += len(parts[-1])
            if length > _LONGEST_TEXT:
                raise _Problem(path, f"{template[:50]!r} becomes too long: over {_LONGEST_TEXT:,} characters")
        return "".join((*parts, template[position:]))

    def _field(self, match: re.Match[str], template: str, path: KeyPath) -> str:
        text, key = match.group(), match[1]
        if text in ("{{", "}}"):
            return text[0]
        if key is None:
            raise _Problem(path, f"a single {text!r} in {template!r}: write {text * 2!r} for the character")
        if key not in self._values:
            plain = ": plain keys only, no attribute, index or format" if re.search(r"[.\[\]!:]", key) else ""
            unknown = f": no such key in the config{_near(key, self._values)}"
            raise _Problem(path, f"{text} in {template!r}{plain or unknown}")
        if key in self._within:
            raise _Problem(path, f"{text} in {template!r} needs itself")
        value = self._values[key]
        if isinstance(value, (dict, list)):
            raise _Problem(path, f"{text} in {template!r} is {_kind(value)}, which is no part of a text")
        if key not in self._filled:
            if isinstance(value, str) and _any_braces(value):
                if len(self._within) == _LONGEST_CHAIN:
                    raise _Problem(path, f"needs a chain of more than {_LONGEST_CHAIN} templates")
                self._within.append(key)
                value = self(value, path)
                self._within.pop()
            self._filled[key] = self._convert(str(value))
        return self._filled[key]


def _escape(value: Any) -> Any:
    if isinstance(value, str):
        return value.replace("{", "{{").replace("}", "}}")
    if isinstance(value, dict):
        dollars = {key for key in value if key.startswith("$") and key != PATHS}
        return {f"${key}" if key in dollars else key: _escape(item) for key, item in value.items()}
    return [_escape(item) for item in value] if isinstance(value, list) else value
