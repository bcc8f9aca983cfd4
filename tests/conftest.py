"""What tests share: a small project on disk, and pytest runs in it that inherit nothing from ours."""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import os
import subprocess
import sys
import textwrap
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest_plugins = ["pytester"]

#: Above the body of a flow written by ``Project.flow``: its first line is line 5 of the file.
HEAD = '# %% tags=["parameters"]\nconfig = {}\n\n# %%\n'
#: Of the process around us: what would change an inner pytest's output or verdict.
_NOT_INHERITED = ("PYTHONWARNINGS", "CI", "BUILD_NUMBER", "FORCE_COLOR", "NO_COLOR", "DUCTAFLOW_CONTEXT")


class Project:
    """A project in a directory: flows, builds, instances, and ways to run pytest on it."""

    def __init__(self, root: Path, pytester: pytest.Pytester | None = None) -> None:
        self.root = root
        self._pytester = pytester
        for name in ("flows", "builds", "instances"):
            (root / name).mkdir()
        self.ini()

    def ini(self, *lines: str) -> None:
        """Write ``pytest.ini``: the mark ``ci``, and further lines."""
        text = "\n".join(["[pytest]", *lines, "markers =", "    ci: gates continuous integration"])
        self.write("pytest.ini", text + "\n")

    def write(self, name: str, content: str | bytes | dict[str, Any] | list[Any]) -> Path:
        """Write any file; an object or a list as JSON."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, (dict, list)):
            content = json.dumps(content, indent=2, ensure_ascii=False)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    def flow(self, name: str, body: str = "", folder: str = "flows") -> str:
        """Write a flow whose body starts on line 5; return its path as instance files name it."""
        self.write(f"{folder}/{name}.py", HEAD + textwrap.dedent(body).strip("\n") + "\n")
        return f"{folder}/{name}.py"

    def build(self, name: str, body: str) -> str:
        """Write a build whose body starts on line 5."""
        return self.flow(name, body, "builds")

    def instance(self, name: str, /, **keys: Any) -> Path:
        """Write ``instances/<name>.json``; without ``flow`` or ``build`` it runs ``flows/<name>.py``."""
        if not {"flow", "build"} & set(keys):
            keys = {"flow": f"flows/{name}.py", **keys}
        return self.write(f"instances/{name}.json", keys)

    def line_of(self, file: str, fragment: str) -> int:
        """The 1-based line of a file on which a text stands."""
        lines = (self.root / file).read_text("utf-8").splitlines()
        return next(number for number, line in enumerate(lines, 1) if fragment in line)

    def record(self, run: str) -> dict[str, Any]:
        """The record of ``runs/<run>`` as it stands on the disk."""
        data: dict[str, Any] = json.loads((self.root / "runs" / run / "run.json").read_text("utf-8"))
        return data

    def records(self) -> dict[str, dict[str, Any]]:
        """All records, by run directory below ``runs``."""
        runs = self.root / "runs"
        found = [path.parent.relative_to(runs).as_posix() for path in sorted(runs.rglob("run.json"))]
        return {name: self.record(name) for name in found}

    def run(self, *arguments: str) -> pytest.RunResult:
        """Run pytest in this process: the fast way."""
        assert self._pytester is not None, "a shared project runs pytest apart"
        with _fresh_warning_filters():
            return self._pytester.runpytest_inprocess(*_PLUGINS, *arguments)

    def run_apart(self, *arguments: str, timeout: float = 120) -> pytest.RunResult:
        """Run pytest in a process of its own: needed by xdist, and to run once for several tests."""
        started = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-m", "pytest", *_PLUGINS, *arguments],
            cwd=self.root,
            env=self.environment(),
            capture_output=True,
            encoding="utf-8",
            timeout=timeout,
        )
        duration = time.perf_counter() - started
        return pytest.RunResult(done.returncode, done.stdout.splitlines(), done.stderr.splitlines(), duration)

    def python(
        self, *arguments: str, below: str | Path = ".", given: str = "", timeout: float = 120
    ) -> subprocess.CompletedProcess[str]:
        """Run Python, as by hand; nothing may go wrong.

        :param below: the working directory, in the project or anywhere. :param given: the standard input.
        """
        done = subprocess.run(
            [sys.executable, *arguments],
            input=given,
            cwd=self.root / below,
            env=self.environment(),
            capture_output=True,
            text=True,
            timeout=timeout,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done

    def environment(self) -> dict[str, str]:
        """Our environment without what pytest and its user put there for this run."""
        kept = {
            key: value
            for key, value in os.environ.items()
            if not key.startswith("PYTEST_") and key not in _NOT_INHERITED
        }
        return {**kept, **_ENVIRONMENT, "HOME": str(self.root)}

    def node_ids(self, *arguments: str) -> list[str]:
        """What pytest collects, in order. Nothing else may go wrong."""
        result = self.run("--collect-only", "-q", *arguments)
        assert result.ret in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED), result.stdout.str()
        return [line for line in result.outlines if "::" in line]


#: Test tools of ours that no project needs; hypothesis would cost each run a second.
_PLUGINS = ("-p", "no:hypothesispytest", "-p", "no:pytest_cov")
#: Lines of the short summary are cut to the terminal's width; colours would be in the way.
_ENVIRONMENT = {"COLUMNS": "240", "PY_COLORS": "0"}


@contextlib.contextmanager
def _fresh_warning_filters() -> Iterator[None]:
    """The filters of a new Python. Ours turn warnings into errors, which the run within must not inherit."""
    with warnings.catch_warnings():
        warnings.resetwarnings()
        for category in (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning):
            warnings.simplefilter("ignore", category)
        yield


@pytest.fixture(scope="session")
def _heavy_modules() -> None:
    """Load what runs need: pytester forgets what a run within it loads, and numpy loads only once."""
    for name in ("pandas", "pytest_ductaflow.engines.papermill", "pytest_ductaflow.items"):
        importlib.import_module(name)
    import pandas as pd

    with contextlib.suppress(ImportError):  # pyarrow, whose types can be registered once only
        pd.read_parquet(io.BytesIO(pd.DataFrame({"a": [1]}).to_parquet()))


@pytest.fixture
def project(_heavy_modules: None, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A project with no flows and no instances yet."""
    for name in _NOT_INHERITED:
        monkeypatch.delenv(name, raising=False)
    for name, value in _ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "warnoptions", [])
    return Project(pytester.path, pytester)


@pytest.fixture(scope="module")
def new_project(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Project]:
    """Make projects that several tests of a module look at after one run."""
    return lambda: Project(tmp_path_factory.mktemp("project"))
