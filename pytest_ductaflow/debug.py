"""Open a run in a debugger or a notebook: the directory, the exact config, a launch entry."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

from pytest_ductaflow import execution, record, strict_json
from pytest_ductaflow.errors import ConfigError, RecordError
from pytest_ductaflow.record import RunDirectory
from pytest_ductaflow.settings import settings_of


def debug_flow(
    flow_path: str | os.PathLike[str],
    execution_dir: str | os.PathLike[str],
    config: dict[str, Any] | None = None,
    force: bool = False,
) -> Path:
    """Prepare a run directory for debugging, execute nothing, and print a VS Code launch entry.

    A run of the same config that is there stays as it is, notebook with the error state included.

    :param flow_path: the ``.py`` file of the flow or build.
    :param execution_dir: the run directory, for example that of a failed run.
    :param config: by default the config of the run that is there.
    :param force: delete the directory first; then ``config`` is read from it before.
    :returns: the run directory.
    :raises ConfigError: if there is neither a config nor a run to take it from.
    :raises RunBusy: if a run is executing in the directory.
    """
    flow, directory = Path(os.path.abspath(flow_path)), Path(os.path.abspath(execution_dir))
    names = RunDirectory(directory, flow.stem)
    if config is None:
        config = _recorded_config(names)
    config = strict_json.plain(dict(config))
    root = Path(config.pop("_project_root", None) or Path.cwd()).resolve()
    if force and directory.exists():
        with record.lock(directory):  # nobody executes in it
            try:
                record.read_record(directory)
            except RecordError:
                raise ConfigError(
                    f"{directory} is not a run directory: force would delete what is no run"
                ) from None
            shutil.rmtree(directory)
    request = execution.Request(
        kind="build" if flow.parent.name == "builds" else "flow",
        flow=flow,
        instance=directory.name,
        directory=directory,
        config={key: value for key, value in config.items() if key != "_no_execute"},
        project_root=root,
        python_path=settings_of(root).python_path,
    )
    names = execution.prepare(request)
    print(f"Run directory: {names.path}")
    print(f"Config:        {names.config}")
    print(f"Notebook:      {names.notebook}   (open it and run cell by cell)")
    print("For VS Code, add this to .vscode/launch.json, set a breakpoint in the flow and press F5:")
    print(json.dumps(launch_configuration(flow, names, root), indent=2))
    return names.path


def launch_configuration(flow: Path, names: RunDirectory, root: Path) -> dict[str, Any]:
    """A ``launch.json`` that runs the flow as a script with this config in this directory."""

    def shown(path: Path) -> str:
        inside = path.is_relative_to(root)
        return f"${{workspaceFolder}}/{path.relative_to(root).as_posix()}" if inside else str(path)

    return {
        "version": "0.2.0",
        "configurations": [
            {
                "name": f"Debug {flow.stem} - {names.path.name}",
                "type": "debugpy",
                "request": "launch",
                "program": shown(flow),
                "args": ["--config", shown(names.config), "--output-dir", shown(names.path)],
                "cwd": "${workspaceFolder}",
                "console": "integratedTerminal",
                "justMyCode": False,
            }
        ],
    }


def _recorded_config(names: RunDirectory) -> dict[str, Any]:
    for path in (names.config, names.path / "config.json", names.path / f"{names.path.name}_config.json"):
        if path.exists():
            config = strict_json.load(path)
            if isinstance(config, dict):
                print(f"Using the config of the run that is there: {path}")
                return config
    raise ConfigError(f"no config given, and {names.path} has no {names.config.name} to take it from")
