"""Where Python would find modules in the project: a file that appears there may be imported instead.

For ``a.b`` that is, in each directory to import from, a package ``a/`` or a module ``a``, then the same of
``b`` in the package. A package's ``__init__`` counts before a namespace, a package before a module, and a
module with any of Python's endings. A file named like a module of Python's or of an installed library
hides that from everyone.
"""

from __future__ import annotations

import functools
import importlib.machinery
import os
import sys
import sysconfig
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

from pytest_ductaflow import digests, meaning
from pytest_ductaflow.digests import may_change_unseen, stat_of
from pytest_ductaflow.paths import name_of

_ENDINGS: Final = frozenset(importlib.machinery.all_suffixes())
#: The modules in a directory, with its stat and the moment (ns) at which that was taken.
_directories: Final[dict[str, tuple[digests.Stat, int, dict[str, tuple[str, ...]]]]] = {}


def candidates(files: Iterable[Path], loaded: Iterable[str], places: Sequence[str], root: Path) -> set[str]:
    """The files of the project that the imports of a run may lead to, whether they did or not.

    :param files: of code, whose imports count. :param loaded: names of files that were imported.
    :param places: directories to import from. :returns: names, relative to the root.
    """
    below = [place for place in places if _is_below(place, root)]
    known = digests.of_project(root)
    imports = {name for file in loaded for name in _dotted(file, tuple(below), root)}
    for path in files:
        if (found := known.of(path)) is not None:
            imports |= meaning.mentions_in(path, found).imports
    paths = {path for place in below for module in imports for path in _on_the_way(module, place)}
    paths |= {path for place in below for path in _hiding(place)}
    return {name_of(path, root) for path in paths if os.path.isfile(path)}


def top_level(loaded: Iterable[str], places: Sequence[str], root: Path) -> set[str]:
    """The top-level names of files that were imported."""
    below = tuple(place for place in places if _is_below(place, root))
    return {name.partition(".")[0] for file in loaded for name in _dotted(file, below, root)}


def in_vain(modules: Iterable[str], places: Sequence[str], root: Path) -> Iterator[str]:
    """What is not there, and would be found, if it were, by the imports that found nothing."""
    for module in modules:
        for place in places:
            if _is_below(place, root):
                start = os.path.join(place, *module.split("."))
                yield from (
                    name_of(start + ending, root)
                    for ending in ("", *sorted(_ENDINGS))
                    if not os.path.lexists(start + ending)
                )


def _is_below(path: str, root: Path) -> bool:
    return f"{path}{os.sep}".startswith(f"{root}{os.sep}")


@functools.lru_cache(maxsize=10_000)
def _dotted(file: str, places: tuple[str, ...], root: Path) -> tuple[str, ...]:
    """The names by which a file may have been imported."""
    path = os.path.join(root, file)
    found = []
    for place in places:
        if path.startswith(f"{place}{os.sep}"):
            *parents, name = path[len(place) + 1 :].split(os.sep)
            stem = name.partition(".")[0]
            parts = parents if stem == "__init__" else [*parents, stem]
            if parts and all(map(str.isidentifier, parts)):
                found.append(".".join(parts))
    return tuple(found)


def _on_the_way(module: str, place: str) -> Iterator[str]:
    folder = place
    for part in module.split("."):
        for name in _modules_in(folder).get(part, ()):
            if name != part:
                yield os.path.join(folder, name)
        if part not in _modules_in(folder).get(part, ()):
            return
        folder = os.path.join(folder, part)
        yield from (os.path.join(folder, name) for name in _modules_in(folder).get("__init__", ()))


def _hiding(place: str) -> Iterator[str]:
    """What has the name of a module of Python's or of an installed library."""
    here = _modules_in(place)
    for stem in here.keys() & (sys.stdlib_module_names | _installed()):
        yield from _on_the_way(stem, place)


def _installed() -> set[str]:
    places = {sysconfig.get_path(name) for name in ("purelib", "platlib")}
    return {name for place in places for name in _modules_in(place)}


def _modules_in(directory: str) -> dict[str, tuple[str, ...]]:
    """The modules and directories in a directory, by name, remembered as long as its stat is the same."""
    moment = time.time_ns()
    try:
        state = stat_of(os.stat(directory))
        entry = _directories.get(directory)
        if entry is None or entry[0] != state or may_change_unseen(state, entry[1]):
            found: dict[str, tuple[str, ...]] = {}
            for name in os.listdir(directory):
                stem, dot, ending = name.partition(".")
                if not dot or dot + ending in _ENDINGS:
                    found[stem] = (*found.get(stem, ()), name)
            _directories[directory] = entry = state, moment, found
    except OSError:
        return {}
    return entry[2]
