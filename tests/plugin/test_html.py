"""pytest-html's report of instances."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Project

HOSTILE = "<img src=x onerror=alert(1)>"
HOSTILE_NAME = "img_src_x_onerror_alert_1__"


class Page(HTMLParser):
    """The start tags of an HTML text, and its plain text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


class Report:
    """What a report shows: the page itself, and the rows that its script makes of the data."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.html = file.read_text("utf-8")
        page = Page(self.html)
        (blob,) = (
            attributes["data-jsonblob"] for _, attributes in page.tags if "data-jsonblob" in attributes
        )
        assert blob is not None
        tests: dict[str, list[dict[str, Any]]] = json.loads(blob)["tests"]
        self.rows = {node_id: rows[-1] for node_id, rows in tests.items()}

    def row(self, name: str) -> dict[str, Any]:
        (found,) = (row for node_id, row in self.rows.items() if node_id.endswith(f"::{name}"))
        return found

    def cells(self, name: str) -> dict[str, str]:
        """The text of a row's cells, by the class that pytest-html and we give them."""
        found = {}
        for cell in self.row(name)["resultsTableRow"]:
            page = Page(cell)
            found[str(page.tags[0][1]["class"]).removeprefix("col-")] = page.text.strip()
        return found

    def links(self, name: str) -> dict[str, str]:
        """Link text to target, of a row."""
        row = "".join(self.row(name)["resultsTableRow"])
        return {text: target for target, text in re.findall(r'<a href="([^"]*)">([^<]*)</a>', row)}

    def extra(self, name: str) -> str:
        """What a row shows when it is unfolded: as the browser would read it."""
        return Page(self.row(name)["log"]).text

    def markup(self) -> Iterator[str]:
        """Every text that the script of the page inserts as HTML."""
        for row in self.rows.values():
            yield from row["resultsTableRow"]
            yield row["log"]


@pytest.fixture(scope="module")
def report(new_project: Callable[[], Project]) -> Report:
    project = new_project()
    project.flow("fit", f"print('Warning: rows' if config['x'] else 'fine')\nprint('{HOSTILE}')")
    config = {"note": HOSTILE, "password": "s3cr3t"}
    project.instance(HOSTILE, flow="flows/fit.py", config=config, scenarios={"x": [0, 1]})
    project.flow("red", f"print('{HOSTILE}')\nraise ValueError('{HOSTILE}')")
    project.instance("red", config=config)
    project.write("test_plain.py", "def test_plain(): pass\n")
    result = project.run_apart("--html=runs/report.html", "--self-contained-html")
    result.assert_outcomes(passed=3, failed=1, warnings=1)
    return Report(project.root / "runs/report.html")


def test_the_report_has_columns_for_light_flow_and_duration(report: Report) -> None:
    names = [re.sub("<.*?>", "", cell) for cell in re.findall("<th.*?</th>", report.html, re.DOTALL)]
    for name in ("Light", "Flow", "Duration", "Links"):
        assert names.count(name) == 1
    lights = {f"{HOSTILE_NAME}-0": "green", f"{HOSTILE_NAME}-1": "orange", "red": "red"}
    for name, light in lights.items():
        cells = report.cells(name)
        assert cells["light"].split()[-1] == light
        assert cells["flow"] == ("flows/red.py" if name == "red" else "flows/fit.py")
    assert report.cells("test_plain")["light"] == report.cells("test_plain")["flow"] == ""
    assert {len(row["resultsTableRow"]) for row in report.rows.values()} == {6}


def test_a_row_has_config_and_output_without_secrets(report: Report) -> None:
    for name, output in {f"{HOSTILE_NAME}-1": "Warning: rows", "red": HOSTILE}.items():
        extra = report.extra(name)
        assert output in extra
        assert f'"note": "{HOSTILE}"' in extra
        assert '"password": "***"' in extra
    assert f"E   ValueError: {HOSTILE}" in report.extra("red")
    assert "s3cr3t" not in report.html


