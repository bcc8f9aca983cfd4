"""What it costs to know that nothing has to run, and to run in the right order.

    python -m benchmarks.freshness                    # prints medians and ratios
    python -m benchmarks.freshness --tools DIR/bin    # also snakemake, pytask and dvc, where they are
    python -m benchmarks.freshness --write            # also writes benchmarks/FRESHNESS.md

The competitors get an equal project: a thousand jobs, each with its own config file and one output, all done.
"""

from __future__ import annotations

import argparse
import json
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from benchmarks import competitors
from benchmarks.projects import create
from pytest_ductaflow import execution, freshness
from pytest_ductaflow.engines import driver, preload, warm
from pytest_ductaflow.execution import Request

_RESULTS: Final = Path(__file__).with_name("FRESHNESS.md")
_PYTEST: Final = (*competitors.PYTEST, *competitors.others("ductaflow"))

_JOB: Final = """
# %% tags=["parameters"]
config = {}

# %%
import json
with open("out.json", "w") as file:
    json.dump({"x": config["x"]}, file)
"""
_SLEEPER: Final = """
# %% tags=["parameters"]
config = {}

# %%
import pathlib, time
time.sleep(config["seconds"])
pathlib.Path("out.txt").write_text("done")
"""
_SNAKEFILE: Final = """
rule all:
    input: expand("out/{x}.json", x=range(%(jobs)d))

rule job:
    input: "configs/{x}.json"
    output: "out/{x}.json"
    shell: "cp {input} {output}"
"""
_PYTASK: Final = """
from pathlib import Path
from typing import Annotated
from pytask import Product, task

for x in range(%(jobs)d):
    @task(id=str(x))
    def task_job(
        source: Path = Path(f"configs/{x}.json"), made: Annotated[Path, Product] = Path(f"out/{x}.json")
    ):
        made.write_bytes(source.read_bytes())
"""
_DVC: Final = """
stages:
  job:
    foreach: [%(list)s]
    do:
      cmd: cp configs/${item}.json out/${item}.json
      deps:
        - configs/${item}.json
      outs:
        - out/${item}.json
"""


@dataclass(frozen=True)
class Result:
    """A measured value and what it was to reach."""

    what: str
    value: str
    target: str = "—"
    reached: bool | None = None


