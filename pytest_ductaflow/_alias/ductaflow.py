"""``from ductaflow import …`` for projects written for the original: the names of pytest_ductaflow.

Installed at the top of site-packages. If the original is installed too, wherever that is, this file
steps back and the original is imported.
"""

import importlib.machinery
import importlib.util
import os
import sys

_here = os.path.dirname(os.path.abspath(__file__))


def _original():
    """The original's module spec, if there is one on the path or behind an editable install."""
    elsewhere = [path for path in sys.path if os.path.abspath(path or os.curdir) != _here]
    for finder in sys.meta_path:
        try:
            spec = finder.find_spec(
                "ductaflow", elsewhere if finder is importlib.machinery.PathFinder else None
            )
        except AttributeError:
            continue
        if spec is not None and spec.origin and os.path.abspath(spec.origin) != os.path.abspath(__file__):
            return spec
    return None


_spec = _original()
if _spec is None:
    from pytest_ductaflow import *  # noqa: F403
    from pytest_ductaflow import __all__, __version__  # noqa: F401
else:
    _module = importlib.util.module_from_spec(_spec)
    sys.modules["ductaflow"] = _module
    _spec.loader.exec_module(_module)
