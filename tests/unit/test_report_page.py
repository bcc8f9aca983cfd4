import html.parser
from pathlib import Path
from typing import Any

import pytest

from pytest_ductaflow import generate_status_report
from pytest_ductaflow.record import Record, lock, write_record

HOSTILE = "<script>alert('x')</script>\"'><img src=x onerror=alert(1)>&amp;{{191*193}}{% raw %}"


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
    """What a browser makes of the page: elements, links, the text, and each run with its depth."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.runs: list[tuple[int, str, str]] = []  # depth, light, name
        self._depth = 0
        self._light = ""
        self._span = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        self.elements.append((tag, attributes))
        self._depth += tag == "details"
        if tag == "span":
            self._span = attributes.get("class") or ""
            if "title" in attributes:
                self._light = attributes["title"] or ""

    def handle_endtag(self, tag: str) -> None:
        self._depth -= tag == "details"
        if tag == "span":
            self._span = ""

    def handle_data(self, data: str) -> None:
        self.text += data
        if self._span == "name":
            self.runs.append((self._depth, self._light, data))

    @property
    def links(self) -> list[str]:
        return [attributes["href"] or "" for tag, attributes in self.elements if tag == "a"]

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def page(root: Path, results: Any = None) -> Page:
    return Page(generate_status_report(results, root))


@pytest.mark.parametrize("exists", [True, False])
def test_no_runs_say_so(tmp_path: Path, exists: bool) -> None:
    shown = page(tmp_path if exists else tmp_path / "none")
    assert "There are no runs here yet." in shown.text
    assert shown.runs == []


def test_every_run_has_its_light_sorted_by_directory(tmp_path: Path) -> None:
    for name, status in {"s/b": "warning", "s/a": "success", "r/z": "error"}.items():
        run(tmp_path / name, status=status)
    shown = page(tmp_path)
    assert shown.runs == [(1, "red", "z"), (1, "green", "a"), (1, "orange", "b")]
    assert " ".join(shown.text.split("3 instances")[0].split()[-9:]) == "✖ 1 red ▲ 1 orange ● 1 green"


def test_flows_are_nested_in_their_builds(tmp_path: Path) -> None:
    run(tmp_path / "all/x", kind="build", status="warning")
    run(tmp_path / "all/x/runs/one", status="error")
    run(tmp_path / "all/x/runs/two", kind="build")
    run(tmp_path / "all/x/runs/two/runs/deep")
    run(tmp_path / "all/xy")
    shown = page(tmp_path)
    assert shown.runs == [
        (1, "orange", "x"),
        (2, "red", "one"),
        (2, "green", "two"),
        (3, "green", "deep"),
        (1, "green", "xy"),
    ]
    assert "2 instances" in shown.text


def test_only_red_runs_stand_open(tmp_path: Path) -> None:
    run(tmp_path / "a")
    run(tmp_path / "b", status="error")
    opened = [("open" in attributes) for attributes in page(tmp_path).named("details")]
    assert opened.count(True) == 1


def test_a_red_run_shows_error_traceback_and_last_lines(tmp_path: Path) -> None:
    error = {
        "type": "ValueError",
        "message": "bad",
        "file": "flows/fit.py",
        "line": 3,
        "traceback": "Traceback: xyz",
    }
    run(tmp_path / "a", status="error", error=error)
    (tmp_path / "a/fit_execution_output.txt").write_text("\n".join(f"line {n}" for n in range(30)))
    text = page(tmp_path).text
    assert "flows/fit.py:3: ValueError: bad" in text
    assert "Traceback: xyz" in text
    assert "line 10\n" in text
    assert "line 9\n" not in text


def test_a_green_run_shows_no_output(tmp_path: Path) -> None:
    run(tmp_path / "a")
    (tmp_path / "a/fit_execution_output.txt").write_text("chatter")
    assert "chatter" not in page(tmp_path).text


def test_warnings_and_duration_are_shown(tmp_path: Path) -> None:
    warnings = [{"line": 1, "cell": 0, "text": f"Warning: {n}"} for n in range(2)]
    run(tmp_path / "a", status="warning", warnings=warnings, duration=12.345)
    text = page(tmp_path).text
    assert "2 warnings" in text
    assert "Warning: 1" in text
    assert "12.3 s" in text


def test_a_flood_of_warnings_is_cut(tmp_path: Path) -> None:
    run(tmp_path / "a", status="warning", warnings=[{"line": 1, "cell": 0, "text": "Warning: x"}] * 250)
    assert len(page(tmp_path).named("li")) == 100


def test_of_a_flood_all_warnings_are_counted(tmp_path: Path) -> None:
    run(tmp_path / "a", status="warning", warnings=[{"line": 1, "cell": 0, "text": "Warning: x"}] * 250)
    assert "250 warnings" in page(tmp_path).text


def test_links_lead_to_the_files_that_there_are(tmp_path: Path) -> None:
    run(tmp_path / "fit/a b#?")
    for name in ("fit.ipynb", "fit_config.json", "fit_execution_output.txt", "fit.html"):
        (tmp_path / "fit/a b#?" / name).touch()
    run(tmp_path / "fit/cli")
    (tmp_path / "fit/cli/_cli_execution_output.txt").touch()
    assert page(tmp_path).links == [
        "fit/a%20b%23%3F/fit.ipynb",
        "fit/a%20b%23%3F/fit_config.json",
        "fit/a%20b%23%3F/fit_execution_output.txt",
        "fit/a%20b%23%3F/fit.html",
        "fit/cli/_cli_execution_output.txt",
    ]


def test_a_script_run_shows_its_own_output(tmp_path: Path) -> None:
    run(tmp_path / "a", status="warning")
    (tmp_path / "a/_cli_execution_output.txt").write_text("from the script")
    assert "from the script" in page(tmp_path).text


def test_hostile_texts_are_only_texts(tmp_path: Path) -> None:
    error = {"type": HOSTILE, "message": HOSTILE, "file": HOSTILE, "line": 1, "traceback": HOSTILE}
    run(
        tmp_path / "a",
        instance=HOSTILE,
        flow=f"flows/{HOSTILE.replace('/', '')}.py",
        status="error",
        error=error,
        config={HOSTILE: {"k": [HOSTILE]}},
        warnings=[{"line": 1, "cell": 0, "text": HOSTILE}],
    )
    (tmp_path / "a/_cli_execution_output.txt").write_text(HOSTILE)
    shown = page(tmp_path)
    assert {tag for tag, _ in shown.elements}.isdisjoint(
        {"script", "img", "iframe", "object", "form", "link"}
    )
    assert not [name for _, attributes in shown.elements for name in attributes if name.startswith("on")]
    assert shown.text.count(HOSTILE) >= 6
    assert "36863" not in shown.text


def test_a_directory_with_a_hostile_name_makes_no_hostile_link(tmp_path: Path) -> None:
    for name in ('"><script>', "javascript:alert(1)"):
        run(tmp_path / name, status="warning")
        (tmp_path / name / "fit.ipynb").touch()
    shown = page(tmp_path)
    assert shown.links == ["%22%3E%3Cscript%3E/fit.ipynb", "javascript%3Aalert%281%29/fit.ipynb"]
    assert shown.named("script") == []


def test_the_page_loads_and_runs_nothing(tmp_path: Path) -> None:
    run(tmp_path / "a")
    (policy,) = [
        attributes["content"] for attributes in page(tmp_path).named("meta") if "http-equiv" in attributes
    ]
    assert policy == "default-src 'none'; style-src 'unsafe-inline'"


def test_secrets_are_hidden_on_the_page(tmp_path: Path) -> None:
    run(tmp_path / "a", config={"db": {"password": "hunter2"}})
    text = page(tmp_path).text
    assert "hunter2" not in text
    assert "***" in text


def test_a_damaged_record_is_red_and_says_why(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a/run.json").write_text("{")
    shown = page(tmp_path)
    assert shown.runs == [(1, "red", "a")]
    assert "no usable record" in shown.text


def test_a_run_that_died_is_red_and_one_that_goes_on_is_running(tmp_path: Path) -> None:
    run(tmp_path / "a", status="running")
    run(tmp_path / "b", status="running")
    with lock(tmp_path / "b"):
        shown = page(tmp_path)
    assert shown.runs == [(1, "red", "a"), (1, "running", "b")]
    assert "1 running" in shown.text


def test_any_message_can_be_written_to_a_file(tmp_path: Path) -> None:
    run(tmp_path / "a", status="error", error={"type": "ValueError", "message": "bad \udc80"})
    assert "bad" in generate_status_report(model_root=tmp_path).encode("utf-8").decode()


# --- a conductor's results -----------------------------------------------------------------------


def test_results_choose_and_order_the_rows(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        run(tmp_path / "s" / name)
    results = [{"scenario": "c", "status": "success"}, {"instance": "a", "status": "success"}]
    assert page(tmp_path, results).runs == [(1, "green", "c"), (1, "green", "a")]


@pytest.mark.parametrize("status", ["success", "failed", None])
def test_a_result_without_a_record_is_red_whatever_it_says(tmp_path: Path, status: str | None) -> None:
    shown = page(tmp_path, [{"scenario": "a", "status": status}])
    assert shown.runs == [(1, "red", "a")]
    assert "no record of this run was found" in shown.text


def test_a_result_that_claims_success_does_not_outdo_a_red_record(tmp_path: Path) -> None:
    run(tmp_path / "a", status="error")
    assert page(tmp_path, [{"scenario": "a", "status": "success"}]).runs == [(1, "red", "a")]


def test_a_result_s_error_is_shown_where_there_is_no_record(tmp_path: Path) -> None:
    shown = page(tmp_path, [{"scenario": "a", "status": "failed", "error": f"no flow {HOSTILE}"}])
    assert f"no flow {HOSTILE}" in shown.text


def test_no_results_are_no_rows(tmp_path: Path) -> None:
    run(tmp_path / "a")
    assert page(tmp_path, []).runs == []


def test_a_red_run_is_not_hidden_by_a_green_one_of_the_same_name(tmp_path: Path) -> None:
    run(tmp_path / "fit/a")
    run(tmp_path / "plot/a", status="error")
    lights = {light for _, light, _ in page(tmp_path, [{"scenario": "a", "status": "failed"}]).runs}
    assert "red" in lights


def test_a_result_that_says_failed_is_red_even_if_an_old_record_is_green(tmp_path: Path) -> None:
    run(tmp_path / "a")
    assert page(tmp_path, [{"scenario": "a", "status": "error", "error": "no such flow"}]).runs == [
        (1, "red", "a")
    ]


def test_a_damaged_record_does_not_hide_the_others(tmp_path: Path) -> None:
    run(tmp_path / "a", error={"file": 5, "line": 2}, status="error")
    run(tmp_path / "b", flow="flows/" + "x" * 300 + ".py")
    run(tmp_path / "c")
    page = Page(generate_status_report(model_root=tmp_path))
    assert [(light, name) for _, light, name in page.runs] == [("red", "a"), ("red", "b"), ("green", "c")]
