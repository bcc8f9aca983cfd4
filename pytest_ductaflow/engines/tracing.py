"""What a run reads, writes and looks for below the project root, seen from within its process.

An audit hook sees each file that Python opens, each directory that it lists and each module that it
imports; files whose existence alone is asked for are seen where ``os.path`` and ``pathlib`` ask. Each
is written to the trace once, at once, so the processes that a run forks trace as well. Of what is read
the trace keeps its state at that moment, which tells later whether it changed while the run went on.

What C, C++ or Rust code opens is not seen (see ``freshness``, which has other sources, too).

The trace is a file of JSON lines: a kind, a path relative to the project root, and a state.
"""

from __future__ import annotations

import contextlib
import functools
import genericpath
import glob
import importlib.util
import itertools
import json
import linecache
import os
import pathlib
import re
import shlex
import stat
import sys
import time
import types
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

from pytest_ductaflow.context import current, unseen, within
from pytest_ductaflow.digests import digest, may_change_unseen, stat_of
from pytest_ductaflow.engines import callers
from pytest_ductaflow.engines.callers import installed

__all__ = ["Loaded", "Trace", "installed", "read", "unseen"]

#: Between an option or a redirection and its file.
_GLUED: Final = re.compile("[=<>]+")
#: A module that is none: it stands in ``sys.modules`` behind those that were loaded before a run.
_MARK: Final = f"{__name__}.loaded_before"

# Kinds of lines. A module is read by Python itself and counts by its meaning.
READ: Final = "read"
WRITTEN: Final = "written"
MADE: Final = "made"  # a directory or a link
APPENDED: Final = "appended to"  # a log: running again would not restore it
BY_THE_RUN: Final = frozenset({WRITTEN, MADE, APPENDED})
LOOKED_FOR: Final = "looked for"
LISTED: Final = "listed"
LISTED_BY: Final = "listed by "  # a library; the directory is one to import from
WALKED: Final = "walked"  # a library that lists all directories to import from, as that of installed ones
LINKED: Final = "linked"  # a file that was given another name: its change time is no sign of a change
MODULE: Final = "module"

#: Directories, anywhere in a path, in which nobody's data lies.
UNSEEN: Final = frozenset(
    {".git", "__pycache__", ".pytest_cache", ".mypy_cache", ".tox", ".ipynb_checkpoints"}
)
#: Of a directory that a command names, so many are looked at; with more, the run is never up to date.
_MOST_FOLDERS: Final = 1000
#: Of directories that a command names, it is taken to go to so many.
_MOST_PLACES: Final = 3


