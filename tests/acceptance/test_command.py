"""The command ``ductaflow``, as it is typed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pytest_ductaflow.record import lock
from tests.conftest import Project


def ductaflow(project: Project, *arguments: str, place: str = ".") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pytest_ductaflow", *arguments],
        cwd=project.root / place,
        env=project.environment(),
        capture_output=True,
        encoding="utf-8",
        timeout=120,
    )


def swept(project: Project, *ks: int) -> None:
    keys = {"flow": "flows/fit.py", "name": "fit-{k}", "scenarios": {"k": list(ks)}}
    project.write("sweeps/fit.json", keys)


#: The same ini in each of the files that pytest reads.
INI = {
    "pytest.ini": "[pytest]\nductaflow_instances = sweeps/*.json\n",
    "pyproject.toml": '[tool.pytest.ini_options]\nductaflow_instances = ["sweeps/*.json"]\n',
    "tox.ini": "[pytest]\nductaflow_instances =\n    sweeps/*.json\n",
    "setup.cfg": "[tool:pytest]\nductaflow_instances = sweeps/*.json\naddopts = -n 2 -q\n",
}


@pytest.fixture
def project(new_project: Callable[[], Project]) -> Project:
    """Three runs, of which the project still has the first."""
    project = new_project()
    project.ini("ductaflow_instances = sweeps/*.json")
    project.flow("fit", "open('o.txt', 'w').write('x' * 2000)\nopen('../../../executed', 'a').write('x')")
    swept(project, 1, 2, 3)
    assert project.run_apart("-q").ret == 0
    swept(project, 1)
    return project


def test_leftovers_are_listed_and_deleted_from_anywhere_below_the_root(project: Project) -> None:
    (project.root / "pytest.ini").unlink()
    for name, text in INI.items():
        path = project.write(name, text)
        listed = ductaflow(project, "prune", place="flows")
        assert (listed.returncode, listed.stderr) == (0, ""), name
        *lines, last = listed.stdout.splitlines()
        assert [line.split("  ")[0] for line in lines] == ["../runs/fit/fit-2", "../runs/fit/fit-3"]
        assert all(
            line.endswith(f"sweeps/fit.json has no fit-{k}") for k, line in zip("23", lines, strict=True)
        )
        assert last.startswith("2 leftovers, ")
        path.unlink()
    project.write("pytest.ini", INI["pytest.ini"])
    assert sorted(project.records()) == ["fit/fit-1", "fit/fit-2", "fit/fit-3"]
    deleted = ductaflow(project, "prune", "--delete", "--rootdir", str(project.root), place="flows")
    assert (deleted.returncode, deleted.stderr) == (0, "")
    assert deleted.stdout.splitlines()[-1].endswith(": deleted")
    assert sorted(project.records()) == ["fit/fit-1"]
    assert sorted(path.name for path in (project.root / "runs/fit").iterdir()) == ["fit-1"]
    again = ductaflow(project, "prune", "--delete")
    assert (again.returncode, again.stdout) == (0, "no leftovers in runs\n")
    assert (project.root / "executed").read_text() == "xxx"  # nothing ran


def test_it_refuses_while_a_file_is_in_error(project: Project) -> None:
    project.write("sweeps/bad.json", '{"flow": "flows/fit.py",\n "secnarios": {}}')
    for arguments in (["prune"], ["prune", "--delete"]):
        refused = ductaflow(project, *arguments)
        assert (refused.returncode, refused.stdout) == (1, "")
        assert refused.stderr.startswith(
            "ductaflow: it is not known what is a leftover: sweeps/bad.json:2: secnarios: unknown key"
        )
    assert len(project.records()) == 3


def test_it_refuses_where_no_instance_file_is(project: Project) -> None:
    (project.root / "sweeps").rename(project.root / "moved")
    refused = ductaflow(project, "prune", "--delete")
    assert refused.returncode == 1
    assert "no file matches sweeps/*.json (ini ductaflow_instances)" in refused.stderr
    assert len(project.records()) == 3


def test_a_directory_in_use_stays_and_the_others_go(project: Project) -> None:
    with lock(project.root / "runs/fit/fit-2"):
        deleted = ductaflow(project, "prune", "--delete")
    assert deleted.returncode == 1
    assert deleted.stderr == "ductaflow: runs/fit/fit-2 is not deleted: a run goes on in it\n"
    assert deleted.stdout.splitlines()[-1].endswith(": deleted, but for 1")
    assert sorted(project.records()) == ["fit/fit-1", "fit/fit-2"]


def test_what_pytest_refuses_it_refuses(project: Project) -> None:
    project.ini("ductaflow_instances = /somewhere/*.json")
    refused = ductaflow(project, "prune")
    assert refused.returncode == 1
    assert "ductaflow_instances: '/somewhere/*.json' is no pattern relative to the root" in refused.stderr


def test_the_command_is_declared(project: Project) -> None:
    text = Path(__file__).parents[2].joinpath("pyproject.toml").read_text("utf-8")
    assert '[project.scripts]\nductaflow = "pytest_ductaflow.command:main"\n' in text
    shown = ductaflow(project, "--help")
    assert shown.returncode == 0
    assert shown.stdout.startswith("usage: ductaflow ")
    assert ductaflow(project).returncode == 2
