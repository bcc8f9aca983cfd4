"""The results as Markdown: where they were measured, the targets, the measurements."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Iterable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Final

import psutil

from benchmarks.sections import Comparison, Section

_PACKAGES: Final = (
    "pytest-ductaflow",
    "pytest",
    "pytest-xdist",
    "papermill",
    "nbclient",
    "ipykernel",
    "jupytext",
    "nbmake",
    "nbval",
    "numpy",
    "pandas",
    "psutil",
)


def markdown(sections: Sequence[Section], environment: Iterable[tuple[str, str]], rounds: int) -> str:
    """The whole report."""
    comparisons = [comparison for section in sections for comparison in section.comparisons]
    parts = [
        "# Results",
        "Written by the command below; how each number is measured says [README.md](README.md). "
        f"Ratios are of medians over {rounds} interleaved round{'s' * (rounds != 1)}.",
        table(["what", "value"], [list(pair) for pair in environment]),
        "## Targets",
        table(["comparison", "value", "target", "reached"], [_row(comparison) for comparison in comparisons]),
    ]
    for section in sections:
        parts += [f"## {section.title}", *section.notes, table(section.header, section.rows)]
    return "\n\n".join(parts) + "\n"


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def environment(command: str, date: str, directory: Path, original: Path | None) -> list[tuple[str, str]]:
    """Where and with what it was measured."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    packages = [f"{name} {_version(name)}" for name in _PACKAGES]
    packages.append(f"ductaflow (the original) {_original_version(original)}")
    return [
        ("date", date),
        ("command", f"`{command}`"),
        ("commit", _git(Path(__file__).parent, "describe", "--always", "--dirty") or "unknown"),
        ("Python", f"{platform.python_implementation()} {platform.python_version()}"),
        ("system", f"{platform.system()} {platform.release()} {platform.machine()}"),
        ("CPUs", f"{cores}, {_processor()}"),
        ("memory", f"{psutil.virtual_memory().total / 2**30:.0f} GiB"),
        ("file system", _file_system(directory)),
        ("load at the start", f"{psutil.getloadavg()[0]:.2f}"),
        ("packages", ", ".join(packages)),
    ]


def _row(comparison: Comparison) -> list[str]:
    target = "—"
    if comparison.limit is not None:
        target = f"{'≤' if comparison.at_most else '≥'} {comparison.limit:g} {comparison.unit}"
    reached = {True: "yes", False: "**no**", None: ""}[comparison.reached]
    return [comparison.what, f"{comparison.value:.2f} {comparison.unit}", target, reached]


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "missing"


def _original_version(checkout: Path | None) -> str:
    if checkout is None:
        return _version("ductaflow")
    return _git(checkout, "describe", "--always", "--dirty") or "of unknown version"


def _git(directory: Path, *arguments: str) -> str:
    try:
        command = ["git", "-C", str(directory), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def _processor() -> str:
    if sys.platform == "linux":
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown"


def _file_system(directory: Path) -> str:
    partitions = psutil.disk_partitions(all=True)
    around = [one for one in partitions if directory.resolve().is_relative_to(one.mountpoint)]
    return max(around, key=lambda one: len(one.mountpoint)).fstype if around else "unknown"