def main(arguments: Sequence[str]) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.freshness")
    parser.add_argument("--jobs", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tools", type=Path, help="directory with snakemake, pytask and dvc")
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args(arguments)
    directory = Path(tempfile.mkdtemp(prefix="benchmark-"))
    try:
        results = [
            *_fresh(directory / "fresh", options.jobs, options.rounds, options.tools),
            *_one_check(directory / "check"),
            *_recording(directory / "recording", options.rounds),
            *_fan_out(directory / "fan", options.rounds),
        ]
    finally:
        shutil.rmtree(directory)
    how = f"`python -m benchmarks.freshness`: {options.jobs:,} jobs, medians of {options.rounds} rounds"
    text = as_table("Freshness and order", how, results)
    print(text)
    if options.write:
        _RESULTS.write_text(text, encoding="utf-8")
    return 0


def _fresh(root: Path, jobs: int, rounds: int, tools: Path | None) -> list[Result]:
    mine = root / "ductaflow"
    _project(mine, _JOB, {"job": {"flow": "flows/job.py", "scenarios": {"x": list(range(jobs))}}})
    _run([*_PYTEST, "instances"], mine)
    commands: dict[str, tuple[list[str], Path]] = {
        "pytest instances/, all up to date": ([*_PYTEST, "instances"], mine),
        "pytest --collect-only": ([*_PYTEST, "--collect-only", "instances"], mine),
    }
    if tools is not None:
        for name, prepare in {"snakemake -n": _snakemake, "pytask": _pytask, "dvc status": _dvc}.items():
            tool = tools / name.split()[0]
            if tool.exists():
                place = root / tool.name
                _configs(place, jobs)
                commands[name] = (prepare(str(tool), place, jobs), place)
    medians = _medians({name: lambda c=command: _run(*c) for name, command in commands.items()}, rounds)
    own, collect, *others = medians.items()
    return [
        *(Result(name, f"{seconds:.2f} s") for name, seconds in medians.items()),
        Result("against --collect-only", f"{own[1] / collect[1]:.2f} ×", "≤ 3 ×", own[1] <= 3 * collect[1]),
        *(
            Result(f"faster than {name}", f"{seconds / own[1]:.1f} ×", "> 1 ×", seconds > own[1])
            for name, seconds in others
        ),
    ]


def _one_check(root: Path) -> list[Result]:
    (root / "data").mkdir(parents=True)
    for number in range(20):
        (root / "data" / f"{number}.bin").write_bytes(bytes([number]) * 1_000_000)
    code = _JOB + "for name in config['files']:\n    open(name, 'rb').read()\n"
    _project(root, code, {})
    config = {"x": 1, "files": [str(root / "data" / f"{number}.bin") for number in range(20)]}
    request = _request(root, config, "one")
    execution.execute(request)
    time.sleep(0.1)  # the inputs are no longer just modified
    assert execution.up_to_date(request)[0] is not None
    seconds = []
    for _ in range(50):
        started = time.perf_counter()
        assert execution.up_to_date(request)[0] is not None
        seconds.append(time.perf_counter() - started)
    median = statistics.median(seconds)
    text = "one check, 20 inputs of 1 MB, stats unchanged"
    return [Result(text, f"{median * 1000:.2f} ms", "≤ 2 ms", median <= 0.002)]


def _recording(root: Path, rounds: int, runs: int = 60) -> list[Result]:
    """The pandas flow with and without what recording adds to it, in one process."""
    project = create(root, "table", 1)
    flow, config = project.flow_file, project.configs["0001"]
    warm.current().preload(preload.modules_of([flow]), root)
    untraced, fingerprint, snapshot = driver.child_context, freshness.fingerprint, freshness.Snapshot

    def execute() -> float:
        started = time.perf_counter()
        for number in range(runs):
            request = replace(_request(root, config, str(number)), flow=flow)
            assert execution.execute(request).status == "success"
        return time.perf_counter() - started

    def without() -> float:
        driver.child_context = lambda *a, **place: untraced(*a, **{**place, "trace": None})
        freshness.fingerprint = lambda *_: None
        freshness.Snapshot = lambda *_: None  # type: ignore[misc, assignment]
        try:
            return execute()
        finally:
            driver.child_context, freshness.fingerprint = untraced, fingerprint
            freshness.Snapshot = snapshot  # type: ignore[misc]

    execute()
    medians = _medians({"with": execute, "without": without}, rounds)
    warm.release()
    more = medians["with"] / medians["without"] - 1
    text = "recording (trace, digests), more for a run of the pandas flow"
    return [Result(text, f"{more:+.1%} of {medians['without'] / runs * 1000:.1f} ms", "≤ 10 %", more <= 0.1)]


def _fan_out(root: Path, rounds: int) -> list[Result]:
    fan = {"seconds": 0.2, "input": "runs/sleep/first/out.txt"}
    scenarios = {"x": list(range(50))}
    instances = {
        "first": {"flow": "flows/sleep.py", "config": {"seconds": 0.2}},
        "fan": {"flow": "flows/sleep.py", "config": fan, "scenarios": scenarios},
    }
    _project(root, _SLEEPER, instances, name="sleep")

    def run(*arguments: str) -> float:
        shutil.rmtree(root / "runs", ignore_errors=True)
        return _run([*_PYTEST, *arguments, "instances"], root)

    medians = _medians({"serial": run, "-n 2": lambda: run("-n", "2")}, max(2, rounds - 2))
    ratio = medians["serial"] / medians["-n 2"]
    return [
        *(Result(f"1 → 50 of 200 ms each, {name}", f"{value:.1f} s") for name, value in medians.items()),
        Result("-n 2 against serial", f"{ratio:.2f} ×", "≥ 1.8 ×", ratio >= 1.8),
    ]


# --- projects --------------------------------------------------------------------------------------


def _project(root: Path, code: str, instances: dict[str, Any], name: str = "job") -> None:
    for folder in ("flows", "instances"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    (root / "flows" / f"{name}.py").write_text(code)
    for file, content in instances.items():
        (root / "instances" / f"{file}.json").write_text(json.dumps(content))
    (root / "pytest.ini").write_text("[pytest]\n")


def _request(root: Path, config: dict[str, Any], name: str) -> Request:
    return Request("flow", root / "flows/job.py", name, root / "runs/job" / name, config, root)


def _configs(root: Path, jobs: int) -> None:
    for folder in ("configs", "out"):
        (root / folder).mkdir(parents=True)
    for x in range(jobs):
        (root / "configs" / f"{x}.json").write_text(json.dumps({"x": x}))


def _snakemake(tool: str, root: Path, jobs: int) -> list[str]:
    (root / "Snakefile").write_text(_SNAKEFILE % {"jobs": jobs})
    _run([tool, "-c", "2", "--quiet"], root)
    return [tool, "-n", "--quiet"]


def _pytask(tool: str, root: Path, jobs: int) -> list[str]:
    (root / "task_jobs.py").write_text(_PYTASK % {"jobs": jobs})
    _run([tool, "build"], root)
    return [tool, "build"]


def _dvc(tool: str, root: Path, jobs: int) -> list[str]:
    _run([tool, "init", "--no-scm", "-q"], root)
    _run([tool, "config", "core.analytics", "false"], root)
    (root / "dvc.yaml").write_text(_DVC % {"list": ", ".join(map(str, range(jobs)))})
    for x in range(jobs):
        shutil.copy(root / f"configs/{x}.json", root / f"out/{x}.json")
    _run([tool, "commit", "-f", "-q"], root)
    return [tool, "status"]


# --- measuring --------------------------------------------------------------------------------------


def _run(command: list[str], directory: Path) -> float:
    started = time.perf_counter()
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True)
    seconds = time.perf_counter() - started
    if done.returncode:
        raise SystemExit(
            f"{' '.join(command)}: {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
        )
    return seconds


def _medians(measured: dict[str, Callable[[], float]], rounds: int) -> dict[str, float]:
    """Interleaved, after one round to warm up."""
    samples: dict[str, list[float]] = {name: [] for name in measured}
    for _ in range(rounds + 1):
        for name, measure in measured.items():
            samples[name].append(measure())
    return {name: statistics.median(values[1:]) for name, values in samples.items()}


def as_table(title: str, how: str, results: Sequence[Result]) -> str:
    """Results in Markdown."""
    lines = [
        f"# {title}: results",
        "",
        f"{how}, Python {platform.python_version()}, {platform.system()}.",
        "",
        "| what | value | target | reached |",
        "| --- | --- | --- | --- |",
    ]
    words = {None: "", True: "yes", False: "**no**"}
    lines += [f"| {r.what} | {r.value} | {r.target} | {words[r.reached]} |" for r in results]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
