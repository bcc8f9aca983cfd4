"""Ctrl-C and sudden death: nothing is left running, and the record says what happened."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from pytest_ductaflow import engines
from pytest_ductaflow.engines import launcher
from pytest_ductaflow.record import read_record

if TYPE_CHECKING:
    from tests.conftest import Project

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals to process groups")

#: Starts a child, and a daemon that holds all that the run has open.
SLEEPER = """
import os, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        with open("daemon.pid", "w") as file:
            os.chdir("/")
            file.write(str(os.getpid()))
        time.sleep(600)
    os._exit(0)
os.wait()
while not (os.path.exists("daemon.pid") and os.path.getsize("daemon.pid")):
    time.sleep(0.01)
print("sleeping", flush=True)
time.sleep(600)
"""


def wait_until(condition: Callable[[], bool], seconds: float) -> float | None:
    """The seconds until a condition holds, or ``None`` if it does not in time."""
    started = time.monotonic()
    while not condition():
        if time.monotonic() - started > seconds:
            return None
        time.sleep(0.02)  # between two looks
    return time.monotonic() - started


def processes_in(directory: Path) -> list[psutil.Process]:
    """The living processes other than this one that work in a directory."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid == os.getpid() or process.status() == psutil.STATUS_ZOMBIE:
                continue
            if Path(process.cwd()).is_relative_to(directory):
                found.append(process)
        except psutil.Error:
            continue
    return found


@pytest.fixture(autouse=True)
def _heed_interrupts() -> Iterator[None]:
    """What a background job starts ignores Ctrl-C unless told otherwise."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


class Sleeping:
    """A pytest whose only instance sleeps."""

    def __init__(self, project: Project, *arguments: str) -> None:
        project.flow("sleeper", SLEEPER)
        project.instance("sleeper")
        self.project = project
        self.directory = project.root / "runs/sleeper/sleeper"
        self.output = self.directory / "sleeper_execution_output.txt"
        self.printed = project.root / "printed.txt"
        self.temporary = project.root / "tmp"
        self.temporary.mkdir()
        with open(self.printed, "wb") as printed:
            self.pytest = subprocess.Popen(
                [sys.executable, "-m", "pytest", "-p", "no:hypothesispytest", "instances", *arguments],
                cwd=project.root,
                env={**project.environment(), "TMPDIR": str(self.temporary)},
                stdout=printed,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        running = wait_until(self.is_running, 60)
        assert running is not None, self.printed.read_text()
        self.daemon = psutil.Process(int((self.directory / "daemon.pid").read_text()))
        assert len(processes_in(self.directory)) == 2  # the kernel and its child

    def is_running(self) -> bool:
        assert self.pytest.poll() is None, self.printed.read_text()
        if not self.output.exists() or "sleeping" not in self.output.read_text():
            return False
        return self.project.record("sleeper/sleeper")["status"] == "running"

    def nothing_left(self) -> bool:
        """No process in the project, the warm one included, no daemon, and none of our temporary files."""
        daemon = launcher.available() and self.daemon.is_running()
        files = list(self.temporary.glob("ductaflow-*"))
        return not daemon and not processes_in(self.project.root) and not files

    def end(self) -> None:
        """Leave nothing behind, also if a test failed."""
        for process in (*processes_in(self.project.root), self.daemon):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        if self.pytest.poll() is None:
            self.pytest.kill()
        self.pytest.wait(10)


@pytest.fixture
def start(project: Project) -> Iterator[Callable[..., Sleeping]]:
    started: list[Sleeping] = []

    def start(*arguments: str) -> Sleeping:
        started.append(Sleeping(project, *arguments))
        return started[0]

    yield start
    for sleeping in started:
        sleeping.end()


@pytest.mark.parametrize("engine", engines.available())
def test_ctrl_c_stops_at_once_and_leaves_nothing(start: Callable[..., Sleeping], engine: str) -> None:
    sleeping = start("--ductaflow-engine", engine)
    os.killpg(sleeping.pytest.pid, signal.SIGINT)
    assert sleeping.pytest.wait(15) == pytest.ExitCode.INTERRUPTED
    assert processes_in(sleeping.directory) == []
    assert wait_until(sleeping.nothing_left, 15) is not None
    record = sleeping.project.record("sleeper/sleeper")
    assert (record["status"], record["error"]["type"]) == ("interrupted", "KeyboardInterrupt")
    assert "KeyboardInterrupt" in sleeping.printed.read_text()


def test_ctrl_c_stops_xdists_workers_too(start: Callable[..., Sleeping]) -> None:
    sleeping = start("-n", "2")
    os.killpg(sleeping.pytest.pid, signal.SIGINT)
    assert sleeping.pytest.wait(15) == pytest.ExitCode.INTERRUPTED
    assert wait_until(sleeping.nothing_left, 15) is not None
    assert read_record(sleeping.directory).status == "interrupted"


@pytest.mark.parametrize("engine", engines.available())
@pytest.mark.parametrize("parallel", [(), ("-n", "2")], ids=["serial", "xdist"])
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_pytest_leaves_nothing(
    start: Callable[..., Sleeping], parallel: tuple[str, ...], engine: str, how: signal.Signals
) -> None:
    sleeping = start(*parallel, "--ductaflow-engine", engine)
    sleeping.pytest.send_signal(how)
    sleeping.pytest.wait(15)
    assert wait_until(sleeping.nothing_left, 15) is not None
    assert read_record(sleeping.directory).status == "interrupted"


def test_a_killed_kernel_is_red_and_the_next_instance_runs(project: Project) -> None:
    project.flow(
        "dies", "import os, signal\nprint('last words', flush=True)\nos.kill(os.getpid(), signal.SIGKILL)"
    )
    project.flow("next", "print('alive')")
    project.instance("dies")
    project.instance("next")
    result = project.run("instances")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(
        [
            "E   DeadKernel: the kernel died of SIGKILL, in the cell*",
            "last words",
            "FAILED*flows/dies.py:5: DeadKernel: *",
        ]
    )
    assert project.record("dies/dies")["status"] == "error"
