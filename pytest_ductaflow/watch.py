"""How far a session is, for the progress line: from its reports, and from the records of what runs."""

from __future__ import annotations

import json
import statistics
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from pytest_ductaflow.progress import Snapshot

if TYPE_CHECKING:
    from collections.abc import Callable

#: Running instances whose cell is looked up.
_LOOKED_UP: Final = 8


class Watch:
    """Hooks of the controlling process; ``look`` is called in another thread.

    ``expected`` is called when it is known that instances are to run.
    """

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self.expected: Callable[[], None] = lambda: None
        self._directories: dict[str, str] = {}  # run directory of each node id
        self._usual: dict[str, float] | None = None  # seconds of the last runs
        self._started: dict[str, float] = {}
        self._lights: dict[str, str] = {}
        self._took: dict[str, float] = {}
        self._workers: set[str] = set()

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> None:
        """What is to run, without xdist."""
        found = (item for item in session.items if hasattr(item, "ductaflow"))
        self._expect({item.nodeid: item.instance.run_directory for item in found})  # type: ignore[attr-defined]

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, node: Any, ids: list[str]) -> None:
        """The same, as a worker collected it."""
        self._workers.add(node.gateway.id)
        if not self._directories:
            from pytest_ductaflow.scheduling import run_directories

            found = run_directories(ids, self._config)
            self._expect({ids[index]: directory for index, (directory, _) in found.items()})

    def _expect(self, directories: dict[str, str]) -> None:
        self._directories |= directories
        if directories:
            self.expected()

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """One starts."""
        if nodeid in self._directories:
            self._started[nodeid] = time.monotonic()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """One has a result."""
        if report.nodeid in self._directories and (report.when == "call" or not report.passed):
            properties = dict(report.user_properties)
            from pytest_ductaflow.status import Status

            light = "red" if report.failed else "none"
            if "status" in properties:
                light = Status(str(properties["status"])).light
            self._lights[report.nodeid] = light
            self._took[report.nodeid] = report.duration

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        """One is done."""
        self._started.pop(nodeid, None)

    def look(self) -> Snapshot:
        """How far the session is."""
        if self._usual is None:
            from pytest_ductaflow.record import last_duration

            found = {
                node_id: last_duration(self._config.rootpath / directory)
                for node_id, directory in list(self._directories.items())
            }
            self._usual = {node_id: seconds for node_id, seconds in found.items() if seconds is not None}
        lights, started = dict(self._lights), dict(self._started)
        running = [node_id for node_id in started if node_id not in lights]
        return Snapshot(
            done=len(lights),
            total=len(self._directories),
            lights=Counter(lights.values()),
            running=[
                (node_id.rpartition("::")[2], *(self._cell(node_id) if place < _LOOKED_UP else (0, 0)))
                for place, node_id in enumerate(running)
            ],
            remaining=self._remaining(lights, {node_id: started[node_id] for node_id in running}),
        )

    def _cell(self, node_id: str) -> tuple[int, int]:
        """The number of the cell that runs, and of all cells."""
        file = Path(self._config.rootpath, self._directories[node_id], "run.json")
        try:
            record: dict[str, Any] = json.loads(file.read_bytes())
            cells = record["cells"]
            if record["status"] != "running" or not cells["total"]:
                return 0, 0
            return min(int(cells["current"] or 0) + 1, int(cells["total"])), int(cells["total"])
        except (OSError, ValueError, KeyError, TypeError):
            return 0, 0

    def _remaining(self, lights: dict[str, str], started: dict[str, float]) -> float | None:
        """Seconds until all is done, from what took how long last time and in this session."""
        took, usual = dict(self._took), self._usual or {}
        known = list(took.values()) or list(usual.values())
        if not known:
            return None
        otherwise = statistics.median(known)
        now = time.monotonic()
        left = [max(0.0, usual.get(one, otherwise) - (now - since)) for one, since in started.items()]
        waiting = sum(
            usual.get(node_id, otherwise)
            for node_id in list(self._directories)
            if node_id not in lights and node_id not in started
        )
        before = sum(usual[node_id] for node_id in took if node_id in usual)
        if before > 0:  # what is up to date takes no time, and this machine has its own speed
            waiting *= sum(seconds for node_id, seconds in took.items() if node_id in usual) / before
        if not waiting and not any(left):  # all that run take longer than usual
            return None
        return max([0.0, *left, (sum(left) + waiting) / max(1, len(self._workers))])
