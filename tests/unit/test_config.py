import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_ductaflow import config as module
from pytest_ductaflow import strict_json
from pytest_ductaflow.config import (
    PATH_KEYS,
    display_config_summary,
    generate_config_markdown,
    is_notebook_execution,
    unpack_config,
)

# --- unpack_config -------------------------------------------------------------------------------


def test_nested_objects_are_flattened_by_one_level_and_stay() -> None:
    config = {"year": 2013, "database": {"host": "h", "auth": {"user": "u"}}, "empty": {}, "list": [1]}
    assert unpack_config(config) == {
        "year": 2013,
        "database": {"host": "h", "auth": {"user": "u"}},
        "host": "h",
        "auth": {"user": "u"},
        "empty": {},
        "list": [1],
    }


def test_values_under_path_keys_become_paths(capsys: pytest.CaptureFixture[str]) -> None:
    config = {**dict.fromkeys(PATH_KEYS, "a/b"), "deep": {"output_dir": "c"}, "other_dir": "d"}
    found = unpack_config(config)
    assert {found[key] for key in PATH_KEYS if key != "output_dir"} == {Path("a/b")}
    assert found["output_dir"] == Path("c")
    assert found["other_dir"] == "d"
    assert config["data_dir"] == "a/b"
    assert "Converted data_dir to Path object" in capsys.readouterr().out


@pytest.mark.parametrize("value", [None, 3, ["a"], {"a": 1}], ids=repr)
def test_a_path_key_without_a_text_stays_as_it_is(value: object) -> None:
    assert unpack_config({"data_dir": value})["data_dir"] == value


def test_everything_found_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    unpack_config({"year": 2013, "db": {"host": "h"}})
    assert capsys.readouterr().out.splitlines() == [
        "📋 Unpacking config variables:",
        "📋 year = 2013",
        "📋 db = {1 items}",
        "📋   host = h",
        "✅ Unpacked 3 config variables",
    ]


def test_secrets_are_not_printed_but_unpacked(capsys: pytest.CaptureFixture[str]) -> None:
    config = {"api_token": "hunter2", "db": {"password": "hunter2", "auth": {"secret": "hunter2"}}}
    found = unpack_config(config, "My flow")
    assert "hunter2" not in capsys.readouterr().out
    assert (found["api_token"], found["password"]) == ("hunter2", "hunter2")


def test_secrets_below_a_secret_key_are_not_printed(capsys: pytest.CaptureFixture[str]) -> None:
    unpack_config({"secrets": {"db": "hunter2"}})
    assert "hunter2" not in capsys.readouterr().out


@pytest.mark.parametrize("config", [None, {}])
def test_no_config_is_a_warning_line_and_gives_nothing(
    config: dict | None, capsys: pytest.CaptureFixture[str]
) -> None:
    from pytest_ductaflow.status import is_warning

    assert unpack_config(config) == {}
    (line,) = capsys.readouterr().out.splitlines()
    assert is_warning(line)


def test_a_config_as_such_prints_no_warning_line(capsys: pytest.CaptureFixture[str]) -> None:
    from pytest_ductaflow.status import is_warning

    unpack_config({"a": 1, "b": {"data_dir": "c"}}, "My flow")
    assert not any(map(is_warning, capsys.readouterr().out.splitlines()))


def test_the_caller_s_variables_are_updated() -> None:
    names = {"config": 1, "year": 0}
    found = unpack_config({"year": 2013, "m": {"x": 1}}, None, names)
    assert names == {"config": 1, "year": 2013, "m": {"x": 1}, "x": 1} == {"config": 1, **found}


# --- Markdown ------------------------------------------------------------------------------------


def cells(line: str) -> list[str]:
    """The cells of a table's row, as Markdown splits it."""
    return [
        cell.strip() for cell in line.replace("\\\\", "\0").replace("\\|", "\1").strip().strip("|").split("|")
    ]


def test_plain_values_then_a_table_for_each_object() -> None:
    text = generate_config_markdown({"year": 2013, "data_base": {"host": "h"}, "on": True, "e": {}}, "Delays")
    assert text.splitlines() == [
        "## Configuration for Delays",
        "",
        "| Parameter | Value |",
        "|-----------|-------|",
        "| year | 2013 |",
        "| on | ✓ |",
        "| e | {} |",
        "",
        "### Data Base",
        "",
        "| Parameter | Value |",
        "|-----------|-------|",
        "| host | h |",
    ]


@pytest.mark.parametrize("config", [None, {}])
def test_no_config_says_so(config: dict | None) -> None:
    assert generate_config_markdown(config) == "**No configuration provided**\n"  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (True, "✓"),
        (False, "✗"),
        (None, "*None*"),
        ([1, "a", None], "1, a, None"),
        ("a|b", "a\\|b"),
        ("a\\|b", "a\\\\\\|b"),
        ("two\nlines", "two lines"),
        ("<script>alert(1)</script>", "&lt;script>alert(1)&lt;/script>"),
        ("x" * 300, "x" * 197 + "..."),
        (1.5, "1.5"),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_a_value_is_shown_in_its_cell(value: object, shown: str) -> None:
    assert f"| k | {shown} |" in generate_config_markdown({"k": value}).splitlines()
    assert f"| k | {shown} |" in generate_config_markdown({"o": {"k": value}}).splitlines()


