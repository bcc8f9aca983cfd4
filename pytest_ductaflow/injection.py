"""The notebook of a run: the flow's, with the cells that a run adds.

The parameters are written by papermill, in the kernel's language. In Python the project's modules can be
imported in the notebook whoever runs it: in a run of ours the way to them is there already, and
the line that says it does nothing.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_ductaflow.flow import IMPORTS, INJECTED, Flow

if TYPE_CHECKING:
    from nbformat import NotebookNode

#: It assigns no name: a flow that forgot its own import must fail as it does as a script.
_IMPORTS_CODE = """\
# The project's modules, for whoever runs this notebook by hand
__import__("sys").path[1:1] = [
    path for path in map(__import__("os").path.abspath, {paths}) if path not in __import__("sys").path
]
"""


def notebook_of(
    flow: Flow, config: dict[str, Any], directory: Path, root: Path, import_path: Iterable[str]
) -> str:
    """The text of the notebook that is executed.

    :param config: the whole config of the run, JSON types only.
    :param directory: the run directory. Paths in the project are written relative to it, so that a project
        may be moved with its runs.
    :param import_path: what the run can import from, absolute.
    """
    import nbformat  # slow to import, like all of Jupyter
    from papermill.translators import translate_parameters

    spec = flow.notebook.metadata["kernelspec"]
    variables = flow.parameters.injected(config)
    parameters = translate_parameters(flow.kernel, spec["language"], variables, "Parameters")
    imports = imports_code(directory, root, import_path) if flow.is_python else ""

    def cell_of(place: int | str) -> NotebookNode:
        if isinstance(place, int):
            return flow.notebook.cells[place]
        code = imports if place == IMPORTS else parameters
        if place == INJECTED and imports and IMPORTS not in flow.layout:
            code = f"{parameters}\n{imports}"
        cell = nbformat.v4.new_code_cell(code.rstrip("\n"), metadata={"tags": [place]})
        if place == IMPORTS:
            cell.metadata["jupyter"] = {"source_hidden": True}
        return cell

    notebook = nbformat.v4.new_notebook(
        cells=[cell_of(place) for place in flow.layout], metadata=flow.notebook.metadata
    )
    notebook.nbformat_minor = flow.notebook.nbformat_minor
    return str(nbformat.v4.writes(notebook))


def imports_code(directory: Path, root: Path, import_path: Iterable[str]) -> str:
    """Python code that makes the project's modules importable in the run directory."""
    movable = directory.is_relative_to(root)
    paths = [
        os.path.relpath(path, directory) if movable and Path(path).is_relative_to(root) else path
        for path in import_path
    ]
    return _IMPORTS_CODE.format(paths=json.dumps(paths))
