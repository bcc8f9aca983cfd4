"""What the status page costs the session, its size, and how fast a browser shows it.

    python -m benchmarks.status_page            # prints
    python -m benchmarks.status_page --write    # also writes benchmarks/STATUS_PAGE.md

The runs are made up on disk: records, logs and notebooks' names as a sweep leaves them. The browser's part
needs Selenium, Chromium and its driver; without them it is left out.
"""

from __future__ import annotations

import argparse
import functools
import random
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

from benchmarks import competitors
from benchmarks.freshness import Result, _medians, _project, _run, as_table
from pytest_ductaflow.live import PAGE, Live
from pytest_ductaflow.record import Record, write_record
from pytest_ductaflow.report import generate_status_report
from pytest_ductaflow.report.rows import Place
from pytest_ductaflow.report.sweep import Expected, Sweep

_RESULTS: Final = Path(__file__).with_name("STATUS_PAGE.md")
_FLOW: Final = "flows/assign.py"
_STARTED: Final = 1_750_000_000
#: Seconds between two instances that end: two workers that need 40 ms each.
_PACE: Final = 0.02
#: So many end while the controller is measured.
_ENDING: Final = 800


def main(arguments: Sequence[str]) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.status_page")
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args(arguments)
    directory = Path(tempfile.mkdtemp(prefix="benchmark-"))
    try:
        results = [
            *_sizes(directory),
            *_controller(directory, options.rounds),
            *_browser(directory / "large" / "runs" / PAGE, options.rounds),
            *_pytest_html(directory / "html", options.rounds),
        ]
    finally:
        shutil.rmtree(directory)
    text = as_table("Status page", "`python -m benchmarks.status_page`", results)
    print(text)
    if options.write:
        _RESULTS.write_text(text, encoding="utf-8")
    return 0


def _sizes(directory: Path) -> list[Result]:
    results = []
    for name, instances, flows, limit in (("small", 100, 4, 1.0), ("large", 10_000, 0, 10.0)):
        runs = directory / name / "runs"
        _sweep(runs, instances, flows)
        started = time.perf_counter()
        page = generate_status_report(model_root=runs).encode()
        took = time.perf_counter() - started
        (runs / PAGE).write_bytes(page)
        what = f"page of {instances:,} instances" + (f" with {flows} flows each" if flows else "")
        size = len(page) / 1e6
        results += [
            Result(what, f"{size:.2f} MB", f"≤ {limit:g} MB", size <= limit),
            Result(f"{what}: made of all records", f"{took:.2f} s"),
        ]
    return results


def _controller(directory: Path, rounds: int) -> list[Result]:
    """CPU time of the controlling process while instances end, the page being written all the time."""
    costs: dict[str, list[float]] = {"few": [], "large": []}
    _sweep(directory / "few" / "runs", 100, 0)
    for _ in range(rounds):
        for name, found in costs.items():
            found.append(_cost_of_an_instance(directory / name))
    few, many = (statistics.median(found) * 1000 for found in costs.values())
    return [
        Result("controller, per ended instance, 100 instances", f"{few:.2f} ms"),
        Result("controller, per ended instance, 10,000 instances", f"{many:.2f} ms", "≤ 5 ms", many <= 5),
        Result("10,000 instances against 100", f"{many / few:.2f} ×", "≤ 2 ×", many <= 2 * few),
    ]


def _cost_of_an_instance(root: Path) -> float:
    """Seconds of CPU time. Waiting costs nothing, so what is measured is hooks, reading and writing."""
    names = sorted(path.name for path in (root / "runs" / "step").iterdir())
    config: Any = SimpleNamespace(rootpath=root, getoption=lambda *_: None)
    live = Live(config, "session")
    live.sweep = Sweep(Place(root, root / "runs"), live._session)
    live._workers = {"gw0": None, "gw1": None}
    live.sweep.expect(Expected(name, f"step/{name}", name, _FLOW, "flow") for name in names)
    report: Any = SimpleNamespace(when="call", passed=True, skipped=False, user_properties=[])
    report.worker_id, report.duration = "gw0", _PACE
    ending = (names * _ENDING)[-_ENDING:]
    for name in names[: -len(ending)]:  # most have ended before
        live.sweep.end(name, worker="gw0", fresh=False)
    live._write(finished=False)
    live._thread.start()
    before = time.process_time()
    for name in ending:
        live.pytest_runtest_logstart(name)
        time.sleep(_PACE)
        report.nodeid = name
        live.pytest_runtest_logreport(report)
    live.sweep.counts()  # reads those that ended since the last page
    cost = (time.process_time() - before) / len(ending)
    live._over.set()
    live._thread.join()
    return cost


def _browser(page: Path, rounds: int) -> list[Result]:
    try:
        from selenium import webdriver
    except ImportError:
        return []
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        return []
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in ("--headless=new", "--no-sandbox", "--window-size=1280,900"):
        options.add_argument(argument)
    paints, filters = [], []
    for _ in range(rounds):
        browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
        try:
            browser.get(page.as_uri())
            time.sleep(1)
            paints.append(browser.execute_script(_PAINT))
            filters.append(browser.execute_async_script(_FILTER))
        finally:
            browser.quit()
    paint, filtered = statistics.median(paints), statistics.median(filters)
    return [
        Result("10,000 instances in Chromium: first paint", f"{paint:.0f} ms", "≤ 2 s", paint <= 2000),
        Result("10,000 instances: filter by light", f"{filtered:.0f} ms", "≤ 300 ms", filtered <= 300),
    ]


