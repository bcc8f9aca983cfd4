import itertools
from collections.abc import Iterator

import pytest

from pytest_ductaflow import graph


@pytest.mark.parametrize(
    ("edges", "ordered"),
    [
        pytest.param({}, "abcd", id="nothing needed: as it stands"),
        pytest.param({"a": "d"}, "bcda", id="what needs waits"),
        pytest.param({"c": "a"}, "abcd", id="already before: nothing moves"),
        pytest.param({"a": "b", "b": "c", "c": "d"}, "dcba", id="chain"),
        pytest.param({"a": "db"}, "bcda", id="what needs two waits for both"),
        pytest.param({"a": "c", "b": "c"}, "cabd", id="then those that waited, in the given order"),
    ],
)
def test_what_is_needed_comes_first_and_the_rest_keeps_its_order(edges: dict[str, str], ordered: str) -> None:
    assert graph.order(list("abcd"), edges) == (list(ordered), [])


@pytest.mark.parametrize(
    ("edges", "ordered", "cycles"),
    [
        pytest.param({"a": "a"}, "bcd", ["aa"], id="itself"),
        pytest.param({"a": "b", "b": "a"}, "cd", ["aba"], id="two"),
        pytest.param({"a": "b", "b": "c", "c": "a"}, "d", ["abca"], id="three"),
        pytest.param({"a": "b", "b": "c", "c": "b"}, "ad", ["bcb"], id="what leads to a cycle is not on it"),
        pytest.param({"a": "b", "b": "ac"}, "cd", ["aba"], id="what a cycle needs is not on it"),
        pytest.param({"a": "b", "b": "a", "c": "d", "d": "c"}, "", ["aba", "cdc"], id="two cycles"),
    ],
)
def test_a_cycle_is_a_closed_walk_and_its_nodes_are_left_out(
    edges: dict[str, str], ordered: str, cycles: list[str]
) -> None:
    assert graph.order(list("abcd"), edges) == (list(ordered), [list(cycle) for cycle in cycles])


def test_a_node_on_a_second_cycle_through_a_finished_node_is_left_out_too() -> None:
    ordered, cycles = graph.order(list("abc"), {"a": ["b", "c"], "b": ["a"], "c": ["b"]})
    assert ordered == []
    assert {node for cycle in cycles for node in cycle} == {"a", "b", "c"}


def test_ten_thousand_in_a_chain_are_ordered_without_recursion() -> None:
    nodes = [str(number) for number in range(10_000)]
    edges = {node: [following] for node, following in itertools.pairwise(nodes)}
    assert graph.order(nodes, edges) == (nodes[::-1], [])


NODES = "abc"


def reachable(start: str, edges: dict[str, list[str]]) -> set[str]:
    found: set[str] = set()
    pending = list(edges.get(start, ()))
    while pending:
        node = pending.pop()
        if node not in found:
            found.add(node)
            pending += edges.get(node, ())
    return found


def all_graphs() -> Iterator[dict[str, list[str]]]:
    """Every graph of three nodes."""
    targets = [list(chosen) for size in range(4) for chosen in itertools.combinations(NODES, size)]
    for wanted in itertools.product(targets, repeat=3):
        yield dict(zip(NODES, wanted, strict=True))


def test_every_graph_of_three_is_ordered_without_exactly_the_nodes_on_cycles() -> None:
    for edges in all_graphs():
        ordered, cycles = graph.order(list(NODES), edges)
        on_cycles = {node for node in NODES if node in reachable(node, edges)}
        assert sorted(ordered) == [node for node in NODES if node not in on_cycles], edges
        assert {node for cycle in cycles for node in cycle} == on_cycles, edges


def test_in_every_graph_of_three_what_is_needed_stands_before() -> None:
    for edges in all_graphs():
        ordered, _ = graph.order(list(NODES), edges)
        place = {node: index for index, node in enumerate(ordered)}
        for node, needed in itertools.product(ordered, ordered):
            assert needed not in edges[node] or place[needed] < place[node], edges


def test_in_every_graph_of_three_a_cycle_is_a_closed_walk_along_edges() -> None:
    for edges in all_graphs():
        for cycle in graph.order(list(NODES), edges)[1]:
            assert cycle[0] == cycle[-1]
            assert all(after in edges[before] for before, after in itertools.pairwise(cycle)), edges


def test_in_every_graph_of_three_two_are_one_component_if_each_leads_to_the_other() -> None:
    for edges in all_graphs():
        found = graph.components(edges)
        for one, other in itertools.combinations(NODES, 2):
            together = one in reachable(other, edges) and other in reachable(one, edges)
            assert (found[one] == found[other]) == together, edges


def test_ten_thousand_in_a_ring_are_one_component_without_recursion() -> None:
    nodes = [str(number) for number in range(10_000)]
    edges = {node: [following] for node, following in itertools.pairwise([*nodes, nodes[0]])}
    assert len(set(graph.components(edges).values())) == 1
