"""References: texts of an instance that may lead into another one's run directory.

A text of a config or a pattern of ``inputs`` is a reference if what it names lies in another instance's
run directory, is it, or holds it: ``runs/fit/a/o.txt``, ``runs/fit/a``, ``runs/fit``, ``runs/**/o.txt``.
Here the texts are found that may lead somewhere; where they do lead is known once all instances of the
project are (``project``).
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pytest_ductaflow.problem import Problem, near
from pytest_ductaflow.strict_json import PATHS, KeyPath, kind_of

#: The directory below the project root that holds all run directories.
RUNS: Final = "runs"
#: A run directory is ``runs/<step>/<name>``: so many names.
DEPTH: Final = 3

_WILD: Final = re.compile(r"[*?[]")
#: The longest path, in characters.
_LONGEST: Final = 4096
_SURROGATE: Final = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class Mention:
    """A text that may be a reference.

    :param text: as it stands, templates filled.
    :param path: what it names, relative to the project root, normalised; perhaps with wildcards.
    :param where: the place in the instance: ``("config", "models", 0)``, ``("inputs", 0)``.
    :param place: the place in the instance file.
    :param injected: the absolute path that the flow gets instead, ``None`` if the text stays as it is.
    :param as_list: whether it is the pattern of ``{"$paths": …}``.
    """

    text: str
    path: str
    where: KeyPath
    place: KeyPath
    injected: str | None = None
    as_list: bool = False

    @property
    def by_name(self) -> bool:
        """Whether it names one run directory, rather than what there is."""
        parts = self.path.split("/", DEPTH)[:DEPTH]
        return len(parts) == DEPTH and not is_wild("/".join(parts))


def run_directory_of(path: str) -> str:
    """The run directory that a normalised path below ``runs`` lies in, if it is deep enough."""
    return "/".join(path.split("/", DEPTH)[:DEPTH])


def is_wild(path: str) -> bool:
    """Whether it has wildcards."""
    return _WILD.search(path) is not None


def is_in(path: str, directory: str) -> bool:
    """Whether a path is a directory, or lies in it."""
    return path == directory or path.startswith(f"{directory}/")


# --- what a text names ---------------------------------------------------------------------------


class Locator:
    """Says what a text names below a project root, whichever way it is spelled.

    :param root: the project root, absolute. It, and ``runs`` in it, may be symbolic links.
    """

    def __init__(self, root: Path) -> None:
        self.root = str(root)
        self._roots = tuple(dict.fromkeys((self.root, os.path.realpath(root))))
        self._runs = os.path.realpath(root / RUNS)  # perhaps on another disk,
        self._alias = self._below_root(self._runs)  # perhaps another directory of the project
        self._known: dict[str, str | None] = {}

    def path_of(self, text: str) -> str | None:
        """The text as a normalised path relative to the project root; ``None`` if it names nothing below."""
        if text not in self._known:
            self._known[text] = self._path_of(text)
        return self._known[text]

    def _path_of(self, text: str) -> str | None:
        if not text or len(text) > _LONGEST or "\n" in text or "\0" in text:
            return None
        path: str | None = _normal(os.path.expanduser(text) if text.startswith("~") else text)
        if path is not None and path.startswith("/"):
            path = self._relative(path) or self._relative(_real(path))
        if path is not None and self._alias is not None and is_in(path, self._alias):
            path = RUNS + path[len(self._alias) :]
        return path

    def _relative(self, path: str) -> str | None:
        below = self._below_root(path)
        if below is None and is_in(path, self._runs):
            return RUNS + path[len(self._runs) :]
        return below

    def _below_root(self, path: str) -> str | None:
        for root in self._roots:
            if is_in(path, root):
                return path[len(root) :].strip("/") or "."
        return None


def _normal(text: str) -> str:
    """Without ``.``, ``..`` and repeated slashes. A ``..`` behind a wildcard leads anywhere below."""
    parts = text.split("/")
    first = next((index for index, part in enumerate(parts) if is_wild(part)), len(parts))
    if ".." in parts[first:]:
        parts = [*parts[:first], "**"]
    normal = os.path.normpath("/".join(parts))
    return f"/{normal.lstrip('/')}" if normal.startswith("/") else normal


def _real(path: str) -> str:
    """An absolute path with links resolved, up to the last name or the first wildcard."""
    parts = path.split("/")
    first = next((index for index, part in enumerate(parts) if is_wild(part)), len(parts) - 1)
    return "/".join((_real_directory("/".join(parts[:first])), *parts[first:]))


@functools.lru_cache(maxsize=1024)
def _real_directory(path: str) -> str:
    return os.path.realpath(path or "/").rstrip("/")


# --- the texts of an instance --------------------------------------------------------------------


def in_config(
    config: dict[str, Any], locator: Locator, run_directory: str, place_of: Callable[[KeyPath], KeyPath]
) -> tuple[Mention, ...]:
    """The texts of a config that may be references.

    :param config: templates filled, its keys checked but still with ``$$``.
    :param place_of: from a place in the config to the one in the instance file.
    :raises Problem: if a path below ``runs`` leaves it or is no path; the place is that in the config.
    """

    def look(value: Any, where: KeyPath) -> Iterator[Mention]:
        if isinstance(value, str):
            if "/" in value:  # else it names nothing below anything
                yield from _of_text(value, locator, run_directory, where, place_of)
        elif isinstance(value, dict):
            if PATHS in value:
                path = locator.path_of(value[PATHS])
                if path is None:
                    raise Problem((*where, PATHS), f"{value[PATHS]!r} is no path below the project root")
                yield Mention(value[PATHS], path, where, place_of(where), as_list=True)
                return
            for key, item in value.items():
                yield from look(item, (*where, key[1:] if key.startswith("$$") else key))
        elif isinstance(value, list):
            for index, item in enumerate(value):
                yield from look(item, (*where, index))

    return tuple(look(config, ("config",)))


def _of_text(
    text: str, locator: Locator, run_directory: str, where: KeyPath, place_of: Callable[[KeyPath], KeyPath]
) -> Iterator[Mention]:
    """A config text as a mention, if it may be a reference.

    A path that begins with ``..`` is seen from the run directory: there the flow runs. ``runs/`` alone may be
    the directory for a build's own runs, and a pattern such as ``**/*.csv`` may be for anything.
    """
    from_run = text.startswith("../")
    path = locator.path_of(f"{run_directory}/{text}" if from_run else text)
    if text.startswith((f"{RUNS}/", f"./{RUNS}/")):
        if "\0" in text or (path is not None and not is_in(path, RUNS)):
            raise Problem(where, f"{text!r} leaves {RUNS}/")
        if _SURROGATE.search(text):
            raise Problem(where, f"{text!r} has half of a surrogate pair, which is no character")
    if path is None or (from_run and is_in(path, run_directory)):
        return
    absolute = text.startswith("/")
    if is_in(path, RUNS) and (path != RUNS or absolute):
        kept = text if ".." in text.split("/") and is_wild(text) else path
        injected = None if absolute or from_run else f"{locator.root}/{kept}"
        yield Mention(text, path, where, place_of(where), injected)
    elif _may_lead_in(path) and (absolute or path.split("/", 1)[0].strip("*?")):
        yield Mention(text, path, where, place_of(where))


def in_inputs(patterns: Iterable[str], locator: Locator) -> Iterator[Mention]:
    """The patterns of ``inputs`` that may be references."""
    for index, pattern in enumerate(patterns):
        path = locator.path_of(pattern)
        if path is not None and (is_in(path, RUNS) or _may_lead_in(path)):
            yield Mention(pattern, path, ("inputs", index), ("inputs", index))


def _may_lead_in(path: str) -> bool:
    """Whether a pattern that begins with a wildcard is for files in run directories, among others."""
    parts = path.split("/")
    return is_wild(parts[0]) and (len(parts) > DEPTH or "**" in parts)


# --- keys with a dollar --------------------------------------------------------------------------


def has_dollar(value: Any) -> bool:
    """Whether some key of the value, at any depth, begins with ``$``."""
    if isinstance(value, dict):
        return any(key.startswith("$") or has_dollar(item) for key, item in value.items())
    return isinstance(value, list) and any(map(has_dollar, value))


def checked(value: Any, where: KeyPath) -> Any:
    """A config value with ``$$`` at the beginning of keys as ``$``: other keys with ``$`` are ours.

    ``$schema`` is for editors, and stays.

    :raises Problem: for an unknown key, or ``{"$paths": …}`` in a wrong form.
    """
    if isinstance(value, list):
        return [checked(item, (*where, index)) for index, item in enumerate(value)]
    if not isinstance(value, dict):
        return value
    for key in value:
        if key.startswith("$") and not key.startswith("$$") and key not in (PATHS, "$schema"):
            other = f"write {'$' + key!r} if the flow is to get {key!r}"
            raise Problem((*where, key), f"unknown key{near(key, [PATHS])}; {other}")
    if PATHS in value:
        if len(where) == 1:
            raise Problem((*where, PATHS), "stands for a list, and the config is an object: give it a key")
        if len(value) > 1:
            others = ", ".join(repr(key) for key in value if key != PATHS)
            raise Problem(where, f"{PATHS!r} stands for a list: the object has no other keys ({others})")
        if not isinstance(value[PATHS], str) or not value[PATHS]:
            given = kind_of(value[PATHS]) if value[PATHS] != "" else "an empty string"
            raise Problem((*where, PATHS), f"must be a pattern of run directories, not {given}")
    return {
        key[1:] if key.startswith("$$") else key: checked(item, (*where, key)) for key, item in value.items()
    }
