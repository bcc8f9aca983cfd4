"""Instances that others had executed ahead of their turn, in a session that ended before it came.

Whoever needs an instance has it executed. Our order makes this rare: it takes another way to distribute
(xdist's ``--dist``) or a plugin that runs tests in an order of its own, and ``-x`` or a crash. What ran is
reported under its own id all the same, before anybody counts, writes or shows results.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import pytest

from pytest_ductaflow.items import InstanceFile, InstanceItem
from pytest_ductaflow.names import file_of, without_group
from pytest_ductaflow.session import begin


def report_ahead(session: pytest.Session, identifier: str, node_ids: Iterable[str]) -> None:
    """Report those among the instances that this session executed. Nothing is executed.

    :param session: of the controlling process. :param identifier: of our session, as records have it.
    :param node_ids: of instances that are not reported.
    """
    state = begin(session.config, identifier)
    runner: Any = session.config.pluginmanager.get_plugin("runner")
    for item in _items(session, node_ids):
        item.ran = state.of_this_session(item)
        if item.ran is None:
            continue
        item.earlier = item.ran.duration
        session._setupstate.teardown_exact(None)
        item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        runner.runtestprotocol(item, nextitem=None)  # no hook: it is no turn of which plugins make several
        item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)


def _items(session: pytest.Session, node_ids: Iterable[str]) -> Iterator[InstanceItem]:
    """The items with these ids: the session's own, or under xdist, whose workers have them, new ones."""
    known = {item.nodeid: item for item in session.items if isinstance(item, InstanceItem)}
    files: dict[str, dict[str, InstanceItem]] = {}
    for node_id in node_ids:
        name = file_of(node_id)
        if node_id not in known and name not in files:
            files[name] = _collect(session, name)
        item = known.get(node_id) or files[name].get(without_group(node_id))
        if item is not None:
            item._nodeid = node_id  # type: ignore[attr-defined] # perhaps with a group: xdist sets it
            yield item


def _collect(session: pytest.Session, name: str) -> dict[str, InstanceItem]:
    file = InstanceFile.from_parent(session, path=session.config.rootpath / name)
    try:
        return {item.node_id: item for item in file.collect()}
    except file.CollectError:  # it was changed since: nobody knows what ran
        return {}
