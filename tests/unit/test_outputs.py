"""What a run leaves in its directory: found, recorded, compared and removed; no link is ever followed."""

import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pytest_ductaflow import figures, outputs
from pytest_ductaflow.digests import Digests, digest
from pytest_ductaflow.outputs import entries, made, remove, remove_nested
from pytest_ductaflow.record import Record, RunDirectory, lock, write_record


def make(**values: Any) -> Record:
    needed = {"kind": "flow", "flow": "flows/fit.py", "instance": "a", "status": "success", "started": "t"}
    return Record(**{**needed, **values})


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path.resolve()


@pytest.fixture
def directory(root: Path) -> RunDirectory:
    path = root / "runs/fit/a"
    path.mkdir(parents=True)
    return RunDirectory(path, "fit")


@pytest.fixture
def after(directory: RunDirectory, root: Path) -> Callable[[Callable[[Path], object]], Record]:
    """Let something happen as a run; give its record."""

    def run(act: Callable[[Path], object]) -> Record:
        before = entries(directory)
        act(directory.path)
        return make(outputs=made(directory, before, Digests(root)), config={"_project_root": str(root)})

    return run


After = Callable[[Callable[[Path], object]], Record]


def left_in(directory: RunDirectory) -> set[str]:
    return set(entries(directory))


def many(path: Path) -> None:
    """All kinds of things."""
    (path / "out/deep/empty").mkdir(parents=True)
    (path / "out/a.csv").write_text("1")
    (path / "out/deep/b.csv").write_text("2")
    os.link(path / "out/a.csv", path / "hard.csv")
    (path / "latest").symlink_to("out/a.csv")
    (path / "folder").symlink_to("out")
    (path / "out/dangling").symlink_to("nowhere")
    os.mkfifo(path / "pipe")
    with socket.socket(socket.AF_UNIX) as server:
        here = os.getcwd()
        os.chdir(path)  # the name of a socket must be short
        server.bind("socket")
        os.chdir(here)


MANY = {
    "out": "directory",
    "out/deep": "directory",
    "out/deep/empty": "directory",
    "out/dangling": "link nowhere",
    "latest": "link out/a.csv",
    "folder": "link out",
    "pipe": "pipe",
    "socket": "socket",
}


def test_what_a_run_made_is_recorded_with_its_state(directory: RunDirectory, after: After) -> None:
    found = after(many).outputs
    files = {name: digest(directory.path / name) for name in ("out/a.csv", "out/deep/b.csv", "hard.csv")}
    assert found == MANY | files


def test_all_of_it_is_removed(directory: RunDirectory, after: After) -> None:
    assert remove(directory, after(many)) == set()
    assert os.listdir(directory.path) == []


@pytest.mark.parametrize(
    ("change", "name", "gone"),
    [
        pytest.param(lambda path: (path / "latest").unlink(), "latest", True, id="link gone"),
        pytest.param(
            lambda path: ((path / "latest").unlink(), (path / "latest").symlink_to("out/deep/b.csv")),
            "latest",
            False,
            id="another target",
        ),
        pytest.param(
            lambda path: (path / "out/deep/empty").rmdir(), "out/deep/empty", True, id="directory gone"
        ),
        pytest.param(
            lambda path: ((path / "out/deep/empty").rmdir(), (path / "out/deep/empty").touch()),
            "out/deep/empty",
            False,
            id="a file in its place",
        ),
        pytest.param(
            lambda path: ((path / "pipe").unlink(), (path / "pipe").mkdir()), "pipe", False, id="no pipe"
        ),
    ],
)
def test_a_change_of_it_is_seen(
    directory: RunDirectory, root: Path, after: After, change: Callable[[Path], Any], name: str, gone: bool
) -> None:
    record = after(many)
    assert list(outputs.changed(record, directory.path, root, Digests(root))) == []
    change(directory.path)
    assert list(outputs.changed(record, directory.path, root, Digests(root))) == [(name, gone)]


