"""Measuring: whole processes by the wall clock, rounds that interleave them, and what follows from it."""

from __future__ import annotations

import os
import shlex
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

from benchmarks.competitors import Competitor, WrongResultError
from benchmarks.projects import Project

#: Seconds that one process may take.
_LIMIT: Final = 1_800
#: Seconds until a run must be in its last cell.
_START_LIMIT: Final = 60
_ENVIRONMENT: Final = {
    **{key: value for key, value in os.environ.items() if not key.startswith(("PYTEST_", "COVERAGE_"))},
    "JUPYTER_PREFER_ENV_PATH": "1",  # the kernel of this environment, not the user's own
    "JUPYTER_PLATFORM_DIRS": "1",
}


class Samples(list[float]):
    """What several rounds gave."""

    @property
    def median(self) -> float:
        """The middle one."""
        return statistics.median(self)


def seconds_of(command: Sequence[str], directory: Path) -> float:
    """The wall time of a process from start to end.

    :raises WrongResultError: if it fails.
    """
    with tempfile.TemporaryFile() as errors:
        started = time.perf_counter()
        process = subprocess.Popen(
            command,
            cwd=directory,
            env=_ENVIRONMENT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=errors,
        )
        limit = threading.Timer(_LIMIT, process.kill)
        limit.start()
        try:
            process.wait()  # with a timeout, it would look every 50 ms only
            seconds = time.perf_counter() - started
        finally:
            limit.cancel()
            process.kill()  # if we were interrupted
        if process.returncode != 0:
            errors.seek(0)
            raise _failed(command, directory, process.returncode, errors.read().decode(errors="replace"))
    return seconds


def interleaved(
    rounds: int, measurements: Mapping[str, Callable[[], float]], unit: str = "s"
) -> dict[str, Samples]:
    """Take every measurement once a round, one after the other."""
    samples: dict[str, Samples] = defaultdict(Samples)
    for number in range(1, rounds + 1):
        for name, measure in measurements.items():
            value = measure()
            samples[name].append(value)
            print(f"  round {number}/{rounds}  {name}: {value:.3f} {unit}", file=sys.stderr, flush=True)
    return samples


class Referee:
    """Executes projects, and sees to it that all competitors get the same results from the same project."""

    def __init__(self) -> None:
        self._files: dict[tuple[Path, str], bytes] = {}
        self._printed: dict[tuple[Path, str], str] = {}

    def seconds(self, competitor: Competitor, project: Project) -> float:
        """The wall time of a competitor's process.

        :raises WrongResultError: if it fails or its results differ from those of others.
        """
        competitor.prepare(project)
        seconds = seconds_of(competitor.command(project), project.root)
        self._check(competitor, project)
        return seconds

    def unique_memory(self, competitor: Competitor, project: Project) -> float:
        """The USS in bytes of the process that executes the project's only run, while its last cell waits.

        :raises WrongResultError: as ``seconds``.
        """
        competitor.prepare(project)
        (label,) = project.configs
        directory = competitor.output(project) / label
        command = competitor.command(project)
        with tempfile.TemporaryFile() as errors:
            process = subprocess.Popen(
                command,
                cwd=project.root,
                env=_ENVIRONMENT,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=errors,
            )
            try:
                deadline = time.monotonic() + _START_LIMIT
                while not (directory / "pid").exists():
                    if process.poll() is not None or time.monotonic() > deadline:
                        raise WrongResultError(f"{competitor.title}: the run did not get to its last cell")
                    time.sleep(0.01)
                run = psutil.Process(int((directory / "pid").read_text()))
                family = [run, *run.children(recursive=True)]
                memory = sum(member.memory_full_info().uss for member in family)
                (directory / "go").touch()
                status = process.wait(_START_LIMIT)
            finally:
                process.kill()
                process.wait()
            if status != 0:
                errors.seek(0)
                raise _failed(command, project.root, status, errors.read().decode(errors="replace"))
        self._check(competitor, project)
        return float(memory)

    def _check(self, competitor: Competitor, project: Project) -> None:
        for label, (file, printed) in competitor.results(project).items():
            place = project.root, label
            if self._files.setdefault(place, file) != file:
                raise WrongResultError(f"{competitor.title}: {label} wrote something else than the others")
            if printed is not None and self._printed.setdefault(place, printed) != printed:
                raise WrongResultError(f"{competitor.title}: {label} printed something else than the others")


@dataclass(frozen=True)
class Line:
    """Whole processes with few and with many runs, by their medians: a start-up and a cost per run."""

    few: int
    many: int
    seconds_few: float
    seconds_many: float

    @property
    def marginal(self) -> float:
        """Seconds that one more run costs."""
        return (self.seconds_many - self.seconds_few) / (self.many - self.few)

    def measured(self, runs: int) -> bool:
        """Whether ``whole`` gives a median, not a point of the line through the two."""
        return runs in (self.few, self.many)

    def whole(self, runs: int) -> float:
        """Seconds of a process with so many runs."""
        if runs == self.few:
            return self.seconds_few
        return self.seconds_many + (runs - self.many) * self.marginal


def _failed(command: Sequence[str], directory: Path, status: int, errors: str) -> WrongResultError:
    tail = "\n".join(errors.strip().splitlines()[-20:])
    return WrongResultError(f"exit status {status}: cd {directory} && {shlex.join(command)}\n{tail}")
