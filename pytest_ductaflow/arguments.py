"""``pytest flows/growth.py``: the instances of that flow or build.

A flow is no test, its instances are. So on the command line it stands for the instance files that name it,
and ``flows/`` and ``builds/`` also for those of all that they hold; builds that call a flow are not meant.
What pytest itself collects as a module of tests (``python_files``) remains that.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from difflib import get_close_matches
from fnmatch import fnmatch
from pathlib import Path

import pytest

from pytest_ductaflow import regular, strict_json
from pytest_ductaflow.errors import InstanceError
from pytest_ductaflow.instance import load_instances
from pytest_ductaflow.options import instance_files

#: What a directory on the command line stands for its instances in, and a file without any is pointed out in.
_FOLDERS = ("flows", "builds")


def name_instances(config: pytest.Config) -> None:
    """Put instance files in the place of the flows and builds among the session's arguments.

    :raises pytest.UsageError: for a flow without instances, or a name that none of its instances has.
    """
    if not any(_may_be_meant(path, config) for path, _ in map(_split, config.args)):
        return
    files = sorted(instance_files(config))
    if files:
        config.args[:] = [new for given in config.args for new in _expanded(given, files, config)]


def _split(argument: str) -> tuple[str, str]:
    path, _, name = argument.partition("::")
    return path, name


def _may_be_meant(path: str, config: pytest.Config) -> bool:
    return path.endswith(".py") or _is_folder(config.invocation_params.dir / path, config.rootpath)


def _is_folder(path: Path, root: Path) -> bool:
    """Whether it is a directory of flows or builds."""
    place = Path(os.path.normpath(path))
    inside = any(place.is_relative_to(root / folder) for folder in _FOLDERS)
    return inside and place.is_dir()


def _expanded(argument: str, files: list[Path], config: pytest.Config) -> Iterator[str]:
    given, name = _split(argument)
    path = Path(os.path.normpath(config.invocation_params.dir / given))
    if _is_folder(path, config.rootpath):
        yield argument  # there may be tests
        yield from (str(file) for file in files if _runs(file, path, config.rootpath))
        return
    if path.suffix != ".py" or not path.is_file() or _is_python_s(path, config):
        yield argument
        return
    mine = [file for file in files if _runs(file, path, config.rootpath)]
    if not mine and _looks_like_a_flow(path, config.rootpath):
        patterns = ", ".join(config.getini("ductaflow_instances"))
        raise pytest.UsageError(
            f"{given}: no instance runs it (instance files: {patterns} below {config.rootpath})"
        )
    if not mine:
        yield argument
    elif name:
        yield from _named(name, mine, argument, config.rootpath)
    else:
        yield from map(str, mine)


def _runs(file: Path, path: Path, root: Path) -> bool:
    """Whether an instance file names this flow or build, or one below this directory.

    Of one that cannot be read nobody knows: it counts, and is an error, if the name stands in it.
    """
    try:
        data = strict_json.load(file)
    except Exception:  # what is wrong with it is said when it is collected
        try:
            return path.name in regular.read_text(file, errors="replace")
        except OSError:
            return True
    texts = [data.get(kind) for kind in ("flow", "build")] if isinstance(data, dict) else []
    named = [
        Path(os.path.realpath(root / text)) for text in texts if isinstance(text, str) and "\0" not in text
    ]
    return any(one.is_relative_to(os.path.realpath(path)) for one in named)


def _named(name: str, files: list[Path], argument: str, root: Path) -> Iterator[str]:
    known: dict[str, list[Path]] = {}
    for file in files:
        try:
            for instance in load_instances(file, root):
                known.setdefault(instance.name, []).append(file)
        except InstanceError:
            known.setdefault(name, []).append(file)  # its error is what there is to say
    if name not in known:
        near = get_close_matches(name, known, n=1)
        hint = f", did you mean {near[0]}?" if near else f": they are {', '.join(list(known)[:10])}"
        raise pytest.UsageError(f"{argument}: none of its {len(known)} instances has this name{hint}")
    for file in known[name]:
        yield f"{file}::{name}"


def _is_python_s(path: Path, config: pytest.Config) -> bool:
    """Whether pytest collects it as a module of tests."""
    patterns = config.getini("python_files")
    return any(fnmatch(str(path), f"*/{one}") if "/" in one else fnmatch(path.name, one) for one in patterns)


def _looks_like_a_flow(path: Path, root: Path) -> bool:
    if not any(path.is_relative_to(root / folder) for folder in _FOLDERS):
        return False
    try:
        return any(line.startswith("# %%") for line in regular.read_text(path, errors="replace").splitlines())
    except OSError:
        return False
