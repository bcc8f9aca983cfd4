"""What the plugin has to say that concerns no test: shown as pytest shows warnings, and never raised."""

from __future__ import annotations

import warnings

import pytest


def warn(config: pytest.Config, text: str) -> None:
    """Issue a warning in the name of the plugin.

    Filters apply. But where they make it an error, it is shown as well: raised in a hook, it would end
    the session.
    """
    warning = pytest.PytestWarning(f"ductaflow: {text}")
    try:
        config.issue_config_time_warning(warning, stacklevel=2)
    except pytest.PytestWarning:
        message = warnings.WarningMessage(warning, type(warning), "ductaflow", 0)
        shown = {"warning_message": message, "when": "config", "nodeid": "", "location": None}
        config.hook.pytest_warning_recorded.call_historic(kwargs=shown)
