"""What a session's options and ini keys say, for all who ask."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

#: Options of pytest with which no test is run. ``--setup-plan`` implies ``--setup-only``.
_RUN_NOTHING: Final = ("collectonly", "setuponly", "showfixtures", "show_fixtures_per_test")


def executes_nothing(config: pytest.Config) -> bool:
    """Whether no test is to be run at all."""
    wanted = any(config.getoption(name, False) for name in _RUN_NOTHING)
    return wanted or bool(config.getoption("--ductaflow-explain"))


def instance_files(config: pytest.Config) -> set[Path]:
    """The files that are instance files now, by the ini key ``ductaflow_instances``."""
    patterns = config.getini("ductaflow_instances")
    return {file for pattern in patterns for file in config.rootpath.glob(pattern)}
