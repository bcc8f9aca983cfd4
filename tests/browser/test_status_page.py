"""The status page of a session that is over."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import pytest

from .conftest import HEIGHT, WIDTH

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

    from tests.conftest import Project

    from .conftest import Shown

#: One red pixel.
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg=="
SVG = '<svg xmlns="http://www.w3.org/2000/svg" width="40" height="20"><rect width="40" height="20"/></svg>'
FIT = """
from pathlib import Path
from pytest_ductaflow import record_measure
record_measure("mean_delay", 1.5 * config["month"], unit="min")
print(f"fitting {config['origin']}")
print("Warning: few flights" if config["origin"] == "EWR" else "enough flights")
Path("fit.csv").write_text("a")

# %%
def check(value):
    if value > 5:
        raise ValueError(f"negative flow: -{value}")

# %%
check(config["month"] if config["origin"] == "LGA" else 0)
"""
PLOT = f"""
import base64
from IPython.display import Image, SVG, display
display(Image(base64.b64decode("{PNG}")))
display(SVG('{SVG}'))
"""
CITY = """
import pathlib
root = pathlib.Path(config["_project_root"])
from pytest_ductaflow import run_notebook
for name in ("fit", "plot"):
    run_notebook(root / f"flows/{name}.py", config=config, execution_dir=f"runs/{name}", project_root=root)
