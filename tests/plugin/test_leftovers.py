"""Runs of instances that the project no longer has: they never count, and whoever reads one is told."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pytest_ductaflow import load_runs

if TYPE_CHECKING:
    from tests.conftest import Project


def fit(project: Project, *ks: int) -> None:
    """Instances ``fit-1``, …, each of which writes its number to ``o.txt``."""
    project.flow("fit", "open('o.txt', 'w').write(str(config['k']))")
    project.instance("fit", scenarios={"k": list(ks)})


def test_the_frame_knows_the_instances_also_of_other_patterns(project: Project) -> None:
    project.ini("ductaflow_instances = sweeps/*.json")
    project.flow("fit", "open('o.txt', 'w').write(str(config['k']))")
    keys = {"flow": "flows/fit.py", "name": "fit-{k}"}
    project.write("sweeps/all.json", {**keys, "scenarios": {"k": [1, 2]}})
    project.run()
    frame = load_runs(project.root / "runs")
    assert frame[["instance", "current"]].to_numpy().tolist() == [["fit-1", True], ["fit-2", True]]
    project.write("sweeps/all.json", {**keys, "scenarios": {"k": [2]}})
    assert load_runs(project.root / "runs")["current"].tolist() == [False, True]


@pytest.mark.parametrize("option", ["--collect-only", "--ductaflow-explain"])
def test_what_executes_nothing_leaves_nothing(project: Project, option: str) -> None:
    fit(project, 1)
    project.run(option)
    assert not (project.root / "runs").exists()
