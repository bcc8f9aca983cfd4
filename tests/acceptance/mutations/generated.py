"""A generated project, and running it: as people do, with pytest."""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from unittest import mock

import pytest

from pytest_ductaflow import digests, execution, reads
from pytest_ductaflow.engines import warm
from pytest_ductaflow.execution import Request
from pytest_ductaflow.record import Record, read_record

from . import flows

#: A run that may not be right, and says so, has one of these in a warning line.
_SAID: Final = ("before this session", "leftover", "that failed")
#: The same as long as an instance file is in error: what is a leftover is not known then.
_IN_ERROR: Final = "is in error"
#: Sessions until a new project is at rest: what a flow reads unannounced is in order only from the second on.
_UNTIL_REST: Final = 3
_IN_PARALLEL: Final = 40


@dataclass(frozen=True)
class Outcome:
    """What a session left of an instance.

    :param ran: why it was executed, ``None`` if it was up to date.
    :param status: its light's, or ``refused`` if what it needs is red.
    :param files: what it and its nested runs wrote. :param doubtful: it says itself that it may be wrong.
    :param beside_error: it says that an instance file is in error.
    :param error: of a red run, for whoever reads of a finding.
    :param leans_on: the run directories that it needs, or was seen to read in.
    """

    ran: str | None
    status: str
    files: dict[str, str]
    doubtful: bool
    beside_error: bool
    leans_on: frozenset[str]
    error: str | None

    @property
    def is_red(self) -> bool:
        """Whether what it left does not count."""
        return self.status not in ("success", "warning")


