"""Coverage of flows: what the driving process measures, its runs measure too.

Whoever runs pytest under coverage (``coverage run``, pytest-cov) wants its flows covered. The driver
asks coverage.py what it is about to do, the run's process measures the same into a file of its own, and
when the run has ended the driver takes that file into its own data.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Final

_NAME: Final = "coverage.sqlite"


def request(private: Path) -> dict[str, Any] | None:
    """What a run's process is to measure, as arguments of ``Coverage``; ``None`` for nothing."""
    active = _active()
    if active is None:
        return None
    options = ("branch", "source", "source_pkgs", "omit", "include", "plugins", "concurrency")
    asked: dict[str, Any] = {}
    for option in options:
        value = active.get_option(f"run:{option}")
        asked[option] = value if isinstance(value, bool) else list(value) if value else None
    plugins = asked.pop("plugins")
    return {**asked, "data_file": str(private / _NAME)} if not plugins else {
        **asked, "data_file": str(private / _NAME), "config_file": active.config.config_file or False
    }


def start(asked: dict[str, Any] | None) -> Any:
    """In the run's process: start measuring. ``None`` if there is nothing to do or it is done already."""
    if asked is None or _active() is not None:
        return None
    import coverage

    measurement = coverage.Coverage(**{"config_file": False, **asked})
    measurement.start()
    return measurement


def stop(measurement: Any) -> None:
    """In the run's process: write what was measured."""
    if measurement is not None:
        measurement.stop()
        measurement.save()


def collect(private: Path) -> None:
    """In the driver: take over what a run measured."""
    file, active = private / _NAME, _active()
    if active is not None and file.exists():
        from coverage import CoverageData

        data = CoverageData(basename=str(file))
        data.read()
        active.get_data().update(data)


def _active() -> Any:
    if "coverage" not in sys.modules:
        return None
    return sys.modules["coverage"].Coverage.current()
