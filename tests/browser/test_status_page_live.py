"""The status page while a session runs, and when it did not get to its end."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.conftest import Project

    from .conftest import Shown, Sweep

#: A flow that goes on when the test says so.
GATED = """
import pathlib, time
def pass_gate(name):
    print(f"at the gate {name}", flush=True)
    while not pathlib.Path(config["_project_root"], name).exists():
        time.sleep(0.02)
    print(f"through the gate {name}")

# %%
pass_gate(config["gate"] + "-1")

# %%
pass_gate(config["gate"] + "-2")
pathlib.Path("out.csv").write_text("a")
"""

C30 = "document.getElementById('row-quick/c30')"


class Gated:
    """A project whose runs wait at gates."""

    def __init__(self, project: Project) -> None:
        self.project = project
        project.flow("gated", GATED)

    def open(self, *gates: str) -> None:
        for gate in gates:
            self.project.write(gate, "")


@pytest.fixture
def gated(new_project: Callable[[], Project]) -> Gated:
    return Gated(new_project())


def following(show: Callable[..., Shown], sweep: Sweep, fragment: str = "") -> Shown:
    """Open the page as soon as there is one; mark it, so that loading it again would show."""
    import time

    until = time.monotonic() + 60
    while not sweep.page.exists():
        assert time.monotonic() < until, "no page"
        time.sleep(0.05)
    page = show(sweep.page, fragment)
    page.driver.execute_script("window.neverLoadedAgain = true")
    return page


def test_the_open_page_follows_the_session(
    gated: Gated, show: Callable[..., Shown], sweep: Callable[..., Sweep]
) -> None:
    from selenium.webdriver import Keys

    project = gated.project
    project.instance("a", flow="flows/gated.py", config={"gate": "a"})
    project.build(
        "whole",
        """
import pathlib
root = pathlib.Path(config["_project_root"])
from pytest_ductaflow import run_notebook
run_notebook(root / "flows/quick.py", execution_dir="runs/quick", project_root=root)
run_notebook(root / "flows/gated.py", config=config, execution_dir="runs/gated", project_root=root)
raise ValueError("after all")
""",
    )
    project.flow("quick", "print('Warning: quick')")
    project.instance("b", build="builds/whole.py", config={"gate": "b"})
    uses = {"file": "runs/gated/a/out.csv"}
    project.instance("c", flow="flows/quick.py", config=uses, scenarios={"x": list(range(60))}, name="c{x}")
    session = sweep(project, "-v")

    page = following(show, session, "#sort=name")
    page.until(lambda: page.lights.get("a") == "running", "the first runs")
    assert re.match(r"running for .*: 0 of 62 done", page.condition)
    assert page.lights["b"] == page.lights["c0"] == "waiting"
    page.open("a")
    page.until(lambda: "at the gate a-1" in page.one(".details .progress").text, "the last printed line")
    page.until(lambda: "cell 4 of 5" in page.one(".details .progress").text, "the current cell")
    page.one(".details progress")
    assert "at the gate a-1" in page.column("Duration")[0]
    page.opener("a").click()
    assert "waits for a" in page.open("c0").text
    assert "a free worker" in page.open("b").text
    assert "Config" not in page.one(".details").text, "nothing is known yet"

    page.search("gate")
    page.focused.send_keys(Keys.HOME)
    assert page.lights.keys() == {"a"}  # whose flow's name has the word
    gated.open("a-1", "a-2", "b-1")
    page.until(lambda: page.lights.get("b") == "running", "the flow in the build is found by its name")
    assert page.focused.get_attribute("type") == "search"
    assert page.js("document.activeElement.selectionStart") == 0
    assert page.focused.get_attribute("value") == "gate"
    page.one(".filters button", "clear filters").click()
    page.until(lambda: page.lights["a"] == "green", "the first is done")

    page.until(lambda: "at the gate b-2" in page.js("document.body.textContent"), "the build's flow prints")
    quick = "document.querySelector('[data-fold=\"whole/b/runs/quick\"]')"
    page.js(f"{quick}.click()")
    page.opener("c31").click()
    page.driver.execute_script(f"{C30}.scrollIntoView({{ block: 'center' }})")
    seen = page.js(f"{C30}.getBoundingClientRect().y")
    gated.open("b-2")
    page.until(lambda: page.condition.startswith("finished"), "the end")
    assert page.js("window.neverLoadedAgain")
    assert page.js(f"{C30}.getBoundingClientRect().y") == pytest.approx(seen, abs=3)
    assert page.js(f"{quick}.parentElement.open")
    assert "sort=name" in page.fragment
    assert {
        path for path in ("whole/b", "quick/c0", "quick/c31") if path in page.fragment.replace("%2F", "/")
    } == {
        "whole/b",
        "quick/c0",
        "quick/c31",
    }
    assert page.lights["b"] == "red"
    assert page.lights["c59"] == "orange"
    assert page.js("document.querySelectorAll('iframe').length") == 0
    assert "1 failed" in session.wait()


def test_a_menu_that_is_being_used_is_not_taken_away(
    gated: Gated, show: Callable[..., Shown], sweep: Callable[..., Sweep]
) -> None:
    gated.project.instance(
        "a", flow="flows/gated.py", config={"gate": "a"}, scenarios={"x": [1, 2], "y": [1, 2]}
    )
    session = sweep(gated.project)
    page = following(show, session)
    menu = page.one('select[aria-label="x"]')
    menu.click()
    before = page.condition
    page.until(lambda: page.condition != before, "time goes on")
    assert menu.is_displayed(), "it is still the same element"
    assert page.js("document.activeElement === arguments[0]", menu)
    gated.open("a-1", "a-2")
    session.wait()


def test_a_killed_session_is_told_from_one_that_runs(
    gated: Gated, show: Callable[..., Shown], sweep: Callable[..., Sweep]
) -> None:
    project = gated.project
    for name in ("a", "b"):
        project.instance(name, flow="flows/gated.py", config={"gate": name})
    project.build(
        "whole",
        """