def test_a_link_into_the_project_must_lead_to_where_the_project_is(
    directory: RunDirectory, root: Path, after: After, tmp_path_factory: pytest.TempPathFactory
) -> None:
    record = after(lambda path: (path / "data").symlink_to(root / "data"))
    assert list(outputs.changed(record, directory.path, root, Digests(root))) == []
    other = tmp_path_factory.mktemp("moved").resolve() / "project"
    shutil.copytree(root, other, symlinks=True)
    run = other / "runs/fit/a"
    assert list(outputs.changed(record, run, other, Digests(other))) == [("data", False)]
    assert remove(RunDirectory(run, "fit"), record) == set()  # and it is still the run's own
    assert os.listdir(run) == []


def test_a_file_that_could_not_be_read_is_never_unchanged(directory: RunDirectory, root: Path) -> None:
    (directory.path / "a.csv").write_text("1")

    class Unreadable(Digests):
        def of(self, path: Any) -> str:
            return "unreadable: Permission denied"

    record = make(outputs={"a.csv": "unreadable: Permission denied"})
    assert list(outputs.changed(record, directory.path, root, Unreadable(root))) == [("a.csv", False)]


# --- whose is it? ----------------------------------------------------------------------------------


def test_a_directory_that_holds_somebody_s_file_stays_until_it_is_empty(
    directory: RunDirectory, after: After
) -> None:
    record = after(many)
    (directory.path / "out/deep/mine.txt").write_text("precious")
    assert remove(directory, record) == {"out", "out/deep"}
    assert left_in(directory) == {"out", "out/deep", "out/deep/mine.txt"}
    (directory.path / "out/deep/mine.txt").unlink()
    assert remove(directory, record) == set()
    assert left_in(directory) == set()


def test_a_directory_that_was_there_before_is_not_the_run_s(directory: RunDirectory, after: After) -> None:
    (directory.path / "mine").mkdir()
    record = after(lambda path: (path / "mine/a.csv").touch())
    assert record.outputs.keys() == {"mine/a.csv"}
    remove(directory, record)
    assert left_in(directory) == {"mine"}


def test_a_directory_that_was_made_anew_is_the_run_s(directory: RunDirectory, after: After) -> None:
    (directory.path / "out").mkdir()
    held = os.open(directory.path / "out", os.O_RDONLY)  # so that its inode is not used again
    record = after(lambda path: ((path / "out").rmdir(), (path / "out").mkdir()))
    os.close(held)
    assert record.outputs == {"out": "directory"}


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda path: path.unlink() or path.symlink_to("/elsewhere"), id="another link"),
        pytest.param(lambda path: path.unlink() or path.write_text("mine"), id="a file"),
        pytest.param(lambda path: path.unlink() or path.mkdir(), id="a directory"),
    ],
)
def test_what_somebody_put_in_the_place_of_a_link_stays(
    directory: RunDirectory, after: After, change: Callable[[Path], Any]
) -> None:
    record = after(lambda path: (path / "latest").symlink_to("out.csv"))
    change(directory.path / "latest")
    remove(directory, record)
    assert left_in(directory) == {"latest"}


def test_a_link_is_removed_and_what_it_leads_to_is_not(
    directory: RunDirectory, root: Path, after: After
) -> None:
    (root / "elsewhere").mkdir()
    (root / "elsewhere/x").write_text("precious")

    def act(path: Path) -> None:
        (path / "file").symlink_to(root / "elsewhere/x")
        (path / "folder").symlink_to(root / "elsewhere")

    remove(directory, after(act))
    assert left_in(directory) == set()
    assert (root / "elsewhere/x").read_text() == "precious"


