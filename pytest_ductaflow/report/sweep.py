"""What a session shows while it lasts and at its end: all runs of the project, and where each one stands.

A sweep is told which instances are to run, which start and which end; what happened it reads from the
run directories. The page, the progress line and the terminal's summary are views of it.
"""

from __future__ import annotations

import json
import math
import statistics
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from pytest_ductaflow.report import rows
from pytest_ductaflow.report.rows import Place, Row
from pytest_ductaflow.status import Status
from pytest_ductaflow.strict_json import canonical
from pytest_ductaflow.xfail import STRICT, XFAILED, Verdict

#: Light of what is to run and did not start.
WAITING: Final = "waiting"
#: Texts of all rows together, in bytes: of a page for up to a hundred instances, and of any page.
_SMALL_PAGE: Final = 700_000
_LARGE_PAGE: Final = 8_500_000
#: Of that, the part for failures that are shown in full.
_FAILURES: Final = 0.2
_FULL_ROW: Final = 8_000


@dataclass(frozen=True)
class Expected:
    """An instance that is to run. ``path`` and ``needs`` are run directories below that of all runs."""

    id: str
    path: str
    name: str
    flow: str
    kind: str
    scenario: Mapping[str, Any] = field(default_factory=dict)
    needs: Sequence[str] = ()

    def row(self) -> Row:
        """As a row of the page, waiting."""
        found = {**vars(self), "light": WAITING, "needs": list(self.needs), "now": True}
        return {key: value for key, value in found.items() if value not in ("", {}, [])}


