import errno
import json
import os
import threading
from dataclasses import asdict
from pathlib import Path
from typing import Any

import filelock
import pytest

from pytest_ductaflow import record as module
from pytest_ductaflow.digests import digest
from pytest_ductaflow.errors import RecordError, RunBusy
from pytest_ductaflow.record import (
    Record,
    RunDirectory,
    analyze_execution_logs,
    is_locked,
    lock,
    read_record,
    write_atomically,
    write_record,
)
from pytest_ductaflow.status import Status


def make(**values: Any) -> Record:
    needed = {"kind": "flow", "flow": "flows/fit.py", "instance": "a", "status": "success", "started": "t"}
    return Record(**{**needed, **values})


def run(directory: Path, **values: Any) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    write_record(directory, make(instance=directory.name, **values))
    return directory


@pytest.fixture
def directory(tmp_path: Path) -> RunDirectory:
    path = tmp_path.resolve() / "runs/fit/a"
    path.mkdir(parents=True)
    return RunDirectory(path, "fit")


# --- layout --------------------------------------------------------------------------------------


def test_the_files_of_a_run_have_their_names(directory: RunDirectory) -> None:
    paths = (directory.notebook, directory.config, directory.output, directory.html, directory.record)
    assert [path.name for path in paths] == [
        "fit.ipynb",
        "fit_config.json",
        "fit_execution_output.txt",
        "fit.html",
        "run.json",
    ]
    assert {path.parent for path in paths} == {directory.path}
    assert directory.own_files >= {path.name for path in paths} | {"_cli_execution_output.txt"}


def test_a_run_directory_is_made_and_resolved(tmp_path: Path) -> None:
    (tmp_path / "alias").symlink_to(tmp_path / "real")
    (tmp_path / "real").mkdir()
    made = module.make_directory(tmp_path / "alias/fit/a")
    assert made == (tmp_path / "real/fit/a").resolve()
    assert made.is_dir()
    assert module.make_directory(made) == made


@pytest.mark.parametrize("target", ["elsewhere", "nowhere"])
def test_a_symbolic_link_is_no_run_directory(tmp_path: Path, target: str) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "a").symlink_to(tmp_path / target)
    with pytest.raises(RecordError, match=r"/a is a symbolic link"):
        module.make_directory(tmp_path / "a")
    assert not (tmp_path / "nowhere").exists()


def test_a_file_is_no_run_directory(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    with pytest.raises(RecordError, match=r"/a is a file"):
        module.make_directory(tmp_path / "a")


def test_a_file_on_the_way_to_a_run_directory_is_named(tmp_path: Path) -> None:
    (tmp_path / "fit").touch()
    with pytest.raises(RecordError, match=r"fit"):
        module.make_directory(tmp_path / "fit/a")


# --- writing -------------------------------------------------------------------------------------


@pytest.mark.parametrize("durable", [True, False])
def test_a_file_is_replaced_as_a_whole(tmp_path: Path, durable: bool) -> None:
    path = tmp_path / "run.json"
    path.write_text("old")
    write_atomically(path, b"new", durable=durable)
    assert path.read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["run.json"]


@pytest.mark.parametrize("name", ["replace", "fsync"])
@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()], ids=["full", "Ctrl-C"]
)
def test_a_failed_write_leaves_the_old_content_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, error: BaseException
) -> None:
    path = tmp_path / "run.json"
    path.write_text("old")

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(os, name, fail)
    with pytest.raises(type(error)):
        write_atomically(path, b"new")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["run.json"]


