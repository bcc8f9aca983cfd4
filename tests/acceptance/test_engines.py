"""What docs/engines.md says, done as its reader would."""

import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from pytest_ductaflow import engines

from .conftest import REPOSITORY, call

Run = Callable[..., subprocess.CompletedProcess[str]]
DOCS = (REPOSITORY / "docs" / "engines.md").read_text("utf-8")
FLOW = '# %% tags=["parameters"]\nconfig = {}\n\n# %%\nimport os\nprint(os.getppid())\n'

needs_fork = pytest.mark.skipif("fork" not in engines.available(), reason="forks are for Linux")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", DOCS, re.DOTALL)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for name, text in (
        ("pytest.ini", "[pytest]\n"),
        ("flows/it.py", FLOW),
        ("instances/it.json", '{"flow": "flows/it.py", "config": {}, "scenarios": {"n": [1, 2, 3, 4]}}'),
    ):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    (tmp_path / "tmp").mkdir()
    return tmp_path


def printed(project: Path) -> list[str]:
    return [path.read_text() for path in sorted(project.glob("runs/it/*/it_execution_output.txt"))]


@needs_fork
def test_papermill_s_own_command_uses_a_fork(tmp_path: Path) -> None:
    [command] = blocks("bash")
    notebook = {
        "cells": [
            {
                "cell_type": "code",
                "execution_count": None,
                "id": "a",
                "metadata": {"tags": ["parameters"]},
                "outputs": [],
                "source": "x = 1",
            },
            {
                "cell_type": "code",
                "execution_count": None,
                "id": "b",
                "metadata": {},
                "outputs": [],
                "source": "import sys\nprint('x is', x)\nprint('oh', file=sys.stderr)\nx * 2",
            },
        ],
        "metadata": {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    import nbformat

    nbformat.write(nbformat.from_dict(notebook), tmp_path / "in.ipynb")
    arguments = command.split()[1:]
    result = call(sys.executable, "-m", "papermill", *arguments, "-p", "x", "21", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    done = nbformat.read(tmp_path / "out.ipynb", as_version=4)
    outputs = [
        (output.output_type, output.get("text") or output.data["text/plain"])
        for output in done.cells[-1].outputs
    ]
    assert outputs == [("stream", "x is 21\n"), ("stream", "oh\n"), ("execute_result", "42")]
    assert done.cells[-1].execution_count == 3
    notebook["cells"][1]["source"] = "1 / 0"  # type: ignore[index]
    nbformat.write(nbformat.from_dict(notebook), tmp_path / "in.ipynb")
    result = call(sys.executable, "-m", "papermill", *arguments, cwd=tmp_path)
    assert result.returncode != 0
    assert "ZeroDivisionError: division by zero" in result.stderr


@needs_fork
def test_the_header_says_which_engine_and_why(project: Path, run_pytest: Run) -> None:
    assert (
        "\nductaflow: engine fork (each run is a fork of a warm process)\n" in run_pytest("instances").stdout
    )
    chosen = run_pytest("instances", "--ductaflow-engine=papermill").stdout
    assert "\nductaflow: engine papermill (asked for)\n" in chosen


@needs_fork
def test_what_is_asked_to_be_preloaded_is_or_it_is_said_why_not(project: Path, run_pytest: Run) -> None:
    [ini] = blocks("ini")
    assert ini.startswith("[pytest]\nductaflow_preload = ")
    (project / "pytest.ini").write_text("[pytest]\nductaflow_preload = imaplib no_such_module\n")
    (project / "flows/it.py").write_text(FLOW + "import sys\nprint('imaplib' in sys.modules)\n")
    result = run_pytest("instances")
    assert result.returncode == 0
    assert all(text.endswith("True\n") for text in printed(project))
    assert "ductaflow: no_such_module is not preloaded: ModuleNotFoundError" in result.stdout


@needs_fork
def test_workers_share_one_warm_process(project: Path, run_pytest: Run) -> None:
    warm = "import psutil\nprint(psutil.Process().parents()[1].pid)\n"  # the parent of its supervisor
    (project / "flows/it.py").write_text(FLOW.replace("print(os.getppid())\n", warm))
    assert run_pytest("instances", "-n", "2").returncode == 0
    assert len(printed(project)) == 4
    assert len(set(printed(project))) == 1


@pytest.mark.parametrize("engine", engines.available())
@pytest.mark.parametrize("parallel", [(), ("-n", "2")], ids=["serial", "xdist"])
@pytest.mark.skipif(importlib.util.find_spec("coverage") is None, reason="needs coverage")
def test_coverage_measures_flows(project: Path, engine: str, parallel: tuple[str, ...]) -> None:
    if parallel and importlib.util.find_spec("pytest_cov") is None:
        pytest.skip("needs pytest-cov")
    (project / "flows/it.py").write_text(FLOW + "if config['n'] > 9:\n    print('never')\n")
    clean = dict.fromkeys((name for name in os.environ if name.startswith("COVERAGE_")), "")
    chosen = ("instances", f"--ductaflow-engine={engine}", *parallel)
    if parallel:
        start: tuple[str, ...] = ("-m", "pytest", "--cov=flows", "--cov-branch", "--cov-report=term-missing")
        result = call(sys.executable, *start, *chosen, cwd=project, **clean)
    else:
        start = ("-m", "coverage", "run", "--branch", "--source=flows", "-m", "pytest", "-p", "no:pytest_cov")
        ran = call(sys.executable, *start, *chosen, cwd=project, **clean)
        assert ran.returncode == 0, ran.stdout
        assert "warning" not in ran.stdout
        result = call(sys.executable, "-m", "coverage", "report", "-m", cwd=project, **clean)
    line = next(line for line in result.stdout.splitlines() if line.startswith("flows/it.py"))
    assert line.split() == ["flows/it.py", "5", "1", "2", "1", "71%", "8"], result.stdout


@needs_fork
def test_after_500_runs_nothing_is_left(project: Path) -> None:
    (project / "instances/it.json").write_text(
        f'{{"flow": "flows/it.py", "config": {{}}, "scenarios": {{"n": {list(range(500))}}}}}'
    )
    (project / "conftest.py").write_text(
        "import os\n"
        "def pytest_runtest_logfinish(nodeid):\n"
        "    if nodeid.endswith(('-20', '-499')):\n"
        "        print('\\ndescriptors', len(os.listdir('/proc/self/fd')))\n"
    )
    temporary = project / "tmp"
    result = call(
        sys.executable,
        "-m",
        "pytest",
        "instances",
        "-q",
        "-s",
        cwd=project,
        TMPDIR=str(temporary),
        timeout=200,
    )
    assert result.returncode == 0, result.stdout[-2000:]
    assert "500 green" in result.stdout
    early, late = re.findall(r"descriptors (\d+)", result.stdout)
    assert early == late
    assert list(temporary.glob("ductaflow-*")) == []
    left = []
    for process in psutil.process_iter(["cwd"]):
        place = process.info["cwd"]
        if place is not None and Path(place).is_relative_to(project):
            left.append(process)
    assert left == []