class Sweep:
    """All runs of a project. Safe to use from several threads.

    :param place: where they lie.
    :param session: of the page (see the page's data), ``None`` if no session is going on.
    :param before: gives the rows of an earlier page: those that are still current need not be read again.
    :param leftovers: gives the run directories of instances that are gone, below that of all runs: no rows.
    """

    def __init__(
        self,
        place: Place,
        session: dict[str, Any] | None = None,
        before: Callable[[], Iterable[Row]] = tuple,
        leftovers: Callable[[], Iterable[str]] = tuple,
    ) -> None:
        self.place = place
        self.session = session
        self._before = before
        self._find_leftovers = leftovers
        #: Rows of leftovers, by path. They count nowhere.
        self.leftovers: dict[str, Row] = {}
        self._lock = threading.RLock()
        self._expected: dict[str, Expected] = {}  # by node id
        self._by_path: dict[str, Expected] = {}
        self._rows: dict[str, Row] = {}
        self._usual: dict[str, float] = {}  # seconds of the last runs, by path
        self._running: dict[str, float] = {}  # node id to when it started
        self._ended: dict[str, dict[str, Any]] = {}  # node id to what its report says
        self._unread: dict[str, None] = {}  # node ids of those that ended
        self._has_old = False
        self._reading = threading.Lock()
        self._chosen: list[Row] | None = None
        #: Failures and warnings by their causes, and when (monotonic clock) they are to be found again.
        self.clusters: dict[str, Any] = {}
        self.clusters_until = 0.0
        self._texts: dict[str, str] = {}
        self._failures = 0  # bytes of failures that are shown in full
        self._configs: dict[str, dict[str, Any]] = {}  # the first config of each flow

    # --- what happens ---

    def expect(self, instances: Iterable[Expected]) -> None:
        """These are to run."""
        with self._lock:
            for instance in instances:
                self._expected.setdefault(instance.id, instance)
                self._by_path.setdefault(instance.path, instance)

    def start(self, node_id: str) -> None:
        """An instance starts."""
        with self._lock:
            if node_id in self._expected:
                self._ended.pop(node_id, None)  # there are reruns
                self._unread.pop(node_id, None)
                self._running[node_id] = time.time()

    def end(
        self,
        node_id: str,
        *,
        worker: str,
        fresh: bool,
        took: float = 0.0,
        problem: str = "",
        problem_type: str = "",
        skipped: bool = False,
        xfail: Verdict | None = None,
    ) -> None:
        """An instance ended.

        :param took: seconds that pytest spent on it.
        :param fresh: it was up to date and not executed.
        :param problem: why it failed, if it was not executed for that.
        :param problem_type: the error's type, if no record tells of it: what is there is of an earlier run.
        :param skipped: this session has nothing to say about it.
        :param xfail: what a mark ``xfail`` made of it.
        """
        with self._lock:
            if node_id in self._expected:
                self._running.pop(node_id, None)
                self._ended[node_id] = {
                    "worker": worker,
                    "fresh": fresh,
                    "took": took,
                    "problem": problem,
                    "problem_type": problem_type,
                    "skipped": skipped,
                    "xfail": xfail,
                }
                self._unread[node_id] = None

    # --- what is to be seen ---

    def counts(self) -> Counter[str]:
        """How many instances of the session have which light; ``fresh`` counts those up to date."""
        with self._lock:
            self._read_ended()
            lights = Counter(
                self._rows[self._expected[node_id].path]["light"]
                for node_id, ended in self._ended.items()
                if not ended["skipped"] or ended["xfail"]
            )
            lights["running"] += len(self._running)
            lights[WAITING] = len(self._expected) - len(self._ended) - len(self._running)
            lights["fresh"] = sum(bool(ended["fresh"]) for ended in self._ended.values())
            return lights

    @property
    def executed(self) -> bool:
        """Whether anything was executed, or goes on for long enough that it will be."""
        with self._lock:
            long_ago = time.time() - 0.3
            return any(not ended["fresh"] for ended in self._ended.values()) or any(
                started < long_ago for started in self._running.values()
            )

    @property
    def differs(self) -> bool:
        """Whether pytest said of an instance what its record does not."""
        with self._lock:
            return any(ended["problem"] or ended["xfail"] for ended in self._ended.values())

    def running(self) -> list[Row]:
        """The rows of what runs, the longest first."""
        with self._lock:
            going = sorted(self._running.items(), key=lambda entry: entry[1])
            expected = [(self._expected[node_id], started) for node_id, started in going]
        return [self._running_row(instance, started) for instance, started in expected]

    def remaining(self) -> float | None:
        """Seconds until all is done, guessed from what took how long before; ``None`` if nobody knows."""
        self._read_old()
        with self._lock:
            took: dict[str, float] = {
                self._expected[node_id].path: ended["took"] for node_id, ended in self._ended.items()
            }
            known = list(self._usual.values()) or list(took.values())
            if not known:
                return None
            otherwise = statistics.median(known)
            usual = {path: self._usual.get(path, otherwise) for path in self._by_path}
            running = {self._expected[node_id].path: since for node_id, since in self._running.items()}
        left = [max(0.0, usual[path] - (time.time() - since)) for path, since in running.items()]
        waiting = sum(seconds for path, seconds in usual.items() if path not in took and path not in running)
        before = sum(usual[path] for path in took if path in self._usual)
        if before > 0:  # what is up to date takes no time, and this machine has its own speed
            waiting *= sum(seconds for path, seconds in took.items() if path in self._usual) / before
        if not waiting and not any(left):  # all that run take longer than usual
            return None
        workers = len((self.session or {}).get("workers") or ()) or 1
        return max([*left, (sum(left) + waiting) / workers])

    def rows(self, *, finished: bool = False) -> list[Row]:
        """All rows, also of runs that are not of this session, in the order in which they run, then by name.

        :param finished: nothing more is to come: what did not run shows its last run, if it has one.
        """
        self._read_old()
        with self._lock:
            if self._chosen is not None:
                return self._chosen
            self._read_ended()
            if finished:
                self._interrupt()
            found: dict[str, Row] = {}
            running = {row["path"]: row for row in self.running()}
            for node_id, instance in self._expected.items():
                if node_id in self._ended:
                    found[instance.path] = self._rows[instance.path]
                elif instance.path in running and not finished:
                    found[instance.path] = running[instance.path]
                elif not finished or instance.path not in self._rows:
                    usual = self._usual.get(instance.path)
                    found[instance.path] = instance.row() | ({"expected": usual} if usual else {})
            for path in sorted(self._rows):
                found.setdefault(path, self._rows[path])
            return list(found.values())

    def show(self, chosen: Iterable[Row]) -> None:
        """Show these rows, in this order, and no others."""
        with self._lock:
            self._chosen = list(chosen)
            self._texts.clear()

    def texts(self, *, finished: bool = False) -> list[str]:
        """The rows as JSON, shortened so that they fit on a page; see :meth:`configs`."""
        self._read_old()
        with self._lock:
            found = self.rows(finished=finished)
            size = min(_LARGE_PAGE, _SMALL_PAGE * max(1, len(found) / 100))
            room = min(_FULL_ROW, int((1 - _FAILURES) * size / max(1, len(found))))
            return [self._text(row, room, int(_FAILURES * size)) for row in found]

    def configs(self) -> dict[str, dict[str, Any]]:
        """For each flow the config from which the texts tell the differences only."""
        with self._lock:
            return dict(self._configs)

    # --- reading ---

    def _read_old(self) -> None:
        """The runs that are there already, once; before anything else is locked, as it may take a while."""
        if self._has_old:
            return
        with self._reading:
            if not self._has_old:
                found = self._old_rows()
                with self._lock:
                    self._set_apart(found)
                    self._rows = {**found, **self._rows}
                    seconds = {key: row.get("seconds") for key, row in found.items()}
                    self._usual = {
                        key: took for key, took in seconds.items() if isinstance(took, (int, float))
                    }
                    self._has_old = True

    def _old_rows(self) -> dict[str, Row]:
        found: dict[str, Row] = {}
        before = {row["path"]: row for row in self._before()}
        for path in rows.top_level(self.place.runs):
            key = path.relative_to(self.place.runs).as_posix()
            known = before.get(key)
            current = known is not None and rows.is_current(known, self.place.runs)
            row = found[key] = known if current and known else rows.read(path, self.place)
            row.pop("now", None)
            row.pop("fresh", None)
        return found

    def look_again(self) -> None:
        """Others may have run something meanwhile: read what was recorded or removed since it was read."""
        self._read_old()
        with self._lock:
            self._read_ended()
            ended = {self._expected[node_id].path: node_id for node_id in self._ended}
            there = set()
            for directory in rows.top_level(self.place.runs):
                path = directory.relative_to(self.place.runs).as_posix()
                there.add(path)
                known = self._rows.get(path)
                if known is not None and rows.is_current(known, self.place.runs):
                    continue
                if path in ended:
                    self._unread[ended[path]] = None
                else:
                    self._rows[path] = rows.read(directory, self.place)
                    self._texts.pop(path, None)
            for path in self._rows.keys() - there - ended.keys():
                del self._rows[path]
            self._set_apart(self._rows)

    def _set_apart(self, found: dict[str, Row]) -> None:
        for path in self._find_leftovers():
            if path in found and path not in self._by_path:
                self.leftovers[path] = found.pop(path)

    def _interrupt(self) -> None:
        """What ran when nothing more was to come left a record that says so, unless it had not begun."""
        for node_id in list(self._running):
            path = self._expected[node_id].path
            stamp = rows.stamp_of(self.place.runs / path)
            if stamp and stamp != self._rows.get(path, {}).get("stamp"):
                self.end(node_id, worker="", fresh=False)
        self._read_ended()

    def _read_ended(self) -> None:
        for node_id in list(self._unread):
            instance, ended = self._expected[node_id], self._ended[node_id]
            path = self.place.runs / instance.path
            known = self._rows.get(instance.path)
            unchanged = ended["fresh"] or ended["skipped"]
            verdict: Verdict | None = ended["xfail"]
            if known is not None and "xfail" in known and not ended["skipped"]:
                known = None  # marks come and go, and the record does not change
            if verdict is not None and ended["skipped"]:
                row = self._missing(instance)
            elif unchanged and known is not None and rows.is_current(known, self.place.runs):
                row = dict(known)
            else:
                row = rows.read(path, self.place) if rows.stamp_of(path) else self._missing(instance)
            row |= {"now": verdict is not None or not ended["skipped"], "id": node_id, "name": instance.name}
            if ended["problem"] and (ended["problem_type"] or row["light"] != Status.ERROR.light):
                error = {"type": ended["problem_type"] or "Failed", "message": ended["problem"]}
                row |= {"light": Status.ERROR.light, "error": error}
                row.pop("because", None)
                row.pop("stamp", None)  # this is of no record
            self._judge(row, verdict)
            if ended["fresh"]:
                row["fresh"] = True
            elif ended["worker"]:
                row["worker"] = ended["worker"]
            if instance.needs:
                row["needs"] = sorted({*row.get("needs", ()), *instance.needs})
            self._rows[instance.path] = row
            self._texts.pop(instance.path, None)
            del self._unread[node_id]

    @staticmethod
    def _judge(row: Row, verdict: Verdict | None) -> None:
        if verdict is None:
            return
        row["xfail"] = [*verdict]
        if verdict.word == XFAILED:
            row["light"] = XFAILED
        elif verdict.word == STRICT:
            row |= {"light": Status.ERROR.light, "error": {"type": STRICT, "message": verdict.reason}}

    def _missing(self, instance: Expected) -> Row:
        """It ended and left no record: skipped, or its worker died before."""
        return {
            **instance.row(),
            "because": "left no record: skipped, or it died before it began",
            "files": [],
        }

    def _running_row(self, instance: Expected, started: float) -> Row:
        row = {**instance.row(), "light": "running", "start": round(started, 3)}
        if (usual := self._usual.get(instance.path)) is not None:
            row["expected"] = usual
        seen = rows.running(self.place.runs / instance.path, self.place)
        if seen is not None and seen["light"] == "running":
            row |= {key: value for key, value in seen.items() if key not in ("name", "start")}
        return row

    # --- writing ---

    def _text(self, row: Row, room: int, failures: int) -> str:
        settled = row["light"] not in ("running", WAITING)
        text = self._texts.get(row["path"]) if settled else None
        if text is None:
            more = min(_FULL_ROW - room, failures - self._failures) if row["light"] == "red" else 0
            text = as_text(shortened(self._with_differences(row), room + max(0, more)))
            if settled:
                self._texts[row["path"]] = text
                self._failures += max(0, min(more, len(text) - room))
        return text

    def _with_differences(self, row: Row) -> Row:
        """The row with the differences of its config to the first one of its flow; it may have none yet."""
        found = dict(row)
        config = found.get("config")
        if config:
            first = self._configs.setdefault(row["flow"], config)
            found["config"] = {
                key: value
                for key, value in config.items()
                if key not in first or canonical(first[key]) != canonical(value)
            }
            if missing := [key for key in first if key not in config]:
                found["without"] = missing
        if found.get("runs"):
            found["runs"] = [self._with_differences(nested) for nested in found["runs"]]
        return found


