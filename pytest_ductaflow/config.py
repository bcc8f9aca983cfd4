"""What a flow calls at its top: its config, from the command line if it runs as a script."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any, Final

from pytest_ductaflow import strict_json
from pytest_ductaflow.errors import ConfigError

#: Config keys whose values :func:`unpack_config` turns into ``Path``.
PATH_KEYS: Final = (
    "model_runs_dir",
    "run_folder",
    "output_dir",
    "data_dir",
    "input_dir",
    "results_dir",
    "_project_root",
)
#: Config keys that steer a run; only the config itself may hold them, no object in it.
_OURS: Final = frozenset({"_project_root", "_no_execute"})


def is_notebook_execution() -> bool:
    """Whether this code runs in a notebook or kernel (``True``) or as a script (``False``)."""
    ipython = sys.modules.get("IPython")
    return ipython is not None and ipython.get_ipython() is not None


def load_cli_config(default_config_path: str, description: str = "Run ductaflow analysis") -> dict[str, Any]:
    """Load the config of a flow that runs as a script, and set up its run.

    Arguments of the script: ``--config FILE``; ``--output-dir DIR``, the run directory: the script goes on
    there, and config, notebook, record and output are written as for any run; ``--no-execute``,
    which prepares that directory and exits. What is printed also goes to ``_cli_execution_output.txt``.

    As in a notebook, the defaults of the flow's parameters cell are below the config, and names of its own
    that the config has are set in the script.

    :param default_config_path: the config without ``--config``; a relative path is looked up in the
        working directory, then in the project root (the parent of the flow's directory).
    :param description: for ``--help``.
    :raises SystemExit: if the config or pytest's configuration cannot be read, with the file and line.
    """
    from pytest_ductaflow.script import ScriptRun  # what only scripts need

    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--config", default=None, help=f"JSON config file (default: {default_config_path})")
    parser.add_argument("--output-dir", default=None, help="run directory (default: the working directory)")
    parser.add_argument(
        "--no-execute", action="store_true", help="prepare the run directory, execute nothing"
    )
    arguments = parser.parse_args()
    flow = Path(os.path.abspath(sys.argv[0]))
    try:
        config = _load(arguments.config, default_config_path, flow)
        run = ScriptRun(flow, config, arguments.output_dir)
    except ConfigError as error:
        parser.error(str(error))
    if arguments.no_execute:
        run.prepare()
        raise SystemExit(0)
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_name != "<module>":  # it may be called in a helper
        frame = frame.f_back
    return run.start(frame)


def unpack_config(
    config: dict[str, Any] | None = None,
    flow_name: str | None = None,
    caller_locals: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """The config as variables: ``vars().update(unpack_config(config, "My flow", locals()))``.

    Shows a summary, flattens nested objects by one level (``database.host`` becomes ``host``; the object
    stays too), turns the values of :data:`PATH_KEYS` into ``Path``, and prints what it found.

    :param flow_name: heading of the summary; without it none is shown.
    :param caller_locals: updated with the variables too.
    :returns: name to value. Empty, with a warning, if there is no config.
    """
    if not config:
        print("⚠️ No config found - run with --config file.json or via papermill injection")
        return {}
    if flow_name:
        display_config_summary(config, flow_name)
    shown = strict_json.redact(config)
    variables: dict[str, Any] = {}
    print("📋 Unpacking config variables:")
    for key, value in config.items():
        variables[key] = value
        if isinstance(value, dict):
            print(f"📋 {key} = {{{len(value)} items}}")
            for inner, item in value.items():
                if inner in _OURS:  # an inner key must not move the project or stop what it runs
                    continue
                variables[inner] = item
                print(f"📋   {inner} = {shown[key][inner]}")
        else:
            print(f"📋 {key} = {shown[key]}")
    for key in PATH_KEYS:
        if isinstance(variables.get(key), str):
            variables[key] = Path(variables[key])
            print(f"🗂️  Converted {key} to Path object")
    if caller_locals is not None:
        caller_locals.update(variables)
    print(f"✅ Unpacked {len(variables)} config variables")
    return variables


def display_config_summary(config: dict[str, Any], flow_name: str | None = None) -> None:
    """Show the config as tables, in a notebook; a script prints nothing here."""
    if is_notebook_execution():
        from IPython.display import Markdown, display

        display(Markdown(generate_config_markdown(config, flow_name)))


def generate_config_markdown(config: dict[str, Any], flow_name: str | None = None) -> str:
    """The config as Markdown: a table of plain values, then one for each nested object."""
    if not config:
        return "**No configuration provided**\n"
    shown = strict_json.redact(config)
    plain = {key: value for key, value in shown.items() if not (isinstance(value, dict) and value)}
    parts = [f"## Configuration for {_markdown_cell(flow_name)}\n" if flow_name else "## Configuration\n"]
    if plain:
        parts.append(_markdown_table(plain))
    for key, value in shown.items():
        if key not in plain:
            parts.append(f"### {_markdown_cell(key.replace('_', ' ').title())}\n\n{_markdown_table(value)}")
    return "\n".join(parts)


def _markdown_table(values: dict[str, Any]) -> str:
    rows = [f"| {_markdown_cell(key)} | {_markdown_value(value)} |" for key, value in values.items()]
    return "\n".join(["| Parameter | Value |", "|-----------|-------|", *rows, ""])


def _markdown_value(value: Any) -> str:
    if isinstance(value, bool):
        return "✓" if value else "✗"
    if value is None:
        return "*None*"
    text = ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
    return _markdown_cell(text if len(text) <= 200 else text[:197] + "...")


def _markdown_cell(text: str) -> str:
    return (
        text.replace("\\", "\\\\")
        .replace("|", "\\|")
        .replace("<", "&lt;")
        .replace("\n", " ")
        .replace("\r", " ")
    )


def _load(given: str | None, default: str, flow: Path) -> dict[str, Any]:
    path = Path(given or default)
    if given is None and not path.exists() and (flow.parent.parent / default).exists():
        path = flow.parent.parent / default
    config = strict_json.load(path)
    if not isinstance(config, dict):
        raise ConfigError(f"{path}: a config is a JSON object")
    return config