@pytest.mark.skipif(os.name != "posix", reason="directories are synced on POSIX only")
def test_what_must_last_is_synced_before_and_after_the_rename(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    real = {name: getattr(os, name) for name in ("fsync", "replace")}
    for name in real:
        monkeypatch.setattr(os, name, lambda *args, name=name: done.append(name) or real[name](*args))
    write_atomically(tmp_path / "a", b"x")
    assert done == ["fsync", "replace", "fsync"]
    done.clear()
    write_atomically(tmp_path / "a", b"x", durable=False)
    assert done == ["replace"]


def test_a_symbolic_link_is_replaced_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    for write in (lambda path: write_atomically(path, b"new"), module.create_output, module.remove):
        link = tmp_path / "link"
        link.unlink(missing_ok=True)
        link.symlink_to(victim)
        write(link)
        assert not link.is_symlink()
        assert victim.read_text() == "precious"


def test_an_output_file_starts_empty_in_place_of_an_old_one(tmp_path: Path) -> None:
    path = tmp_path / "out.txt"
    path.write_text("old")
    module.create_output(path)
    assert path.read_bytes() == b""


def test_removing_what_is_not_there_is_fine(tmp_path: Path) -> None:
    module.remove(tmp_path / "none")
    assert os.listdir(tmp_path) == []


# --- reading -------------------------------------------------------------------------------------


def test_a_record_comes_back_equal(directory: RunDirectory) -> None:
    written = make(
        status="warning",
        node_id="instances/a.json::a",
        duration=1.5,
        ended="t2",
        cells={"total": 3, "done": 3, "current": 2},
        warnings=[{"line": 3, "cell": 1, "text": "Warning: ä"}],
        runs=["runs/inner"],
        outputs={"a.csv": "blake2b:00"},
        config={"x": float("inf"), "s": "\ud800", "deep": {"n": None}},
        scenario={"x": 1},
    )
    write_record(directory.path, written)
    assert read_record(directory.path) == written
    assert written.light is Status.WARNING


def test_a_record_says_its_schema_first_of_all_versions(directory: RunDirectory) -> None:
    write_record(directory.path, make())
    assert json.loads(directory.record.read_text("utf-8"))["schema"] == module.SCHEMA == 1


def test_keys_of_a_later_minor_version_are_left_alone(directory: RunDirectory) -> None:
    directory.record.write_text(json.dumps({**asdict(make()), "new": 1}))
    assert read_record(directory.path) == make()


RECORD = asdict(make())


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        pytest.param(None, "No such file", id="missing"),
        pytest.param("", "invalid JSON", id="empty"),
        pytest.param(json.dumps(RECORD)[:-20], "invalid JSON", id="cut off"),
        pytest.param("[]", "not a record of schema 1", id="a list"),
        pytest.param("null", "not a record of schema 1", id="null"),
        pytest.param(json.dumps({**RECORD, "schema": 2}), "not a record of schema 1", id="later schema"),
        pytest.param(json.dumps({**RECORD, "schema": None}), "not a record of schema 1", id="no schema"),
        pytest.param(json.dumps({"schema": 1}), "damaged: ", id="nothing else"),
        pytest.param(json.dumps({**RECORD, "status": "great"}), "damaged: 'great'", id="unknown status"),
        pytest.param(json.dumps({**RECORD, "status": ["success"]}), "damaged: ", id="status a list"),
        pytest.param('{"schema": 1, "schema": 1}', "twice", id="duplicate key"),
        pytest.param(b"\xff", "not UTF-8", id="not UTF-8"),
    ],
)
def test_a_record_that_cannot_be_trusted_is_an_error_that_names_it(
    directory: RunDirectory, content: str | bytes | None, problem: str
) -> None:
    if content is not None:
        directory.record.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(RecordError) as caught:
        read_record(directory.path)
    assert str(directory.record) in str(caught.value)
    assert problem in str(caught.value)


@pytest.mark.parametrize(
    "tampered",
    [
        {"warnings": 5},
        {"warnings": ["text"]},
        {"config": [1]},
        {"error": "text"},
        {"duration": "long"},
        {"outputs": ["a"]},
        {"runs": 3},
        {"cells": None},
        {"flow": 5},
        {"instance": None},
    ],
    ids=str,
)
def test_a_record_with_a_value_of_a_wrong_type_is_damaged(directory: RunDirectory, tampered: dict) -> None:
    directory.record.write_text(json.dumps({**RECORD, **tampered}))
    with pytest.raises(RecordError, match="damaged"):
        read_record(directory.path)


# --- the lock, and who died ----------------------------------------------------------------------


def test_a_second_lock_of_the_same_process_is_refused(directory: RunDirectory) -> None:
    with lock(directory.path):
        with pytest.raises(RunBusy, match="another process is executing in"), lock(directory.path):
            pytest.fail("locked twice")
        assert is_locked(directory.path)
    assert not is_locked(directory.path)


def test_a_lock_of_another_thread_is_refused_too(directory: RunDirectory) -> None:
    seen: list[object] = []

    def other() -> None:
        try:
            with lock(directory.path):
                seen.append("locked")
        except RunBusy:
            seen.append("busy")

    with lock(directory.path):
        thread = threading.Thread(target=other)
        thread.start()
        thread.join(30)
    assert seen == ["busy"]


def test_a_lock_is_free_after_an_exception(directory: RunDirectory) -> None:
    with pytest.raises(ZeroDivisionError), lock(directory.path):
        raise ZeroDivisionError
    assert not is_locked(directory.path)


def test_waiting_for_the_lock_ends_when_it_is_free(directory: RunDirectory) -> None:
    started, got = threading.Event(), threading.Event()

    def wait() -> None:
        started.set()
        with lock(directory.path, wait=True):
            got.set()

    with lock(directory.path):
        thread = threading.Thread(target=wait, daemon=True)
        thread.start()
        assert started.wait(30)
        assert not got.is_set()
    assert got.wait(30)
    thread.join(30)
    assert not is_locked(directory.path)


def test_looking_for_a_lock_leaves_no_file(directory: RunDirectory) -> None:
    assert not is_locked(directory.path)
    assert os.listdir(directory.path) == []