def _pytest_html(directory: Path, rounds: int) -> list[Result]:
    """How much longer a session of 1,000 takes with pytest-html's report: instances, and plain tests."""
    directory.mkdir()
    scenarios = {"flow": "flows/job.py", "scenarios": {"x": list(range(1000))}}
    _project(directory, _PRINTS, {"job": scenarios})
    (directory / "test_plain.py").write_text(_PLAIN)
    commands = {
        "instances": [*competitors.PYTEST, *competitors.others("ductaflow"), "instances"],
        "tests": [*competitors.PYTEST, *competitors.others(), "test_plain.py"],
    }
    report = ["--html=report.html", "--self-contained-html"]
    measured: dict[str, Callable[[], float]] = {}
    for name, command in commands.items():
        measured[name] = functools.partial(_run, command, directory)
        measured[f"{name}, reported"] = functools.partial(_run, [*command, *report], directory)
    took = _medians(measured, rounds)
    factors = {name: took[f"{name}, reported"] / took[name] for name in commands}
    ratio = factors["instances"] / factors["tests"]
    absolute = took["instances, reported"] - took["instances"]
    return [
        Result("pytest-html: 1,000 instances, up to date, with its report", f"{factors['instances']:.2f} ×"),
        Result("the same in seconds", f"+{absolute:.2f} s"),
        Result("pytest-html: 1,000 plain tests without the plugin", f"{factors['tests']:.2f} ×"),
        Result("instances against plain tests", f"{ratio:.2f} ×", "≤ 1.3 ×", ratio <= 1.3),
    ]


_PRINTS: Final = """
# %% tags=["parameters"]
config = {}

# %%
for number in range(20):
    print("a line of output", number, config["x"])
"""
_PLAIN: Final = """
import pytest

@pytest.mark.parametrize("x", range(1000))
def test_prints(x):
    for number in range(20):
        print("a line of output", number, x)
"""
_PAINT: Final = """
const paint = performance.getEntriesByName("first-contentful-paint")[0];
return paint ? paint.startTime : performance.timing.loadEventEnd - performance.timing.navigationStart;
"""
_FILTER: Final = """
const done = arguments[0], started = performance.now();
document.querySelector("button[data-light=red]").click();
requestAnimationFrame(() => setTimeout(() => done(performance.now() - started), 0));
"""


# --- made-up runs ---


def _sweep(runs: Path, instances: int, flows: int) -> None:
    chance = random.Random(1)
    (runs.parent / _FLOW).parent.mkdir(parents=True)
    (runs.parent / _FLOW).write_text("# %%\n" + "x = 1\n" * 100)
    for number in range(instances):
        directory = runs / "step" / f"s{number:05}"
        nested = [f"runs/f{flow}" for flow in range(flows)]
        _made_up(directory, number, chance, nested)
        for name in nested:
            _made_up(directory / name, number, chance)


def _made_up(directory: Path, number: int, chance: random.Random, nested: Sequence[str] = ()) -> None:
    directory.mkdir(parents=True)
    status = chance.choices(["success", "warning", "error"], [80, 12, 8])[0]
    scenario = {
        "origin": ["JFK", "LGA", "EWR"][number % 3],
        "month": number % 12 + 1,
        "variant": f"v{number % 50}",
    }
    record = Record(
        kind="build" if nested else "flow",
        flow=_FLOW,
        instance=directory.name,
        status=status,
        started=_time(number),
        ended=_time(number + 2),
        duration=round(3 * chance.random(), 3),
        node_id=f"instances/step.json::{directory.name}",
        session="earlier",
        cells={"total": 6, "done": 6, "current": 5},
        timings=[{"line": line, "seconds": 0.1} for line in (1, 10, 20, 30, 40)],
        config={**scenario, "threshold": 30.0, "flights": "runs/prepare/x/flights.csv"},
        scenario=scenario,
        runs=list(nested),
        measures={"mean_delay": {"value": 40 * chance.random(), "unit": "min"}},
    )
    if status != "success":
        record.warnings = [{"line": 3, "cell": 2, "text": f"⚠️ few flights: {number}"}]
    if status == "error":
        place = {"file": _FLOW, "line": 88}
        frames = [{**place, "function": "<module>"}]
        trace = "Traceback (most recent call last):\n" + "  File x, line 1, in f\n" * 30
        record.error = {"type": "ValueError", "message": f"negative flow: -{number}", **place}
        record.error |= {"frames": frames, "traceback": trace, "cell": 3}
    write_record(directory, record, durable=False)
    for name in ("assign.ipynb", "assign_config.json"):
        (directory / name).write_text("{}")
    lines = (f"step {step}: a line that the flow prints\n" for step in range(25))
    (directory / "assign_execution_output.txt").write_text("".join(lines))


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(_STARTED + seconds, timezone.utc).isoformat(timespec="milliseconds")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