@dataclass
class Project:
    """A generated project, and what was done to it."""

    root: Path
    random: random.Random
    history: list[str] = field(default_factory=list)
    runs: int = 0

    def create(self) -> None:
        """Write the project: some flows of each way to read, chains, fans and builds."""
        choose = self.random
        for name, content in flows.FILES.items():
            self.write(name, content)
        for name, target in flows.LINKS.items():
            (self.root / name).symlink_to(target)
        self.write("pytest.ini", "[pytest]\n")
        sources = choose.sample(flows.SOURCES, 3)
        for name in sources:
            self.instance(name, config={"x": 1})
        self.instance("configured", config={"file": "data/c.csv"}, scenarios={"x": [1, 2]}, name="{x}")
        first = f"runs/{sources[0]}/{sources[0]}/out.json"
        self.instance("chain", flow="flows/needing.py", config={"inputs": [first]})
        fan = ["runs/configured/1/out.json", "runs/configured/2/out.json", "runs/needing/chain/out.json"]
        self.instance("fan", flow="flows/needing.py", config={"inputs": fan})
        self.instance("all", build="builds/pipeline.py", config={"x": 1})
        for name in choose.sample(sorted(flows.FANS), 4):
            self.fan(name)

    def fan(self, name: str) -> None:
        """Write an instance that needs others in one of the ways to do so."""
        keys = {"flow": "needing", **flows.FANS[name]}
        flow = self.root / f"flows/{keys['flow']}.py"
        keys |= (
            {"flow": "flows/gathering.py", "step": "needing"}
            if not flow.exists()
            else {"flow": f"flows/{flow.name}"}
        )
        self.instance(f"by_{name}", **keys)

    def write(self, name: str, content: str) -> None:
        """Write a file, in place of what is there."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")

    def instance(self, name: str, /, **keys: Any) -> None:
        """Write an instance file."""
        if not {"flow", "build"} & keys.keys():
            keys["flow"] = f"flows/{name}.py"
        self.write(f"instances/{name}.json", json.dumps(keys, indent=1).replace("ROOT", str(self.root)))

    # --- running ---

    def session(self) -> dict[str, Outcome]:
        """Run pytest; give the outcome of each instance by run directory."""
        digests._projects.clear()  # pytest's process would be a new one
        seen, reasons = _Seen(), {}

        def up_to_date(request: Request) -> tuple[Record | None, list[str]]:
            found, why = looked_at(request)
            reasons[request.directory.relative_to(self.root).as_posix()] = "; ".join(why)
            return found, why

        looked_at = execution.up_to_date
        options = [
            "-q",
            "-p",
            "no:cacheprovider",
            f"--rootdir={self.root}",
            "-c",
            str(self.root / "pytest.ini"),
        ]
        if self.random.randrange(_IN_PARALLEL) == 0:
            options.append("-n2")
        with (
            mock.patch.object(execution, "up_to_date", up_to_date),
            mock.patch.object(warm, "release"),  # one warm process is enough for all
            contextlib.redirect_stdout(io.StringIO()) as printed,
        ):
            code = pytest.main([*options, str(self.root / "instances"), "--ductaflow-report=none"], [seen])
        assert code in (0, 1), printed.getvalue()
        found = {key: self._outcome(key, reasons.get(key, "?"), seen) for key in seen.turns}
        self.runs += sum(one.ran is not None for one in found.values())
        return found

    def _outcome(self, key: str, why: str, seen: _Seen) -> Outcome:
        directory = self.root / key
        record = read_record(directory)
        refused = (record.error or {}).get("type") == "NotRun"
        outputs = sorted(directory.rglob("out.json"))
        said = "\n".join(line["text"] for line in record.warnings)
        return Outcome(
            ran=None if key in seen.up_to_date or refused else why,
            status="refused" if refused else record.status,
            files={path.relative_to(directory).as_posix(): path.read_text() for path in outputs},
            doubtful=any(text in said for text in _SAID),
            beside_error=_IN_ERROR in said,
            leans_on=frozenset({*record.needed, *reads.with_steps(record.inputs, seen.turns)}),
            error=str((record.error or {}).get("message", ""))[-500:] or None,
        )

    # --- comparing ---

    def forced(self) -> dict[str, Outcome]:
        """The outcome of each instance in a copy of the project that has not run yet."""
        key = repr([*self._sources()])
        if key not in _forced:
            copy = Project(Path(tempfile.mkdtemp(prefix="forced-")), self.random)
            ignored = shutil.ignore_patterns("runs", "__pycache__")
            shutil.copytree(self.root, copy.root, symlinks=True, dirs_exist_ok=True, ignore=ignored)
            copy.moved_from(self.root)
            for _ in range(_UNTIL_REST):
                outcomes = copy.session()
                if not any(one.doubtful or one.is_red for one in outcomes.values()):
                    break
            _forced[key] = outcomes
            shutil.rmtree(copy.root)
        return _forced[key]

    def _sources(self) -> Iterator[tuple[str, str | bytes | None]]:
        for path in files_below(self.root):
            if path.is_symlink():
                yield str(path.relative_to(self.root)), f"-> {os.readlink(path)}"
            else:
                yield str(path.relative_to(self.root)), path.read_bytes() if path.is_file() else None

    def moved_from(self, old: Path) -> bool:
        """Let absolute paths follow the project; whether there were any."""
        changed = False
        for file in (self.root / "instances").glob("*.json"):
            text = file.read_text()
            if str(old) in text:
                file.write_text(text.replace(str(old), str(self.root)))
                changed = True
        return changed


_forced: dict[str, dict[str, Outcome]] = {}


def forget() -> None:
    """Forget the outcomes of copies."""
    _forced.clear()


def files_below(root: Path) -> list[Path]:
    """What people wrote: all files, links and directories but those of runs."""
    return [
        path
        for path in sorted(root.rglob("*"))
        if not {"runs", "__pycache__"} & set(path.relative_to(root).parts)
    ]


class _Seen:
    """A plugin: the run directories of the instances that had their turn."""

    def __init__(self) -> None:
        self.turns: set[str] = set()
        self.up_to_date: set[str] = set()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        told = dict(report.user_properties)
        if "run_directory" in told:
            self.turns.add(told["run_directory"])
            if told.get("up_to_date"):
                self.up_to_date.add(told["run_directory"])
