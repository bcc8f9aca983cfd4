"""What a run was seen to read in the run directories of others, and what of it does not count.

Reading a leftover is never right: nothing makes its files again. Such an input has a state of its own in the
record, so the run is not up to date, whatever becomes of the leftover.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from typing import Final

from pytest_ductaflow.references import RUNS, run_directory_of

#: States of inputs that are never up to date.
OF_LEFTOVER: Final = "of a leftover"

#: So many run directories are named in one line.
_MOST_NAMED: Final = 3


def by_run(inputs: Iterable[str], among: Set[str] | Mapping[str, object]) -> dict[str, list[str]]:
    """Inputs that are one of these run directories or lie in one, by run directory.

    :param inputs: as records name them.
    :param among: run directories, ``runs/<step>/<instance>``.
    """
    found: dict[str, list[str]] = {}
    for name in inputs:
        if name.startswith(f"{RUNS}/"):
            directory = run_directory_of(name)
            if directory in among:
                found.setdefault(directory, []).append(name)
    return found


def leftover_line(found: Mapping[str, list[str]]) -> str:
    """The warning line of a run that read leftovers: what :func:`by_run` found."""
    if len(found) == 1:
        return f"⚠️ read {_shown(found)}, a leftover: its instance is gone (see: ductaflow prune)"
    return (
        f"⚠️ read {len(found):,} leftovers, whose instances are gone (see: ductaflow prune): {_shown(found)}"
    )


def _shown(found: Mapping[str, list[str]]) -> str:
    names = [file_among(names) for names in found.values()]
    more = f", … {len(names) - _MOST_NAMED:,} more" if len(names) > _MOST_NAMED else ""
    return ", ".join(names[:_MOST_NAMED]) + more


def file_among(names: list[str]) -> str:
    """A file rather than a directory that was listed or is named as a whole."""
    return next((name for name in names if not name.endswith(("/", "*"))), names[0].rstrip("/*"))
