"""Random edits of generated projects: nothing that is green or up to date may differ from a forced run.

    python -m tests.acceptance.mutations --steps 2000 --seed 1

Each step edits a project at random, runs pytest in it and in a copy that has not run yet, and compares what
the flows wrote. After edits that change nothing, nothing may run. A run that says itself that it may be wrong
(it read a leftover, or what was still to be made) must run again.
"""

from __future__ import annotations

import random
import shutil
import tempfile
from pathlib import Path

from .edits import COSMETIC, EDITS
from .generated import Outcome, Project

__all__ = ["FalselyFresh", "Needless", "mutate"]


class FalselyFresh(AssertionError):
    """Something that is green, or was called up to date, is not what a run gives."""


class Needless(AssertionError):
    """Something ran after an edit that changes nothing."""


def mutate(seed: int, steps: int) -> Project:
    """Edit one project so many times. :raises AssertionError: with what led to it."""
    project = Project(Path(tempfile.mkdtemp(prefix="mutations-")), random.Random(seed))
    try:
        project.create()
        before = project.session()
        for _ in range(steps):
            before = _step(project, before)
    except AssertionError as error:
        raise type(error)(f"seed {seed}, step {len(project.history)}: {error}") from None
    finally:
        shutil.rmtree(project.root, ignore_errors=True)
    return project


def _step(project: Project, before: dict[str, Outcome]) -> dict[str, Outcome]:
    """Edit, run, compare."""
    choose = project.random
    edits = [edit for edit in EDITS for _ in range(2 if edit in COSMETIC else 3)]
    chosen = [choose.choice(edits) for _ in range(choose.choice([1, 1, 1, 2, 3]))]
    said = [(edit, text) for edit in chosen if (text := edit(project)) is not None]
    project.history.append(" + ".join(text for _, text in said) or "nothing")
    found = project.session()
    if all(edit in COSMETIC for edit, _ in said):
        behind = _behind(before)
        ran = {key: one.ran for key, one in found.items() if one.ran is not None and key not in behind}
        if ran:
            raise Needless(f"{project.history[-1]}: {ran}")
    _compare(project, found)
    return found


def _behind(outcomes: dict[str, Outcome]) -> set[str]:
    """What the next session may run although nothing changes, and what leans on that."""
    behind = {key for key, one in outcomes.items() if one.is_red or one.doubtful}
    while more := {key for key, one in outcomes.items() if one.leans_on & behind} - behind:
        behind |= more
    return behind


def _compare(project: Project, found: dict[str, Outcome]) -> None:
    """Against a forced run of a copy without ``runs/``."""
    wanted = project.forced()
    assert found.keys() == wanted.keys(), (project.history[-1], found.keys() ^ wanted.keys())
    for name, one in found.items():
        other = wanted[name]
        if one.is_red and other.is_red:
            continue
        if one.beside_error or (one.doubtful and one.ran is not None):
            continue  # it says so, and runs again
        if (one.is_red, one.files) != (other.is_red, other.files):
            raise FalselyFresh(
                f"{name}\nis:     {one}\nforced: {other}\nedits: {' | '.join(project.history[-6:])}"
            )
