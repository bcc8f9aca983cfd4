"""The status page: one self-contained HTML file that holds its data, its script and its style.

The data is JSON that the script shows with ``textContent``; the page's Content-Security-Policy admits
that one script and that one style, by their digests.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import json
import os
import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Final

from pytest_ductaflow import regular
from pytest_ductaflow.digests import digest_of_text
from pytest_ductaflow.leftovers import below as leftovers_below
from pytest_ductaflow.record import RECORD_NAME
from pytest_ductaflow.report import clusters, rows
from pytest_ductaflow.report.clusters import Cluster, Occurrence
from pytest_ductaflow.report.rows import Place, Row
from pytest_ductaflow.report.sweep import Sweep, as_text, with_configs
from pytest_ductaflow.status import Status
from pytest_ductaflow.xfail import XFAILED

#: Version of the page's data; a page of another one is not read back.
FORMAT: Final = 1
#: While a session runs, clusters are found for this part of the time.
_SHARE: Final = 200
#: Bytes of clusters on a page: for each row (of a small page, for a hundred), and on any page.
_CLUSTERS_PER_ROW: Final = 600
_CLUSTERS: Final = 1_000_000
#: So many characters of a cluster's message, and of its example.
_MESSAGE: Final = 600
#: So many bytes of a page hold its head.
_HEAD: Final = 2000
_DATA: Final = re.compile(rb'<script type="application/json" id="data">(.*?)</script>', re.DOTALL)
_SCRIPTS: Final = (
    "core.js",
    "pictures.js",
    "charts.js",
    "compare.js",
    "graph.js",
    "timeline.js",
    "runs.js",
    "page.js",
)
_STYLES: Final = ("page.css", "pictures.css")
_LAYOUT: Final = "vendor/dagre.min.js"


def generate_status_report(
    results: Sequence[Mapping[str, Any]] | None = None,
    model_root: str | os.PathLike[str] = "runs",
) -> str:
    """The status page of the runs below a directory, as an HTML string.

    :param results: a conductor's results: mappings with ``scenario`` (the instance's name), ``status`` and
        maybe ``error``. They choose and order the rows. What the record says counts; a result that says
        success and has no record to prove it is red. Without results the page shows every run.
    :param model_root: the directory; links on the page are relative to the page standing in it.
    """
    runs = Path(os.path.abspath(model_root))
    sweep = Sweep(Place(runs.parent, runs), leftovers=lambda: leftovers_below(runs))
    if results is None:
        return render(sweep, finished=True)
    found = sweep.rows(finished=True)
    by_name: dict[str, list[Mapping[str, Any]]] = {}
    for result in results:
        by_name.setdefault(str(result.get("scenario", result.get("instance", ""))), []).append(result)
    sweep.show([_result_row(name, stated, found) for name, stated in by_name.items()])
    return render(sweep, finished=True, current=False)


def render(
    sweep: Sweep, *, finished: bool, current: bool = True, before: Mapping[str, Any] | None = None
) -> str:
    """The page of a sweep.

    :param current: whether the page shows all runs below the directory, as they are.
    :param before: what an older copy of the runs held (see ``compare``).
    """
    complete = finished and current and before is None and not (sweep.session or {}).get("problems")
    records = _fingerprint(sweep.place.runs, sweep.leftovers) if complete else ""
    if finished and current:
        sweep.look_again()
    found = sweep.rows(finished=finished)
    texts = sweep.texts(finished=finished)
    head: dict[str, Any] = {
        "format": FORMAT,
        "project": sweep.place.root.name,
        "runs": sweep.place.runs.name,
        "generated": round(time.time(), 3),
        "session": sweep.session,
        "configs": sweep.configs(),
        "before": before,
        "leftovers": [_leftover(row) for row in sweep.leftovers.values()],
        **_summary(found),
        **_clusters(sweep, found, finished=finished),
    }
    if any(row["light"] == Status.RUNNING.light or "stamp" not in row or "xfail" in row for row in found):
        records = ""  # the same records may be another page tomorrow
    data = f'{as_text(head)[:-1]},"rows":[{",".join(texts)}]}}'
    script = _assets((_LAYOUT, *_SCRIPTS) if any(row.get("needs") for row in found) else _SCRIPTS)
    style = _assets(_STYLES)
    page: str = _template().render(
        title=f"{sweep.place.root.name}: scenarios".encode("utf-8", "replace").decode(),  # may be any bytes
        records=records,
        data=_Safe(data),
        script=_Safe(script),
        style=_Safe(style),
        script_digest=_digest(script),
        style_digest=_digest(style),
    )
    return page


def read_back(page: Path) -> list[Row]:
    """The rows that a page shows, with their whole configs; none if there is no such page, or an old one."""
    try:
        match = _DATA.search(regular.read_bytes(page))
        data = json.loads(match.group(1)) if match else {}
        if data.get("format") != FORMAT:
            return []
        found = data["rows"]
        again = len(found) > 100  # so many rows are cut again
        kept = [row for row in found if again or not row.get("cut")]
        return [
            with_configs(row, data["configs"])
            for row in kept
            if all("path" in one for one in rows.parts_of(row))
        ]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return []


def is_current(page: Path, leftovers: Iterable[str] = ()) -> bool:
    """Whether a page shows the runs beside it as they are: none was executed, removed or added since.

    :param leftovers: those among them that are leftovers, as in :class:`Sweep`.
    """
    try:
        head = regular.read_bytes(page, _HEAD)
    except OSError:
        return False
    return (
        f'<meta name="ductaflow-records" content="{_fingerprint(page.parent, leftovers)}">'.encode() in head
    )


def _fingerprint(root: Path, leftovers: Iterable[str]) -> str:
    """Of which records there are, when each was written, and what a page makes of them."""
    found = [str(FORMAT), _look(), *sorted(leftovers)]
    for folder, folders, names in os.walk(root):
        folders.sort()
        if RECORD_NAME in names:
            info = os.stat(os.path.join(folder, RECORD_NAME))
            found.append(f"{folder} {info.st_mtime_ns} {info.st_ino} {info.st_size}")
    return digest_of_text("\n".join(found))


def _leftover(row: Row) -> Row:
    """What the page says of a leftover."""
    return {key: row[key] for key in ("path", "id", "name", "light", "flow", "start") if key in row}


def _summary(found: Sequence[Row]) -> dict[str, Any]:
    """What the rows are about as a whole: dimensions and measures."""
    dimensions: dict[str, None] = {}
    measures: dict[str, str] = {}
    for row in found:
        scenario = row.get("scenario", {})
        if not scenario.keys() <= dimensions.keys():
            dimensions |= dict.fromkeys(scenario)
        units = row.get("units", {})
        for name in row.get("measures", ()):
            if not measures.get(name):
                measures[name] = units.get(name, "")
    return {"dimensions": list(dimensions), "measures": measures}


def _clusters(sweep: Sweep, found: Sequence[Row], *, finished: bool) -> dict[str, Any]:
    """Failures and warnings by their causes; of a large sweep that runs they may be a while old."""
    started = time.monotonic()
    if finished or started >= sweep.clusters_until:
        scenarios = {row["path"]: row.get("scenario", {}) for row in found}
        failures = clusters.clusters(list(_failures(found)), scenarios)
        warned = clusters.clusters(list(_warnings(found)), scenarios)
        room = min(_CLUSTERS, _CLUSTERS_PER_ROW * max(100, len(found)))
        shown, used = _fitting(failures, room * 2 // 3)
        also, _ = _fitting(warned, room - used)
        sweep.clusters = {
            "clusters": shown,
            "warnings": also,
            "unshown": {"clusters": len(failures) - len(shown), "warnings": len(warned) - len(also)},
        }
        ended = time.monotonic()
        sweep.clusters_until = ended + _SHARE * (ended - started)
    return sweep.clusters


def _fitting(found: Iterable[Cluster], room: int) -> tuple[list[dict[str, Any]], int]:
    """As many clusters as fit into so many bytes, and the bytes that they take."""
    shown: list[dict[str, Any]] = []
    used = 0
    for one in found:
        cluster = {**vars(one), "message": one.message[:_MESSAGE], "example": one.example[:_MESSAGE]}
        used += len(as_text(cluster))
        if used > room:
            return shown, room
        shown.append(cluster)
    return shown, used


def _failures(found: Sequence[Row]) -> Iterator[Occurrence]:
    """The failure of each red instance; that of a build's flow is that flow's."""
    for row in found:
        if row["light"] == Status.ERROR.light:
            run = row.get("error", {}).get("run")
            failed = next((part for part in rows.parts_of(row) if run and part["path"] == run), row)
            yield _failure(row["path"], row.get("error", {}), failed.get("flow", ""))


def _failure(path: str, error: Mapping[str, Any], flow: str) -> Occurrence:
    place, kind, text = error.get("place", flow), error.get("type", ""), error.get("message", "")
    return Occurrence(path, flow, error.get("cell"), place, kind, text)


def _warnings(found: Sequence[Row]) -> Iterator[Occurrence]:
    """The warning lines of each instance and of its nested runs, and nested failures that were caught."""
    for row in found:
        if row["light"] == Status.SUCCESS.light:
            continue
        for part in rows.parts_of(row):
            flow = part.get("flow", "")
            for warning in part.get("warnings", ()):
                place, cell = warning.get("place", flow), warning.get("cell")
                yield Occurrence(row["path"], flow, cell, place, "", warning["text"])
            caught = row["light"] not in (Status.ERROR.light, XFAILED)
            if part is not row and part["light"] == Status.ERROR.light and caught:
                yield _failure(row["path"], part.get("error", {}), flow)


def _result_row(name: str, results: Sequence[Mapping[str, Any]], found: Sequence[Row]) -> Row:
    """The row of a conductor's results of one name; of several runs the worst. A stated failure is one."""
    stated = dict.fromkeys(str(one["error"]) for one in results if one.get("error"))
    named = [row for row in found if row["name"] == name]
    if not named:
        error = {"type": "Error", "message": "\n".join(stated) or "no record of this run was found"}
        return {"path": name, "name": name, "light": "red", "error": error, "files": []}
    row = max(named, key=lambda row: rows.SEVERITY.index(row["light"]))
    failed = any(str(one.get("status")).lower() in ("failed", "error") for one in results)
    if failed and row["light"] != "red":
        error = {"type": "Error", "message": "\n".join(stated) or "failed"}
        row = {**row, "light": "red", "error": error}
        row.pop("stamp", None)  # it is not what the record says
    return row


# --- assets ---


class _Safe(str):
    """A text of ours that is markup already (see Jinja's autoescape)."""

    def __html__(self) -> str:
        return str(self)


@functools.cache
def _template() -> Any:
    import jinja2  # at the point of use: only whoever renders needs it

    loader = jinja2.PackageLoader("pytest_ductaflow.report", "assets")
    return jinja2.Environment(loader=loader, autoescape=True, trim_blocks=True).get_template("page.html.j2")


@functools.cache
def _assets(names: tuple[str, ...]) -> str:
    folder = resources.files("pytest_ductaflow.report") / "assets"
    return "\n".join(folder.joinpath(name).read_text("utf-8") for name in names)


@functools.cache
def _look() -> str:
    """Changes when the page looks different."""
    return digest_of_text(_assets((*_SCRIPTS, *_STYLES, "page.html.j2")))


def _digest(text: str) -> str:
    """As a Content-Security-Policy names what it admits."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
