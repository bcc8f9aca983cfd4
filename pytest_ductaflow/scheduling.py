"""Instances under xdist: each is sent to a worker once what it needs is done, the longest way first.

xdist's workers start a test only when they know the next one, so that fixtures they share survive. An
instance shares none, and the next one may be waiting for it: our workers start at once, and the
controller keeps back what is not ready. Ordinary tests in the same session are sent in batches.
"""

from __future__ import annotations

import heapq
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import pytest
from xdist.scheduler import LoadScheduling
from xdist.workermanage import WorkerController

from pytest_ductaflow import graph
from pytest_ductaflow.errors import InstanceError
from pytest_ductaflow.instance import load_instances
from pytest_ductaflow.record import last_duration

#: A worker whose last instance took fewer seconds is sent one more in advance, if there are plenty.
_SHORT: Final = 0.5
#: Plenty is so many that are ready for each worker.
_PLENTY: Final = 2


class Scheduling(LoadScheduling):  # type: ignore[misc] # xdist comes without types
    """xdist's scheduler, but with one instance at a time, in the order of what they need."""

    def __init__(self, config: pytest.Config, log: Any = None) -> None:
        super().__init__(config, log)
        self.collection: list[str] | None
        self._left: set[int] = set()  # neither done nor sent
        self._ready: list[tuple[float, int]] = []  # a heap: rank, index
        self._rank: dict[int, float] = {}
        self._waits_for: dict[int, set[int]] = {}
        self._needed_by: dict[int, list[int]] = {}
        self._instances: set[int] = set()

    @property
    def tests_finished(self) -> bool:
        """Whether every test has been sent and none can come back but with a crash."""
        return (
            self.collection_is_completed
            and not self._left
            and all(len(pending) < 2 for pending in self.node2pending.values())
        )

    @property
    def has_pending(self) -> bool:
        """Whether there is something to do."""
        return bool(self._left) or any(self.node2pending.values())

    def schedule(self) -> None:
        """Send the first instances; later, employ a new worker."""
        if self.collection is None:
            if not self._check_nodes_have_same_collection():
                return
            self.collection = next(iter(self.node2collection.values()))
            self._plan(self.collection)
        self._send_to_all()

    def mark_test_complete(self, node: WorkerController, item_index: int, duration: float = 0) -> None:
        """One is done: what waited for it may be ready, for any worker."""
        self.node2pending[node].remove(item_index)
        self._done(item_index)
        self.check_schedule(node, duration)
        self._send_to_all()

    def mark_test_pending(self, item: str) -> None:
        """One is to be done once more."""
        assert self.collection is not None
        self._put_back(self.collection.index(item))
        self._send_to_all()

    def remove_node(self, node: WorkerController) -> str | None:
        """A worker is gone: what it was sent goes to others; what it worked on is named."""
        pending = self.node2pending.pop(node)
        if not pending:
            return None
        assert self.collection is not None
        crashed = pending.pop(0)
        for index in pending:
            self._put_back(index)
        self._done(crashed)  # as a failure: those that need it find that out
        self._send_to_all()
        name: str = self.collection[crashed]
        return name

    def check_schedule(self, node: WorkerController, duration: float = 1.0) -> None:
        """Send a worker what it has room for."""
        if node.shutting_down:
            return
        if not self._left:
            node.shutdown()
            return
        pending = self.node2pending[node]
        plenty = len(self._ready) > _PLENTY * len(self.node2pending)
        room = 2 if plenty and duration < _SHORT else 1
        batch: list[int] = []
        while self._ready and len(pending) + len(batch) < room:
            batch.append(self._take())
            if batch[-1] not in self._instances:
                batch += self._more_tests()
        if batch:
            pending.extend(batch)
            node.send_runtest_some(batch)

    def _send_to_all(self) -> None:
        for node in self.nodes:
            self.check_schedule(node)

    def _more_tests(self) -> list[int]:
        """Ordinary tests that follow: enough to share fixtures, few enough to keep all workers busy."""
        tests = sum(index not in self._instances for _, index in self._ready)
        size = max(1, tests // len(self.node2pending) // 4)
        batch: list[int] = []
        while self._ready and len(batch) < size and self._ready[0][1] not in self._instances:
            batch.append(self._take())
        return batch

    def _take(self) -> int:
        _, index = heapq.heappop(self._ready)
        self._left.discard(index)
        return index

    def _put_back(self, index: int) -> None:
        self._left.add(index)
        heapq.heappush(self._ready, (self._rank[index], index))

    def _done(self, index: int) -> None:
        for other in self._needed_by.pop(index, ()):
            self._waits_for[other].discard(index)
            if not self._waits_for[other]:
                heapq.heappush(self._ready, (self._rank[other], other))

    def _plan(self, collection: Sequence[str]) -> None:
        directories = _run_directories(collection, self.config)
        index_of = {key: index for index, (key, _) in directories.items()}
        edges = graph.needs(dict(directories.values()))
        self._instances = set(directories)
        self._left = set(range(len(collection)))
        for key, needed in edges.items():
            self._waits_for[index_of[key]] = {index_of[other] for other in needed}
            for other in needed:
                self._needed_by.setdefault(index_of[other], []).append(index_of[key])
        known = {
            index: seconds
            for index, (key, _) in directories.items()
            if (seconds := last_duration(self.config.rootpath / key)) is not None
        }
        usual = statistics.median(known.values()) if known else 1.0
        ways: dict[
            int, float
        ] = {}  # the seconds from an instance's start to the end of the last that needs it
        for index in reversed(range(len(collection))):  # they are in the order of what they need
            after = max((ways[other] for other in self._needed_by.get(index, ())), default=0.0)
            ways[index] = known.get(index, usual) + after if index in directories else 0.0
        self._rank = {index: -way for index, way in ways.items()}
        self._ready = [(self._rank[index], index) for index in self._left if not self._waits_for.get(index)]
        heapq.heapify(self._ready)


def _run_directories(
    collection: Sequence[str], config: pytest.Config
) -> dict[int, tuple[str, tuple[str, ...]]]:
    """The instances among the tests: index to run directory and references."""
    position = {node_id: index for index, node_id in enumerate(collection)}
    files = dict.fromkeys(node_id.split("::")[0] for node_id in collection)
    found: dict[int, tuple[str, tuple[str, ...]]] = {}
    for name in files:
        path = config.rootpath / name
        if Path(name).suffix != ".json":
            continue
        try:
            instances = load_instances(path, config.rootpath)
        except InstanceError:  # somebody else's .json, or changed since it was collected
            continue
        for instance in instances:
            index = position.get(f"{name}::{instance.name}")
            if index is not None:
                found[index] = instance.run_directory, instance.references
    return found


class StartAtOnce:
    """In a worker: a test starts although the next one is not known yet."""

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> None:
        """Change how xdist's own loop takes a test."""
        for plugin in session.config.pluginmanager.get_plugins():
            if hasattr(plugin, "torun") and hasattr(plugin, "run_one_test"):
                vars(plugin)["run_one_test"] = lambda worker=plugin: _run_one_test(worker)


def _run_one_test(worker: Any) -> None:
    worker.item_index = worker.nextitem_index
    items = worker.session.items
    with worker.torun.lock() as queued:
        following = queued[0] if queued and isinstance(queued[0], int) else None
    started = time.perf_counter()
    worker.config.hook.pytest_runtest_protocol(
        item=items[worker.item_index], nextitem=None if following is None else items[following]
    )
    duration = time.perf_counter() - started
    worker.sendevent("runtest_protocol_complete", item_index=worker.item_index, duration=duration)
    if not (worker.session.shouldfail or worker.session.shouldstop):
        worker.nextitem_index = worker.torun.get()
