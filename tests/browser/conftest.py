"""The status page in a real Chromium: the installed one; nothing is ever downloaded.

Whatever a test does with a page, at its end no script failed, the page's policy refused nothing, and
nothing was asked of any network: the fixture ``show`` sees to that.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from selenium.webdriver import Chrome
    from selenium.webdriver.remote.webelement import WebElement

    from tests.conftest import Project

#: "required": no Chromium is a failure. Else these tests are skipped without one.
_VARIABLE = "DUCTAFLOW_BROWSER"
#: Seconds to wait for what the page is going to show.
PATIENCE = 30
WIDTH, HEIGHT = 1280, 900
#: The version of axe-core, which looks for what keeps people from using a page.
_AXE = "4.14.1"
_ARGUMENTS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--no-first-run",
    f"--window-size={WIDTH},{HEIGHT}",
)
#: No network; ``about:`` is an empty page, ``chrome:`` the browser's own first one.
_LOCAL = ("file:", "data:", "about:", "chrome:", "chrome-untrusted:")


def _missing() -> str:
    try:
        import selenium  # noqa: F401  whether it is there
    except ImportError:
        return "selenium is not installed (dependency group browser)"
    absent = [name for name in ("chromium", "chromedriver") if shutil.which(name) is None]
    return f"not found: {', '.join(absent)} (Debian: chromium, chromium-driver)" if absent else ""


@pytest.fixture(scope="session")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    """The browser, one for all tests."""
    reason = _missing()
    if reason and os.environ.get(_VARIABLE) == "required":
        pytest.fail(f"{_VARIABLE}=required, but {reason}")
    if reason:
        pytest.skip(reason)
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = str(shutil.which("chromium"))
    for argument in (*_ARGUMENTS, f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    service = webdriver.ChromeService(shutil.which("chromedriver"))
    with webdriver.Chrome(options=options, service=service) as browser:
        yield browser


@pytest.fixture(scope="session")
def axe(pytestconfig: pytest.Config) -> str:
    """The script of axe-core, from npm, kept in pytest's cache."""
    folder = pytestconfig.cache.mkdir(f"axe-core-{_AXE}")
    script = folder / "node_modules/axe-core/axe.min.js"
    if not script.exists():
        command = ["npm", "install", "--no-save", "--ignore-scripts", "--no-audit", "--no-fund"]
        try:
            subprocess.run([*command, "--prefix", folder, f"axe-core@{_AXE}"], check=True, timeout=300)
        except (OSError, subprocess.SubprocessError) as problem:
            if os.environ.get(_VARIABLE) == "required":
                raise
            pytest.skip(f"axe-core cannot be installed: {problem}")
    return script.read_text("utf-8")


