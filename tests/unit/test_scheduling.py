"""xdist's scheduler with instances: nothing too early, nothing lost, nobody waits for nothing."""

import contextlib
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest
from xdist.scheduler import LoadScheduling

from pytest_ductaflow import scheduling
from pytest_ductaflow.instance import Instance
from pytest_ductaflow.scheduling import Scheduling


class Node:
    """A worker as the scheduler sees it. A dead one refuses, before xdist has heard of its death."""

    def __init__(self, name: str) -> None:
        self.gateway = SimpleNamespace(id=name)
        self.queue: list[int] = []
        self.shutting_down = False
        self.dead = False
        self.sent: Callable[[list[int]], None] = lambda indices: None

    def send_runtest_some(self, indices: list[int]) -> None:
        if self.dead:
            raise OSError("cannot send (already closed?)")
        self.sent(indices)
        self.queue += indices

    def shutdown(self) -> None:
        self.shutting_down = True


Schedule = Callable[..., tuple[Scheduling, list[Node]]]


@pytest.fixture
def schedule(monkeypatch: pytest.MonkeyPatch) -> Schedule:
    """Begin to schedule tests: ``needs`` has for each instance what it needs; ``test_0`` … are no instances."""

    def begin(
        needs: dict[str, list[str]],
        *,
        workers: int = 2,
        tests: int = 0,
        seconds: dict[str, float] | None = None,
        shuffle: Callable[[list[str]], None] | None = None,
        sent: Callable[[list[str]], None] = lambda names: None,
    ) -> tuple[Scheduling, list[Node]]:
        names = [*needs, *(f"test_{number}" for number in range(tests))]
        if shuffle is not None:
            shuffle(names)
        directories = {
            index: (f"runs/step/{name}", tuple(f"runs/step/{other}" for other in needs[name]))
            for index, name in enumerate(names)
            if name in needs
        }
        monkeypatch.setattr(scheduling, "run_directories", lambda *_: directories)
        monkeypatch.setattr(scheduling, "last_duration", lambda path: (seconds or {}).get(path.name))
        monkeypatch.setattr("xdist.scheduler.load.parse_tx_spec_config", lambda _: [None] * workers)
        warnings: list[Warning] = []
        config: Any = SimpleNamespace(
            getoption=lambda _: None,
            rootpath=Path("/project"),
            warnings=warnings,
            issue_config_time_warning=lambda warning, stacklevel: warnings.append(warning),
        )
        scheduler = Scheduling(config)
        nodes = [Node(f"gw{number}") for number in range(workers)]
        for node in nodes:
            node.sent = lambda indices: sent([names[index] for index in indices])
            scheduler.add_node(node)
            scheduler.add_node_collection(node, names)
        scheduler.schedule()
        return scheduler, nodes

    return begin


def names_of(scheduler: Scheduling, node: Node) -> list[str]:
    return [scheduler.collection[index] for index in node.queue]


def complete(scheduler: Scheduling, node: Node) -> None:
    scheduler.mark_test_complete(node, node.queue.pop(0), 0.01)


def replace(scheduler: Scheduling, sent: Callable[[list[int]], None] = lambda indices: None) -> Node:
    fresh = Node("new")
    fresh.sent = sent
    scheduler.add_node(fresh)
    scheduler.add_node_collection(fresh, list(scheduler.collection))
    scheduler.schedule()
    return fresh


def test_a_fan_out_waits_and_then_is_for_all_workers(schedule: Schedule) -> None:
    scheduler, (one, two) = schedule({"first": [], **{f"fan{n}": ["first"] for n in range(4)}})
    assert (one.queue, two.queue) == ([0], [])
    complete(scheduler, one)
    assert (len(one.queue), len(two.queue)) == (1, 1)
    complete(scheduler, one)  # however short it was: the next may be long, and nobody else could have it
    assert (len(one.queue), len(two.queue)) == (1, 1)


def test_the_longest_way_comes_first(schedule: Schedule) -> None:
    needs = {"short": [], "long": [], "begin": [], "end": ["begin"]}
    seconds = {"short": 1.0, "long": 5.0, "begin": 2.0, "end": 4.0}
    _, (one, two) = schedule(needs, seconds=seconds)
    assert (one.queue, two.queue) == ([2], [1])


