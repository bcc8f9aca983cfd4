import json
from pathlib import Path
from typing import Any

import pytest

from pytest_ductaflow import leftovers
from pytest_ductaflow.errors import RecordError
from pytest_ductaflow.frame import load_runs
from pytest_ductaflow.leftovers import Leftovers
from pytest_ductaflow.record import Record, write_record

FLOW = '# %% tags=["parameters"]\nconfig = {}\n'


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ("flows", "instances", "runs"):
        (tmp_path / name).mkdir()
    (tmp_path / "flows/fit.py").write_text(FLOW)
    return tmp_path


def instances(root: Path, file: str = "fit", /, **keys: Any) -> Path:
    path = root / f"instances/{file}.json"
    path.write_text(json.dumps({"flow": "flows/fit.py", **keys}))
    return path


def run(root: Path, directory: str, node_id: str | None = None) -> Path:
    path = root / directory
    path.mkdir(parents=True)
    write_record(path, Record("flow", "flows/fit.py", path.name, "success", "t", node_id=node_id))
    return path


def found(root: Path, *patterns: str) -> dict[str, str]:
    project = Leftovers(root, patterns or ["instances/*.json"])
    return {name: leftover.why for name, leftover in project.found.items()}


def test_a_scenario_that_is_gone_leaves_one(root: Path) -> None:
    instances(root, scenarios={"k": [1, 2]})
    for k in (1, 2, 3):
        run(root, f"runs/fit/fit-{k}", f"instances/fit.json::fit-{k}")
    assert found(root) == {"runs/fit/fit-3": "instances/fit.json has no fit-3"}


def test_a_file_that_is_gone_leaves_all_of_its_runs(root: Path) -> None:
    instances(root)
    run(root, "runs/fit/fit", "instances/fit.json::fit")
    run(root, "runs/old/a", "instances/old.json::a")
    assert found(root) == {"runs/old/a": "there is no instances/old.json"}


def test_another_step_leaves_the_old_directory(root: Path) -> None:
    instances(root, step="new")
    run(root, "runs/fit/fit", "instances/fit.json::fit")
    run(root, "runs/new/fit", "instances/fit.json::fit")
    assert found(root) == {"runs/fit/fit": "fit of instances/fit.json has another run directory now"}


def test_an_instance_file_that_moved_leaves_none_for_the_directory_is_an_instance_s(root: Path) -> None:
    instances(root, "moved", name="fit")
    run(root, "runs/fit/fit", "instances/fit.json::fit")
    assert found(root) == {}


def test_another_case_is_another_name(root: Path) -> None:
    instances(root, scenarios={"k": ["a"]})
    run(root, "runs/fit/Fit-a", "instances/Fit.json::Fit-a")
    run(root, "runs/fit/fit-a", "instances/fit.json::fit-a")
    assert list(found(root)) == ["runs/fit/Fit-a"]


def test_where_both_names_are_one_directory_it_is_none(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    instances(root, scenarios={"k": ["a"]})
    run(root, "runs/fit/Fit-a", "instances/fit.json::Fit-a")
    monkeypatch.setattr(leftovers.os.path, "samefile", lambda one, other: True)
    assert found(root) == {}


def test_runs_by_hand_are_none(root: Path) -> None:
    instances(root)
    run(root, "runs/fit/by_hand")
    run(root, "runs/by_hand")
    assert found(root) == {}


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"node_id": 3}', '{"node_id": "x"}', "[" * 100_000])
def test_a_directory_whose_record_names_no_instance_is_none(root: Path, content: str) -> None:
    instances(root)
    (run(root, "runs/fit/a") / "run.json").write_text(content)
    (root / "runs/fit/without").mkdir()
    (root / "runs/file").touch()
    assert found(root) == {}


