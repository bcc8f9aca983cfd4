"""Whose code asks for a file: Python's import system, what prints tracebacks, a library, or the project.

Decided by where the running code's file lies, never by how its name ends: the project may have such names.
"""

from __future__ import annotations

import functools
import importlib
import importlib.machinery
import linecache
import os
import sysconfig
import tokenize
from typing import Any, Final

_FROZEN: Final = "<frozen importlib"
_IMPORTLIB: Final = os.path.join(os.path.dirname(importlib.__file__), "")
#: They read lines of code for others; our own hook stands between them.
_LINES: Final = frozenset(
    {linecache.__file__, tokenize.__file__, os.path.join(os.path.dirname(__file__), "tracing.py")}
)
#: They show lines of code beside an error or a warning.
_SHOWING: Final = frozenset(
    os.path.join(os.path.dirname(linecache.__file__), name)
    for name in ("traceback.py", "warnings.py", "_py_warnings.py")
)
#: The same of IPython, where it is installed.
_SHOWING_IN_IPYTHON: Final = (
    "stack_data/",
    "executing/",
    "IPython/core/ultratb.py",
    "IPython/core/tbtools.py",
    "IPython/core/doctb.py",
)
#: Python's own loaders compile what they read; any other may do something else with it.
_LOADERS: Final = (importlib.machinery.SourceFileLoader, importlib.machinery.SourcelessFileLoader)


@functools.cache
def installed() -> tuple[str, ...]:
    """Where modules are installed, which may be below the project's root."""
    names = ("purelib", "platlib", "stdlib", "platstdlib")
    return tuple(f"{sysconfig.get_path(name)}{os.sep}" for name in names)


@functools.cache
def _libraries() -> tuple[str, ...]:
    return tuple(f"{sysconfig.get_path(name)}{os.sep}" for name in ("purelib", "platlib"))


def looks_for_modules(frame: Any) -> bool:
    """Whether this is Python's import system, or looks for distributions."""
    file: str = frame.f_code.co_filename
    return file.startswith((_FROZEN, _IMPORTLIB))


def imports(frame: Any) -> bool:
    """Whether a file is read here to be executed as a module, and for nothing else."""
    caller = frame.f_back
    return (
        frame.f_code.co_filename.startswith(_FROZEN)
        and caller is not None
        and caller.f_code.co_name == "get_code"
        and caller.f_code.co_filename.startswith(_FROZEN)
        and type(caller.f_locals.get("self")) in _LOADERS
    )


def shows_code(frame: Any) -> bool:
    """Whether a line of code is read here, or by way of ``linecache``, to be shown beside an error."""
    while frame is not None and frame.f_code.co_filename in _LINES:
        frame = frame.f_back
    if frame is None:
        return False
    file: str = frame.f_code.co_filename
    if file in _SHOWING:
        return True
    return any(
        file.startswith(place) and file.startswith(_SHOWING_IN_IPYTHON, len(place)) for place in _libraries()
    )


def library(frame: Any) -> str | None:
    """The library that asks, by way of Python's own modules or not; ``None`` if it is the project."""
    standard = tuple(place for place in installed() if place not in _libraries())
    while frame is not None:
        file: str = frame.f_code.co_filename
        for place in _libraries():
            if file.startswith(place):
                return file[len(place) :].partition(os.sep)[0]
        if not file.startswith((*standard, "<frozen")):
            return None
        frame = frame.f_back
    return None


def measures(frame: Any) -> bool:
    """Whether coverage.py is here, or calls this: it looks for files to tell whose code it measures."""
    files = (frame.f_code.co_filename, frame.f_back.f_code.co_filename if frame.f_back else "")
    return any(f"{os.sep}coverage{os.sep}" in file for file in files)
