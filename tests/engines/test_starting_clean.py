"""A run starts without anything that the last one made, and what it makes is output, not input."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pytest_ductaflow import execution
from pytest_ductaflow.engines import available
from pytest_ductaflow.execution import Request, execute, up_to_date
from pytest_ductaflow.record import Record

HEADER = """# %% tags=["parameters"]
config = {}

# %%
import os, pathlib, shutil, tarfile, tempfile, zipfile
root = config["_project_root"]
"""


@pytest.fixture(params=available())
def project(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., Request]:
    """Write a flow or build; give the request that runs it."""
    (tmp_path / "data/deep").mkdir(parents=True)
    (tmp_path / "data/deep/a.csv").write_text("1")

    def ask(code: str, name: str = "it", kind: str = "flow", **options: Any) -> Request:
        flow = tmp_path / f"{kind}s/{name}.py"
        flow.parent.mkdir(exist_ok=True)
        flow.write_text(f"{HEADER}{code}\n")
        asked: dict[str, Any] = {"config": {}, "project_root": tmp_path, "engine": request.param, **options}
        return Request(kind, flow, "one", tmp_path / f"runs/{name}/one", **asked)

    return ask


def run(request: Request) -> Record:
    record = execute(request)
    assert record.status == "success", record.error
    return record


def reasons(request: Request) -> list[str]:
    return up_to_date(request)[1]


WAYS = {
    "mkdir": "os.mkdir('out')",
    "looked for": "if not os.path.exists('out'): os.mkdir('out')\nelse: raise SystemExit(1)",
    "pathlib": "pathlib.Path('out/deep').mkdir(parents=True, exist_ok=True)",
    "makedirs": "os.makedirs('out/deep/er')\nopen('out/deep/er/a.csv', 'w').write('1')",
    "emptied": "os.mkdir('out')\nopen('out/part', 'w').write('1')\nos.unlink('out/part')",
    "copytree": "shutil.copytree(os.path.join(root, 'data'), 'copy')",
    "linked tree": "os.symlink(os.path.join(root, 'data'), 'link')\nshutil.copytree('link', 'copy', symlinks=True)",
    "zip": (
        "with zipfile.ZipFile('a.zip', 'w') as file: file.write(os.path.join(root, 'data', 'deep', 'a.csv'), 'x/a.csv')\n"
        "zipfile.ZipFile('a.zip').extractall('out')"
    ),
    "tar": (
        "with tarfile.open('a.tar', 'w') as file: file.add(os.path.join(root, 'data'), 'x')\n"
        "tarfile.open('a.tar').extractall('out')"
    ),
    "renamed": "os.makedirs('part/deep')\nopen('part/deep/a', 'w').write('1')\nos.rename('part', 'whole')",
    "moved in": "part = tempfile.mkdtemp(dir=root)\nopen(part + '/a', 'w').write('1')\nshutil.move(part, 'whole')",
    "temporary": "print(len(os.listdir(tempfile.mkdtemp(dir='.'))))",
    "link": "open('out.csv', 'w').write('1')\nos.symlink('out.csv', 'latest')",
    "link to a directory": "os.mkdir('v1')\nos.symlink('v1', 'latest')\nopen('latest/a.csv', 'w').write('1')",
    "absolute link": "os.symlink(os.path.join(root, 'data'), 'data')\nopen('data/deep/a.csv').read()",
    "dangling": "os.symlink('nowhere', 'dangling')",
    "hard link": "os.link(os.path.join(root, 'data', 'deep', 'a.csv'), 'a.csv')",
    "pipe": "os.mkfifo('pipe')",
    "socket": "import socket\nsocket.socket(socket.AF_UNIX).bind('server')",
    "command": "import subprocess\nsubprocess.run('mkdir -p a/b && ln -s a c', shell=True, check=True)",
}


@pytest.mark.parametrize("name", WAYS)
def test_what_the_last_run_made_is_gone(project: Callable[..., Request], name: str) -> None:
    before = (
        "left = [name for name in os.listdir() if not name.startswith(('it', 'run.json', '.run.lock'))]\n"
    )
    request = project(f"{before}assert not left, left\n{WAYS[name]}")
    first = run(request)
    assert reasons(request) == []  # at once: what it makes is no input
    second = run(request)
    assert second.outputs.keys() == first.outputs.keys() or name == "temporary"
    assert second.outputs
    assert reasons(request) == []
    assert (request.project_root / "data/deep/a.csv").read_text() == "1"


@pytest.mark.parametrize("failing", ["raise ValueError", "os.kill(os.getpid(), 9)"])
def test_what_a_red_run_made_is_gone(project: Callable[..., Request], failing: str) -> None:
    request = project(f"os.mkdir('out')\nos.symlink('out', 'link')\n{failing}")
    assert execute(request).status == "error"
    request = project("os.mkdir('out')\nos.symlink('out', 'link')")
    run(request)


def test_somebody_s_files_and_the_directories_that_hold_them_stay(project: Callable[..., Request]) -> None:
    request = project("os.makedirs('out/deep', exist_ok=True)\nopen('out/deep/a.csv', 'w').write('1')")
    run(request)
    mine = request.directory / "out/mine.txt"
    mine.write_text("precious")
    run(request)
    assert mine.read_text() == "precious"
    mine.unlink()
    request = project("os.mkdir('out')")
    assert run(request).outputs == {"out": "directory"}


def test_a_planted_link_is_not_followed_and_what_is_written_by_way_of_it_is_output(
    project: Callable[..., Request], tmp_path_factory: pytest.TempPathFactory
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    request = project("open('out.csv', 'w').write('1')")
    request.directory.mkdir(parents=True)
    (request.directory / "out.csv").symlink_to(elsewhere / "out.csv")
    for name in ("it.ipynb", "it_config.json", "it_execution_output.txt", "run.json", "it.html", ".figures"):
        (request.directory / name).symlink_to(elsewhere / name)
    for _ in range(2):
        assert run(request).outputs.keys() == {"out.csv"}
        assert reasons(request) == []
        assert os.listdir(elsewhere) == ["out.csv"]
        assert (request.directory / "out.csv").is_symlink()
    (elsewhere / "out.csv").write_text("2")
    assert reasons(request) == ["output changed: runs/it/one/out.csv"]


# --- outside the run directory -----------------------------------------------------------------------


OUTSIDE = {
    "makedirs": "os.makedirs(root + '/results/deep', exist_ok=True)",
    "looked for": "place = root + '/resu' + 'lts'\nif not os.path.exists(place): os.mkdir(place)",
    "pathlib": "place = pathlib.Path(root, 'results')\nplace.is_dir() or place.mkdir()",
    "moved there": "pathlib.Path(root, 'results').exists() or os.rename(tempfile.mkdtemp(dir='.'), root + '/results')",
    "link": "place = root + '/resu' + 'lts'\nos.path.exists(place) or os.symlink('data', place)",
}


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_directory_that_is_made_elsewhere_is_output_and_stays(
    project: Callable[..., Request], name: str
) -> None:
    request = project(OUTSIDE[name])
    assert "../../../results" in run(request).outputs
    assert reasons(request) == []
    place = request.project_root / "results"
    run(request)
    assert place.exists()
    assert reasons(request) == []
    (os.unlink if place.is_symlink() else lambda path: os.rename(path, f"{path}.old"))(place)
    found = reasons(request)
    assert found
    assert all("missing: results" in reason for reason in found)


def test_what_lies_in_a_directory_that_was_moved_elsewhere_is_output(project: Callable[..., Request]) -> None:
    request = project(
        "shutil.rmtree(root + '/results', ignore_errors=True)\nos.mkdir(root + '/part')\n"
        "open(root + '/part/a.csv', 'w').write('1')\nos.rename(root + '/part', root + '/results')"
    )
    run(request)
    assert reasons(request) == []
    (request.project_root / "results/a.csv").unlink()
    assert reasons(request) == ["output missing: results/a.csv"]


# --- builds ------------------------------------------------------------------------------------------


def test_a_nested_run_starts_clean_and_one_that_is_not_made_any_more_goes(
    project: Callable[..., Request],
) -> None:
    project("os.mkdir('out')\nos.symlink('out', 'latest')", name="inner")
    code = (
        "from pytest_ductaflow import run_notebook\nnames = {}\nfor name in names:\n"
        "    run_notebook(root + '/flows/inner.py', execution_dir='runs/' + name, config=dict(name=name))\n"
        "print(len(os.listdir('runs')))"
    )
    request = project(code.format(["a", "b"]), name="all", kind="build", reuse=True)
    run(request)
    assert reasons(request) == []
    run(replace(request, reuse=False))
    assert reasons(request) == []
    request = project(code.format(["b"]), name="all", kind="build", reuse=True)
    run(request)
    assert os.listdir(request.directory / "runs") == ["b"]
    assert sorted(os.listdir(request.directory / "runs/b"))[-2:] == ["out", "run.json"]
    assert reasons(request) == []


def test_an_instance_that_runs_another_flow_starts_clean_too(project: Callable[..., Request]) -> None:
    made = "os.makedirs('out/deep')\nopen('out/deep/a.csv', 'w').write('1')"
    old = project(made, "old", node_id="instances/it.json::one")
    run(old)
    new = replace(
        project("print(sorted(os.listdir()))", "new", node_id="instances/moved.json::one"),
        directory=old.directory,
    )
    execution.refuse(new, "needs another one")  # in the meantime
    run(new)
    there = "['.run.lock', 'new.ipynb', 'new_config.json', 'new_execution_output.txt', 'run.json']"
    assert (old.directory / "new_execution_output.txt").read_text().strip() == there


def test_flows_that_somebody_runs_in_one_directory_leave_each_other_s_files(
    project: Callable[..., Request],
) -> None:
    first = project("open('a.csv', 'w').write('1')", "first")
    run(first)
    run(replace(project("open('a.csv').read()", "second"), directory=first.directory))
    assert (first.directory / "first.ipynb").exists()
