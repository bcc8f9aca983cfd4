"""The flow as a plain pytest test: its code, in pytest's own process. Copied into the project."""

import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parent
(FLOW,) = PROJECT.glob("flows/*.py")
CODE = compile(FLOW.read_text(), str(FLOW), "exec")


@pytest.mark.parametrize("config", sorted(PROJECT.glob("configs/*.json")), ids=lambda config: config.stem)
def test_flow(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Execute the flow in a directory of its own."""
    directory = PROJECT / "plain-pytest" / config.stem
    directory.mkdir(parents=True)
    monkeypatch.chdir(directory)
    monkeypatch.setattr(sys, "argv", [str(FLOW), str(config)])
    exec(CODE, {"__name__": "__main__"})
