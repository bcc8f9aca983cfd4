"""``ductaflow prune``: list leftovers, and delete them if asked to."""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import sys
from pathlib import Path
from typing import Any

from pytest_ductaflow import record
from pytest_ductaflow.command import project as projects
from pytest_ductaflow.errors import RecordError, RunBusy
from pytest_ductaflow.leftovers import Leftover, Leftovers


def add(verbs: Any) -> None:
    """Declare the verb."""
    about = "List leftovers: run directories of instances that the project no longer has."
    parser: argparse.ArgumentParser = verbs.add_parser("prune", help=about, description=about)
    parser.add_argument("--delete", action="store_true", help="delete them, and nothing else")
    projects.add_rootdir(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """List leftovers with their size and why they are some; delete them with ``--delete``.

    :raises RecordError: if nobody knows what is one: an instance file is in error, or there is none.
    """
    project = projects.find(options.rootdir)
    leftovers = list(project.found.values())
    if project.problem is not None:
        hint = "" if options.rootdir else " (its root as pytest finds it from here; --rootdir names another)"
        raise RecordError(f"it is not known what is a leftover: {project.problem}{hint}")
    if not leftovers:
        print(f"no leftovers in {os.path.relpath(project.runs)}")
        return 0
    sizes = [_size(project.path_of(leftover.directory)) for leftover in leftovers]
    shown = [os.path.relpath(project.path_of(leftover.directory)) for leftover in leftovers]
    width = max(map(len, shown))
    kept = 0
    for leftover, size, name in zip(leftovers, sizes, shown, strict=True):
        problem = _delete(project, leftover) if options.delete else None
        kept += problem is not None
        print(f"{name:{width}}  {_readable(size):>8}  {leftover.why}")
        if problem is not None:
            print(f"ductaflow: {name} is not deleted: {problem}", file=sys.stderr)
    count = f"{len(leftovers):,} leftover{'s' if len(leftovers) > 1 else ''}, {_readable(sum(sizes))}"
    if not options.delete:
        print(f"{count}; to delete: ductaflow prune --delete")
    else:
        print(f"{count}: deleted" + (f", but for {kept}" if kept else ""))
    return 1 if kept else 0


def _delete(project: Leftovers, leftover: Leftover) -> str | None:
    """Delete a run directory, and that of its step if nothing else is in it; or why not.

    The record goes last: what was deleted in part is still a leftover, and is deleted next time.
    """
    path = project.path_of(leftover.directory)
    try:
        if path.is_symlink() or path.parent.is_symlink():
            return "it is a symbolic link"
        if any(record.is_locked(nested) for nested in _folders_below(path) if nested != path):
            return "a run goes on in it"
        with record.lock(path):
            for entry in os.scandir(path):
                if entry.is_dir(follow_symlinks=False):
                    shutil.rmtree(entry.path)
                elif entry.name not in (record.RECORD_NAME, record.LOCK_NAME):
                    os.unlink(entry.path)
            shutil.rmtree(path)
    except RunBusy:
        return "a run goes on in it"
    except OSError as error:
        where = f": {os.path.relpath(error.filename)}" if error.filename else ""
        return f"{error.strerror or error}{where}"
    with contextlib.suppress(OSError):  # other runs are in it
        os.rmdir(path.parent)
    return None


def _folders_below(path: Path) -> list[Path]:
    return [Path(folder) for folder, _, _ in os.walk(path)]


def _size(path: Path) -> int:
    """Bytes of the files in a directory; links are not followed."""
    size = 0
    for folder, _, names in os.walk(path):
        for name in names:
            with contextlib.suppress(OSError):
                size += os.lstat(os.path.join(folder, name)).st_size
    return size


def _readable(size: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"
