"""Whether code may look at more of its own text than what that does: docstrings, the numbers of its lines.

What nobody looks at does not count as a change. That must be certain: a docstring is read by whoever is
handed the function, so docstrings count unless all that the code imports is known not to read them.
"""

from __future__ import annotations

import functools
import re
import sys
from collections.abc import Iterable, Set
from typing import Final

from pytest_ductaflow import meaning

#: Code that says this may look at docstrings, or runs code that is not known.
_DOCSTRINGS: Final = re.compile(
    r"__doc__|__dict__|__code__|__wrapped__\b|\bgetdoc\b|\bhelp\(|\bgetmembers\b|\bvars\(\s*[^)\s]|\bdir\(\s*[^)\s]"
    r"|(?<![.\w])(?:exec|eval|compile)\(|\b__import__\b|\bimport_module\b|\b(?:np|numpy)\.info\b"
    r"|\bimport numpy as (?!np\b)|\bfrom numpy import .*\binfo\b|\b[sg]etp\("
    r"|%(?:run|load_ext|pdoc|pinfo2?|psource|pfile)\b|\brun_(?:line|cell)_magic\b"
    r"|^[ \t]*(?:\?{1,2}[\w.]+|[\w.]+\?{1,2})[ \t]*$",
    re.MULTILINE,
)
#: Of Python's own modules, those that read docstrings, or run or hand on code that may.
_READERS: Final = frozenset({
    "ast", "cmd", "code", "codeop", "dis", "doctest", "importlib", "inspect", "optparse", "pdb", "pkgutil",
    "pydoc", "runpy", "unittest", "xmlrpc",
})  # fmt: skip
#: Libraries that read no docstrings of those who use them. All others may.
_NO_READERS: Final = frozenset({
    "IPython", "PIL", "dateutil", "duckdb", "ductaflow", "matplotlib", "numpy", "openpyxl", "pandas",
    "polars", "pyarrow", "pytest_ductaflow", "pytz", "requests", "scipy", "seaborn", "tqdm", "yaml",
})  # fmt: skip
_HARMLESS: Final = (sys.stdlib_module_names - _READERS) | _NO_READERS
#: Code that says this looks at the numbers of lines.
_LINES: Final = re.compile(
    r"lineno\b|\b_getframe\b|\bcurrentframe\b|\bgetouterframes\b|\bgetinnerframes\b|\binspect\.(?:stack|trace)\b"
    r"|\bgetsourcelines\b|\bextract_(?:stack|tb)\b|\bwalk_(?:stack|tb)\b|\bco_(?:lines|positions|linetable)\b"
    r"|\bstack_info\b"
)


def at_docstrings(texts: Iterable[str], own: Set[str]) -> bool:
    """Whether somebody may read the docstrings in a run's code.

    :param texts: of the flow and all of the project's modules. :param own: names of modules of the project.
    """
    harmless = own | _HARMLESS
    return any(says or not imports <= harmless for says, imports in map(_asked, texts))


@functools.lru_cache(maxsize=500)  # the same few texts are used by hundreds of runs
def _asked(text: str) -> tuple[bool, frozenset[str]]:
    """Whether a text says that it may look at docstrings, and the top-level modules that it imports."""
    imports = frozenset(name.partition(".")[0] for name in meaning.mentions(text).imports)
    return _DOCSTRINGS.search(text) is not None, imports


def at_lines(texts: Iterable[str]) -> bool:
    """Whether code looks at the numbers of lines, so that even a comment may change what it does."""
    return any(_LINES.search(text) is not None for text in texts)