def test_the_order_of_the_collection_may_be_any(schedule: Schedule) -> None:
    """With --ff, for instance, what failed before stands before what it needs."""
    scheduler, (one, two) = schedule({"last": ["middle"], "middle": ["first"], "first": []})
    for index in (2, 1, 0):
        assert (one.queue, two.queue) == ([index], [])
        complete(scheduler, one)
    assert scheduler.tests_finished


def test_ordinary_tests_follow_when_no_instance_is_ready(schedule: Schedule) -> None:
    scheduler, (one, two) = schedule({"a": [], "b": ["a"], "c": ["a"]}, tests=40)
    assert names_of(scheduler, one) == ["a"]
    assert names_of(scheduler, two) == [f"test_{number}" for number in range(5)]
    for _ in range(4):  # the last is sent together with the next, for the fixtures they share
        complete(scheduler, two)
    assert names_of(scheduler, two) == [f"test_{number}" for number in range(4, 9)][: len(two.queue)]
    assert len(two.queue) > 1
    complete(scheduler, one)
    assert names_of(scheduler, one) == ["b"]
    while names_of(scheduler, two)[0].startswith("test"):
        complete(scheduler, two)
    assert names_of(scheduler, two) == ["c"]


def test_sessions_without_instances_are_xdist_s(schedule: Schedule) -> None:
    scheduler, (one, two) = schedule({}, tests=40)
    assert type(scheduler) is LoadScheduling
    assert len(one.queue) == len(two.queue) == 5
    assert schedule({})[0].tests_finished  # also without any test


def test_what_needs_a_crashed_one_is_not_kept_back(schedule: Schedule) -> None:
    scheduler, (one, two) = schedule({"first": [], "next": ["first"]})
    assert scheduler.remove_node(one) == "first"
    assert two.queue == [1]
    scheduler.mark_test_pending("first")  # a plugin has it repeated
    assert not scheduler.tests_finished
    complete(scheduler, two)
    assert two.queue == [0]


def test_a_dead_worker_of_which_xdist_has_not_heard_gets_nothing(schedule: Schedule) -> None:
    scheduler, (one, two, three) = schedule({"first": [], "a": ["first"], "b": ["first"]}, workers=3)
    two.dead = True
    complete(scheduler, one)
    assert (one.queue, two.queue, three.queue) == ([1], [], [2])
    assert scheduler.remove_node(two) is None


def test_a_new_worker_gets_nothing_before_it_has_collected(schedule: Schedule) -> None:
    scheduler, (one, two) = schedule({"a": [], "b": [], "c": []})
    fresh = Node("fresh")
    scheduler.add_node(fresh)
    assert scheduler.remove_node(two) == "b"
    assert fresh.queue == []
    scheduler.add_node_collection(fresh, ["a", "b", "c"])
    scheduler.schedule()
    assert (one.queue, fresh.queue) == ([0], [2])


def test_a_new_worker_that_collects_other_tests_is_not_used(schedule: Schedule) -> None:
    scheduler, (one, two) = schedule({"a": [], "b": [], "c": []})
    scheduler.remove_node(two)
    fresh = Node("gw2")
    scheduler.add_node(fresh)
    scheduler.add_node_collection(fresh, ["b", "c", "d"])
    scheduler.schedule()
    assert fresh.shutting_down
    assert not fresh.queue
    assert [str(warning) for warning in scheduler.config.warnings] == [
        "ductaflow: the new worker gw2 is not used: it collected other tests"
    ]
    complete(scheduler, one)
    assert one.queue == [2]


def test_a_cycle_that_came_with_a_change_since_collection_stops_nobody(schedule: Schedule) -> None:
    scheduler, (one,) = schedule({"a": ["b"], "b": ["a"], "c": ["b", "d"], "d": []}, workers=1)
    for _ in range(4):
        complete(scheduler, one)
    assert scheduler.tests_finished


