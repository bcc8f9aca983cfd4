"""Which instance needs which: read off the references, that is config strings below ``runs/``.

A node is a run directory, ``runs/<step>/<name>``. A reference points into one; with a wildcard
(``runs/fit/*/model.json``) it points into all that match.
"""

from __future__ import annotations

import heapq
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
            target = "/".join(reference.split("/")[:3])
            if any(character in target for character in "*?["):
                found |= dict.fromkeys(n for n in references if n != node and fnmatchcase(n, target))
            elif target in references:
                found[target] = None
        if found:
            edges[node] = list(found)
    return edges


def order(nodes: Sequence[str], edges: Mapping[str, Sequence[str]]) -> tuple[list[str], list[list[str]]]:
    """What is needed comes first; otherwise the order stays.

    :returns: the ordered nodes without those on cycles, and the cycles, each as a closed walk.
    """
    cycles = _cycles(nodes, edges)
    left_out = {node for cycle in cycles for node in cycle}
    position = {node: index for index, node in enumerate(nodes)}
    missing = {
        node: {n for n in edges.get(node, ()) if n not in left_out} for node in nodes if node not in left_out
    }
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
    return ordered, cycles


def _cycles(nodes: Sequence[str], edges: Mapping[str, Sequence[str]]) -> list[list[str]]:
    """A closed walk for each edge that leads back, depth first and without recursion."""
    cycles: list[list[str]] = []
    done: dict[str, bool] = {}  # False while on the path
    for start in nodes:
        if start in done:
            continue
        path, pending = [start], [iter(edges.get(start, ()))]
        done[start] = False
        while path:
            following = next(pending[-1], None)
            if following is None:
                done[path.pop()] = True
                pending.pop()
            elif following not in done:
                done[following] = False
                path.append(following)
                pending.append(iter(edges.get(following, ())))
            elif done[following] is False:
                cycles.append([*path[path.index(following) :], following])
    return cycles