"""


@pytest.fixture(scope="module")
def project(new_project: Callable[[], Project]) -> Project:
    """Six builds, two of which fail and two warn; a flow that they need; and one that is up to date."""
    project = new_project()
    project.flow("prepare", "import pathlib\npathlib.Path('out.csv').write_text('a')\nprint('prepared')")
    project.flow("fit", FIT)
    project.flow("plot", PLOT)
    project.build("city", CITY)
    project.instance("prepare", config={"seed": 1})
    project.instance(
        "city",
        build="builds/city.py",
        config={"flights": "runs/prepare/prepare/out.csv", "threshold": 30},
        scenarios={"origin": ["JFK", "LGA", "EWR"], "month": [1, 7, 11]},
        name="{origin}_{month}",
    )
    project.run_apart("instances/prepare.json").assert_outcomes(passed=1)
    project.run_apart("-n", "2", "--html=report.html").assert_outcomes(passed=7, failed=2, warnings=3)
    return project


@pytest.fixture
def page(project: Project, show: Callable[..., Shown]) -> Shown:
    return show(project.root / "runs/conductor_status_report.html")


def test_the_header_says_how_it_went(page: Shown, project: Project) -> None:
    assert page.one("h1").text == f"{project.root.name} scenarios"
    assert re.match(r"finished \d.* after \d+ s: 10 instances, 1 of them up to date$", page.condition)
    chips = [chip.text.split() for chip in page.all(".chip")]
    assert chips == [["✖", "2", "red"], ["▲", "3", "orange"], ["●", "5", "green"]]
    meta = page.one(".meta").text
    assert "pytest -p no:hypothesispytest" in meta
    assert "-n 2" in meta
    assert "2 workers" in meta
    assert "Python 3." in meta
    assert "pytest-ductaflow" in meta


def test_the_table_has_a_column_for_each_dimension_and_sorts_by_any(page: Shown) -> None:
    assert page.lights["LGA_7"] == "red"
    assert page.lights["EWR_1"] == "orange"
    assert page.lights["prepare"] == "green up to date"
    assert page.names[:2] == ["LGA_7", "LGA_11"]  # the worst first
    page.sort("month")
    assert [month for month in page.column("month") if month] == ["1"] * 3 + ["7"] * 3 + ["11"] * 3
    page.sort("month")
    assert [month for month in page.column("month") if month] == ["11"] * 3 + ["7"] * 3 + ["1"] * 3
    assert page.one("th[aria-sort=descending]").text == "month ↓"
    page.sort("Instance")
    assert page.names == sorted(page.names, key=lambda name: (name.split("_")[0].lower(), len(name), name))
    page.sort("Duration")
    assert len(page.names) == 10


def test_filters_and_search_narrow_the_table(page: Shown) -> None:
    page.light("red")
    assert set(page.names) == {"LGA_7", "LGA_11"}
    page.light("orange")
    assert set(page.lights.values()) == {"red", "orange"}
    assert page.one(".count").text == "5 of 10 instances"
    page.one(".filters button", "clear filters").click()
    assert len(page.names) == 10
    page.choose("month", "7")
    assert sorted(page.names) == ["EWR_7", "JFK_7", "LGA_7"]
    page.choose("origin", "JFK")
    assert page.names == ["JFK_7"]
    page.choose("origin", "")
    page.choose("month", "")
    page.choose("flow", "flows/prepare.py")
    assert page.names == ["prepare"]
    page.choose("flow", "")
    for text, found in {
        "ewr 11": {"EWR_11"},
        "NEGATIVE flow": {"LGA_7", "LGA_11"},
        "few flights": {"EWR_1", "EWR_7", "EWR_11"},
        "flows/plot": {f"{origin}_{month}" for origin in ("JFK", "EWR", "LGA") for month in (1, 7, 11)}
        - {"LGA_7", "LGA_11"},  # these did not get so far
        "nowhere": set(),
    }.items():
        page.search(text)
        assert set(page.names) == found, text
    assert page.focused.get_attribute("type") == "search"


def test_a_view_is_shared_by_its_address(page: Shown, driver: Chrome) -> None:
    page.light("red")
    page.sort("month")
    page.search("lga")
    page.choose("month", "11")
    page.open("LGA_11")
    address, seen = driver.current_url, page.text
    driver.switch_to.new_window("window")
    driver.get(address)
    page.one(".details")
    assert page.text == seen
    assert page.names == ["LGA_11"]
    assert page.one('input[type="search"]').get_attribute("value") == "lga"
    driver.execute_script("location.hash = '#light=green'")
    page.until(lambda: len(page.names) == 5, "the view follows its address")


def test_a_row_opens_to_what_explains_it(page: Shown, project: Project) -> None:
    shown = page.open("LGA_7").text
    assert "ValueError: negative flow: -7" in shown
    assert f"at flows/fit.py:{project.line_of('flows/fit.py', 'raise ValueError')}" in shown
    assert '>   check(config["month"] if config["origin"] == "LGA" else 0)' in shown
    assert '>           raise ValueError(f"negative flow: -{value}")' in shown
    assert shown.index("negative flow") < shown.index("Config: differs") < shown.index("fitting LGA")
    config = shown[shown.index("Config: differs") :]
    assert "origin LGA" in config
    assert "month 7" in config
    assert "threshold" not in config.split("the same in all")[0]
    assert "re-run pytest instances/city.json::LGA_7" in shown.replace("\n", " ")
    assert "jupyter lab runs/city/LGA_7/city.ipynb" in shown
    page.opener("LGA_7").click()
    assert page.all(".details") == []
    assert "open" not in page.fragment


def test_a_build_opens_to_its_flows(page: Shown, project: Project) -> None:
    page.open("EWR_7")
    (fit, plot) = page.all(".nested > details")
    assert fit.text.split()[:3] == ["▲", "orange", "fit"]
    assert plot.text.split()[:3] == ["●", "green", "plot"]
    assert page.column("Warnings")[page.names.index("EWR_7")] == "1"
    fit.find_element("tag name", "summary").click()
    page.until_it_says("Warning: few flights")
    assert "fitting EWR" in fit.text
    page.unfold()
    timings = [line.text.split() for line in page.all(".timings li")]
    begins = [
        str(project.line_of("flows/fit.py", text)) for text in ("config = {}", "from pathlib", "def check")
    ]
    assert [line[:4] for line in timings[:3]] == [
        ["cell", f"{n},", "line", line] for n, line in enumerate(begins, 1)
    ]
    assert all(line[-1] in ("ms", "s") for line in timings)


def test_links_lead_to_files_that_there_are(page: Shown, project: Project) -> None:
    page.open("EWR_7")
    page.open("prepare")
    page.unfold()
    links = [link.get_attribute("href") or "" for link in page.all(".links a, .figures a, .meta a")]
    assert len(links) == 4 * 4 + 2 + 1
    paths = [Path(unquote(urlsplit(link).path)) for link in links]
    assert [path for path in paths if not path.exists()] == []
    assert project.root / "report.html" in paths
    assert project.root / "runs/city/EWR_7/runs/fit/fit.ipynb" in paths


def test_pytest_htmls_report_leads_to_the_page_and_back(
    page: Shown, driver: Chrome, project: Project
) -> None:
    page.one(".meta a").click()
    assert driver.current_url.split("?")[0] == (project.root / "report.html").as_uri()
    driver.find_element("link text", "status page").click()
    assert driver.current_url == (project.root / "runs/conductor_status_report.html").as_uri()


def test_figures_are_thumbnails(page: Shown) -> None:
    page.open("JFK_1")
    page.one(".nested summary", "plot").click()
    loaded = "[...document.images].map((image) => image.complete && image.naturalWidth)"
    page.until(lambda: page.js(loaded) == [1, 40], "two figures")
    assert all(image.get_attribute("alt") for image in page.all(".figures img"))
    assert {image.size["height"] for image in page.all(".figures img")} == {
        page.all(".figures img")[0].size["height"]
    }


def test_failures_are_grouped_and_lead_to_their_rows(page: Shown) -> None:
    page.view("failures")
    failures, warnings = page.all(".clusters > li")
    assert "2 of 10 flows/fit.py:" in failures.text
    assert "negative flow: -" in failures.text
    assert "few flights" in warnings.text
    assert "all have origin = EWR" in warnings.text
    page.one(".members a", "LGA_11").click()
    assert page.one(".details").is_displayed()
    assert page.js("document.activeElement.dataset.path") == "city/LGA_11"
    assert 0 < page.opener("LGA_11").rect["y"] - page.js("scrollY") < HEIGHT
    page.one(".failure a", "All failures").click()
    page.one(".clusters")


def test_who_needs_whom_leads_to_the_row(page: Shown) -> None:
    page.open("JFK_1").find_element("link text", "prepare").click()
    page.until(lambda: len(page.all(".details")) == 2, "the needed row opens, too")
    assert "prepare%2Fprepare" in page.fragment


def test_a_row_that_a_filter_hides_is_shown_when_something_leads_to_it(page: Shown) -> None:
    page.sort("Instance")
    page.choose("origin", "EWR")
    page.one('.squares i[data-open="city/JFK_7"]').click()
    page.until(lambda: "JFK_7" in page.names, "the filter goes")
    assert page.opener("JFK_7").get_attribute("aria-expanded") == "true"
    assert "sort=name" in page.fragment


def test_what_is_missing_is_last_in_either_direction(page: Shown) -> None:
    page.sort("month")
    assert page.column("month")[-1] == ""
    page.sort("month")
    assert page.column("month")[0] == "11"
    assert page.column("month")[-1] == ""


def test_composed_text_is_searched_for_when_it_is_complete(page: Shown, driver: Chrome) -> None:
    field = page.one('input[type="search"]')
    field.click()
    for composed in ("に", "にほ"):
        driver.execute_cdp_cmd(
            "Input.imeSetComposition", {"text": composed, "selectionStart": 1, "selectionEnd": 1}
        )
    driver.execute_cdp_cmd("Input.insertText", {"text": "日本"})
    assert field.get_attribute("value") == "日本"
    page.until(lambda: page.names == [], "nothing has this text")


def test_the_way_back_leads_to_the_view_before(page: Shown, driver: Chrome) -> None:
    page.light("red")
    page.view("failures")
    page.one("#failures a", "LGA_7").click()
    page.until(lambda: page.names, "the table")
    driver.back()
    page.until(lambda: page.all("#failures a"), "the failures")
    driver.back()
    page.until(lambda: page.names, "the table as it was")
    assert page.all(".details") == []
    assert "light=red" in page.fragment


def test_a_shared_view_has_the_opened_flows_of_a_build(
    page: Shown, project: Project, show: Callable[..., Shown]
) -> None:
    page.open("JFK_1").find_element("css selector", ".nested summary").click()
    again = show(project.root / "runs/conductor_status_report.html", page.fragment)
    assert len(again.all(".nested > details[open]")) == 1


@pytest.mark.parametrize("view", ["runs", "failures", "compare", "graph", "timeline"])
def test_every_view_is_drawn(page: Shown, view: str) -> None:
    page.view(view)
    assert page.one(f"nav button[data-view={view}]").get_attribute("aria-current") == "page"
    assert len(page.one(f"#{view}").text) > 20


@pytest.mark.parametrize("kind", ["bars", "lines", "heatmap"])
def test_a_measure_is_plotted_over_one_dimension_by_another(page: Shown, kind: str) -> None:
    from selenium.webdriver import Keys

    page.view("compare")
    for key, value in (
        ("measure", "measure:mean_delay"),
        ("over", "dimension:month"),
        ("by", "dimension:origin"),
        ("kind", kind),
    ):
        page.set(f"compare.{key}", value)
    said = page.js("[...document.querySelectorAll('#compare svg .mark title')].map((one) => one.textContent)")
    points = {text.split()[-1]: text for text in said}
    assert len(points) == len(said) == 9  # three airports, three months
    assert "month = 11, origin = JFK" in points["JFK_11"]
    assert "mean_delay: 16.50 min" in points["JFK_11"]
    page.one('#compare svg .mark[data-open="city/JFK_11"]').send_keys(Keys.ENTER)
    page.until(lambda: page.opener("JFK_11").get_attribute("aria-expanded") == "true", "its row is open")


def test_scenarios_are_compared_with_a_baseline(page: Shown) -> None:
    page.view("compare")
    page.set("compare.baseline", "city/JFK_1")
    rows = page.js(
        "[...document.querySelectorAll('#compare tbody tr')].map((row) => row.innerText.replace(/\\s+/g, ' '))"
    )
    assert "JFK_1" in rows[0], "the baseline comes first"
    november = next(row for row in rows if "LGA_11" in row)
    assert "▲ 16.50 +15.00 · +1000 %" in november
    assert "▼" in rows[0], "the lowest is marked"


def test_numbers_that_differ_by_rounding_only_or_are_beyond_floats(
    new_project: Callable[[], Project], show: Callable[..., Shown]
) -> None:
    project = new_project()
    code = (
        'from pytest_ductaflow import record_measure\nrecord_measure("total", {})\nrecord_measure("id", {})'
    )
    project.flow("odd", code.format('0.1 + 0.2 if config["k"] % 2 else 0.3', 'config["seed"]'))
    seeds = [2**53, 2**53 + 1]
    project.instance("odd", scenarios={"k": [1, 2, 3], "seed": seeds}, name="{k}_{seed}")
    project.run_apart().assert_outcomes(passed=6)
    page = show(project.root / "runs/conductor_status_report.html", "#sort=name")
    assert page.column("seed") == [str(seed) for seed in seeds] * 3
    assert page.column("id") == page.column("seed")
    page.view("compare")
    page.set("compare.measure", "measure:total")
    page.set("compare.over", "dimension:k")
    page.set("compare.kind", "lines")
    assert len(page.all("#compare svg .mark")) >= 3
    page.view("runs")
    page.choose("seed", str(seeds[1]))
    assert len(page.names) == 3


def test_a_session_is_compared_with_an_older_copy_of_the_runs(
    new_project: Callable[[], Project], show: Callable[..., Shown]
) -> None:
    project = new_project()
    flow = 'from pytest_ductaflow import record_measure\nrecord_measure("cost", {cost}, unit="EUR")\n{more}'
    project.flow("plan", flow.format(cost=20, more=""))
    project.instance("plan", scenarios={"year": [2025, 2030]}, name="{year}")
    project.run_apart().assert_outcomes(passed=2)
    shutil.copytree(project.root / "runs", project.root / "before")
    project.flow("plan", flow.format(cost=25, more='assert config["year"] < 2030'))
    project.run_apart("--ductaflow-compare=before").assert_outcomes(passed=1, failed=1)
    page = show(project.root / "runs/conductor_status_report.html")
    page.view("compare")
    rows = page.js(
        "[...document.querySelector('#compare tbody').rows].map((row) => row.innerText.replace(/\\s+/g, ' '))"
    )
    assert re.match(r"✖ 2030 ● green → ✖ red worse .* 20 → 25 \+5 · \+25 %", rows[0].strip()), rows[0]
    assert re.match(r"● 2025 ● green .* 20 → 25 \+5 · \+25 %", rows[1].strip()), rows[1]


# --- for whom, and on what ---

#: Contrast of every visible text against what is painted below it, after WCAG 2: the worst and what it says.
CONTRAST = """(() => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgba = (colour) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
    return [r, g, b, a / 255];
  };
  const over = (top, below) => [0, 1, 2].map((i) => top[i] * top[3] + below[i] * (1 - top[3])).concat(1);
  const behind = (element) => {
    if (!element) return rgba("canvas");
    const colour = rgba(getComputedStyle(element).backgroundColor);
    return colour[3] === 1 ? colour : over(colour, behind(element.parentElement));
  };
  const luminance = (colour) => {
    const [r, g, b] = colour.slice(0, 3).map((v) => v / 255).map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  let worst = [99, ""], seen = 0;
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || !element.checkVisibility() || element.closest("script, svg, option")) continue;
    const below = behind(element), above = over(rgba(getComputedStyle(element).color), below);
    const [light, dark] = [luminance(above), luminance(below)].sort((a, b) => b - a);
    const contrast = (light + 0.05) / (dark + 0.05);
    seen += 1;
    if (contrast < worst[0]) worst = [contrast, `${walker.currentNode.data} <${element.tagName} ${element.className}>`];
  }
  return [...worst, seen];
})()"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_has_contrast_in_light_and_dark(page: Shown, driver: Chrome, scheme: str) -> None:
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    background = page.js("getComputedStyle(document.body).backgroundColor")
    assert (background == "rgb(255, 255, 255)") == (scheme == "light")
    page.open("LGA_7")
    page.open("EWR_7")
    page.unfold()
    page.light("red")
    page.light("orange")
    for view in ("runs", "failures", "graph", "timeline"):
        page.view(view)
        contrast, text, seen = page.js(CONTRAST)
        assert seen > 20
        assert contrast >= 4.5, f"{view}: {text}"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_wrong_in_any_view(page: Shown, driver: Chrome, axe: str, scheme: str) -> None:
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    page.open("LGA_7")
    page.open("EWR_7")
    page.unfold()
    for view in ("runs", "failures", "compare", "graph", "timeline"):
        page.view(view)
        if view == "compare":
            page.set("compare.baseline", "city/JFK_1")
        assert page.violations(axe) == [], view


