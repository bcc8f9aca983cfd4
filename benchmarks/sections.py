"""What is measured, what it is compared with, and the target of each comparison."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks import competitors, projects
from benchmarks.competitors import Competitor
from benchmarks.measure import Line, Referee, Samples, interleaved, seconds_of

#: Runs of the comparison that is about the start-up.
_FEW_RUNS: Final = 20
#: CPU seconds of a run that computes.
_BUSY: Final = 0.1
_LINES: Final = 100_000
_WORKERS: Final = 2
_MIB: Final = 2**20


@dataclass(frozen=True)
class Settings:
    """How much to measure.

    :param engine: what is measured, as ``--ductaflow-engine`` takes it.
    :param runs: of a process, for competitors that take milliseconds a run.
    :param slow_runs: the same for those that take about a second.
    :param starts: rounds of the comparison of pytest's start.
    :param only: names of competitors and sections; empty for all.
    :param original: a directory with the original's package.
    """

    engine: str
    runs: int
    slow_runs: int
    rounds: int
    starts: int
    only: tuple[str, ...] = ()
    original: Path | None = None

    def wants(self, name: str) -> bool:
        """Whether it was asked for."""
        return not self.only or name in self.only

    def most(self, competitor: Competitor) -> int:
        """Runs of a competitor's long process."""
        return max(2, self.slow_runs if competitor.slow else self.runs)

    def counts(self, competitor: Competitor) -> tuple[int, int]:
        """Runs of a competitor's short and long process."""
        most = self.most(competitor)
        return max(1, most // 10), most


@dataclass(frozen=True)
class Comparison:
    """One number, and what it should be.

    :param limit: the target; ``None`` if there is none.
    :param at_most: the target is an upper limit.
    """

    what: str
    value: float
    unit: str
    limit: float | None = None
    at_most: bool = False

    @property
    def reached(self) -> bool | None:
        """Whether the target is; ``None`` without one."""
        if self.limit is None:
            return None
        return self.value <= self.limit if self.at_most else self.value >= self.limit


@dataclass(frozen=True)
class Section:
    """Measurements that belong together: a table, and what follows from it."""

    title: str
    notes: list[str]
    header: list[str]
    rows: list[list[str]]
    comparisons: list[Comparison]


def flow(settings: Settings, directory: Path, referee: Referee) -> Section:
    """The pandas flow by everybody: whole processes with few and with many runs."""
    ours = competitors.ductaflow(settings.engine)
    others, absent = _opponents(settings)
    plan = [(one, count) for one in (ours, *others) for count in settings.counts(one)]
    work = {
        count: projects.create(directory / f"table-{count}", "table", count)
        for count in {count for _, count in plan}
    }
    _warm_up(
        functools.partial(referee.seconds, one, work[settings.counts(one)[0]]) for one in (ours, *others)
    )
    samples = interleaved(
        settings.rounds,
        {
            f"{one.title}, {_number(n, 'run')}": functools.partial(referee.seconds, one, work[n])
            for one, n in plan
        },
    )
    costs = {}
    rows = []
    for one in (ours, *others):
        few, many = settings.counts(one)
        of_few, of_many = (samples[f"{one.title}, {_number(count, 'run')}"] for count in (few, many))
        line = costs[one.name] = Line(few, many, of_few.median, of_many.median)
        whole = _ms(line.whole(settings.runs) / settings.runs)
        mark = "" if line.measured(settings.runs) else " *"
        rows.append([one.title, str(few), *_spread(of_few), "", ""])
        rows.append([one.title, str(many), *_spread(of_many), _ms(line.marginal), whole + mark])
    whole = f"whole/{settings.runs}"
    return Section(
        "The pandas flow",
        [
            "1,000 rows, groupby, a CSV file, 10 printed lines. Whole processes, seconds. *Marginal* is what "
            "one more run costs: the difference of the two medians divided by the difference of the runs. "
            f"*{whole.capitalize()}* is the time of a process with {settings.runs} runs, divided by their "
            "number; where a `*` stands, so many were not run: it is read off the line through the two "
            "medians, as is every comparison of a number of runs that is not in the table.",
            *absent,
        ],
        ["competitor", "runs", "median s", "min s", "max s", "marginal, ms a run", f"{whole}, ms a run"],
        rows,
        [
            comparison
            for one in others
            for comparison in _compare(one, costs[ours.name], costs[one.name], settings.runs)
        ],
    )


def _opponents(settings: Settings) -> tuple[list[Competitor], list[str]]:
    """Those asked for that can take part, and notices about the rest."""
    present, absent = [], []
    for one in competitors.opponents(settings.engine, settings.original):
        if settings.wants(one.name):
            reason = competitors.missing(one)
            if reason is None:
                present.append(one)
            else:
                absent.append(f"**Not measured: {one.title}**: {reason}.")
    return present, absent


def _compare(other: Competitor, mine: Line, theirs: Line, runs: int) -> Iterator[Comparison]:
    whole = f"a run, whole process / {runs}"
    if other is competitors.FORK_LIMIT:
        times, limit = "times the fork limit", 2.0
        ratio = _ratio(mine.whole(runs), theirs.whole(runs))
        yield Comparison(f"{times}: {whole}", ratio, "×", limit, at_most=True)
        ratio = _ratio(mine.marginal, theirs.marginal)
        yield Comparison(f"{times}: a run, marginal", ratio, "×", limit, at_most=True)
        return
    goal = {"nbmake": 25.0, "papermill": 25.0, "original": 25.0, "script": 8.0}.get(other.name)
    faster = f"faster than {other.title}"
    yield Comparison(f"{faster}: {whole}", _ratio(theirs.whole(runs), mine.whole(runs)), "×", goal)
    yield Comparison(f"{faster}: a run, marginal", _ratio(theirs.marginal, mine.marginal), "×")
    if other is competitors.NBMAKE:
        ratio = _ratio(theirs.whole(_FEW_RUNS), mine.whole(_FEW_RUNS))
        yield Comparison(f"{faster}: {_FEW_RUNS} runs, start-up included", ratio, "×", 12.0)


def parallel(settings: Settings, directory: Path, referee: Referee) -> Section:
    """Two workers against none, with runs that compute."""
    ways = {
        "serial": competitors.ductaflow(settings.engine),
        f"-n {_WORKERS}": competitors.ductaflow(settings.engine, "-n", str(_WORKERS)),
    }
    runs = settings.most(ways["serial"])
    work = projects.create(directory / "busy", "busy", runs, cpu_seconds=_BUSY)
    measurements = {name: functools.partial(referee.seconds, one, work) for name, one in ways.items()}
    samples = interleaved(settings.rounds, measurements)
    serial, workers = samples.values()
    what = f"faster with -n {_WORKERS} than serial: {runs} runs of {_BUSY * 1000:.0f} ms CPU"
    return Section(
        "In parallel",
        [f"{runs} runs that each compute for {_BUSY * 1000:.0f} ms of CPU time. Whole processes, seconds."],
        ["way", "median s", "min s", "max s"],
        [[name, *_spread(values)] for name, values in samples.items()],
        [Comparison(what, _ratio(serial.median, workers.median), "×", 1.7)],
    )


def memory(settings: Settings, directory: Path, referee: Referee) -> Section:
    """What a run occupies for itself."""
    ours = competitors.ductaflow(settings.engine)
    ways = [ours, *competitors.opponents(settings.engine, None)]
    ways = [one for one in ways if one.name in (ours.name, "fork-limit", "papermill-engine")]
    work = projects.create(directory / "memory", "table", 1, "wait")

    def mebibytes(competitor: Competitor) -> float:
        return referee.unique_memory(competitor, work) / _MIB

    measurements = {one.title: functools.partial(mebibytes, one) for one in ways}
    samples = interleaved(settings.rounds, measurements, "MiB")
    return Section(
        "Memory of a run",
        [
            "The pandas flow, waiting in an appended last cell: the unique set size (USS) of the process "
            "that executes it, what would be free without it. Pages shared with a warm process do not count."
        ],
        ["engine", "median MiB", "min MiB", "max MiB"],
        [[name, *_spread(values, 1)] for name, values in samples.items()],
        [
            Comparison("memory of a run of its own", samples[ours.title].median, "MiB", 30.0, at_most=True),
            *(
                Comparison(f"the same, {one.title}", samples[one.title].median, "MiB")
                for one in ways
                if one is not ours
            ),
        ],
    )


def start(settings: Settings, directory: Path, _: Referee) -> Section:
    """What the plugin costs in a session that has no instances."""
    root = directory / "start"
    root.mkdir()
    (root / "pytest.ini").write_text("[pytest]\n")
    (root / "test_nothing.py").write_text("def test_nothing():\n    pass\n")
    ways = {
        "without: -p no:ductaflow": [*competitors.PYTEST, *competitors.others()],
        "with the plugin": [*competitors.PYTEST, *competitors.others("ductaflow")],
    }
    measurements = {name: functools.partial(seconds_of, command, root) for name, command in ways.items()}
    _warm_up(measurements.values())
    samples = interleaved(settings.starts, measurements)
    without, with_plugin = samples.values()
    more = (with_plugin.median - without.median) * 1000
    return Section(
        "pytest's start",
        [f"One empty test, no instances, {settings.starts} rounds. Whole processes, seconds."],
        ["way", "median s", "min s", "max s"],
        [[name, *_spread(values)] for name, values in samples.items()],
        [Comparison("more for pytest's start with the plugin", more, "ms", 30.0, at_most=True)],
    )


def lines(settings: Settings, directory: Path, referee: Referee) -> Section:
    """What a printed line costs."""
    ways = [competitors.ductaflow(settings.engine), competitors.PAPERMILL]
    work = {
        count: projects.create(directory / f"lines-{count}", "lines", 1, lines=count) for count in (1, _LINES)
    }
    _warm_up(functools.partial(referee.seconds, one, work[1]) for one in ways)
    samples = interleaved(
        settings.rounds,
        {
            f"{one.title}, {_number(count, 'line')}": functools.partial(referee.seconds, one, project)
            for one in ways
            for count, project in work.items()
        },
    )
    costs = {}
    for one in ways:
        few, many = (samples[f"{one.title}, {_number(count, 'line')}"] for count in work)
        costs[one.name] = (many.median - few.median) / (_LINES - 1)
    ours, theirs = costs.values()
    return Section(
        "Printed lines",
        [
            f"One run, {_LINES:,} lines printed in one cell. Whole processes, seconds; the cost of a line is "
            "the difference of the medians to the same run with one line."
        ],
        ["what", "median s", "min s", "max s"],
        [[name, *_spread(values)] for name, values in samples.items()],
        [
            Comparison(f"cheaper than {ways[1].title}: a printed line", _ratio(theirs, ours), "×", 5.0),
            Comparison("cost of a printed line", ours * 1e6, "µs"),
            Comparison(f"the same, {ways[1].title}", theirs * 1e6, "µs"),
        ],
    )


#: The sections besides that of the pandas flow, by the name that ``--only`` takes.
OTHERS: Final = {"parallel": parallel, "memory": memory, "start": start, "lines": lines}


def measure(settings: Settings, directory: Path) -> Iterator[Section]:
    """Measure all that was asked for, one section after the other."""
    referee = Referee()
    names = [one.name for one in competitors.opponents(settings.engine, None)]
    if any(settings.wants(name) for name in names):
        yield flow(settings, directory, referee)
    for name, section in OTHERS.items():
        if settings.wants(name):
            yield section(settings, directory, referee)


def _warm_up(measurements: Iterable[Callable[[], float]]) -> None:
    """Once for the caches, and to see at once whether it works."""
    for measurement in measurements:
        measurement()


def _spread(samples: Samples, digits: int = 3) -> list[str]:
    return [f"{value:.{digits}f}" for value in (samples.median, min(samples), max(samples))]


def _number(count: int, what: str) -> str:
    return f"{count:,} {what}{'s' * (count != 1)}"


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.1f}"


def _ratio(one: float, other: float) -> float:
    return one / other if min(one, other) > 0 else math.nan  # too few rounds for so small a difference