class Trace:
    """Traces this process into a file.

    :param file: path of the trace. :param root: the project root.
    """

    def __init__(self, file: str, root: str) -> None:
        self._file = file
        runs = os.path.join(root, "runs")  # may be a link to another disk
        places = {root: "", os.path.realpath(root): "", os.path.realpath(runs): "runs/"}
        self._roots = {os.path.join(path, ""): name for path, name in places.items()}
        self._root = os.path.join(root, "")
        self._prefixes = tuple(self._roots)
        self._seen: set[tuple[str, str]] = set()
        self._in_vain: set[str] = set()  # looked for
        self._unresolved: dict[str, None] = {}
        self.lost = False
        self._events: Final[dict[str, Callable[[Any], None]]] = {
            "open": self._open,
            "os.listdir": self._list,
            "os.scandir": self._list,
            "sqlite3.connect": self._connect,
            "os.rename": self._rename,
            "os.mkdir": lambda arguments: self._make(arguments[0], arguments[2]),
            "os.symlink": lambda arguments: self._make(arguments[1], arguments[2]),
            "os.link": self._link,
            "subprocess.Popen": lambda arguments: self._start(arguments[1], arguments[2]),
            "os.system": lambda arguments: self._start(arguments[0]),
            "os.exec": lambda arguments: self._start(arguments[1]),
            "os.posix_spawn": lambda arguments: self._start(arguments[1]),
        }

    def watch(self) -> None:
        """Begin. There is no end: a hook stays."""
        sys.addaudithook(self._hook)
        sys.meta_path.append(self)  # a finder that finds nothing
        vars(genericpath)["os"] = _Os(self._look_for)
        vars(linecache)["getlines"] = _looking(linecache.getlines, self._look_at_lines)
        for name in ("exists", "is_file", "is_dir"):
            setattr(pathlib.Path, name, _looking(getattr(pathlib.Path, name), self._look_for))

    def summary(self, loaded: Loaded, known: frozenset[str]) -> dict[str, Any]:
        """What is known at the end only.

        :param loaded: modules that were there before the run.
        :param known: top-level modules that are no choice of the run's.
        :returns: ``import_path``: directories of the project that modules were looked for in;
            ``modules``: the project's own files that are loaded; ``libraries``: names of other
            top-level modules; ``unresolved``: modules that the project's code imported in vain;
            ``lost``: whether something may be missing.
        """
        names = [self._below(file) for file in loaded.files() if file.startswith(self._prefixes)]
        return {
            "modules": [name for name in names if name],
            "libraries": sorted(loaded.top_level() - known),
            "unresolved": [name for name in self._unresolved if name not in sys.modules],
            "import_path": [name for path in sys.path if path and (name := self._below(path))],
            "lost": self.lost,
        }

    def _hook(self, event: str, arguments: Any) -> None:
        act = self._events.get(event)
        if act is None or getattr(within, "us", False):
            return
        within.us = True
        try:
            act(arguments)
        except Exception:  # a hook that raises would break the run; without a trace it is never fresh
            self.lost = True
        finally:
            within.us = False

    # --- events ---

    def _open(self, arguments: Any) -> None:
        path, _, flags = arguments
        name = self._below(path)
        if name is None:
            return
        frame = sys._getframe(2)
        writes = flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
        if callers.looks_for_modules(frame):
            if writes:
                return  # a cache of its own
            if callers.imports(frame):
                self._say(MODULE, _source_of(name))
                return
        elif name.endswith(".py") and callers.shows_code(frame):
            return
        if not writes or (flags & os.O_RDWR and not flags & os.O_TRUNC):
            self._say(READ, name)
        if writes:
            self._say(APPENDED if flags & os.O_APPEND and not flags & os.O_TRUNC else WRITTEN, name)

    def _list(self, arguments: Any) -> None:
        path = "." if arguments[0] is None else arguments[0]
        frame = sys._getframe(2)
        if callers.looks_for_modules(frame):
            return
        kind, name = LISTED, self._below(path)
        if not isinstance(path, int) and os.path.normpath(os.fsdecode(path)) in sys.path:
            library = callers.library(frame)
            if library is not None and name is None:
                self._say(WALKED, library)
            elif library is not None:
                kind = f"{LISTED_BY}{library}"
        if name is not None:
            self._say_listed(name, kind)

    def _connect(self, arguments: Any) -> None:
        path = arguments[0]
        if isinstance(path, str) and path.startswith("file:"):
            path = path[5:].partition("?")[0]
        name = self._below(path) if path not in (":memory:", "") else None
        if name is not None:
            self._say(READ, name)
            self._say(READ, f"{name}-wal")  # what has not been taken into the file yet

    def _make(self, path: Any, folder: int) -> None:
        """A directory or link, unless it is there already and the run has not asked for it in vain."""
        name = self._below(path) if folder < 0 else None  # relative to a directory that is open
        if name is not None and (name in self._in_vain or not os.path.lexists(path)):
            self._say(MADE, name)

    def _rename(self, arguments: Any) -> None:
        old, new = map(os.fsdecode, arguments[:2])
        if os.path.isfile(old) and not os.path.islink(old):
            self._say_below(WRITTEN, new)
            return
        self._say_below(MADE, new)
        for folder, folders, names in os.walk(old):
            place = new + folder[len(old) :]
            links = [name for name in names if os.path.islink(os.path.join(folder, name))]
            for name in names:
                self._say_below(MADE if name in links else WRITTEN, os.path.join(place, name))
            for name in folders:
                self._say_below(MADE, os.path.join(place, name))

    def _link(self, arguments: Any) -> None:
        self._say_below(LINKED, arguments[0])
        self._say_below(WRITTEN, arguments[1])

    def _say_below(self, kind: str, path: Any) -> None:
        name = self._below(path)
        if name is not None:
            self._say(kind, name)

    def _start(self, command: Any, directory: Any = None) -> None:
        """Files and directories that a command names, also with wildcards.

        It may go to a directory that it names (``cd``, ``tar -C``) and mean the others from there.
        """
        given = [command] if isinstance(command, (str, bytes)) else list(command)
        place = os.getcwd() if directory is None else os.fsdecode(directory)
        words = [word for argument in given for word in _words(os.fsdecode(argument))]
        paths = [os.path.join(place, word) for word in words]
        elsewhere = dict.fromkeys(path for path in paths if os.path.isdir(path))
        paths += [os.path.join(top, word) for top in [*elsewhere][:_MOST_PLACES] for word in words]
        for path in dict.fromkeys(paths):
            if os.path.isfile(path):
                self._say_below(READ, path)
            elif os.path.isdir(path):
                self._take_directory(path)
            elif glob.has_magic(path):
                self._take_pattern(path)

    def _take_pattern(self, pattern: str) -> None:
        """What a shell puts in a pattern's place."""
        fixed = itertools.takewhile(lambda part: not glob.has_magic(part), pattern.split(os.sep))
        if (top := self._below(os.sep.join(fixed))) is None or top == ".":
            return
        for folder in glob.iglob(os.path.dirname(pattern)):
            if os.path.isdir(folder) and (name := self._below(folder)) is not None:
                self._say_listed(name)
        for path in glob.iglob(pattern):
            if os.path.isfile(path):
                self._say_below(READ, path)
            elif os.path.isdir(path):
                self._take_directory(path)

    def _take_directory(self, path: str) -> None:
        """All that is in a directory: a command may read any of it. Not in the run's own, nor around that."""
        name, around = self._below(path), current()
        own = self._below(around.run_directory) if around is not None else None
        if (
            name is None
            or name == "."
            or own is None
            or f"{own}/".startswith(f"{name}/")
            or name.startswith(f"{own}/")
        ):
            return
        for count, (folder, _, files) in enumerate(os.walk(path)):
            if (listed := self._below(folder)) is not None:
                self._say_listed(listed)
            for file in files:
                self._say_below(READ, os.path.join(folder, file))
            if count > _MOST_FOLDERS:
                self.lost = True
                return

    def find_spec(self, name: str, *_: Any) -> None:
        """As the last of Python's finders: nobody found this module."""
        frame: Any = sys._getframe(1)
        while frame is not None and callers.looks_for_modules(frame):
            frame = frame.f_back
        if frame is not None and frame.f_code.co_filename.startswith(self._prefixes):
            self._unresolved[name] = None

    def _look_for(self, path: Any) -> None:
        if getattr(within, "us", False):
            return
        within.us = True
        try:
            name = self._below(path)
            if (
                name is not None
                and "\n" not in name
                and (READ, name) not in self._seen
                and not callers.measures(sys._getframe(2))
            ):
                self._say(LOOKED_FOR, name)
        except Exception:
            self.lost = True
        finally:
            within.us = False

    def _look_at_lines(self, path: Any) -> None:
        """The lines of a file of code, which ``linecache`` may have at hand already."""
        if getattr(within, "us", False) or not isinstance(path, str) or path.startswith("<"):
            return
        within.us = True
        try:
            name = self._below(path)
            if name is not None and not callers.shows_code(sys._getframe(2)):
                self._say(READ, name)
        except Exception:
            self.lost = True
        finally:
            within.us = False

    # --- the trace ---

    def _below(self, given: Any) -> str | None:
        """The path relative to the project root, ``None`` if it is not below it or does not count."""
        if isinstance(given, int):
            return None
        path = given if isinstance(given, str) else os.fsdecode(given)
        if not os.path.isabs(path):
            path = os.path.join(os.getcwd(), path)
        if "/." in path or "//" in path or os.sep != "/":
            path = os.path.normpath(path)
        for root, start in self._roots.items():
            if path.startswith(root):
                if path.startswith(installed()):
                    return None
                return start + path[len(root) :].replace(os.sep, "/").rstrip("/") or "."
            if f"{path}{os.sep}" == root:
                return start.rstrip("/") or "."
        return None

    def _say_listed(self, name: str, kind: str = LISTED) -> None:
        if (kind, name) in self._seen:
            return
        self._seen.add((kind, name))
        try:
            found: list[str] | None = sorted(os.listdir(self._root + name))
        except OSError:
            found = None
        self._write(kind, name, found)

    def _say(self, kind: str, name: str) -> None:
        made = kind in (READ, LOOKED_FOR) and {(made, name) for made in BY_THE_RUN} & self._seen
        if (kind, name) in self._seen or made:
            return
        self._seen.add((kind, name))
        if kind in BY_THE_RUN or kind in (LINKED, WALKED):
            self._write(kind, name, None)
            return
        path = self._root + name
        try:
            info = os.stat(path)
        except (OSError, ValueError):
            self._in_vain.add(name)
            self._write(kind, name, None)
            return
        if stat.S_ISDIR(info.st_mode):
            self._write(kind, name, "directory")
            return
        seen = stat_of(info)
        state: list[Any] = [*seen]
        if kind != LOOKED_FOR and stat.S_ISREG(info.st_mode) and may_change_unseen(seen, time.time_ns()):
            state.append(digest(path))
        self._write(kind, name, state)

    def _write(self, kind: str, name: str, state: Any) -> None:
        if kind != MODULE and not UNSEEN.isdisjoint(name.split("/")):
            return
        # Not a descriptor that stays open: who closes all there are would put another file in its place.
        descriptor = os.open(self._file, os.O_WRONLY | os.O_APPEND)
        try:
            os.write(descriptor, json.dumps([kind, name, state]).encode("ascii") + b"\n")
        finally:
            os.close(descriptor)


