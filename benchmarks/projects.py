"""The work: a temporary project with one flow and a config for each run, as every competitor needs it."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

FLOWS: Final = Path(__file__).with_name("flows")
#: What every flow writes to its working directory.
RESULT: Final = "result.csv"


@dataclass(frozen=True)
class Project:
    """A project on disk.

    :param flow: the flow's stem, ``flows/<flow>.py``.
    :param configs: one run each, by its label.
    """

    root: Path
    flow: str
    configs: dict[str, dict[str, Any]]

    @property
    def flow_file(self) -> Path:
        """The flow, in the percent format."""
        return self.root / "flows" / f"{self.flow}.py"

    @property
    def notebook_file(self) -> Path:
        """The flow as a notebook, without a config."""
        return self.root / "notebooks" / f"{self.flow}.ipynb"

    def write_notebook(self, path: Path, config: dict[str, Any]) -> None:
        """Write the flow as a notebook that has the config in it."""
        import nbformat
        from papermill.iorw import load_notebook_node
        from papermill.parameterize import parameterize_notebook

        notebook = parameterize_notebook(load_notebook_node(str(self.notebook_file)), {"config": config})
        path.parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(notebook, path)


def create(root: Path, flow: str, runs: int, *appended: str, **config: Any) -> Project:
    """Write a project with ``runs`` configs that differ in their ``seed``.

    :param appended: flows whose cells are appended to the flow's own.
    """
    configs = {f"{seed:04}": {"run": f"{seed:04}", "seed": seed, **config} for seed in range(1, runs + 1)}
    project = Project(root, flow, configs)
    for directory in ("flows", "instances", "configs", "notebooks"):
        (root / directory).mkdir(parents=True)
    (root / "pytest.ini").write_text("[pytest]\n")
    project.flow_file.write_text("\n".join((FLOWS / f"{name}.py").read_text() for name in (flow, *appended)))
    for label, values in configs.items():
        (root / "configs" / f"{label}.json").write_text(json.dumps(values))
    instances = {"flow": f"flows/{flow}.py", "name": "{run}", "scenarios": list(configs.values())}
    (root / "instances" / f"{flow}.json").write_text(json.dumps(instances, indent=1))
    _write_plain_notebook(project)
    shutil.copy(Path(__file__).with_name("plain.py"), root / "test_flow.py")
    return project


def _write_plain_notebook(project: Project) -> None:
    import jupytext

    notebook = jupytext.read(project.flow_file)
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    jupytext.write(notebook, project.notebook_file)