@pytest.fixture(scope="module")
def paths(new_project: Callable[[], Project]) -> Project:
    """Scenarios of paths and of measures that do not vary, some of which warn; none fails."""
    project = new_project()
    project.flow("prepare", "open('out.csv', 'w').write('a')")
    project.flow(
        "use",
        "from pytest_ductaflow import record_measure\nrecord_measure('folds', 5)\n"
        "record_measure('cost', config['n'])\nprint('Warning: odd' if config['n'] % 2 else 'even')",
    )
    name = "prepared_with_all_that_there_is_to_know_about_the_past"
    project.instance("prepare", config={"seed": 1}, name=name)
    path = f"runs/prepare/{name}/out.csv"
    project.instance("use", scenarios={"n": list(range(14)), "path": [path]}, name="use_{n}")
    project.run_apart("--html=report.html").assert_outcomes(passed=15, warnings=7)
    return project


def test_a_path_is_as_written_and_takes_little_room(paths: Project, show: Callable[..., Shown]) -> None:
    page = show(paths.root / "runs/conductor_status_report.html", "#sort=name")
    assert page.js("document.documentElement.scrollWidth") <= page.js("innerWidth")
    path = "runs/prepare/prepared_with_all_that_there_is_to_know_about_the_past/out.csv"
    assert page.column("path")[-1] == path  # all of it is read out
    brief = page.all(".brief")[0]
    assert brief.get_attribute("title") == path
    assert brief.rect["width"] < 300
    page.open("use_1")
    page.unfold()
    assert path in page.one(".details").text
    assert str(paths.root) not in page.one(".details").text


