"""Which instance needs which: read off the references, that is config strings below ``runs/``.

A node is a run directory, ``runs/<step>/<name>``. A reference points into one; with a wildcard
(``runs/fit/*/model.json``) it points into all that match.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase


def needs(references: Mapping[str, Iterable[str]]) -> dict[str, list[str]]:
    """Edges from references.

    :param references: run directory to the references of the instance that runs there.
    :returns: run directory to the run directories it needs; references that lead to none are left out.
    """
    edges: dict[str, list[str]] = {}
    for node, wanted in references.items():
        found: dict[str, None] = {}
        for reference in wanted:
            target = target_of(reference)
            if is_wild(target):
                found |= dict.fromkeys(n for n in references if n != node and fnmatchcase(n, target))
            elif target in references:
                found[target] = None
        if found:
            edges[node] = list(found)
    return edges


def target_of(reference: str) -> str:
    """The run directory, perhaps with wildcards, that a reference points into."""
    return "/".join(reference.split("/")[:3])


def is_wild(target: str) -> bool:
    """Whether it has wildcards."""
    return any(character in target for character in "*?[")


def leads_to(reference: str, node: str) -> bool:
    """Whether a reference points into a run directory."""
    target = target_of(reference)
    return fnmatchcase(node, target) if is_wild(target) else target == node


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
