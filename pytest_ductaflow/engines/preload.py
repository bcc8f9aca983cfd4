"""What the warm process imports in advance: the libraries that flows name in their import statements.

Only libraries known to be safe before a fork, and what the user adds; never the project's own modules,
which change between runs. Whether a module really is safe (no threads left) the warm process sees when
it has imported it.
"""

from __future__ import annotations

import functools
import importlib.util
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from pytest_ductaflow import regular

#: Libraries that take long to import and leave nothing behind that a fork could break.
SAFE: Final = frozenset(
    {
        "altair",
        "bokeh",
        "bottleneck",
        "geopandas",
        "h5py",
        "matplotlib",
        "netCDF4",
        "networkx",
        "numba",
        "numexpr",
        "numpy",
        "openmatrix",
        "openpyxl",
        "pandas",
        "plotly",
        "pyarrow",
        "scipy",
        "seaborn",
        "shapely",
        "sklearn",
        "statsmodels",
        "sympy",
        "tables",
        "xarray",
    }
)

#: What a library loads when it is first used, unless its package is missing.
_AT_FIRST_USE: Final = {
    "pandas": (
        "pyarrow.pandas_compat",
        "pandas.io.formats.csvs",
        "pandas.io.formats.html",
        "pandas.io.formats.string",
    ),
    "matplotlib.pyplot": ("matplotlib.backends.backend_agg", "IPython.core.pylabtools"),
}

#: What a build needs to drive its own flows.
FOR_BUILDS: Final = ("pytest_ductaflow.nested", "pytest_ductaflow.engines.fork", "jupytext")

_IMPORT: Final = re.compile(
    r"^[ \t]*(?:import[ \t]+(?P<modules>[\w., \t]+)|from[ \t]+(?P<package>[\w.]+))", re.M
)


def modules_of(flows: Iterable[Path]) -> list[str]:
    """The modules that these flows' files import and that may be preloaded, in order."""
    named = dict.fromkeys(module for flow in flows for module in _imports(flow))
    later = (module for name in named for module in _AT_FIRST_USE.get(name, ()) if _is_installed(module))
    return list(dict.fromkeys((*named, *later)))


def modules_for(root: Path, flows: Iterable[Path], *, builds: bool) -> list[str]:
    """What the warm process is to import for these flows.

    :param root: the project root. :param builds: whether some are builds. Which flows they run, only
        running them shows: all of the project count.
    """
    found = dict.fromkeys(flows)
    if builds:
        found |= dict.fromkeys(sorted((root / "flows").glob("*.py")))
    return [*modules_of(found), *(FOR_BUILDS if builds else ())]


def _is_installed(module: str) -> bool:
    return importlib.util.find_spec(module.partition(".")[0]) is not None


@functools.cache
def _imports(flow: Path) -> tuple[str, ...]:
    try:
        text = regular.read_text(flow)
    except (OSError, UnicodeDecodeError):  # the run itself says what is wrong
        return ()
    return tuple(module for module in _named(text) if module.partition(".")[0] in SAFE)


def _named(text: str) -> Iterator[str]:
    for match in _IMPORT.finditer(text):
        if match["package"]:
            yield match["package"]
        else:
            for part in match["modules"].split(","):
                yield part.split()[0] if part.split() else ""
