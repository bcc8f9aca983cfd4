"""What a run read, by no reference, in directories that this session was not done with, or that failed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from pytest_ductaflow import execution, freshness, reads
from pytest_ductaflow.errors import RecordError
from pytest_ductaflow.reads import Doubt
from pytest_ductaflow.record import RECORD_NAME, Record

if TYPE_CHECKING:
    from pytest_ductaflow.session import Item, Session


def of_run(session: Session, item: Item, made: Record) -> Iterator[Doubt]:
    """What is to be said of the inputs of a run that has just come to its end.

    :param made: its record, with the inputs.
    """
    early: dict[str, list[str]] = {}
    failed: dict[str, list[str]] = {}
    for key, names in reads.with_steps(made.inputs, session.items).items():
        other = session.items[key]
        if key == item.instance.run_directory or _waits_for(session, other, item):
            continue  # it cannot have been done before
        record = session.peek(other)
        if _is_early(session, other, record, made, names):
            early[key] = names
        elif record is not None and record.light.is_red:
            failed |= reads.by_run(_results(names), {key})
    yield from reads.too_early(early)
    yield from reads.of_failed(failed)


def reads_failed(session: Session, record: Record) -> bool:
    """Whether a run read in a directory in which this session's run failed."""
    read = reads.by_run(_results(record.inputs), session.items)
    return any((found := session.peek(session.items[key])) is not None and found.light.is_red for key in read)


def _results(names: Iterable[str]) -> list[str]:
    """What a run made for others. Its record tells that it failed: who reads that knows."""
    return [name for name in names if name.rpartition("/")[2] != RECORD_NAME]


def _is_early(session: Session, other: Item, record: Record | None, made: Record, names: list[str]) -> bool:
    """Whether the other's run came, or is to come, after what was read of it."""
    if record is None:
        return _is_to_run(session, other)
    if record.session != session.identifier or (record.ended or "") <= made.started:
        return False  # it was up to date, or had run
    return any(freshness.differs(session.root, name, made.inputs[name]) for name in names)


def _is_to_run(session: Session, item: Item) -> bool:
    """Whether an instance that had no turn yet will be executed: it is stale, or what it needs will be."""
    pending, seen = [item], set()
    while pending:
        one = pending.pop()
        key = one.instance.run_directory
        if key in seen or session.peek(one) is not None or one.is_not_to_be_run():
            continue
        seen.add(key)
        try:
            if session.force or execution.up_to_date(session.request(one.instance, one.node_id))[0] is None:
                return True
        except RecordError:  # its directory leads elsewhere
            continue
        pending += session.needed(one)
    return False


def _waits_for(session: Session, item: Item, other: Item) -> bool:
    """Whether an instance needs another one, maybe by way of others."""
    pending, seen = [item], set()
    while pending:
        one = pending.pop()
        if one is other:
            return True
        if one.instance.run_directory not in seen:
            seen.add(one.instance.run_directory)
            pending += session.needed(one)
    return False