def test_an_address_scrolls_to_the_row_that_it_opens(
    paths: Project, show: Callable[..., Shown], driver: Chrome
) -> None:
    page = show(paths.root / "runs/conductor_status_report.html", "#sort=name")
    low = {"width": WIDTH, "height": 400, "deviceScaleFactor": 1, "mobile": False}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", low)
    page = show(paths.root / "runs/conductor_status_report.html", "#sort=name&open=use%2Fuse_13")
    in_sight = "(() => { const { top, bottom } = document.getElementById(arguments[0]).getBoundingClientRect(); return top >= 0 && bottom <= innerHeight; })()"
    assert page.js("scrollY") > 0
    assert page.js(in_sight, "row-use/use_13")
    assert not page.js(in_sight, "row-use/use_0")
    driver.execute_script("location.hash = '#sort=name&open=use%2Fuse_0'")
    page.until(lambda: page.js(in_sight, "row-use/use_0"), "the other row")


def test_compare_begins_with_a_measure_that_varies(paths: Project, show: Callable[..., Shown]) -> None:
    page = show(paths.root / "runs/conductor_status_report.html", "#view=compare")
    assert page.one('select[data-set="compare.measure"]').get_attribute("value") == "measure:cost"
    assert len(page.all("#compare svg .mark")) >= 14