class _Os:
    """The module ``os`` for ``os.path.exists`` and the like, which say when they look."""

    def __init__(self, look: Callable[[Any], None]) -> None:
        def stat(path: Any, **options: Any) -> os.stat_result:
            look(path)
            return os.stat(path, **options)

        self.stat = stat

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)


def _looking(method: Any, look: Callable[[Any], None]) -> Any:
    """A function that says which path it was given first, before it does what it did before."""

    @functools.wraps(method)
    def looked(*arguments: Any, **options: Any) -> Any:
        look(arguments[0] if arguments else next(iter(options.values()), None))
        return method(*arguments, **options)

    return looked


def _words(text: str) -> list[str]:
    """An argument, and what stands in it if it is a command itself."""
    try:
        words = [text, *(shlex.split(text) if " " in text else ())]
    except ValueError:
        words = [text, *text.split()]
    return [
        part for word in words for part in (word, *(_GLUED.split(word)[1:] if _GLUED.search(word) else ()))
    ]


class Loaded:
    """The modules that are loaded at one moment (the latest), so that later ones are told from them.

    What is known of them is kept as text: in a fork, a look at each would copy the memory where they lie.
    """

    def __init__(self) -> None:
        self._files = "\0".join(_files(sys.modules.values()))
        self._top_level = "\0".join(_top_level(sys.modules))
        sys.modules.pop(_MARK, None)
        sys.modules[_MARK] = types.ModuleType(_MARK)  # Python keeps them in the order in which they came

    def later(self) -> dict[str, Any]:
        """The modules that were loaded since."""
        while True:
            try:
                names = list(itertools.takewhile(lambda name: name != _MARK, reversed(sys.modules)))
            except RuntimeError:  # a thread imports
                continue
            return {name: sys.modules[name] for name in reversed(names) if name in sys.modules}

    def files(self) -> list[str]:
        """Of all modules, now."""
        return [*self._files.split("\0"), *_files(self.later().values())]

    def top_level(self) -> frozenset[str]:
        """Names of all modules, now, that are on top and not Python's own."""
        return frozenset(self._top_level.split("\0")) | _top_level(self.later())


def _files(modules: Iterable[Any]) -> list[str]:
    files = [getattr(module, "__file__", None) for module in list(modules)]
    return [file for file in files if isinstance(file, str)]


def _top_level(names: Iterable[str]) -> frozenset[str]:
    return frozenset(name.partition(".")[0] for name in list(names)) - sys.stdlib_module_names


def _source_of(name: str) -> str:
    """The source of what the import system opens."""
    if name.endswith(".pyc"):
        with contextlib.suppress(ValueError):  # a .pyc beside or without its source
            return importlib.util.source_from_cache(name)
    return name


def read(path: Path) -> list[tuple[str, str, Any]]:
    """The lines of a trace, the first of each kind and path.

    :raises OSError, ValueError: if it is not whole.
    """
    first: dict[tuple[str, str], Any] = {}
    for line in path.read_bytes().splitlines():
        kind, name, state = json.loads(line)
        first.setdefault((kind, name), state)
    return [(kind, name, state) for (kind, name), state in first.items()]