import pathlib
root = pathlib.Path(config["_project_root"])
from pytest_ductaflow import run_notebook
run_notebook(root / "flows/gated.py", config=config, execution_dir="runs/gated", project_root=root)
""",
    )
    project.instance("b", build="builds/whole.py", config={"gate": "b"})
    project.instance("c", flow="flows/gated.py", config={"gate": "b", "file": "runs/whole/b/x.csv"})
    gated.open("a-1", "a-2")
    session = sweep(project)
    page = following(show, session)
    page.until(lambda: "at the gate b-1" in page.js("document.body.textContent"), "the second runs")
    page.open("b")
    page.open("c")
    session.kill()
    page.until(lambda: "session stopped" in page.condition, "nobody says that it stopped", 60)
    assert re.search(
        r"stopped: its last sign of life was \d\d?:\d\d:\d\d.*, after .*\. 1 of 3 were done", page.condition
    )
    assert page.lights == {"b": "red", "c": "not run", "a": "green"}
    assert "Interrupted: the session stopped during the run" in page.text
    assert "free worker" not in page.text
    assert "running" not in page.one("main").text
    assert page.js("window.neverLoadedAgain")

    (again,) = (show(session.page),)
    page.until(lambda: "session stopped" in again.condition, "it also says so when it is opened later")

    gated.open("b-1", "b-2")  # a new session in the same project: the open page follows it
    again.driver.execute_script("window.neverLoadedAgain = true")
    sweep(project, "--ductaflow-force").wait()
    again.until(lambda: again.condition.startswith("finished"), "it follows the next session")
    assert set(again.lights.values()) == {"green"}
    assert again.js("window.neverLoadedAgain")


def test_workers_and_what_failed_first_is_seen_while_others_run(
    gated: Gated, show: Callable[..., Shown], sweep: Callable[..., Sweep]
) -> None:
    project = gated.project
    project.flow("red", "raise ValueError('early')")
    project.instance("a", flow="flows/gated.py", config={"gate": "a"})
    project.instance("red", scenarios={"x": [1, 2, 3]})
    session = sweep(project, "-n", "2")
    page = following(show, session)
    page.until(lambda: list(page.lights.values()).count("red") == 3, "three are red")
    assert page.lights["a"] == "running"
    assert "2 workers" in page.one(".meta").text
    page.view("failures")
    assert "3 of 4" in page.one(".clusters").text
    assert "early" in page.one(".clusters").text
    gated.open("a-1", "a-2")
    page.until(lambda: page.condition.startswith("finished"), "the end")
    assert page.one(".clusters").is_displayed(), "the chosen view stays"
    assert "3 failed, 1 passed" in session.wait()
