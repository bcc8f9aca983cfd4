"""Paths as people and records name them."""

from __future__ import annotations

import os
from pathlib import Path


def name_of(path: str | os.PathLike[str], root: Path) -> str:
    """A path as records name it: relative to the project root if it is below it."""
    text = os.path.normpath(path)
    if text == str(root):
        return "."
    start = str(root) + os.sep
    return (text[len(start) :] if text.startswith(start) else text).replace(os.sep, "/")


def relative(path: Path, root: Path) -> str:
    """A path as people know it: relative to the project root if it is below it, with ``/``."""
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.as_posix()
