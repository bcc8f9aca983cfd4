"""xdist's scheduler with instances: nothing too early, nothing lost, nobody waits for nothing."""

import random
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pytest_ductaflow import scheduling
from pytest_ductaflow.scheduling import Scheduling


class Node:
    """A worker as the scheduler sees it."""

    def __init__(self, name: str) -> None:
        self.gateway = SimpleNamespace(id=name)
        self.queue: list[int] = []
        self.shutting_down = False
        self.batches: list[list[int]] = []

    def send_runtest_some(self, indices: list[int]) -> None:
        self.queue += indices
        self.batches.append(list(indices))

    def shutdown(self) -> None:
        self.shutting_down = True


Schedule = Callable[..., tuple[Scheduling, list[Node]]]


@pytest.fixture
def schedule(monkeypatch: pytest.MonkeyPatch) -> Schedule:
    """Begin to schedule tests: ``needs`` has for each instance what it needs; ``tests`` are no instances."""

    def begin(
        needs: dict[str, list[str]],
        *,
        workers: int = 2,
        tests: int = 0,
        seconds: dict[str, float] | None = None,
    ) -> tuple[Scheduling, list[Node]]:
        names = [*needs, *(f"test_{number}" for number in range(tests))]
        directories = {
            index: (f"runs/step/{name}", tuple(f"runs/step/{other}/out" for other in needs[name]))
            for index, name in enumerate(needs)
        }
        monkeypatch.setattr(scheduling, "_run_directories", lambda *_: directories)
        monkeypatch.setattr(scheduling, "last_duration", lambda path: (seconds or {}).get(path.name))
        monkeypatch.setattr("xdist.scheduler.load.parse_tx_spec_config", lambda _: [None] * workers)
        config: Any = SimpleNamespace(getoption=lambda _: None, rootpath=Path("/project"))
        scheduler = Scheduling(config)
        nodes = [Node(f"gw{number}") for number in range(workers)]
        for node in nodes:
            scheduler.add_node(node)
            scheduler.add_node_collection(node, names)
        scheduler.schedule()
        return scheduler, nodes

    return begin


def complete(scheduler: Scheduling, node: Node, seconds: float = 1.0) -> str:
    index = node.queue.pop(0)
    scheduler.mark_test_complete(node, index, seconds)
    return str(scheduler.collection[index])


def test_a_fan_out_waits_and_then_is_for_all_workers(schedule: Schedule) -> None:
    scheduler, (one, two) = schedule({"first": [], **{f"fan{n}": ["first"] for n in range(4)}})
    assert (one.queue, two.queue) == ([0], [])
    complete(scheduler, one)
    assert (len(one.queue), len(two.queue)) == (1, 1)


def test_the_longest_way_comes_first(schedule: Schedule) -> None:
    needs = {"short": [], "long": [], "begin": [], "end": ["begin"]}
    seconds = {"short": 1.0, "long": 5.0, "begin": 2.0, "end": 4.0}
    _, (one, two) = schedule(needs, seconds=seconds)
    assert (one.queue, two.queue) == ([2], [1])


def test_short_ones_are_sent_in_advance_while_there_are_plenty(schedule: Schedule) -> None:
    scheduler, (one, two) = schedule({str(n): [] for n in range(20)})
    assert [len(node.queue) for node in (one, two)] == [1, 1]
    complete(scheduler, one, seconds=0.01)
    assert [len(node.queue) for node in (one, two)] == [2, 1]
    complete(scheduler, two, seconds=5.0)
    assert [len(node.queue) for node in (one, two)] == [2, 1]


def test_ordinary_tests_are_sent_in_batches(schedule: Schedule) -> None:
    scheduler, (one, two) = schedule({"a": []}, tests=40)
    assert one.queue == [0]
    assert len(two.queue) > 2
    assert two.queue == sorted(two.queue)
    assert not scheduler.tests_finished


def test_what_needs_a_crashed_one_is_not_kept_back(schedule: Schedule) -> None:
    scheduler, (one, two) = schedule({"first": [], "next": ["first"]})
    assert scheduler.remove_node(one) == "first"
    assert two.queue == [1]


@pytest.mark.parametrize("seed", range(60))
def test_random_graphs_orders_and_crashes(schedule: Schedule, seed: int) -> None:
    chance = random.Random(seed)
    count = chance.randrange(1, 25)
    needs = {str(n): [str(m) for m in range(n) if chance.random() < 0.15] for n in range(count)}
    scheduler, nodes = schedule(
        needs,
        workers=chance.randrange(1, 5),
        tests=chance.randrange(0, 12),
        seconds={str(n): chance.random() for n in range(count) if chance.random() < 0.5},
    )
    done: list[str] = []
    total = len(scheduler.collection)
    for _ in range(10_000):
        busy = [node for node in nodes if node.queue]
        if not busy:
            break
        for node in busy:  # nothing is sent before what it needs is done
            for index in node.queue:
                name = scheduler.collection[index]
                assert set(needs.get(name, ())) <= set(done)
        node = chance.choice(busy)
        if chance.random() < 0.08:
            nodes.remove(node)
            crashed = scheduler.remove_node(node)
            assert crashed == scheduler.collection[node.queue[0]]
            done.append(crashed)
            fresh = Node("new")
            nodes.append(fresh)
            scheduler.add_node(fresh)
            scheduler.add_node_collection(fresh, scheduler.collection)
            scheduler.schedule()
        else:
            done.append(complete(scheduler, node, chance.choice([0.01, 2.0])))
    assert sorted(done) == sorted(scheduler.collection)
    assert len(done) == total
    assert scheduler.tests_finished
    assert not scheduler.has_pending
    assert all(node.shutting_down for node in nodes)