@pytest.mark.parametrize("seed", range(100))
def test_random_graphs_orders_and_crashes(schedule: Schedule, seed: int) -> None:
    chance = random.Random(seed)
    count, tests = chance.randrange(1, 25), chance.choice([0, 0, chance.randrange(1, 40)])
    needs = {str(n): [str(m) for m in range(n) if chance.random() < 0.15] for n in range(count)}
    seconds = {name: chance.random() for name in needs}

    def way(name: str) -> float:
        return seconds[name] + max((way(other) for other in needs if name in needs[other]), default=0.0)

    done: set[str] = set()
    sent: list[str] = []
    returned: list[str] = []

    def ready() -> set[str]:
        """What nothing keeps from being sent."""
        kept = set(needs) - set(sent)
        return {name for name in kept if done.issuperset(needs[name])}

    def check_sent(names: list[str]) -> None:
        for name in names:
            if name in returned:  # only ordinary tests: instances are sent one at a time
                returned.remove(name)
            else:
                assert name not in sent
                sent.append(name)
        first, *others = names
        if first in needs:
            assert not others
            assert done.issuperset(needs[first])
            assert all(way(first) >= way(name) - 1e-9 for name in ready())
        else:
            assert not ready()
            assert not set(others) & set(needs)

    scheduler, nodes = schedule(
        needs,
        workers=chance.randrange(1, 5),
        tests=tests,
        seconds=seconds,
        shuffle=chance.choice([None, chance.shuffle]),
        sent=check_sent,
    )
    for _ in range(1000):
        if scheduler.tests_finished:
            break
        busy = [node for node in nodes if node.queue]
        assert busy, "stuck"
        assert not ready() or len(busy) == len(nodes), "somebody is idle"
        node = chance.choice(busy)
        if chance.random() < 0.08:
            nodes.remove(node)
            crashed, *others = names_of(scheduler, node)
            done.add(crashed)
            returned += others
            assert scheduler.remove_node(node) == crashed
            nodes.append(
                replace(scheduler, lambda found: check_sent([scheduler.collection[index] for index in found]))
            )
        else:
            done.add(names_of(scheduler, node)[0])
            complete(scheduler, node)
    for node in nodes:
        done.update(names_of(scheduler, node))  # at most one each, which xdist lets them end
    assert sorted(done) == sorted(sent) == sorted(scheduler.collection)
    assert not returned


class Queue(list[Any]):
    """xdist's queue of a worker: ``later`` comes when it waits for more."""

    def __init__(self, now: list[Any], later: list[Any]) -> None:
        super().__init__(now)
        self.later = later

    @contextlib.contextmanager
    def lock(self) -> Iterator["Queue"]:
        yield self

    def get(self) -> Any:
        return self.pop(0) if self else self.later.pop(0)


END = object()
TEST, INSTANCE = SimpleNamespace(instance=None), SimpleNamespace(instance=mock.Mock(spec=Instance))


@pytest.mark.parametrize("item", [INSTANCE, TEST])
@pytest.mark.parametrize(("now", "nextitem"), [([], "session"), ([1], "item"), ([END], None)])
@pytest.mark.parametrize("stop", [False, True])
def test_a_worker_keeps_what_the_session_shares_until_it_knows_the_next_test(
    monkeypatch: pytest.MonkeyPatch, item: Any, now: list[Any], nextitem: str | None, stop: bool
) -> None:
    following = now[0] if now else END
    torn_down: list[Any] = []
    monkeypatch.setattr(scheduling, "_tear_down", torn_down.append)
    session = SimpleNamespace(items=[item, TEST], shouldfail=stop, shouldstop=False)
    protocol, sent = mock.Mock(), mock.Mock()
    worker: Any = SimpleNamespace(
        session=session,
        torun=Queue(list(now), later=[END]),
        nextitem_index=0,
        config=SimpleNamespace(hook=SimpleNamespace(pytest_runtest_protocol=protocol)),
        sendevent=sent,
    )
    scheduling._run_one_test(worker)
    expected = {"session": session, "item": TEST, None: None}[nextitem]
    protocol.assert_called_once_with(item=item, nextitem=expected)
    sent.assert_called_once_with("runtest_protocol_complete", item_index=0, duration=mock.ANY)
    assert worker.nextitem_index == (0 if stop else following)
    assert torn_down == ([item] if nextitem == "session" and not stop else [])
