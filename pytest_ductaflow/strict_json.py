"""JSON as we read, write, merge and show it.

Reading is strict where Python's ``json`` is lenient: a key twice in one object, a number too large
for a float, a byte-order mark. ``NaN``, ``Infinity`` and ``-Infinity`` are read and written, because
data frames hold them. The C parser does the work; only when a line number is asked for does
:func:`locate` scan the text once more.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from pytest_ductaflow import regular
from pytest_ductaflow.errors import ConfigError

#: The way to a value: keys of objects and indexes of arrays.
KeyPath = tuple[str | int, ...]

#: The key of an object that stands for a list of paths.
PATHS: Final = "$paths"

#: Levels of nesting; what handles configs later is recursive.
_DEEPEST: Final = 100
_SECRET: Final = re.compile("password|passwd|token|secret", re.IGNORECASE)
_TOKEN: Final = re.compile(
    r'[ \t\r\n]*(?:(?P<text>"(?:[^"\\]|\\.)*")|(?P<mark>[\[\]{},:])|(?P<word>[^\[\]{},:" \t\r\n]+))',
    re.DOTALL,
)


class JSONProblem(ConfigError):
    """Why a text is not acceptable JSON, with the 1-based line of the place."""

    def __init__(self, message: str, line: int = 1, key: str = "") -> None:
        super().__init__(message, line, key)
        self.message, self.line, self.key = message, line, key

    def __str__(self) -> str:
        return f"line {self.line}: {self.key + ': ' if self.key else ''}{self.message}"


class _Duplicate(Exception):
    pass


def loads(text: str) -> Any:
    """Parse JSON strictly.

    :raises JSONProblem: naming the line, and the key where there is one.
    """
    try:
        value = json.loads(text, object_pairs_hook=_object, parse_float=_number)
        if text.count("[") + text.count("{") > _DEEPEST and _is_deeper(value, _DEEPEST):
            raise RecursionError
        return value
    except json.JSONDecodeError as error:
        raise JSONProblem(f"invalid JSON: {error.msg} (column {error.colno})", error.lineno) from None
    except _Duplicate:
        path, line = next(_duplicates(text))
        raise JSONProblem("this key stands twice in one object", line, dotted(path)) from None
    except RecursionError:
        raise JSONProblem("nested too deeply") from None
    except ValueError as error:  # a number: too large for a float, or too long for an int
        raise JSONProblem(f"number out of range: {str(error)[:60]}", _line_of_bad_number(text)) from None


def load(path: Path) -> Any:
    """Read a JSON file strictly.

    :raises ConfigError: naming the file, and the line where there is one.
    """
    try:
        return loads(read_text(path))
    except JSONProblem as problem:
        key = f"{problem.key}: " if problem.key else ""
        raise ConfigError(f"{path}:{problem.line}: {key}{problem.message}") from None
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}") from None


def read_text(path: Path) -> str:
    """The text of a UTF-8 file without a byte-order mark.

    :raises JSONProblem: if it has one or is not UTF-8. :raises OSError: if it cannot be read.
    """
    data = regular.read_bytes(path)
    if data.startswith((b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")):
        raise JSONProblem("starts with a byte-order mark (BOM): save it as UTF-8 without one")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise JSONProblem(f"not UTF-8: byte 0x{data[error.start]:02x}", line) from None


def dumps(value: Any, indent: int | None = 2) -> str:
    """JSON text for people: indented, Unicode as it is, with a newline at the end."""
    text = json.dumps(value, indent=indent, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:  # a lone surrogate is legal in JSON only as an escape
        text = json.dumps(value, indent=indent)
    return text + "\n"


def canonical(value: Any) -> str:
    """One text for equal values: keys sorted, no spaces, ``NaN`` equal to itself, 1 and 1.0 apart."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def plain(value: Any) -> Any:
    """The value with paths as texts and numpy's scalars as Python's; what else JSON lacks stays as it is."""
    if type(value) is dict:
        return {key: plain(item) for key, item in value.items()}
    if type(value) is list:
        return [plain(item) for item in value]
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    numpy = sys.modules.get("numpy")  # who has a scalar of it has loaded it
    return value.item() if numpy is not None and isinstance(value, numpy.generic) else value