def test_links_lead_from_the_report_to_the_runs_files(report: Report) -> None:
    for name, stem in {f"{HOSTILE_NAME}-0": "fit", "red": "red"}.items():
        links = report.links(name)
        assert links == {
            "notebook": f"{stem}/{name}/{stem}.ipynb",
            "config": f"{stem}/{name}/{stem}_config.json",
            "log": f"{stem}/{name}/{stem}_execution_output.txt",
        }
        assert all((report.file.parent / unquote(target)).is_file() for target in links.values())


def test_title_and_header_name_the_project_and_its_lights(report: Report) -> None:
    assert f">{report.file.parent.parent.name}: scenarios</title>" in report.html
    text = " ".join(Page(report.html).text.replace("\xa0", " ").split())
    assert "green: 1 ▲ orange: 1 ✖ red: 1 status page" in text
    assert '<a href="conductor_status_report.html">status page</a>' in report.html


def test_hostile_names_and_texts_are_inert(report: Report) -> None:
    assert HOSTILE not in report.html
    assert any(f"{HOSTILE}.json::" in node_id for node_id in report.rows)
    tags = [tag for markup in report.markup() for tag in Page(markup).tags]
    assert {name for name, _ in tags} <= {"td", "span", "a", "div", "br"}
    assert not any(key.startswith("on") for _, attributes in tags for key in attributes)


def test_a_report_without_instances_is_pytest_htmls_own(project: Project) -> None:
    project.write("test_plain.py", "def test_plain(): pass\n")
    project.run("--html=report.html", "--self-contained-html").assert_outcomes(passed=1)
    report = Report(project.root / "report.html")
    assert {len(row["resultsTableRow"]) for row in report.rows.values()} == {4}
    assert ">report.html</title>" in report.html


@pytest.mark.parametrize(
    ("target", "options"),
    [
        ("report.html", []),
        ("some/a dir/report.html", ["--self-contained-html"]),
        ("some/a dir/report.html", ["-n", "2"]),
        ("runs/report.html", ["--no-execute"]),
    ],
)
def test_every_link_leads_to_a_file(project: Project, target: str, options: list[str]) -> None:
    project.flow("fit", "assert config['x'] != 'red'")
    name = "a<b>&\"'%20#?"
    project.instance(name, flow="flows/fit.py", scenarios={"x": ["green", "red", name]})
    project.instance("refused", flow="flows/fit.py", config={"x": f"runs/fit/{_safe(name)}-red/out.csv"})
    project.instance("skipped", flow="flows/fit.py", config={"x": 1}, marks=["skip"])
    project.instance("unreadable", flow="flows/nowhere.py")
    project.instance("crashes", flow="flows/fit.py", config={"x": 2})
    crash = "import os\ndef pytest_runtest_setup(item):\n    item.name == 'crashes' and os._exit(9)\n"
    if "-n" in options:
        project.write("conftest.py", crash)
    project.run_apart(f"--html={target}", "--continue-on-collection-errors", *options)
    report = Report(project.root / target)
    ran = {f"{_safe(name)}-green", f"{_safe(name)}-red", f"{_safe(name)}-{_safe(name)}", "crashes"}
    ran -= {"crashes"} if "-n" in options else set()
    found = {node_id.rpartition("::")[2]: _targets(row) for node_id, row in report.rows.items()}
    ran = set() if "--no-execute" in options else ran
    assert {name for name, targets in found.items() if len(targets) == 3} == ran
    assert {name for name, targets in found.items() if targets} <= {*ran, "refused"}  # which has its config
    targets = [one for targets in found.values() for one in targets]
    pages = re.findall(r'<a href="([^"]*)">status page</a>', report.html)
    assert len(pages) == bool(ran)
    for one in [*targets, *pages]:
        assert not re.search(r"[<>&\"'#? ]", one)
        assert (report.file.parent / unquote(one)).is_file(), one


def _safe(name: str) -> str:
    return re.sub(r"\W", "_", name)


def _targets(row: dict[str, Any]) -> list[str]:
    links = [tag for cell in row["resultsTableRow"] for tag in Page(cell).tags if tag[0] == "a"]
    return [str(attributes["href"]) for _, attributes in links]