def test_where_nothing_failed_no_view_is_called_failures(paths: Project, show: Callable[..., Shown]) -> None:
    page = show(paths.root / "runs/conductor_status_report.html")
    assert page.one('nav button[data-view="failures"]').text.split() == ["Warnings", "▲", "1"]


def test_the_view_of_causes_is_called_by_what_it_holds(page: Shown) -> None:
    words = page.one('nav button[data-view="failures"]').text.split()
    assert words == ["Failures", "and", "warnings", "✖", "1", "▲", "1"]


def test_a_printed_plot_is_on_the_sheet(paths: Project, show: Callable[..., Shown], driver: Chrome) -> None:
    page = show(paths.root / "runs/conductor_status_report.html", "#view=compare")
    sheet = {"width": 1046, "height": 740, "deviceScaleFactor": 1, "mobile": False}  # A4 across
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    plot = "Math.max(...[...document.querySelectorAll('#compare svg')].map((svg) => svg.getBoundingClientRect().right))"
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", sheet)
    assert 0 < page.js(plot) <= sheet["width"]


def test_lights_are_told_by_symbol_and_word_too(page: Shown) -> None:
    assert {tuple(light.text.split()) for light in page.all("tr.row .light")} == {
        ("✖", "red"),
        ("▲", "orange"),
        ("●", "green"),
    }
    shapes = [
        page.js("getComputedStyle(document.querySelector(arguments[0])).clipPath", f".squares .{light}")
        for light in ("green", "orange", "red")
    ]
    assert len(set(shapes)) == 3


