from dataclasses import dataclass


@dataclass(frozen=True)
class Occurrence:
    path: str
    flow: str
    cell: object
    place: str
    type: str
    message: str


@dataclass(frozen=True)
class Cluster:
    place: str
    type: str
    message: str
    example: str
    count: int
    of: int
    paths: list
    common: list


def clusters(found, scenarios):
    groups = {}
    for o in found:
        groups.setdefault((o.place, o.type, o.message), []).append(o)
    return [
        Cluster(
            k[0],
            k[1],
            k[2],
            k[2],
            len(set(o.path for o in g)),
            len(scenarios),
            list(dict.fromkeys(o.path for o in g)),
            ["all have x = 1"],
        )
        for k, g in groups.items()
    ]
