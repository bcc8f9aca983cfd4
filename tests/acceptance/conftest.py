"""Whole programs in subprocesses, as a user starts them."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]


def call(
    *command: str | Path, cwd: Path, timeout: float = 120, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end; what it prints comes back as text."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("PYTEST_", "COV_"))}
    return subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={**clean, "PYTHONIOENCODING": "utf-8", **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
    )


@pytest.fixture
def python(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """``python("flows/x.py", "--config", …)`` in a temporary project."""
    return lambda *arguments, **options: call(
        sys.executable, *arguments, cwd=options.pop("cwd", tmp_path), **options
    )


@pytest.fixture
def run_pytest(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """``run_pytest("instances", "-v")`` in a temporary project."""
    return lambda *arguments, **options: call(
        sys.executable, "-m", "pytest", *arguments, cwd=options.pop("cwd", tmp_path), **options
    )
