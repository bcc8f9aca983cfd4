"""``--ductaflow-explain``: what a session would run, and why."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from pytest_ductaflow import execution, expectations
from pytest_ductaflow.errors import RecordError

if TYPE_CHECKING:
    from pytest_ductaflow.session import Item, Session


def explain(session: Session, config: pytest.Config) -> None:
    """Say for each instance whether it would run, and why, or else whether it would fail as it is."""
    runs: dict[str, bool] = {}  # run directory to whether it surely does
    counts = {"would run": 0, "may run": 0, "up to date": 0}
    write = _line_writer(config)
    for key, item in session.items.items():
        reasons, broken = (["--ductaflow-force"], []) if session.force else _reasons(session, item)
        before = {needed: need for needed, need in item.instance.needed.items() if needed in runs}
        follows = [
            f"input: {text} will be rewritten by {session.items[needed].node_id}"
            for needed, need in before.items()
            for text in dict.fromkeys(need.texts)
        ]
        word = "would run" if reasons else "may run" if follows else "up to date"
        if word != "up to date":
            runs[key] = word == "would run"
            broken = []
        elif broken:
            word = "would fail"
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


def _reasons(session: Session, item: Item) -> tuple[list[str], list[str]]:
    """Why an instance would run; and if it would not, what is expected of its measures and not met."""
    try:
        found, reasons = execution.up_to_date(session.request(item.instance, item.node_id))
    except RecordError as error:
        return [str(error)], []
    if found is not None:
        expectations.judge(found, item.instance.expected, session.root)
    broken = found.error if found is not None and found.light.is_red else None
    return reasons, str((broken or {}).get("message", "")).splitlines()


def _line_writer(config: pytest.Config) -> Callable[[str], None]:
    reporter: pytest.TerminalReporter | None = config.pluginmanager.getplugin("terminalreporter")
    if reporter is None:
        return print
    reporter.ensure_newline()
    return reporter.write_line
