import contextlib
import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from pytest_ductaflow import flow
from pytest_ductaflow.errors import InstanceError
from pytest_ductaflow.instance import Instance, load_instances

hypothesis.settings.register_profile("unit", database=None, deadline=None, derandomize=True, max_examples=150)
hypothesis.settings.load_profile("unit")

PARAMETERS = '# %% tags=["parameters"]\nconfig = {}\n'


@contextlib.contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """For what would take hours if it went wrong: ``TimeoutError`` in the middle of it. POSIX only."""

    def stop(*_: object) -> None:
        raise TimeoutError

    previous = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


needs_timer = pytest.mark.skipif(
    not hasattr(signal, "setitimer"), reason="the platform has no interval timer"
)


class Project:
    """A project on disk, and instance files in it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.write("flows/fit.py", PARAMETERS)
        self.write("builds/all.py", PARAMETERS)

    def write(self, name: str, content: str | bytes | dict | list = "") -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, (dict, list)):
            content = json.dumps(content, indent=2, ensure_ascii=False)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    def load(self, document: Any, name: str = "sweep.json") -> list[Instance]:
        return load_instances(self.write(f"instances/{name}", document), self.root)

    def one(self, document: Any, name: str = "sweep.json") -> Instance:
        (instance,) = self.load(document, name)
        return instance

    def refused(self, document: Any, name: str = "sweep.json") -> InstanceError:
        """The mistake found; its text names file and line, and the key if there is one."""
        with pytest.raises(InstanceError) as caught:
            self.load(document, name)
        error = caught.value
        key = f"{error.key}: " if error.key else ""
        assert str(error) == f"instances/{name}:{error.line}: {key}{error.problem}"
        assert error.file == f"instances/{name}"
        return error

    def line_of(self, fragment: str, name: str = "sweep.json") -> int:
        """The 1-based line on which a text stands in an instance file."""
        lines = (self.root / "instances" / name).read_text("utf-8").splitlines()
        return next(number for number, line in enumerate(lines, 1) if fragment in line)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    flow._examined.cache_clear()  # same size, same clock tick: files of the test before
    return Project(tmp_path.resolve())
