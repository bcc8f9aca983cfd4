"""Which instance needs which: read off the references, that is config strings below ``runs/``.

A node is a run directory, ``runs/<step>/<name>``. A reference points into one; with a wildcard
(``runs/fit/*/model.json``) it points into all that match.
"""

from __future__ import annotations

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
    position = {node: index for index, node in enumerate(nodes)}
    ordered: list[str] = []
    cycles: list[list[str]] = []
    state: dict[str, bool] = {}  # False while on the path, True when done
    on_cycle: set[str] = set()
    for start in nodes:
        if start in state:
            continue
        path = [start]
        pending = [iter(sorted(edges.get(start, ()), key=position.__getitem__))]
        state[start] = False
        while path:
            following = next(pending[-1], None)
            if following is None:
                node = path.pop()
                pending.pop()
                state[node] = True
                ordered.append(node)
            elif following not in state:
                state[following] = False
                path.append(following)
                pending.append(iter(sorted(edges.get(following, ()), key=position.__getitem__)))
            elif state[following] is False:
                cycle = path[path.index(following) :]
                cycles.append([*cycle, following])
                on_cycle.update(cycle)
    return [node for node in ordered if node not in on_cycle], cycles