def test_links_are_no_run_directories(root: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    instances(root)
    other = tmp_path_factory.mktemp("other")
    run(other, "fit/a", "instances/fit.json::a")
    (root / "runs/fit").mkdir()
    (root / "runs/fit/a").symlink_to(other / "fit/a")
    (root / "runs/linked").symlink_to(other / "fit")
    assert found(root) == {}


ROWS = [{"k": "a"}, {"k": "b"}]


@pytest.mark.parametrize(
    ("keys", "names"),
    [
        ({"scenarios": ROWS, "active": ["a"]}, ["fit-a", "fit-b"]),
        ({"scenarios": {"k": [1, 2], "l": [3, 4]}, "active": ["k"]}, ["fit-1", "fit-1-3", "fit-4"]),
        ({"scenarios": {"k": [1], "l": [3]}, "active": ["k"], "name": "{k}"}, ["1"]),
        (
            {"scenarios": {"k": [1], "l": [3]}, "active": ["k"], "name": "x{l}", "config": {"l": 0}},
            ["x0", "x3"],
        ),
        ({"scenarios": [*ROWS, {"k": "/", "label": "."}], "active": ["a"]}, ["fit-b"]),
    ],
)
def test_what_is_not_active_is_no_leftover(root: Path, keys: dict[str, Any], names: list[str]) -> None:
    instances(root, **keys)
    for name in [*names, "fit-9", "fit-1-9"]:
        run(root, f"runs/fit/{name}", f"instances/fit.json::{name}")
    assert sorted(found(root)) == ["runs/fit/fit-1-9", "runs/fit/fit-9"]


def test_of_too_many_that_are_not_active_nobody_knows(root: Path) -> None:
    instances(root, scenarios={f"d{index}": [0, 1, 2, 3] for index in range(12)}, active=["d0"])
    instances(root, "other")
    run(root, "runs/fit/fit-9", "instances/fit.json::fit-9")
    run(root, "runs/fit/other-9", "instances/other.json::other-9")
    assert list(found(root)) == ["runs/fit/other-9"]


@pytest.mark.parametrize("keys", [{"flow": "flows/none.py"}, {"secnarios": {}}, {"scenarios": {"k": []}}])
def test_while_a_file_is_in_error_nobody_knows(root: Path, keys: dict[str, Any]) -> None:
    instances(root)
    run(root, "runs/fit/gone", "instances/fit.json::gone")
    assert list(found(root)) == ["runs/fit/gone"]
    instances(root, "bad", **keys)
    project = Leftovers(root, ["instances/*.json"])
    assert project.found == {}
    assert project.problem is not None
    assert project.problem.startswith("instances/bad.json:1: ")


def test_without_any_instance_file_nobody_knows(root: Path) -> None:
    run(root, "runs/fit/gone", "instances/fit.json::gone")
    project = Leftovers(root, ["instances/*.json", "more/*.json"])
    assert project.found == {}
    assert project.problem == (
        f"no file matches instances/*.json, more/*.json (ini ductaflow_instances) below {root}"
    )


def test_a_file_that_only_the_command_line_named_counts_as_long_as_it_is_there(root: Path) -> None:
    instances(root)
    scratch = root / "scratch.json"
    scratch.write_text('{"flow": "flows/fit.py"}')
    run(root, "runs/fit/scratch", "scratch.json::scratch")
    run(root, "runs/fit/scratch-1", "scratch.json::scratch-1")
    assert found(root) == {"runs/fit/scratch-1": "scratch.json has no scratch-1"}
    scratch.write_text("{")
    assert found(root) == {}
    scratch.unlink()
    assert list(found(root)) == ["runs/fit/scratch", "runs/fit/scratch-1"]


# --- in the data frame ---------------------------------------------------------------------------


def current_of(root: Path, runs_dir: str = "runs", **options: Any) -> dict[str, Any]:
    frame = load_runs(root / runs_dir, **options)
    names = [Path(name).relative_to(root).as_posix() for name in frame["directory"]]
    return dict(zip(names, frame["current"], strict=True))


def test_the_frame_says_what_is_current(root: Path) -> None:
    instances(root)
    leftovers.remember(root, ["instances/*.json"])
    for name in ("fit", "gone"):
        run(root, f"runs/fit/{name}", f"instances/fit.json::{name}")
        run(root, f"runs/fit/{name}/runs/inner")
    run(root, "runs/fit/by_hand")
    expected = {
        "runs/fit/by_hand": True,
        "runs/fit/fit": True,
        "runs/fit/fit/runs/inner": True,
        "runs/fit/gone": False,
        "runs/fit/gone/runs/inner": False,
    }
    assert current_of(root) == expected
    assert current_of(root, "runs/fit") == expected
    assert load_runs(root / "runs")["current"].dtype == bool
    assert current_of(root, "runs/fit/gone/runs") == {"runs/fit/gone/runs/inner": False}
    wanted = {name: True for name, current in expected.items() if current}
    assert current_of(root, current=True) == wanted
    assert current_of(root, "runs/fit/gone", current=True) == {}


@pytest.mark.parametrize("why", ["no session", "in error"])
def test_where_nobody_knows_the_frame_says_none(root: Path, why: str) -> None:
    run(root, "runs/fit/fit", "instances/fit.json::fit")
    run(root, "runs/fit/fit/runs/inner")
    run(root, "runs/fit/by_hand")
    if why == "in error":
        leftovers.remember(root, ["instances/*.json"])
        instances(root).write_text("{")
    assert current_of(root) == {
        "runs/fit/by_hand": True,
        "runs/fit/fit": None,
        "runs/fit/fit/runs/inner": None,
    }
    message = "no pytest session has run there" if why == "no session" else "instances/fit.json:1: "
    with pytest.raises(RecordError, match=message):
        load_runs(root / "runs", current=True)


def test_a_copy_of_the_runs_elsewhere_is_of_no_project(root: Path, tmp_path_factory: Any) -> None:
    leftovers.remember(root, ["instances/*.json"])
    run(root, "runs/fit/fit", "instances/fit.json::fit")
    copy = tmp_path_factory.mktemp("elsewhere") / "copy"
    (root / "runs").rename(copy)
    assert load_runs(copy)["current"].tolist() == [None]


def test_patterns_are_kept_once(root: Path) -> None:
    file = root / "runs/.project.json"
    leftovers.remember(root, ["a/*.json", "b/*.json"])
    assert json.loads(file.read_text()) == {"ductaflow_instances": ["a/*.json", "b/*.json"]}
    before = file.stat()
    leftovers.remember(root, ["a/*.json", "b/*.json"])
    assert file.stat().st_ino == before.st_ino
    leftovers.remember(root, ["c/*.json"])
    assert json.loads(file.read_text()) == {"ductaflow_instances": ["c/*.json"]}
    assert [path.name for path in (root / "runs").iterdir()] == [".project.json"]


@pytest.mark.parametrize(
    "content", ["{", "[]", "{}", '{"ductaflow_instances": 3}', '{"ductaflow_instances": [1]}']
)
def test_damaged_patterns_are_none(root: Path, content: str) -> None:
    (root / "runs/.project.json").write_text(content)
    assert leftovers.of_runs(root / "runs") is None
