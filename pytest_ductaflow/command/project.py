"""The project that a verb is about: pytest says which root directory and configuration it would use here."""

from __future__ import annotations

import argparse
from typing import Any

import pytest

from pytest_ductaflow.errors import ConfigError
from pytest_ductaflow.leftovers import Leftovers


def add_rootdir(parser: argparse.ArgumentParser) -> None:
    """Declare the option by which a verb is told the project."""
    parser.add_argument(
        "--rootdir",
        metavar="DIR",
        help="the project's root; by default the root directory that pytest would use here",
    )


def find(rootdir: str | None) -> Leftovers:
    """The project as pytest would see it from the working directory.

    :param rootdir: its root, if pytest is not to look for it.
    :raises ConfigError: if pytest refuses its configuration, or does not load this plugin.
    """
    seen = _Look()
    given = [] if rootdir is None else [f"--rootdir={rootdir}", rootdir]
    status = pytest.main(["-p", "ductaflow", *given], plugins=[seen])
    if seen.project is None:
        raise ConfigError(f"pytest does not start here (exit status {int(status)})")
    return seen.project


class _Look:
    """A plugin that looks at pytest's configuration, and has pytest do nothing more."""

    def __init__(self) -> None:
        self.project: Leftovers | None = None

    @pytest.hookimpl(tryfirst=True)
    def pytest_cmdline_main(self, config: pytest.Config) -> int:
        from pytest_ductaflow.plugin import instance_patterns

        patterns: list[Any] = instance_patterns(config)
        self.project = Leftovers(config.rootpath, patterns)
        return 0