def with_configs(row: Row, configs: Mapping[str, Mapping[str, Any]]) -> Row:
    """A row that was read back from a page, with its whole config."""
    found = dict(row)
    missing = found.pop("without", ())
    if "config" in row:
        first = configs.get(row.get("flow", ""), {})
        found["config"] = {key: value for key, value in first.items() if key not in missing} | row["config"]
    if found.get("runs"):
        found["runs"] = [with_configs(nested, configs) for nested in found["runs"]]
    return found


def as_text(value: Any) -> str:
    """JSON that can stand in a script element: no ``<``, ASCII only, also where a text is no Unicode.

    JavaScript's JSON knows no ``NaN`` and no infinity: they are texts.
    """
    try:
        text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    except ValueError:
        text = json.dumps(_without_nan(value), separators=(",", ":"))
    return text.replace("<", "\\u003c")


def _without_nan(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return json.dumps(value)
    if isinstance(value, Mapping):
        return {key: _without_nan(one) for key, one in value.items()}
    return [_without_nan(one) for one in value] if isinstance(value, (list, tuple)) else value


#: What a row can do without, first what is missed least: key and how much of it is kept.
_LESS: Final[tuple[tuple[str, int], ...]] = (
    ("timings", 0),
    ("output", 5),
    ("warnings", 3),
    ("traceback", 1500),
    ("output", 1),
    ("frames", 1),
    ("figures", 1),
    ("config", 100),
    ("output", 0),
    ("traceback", 0),
    ("warnings", 1),
    ("frames", 0),
    ("figures", 0),
    ("message", 300),
    ("warnings", 0),
    ("config", 20),
)


def shortened(row: Row, room: int) -> Row:
    """The row with less of its long parts until its JSON fits into ``room`` bytes; first of nested runs."""
    if len(as_text(row)) <= room:
        return row
    found = dict(row)
    for key, kept in _LESS:
        if "runs" in found and _cut_all(found, "runs", key, kept) and len(as_text(found)) <= room:
            return found
    for key, kept in _LESS:
        if _cut(found, key, kept) and len(as_text(found)) <= room:
            return found
    return found


def _cut_all(row: Row, runs: str, key: str, kept: int) -> bool:
    """Cut all nested runs. Whether anything was cut."""
    cut = False
    row[runs] = [dict(nested) for nested in row[runs]]
    for nested in row[runs]:
        cut |= _cut(nested, key, kept)
        cut |= runs in nested and _cut_all(nested, runs, key, kept)
    return cut


def _cut(row: Row, key: str, kept: int) -> bool:
    """Keep so much of a part, changing the row. Whether anything was cut."""
    if key in ("traceback", "frames", "message"):
        if key not in row.get("error", ()):
            return False
        row["error"] = part = dict(row["error"])
    else:
        part = row
    if key not in part:
        return False
    value = part[key]
    if key == "config":  # its differences are few, but may be huge
        less: Any = {name: one if len(json.dumps(one)) < kept else "…" for name, one in value.items()}
    elif key in ("warnings", "figures", "message"):
        less = value[:kept]
    else:  # the end says most
        less = value[-kept:] if kept else None
    if less == value:
        return False
    part.pop(key)
    if less:
        part[key] = less
    row["cut"] = True
    return True