def check_types(value: Any, path: KeyPath = ()) -> None:
    """Refuse what JSON would change silently: dates, ``Decimal``, tuples, ``Path``, numpy scalars.

    :raises ConfigError: naming the key and the type.
    """
    if value is None or type(value) in (str, bool, int, float):
        return
    if type(value) is dict:
        for key, item in value.items():
            if type(key) is not str:
                raise ConfigError(f"{dotted(path) or 'config'}: the key {key!r} is not a string")
            check_types(item, (*path, key))
    elif type(value) is list:
        for index, item in enumerate(value):
            check_types(item, (*path, index))
    else:
        kind = f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.")
        raise ConfigError(
            f"{dotted(path) or 'config'}: {kind} is not a JSON type "
            "(use a string, number, true/false, null, list or object)"
        )


def kind_of(value: Any) -> str:
    """What a value is, in the words of messages: ``an object``, ``the number 3``."""
    names = {dict: "an object", list: "a list", str: "a string", bool: "true or false", type(None): "null"}
    return names.get(type(value), f"the number {value}")


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """``base`` with ``over`` on top: objects merge key by key, anything else replaces.

    An object that stands for a list of paths is no object here.
    """
    merged = dict(base)
    for key, value in over.items():
        below = merged.get(key)
        if isinstance(below, dict) and isinstance(value, dict) and PATHS not in {**below, **value}:
            merged[key] = merge(below, value)
        else:
            merged[key] = value
    return merged


def redact(value: Any, hide: tuple[type, ...] = ()) -> Any:
    """The value as views show it: texts below a key like ``password`` or ``token`` are hidden.

    So are numbers below a password, but not below ``max_tokens``.

    :param hide: types whose values are hidden.
    """
    if isinstance(value, dict):
        return {key: redact(item, (*hide, *_hidden_below(key))) for key, item in value.items()}
    if isinstance(value, list):
        return [redact(item, hide) for item in value]
    return "***" if isinstance(value, hide) and not isinstance(value, bool) else value


def _hidden_below(key: str) -> tuple[type, ...]:
    if not _SECRET.search(key):
        return ()
    return (str,) if "token" in key.lower() else (str, int, float)


def dotted(path: KeyPath) -> str:
    """A key path as text: ``scenarios.origin[2]``."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return encodable(text)


def encodable(text: str) -> str:
    """The text for messages: what UTF-8 cannot hold, a lone surrogate, as its escape."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def locate(text: str, path: KeyPath) -> int:
    """The 1-based line of the value at ``path``, or of the nearest thing above it that exists."""
    known = lines(text)
    while path and path not in known:
        path = path[:-1]
    return known.get(path, 1)


def lines(text: str) -> dict[KeyPath, int]:
    """The 1-based line of every key and array element of a well-formed text."""
    return dict(_walk(text))


def _is_deeper(value: Any, limit: int) -> bool:
    level = [value]
    for _ in range(limit):
        level = [
            inner
            for outer in level
            if isinstance(outer, (dict, list))
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
    return any(isinstance(inner, (dict, list)) for inner in level)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise _Duplicate
    return result


def _number(text: str) -> float:
    number = float(text)
    if number in (float("inf"), float("-inf")):
        raise ValueError(text)
    return number


def _line_of_bad_number(text: str) -> int:
    for token in _TOKEN.finditer(text):
        word = token["word"]
        if word and word[-1].isdigit():
            try:
                _number(word)
                int(word) if word.lstrip("-").isdigit() else None
            except ValueError:
                return text.count("\n", 0, token.start("word")) + 1
    return 1


def _duplicates(text: str) -> Iterator[tuple[KeyPath, int]]:
    seen: set[KeyPath] = set()
    for path, line in _walk(text):
        if path in seen:
            yield path, line
        seen.add(path)


def _walk(text: str) -> Iterator[tuple[KeyPath, int]]:
    """Every key and array element of a well-formed text, with its line, in order."""
    stack: list[str | int] = []  # the key or index at each open level
    opened: list[str] = []
    expects_key = False
    line, counted = 1, 0
    for token in _TOKEN.finditer(text):
        kind = token.lastgroup
        assert kind is not None
        start = token.start(kind)
        word = token.group(kind)
        line += text.count("\n", counted, start)
        counted = start
        if expects_key and kind == "text":
            stack[-1] = json.loads(word)
            yield tuple(stack), line
            expects_key = False
        elif word in ("]", "}") and kind == "mark":
            opened.pop()
            stack.pop()
            expects_key = False
        elif word == "," and kind == "mark":
            if opened[-1] == "[":
                index = stack[-1]
                assert isinstance(index, int)
                stack[-1] = index + 1
            else:
                expects_key = True
        elif word != ":" or kind != "mark":
            if opened and opened[-1] == "[":
                yield tuple(stack), line
            if kind == "mark":
                opened.append(word)
                stack.append(0 if word == "[" else "")
                expects_key = word == "{"
