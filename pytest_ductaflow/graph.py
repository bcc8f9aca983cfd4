"""Which instance comes before which: order, cycles, components. A node is a run directory."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterable, Mapping, Sequence


def order(nodes: Sequence[str], edges: Mapping[str, Sequence[str]]) -> tuple[list[str], list[list[str]]]:
    """What is needed comes first; otherwise the order stays.

    :returns: the ordered nodes without those on cycles, and the cycles, each as a closed walk.
    """
    ordered = _sorted(nodes, edges)
    if len(ordered) == len(nodes):
        return ordered, []
    cycles = _cycles([node for node in nodes if node not in set(ordered)], edges)
    left_out = {node for cycle in cycles for node in cycle}
    return _sorted([node for node in nodes if node not in left_out], edges), cycles


def _sorted(nodes: Sequence[str], edges: Mapping[str, Sequence[str]]) -> list[str]:
    """Kahn's algorithm, the earliest node first; what hangs on a cycle among ``nodes`` is left out."""
    position = {node: index for index, node in enumerate(nodes)}
    missing = {node: {needed for needed in edges.get(node, ()) if needed in position} for node in nodes}
    needed_by: dict[str, list[str]] = {}
    for node, needed in missing.items():
        for other in needed:
            needed_by.setdefault(other, []).append(node)
    ready = [position[node] for node, needed in missing.items() if not needed]
    heapq.heapify(ready)
    ordered: list[str] = []
    while ready:
        node = nodes[heapq.heappop(ready)]
        ordered.append(node)
        for other in needed_by.get(node, ()):
            missing[other].discard(node)
            if not missing[other]:
                heapq.heappush(ready, position[other])
    return ordered


def _cycles(nodes: Sequence[str], edges: Mapping[str, Sequence[str]]) -> list[list[str]]:
    """The shortest closed walk through each node that is on one, those already covered left out."""
    among = set(nodes)
    cycles: list[list[str]] = []
    covered: set[str] = set()
    for start in nodes:
        if start in covered:
            continue
        came_from: dict[str, str] = {}
        pending = deque([start])
        while pending and start not in came_from:
            node = pending.popleft()
            for following in edges.get(node, ()):
                if following in among and following not in came_from:
                    came_from[following] = node
                    pending.append(following)
        if start in came_from:
            walk = [start]
            while len(walk) == 1 or walk[-1] != start:
                walk.append(came_from[walk[-1]])
            cycles.append(walk[::-1])
            covered.update(walk)
    return cycles


def components(edges: Mapping[str, Iterable[str]]) -> dict[str, int]:
    """The strongly connected components (Tarjan): two nodes have one number if each leads to the other."""
    found: dict[str, int] = {}
    order_of: dict[str, int] = {}
    lowest: dict[str, int] = {}
    stack: list[str] = []
    for start in edges:
        if start in order_of:
            continue
        order_of[start] = lowest[start] = len(order_of)
        stack.append(start)
        walk = [(start, iter(edges[start]))]
        while walk:
            node, following = walk[-1]
            for other in following:
                if other not in order_of:
                    order_of[other] = lowest[other] = len(order_of)
                    stack.append(other)
                    walk.append((other, iter(edges.get(other, ()))))
                    break
                if other not in found:
                    lowest[node] = min(lowest[node], order_of[other])
            else:
                walk.pop()
                if walk:
                    lowest[walk[-1][0]] = min(lowest[walk[-1][0]], lowest[node])
                if lowest[node] == order_of[node]:
                    number = len(found)
                    while node not in found:
                        found[stack.pop()] = number
    return found
