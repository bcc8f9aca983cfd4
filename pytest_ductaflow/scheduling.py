"""Instances under xdist: each is sent to a worker once what it needs is done, the longest way first.

xdist's workers start a test only when they know the next one, so that fixtures they share survive. An
instance shares none, and the next one may be waiting for it: our workers start it at once, and the
controller keeps back what is not ready. Ordinary tests in the same session follow in batches, when no
instance is ready. Without any instance all is as xdist has it.
"""

from __future__ import annotations

import functools
import heapq
import statistics
import time
from collections import deque
from collections.abc import Sequence
from typing import Any, Final

import pytest
from xdist.scheduler import LoadScheduling
from xdist.workermanage import WorkerController

from pytest_ductaflow import graph, project, reads
from pytest_ductaflow.instance import Instance
from pytest_ductaflow.notices import warn
from pytest_ductaflow.record import last_duration

#: Seconds for which a worker waits, before it starts an ordinary test, to learn which one follows.
_PATIENCE: Final = 0.2


class Scheduling(LoadScheduling):  # type: ignore[misc] # xdist comes without types
    """xdist's scheduler, but with one instance at a time, in the order of what they need."""

    def __init__(self, config: pytest.Config, log: Any = None) -> None:
        super().__init__(config, log)
        self.collection: list[str] | None
        # Every test that is neither sent nor done is in one of these three.
        self._waits_for: dict[int, set[int]] = {}  # an instance to those not done that it needs
        self._ready: list[tuple[float, int]] = []  # instances as a heap: rank, index
        self._tests: deque[int] = deque()  # ordinary ones
        self._rank: dict[int, float] = {}  # of each instance
        self._needed_by: dict[int, list[int]] = {}

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
        return self._left or any(self.node2pending.values())

    @property
    def _left(self) -> bool:
        return bool(self._ready or self._tests or self._waits_for)

    def add_node_collection(self, node: WorkerController, collection: Sequence[str]) -> None:
        """A worker has collected. One that replaces another may find changed files: it is of no use."""
        super().add_node_collection(node, collection)
        if node not in self.node2collection:
            warn(self.config, f"the new worker {node.gateway.id} is not used: it collected other tests")
            node.shutdown()

    def schedule(self) -> None:
        """Send the first instances; later, employ a new worker."""
        if self.collection is None:
            if not self._check_nodes_have_same_collection():
                return
            collection = next(iter(self.node2collection.values()))
            directories = run_directories(collection, self.config)
            if not directories:
                self.__class__ = LoadScheduling
                LoadScheduling.schedule(self)
                return
            self.collection = collection
            self._plan(directories)
        self._send_to_all()

    def mark_test_complete(self, node: WorkerController, item_index: int, duration: float = 0) -> None:
        """One is done: what waited for it may be ready, for any worker."""
        self.node2pending[node].remove(item_index)
        self._done(item_index)
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
        crashed, *others = pending
        for index in reversed(others):
            self._put_back(index)
        self._done(crashed)  # as a failure: those that need it find that out
        self._send_to_all()
        name: str = self.collection[crashed]
        return name

    def check_schedule(self, node: WorkerController, duration: float = 0) -> None:
        """Send a worker what it has room for: an instance if it is idle, or ordinary tests.

        A worker with one ordinary test is sent more, so that it knows the next; but an instance goes first.
        """
        pending = self.node2pending[node]
        if node.shutting_down or node not in self.node2collection:
            return
        if self._ready:
            batch = [] if pending else [heapq.heappop(self._ready)[1]]
        elif len(pending) < 2 and not any(index in self._rank for index in pending):
            size = max(1, len(self._tests) // len(self.node2pending) // 4)
            batch = [self._tests.popleft() for _ in range(min(size, len(self._tests)))]
        else:
            batch = []
        if not batch:
            return
        try:
            node.send_runtest_some(batch)
            pending.extend(batch)
        except OSError:  # it is dead, which xdist is about to hear
            for index in reversed(batch):
                self._put_back(index)

    def _send_to_all(self) -> None:
        for _ in range(2):  # first something for everyone, then what ordinary tests have in advance
            for node in self.nodes:
                self.check_schedule(node)

    def _put_back(self, index: int) -> None:
        if index in self._rank:
            heapq.heappush(self._ready, (self._rank[index], index))
        else:
            self._tests.appendleft(index)

    def _done(self, index: int) -> None:
        for other in self._needed_by.pop(index, ()):
            self._waits_for[other].discard(index)
            if not self._waits_for[other]:
                del self._waits_for[other]
                self._put_back(other)

    def _plan(self, directories: dict[int, tuple[str, tuple[str, ...]]]) -> None:
        assert self.collection is not None
        index_of = {key: index for index, (key, _) in directories.items()}
        edges = {
            key: [other for other in needed if other in index_of] for key, needed in directories.values()
        }
        edges = reads.also_seen(edges, self.config.rootpath)
        # Workers refuse cycles; there is one only if files have changed since. Nobody waits for it.
        ordered = dict.fromkeys(graph.order(list(index_of), edges)[0])
        for key in ordered:
            needed = {index_of[other] for other in edges.get(key, ()) if other in ordered}
            if needed:
                self._waits_for[index_of[key]] = needed
            for other in needed:
                self._needed_by.setdefault(other, []).append(index_of[key])
        known = {
            index: seconds
            for index, (key, _) in directories.items()
            if (seconds := last_duration(self.config.rootpath / key)) is not None
        }
        usual = statistics.median(known.values()) if known else 1.0
        # The rank: minus the seconds from an instance's start to the end of the last that needs it.
        self._rank = {index: -known.get(index, usual) for index in directories}
        for index in map(index_of.__getitem__, reversed(ordered)):
            self._rank[index] += min(
                (self._rank[other] for other in self._needed_by.get(index, ())), default=0
            )
        self._ready = [(self._rank[index], index) for index in directories if index not in self._waits_for]
        heapq.heapify(self._ready)
        self._tests.extend(index for index in range(len(self.collection)) if index not in directories)


def run_directories(
    collection: Sequence[str], config: pytest.Config
) -> dict[int, tuple[str, tuple[str, ...]]]:
    """The instances among the tests: index to run directory and the run directories that it needs."""
    instances = project.of_ids(collection, config.rootpath, config.getini("ductaflow_instances"))
    position = {node_id: index for index, node_id in enumerate(collection)}
    return {
        position[node_id]: (instance.run_directory, tuple(instance.needed))
        for node_id, instance in instances.items()
    }


class StartAtOnce:
    """In a worker: an instance starts although the next test is not known yet."""

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> None:
        """Change how xdist's own loop takes a test, if there are instances."""
        if not any(_is_instance(item) for item in session.items):
            return
        for plugin in session.config.pluginmanager.get_plugins():
            if hasattr(plugin, "torun") and hasattr(plugin, "run_one_test"):
                vars(plugin)["run_one_test"] = functools.partial(_run_one_test, plugin)


def _is_instance(item: pytest.Item) -> bool:
    return isinstance(getattr(item, "instance", None), Instance)


def _run_one_test(worker: Any) -> None:
    """As xdist's, but while the next test is not known, all is kept that the session shares."""
    session = worker.session
    worker.item_index = worker.nextitem_index
    item = session.items[worker.item_index]
    following = _peek(worker.torun, 0 if _is_instance(item) else _PATIENCE)
    nextitem = session if following is None else session.items[following] if type(following) is int else None
    started = time.perf_counter()
    worker.config.hook.pytest_runtest_protocol(item=item, nextitem=nextitem)
    duration = time.perf_counter() - started
    worker.sendevent("runtest_protocol_complete", item_index=worker.item_index, duration=duration)
    if not (session.shouldfail or session.shouldstop):
        worker.nextitem_index = worker.torun.get()
        if nextitem is session and not isinstance(worker.nextitem_index, int):
            _tear_down(item)


def _peek(queue: Any, seconds: float) -> object:
    """What is next in a worker's queue: an index, the mark of the end, or ``None`` if nothing comes."""
    deadline = time.monotonic() + seconds
    while True:
        with queue.lock() as queued:
            if queued:
                return queued[0]
        if time.monotonic() >= deadline:
            return None
        time.sleep(0.002)


def _tear_down(item: pytest.Item) -> None:
    """The session's fixtures were kept, and there is no other test. An error is one of the last test."""
    stack = item.session._setupstate
    call = pytest.CallInfo.from_call(lambda: stack.teardown_exact(None), "teardown")
    if call.excinfo is not None:
        report = item.ihook.pytest_runtest_makereport(item=item, call=call)
        item.ihook.pytest_runtest_logreport(report=report)
