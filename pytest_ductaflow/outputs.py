"""What a run leaves in its run directory, and how the next one starts clean.

Outputs are files, directories, symbolic links, pipes, sockets and devices. A record names the state of
each: a file's content digest, ``directory``, ``link <its target>``, ``pipe``, ``socket`` or ``device``. No
link is followed: what it leads to is not the run's, unless that is an output of its own.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from pytest_ductaflow import figures, record
from pytest_ductaflow.digests import Digests, digest, is_digest
from pytest_ductaflow.errors import RecordError
from pytest_ductaflow.record import Record, RunDirectory

DIRECTORY: Final = "directory"
_LINK: Final = "link "
_SPECIAL: Final = {
    stat.S_IFIFO: "pipe",
    stat.S_IFSOCK: "socket",
    stat.S_IFCHR: "device",
    stat.S_IFBLK: "device",
}
_STATES: Final = frozenset({DIRECTORY, *_SPECIAL.values()})

#: By which something that was made anew is known: what it is, and two numbers.
Entry = tuple[str, int, int]


def entries(directory: RunDirectory) -> dict[str, Entry]:
    """What lies in a run directory and is not ours, by relative POSIX path.

    What belongs to a nested run (a directory below with its own record or lock) is left out.
    """
    found: dict[str, Entry] = {}
    pending = [directory.path]
    while pending:
        folder = pending.pop()
        listed = list(os.scandir(folder))
        for entry in listed:
            if folder == directory.path and record.is_own(directory, entry.name):
                continue
            info = entry.stat(follow_symlinks=False)
            if stat.S_ISDIR(info.st_mode):
                if _is_run(entry.path):
                    continue
                pending.append(Path(entry.path))
            name = Path(entry.path).relative_to(directory.path).as_posix()
            found[name] = _entry(entry.path, info)
    return found


def made(directory: RunDirectory, before: Mapping[str, Entry], known: Digests) -> dict[str, str]:
    """The states of what a run made or changed.

    :param before: the entries at its beginning. :param known: the digests of the project's files.
    """
    names = sorted(name for name, entry in entries(directory).items() if before.get(name) != entry)
    states = ((name, state_of(directory.path / name, known)) for name in names)
    return {name: state for name, state in states if state is not None}


def state_of(path: str | os.PathLike[str], known: Digests) -> str | None:
    """The state of an output, ``None`` if there is nothing."""
    try:
        mode = os.lstat(path).st_mode
    except (OSError, ValueError):
        return None
    return known.of(path) if stat.S_ISREG(mode) else _kind(path, mode)


def changed(last: Record, directory: Path, root: Path, known: Digests) -> Iterator[tuple[str, bool]]:
    """What is not as the recorded run left it: relative path, and whether it is gone.

    :param directory: the run directory. :param root: the project root.
    """
    then = f"{_LINK}{last.config.get('_project_root')}{os.sep}"
    for name, state in last.outputs.items():
        path = os.path.normpath(f"{directory}{os.sep}{name}")
        if is_digest(state):
            now = known.of(path)
            same = now == state
        else:
            now = state_of(path, known)
            if state.startswith(then):  # a link into the project, wherever that is now
                state = f"{_LINK}{root}{os.sep}{state[len(then) :]}"
            same = now == state and (state in _STATES or state.startswith(_LINK))  # else it was unreadable
        if not same:
            yield name, now is None


def remove(directory: RunDirectory, last: Record) -> set[str]:
    """Delete what the recorded run made, so that nothing of it passes for output of the next one.

    What somebody changed since is not ours any more and stays, and so does a directory that holds it.

    :returns: the directories that stay. They are still the run's, and go as soon as they are empty.
    """
    left = set()
    for name, recorded in sorted(last.outputs.items(), reverse=True):  # what a directory holds comes first
        path = os.path.join(directory.path, name)
        if not _may_go(directory, path):
            continue
        with contextlib.suppress(OSError):
            if recorded == DIRECTORY and stat.S_ISDIR(os.lstat(path).st_mode):
                left.add(name)
                os.rmdir(path)
                left.remove(name)
            elif _is_unchanged(path, recorded):
                os.unlink(path)
    return left


def remove_run(directory: RunDirectory, last: Record) -> set[str]:
    """As :func:`remove`, and our own files of that run, too: another flow's have other names.

    The directory's lock is held.
    """
    left = remove(directory, last)
    figures.remove(directory.notebook)
    for name in directory.own_files - {figures.FIGURES, record.LOCK_NAME}:
        record.remove(directory.path / name)
    return left


def own(directory: RunDirectory) -> dict[str, str]:
    """The files of a run that are ours, as records hold what a run made."""
    names = directory.own_files - {record.RECORD_NAME, record.LOCK_NAME}
    return {name: digest(path) for name in sorted(names) if (path := directory.path / name).is_file()}


def remove_nested(directory: RunDirectory, run: str) -> None:
    """Delete a nested run that the run around it does not make any more, but nothing that is somebody's.

    :param run: its directory, relative to that of the run around it.
    """
    path = Path(os.path.normpath(directory.path / run))
    inside = path.is_relative_to(directory.path) and path != directory.path
    if not inside or os.path.realpath(path) != str(path) or record.is_locked(path):
        return
    try:
        last = record.read_record(path)
    except RecordError:
        return
    own = RunDirectory(path, Path(last.flow).stem)
    for nested in last.runs:
        remove_nested(own, nested)
    remove_run(own, last)
    record.remove(path / record.LOCK_NAME)
    while path != directory.path:  # and the directories on the way to it, if they hold nothing else
        try:
            path.rmdir()
        except OSError:
            return
        path = path.parent


def _entry(path: str, info: os.stat_result) -> Entry:
    if stat.S_ISREG(info.st_mode):
        return "file", info.st_size, info.st_mtime_ns
    return _kind(path, info.st_mode), info.st_ino, 0 if stat.S_ISDIR(info.st_mode) else info.st_mtime_ns


def _kind(path: str | os.PathLike[str], mode: int) -> str:
    """The state of what is no regular file."""
    if stat.S_ISDIR(mode):
        return DIRECTORY
    if stat.S_ISLNK(mode):
        return _LINK + os.readlink(path)
    return _SPECIAL.get(stat.S_IFMT(mode), "device")


def _is_run(path: str) -> bool:
    return any(os.path.lexists(os.path.join(path, name)) for name in (record.RECORD_NAME, record.LOCK_NAME))


def _may_go(directory: RunDirectory, path: str) -> bool:
    """Whether this is the run's own to delete, whatever its record says: not ours, not a nested run's."""
    folder, name = os.path.split(path)
    top = str(directory.path)
    if "\0" in path or os.path.normpath(path) != path or not f"{folder}{os.sep}".startswith(f"{top}{os.sep}"):
        return False
    if folder == top:
        return not record.is_own(directory, name)
    if os.path.realpath(folder) != folder:  # by way of a link
        return False
    while folder != top:
        if _is_run(folder):
            return False
        folder = os.path.dirname(folder)
    return not _is_run(path)


def _is_unchanged(path: str, recorded: str) -> bool:
    mode = os.lstat(path).st_mode
    if stat.S_ISREG(mode):
        return is_digest(recorded) and digest(path) == recorded
    return not stat.S_ISDIR(mode) and _kind(path, mode) == recorded
