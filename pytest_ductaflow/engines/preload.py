"""What the warm process imports in advance: the libraries that flows name in their import statements.

Only libraries known to be safe before a fork, and what the user adds; never the project's own modules,
which change between runs. Whether a module really is safe (no threads left) the warm process sees when
it has imported it.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

#: Libraries that take long to import and leave nothing behind that a fork could break.
SAFE: Final = frozenset(
    {
        "altair",
        "bokeh",
        "geopandas",
        "matplotlib",
        "networkx",
        "numpy",
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
        "xarray",
    }
)

#: What a build needs to drive its own flows.
FOR_BUILDS: Final = ("pytest_ductaflow.execution", "pytest_ductaflow.engines.fork", "jupytext")

_IMPORT: Final = re.compile(
    r"^[ \t]*(?:import[ \t]+(?P<modules>[\w., \t]+)|from[ \t]+(?P<package>[\w.]+))", re.M
)


def modules_of(flows: Iterable[Path]) -> list[str]:
    """The modules that these flows' files import and that may be preloaded, in order."""
    return list(dict.fromkeys(module for flow in flows for module in _imports(flow)))


@functools.cache
def _imports(flow: Path) -> tuple[str, ...]:
    try:
        text = flow.read_text("utf-8")
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
