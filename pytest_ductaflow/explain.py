"""``--ductaflow-explain``: what a session would run, and why."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

import pytest

from pytest_ductaflow import execution, expectations, reads
from pytest_ductaflow.errors import RecordError
from pytest_ductaflow.record import Record
from pytest_ductaflow.references import RUNS

if TYPE_CHECKING:
    from pytest_ductaflow.session import Item, Session


def explain(session: Session, config: pytest.Config) -> None:
    """Say for each instance whether it would run, and why, or else whether it would fail as it is."""
    runs: dict[str, None] = {}  # directories of those that would or may, in order
    counts = {"would run": 0, "may run": 0, "up to date": 0}
    write = _line_writer(config)
    for key, item in session.items.items():
        found, reasons = (None, ["--ductaflow-force"]) if session.force else _last_run(session, item)
        before = {needed: need for needed, need in item.instance.needed.items() if needed in runs}
        follows = [
            f"input: {text} will be rewritten by {session.items[needed].node_id}"
            for needed, need in before.items()
            for text in dict.fromkeys(need.texts)
        ]
        if found is not None:
            follows += _seen(session, item, found, runs)
        broken = [] if follows else _broken(found)
        word = "would run" if reasons else "may run" if follows else "would fail" if broken else "up to date"
        if reasons or follows:
            runs[key] = None
        counts[word] = counts.get(word, 0) + 1
        write(f"{item.node_id}: {word}")
        judged = [
            f"expect: its baseline is made again by {session.items[needed].node_id}"
            for needed, need in before.items()
            if need.compared
        ]
        for reason in [*reasons, *follows, *broken, *judged, *session.stale_before(item)]:
            write(f"    {reason}")
    write(", ".join(f"{count} {word}" for word, count in counts.items()))


def _last_run(session: Session, item: Item) -> tuple[Record | None, list[str]]:
    """The record of an instance's last run if that is up to date, judged as of now, else why it would run."""
    try:
        found, reasons = execution.up_to_date(session.request(item.instance, item.node_id))
    except RecordError as error:
        return None, [str(error)]
    if found is not None:
        expectations.judge(found, item.instance.expected, session.root)
    return found, reasons


def _seen(session: Session, item: Item, found: Record, runs: Mapping[str, object]) -> Iterator[str]:
    """What the last run read, by no reference, in directories of instances that run before this one."""
    inputs = [name for name in found.inputs if name.startswith(f"{RUNS}/")]
    if not inputs:
        return
    named = {needed for needed, need in item.instance.needed.items() if need.texts}
    for key, names in reads.with_steps(inputs, runs).items():
        if key not in named:
            read = reads.file_among(names)
            yield f"input: {read}, read by the last run, will be rewritten by {session.items[key].node_id}"


def _broken(found: Record | None) -> list[str]:
    """What is expected of the measures of a run and not met."""
    error = found.error if found is not None and found.light.is_red else None
    return str((error or {}).get("message", "")).splitlines()


def _line_writer(config: pytest.Config) -> Callable[[str], None]:
    reporter: pytest.TerminalReporter | None = config.pluginmanager.getplugin("terminalreporter")
    if reporter is None:
        return print
    reporter.ensure_newline()
    return reporter.write_line