@pytest.mark.parametrize("width", [400, 320])
def test_a_narrow_screen_scrolls_in_one_direction_only(page: Shown, driver: Chrome, width: int) -> None:
    metrics = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": True}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    page.open("LGA_7")
    page.open("EWR_7")
    page.unfold()
    for view in ("runs", "failures", "graph", "timeline"):
        page.view(view)
        assert page.js("document.documentElement.scrollWidth") == width, view
    page.view("runs")
    page.light("red")
    assert set(page.names) == {"LGA_7", "LGA_11"}


def test_the_keyboard_is_enough(page: Shown, driver: Chrome) -> None:
    from selenium.webdriver import ActionChains, Keys

    def press(*keys: str) -> None:
        ActionChains(driver).send_keys(*keys).perform()

    def tab_to(what: Callable[[Any], bool]) -> None:
        for _ in range(60):
            press(Keys.TAB)
            if what(page.focused):
                return
        pytest.fail("not reached by the tab key")

    tab_to(lambda element: element.get_attribute("data-light") == "red")
    outline = page.js("getComputedStyle(document.activeElement).outlineStyle")
    assert outline != "none"
    press(Keys.SPACE)
    assert set(page.names) == {"LGA_7", "LGA_11"}
    assert page.focused.get_attribute("data-light") == "red"
    tab_to(lambda element: element.get_attribute("data-sort") == "name")
    press(Keys.ENTER)
    assert page.names == ["LGA_7", "LGA_11"]
    assert page.focused.get_attribute("data-sort") == "name"
    tab_to(lambda element: element.get_attribute("data-path") == "city/LGA_11")
    press(Keys.ENTER)
    assert page.focused.get_attribute("aria-expanded") == "true"
    assert "negative flow: -11" in page.one(".details").text
    press(Keys.ENTER)
    assert page.all(".details") == []


def test_it_prints_without_what_nobody_can_press(page: Shown, driver: Chrome) -> None:
    page.open("LGA_7")
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    assert page.all(".tabs, .filters, .copy, .more, .squares") == []
    assert "negative flow: -7" in page.text
    assert {"LGA_7", "prepare"} <= set(page.names)
    pdf = driver.execute_cdp_cmd("Page.printToPDF", {})["data"]
    assert len(pdf) > 10_000


def test_a_page_of_a_conductor_has_the_same_rows(project: Project, show: Callable[..., Shown]) -> None:
    from pytest_ductaflow import generate_status_report

    file = project.root / "runs/of_a_conductor.html"
    results = [{"scenario": "LGA_7", "status": "failed"}, {"scenario": "prepare", "status": "success"}]
    file.write_text(generate_status_report(results, project.root / "runs"), "utf-8")
    page = show(file)
    assert page.lights == {"LGA_7": "red", "prepare": "green"}
    assert "written" in page.condition
    page.open("LGA_7")
    assert os.path.exists(unquote(urlsplit(page.one(".links a").get_attribute("href")).path))