def test_somebody_who_only_looks_does_not_make_a_starting_run_busy(
    directory: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_record(directory.path, make(status="running"))
    with lock(directory.path):
        pass  # the lock's file is there, as after a run that died
    looking = threading.Event()
    real = filelock.FileLock.release

    def slow_release(self: filelock.FileLock, *args: object, **options: object) -> None:
        if threading.current_thread() is looker:
            looking.set()
            threading.Event().wait(0.1)  # nobody sets it: a look that takes its time
        real(self, *args, **options)

    def look() -> None:
        read_record(directory.path)
        looking.set()  # it may have looked without a lock

    monkeypatch.setattr(filelock.FileLock, "release", slow_release)
    looker = threading.Thread(target=look, daemon=True)
    looker.start()
    assert looking.wait(30)
    try:
        with lock(directory.path):
            pass
    finally:
        looker.join(30)


def test_a_running_record_with_its_lock_held_is_running(directory: RunDirectory) -> None:
    write_record(directory.path, make(status="running"))
    with lock(directory.path):
        assert read_record(directory.path).light is Status.RUNNING


@pytest.mark.parametrize("was_locked", [True, False])
def test_a_running_record_without_a_lock_is_interrupted(directory: RunDirectory, was_locked: bool) -> None:
    write_record(directory.path, make(status="running"))
    if was_locked:
        with lock(directory.path):
            pass
    before = directory.record.read_bytes()
    found = read_record(directory.path)
    assert found.light is Status.INTERRUPTED
    assert found.error == {
        "type": "Interrupted",
        "message": "the process died or was stopped during the run",
    }
    assert directory.record.read_bytes() == before


def test_a_digest_tells_contents_apart_and_names_its_kind(tmp_path: Path) -> None:
    for name, data in {"a": b"x" * (3 << 20), "b": b"x" * (3 << 20), "c": b"x" * (3 << 20) + b"y"}.items():
        (tmp_path / name).write_bytes(data)
    one, same, other = (digest(tmp_path / name) for name in "abc")
    assert one == same != other
    assert one.startswith("blake2b:")
    assert len(one) == len("blake2b:") + 40


# --- all runs ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("runs", "light"),
    [
        pytest.param(None, "error", id="no directory"),
        pytest.param({}, "error", id="no run"),
        pytest.param({"a": "success"}, "success", id="green"),
        pytest.param({"a": "success", "b": "warning"}, "warning", id="orange"),
        pytest.param({"a": "warning", "b": "error"}, "error", id="red"),
        pytest.param({"a": "interrupted"}, "error", id="died"),
        pytest.param({"a": "running"}, "error", id="running without a lock"),
        pytest.param({"a": "success", "b": "damaged"}, "error", id="one damaged"),
        pytest.param({"a": "success", "deep/er/b": "error"}, "error", id="deep below"),
        pytest.param({".": "success"}, "success", id="the directory itself"),
        pytest.param({"all": "build success", "all/runs/x": "success"}, "success", id="build and its flow"),
        pytest.param({"all": "build warning", "all/runs/x": "error"}, "warning", id="build caught a failure"),
        pytest.param({"all": "build error", "all/runs/x": "success"}, "error", id="build failed"),
        pytest.param({"all": "build success", "allx": "error"}, "error", id="beside a build"),
        pytest.param({"a": "success", "a/runs/x": "error"}, "error", id="below a flow"),
    ],
)
def test_a_directory_is_red_unless_its_records_prove_otherwise(
    tmp_path: Path, runs: dict[str, str] | None, light: str
) -> None:
    root = tmp_path / "runs"
    if runs is not None:
        root.mkdir()
    for name, stated in (runs or {}).items():
        kind, _, status = stated.rpartition(" ")
        if status == "damaged":
            (root / name).mkdir(parents=True)
            (root / name / "run.json").write_text("{")
        else:
            run(root / name, kind=kind or "flow", status=status)
    assert analyze_execution_logs(root) == light
    assert analyze_execution_logs(str(root)) == light


def test_a_run_that_still_goes_on_is_no_proof(tmp_path: Path) -> None:
    run(tmp_path / "a", status="running")
    with lock(tmp_path / "a"):
        assert analyze_execution_logs(tmp_path) == "error"


def test_printed_words_do_not_count(tmp_path: Path) -> None:
    run(tmp_path / "a")
    (tmp_path / "a/fit_execution_output.txt").write_text("ERROR: x\nTraceback\n⚠️ Warning\n")
    assert analyze_execution_logs(tmp_path) == "success"


def test_a_file_in_place_of_the_directory_is_red(tmp_path: Path) -> None:
    (tmp_path / "runs").touch()
    assert analyze_execution_logs(tmp_path / "runs") == "error"


def test_runs_come_sorted_and_a_damaged_one_as_its_error(tmp_path: Path) -> None:
    for name in ("s/b", "s/a", "r/z"):
        run(tmp_path / name)
    (tmp_path / "s/a/run.json").write_text("{")
    found = list(module.runs_below(tmp_path))
    assert [path.relative_to(tmp_path).as_posix() for path, _ in found] == ["r/z", "s/a", "s/b"]
    assert [type(record) for _, record in found] == [Record, RecordError, Record]


def test_the_time_is_utc_in_iso_format() -> None:
    from datetime import datetime, timedelta

    assert datetime.fromisoformat(module.now()).utcoffset() == timedelta(0)
