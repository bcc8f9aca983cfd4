"""Coverage of flows: what the driving process measures, its runs measure too.

Whoever runs pytest under coverage (``coverage run``, pytest-cov) wants its flows covered. The driver
asks coverage.py what it is about to do, the run's process measures the same into a file of its own, and
when the run has ended the driver takes that file into its own data.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

_NAME: Final = "coverage.sqlite"


def request(private: Path) -> dict[str, Any] | None:
    """What a run's process is to measure, as arguments of ``Coverage``; ``None`` for nothing."""
    active = _active()
    if active is None:
        return None
    asked: dict[str, Any] = {"data_file": str(private / _NAME)}
    for option, resolve in _OPTIONS.items():
        value = active.get_option(f"run:{option}")
        asked[option] = [resolve(item) for item in value] if isinstance(value, list) else value
    if active.get_option("run:plugins"):  # they are configured in the file only
        asked["config_file"] = active.config.config_file
    return asked


def _directory(name: str) -> str:
    """A source may be a package; a directory is relative to where the driver is, not the run."""
    return os.path.abspath(name) if os.path.isdir(name) else name


def _pattern(pattern: str) -> str:
    return pattern if pattern.startswith(("*", "?")) else os.path.abspath(pattern)


#: What a run's process measures like the driver, and how a value reads from anywhere.
_OPTIONS: Final[dict[str, Callable[[str], str]]] = {
    "branch": str,
    "source": _directory,
    "source_pkgs": str,
    "omit": _pattern,
    "include": _pattern,
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
    if active is None or not file.exists():
        return
    from coverage import CoverageData

    data = CoverageData(basename=str(file))
    data.read()
    # In xdist's workers pytest-cov starts two, of which it saves the first only.
    for measurement in getattr(type(active), "_instances", [active]):
        unwanted = measurement.get_option("run:disable_warnings")
        measurement.set_option("run:disable_warnings", [*unwanted, "no-data-collected"])  # so far: now it is
        measurement.get_data().update(data)


def _active() -> Any:
    if "coverage" not in sys.modules:
        return None
    return sys.modules["coverage"].Coverage.current()
