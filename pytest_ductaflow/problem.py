"""A mistake in an instance file, before it is known on which line it stands."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from pytest_ductaflow.strict_json import KeyPath


class Problem(Exception):
    """A mistake at a place. :param path: the place in the instance file."""

    def __init__(self, path: KeyPath, message: str) -> None:
        super().__init__(path, message)
        self.path, self.message = path, message


def near(name: str, known: Iterable[str]) -> str:
    """A hint for an unknown name: the nearest one there is, else what there is."""
    found = difflib.get_close_matches(name, list(known), 1)
    return f": did you mean {found[0]!r}?" if found else f" (there are {', '.join(list(known)[:10])})"