@given(st.dictionaries(st.text(min_size=1), st.text(), min_size=1))
def test_each_row_has_two_cells_whatever_is_in_it(config: dict[str, str]) -> None:
    config = {key.replace("\r", "").strip() or "k": value.replace("\r", "") for key, value in config.items()}
    rows = generate_config_markdown(config).rstrip("\n").split("\n")[4:]
    assert [len(cells(row)) for row in rows] == [2] * len(config)


def test_a_carriage_return_does_not_leave_the_cell() -> None:
    assert "\r" not in generate_config_markdown({"k": "a\r# Title"})


@pytest.mark.parametrize(
    ("config", "name"),
    [
        pytest.param({"<script>x</script>": {"a": 1}}, None, id="key of an object"),
        pytest.param({"a\n<b>": {"a": 1}}, None, id="key with a line end"),
        pytest.param({"a": 1}, "<script>x</script>", id="name of the flow"),
    ],
)
def test_no_html_gets_into_a_heading(config: dict, name: str | None) -> None:
    assert "<" not in generate_config_markdown(config, name)


def test_secrets_are_hidden_in_markdown() -> None:
    text = generate_config_markdown({"token": "hunter2", "db": {"password": "hunter2"}})
    assert "hunter2" not in text
    assert text.count("***") == 2


# --- where the code runs -------------------------------------------------------------------------


def ipython(monkeypatch: pytest.MonkeyPatch, shell: object) -> None:
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))  # type: ignore[arg-type]


def test_in_tests_nothing_runs_in_a_notebook() -> None:
    assert is_notebook_execution() is False


def test_without_ipython_there_is_no_notebook_and_it_is_not_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "IPython", raising=False)
    assert is_notebook_execution() is False
    assert "IPython" not in sys.modules


@pytest.mark.parametrize(("shell", "expected"), [(object(), True), (None, False)], ids=["shell", "no shell"])
def test_a_shell_makes_a_notebook(monkeypatch: pytest.MonkeyPatch, shell: object, expected: bool) -> None:
    ipython(monkeypatch, shell)
    assert is_notebook_execution() is expected


def test_a_script_shows_no_summary(capsys: pytest.CaptureFixture[str]) -> None:
    assert display_config_summary({"a": 1}, "Delays") is None
    assert capsys.readouterr().out == ""


def test_a_notebook_shows_the_summary_as_markdown(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[object] = []
    ipython(monkeypatch, object())
    display = SimpleNamespace(Markdown=lambda text: ("markdown", text), display=shown.append)
    monkeypatch.setitem(sys.modules, "IPython.display", display)  # type: ignore[arg-type]
    unpack_config({"a": 1}, "Delays")
    assert shown == [("markdown", generate_config_markdown({"a": 1}, "Delays"))]


# --- finding the file ----------------------------------------------------------------------------


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("config/flows", "flows", "elsewhere"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "config/flows/fit.json").write_text('{"year": 1}')
    (tmp_path / "elsewhere/given.json").write_text('{"year": 2}')
    monkeypatch.chdir(tmp_path / "elsewhere")
    return tmp_path


@pytest.mark.parametrize(
    ("given_name", "year"),
    [pytest.param(None, 1, id="default from the project root"), pytest.param("given.json", 2, id="--config")],
)
def test_a_config_is_found(project: Path, given_name: str | None, year: int) -> None:
    assert module._load(given_name, "config/flows/fit.json", project / "flows/fit.py") == {"year": year}


def test_the_working_directory_goes_before_the_project_root(project: Path) -> None:
    (project / "elsewhere/config/flows").mkdir(parents=True)
    (project / "elsewhere/config/flows/fit.json").write_text('{"year": 3}')
    assert module._load(None, "config/flows/fit.json", project / "flows/fit.py") == {"year": 3}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        pytest.param("none.json", None, "none.json: No such file", id="missing"),
        pytest.param("list.json", "[]", "list.json: a config is a JSON object", id="a list"),
        pytest.param(
            "bad.json", '{"a": 1,\n"a": 2}', "bad.json:2: a: this key stands twice", id="duplicate key"
        ),
    ],
)
def test_a_bad_config_is_named_with_its_line(
    project: Path, name: str, content: str | None, message: str
) -> None:
    if content is not None:
        (project / "elsewhere" / name).write_text(content)
    with pytest.raises(strict_json.ConfigError) as caught:
        module._load(name, "config/flows/fit.json", project / "flows/fit.py")
    assert message in str(caught.value)


@pytest.mark.parametrize("key", ["_project_root", "_no_execute"])
def test_an_inner_key_never_replaces_what_steers_the_run(key: str) -> None:
    found = unpack_config({key: "mine", "db": {key: "other", "host": "h"}})
    assert (str(found[key]), found["host"]) == ("mine", "h")
    assert key not in unpack_config({"db": {key: "other"}})
