from pathlib import Path
from typing import Any

import pytest

from pytest_ductaflow.record import Record, write_record
from pytest_ductaflow.report import failure

FLOW = """\
# %% tags=["parameters"]
config = {}

# %% First

x = 1
y = 2

raise ValueError(
    "bad"
)


# %% Second
z = 3
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "flows").mkdir()
    (tmp_path / "flows/fit.py").write_text(FLOW)
    (tmp_path / "helper.py").write_text("\n".join(f"line_{n}" for n in range(1, 31)))
    return tmp_path


def make(**values: Any) -> Record:
    needed = {"kind": "flow", "flow": "flows/fit.py", "instance": "a", "status": "error", "started": "t"}
    return Record(**{**needed, **values})


def place(file: str, line: int | None, function: str = "<module>") -> dict[str, Any]:
    return {"file": file, "line": line, "function": function}


# --- frames --------------------------------------------------------------------------------------


def test_the_failing_cell_is_shown_with_the_line_marked(root: Path) -> None:
    (frame,) = failure.frames({"frames": [place("flows/fit.py", 9)]}, root)
    assert (frame.file, frame.line, frame.function) == ("flows/fit.py", 9, "<module>")
    assert frame.source == (
        "    x = 1",
        "    y = 2",
        "    ",
        ">   raise ValueError(",
        '        "bad"',
        "    )",
    )


def test_without_frames_the_error_s_own_place_is_shown(root: Path) -> None:
    (frame,) = failure.frames({"file": "flows/fit.py", "line": 2}, root)
    assert frame.source == (">   config = {}",)
    assert frame.function == "<module>"


@pytest.mark.parametrize(
    "error",
    [{}, {"file": "flows/fit.py"}, {"frames": [place("flows/fit.py", None)]}, {"frames": []}],
    ids=["nothing", "no line", "a frame without a line", "no frames"],
)
def test_an_error_without_a_place_has_no_frames(root: Path, error: dict) -> None:
    assert failure.frames(error, root) == []


def test_frames_go_from_the_cell_to_the_raiser_without_libraries(root: Path) -> None:
    places = [
        place("flows/fit.py", 6),
        place("/usr/lib/python3/json/__init__.py", 3, "loads"),
        place(".venv/lib/site-packages/pandas/core.py", 3, "read"),
        place("<string>", 1, "exec"),
        place("helper.py", 15, "help"),
    ]
    found = failure.frames({"frames": places}, root)
    assert [(frame.file, frame.line, frame.function) for frame in found] == [
        ("flows/fit.py", 6, "<module>"),
        ("helper.py", 15, "help"),
    ]


def test_of_a_module_only_the_lines_around_are_shown(root: Path) -> None:
    _, frame = failure.frames({"frames": [place("flows/fit.py", 6), place("helper.py", 15)]}, root)
    assert frame.source == (
        *(f"    line_{n}" for n in range(10, 15)),
        ">   line_15",
        *(f"    line_{n}" for n in range(16, 19)),
    )


def test_a_long_cell_is_cut_above_its_failing_line(root: Path) -> None:
    (root / "flows/long.py").write_text("# %%\n" + "\n".join(f"x{n} = {n}" for n in range(2, 60)))
    (frame,) = failure.frames({"frames": [place("flows/long.py", 50)]}, root)
    assert frame.source[0] == "    x25 = 25"
    assert frame.source[-4] == ">   x50 = 50"
    assert len(frame.source) == 29


@pytest.mark.parametrize(
    ("file", "line"),
    [("flows/gone.py", 3), ("flows/fit.py", 99), ("flows", 1)],
    ids=["gone", "shorter now", "directory"],
)
def test_a_place_that_is_not_there_any_more_has_no_source(root: Path, file: str, line: int) -> None:
    (frame,) = failure.frames({"frames": [place(file, line)]}, root)
    assert (frame.line, frame.source) == (line, ())


# --- the error -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "lines"),
    [
        pytest.param({"type": "ValueError", "message": "bad"}, ["E   ValueError: bad"], id="one line"),
        pytest.param(
            {"type": "E", "message": "one\ntwo\n  three"},
            ["E   E: one", "E     two", "E       three"],
            id="all lines of the message",
        ),
        pytest.param({"type": "KeyboardInterrupt"}, ["E   KeyboardInterrupt"], id="no message"),
        pytest.param({}, ["E   Error"], id="nothing"),
        pytest.param(
            {"type": "E", "message": "m", "frames": [place("flows/fit.py", 1), place("/usr/lib/json.py", 7)]},
            ["E   E: m", "(raised in /usr/lib/json.py:7)"],
            id="raised in a library",
        ),
        pytest.param(
            {"type": "E", "message": "m", "frames": [place("/usr/lib/json.py", 7), place("helper.py", 1)]},
            ["E   E: m"],
            id="raised in the project",
        ),
        pytest.param(
            {"type": "KeyError", "message": "no such column:"},
            ["E   KeyError: no such column:"],
            id="a colon at the end",
        ),
    ],
)
def test_the_error_is_shown_as_pytest_shows_it(error: dict, lines: list[str]) -> None:
    assert failure.error_lines(error) == lines


HEAD = "Traceback (most recent call last):\n  …\n"


@pytest.mark.parametrize(
    ("traceback", "chained"),
    [
        (HEAD + "ValueError: bad", False),
        (
            HEAD
            + "KeyError: 1\n\nDuring handling of the above exception, another:\n\n"
            + HEAD
            + "ValueError",
            True,
        ),
        ("  + Exception Group " + HEAD + "  | ExceptionGroup: two (2 sub-exceptions)", True),
        ("", False),
    ],
    ids=["plain", "context", "group", "none"],
)
def test_a_chained_error_is_told_by_its_traceback(traceback: str, chained: bool) -> None:
    assert failure.is_chained({"traceback": traceback}) is chained


# --- sections ------------------------------------------------------------------------------------


def test_below_stand_config_directory_and_the_two_commands(root: Path) -> None:
    record = make(
        node_id="instances/a b.json::a",
        config={"year": 2013, "db": {"password": "hunter2"}, "_project_root": "/p"},
        error={"type": "E", "message": "m", "traceback": HEAD},
    )
    assert failure.sections(record, root / "runs/fit/a b", root) == [
        ("config", '{\n  "year": 2013,\n  "db": {\n    "password": "***"\n  }\n}'),
        ("run directory", "runs/fit/a b"),
        (
            "reproduce",
            "re-run: pytest 'instances/a b.json::a'\nopen:   jupyter lab 'runs/fit/a b/fit.ipynb'",
        ),
    ]


def test_without_a_node_id_there_is_nothing_to_run_again_by_pytest(root: Path) -> None:
    assert failure.sections(make(), root / "runs/fit/a", root)[-1] == (
        "reproduce",
        "open:   jupyter lab runs/fit/a/fit.ipynb",
    )


def test_a_directory_outside_the_root_is_shown_whole(
    root: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    outside = tmp_path_factory.mktemp("outside")
    assert ("run directory", outside.as_posix()) in failure.sections(make(), outside, root)


@pytest.mark.parametrize(
    ("traceback", "whole", "shown"),
    [
        pytest.param(HEAD + "E: m", False, False, id="the frames say it all"),
        pytest.param(HEAD * 2, False, True, id="chained"),
        pytest.param(HEAD + "E: m", True, True, id="asked for"),
        pytest.param("", True, False, id="there is none"),
    ],
)
def test_the_whole_traceback_is_shown_when_frames_do_not_say_it_all(
    root: Path, traceback: str, whole: bool, shown: bool
) -> None:
    record = make(error={"type": "E", "message": "m", "traceback": traceback})
    found = dict(failure.sections(record, root / "runs/fit/a", root, whole_traceback=whole))
    assert ("traceback" in found) is shown
    assert not shown or found["traceback"] == traceback.rstrip()


def test_of_a_build_the_flow_that_failed_is_shown(root: Path) -> None:
    build, inner = root / "runs/all/x", root / "runs/all/x/runs/inner"
    inner.mkdir(parents=True)
    write_record(inner, make(flow="flows/plot.py", config={"inner": 1}))
    error = {"type": "E", "message": "m", "run": str(inner), "via": [place("builds/all.py", 12)]}
    record = make(kind="build", flow="builds/all.py", config={"outer": 1}, error=error, node_id="i.json::x")
    assert failure.sections(record, build, root) == [
        ("raised through", "builds/all.py:12, in run runs/all/x"),
        ("config", '{\n  "inner": 1\n}'),
        ("run directory", "runs/all/x/runs/inner"),
        ("reproduce", "re-run: pytest i.json::x\nopen:   jupyter lab runs/all/x/runs/inner/plot.ipynb"),
    ]


def test_if_the_flow_s_record_is_gone_the_build_s_is_shown(root: Path) -> None:
    record = make(flow="builds/all.py", config={"outer": 1}, error={"type": "E", "run": str(root / "gone")})
    found = dict(failure.sections(record, root / "runs/all/x", root))
    assert (found["config"], found["run directory"]) == ('{\n  "outer": 1\n}', "runs/all/x")


def test_a_record_without_an_error_still_has_its_sections(root: Path) -> None:
    titles = [title for title, _ in failure.sections(make(error=None), root / "runs/fit/a", root)]
    assert titles == ["config", "run directory", "reproduce"]
