"""``from ductaflow import …`` for projects written for the original: the names of pytest_ductaflow.

Installed at the top of site-packages; a copy of this file in a project's root does the same. If the
original is installed too, wherever that is, this file steps back and the original is imported.
"""

import importlib.machinery
import importlib.util
import os
import sys

#: By this text, which stands above, copies of this file know each other.
_MARK = "the names of pytest_ductaflow"


def _is_copy(path):
    try:
        with open(path, encoding="utf-8") as file:
            return _MARK in file.read()
    except (OSError, UnicodeDecodeError):
        return False


def _original():
    """The original's module spec, if there is one on the path or behind an editable install."""
    for finder in sys.meta_path:
        places = list(sys.path) if finder is importlib.machinery.PathFinder else None
        while True:
            try:
                spec = finder.find_spec("ductaflow", places)
            except AttributeError:
                break
            if spec is None or not spec.origin:
                break
            if not _is_copy(spec.origin):
                return spec
            if places is None:
                break
            here = os.path.dirname(os.path.abspath(spec.origin))
            left = [path for path in places if os.path.realpath(path or os.curdir) != os.path.realpath(here)]
            if len(left) == len(places):
                break
            places = left
    return None


_spec = _original()
if _spec is None:
    from pytest_ductaflow import *  # noqa: F403
    from pytest_ductaflow import setup_console_encoding

    setup_console_encoding()
    # The original's code is in ``ductaflow.ductaflow``.
    ductaflow = sys.modules["ductaflow.ductaflow"] = sys.modules[__name__]
else:
    _module = importlib.util.module_from_spec(_spec)
    sys.modules["ductaflow"] = _module
    _spec.loader.exec_module(_module)
