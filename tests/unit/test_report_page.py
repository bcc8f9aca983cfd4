"""The status page as a file: its data, what it admits, whose light is which."""

import html.parser
import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

from pytest_ductaflow import generate_status_report
from pytest_ductaflow.record import Record, lock, write_record
from pytest_ductaflow.report import rows
from pytest_ductaflow.report.page import is_current, read_back, render
from pytest_ductaflow.report.rows import Place
from pytest_ductaflow.report.sweep import Sweep

HOSTILE = "<script>alert('x')</script>\"'><img src=x onerror=alert(1)>&amp;{{191*193}}{% raw %}<!--]]>"
SEPARATOR = "\u2028\u2029\x00\x7f"


def run(directory: Path, **values: Any) -> Path:
    needed = {
        "kind": "flow",
        "flow": "flows/fit.py",
        "instance": directory.name,
        "status": "success",
        "started": "t",
    }
    directory.mkdir(parents=True, exist_ok=True)
    write_record(directory, Record(**{**needed, **values}))
    return directory


class Page(html.parser.HTMLParser):
    """What a browser makes of the page: its elements, and the data in it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.html = text
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.contents: dict[int, str] = {}
        self.feed(text)
        self.close()
        (data,) = (
            index for index, (_, attributes) in enumerate(self.elements) if attributes.get("id") == "data"
        )
        self.data: dict[str, Any] = json.loads(self.contents[data], parse_constant=pytest.fail)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        here = len(self.elements) - 1
        self.contents[here] = self.contents.get(here, "") + data

    @property
    def rows(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.data["rows"]
        return found

    @property
    def row(self) -> dict[str, Any]:
        (found,) = self.rows
        return found

    @property
    def lights(self) -> list[tuple[str, str]]:
        return [(row["light"], row["name"]) for row in self.rows]

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    def meta(self, key: str, name: str) -> str:
        (found,) = (attributes["content"] for attributes in self.named("meta") if attributes.get(key) == name)
        assert found is not None
        return found


def page(root: Path, results: Any = None) -> Page:
    return Page(generate_status_report(results, root))


# --- the file ---


@pytest.mark.parametrize("exists", [True, False])
def test_no_runs_are_no_rows(tmp_path: Path, exists: bool) -> None:
    shown = page(tmp_path if exists else tmp_path / "none")
    assert shown.rows == []
    assert shown.data["session"] is None
    assert not (tmp_path / "none").exists()


def test_the_page_admits_its_own_script_and_style_and_nothing_else(tmp_path: Path) -> None:
    run(tmp_path / "a")
    shown = page(tmp_path)
    policy = dict(
        part.strip().split(" ", 1) for part in shown.meta("http-equiv", "Content-Security-Policy").split(";")
    )
    assert policy.pop("default-src") == policy.pop("base-uri") == policy.pop("form-action") == "'none'"
    assert re.fullmatch(r"'sha256-[\w+/]{43}='", policy.pop("script-src"))
    assert re.fullmatch(r"'sha256-[\w+/]{43}='", policy.pop("style-src"))
    assert policy == {"img-src": "'self' file: data:", "frame-src": "'self' file:"}
    assert [attributes.get("type") for attributes in shown.named("script")] == ["application/json", None]
    loading = {"src", "href", "style", "srcset", "action"}
    assert not [
        found
        for _, attributes in shown.elements
        for found in attributes
        if found in loading or found[:2] == "on"
    ]
    assert "http://" not in shown.html.replace("http://www.w3.org/2000/svg", "")
    assert not re.search(r"@import|url\((?!#)|//#\s*sourceMappingURL", shown.html)


def test_hostile_texts_stay_texts(tmp_path: Path) -> None:
    root = tmp_path / "<title>&project" / "runs"
    text = HOSTILE + SEPARATOR
    error = {"type": text, "message": text, "file": text, "line": 1, "traceback": text}
    run(
        root / "a",
        instance=text,
        flow=f"flows/{HOSTILE.replace('/', '')}.py",
        status="error",
        error=error,
        config={text: {"k": [text]}},
        scenario={text: text},
        warnings=[{"line": 1, "cell": 0, "text": text}],
        measures={text: {"value": text, "unit": text}},
    )
    (root / "a/_cli_execution_output.txt").write_text(HOSTILE)
    (root / "</script>" / "x").mkdir(parents=True)
    run(root / "</script>" / "x")
    shown = page(root)
    empty = page(tmp_path / "none")
    assert [tag for tag, _ in shown.elements] == [tag for tag, _ in empty.elements]
    row = next(row for row in shown.rows if row["path"] == "a")
    assert row["name"] == row["error"]["message"] == row["warnings"][0]["text"] == text
    assert row["scenario"] == {text: text}
    assert row["measures"] == {text: text}
    assert row["output"] == [HOSTILE]
    assert shown.data["project"] == "<title>&project"
    assert "36863" not in shown.html
    assert shown.html.isascii() or not set(SEPARATOR) & set(shown.html)


def test_any_text_and_any_number_can_be_written_to_a_file(tmp_path: Path) -> None:
    root = tmp_path / os.fsdecode(b"caf\xe9") / "runs"
    error = {"type": "ValueError", "message": "bad \udc80"}
    numbers = {
        "nan": float("nan"),
        "list": [float("inf"), {"low": float("-inf")}],
        "big": 2**70,
        "small": 1e-300,
    }
    run(root / "a", status="error", error=error, config=numbers, scenario={"x": float("nan")})
    text = generate_status_report(model_root=root)
    text.encode("utf-8")
    row = Page(text).row  # parsed as a browser does: without NaN
    assert row["error"]["message"] == "bad \udc80"
    assert row["scenario"] == {"x": "NaN"}
    assert Page(text).data["configs"]["flows/fit.py"] == {
        "nan": "NaN",
        "list": ["Infinity", {"low": "-Infinity"}],
        "big": str(2**70),  # a browser would round it
        "small": 1e-300,
    }


def test_results_of_one_name_are_one_row_that_says_all_that_was_stated(tmp_path: Path) -> None:
    root = tmp_path / "runs"
    run(root / "a", status="warning")
    results = [
        {"scenario": "a", "status": "success"},
        {"scenario": "a", "status": "FAILED", "error": "boom"},
        {"scenario": "zz", "status": "failed", "error": "first"},
        {"scenario": "zz", "status": "failed", "error": "second"},
    ]
    page = root / "page.html"
    page.write_text(generate_status_report(results, root), "utf-8")
    shown = {
        row["name"]: (row["light"], row["error"]["message"]) for row in Page(page.read_text("utf-8")).rows
    }
    assert shown == {"a": ("red", "boom"), "zz": ("red", "first\nsecond")}
    before = {row["path"]: row for row in read_back(page)}
    assert not rows.is_current(before["a"], root), "what was stated is no record"


def test_one_and_true_are_two_values(tmp_path: Path) -> None:
    root = tmp_path / "runs"
    run(root / "a", config={"flag": 1})
    run(root / "b", config={"flag": True})
    page = tmp_path / "page.html"
    page.write_text(generate_status_report(model_root=root), "utf-8")
    configs = [row["config"]["flag"] for row in read_back(page)]
    assert json.dumps(configs) == "[1, true]"


def test_secrets_are_hidden(tmp_path: Path) -> None:
    run(tmp_path / "a", config={"db": {"password": "hunter2"}}, scenario={"api_token": "hunter2"})
    run(tmp_path / "b", config={"db": {"password": "hunter3"}})
    shown = page(tmp_path)
    assert "hunter" not in shown.html
    assert shown.data["configs"]["flows/fit.py"] == {"db": {"password": "***"}}
    assert shown.rows[0]["scenario"] == {"api_token": "***"}


# --- what it shows ---


def test_every_run_has_its_light_by_directory(tmp_path: Path) -> None:
    for name, status in {"s/b": "warning", "s/a": "success", "r/z": "error"}.items():
        run(tmp_path / name, status=status)
    assert page(tmp_path).lights == [("red", "z"), ("green", "a"), ("orange", "b")]


def test_flows_are_nested_in_their_builds(tmp_path: Path) -> None:
    run(tmp_path / "all/x", kind="build", status="warning", runs=["runs/two", "runs/one"])
    run(tmp_path / "all/x/runs/one", status="error")
    run(tmp_path / "all/x/runs/two", kind="build", runs=["runs/deep"])
    run(tmp_path / "all/x/runs/two/runs/deep")
    run(tmp_path / "all/xy")
    shown = page(tmp_path)
    assert shown.lights == [("orange", "x"), ("green", "xy")]
    two, one = shown.rows[0]["runs"]
    assert (two["light"], two["path"]) == ("green", "all/x/runs/two")
    assert (one["light"], one["path"]) == ("red", "all/x/runs/one")
    assert [deep["name"] for deep in two["runs"]] == ["deep"]


def test_a_build_that_was_interrupted_shows_the_flows_that_ran(tmp_path: Path) -> None:
    run(tmp_path / "all/x", kind="build", status="running")  # its record was never brought to its end
    run(tmp_path / "all/x/runs/one")
    run(tmp_path / "all/x/runs/two", status="running")
    shown = page(tmp_path)
    assert shown.lights == [("red", "x")]
    assert [(nested["light"], nested["name"]) for nested in shown.row["runs"]] == [
        ("green", "one"),
        ("red", "two"),
    ]
    (tmp_path / "all/x/run.json").write_text("{")  # also where it is damaged
    assert [nested["name"] for nested in page(tmp_path).row["runs"]] == ["one", "two"]


def test_a_nested_run_that_is_gone_is_red_and_its_build_keeps_its_light(tmp_path: Path) -> None:
    run(tmp_path / "x", kind="build", runs=["runs/gone", "../../elsewhere"])
    shown = page(tmp_path)
    assert shown.lights == [("green", "x")]
    assert [nested["light"] for nested in shown.row["runs"]] == ["red", "red"]
    assert "no usable record" in shown.row["runs"][0]["error"]["message"]


def test_a_red_run_says_why(tmp_path: Path) -> None:
    root = tmp_path / "runs"
    (tmp_path / "flows").mkdir()
    lines = ["# %%", "def check(x):", "    raise ValueError(x)", "", "# %%", "check('bad')"]
    (tmp_path / "flows/fit.py").write_text("\n".join(lines))
    error = {
        "type": "ValueError",
        "message": "bad",
        "file": "flows/fit.py",
        "line": 3,
        "traceback": "Traceback: xyz",
    }
    error["frames"] = [
        {"file": "flows/fit.py", "line": 6, "function": "<module>"},
        {"file": "flows/fit.py", "line": 3, "function": "check"},
        {"file": "/usr/lib/library.py", "line": 3, "function": "inner"},
    ]
    run(root / "a", status="error", error=error, ended="2100-01-01T00:00:00+00:00")
    (root / "a/fit_execution_output.txt").write_text("\n".join(f"line {n}" for n in range(30)))
    found = page(root).row
    assert found["error"]["place"] == "flows/fit.py:3"
    assert found["error"]["traceback"] == "Traceback: xyz"
    assert found["error"]["frames"] == [
        {"place": "flows/fit.py:6", "in": "<module>", "source": [">   check('bad')"]},
        {
            "place": "flows/fit.py:3",
            "in": "check",
            "source": ["    def check(x):", ">       raise ValueError(x)"],
        },
    ]
    assert found["output"] == [f"line {n}" for n in range(10, 30)]
    run(root / "a", status="error", error=error, ended="2000-01-01T00:00:00+00:00")
    assert "frames" not in page(root).row["error"], "lines that changed since are not the ones that failed"


def test_warnings_are_counted_also_those_of_a_flood(tmp_path: Path) -> None:
    warnings = [{"line": n, "cell": 0, "text": f"Warning: {n} " + "x" * 1000} for n in range(250)]
    run(tmp_path / "a", status="warning", warnings=warnings, duration=12.345)
    found = page(tmp_path).row
    assert found["warned"] == 250
    assert 0 < len(found["warnings"]) <= 50
    assert found["warnings"][0]["text"].startswith("Warning: 0")
    assert found["warnings"][1]["line"] == 1
    assert found["seconds"] == 12.345


def test_causes_are_grouped_with_the_instances_that_share_them(tmp_path: Path) -> None:
    for number in range(4):
        failed = {
            "type": "ValueError",
            "message": f"negative flow: -{number}",
            "file": "flows/fit.py",
            "line": 3,
            "cell": 2,
        }
        values = {"status": "error", "error": failed} if number else {"status": "warning"}
        warned = [] if number else [{"line": 1, "cell": 0, "text": "Warning: odd"}]
        run(
            tmp_path / f"s/{number}",
            scenario={"toll": "high" if number else "low"},
            warnings=warned,
            **values,
        )
    data = page(tmp_path).data
    (failure,) = data["clusters"]
    assert failure["place"] == "flows/fit.py:3"
    assert (failure["count"], failure["of"], failure["type"]) == (3, 4, "ValueError")
    assert failure["message"] == "negative flow: -3 … -1"
    assert failure["paths"] == ["s/1", "s/2", "s/3"]
    assert "toll = high" in failure["common"][0]
    (warning,) = data["warnings"]
    assert (warning["count"], warning["message"]) == (1, "Warning: odd")
    assert data["dimensions"] == ["toll"]


def test_a_builds_failure_is_that_of_its_flow(tmp_path: Path) -> None:
    inner = {"type": "ValueError", "message": "bad", "file": "flows/fit.py", "line": 3, "cell": 2}
    for name in "ab":
        nested = run(tmp_path / name / "runs/fit", status="error", error=inner)
        error = {**inner, "run": str(nested)}
        run(
            tmp_path / name,
            kind="build",
            flow="builds/all.py",
            status="error",
            error=error,
            runs=["runs/fit"],
        )
    (cluster,) = page(tmp_path).data["clusters"]
    assert (cluster["count"], cluster["place"]) == (2, "flows/fit.py:3")


def test_measures_have_their_unit(tmp_path: Path) -> None:
    run(tmp_path / "a", measures={"delay": {"value": 1.5, "unit": "min"}, "ok": {"value": False, "unit": ""}})
    run(tmp_path / "b", measures={"rows": {"value": 0, "unit": ""}})
    shown = page(tmp_path)
    assert shown.data["measures"] == {"delay": "min", "ok": "", "rows": ""}
    assert [row["measures"] for row in shown.rows] == [{"delay": 1.5, "ok": False}, {"rows": 0}]


def test_files_and_figures_are_those_that_there_are(tmp_path: Path) -> None:
    usual, other, script = (run(tmp_path / "fit" / name) for name in ("a b#?", "all", "cli"))
    for directory in (usual, other):
        for name in ("fit.ipynb", "fit_config.json", "fit_execution_output.txt"):
            (directory / name).touch()
    (other / "fit.html").touch()
    (script / "_cli_execution_output.txt").write_text("from the script")
    (other / ".figures").mkdir()
    for name in ("fit_10_0.png", "fit_2_1.svg", "fit_2_0.png", "other_0_0.png", "fit_x_0.png"):
        (other / ".figures" / name).touch()
    found = {row["path"]: row for row in page(tmp_path).rows}
    assert "files" not in found["fit/a b#?"], "the usual ones"
    assert found["fit/all"]["files"] == ["notebook", "config", "log", "html"]
    assert found["fit/all"]["figures"] == [
        f"fit/all/.figures/{name}" for name in ("fit_2_0.png", "fit_2_1.svg", "fit_10_0.png")
    ]
    assert found["fit/cli"]["files"] == ["script's log"]
    assert found["fit/cli"]["output"] == ["from the script"]


def test_configs_are_told_by_their_differences(tmp_path: Path) -> None:
    run(tmp_path / "a", config={"_project_root": "/x", "seed": 1, "toll": "low", "only_here": 0})
    run(tmp_path / "b", config={"_project_root": "/x", "seed": 1, "toll": "high"})
    run(tmp_path / "c", config={})
    shown = page(tmp_path)
    a, b, c = shown.rows
    assert shown.data["configs"] == {"flows/fit.py": {"seed": 1, "toll": "low", "only_here": 0}}
    assert a["config"] == {}
    assert b["config"] == {"toll": "high"}
    assert b["without"] == ["only_here"]
    assert "config" not in c, "it has not the one of another run"


def test_a_damaged_record_is_red_and_says_why_and_does_not_hide_the_others(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a/run.json").write_text("{")
    run(tmp_path / "b", error={"file": 5, "line": 2}, status="error")
    run(tmp_path / "c", flow="flows/" + "x" * 300 + ".py")
    run(tmp_path / "d")
    run(tmp_path / "e", instance="")
    (tmp_path / "f").mkdir()
    (tmp_path / "f/run.json").mkdir()
    run(tmp_path / "g", started="never", ended="never", pid=None, cells={"total": "x"}, timings=[{}])
    shown = page(tmp_path)
    lights = {row["path"]: row["light"] for row in shown.rows}
    assert {path: light for path, light in lights.items() if path in "abcd"} == {
        "a": "red",
        "b": "red",
        "c": "red",
        "d": "green",
    }
    assert "no usable record" in shown.rows[0]["error"]["message"]
    assert all(row["name"] for row in shown.rows)


def test_a_run_that_died_is_red_and_one_that_goes_on_is_running(tmp_path: Path) -> None:
    run(tmp_path / "a", status="running")
    run(tmp_path / "b", status="running")
    with lock(tmp_path / "b"):
        shown = page(tmp_path)
    assert shown.lights == [("red", "a"), ("running", "b")]
    assert shown.rows[0]["error"]["type"] == "Interrupted"


# --- a conductor's results ---


def test_results_choose_and_order_the_rows(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        run(tmp_path / "s" / name)
    results = [{"scenario": "c", "status": "success"}, {"instance": "a", "status": "success"}]
    assert page(tmp_path, results).lights == [("green", "c"), ("green", "a")]
    assert page(tmp_path, []).lights == []


@pytest.mark.parametrize("status", ["success", "failed", None])
def test_a_result_without_a_record_is_red_whatever_it_says(tmp_path: Path, status: str | None) -> None:
    shown = page(tmp_path, [{"scenario": "a", "status": status}])
    assert shown.lights == [("red", "a")]
    assert "no record of this run was found" in shown.row["error"]["message"]
    assert shown.row["files"] == []
    assert page(tmp_path, [{}]).lights == [("red", "")]


def test_a_result_s_error_is_shown_where_there_is_no_record(tmp_path: Path) -> None:
    shown = page(tmp_path, [{"scenario": "a", "status": "failed", "error": f"no flow {HOSTILE}"}])
    assert shown.row["error"]["message"] == f"no flow {HOSTILE}"
    assert shown.data["clusters"][0]["paths"] == ["a"]


def test_a_result_that_claims_success_does_not_outdo_a_red_record(tmp_path: Path) -> None:
    run(tmp_path / "a", status="error")
    assert page(tmp_path, [{"scenario": "a", "status": "success"}]).lights == [("red", "a")]


def test_a_red_run_is_not_hidden_by_a_green_one_of_the_same_name(tmp_path: Path) -> None:
    run(tmp_path / "fit/a")
    run(tmp_path / "plot/a", status="error")
    assert page(tmp_path, [{"scenario": "a", "status": "failed"}]).lights == [("red", "a")]


def test_a_result_that_says_failed_is_red_even_if_an_old_record_is_green(tmp_path: Path) -> None:
    run(tmp_path / "a")
    shown = page(tmp_path, [{"scenario": "a", "status": "error", "error": "no such flow"}])
    assert shown.lights == [("red", "a")]
    assert shown.row["error"]["message"] == "no such flow"


# --- a page that is read again ---


def write(root: Path, **options: Any) -> Path:
    file = root / "conductor_status_report.html"
    file.write_text(render(Sweep(Place(root.parent, root)), **{"finished": True, **options}), "utf-8")
    return file


def test_a_page_is_current_until_a_record_changes_comes_or_goes(tmp_path: Path) -> None:
    run(tmp_path / "a")
    file = write(tmp_path)
    assert is_current(file)
    run(tmp_path / "b")
    assert not is_current(file)
    file = write(tmp_path)
    assert is_current(file)
    run(tmp_path / "b", status="error")
    assert not is_current(file)
    assert not is_current(write(tmp_path, finished=False)), "more is to come"
    assert not is_current(write(tmp_path, current=False)), "it shows some runs only"
    run(tmp_path / "c", status="running")
    with lock(tmp_path / "c"):
        file = write(tmp_path)
    assert not is_current(file), "it is not running any more"
    assert not is_current(tmp_path / "none.html")


def test_rows_are_read_back_as_they_were(tmp_path: Path) -> None:
    run(
        tmp_path / "a",
        config={"seed": 1, "toll": "low"},
        scenario={"x": 1},
        measures={"m": {"value": 2, "unit": ""}},
    )
    run(
        tmp_path / "b",
        config={"seed": 1},
        status="error",
        error={"type": "E", "message": HOSTILE, "traceback": "t"},
    )
    run(tmp_path / "c", kind="build", flow="builds/all.py", config={"seed": 2}, runs=["runs/n", "runs/o"])
    run(tmp_path / "c/runs/n", config={"toll": "high", "more": [1, {"deep": None}]})
    run(tmp_path / "c/runs/o")
    sweep = Sweep(Place(tmp_path.parent, tmp_path))
    rows = sweep.rows(finished=True)
    again = read_back(write(tmp_path))
    assert again == rows


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[: text.index('"rows":')],
        lambda text: text.replace('"format":1', '"format":0'),
        lambda text: re.sub(r'"rows":\[.*\]', '"rows":[{"stamp":"x"},{"runs":[{}],"path":"a"}]', text),
        lambda text: re.sub(r'"rows":\[.*\]', '"rows":[1]', text),
        lambda text: re.sub(r'"rows":\[.*\]', '"rows":null', text),
        lambda text: re.sub(r'id="data">.*?</script>', 'id="data">[]</script>', text),
        lambda text: re.sub(r'id="data">.*?</script>', 'id="data">NaN</script>', text),
        lambda text: "",
        lambda text: "\udc80\udcff",
    ],
)
def test_a_damaged_page_is_no_page(tmp_path: Path, damage: Any) -> None:
    run(tmp_path / "a")
    file = write(tmp_path)
    file.write_bytes(damage(file.read_text("utf-8")).encode("utf-8", "surrogateescape"))
    assert read_back(file) == []
    sweep = Sweep(Place(tmp_path.parent, tmp_path), before=lambda: read_back(file))
    assert [row["path"] for row in sweep.rows()] == ["a"]


def test_what_a_page_knows_is_not_read_again_unless_it_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pytest_ductaflow.report import rows

    for name in "abc":
        run(tmp_path / name)
    run(tmp_path / "b", kind="build", runs=["runs/n"])
    run(tmp_path / "b/runs/n")
    file = write(tmp_path)
    run(tmp_path / "a", status="error")
    run(tmp_path / "b/runs/n", status="warning")
    read, seen = rows.read, []
    monkeypatch.setattr(rows, "read", lambda path, place: seen.append(path.name) or read(path, place))
    sweep = Sweep(Place(tmp_path.parent, tmp_path), before=lambda: read_back(file))
    assert [row["light"] for row in sweep.rows()] == ["red", "green", "green"]
    assert sorted(seen) == ["a", "b", "n"]
