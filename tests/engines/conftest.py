"""One contract for all engines: each test runs a flow with every engine there is."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pytest_ductaflow.engines import ENGINES
from pytest_ductaflow.execution import Request, execute
from pytest_ductaflow.record import Record

HEADER = '# %% tags=["parameters"]\nconfig = {}\n'


class Outcome:
    """A finished run and its files."""

    def __init__(self, record: Record, directory: Path) -> None:
        self.record, self.directory = record, directory

    @property
    def status(self) -> str:
        return self.record.status

    @property
    def error(self) -> dict[str, Any]:
        assert self.record.error is not None
        return self.record.error

    @property
    def printed(self) -> bytes:
        """What the run printed: the text file up to the error that stands at the end of a red one."""
        return self.text[: self.record.printed]

    @property
    def text(self) -> bytes:
        """The text file."""
        return (self.directory / "it_execution_output.txt").read_bytes()

    @property
    def notebook(self) -> Any:
        import nbformat

        return nbformat.read(self.directory / "it.ipynb", as_version=4)

    @property
    def streams(self) -> str:
        """All text that the notebook shows."""
        outputs = [output for cell in self.notebook.cells for output in cell.get("outputs", ())]
        return "\n".join(output.text for output in outputs if output.output_type == "stream")


@pytest.fixture(params=ENGINES)
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., Outcome]:
    """Run cells as a flow: ``run("print(1)", config={…}, timeout=…)``."""

    def run(*cells: str, config: dict[str, Any] | None = None, **options: Any) -> Outcome:
        flow = tmp_path / "flows" / "it.py"
        flow.parent.mkdir(exist_ok=True)
        body = "".join(cell if cell.startswith("# %%") else f"# %%\n{cell}\n" for cell in cells)
        flow.write_text(HEADER + body, encoding="utf-8")
        directory = tmp_path / "runs" / "it" / "one"
        asked = Request(
            kind="flow",
            flow=flow,
            instance="one",
            directory=directory,
            config=config or {},
            project_root=tmp_path,
            engine=request.param,
            **options,
        )
        return Outcome(execute(asked), directory)

    return run
