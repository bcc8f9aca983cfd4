"""A file beside a flow that hides a library.

What lies beside a flow is imported before what is installed. ``flows/xarray.py`` is then what
``import xarray`` finds, also in that flow itself, unless the process has loaded the library already.
"""

from __future__ import annotations

import importlib.machinery
import os
import re
import sys
import sysconfig
from pathlib import Path

from pytest_ductaflow import meaning, regular
from pytest_ductaflow.errors import FlowError


def check(flow: Path, root: Path) -> None:
    """Refuse a flow that imports a library and gets a file beside it.

    :param flow: absolute path of the flow. :param root: the project root, which comes first.
    :raises FlowError: naming the line of the import.
    """
    try:
        text = regular.read_text(flow, "utf-8-sig")
    except (OSError, UnicodeDecodeError):  # somebody else says so
        return
    names = {module.partition(".")[0] for module in meaning.mentions(text).imports}
    for name in sorted(names):
        beside = flow.parent / f"{name}.py"
        if not beside.exists() and not (flow.parent / name / "__init__.py").exists():
            continue
        if not _is_installed(name) or _comes_first(name, flow.parent, root):
            continue
        found = re.search(rf"^[ \t]*(?:import|from)\b[^\n#]*\b{re.escape(name)}\b", text, re.MULTILINE)
        line = text.count("\n", 0, found.start()) + 1 if found else None
        which = "itself" if beside == flow else beside.name if beside.exists() else f"{name}/"
        raise FlowError(
            f"`import {name}` finds {which}, beside the flow, instead of the library {name}: rename it", line
        )


def _is_installed(name: str) -> bool:
    if name in sys.stdlib_module_names:
        return True
    paths = [sysconfig.get_path(kind) for kind in ("purelib", "platlib")]
    return importlib.machinery.PathFinder.find_spec(name, paths) is not None


def _comes_first(name: str, beside: Path, root: Path) -> bool:
    """Whether the project has a module of this name where imports look first: root and ``pythonpath``."""
    installed = tuple(f"{sysconfig.get_path(kind)}{os.sep}" for kind in ("purelib", "platlib", "stdlib"))
    own = [path for path in sys.path if path and not f"{path}{os.sep}".startswith(installed)]
    places = [path for path in (str(root), *own) if os.path.realpath(path) != os.path.realpath(beside)]
    spec = importlib.machinery.PathFinder.find_spec(name, places)
    return spec is not None and spec.origin is not None  # a directory without __init__.py comes last