def test_a_directory_that_became_a_link_is_not_followed(
    directory: RunDirectory, root: Path, after: After
) -> None:
    def act(path: Path) -> None:
        (path / "out/deep").mkdir(parents=True)
        (path / "out/a.csv").write_text("1")

    record = after(act)
    shutil.move(directory.path / "out", root / "elsewhere")
    (directory.path / "out").symlink_to(root / "elsewhere")
    remove(directory, record)
    assert sorted(os.listdir(root / "elsewhere")) == ["a.csv", "deep"]
    assert left_in(directory) == {"out"}


def test_a_planted_link_in_place_of_the_figures_is_not_written_through(
    directory: RunDirectory, root: Path
) -> None:
    import nbformat

    (root / "elsewhere").mkdir()
    (directory.path / figures.FIGURES).symlink_to(root / "elsewhere")
    image = nbformat.v4.new_output("display_data", {"image/png": "AAAA"})
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(outputs=[image])])
    figures.write(notebook, directory.notebook)
    assert os.listdir(root / "elsewhere") == []
    assert figures.of_run(directory.notebook) == [".figures/fit_0_0.png"]


# --- nested runs -----------------------------------------------------------------------------------


def nested(directory: RunDirectory, name: str, **values: Any) -> RunDirectory:
    own = RunDirectory(directory.path / name, "inner")
    (own.path / "out").mkdir(parents=True)
    (own.path / "out/a.csv").write_text("1")
    for path in (own.notebook, own.config, own.output):
        path.touch()
    files = {"out": "directory", "out/a.csv": digest(own.path / "out/a.csv")}
    write_record(own.path, make(flow="flows/inner.py", outputs=files, **values))
    return own


def test_what_a_nested_run_made_is_its_own(directory: RunDirectory, after: After) -> None:
    record = after(lambda path: nested(directory, "runs/inner"))
    assert record.outputs == {"runs": "directory"}
    record.outputs |= {
        "runs/inner/out": "directory",
        "runs/inner/out/a.csv": digest(directory.path / "runs/inner/out/a.csv"),
    }
    assert remove(directory, record) == {"runs"}
    assert (directory.path / "runs/inner/out/a.csv").exists()


def test_a_nested_run_that_is_not_made_any_more_is_removed_with_its_own(directory: RunDirectory) -> None:
    first = nested(directory, "runs/deep/first", runs=["runs/second"])
    nested(first, "runs/second")
    nested(directory, "runs/other")
    remove_nested(directory, "runs/deep/first")
    assert os.listdir(directory.path / "runs") == ["other"]


def test_of_a_nested_run_what_is_somebody_s_stays(directory: RunDirectory) -> None:
    own = nested(directory, "runs/first")
    (own.path / "out/mine.txt").write_text("precious")
    remove_nested(directory, "runs/first")
    assert left_in(directory) == {"runs", "runs/first", "runs/first/out", "runs/first/out/mine.txt"}


@pytest.mark.parametrize("name", [".", "..", "../b", "/", "linked", "runs/none"])
def test_no_nested_run_elsewhere_is_removed(directory: RunDirectory, name: str) -> None:
    other = nested(RunDirectory(directory.path.parent, "fit"), "b")
    (directory.path / "linked").symlink_to(other.path)
    write_record(directory.path, make())
    remove_nested(directory, name)
    assert other.record.exists()
    assert directory.record.exists()


def test_a_nested_run_that_goes_on_stays(directory: RunDirectory) -> None:
    own = nested(directory, "runs/first")
    with lock(own.path):
        remove_nested(directory, "runs/first")
    assert own.record.exists()


# --- what is found ---------------------------------------------------------------------------------


def test_the_flow_s_own_files_are_found_with_size_and_time(directory: RunDirectory) -> None:
    write_record(directory.path, make())
    for name in (
        *directory.own_files,
        ".run.json.0123456789abcdef0123456789abcdef.tmp",
        "plot.png",
        ".hidden",
        "deep/er/data.csv",
        "deep/run.txt",
    ):
        path = directory.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("12345")
        os.utime(path, ns=(0, 7))
    files = {name: entry for name, entry in entries(directory).items() if entry[0] == "file"}
    assert files == dict.fromkeys(("plot.png", ".hidden", "deep/er/data.csv", "deep/run.txt"), ("file", 5, 7))
    assert left_in(directory) - files.keys() == {"deep", "deep/er"}


