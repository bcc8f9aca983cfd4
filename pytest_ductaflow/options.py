"""What a session's options and ini keys say, for all who ask."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from pytest_ductaflow import settings

if TYPE_CHECKING:
    from pytest_ductaflow.leftovers import Leftovers

_LEFTOVERS: Final = pytest.StashKey["Leftovers"]()
#: Options of pytest with which no test is run. ``--setup-plan`` implies ``--setup-only``.
_RUN_NOTHING: Final = ("collectonly", "setuponly", "showfixtures", "show_fixtures_per_test")


def executes_nothing(config: pytest.Config) -> bool:
    """Whether no test is to be run at all."""
    wanted = any(config.getoption(name, False) for name in _RUN_NOTHING)
    return wanted or bool(config.getoption("--ductaflow-explain"))


def instance_files(config: pytest.Config) -> set[Path]:
    """The files that are instance files now, by the ini key ``ductaflow_instances``."""
    return set(settings.instance_files(config.rootpath, config.getini("ductaflow_instances")))


def leftovers(config: pytest.Config) -> Leftovers:
    """The leftovers, as they are when the session first asks."""
    if _LEFTOVERS not in config.stash:
        from pytest_ductaflow.leftovers import Leftovers  # only a session with instances asks

        config.stash[_LEFTOVERS] = Leftovers(config.rootpath, config.getini("ductaflow_instances"))
    return config.stash[_LEFTOVERS]