class Shown:
    """The page as it is shown, and ways to use it that a user has."""

    def __init__(self, driver: Chrome) -> None:
        self.driver = driver

    # --- looking ---

    def js(self, script: str, *arguments: Any) -> Any:
        """What a script gives that looks at the page."""
        return self.driver.execute_script(f"return {script}", *arguments)

    def one(self, selector: str, text: str = "") -> WebElement:
        """The first element that is displayed, of those that say this text."""
        return self.until(lambda: next(iter(self.all(selector, text)), None), f"{selector} {text}".strip())

    def all(self, selector: str, text: str = "") -> list[WebElement]:
        from selenium.common import StaleElementReferenceException

        found = []
        for element in self.driver.find_elements("css selector", selector):
            with contextlib.suppress(StaleElementReferenceException):  # the page goes on meanwhile
                if element.is_displayed() and text in element.text:
                    found.append(element)
        return found

    @property
    def text(self) -> str:
        """All that is to be read on the page."""
        return str(self.js("document.body.innerText"))

    @property
    def condition(self) -> str:
        """How the session stands."""
        return str(self.js("document.querySelector('.condition').innerText"))

    @property
    def names(self) -> list[str]:
        """Of the table's rows, from above."""
        return list(self.js("[...document.querySelectorAll('tr.row .name')].map((name) => name.innerText)"))

    def column(self, title: str) -> list[str]:
        """What a column of the table says, from above."""
        cells = "[...document.querySelectorAll('tr.row td')].filter((cell) => cell.dataset.title === arguments[0])"
        return [text.strip() for text in self.js(f"{cells}.map((cell) => cell.innerText)", title)]

    @property
    def lights(self) -> dict[str, str]:
        """Row to light, without its symbol. Read at once: the page may change between two looks."""
        light = "[...row.cells].find((cell) => cell.dataset.title === 'Light').innerText"
        row = f"(row) => [row.querySelector('.name').innerText, {light}]"
        found = self.js(f"[...document.querySelectorAll('tr.row')].map({row})")
        return {name: re.sub(r"[^a-z ]", "", light).strip() for name, light in found}

    @property
    def fragment(self) -> str:
        return str(self.js("location.hash"))

    @property
    def focused(self) -> WebElement:
        return self.driver.switch_to.active_element

    def violations(self, axe: str) -> list[str]:
        """What axe-core finds wrong: its rule and the element, also by rules that are still new."""
        self.driver.execute_script(axe)
        rules = '{rules: {"label-content-name-mismatch": {enabled: true}}, resultTypes: ["violations"]}'
        found = self.driver.execute_async_script(
            f"const done = arguments[arguments.length - 1]; axe.run(document, {rules}).then(done, (e) => done(String(e)))"
        )
        assert found["passes"], found  # it has looked
        return [f"{one['id']}: {node['html']}" for one in found["violations"] for node in one["nodes"]]

    # --- doing ---

    def sort(self, title: str) -> None:
        self.one("thead button", title).click()

    def choose(self, label: str, value: str) -> None:
        """An option of a filter."""
        from selenium.webdriver.support.select import Select

        Select(self.one(f'select[aria-label="{label}"]')).select_by_value(value)

    def set(self, key: str, value: str) -> None:
        """An option of a view."""
        from selenium.webdriver.support.select import Select

        Select(self.one(f'select[data-set="{key}"]')).select_by_value(value)

    def light(self, name: str) -> None:
        """Press a light of the header."""
        self.one(f'.chip[data-light="{name}"]').click()

    def search(self, text: str) -> None:
        field = self.one('input[type="search"]')
        field.clear()
        self.one('input[type="search"]').send_keys(text)

    def view(self, name: str) -> None:
        self.one(f'nav button[data-view="{name}"]').click()

    def opener(self, name: str) -> WebElement:
        """The button of a row."""
        return self.one(f'.opener[aria-label*=" {name}: "]')

    def open(self, name: str) -> WebElement:
        """Open a row; what it opens to."""
        if self.opener(name).get_attribute("aria-expanded") == "false":
            self.opener(name).click()
        path = self.opener(name).get_attribute("data-path")
        return self.one(f'tr[id="row-{path}"] + tr.opened .details')

    def unfold(self) -> None:
        """Everything in the opened rows, however deep."""
        closed = "[...document.querySelectorAll('details:not([open])')]"
        while self.js(f"{closed}.map((element) => (element.open = true)).length"):
            self.until(
                lambda: not self.js("document.querySelector('.nested > details > summary:only-child')"),
                "runs",
            )

    # --- waiting ---

    def until(self, condition: Callable[[], Any], what: str, patience: float = PATIENCE) -> Any:
        """Wait until something is so.

        :param what: said if it does not come.
        """
        from selenium.common import StaleElementReferenceException
        from selenium.webdriver.support.wait import WebDriverWait

        wait = WebDriverWait(
            self.driver, patience, poll_frequency=0.1, ignored_exceptions=[StaleElementReferenceException]
        )
        return wait.until(lambda _: condition(), f"{what}; the page says: {self.condition}")

    def until_it_says(self, text: str, patience: float = PATIENCE) -> None:
        self.until(lambda: text in self.text, f"no {text!r}", patience)


@pytest.fixture
def show(driver: Chrome) -> Iterator[Callable[..., Shown]]:
    """Open a page, as a double click on the file does."""
    from selenium.webdriver.support.wait import WebDriverWait

    first = driver.current_window_handle
    driver.get_log("browser")
    driver.get_log("performance")

    def show(page: Path, fragment: str = "") -> Shown:
        driver.get("about:blank")  # another fragment alone would not load the file
        driver.get(page.as_uri() + fragment)
        WebDriverWait(driver, PATIENCE).until(
            lambda _: driver.execute_script("return !!document.querySelector('header h1')")
        )
        return Shown(driver)

    yield show
    try:
        assert [entry["message"] for entry in driver.get_log("browser")] == []
        assert [url for url in _requested(driver) if not url.startswith(_LOCAL)] == []
    finally:
        for window in driver.window_handles:
            if window != first:
                driver.switch_to.window(window)
                driver.close()
        driver.switch_to.window(first)
        driver.set_window_size(WIDTH, HEIGHT)
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "", "features": []})
        driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        driver.get("about:blank")  # a page that follows its session takes time from other tests


def _requested(driver: Chrome) -> list[str]:
    """All that was asked for since the last time."""
    messages = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    sent = [message for message in messages if message["method"] == "Network.requestWillBeSent"]
    return [message["params"]["request"]["url"] for message in sent]


class Sweep:
    """A pytest session that runs while the page is looked at."""

    def __init__(self, project: Project, *arguments: str) -> None:
        self.page = project.root / "runs/conductor_status_report.html"
        self._process = subprocess.Popen(
            [sys.executable, "-m", "pytest", "-p", "no:hypothesispytest", "-p", "no:pytest_cov", *arguments],
            cwd=project.root,
            env=project.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            start_new_session=True,
        )

    def wait(self) -> str:
        """Until it is over; what it printed."""
        return self._process.communicate(timeout=120)[0]

    def kill(self) -> None:
        """Without any warning, and all that it started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.communicate(timeout=PATIENCE)


@pytest.fixture
def sweep() -> Iterator[Callable[..., Sweep]]:
    """Start sessions; those that still run at the end are stopped."""
    started: list[Sweep] = []

    def start(project: Project, *arguments: str) -> Sweep:
        started.append(Sweep(project, *arguments))
        return started[-1]

    yield start
    for one in started:
        one.kill()
