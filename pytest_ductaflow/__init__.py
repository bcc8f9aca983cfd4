"""Run the same pipeline over many scenarios: instances are tests.

This module only hands out the public names, and loads what stands behind one when it is asked for:
it is imported in every kernel.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pytest_ductaflow.collected import load_outputs
    from pytest_ductaflow.config import (
        display_config_summary,
        generate_config_markdown,
        is_notebook_execution,
        load_cli_config,
        unpack_config,
    )
    from pytest_ductaflow.debug import debug_flow
    from pytest_ductaflow.errors import (
        ConfigError,
        DuctaflowError,
        FlowError,
        FlowNotFound,
        FlowWarning,
        HTMLError,
        InstanceError,
        OutputError,
        RecordError,
        RunBusy,
        RunFailed,
    )
    from pytest_ductaflow.frame import load_runs
    from pytest_ductaflow.instance import write_instances
    from pytest_ductaflow.logs import (
        setup_conductor_logging,
        setup_console_encoding,
        setup_execution_logging,
    )
    from pytest_ductaflow.loop import run_instances
    from pytest_ductaflow.measures import record_measure
    from pytest_ductaflow.nested import run_notebook, run_step_flow
    from pytest_ductaflow.notebook_html import convert_notebook_to_html
    from pytest_ductaflow.record import analyze_execution_logs
    from pytest_ductaflow.report import generate_status_report

__version__ = "0.1.0"

_MODULES = {
    "collected": ("load_outputs",),
    "config": (
        "display_config_summary",
        "generate_config_markdown",
        "is_notebook_execution",
        "load_cli_config",
        "unpack_config",
    ),
    "debug": ("debug_flow",),
    "errors": (
        "ConfigError",
        "DuctaflowError",
        "FlowError",
        "FlowNotFound",
        "FlowWarning",
        "HTMLError",
        "InstanceError",
        "OutputError",
        "RecordError",
        "RunBusy",
        "RunFailed",
    ),
    "nested": ("run_notebook", "run_step_flow"),
    "frame": ("load_runs",),
    "instance": ("write_instances",),
    "logs": ("setup_conductor_logging", "setup_console_encoding", "setup_execution_logging"),
    "loop": ("run_instances",),
    "measures": ("record_measure",),
    "notebook_html": ("convert_notebook_to_html",),
    "record": ("analyze_execution_logs",),
    "report": ("generate_status_report",),
}
_HOMES = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [
    "ConfigError",
    "DuctaflowError",
    "FlowError",
    "FlowNotFound",
    "FlowWarning",
    "HTMLError",
    "InstanceError",
    "OutputError",
    "RecordError",
    "RunBusy",
    "RunFailed",
    "analyze_execution_logs",
    "convert_notebook_to_html",
    "debug_flow",
    "display_config_summary",
    "generate_config_markdown",
    "generate_status_report",
    "is_notebook_execution",
    "load_cli_config",
    "load_outputs",
    "load_runs",
    "record_measure",
    "run_instances",
    "run_notebook",
    "run_step_flow",
    "setup_conductor_logging",
    "setup_console_encoding",
    "setup_execution_logging",
    "unpack_config",
    "write_instances",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
