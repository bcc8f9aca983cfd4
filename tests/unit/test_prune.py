import os
from pathlib import Path

import pytest

from pytest_ductaflow.command import prune
from pytest_ductaflow.leftovers import Leftover, Leftovers
from pytest_ductaflow.record import Record, lock, write_record

GONE = Leftover("runs/fit/gone", "instances/fit.json::gone", "instances/fit.json has no gone")


@pytest.fixture
def project(tmp_path: Path) -> Leftovers:
    for name in ("gone", "other"):
        path = tmp_path / "runs/fit" / name
        path.mkdir(parents=True)
        write_record(path, Record("flow", "flows/fit.py", name, "success", "t"))
        (path / "out/deep").mkdir(parents=True)
        (path / "out/deep/a.txt").write_text("a" * 100)
    return Leftovers(tmp_path, [])


def names(project: Leftovers) -> list[str]:
    return sorted(path.name for path in (project.runs / "fit").iterdir())


def test_a_directory_goes_with_all_that_is_in_it(project: Leftovers) -> None:
    assert prune._delete(project, GONE) is None
    assert names(project) == ["other"]


def test_an_empty_step_goes_too(project: Leftovers) -> None:
    assert prune._delete(project, GONE) is None
    assert prune._delete(project, Leftover("runs/fit/other", "x::y", "")) is None
    assert list(project.runs.iterdir()) == []


def test_what_links_lead_to_stays(project: Leftovers, tmp_path_factory: pytest.TempPathFactory) -> None:
    kept = tmp_path_factory.mktemp("kept")
    (kept / "file").write_text("x")
    gone = project.runs / "fit/gone"
    (gone / "folder").symlink_to(kept)
    (gone / "file").symlink_to(kept / "file")
    (gone / "out/other").symlink_to(project.runs / "fit/other")
    assert prune._delete(project, GONE) is None
    assert (kept / "file").read_text() == "x"
    assert (project.runs / "fit/other/run.json").exists()
    assert names(project) == ["other"]


@pytest.mark.parametrize("place", ["runs/fit/gone", "runs/fit"])
def test_a_link_in_its_place_stays(project: Leftovers, place: str) -> None:
    elsewhere = project.root / "elsewhere"
    (project.root / place).rename(elsewhere)
    (project.root / place).symlink_to(elsewhere)
    assert prune._delete(project, GONE) == "it is a symbolic link"
    assert list(elsewhere.rglob("a.txt"))


@pytest.mark.parametrize("place", ["runs/fit/gone", "runs/fit/gone/runs/inner"])
def test_a_directory_in_use_stays_whole(project: Leftovers, place: str) -> None:
    (project.root / place).mkdir(parents=True, exist_ok=True)
    with lock(project.root / place):
        assert prune._delete(project, GONE) == "a run goes on in it"
    assert (project.runs / "fit/gone/out/deep/a.txt").exists()
    assert (project.runs / "fit/gone/run.json").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may delete anything")
def test_what_cannot_be_deleted_is_said_and_is_still_a_leftover(project: Leftovers) -> None:
    deep = project.runs / "fit/gone/out/deep"
    deep.chmod(0o500)
    problem = prune._delete(project, GONE)
    deep.chmod(0o700)
    assert problem is not None
    assert problem.startswith("Permission denied: ")
    assert (project.runs / "fit/gone/run.json").exists()


def test_of_a_directory_that_cannot_be_emptied_the_record_stays(
    project: Leftovers, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: str) -> None:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(prune.shutil, "rmtree", refuse)
    shown = os.path.relpath(project.runs / "fit/gone/out")
    assert prune._delete(project, GONE) == f"Permission denied: {shown}"
    assert (project.runs / "fit/gone/run.json").exists()


def test_a_size_is_that_of_its_own_files(project: Leftovers) -> None:
    gone = project.runs / "fit/gone"
    before = prune._size(gone)
    assert before == (gone / "run.json").stat().st_size + 100
    (gone / "file").symlink_to(project.runs / "fit/other/run.json")
    assert prune._size(gone) == before + (gone / "file").lstat().st_size


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (1_234_567, "1.2 MB"), (5e15, "5000.0 TB")],
)
def test_a_size_is_readable(size: float, text: str) -> None:
    assert prune._readable(size) == text