def test_a_flow_s_own_tmp_file_is_found(directory: RunDirectory) -> None:
    (directory.path / "data.tmp").touch()
    assert set(entries(directory)) == {"data.tmp"}


@pytest.mark.parametrize("marker", ["run.json", ".run.lock"])
def test_a_nested_run_s_files_are_not_the_build_s(directory: RunDirectory, marker: str) -> None:
    for name in (f"runs/inner/{marker}", "runs/inner/out.csv", "runs/inner/deep/out.csv", "runs/own.csv"):
        (directory.path / name).parent.mkdir(parents=True, exist_ok=True)
        (directory.path / name).touch()
    assert left_in(directory) == {"runs", "runs/own.csv"}


def test_names_that_are_ours_at_the_top_are_the_flow_s_below(directory: RunDirectory) -> None:
    (directory.path / "deep").mkdir()
    (directory.path / "deep/fit.ipynb").touch()
    assert left_in(directory) == {"deep", "deep/fit.ipynb"}
    remove(directory, make(outputs={"deep/fit.ipynb": digest(directory.path / "deep/fit.ipynb")}))
    assert left_in(directory) == {"deep"}


def recorded(directory: RunDirectory, **files: str) -> Record:
    for name, text in files.items():
        (directory.path / name).write_text(text)
    return make(outputs={name: digest(directory.path / name) for name in files})


def test_outputs_of_the_last_run_are_removed(directory: RunDirectory) -> None:
    (directory.path / "sub").mkdir()
    record = recorded(directory, **{"a.csv": "a", "sub/b.csv": "b"})
    record.outputs["gone.csv"] = "blake2b:00"
    (directory.path / "other.csv").write_text("a")
    remove(directory, record)
    assert left_in(directory) == {"sub", "other.csv"}


def test_an_output_that_somebody_changed_stays(directory: RunDirectory) -> None:
    record = recorded(directory, **{"a.csv": "a"})
    (directory.path / "a.csv").write_text("mine now")
    remove(directory, record)
    assert (directory.path / "a.csv").read_text() == "mine now"


def test_removing_outputs_follows_no_symbolic_link(directory: RunDirectory, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "x").write_text("precious")
    (directory.path / "link").symlink_to(outside / "x")
    (directory.path / "folder").symlink_to(outside)
    value = digest(outside / "x")
    remove(directory, make(outputs={"link": value, "folder/x": value}))
    assert (outside / "x").read_text() == "precious"
    assert (directory.path / "link").is_symlink()


@pytest.mark.parametrize("name", ["../b/x", "../../../x", "sub/../../b/x", "{absolute}"])
def test_a_tampered_record_removes_nothing_outside_its_directory(
    directory: RunDirectory, tmp_path: Path, name: str
) -> None:
    (directory.path / "sub").mkdir()
    victims = [directory.path.parent / "b/x", tmp_path / "x"]
    for victim in victims:
        victim.parent.mkdir(exist_ok=True)
        victim.write_text("precious")
    name = name.format(absolute=victims[0])
    remove(directory, make(outputs={name: digest(victims[0])}))
    assert [victim.read_text() for victim in victims] == ["precious"] * 2


@pytest.mark.parametrize("name", ["", ".", "sub", "run.json", "fit.ipynb", ".run.lock", "a\0b"])
def test_a_tampered_record_removes_no_directory_and_none_of_our_files(
    directory: RunDirectory, name: str
) -> None:
    (directory.path / "sub").mkdir()
    for own in directory.own_files:
        (directory.path / own).write_text("x")
    before = sorted(os.listdir(directory.path))
    remove(directory, make(outputs={name: digest(directory.record)}))
    assert sorted(os.listdir(directory.path)) == before
