"""Nothing was collected: where instances were looked for, and what to type instead.

A project that has nothing to do with instances must not hear of them.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import pytest

from pytest_ductaflow import settings, strict_json
from pytest_ductaflow.options import instance_files

#: Options with which it is no wonder that nothing is left.
_SELECTING: Final = ("keyword", "markexpr", "deselect", "lf", "ignore", "ignore_glob")


def why_nothing(config: pytest.Config) -> str | None:
    """What to say where a session collected nothing at all, ``None`` if it is not about instances."""
    if any(config.getoption(option, None) for option in _SELECTING):
        return None
    root, patterns = config.rootpath, config.getini("ductaflow_instances")
    looked = f"instance files are {', '.join(patterns)} below the root {root}"
    start = config.invocation_params.dir
    if files := instance_files(config):
        folders = dict.fromkeys(os.path.relpath(file.parent, start) for file in sorted(files))
        return f"no instance in {_arguments(config)}: {looked}; type: pytest {shlex.join(folders)}"
    if (other := _other_root(config)) is not None:
        way = shlex.quote(os.path.relpath(other, start))
        return (
            f"no instance: {looked}, but {other / 'instances'} has some; type: pytest --rootdir={way} {way}"
        )
    if deeper := next(_like_instances((root / "instances").rglob("*.json")), None):
        hint = "in pytest's configuration: ductaflow_instances = instances/**/*.json"
        return f"no instance: {looked}; {deeper.relative_to(root)} looks like one, {hint}"
    if tuple(patterns) != settings.INSTANCES or (root / "instances").is_dir():
        return f"no instance: {looked}, and there are none"
    return None


def _arguments(config: pytest.Config) -> str:
    start = config.invocation_params.dir
    return ", ".join(os.path.relpath(start / argument.split("::")[0], start) for argument in config.args)


def _other_root(config: pytest.Config) -> Path | None:
    """The nearest directory with instance files, at or above what the command line names."""
    start = config.invocation_params.dir
    named = [Path(os.path.normpath(start / argument.split("::")[0])) for argument in config.args]
    around = dict.fromkeys(place for path in (*named, start) for place in (path, *path.parents))
    usual = settings.INSTANCES
    return next((one for one in around if any(_like_instances(settings.instance_files(one, usual)))), None)


def _like_instances(files: Iterable[Path]) -> Iterator[Path]:
    """Those that name a flow or a build, as no other JSON file is likely to."""
    for file in files:
        try:
            data = strict_json.load(file)
        except Exception:  # somebody else's
            continue
        if isinstance(data, dict) and any(
            str(data.get(key, "")).endswith(".py") for key in ("flow", "build")
        ):
            yield file
