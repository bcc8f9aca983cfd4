"""What a session says at its end, as lines for a terminal and as Markdown for a job's page.

Names, messages and values come from users: in lines, control characters are shown as escapes; in
Markdown, nothing of them is markup.
"""

from __future__ import annotations

import html
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from pytest_ductaflow.printable import plain
from pytest_ductaflow.report.clusters import Cluster
from pytest_ductaflow.strict_json import encodable

LIGHTS: Final = ("green", "orange", "red")
SYMBOLS: Final = {"green": "●", "orange": "▲", "red": "✖"}
#: Instances of a cluster that are named; slowest instances; clusters of warnings in the terminal.
_NAMED: Final = 3
_SLOWEST: Final = 3
_CLUSTERS: Final = 20
#: Bytes of a Markdown summary, of which GitHub takes 1 MiB for each step; characters of a cell in it.
_SIZE: Final = 300_000
_CELL: Final = 300

_MARKUP: Final = re.compile(r"[\\`*_\[\]|~#!$]|:(?=//)")


@dataclass
class Outcome:
    """How an instance ended.

    :param path: its run directory below that of all runs, ``""`` if it has none.
    :param fresh: it was up to date. :param failed: also, it failed as a test: red, and not expected to be.
    :param xfailed: it failed as its mark ``xfail`` expects; it counts as such, not as red.
    """

    id: str
    path: str
    light: str
    scenario: Mapping[str, object] = field(default_factory=dict)
    seconds: float | None = None
    fresh: bool = False
    failed: bool = False
    xfailed: bool = False

    @property
    def name(self) -> str:
        """The instance's name."""
        return self.id.rpartition("::")[2]


@dataclass(frozen=True)
class Summary:
    """A session at its end.

    :param errors: one line for each failed instance whose run says why, by path.
    :param page: where the status page is, or why there is none; ``""`` to say nothing.
    :param problems: why the outcomes are not all: what was not run, and what cannot be read.
    """

    project: str
    outcomes: Sequence[Outcome]
    failures: Sequence[Cluster] = ()
    warnings: Sequence[Cluster] = ()
    errors: Mapping[str, str] = field(default_factory=dict)
    page: str = ""
    problems: Sequence[str] = ()

    @property
    def lights(self) -> Counter[str]:
        """How many instances have which light; ``xfailed`` are those that failed as expected."""
        return Counter("xfailed" if outcome.xfailed else outcome.light for outcome in self.outcomes)

    @property
    def fresh(self) -> int:
        """How many were up to date and not executed."""
        return sum(outcome.fresh for outcome in self.outcomes)

    @property
    def slowest(self) -> list[tuple[str, float]]:
        """Names and seconds of those that took longest, if more than one was executed."""
        executed = [
            (one.name, one.seconds) for one in self.outcomes if one.seconds is not None and not one.fresh
        ]
        executed.sort(key=lambda entry: -entry[1])
        return executed[:_SLOWEST] if len(executed) > 1 else []


# --- lines ---


def cluster_lines(cluster: Cluster, steps: Mapping[str, str] | None = None) -> list[str]:
    """A cluster in at most three lines: what, what its scenarios have in common, which instances.

    :param steps: commands for one of them: what each does, and the command.
    """
    names = [path.rpartition("/")[2] for path in cluster.paths]
    shown = ", ".join(names[:_NAMED])
    if len(names) > _NAMED:
        shown += f" … and {len(names) - _NAMED:,} more"
    shown = "; ".join([shown, *(f"{what}: {command}" for what, command in (steps or {}).items())])
    lines = [cluster.title, *(["  " + "; ".join(cluster.common)] if cluster.common else []), "  " + shown]
    return [plain(line) for line in lines]


def warning_lines(warnings: Sequence[Cluster]) -> Iterator[str]:
    """The biggest clusters of warnings."""
    for cluster in warnings[:_CLUSTERS]:
        yield from cluster_lines(cluster)
    if len(warnings) > _CLUSTERS:
        yield f"… and {len(warnings) - _CLUSTERS:,} more (--ductaflow-tracebacks=all: each)"


def slowest_line(summary: Summary) -> str:
    """``slowest: JFK_1 12.3 s, …``, or nothing."""
    shown = ", ".join(f"{name} {duration(seconds)}" for name, seconds in summary.slowest)
    return plain(f"slowest: {shown}") if shown else ""


def duration(seconds: float) -> str:
    """``0.03 s``, ``12.3 s``, ``2 min 5 s``, ``1 h 2 min``."""
    if seconds < 60:
        return f"{seconds:.2f} s" if seconds < 1 else f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


# --- Markdown ---


def markdown(summary: Summary) -> str:
    """The summary in GitHub's Markdown; what would make it too long is counted, not shown."""
    counts = summary.lights
    lights = " ".join(f"{SYMBOLS[light]} {counts[light]:,} {light}" for light in LIGHTS if counts[light])
    facts = [f"{len(summary.outcomes):,} instances"]
    if summary.fresh:
        facts.append(f"{summary.fresh:,} up to date")
    if counts["xfailed"]:
        facts.append(f"{counts['xfailed']:,} xfailed")
    if summary.slowest:
        facts.append("slowest: " + ", ".join(f"{_cell(name)} {duration(s)}" for name, s in summary.slowest))
    if summary.page:
        facts.append(f"status page: {_cell(summary.page)}")
    shown = " · ".join([lights or "nothing was run", *(f"✖ {_cell(one)}" for one in summary.problems)])
    parts = [f"### {_cell(summary.project)}: {shown}\n\n{' · '.join(facts)}\n"]
    failed = [one for one in summary.outcomes if one.failed]
    tables = (
        _Table(
            "failures", ("failures", "where", "error", "in common"), map(_cluster_cells, summary.failures)
        ),
        _Table("warnings", ("warnings", "where", "text", "in common"), map(_cluster_cells, summary.warnings)),
        _Table(
            "failed instances",
            ("failed instance", "error"),
            ((one.id, summary.errors.get(one.path, "see the log")) for one in failed),
        ),
    )
    room = (_SIZE - len(parts[0].encode())) // len(tables)
    return "\n".join([*parts, *(text for table in tables if (text := table.markdown(room)))])


@dataclass(frozen=True)
class _Table:
    name: str
    head: tuple[str, ...]
    rows: Iterable[tuple[str, ...]]

    def markdown(self, room: int) -> str:
        lines: list[str] = []
        left = 0
        for row in self.rows:
            line = f"| {' | '.join(map(_cell, row))} |\n"
            room -= len(line.encode())
            if room < 0:
                left += 1
            else:
                lines.append(line)
        if not lines:
            return ""
        head = f"| {' | '.join(self.head)} |\n|{' --- |' * len(self.head)}\n"
        return head + "".join(lines) + (f"\n… and {left:,} more {self.name}\n" if left else "")


def _cluster_cells(cluster: Cluster) -> tuple[str, ...]:
    said = ": ".join(part for part in (cluster.type, cluster.message) if part)
    return f"{cluster.count:,} of {cluster.of:,}", cluster.place, said, "; ".join(cluster.common)


def _cell(text: str) -> str:
    """The text as it is, in one line of a table; no character of it is Markdown or HTML."""
    text = plain(" ".join(encodable(text).split()))
    if len(text) > _CELL:
        text = text[: _CELL - 1] + "…"
    return html.escape(_MARKUP.sub(r"\\\g<0>", text), quote=False)
