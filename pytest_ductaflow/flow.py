"""A flow's file: a readable ``.py`` notebook in jupytext's percent format.

:func:`check` looks at the text alone (collection must stay fast: no jupytext, no kernel);
:func:`read` gives the notebook through jupytext, and for each cell the line it starts at.
"""

from __future__ import annotations

import functools
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pytest_ductaflow.errors import FlowError

if TYPE_CHECKING:
    from nbformat import NotebookNode

#: The kernel of the Python that runs pytest. Any other name must be an installed kernel.
NATIVE_KERNELS: Final = frozenset({"python3", "python"})

_MARKER: Final = re.compile(r"^[ \t]*#[ \t]*%%(?P<options>.*)$", re.MULTILINE)
_TAGS: Final = re.compile(r'(?:\btags[ \t]*=|"tags"[ \t]*:)[ \t]*(\[[^\]]*\])')
_HEADER: Final = re.compile(r"\A(?:#!.*\n)?(?:\s*\n)*# ---[ \t]*\n(?P<yaml>(?:#.*\n)*?)# ---[ \t]*(?:\n|\Z)")
_KERNEL: Final = re.compile(r"kernelspec:.*?\n#\s+name:[ \t]*(?P<name>[^\s#]+)", re.DOTALL)


@dataclass(frozen=True)
class Flow:
    """A flow as it is executed.

    :param path: absolute path of the ``.py`` file.
    :param notebook: jupytext's reading of it, outputs empty.
    :param lines: for each cell of the notebook the 1-based line of its first source line, or
        ``None`` where the cell has no source in the file.
    :param kernel: name of the kernel that the header asks for.
    """

    path: Path
    notebook: NotebookNode
    lines: tuple[int | None, ...]
    kernel: str

    def line_of_executed(self, index: int) -> int | None:
        """The line of a cell of the executed notebook, which has the injected parameters as one cell more."""
        tags = [cell.metadata.get("tags", []) for cell in self.notebook.cells]
        parameters = next(i for i, tagged in enumerate(tags) if "parameters" in tagged)
        if index == parameters + 1:
            return None
        position = index if index <= parameters else index - 1
        return self.lines[position] if position < len(self.lines) else None


def check(path: Path) -> None:
    """Say whether this file can be a flow, without running or parsing its code.

    A file that did not change since is not read again; a syntax error in the code is the run's business.

    :raises FlowError: if it cannot be read, has no cell tagged ``parameters``, or names a kernel that
        is not installed.
    """
    try:
        stat = path.stat()
    except OSError:
        raise FlowError("there is no such file") from None
    problem = _problem(path, stat.st_mtime_ns, stat.st_size)
    if problem:
        raise FlowError(problem)


@functools.cache
def _problem(path: Path, mtime: int, size: int) -> str | None:
    try:
        text = path.read_text("utf-8")
    except OSError as error:
        return f"cannot be read: {error.strerror or error}"
    except UnicodeDecodeError:
        return "is not UTF-8"
    if not any("parameters" in _tags(marker["options"]) for marker in _MARKER.finditer(text)):
        return 'has no parameters cell: add a cell `# %% tags=["parameters"]` with `config = {}`'
    kernel = _kernel_name(text)
    if kernel not in NATIVE_KERNELS:
        from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel  # slow, and rarely needed

        try:
            KernelSpecManager().get_kernel_spec(kernel)
        except NoSuchKernel:
            return f"asks for the kernel {kernel!r}, which is not installed (jupyter kernelspec list)"
    return None


def read(path: Path) -> Flow:
    """Read a flow as a notebook.

    :raises FlowError: if the file is missing, not UTF-8, or has no parameters cell.
    """
    import jupytext  # slow to import, and collection does not need it

    try:
        check(path)
    except FlowError as error:
        raise FlowError(f"{path}: {error}") from None
    text = path.read_text("utf-8")
    notebook = jupytext.reads(text, fmt="py:percent")
    notebook.metadata.setdefault("kernelspec", {})
    spec = notebook.metadata["kernelspec"]
    spec.setdefault("name", "python3")
    spec.setdefault("display_name", "Python 3 (ipykernel)" if spec["name"] == "python3" else spec["name"])
    spec.setdefault("language", "python")
    return Flow(path, notebook, _cell_lines(notebook.cells, text.splitlines()), str(spec["name"]))


def _tags(options: str) -> list[str]:
    match = _TAGS.search(options)
    if match is None:
        return []
    try:
        tags = json.loads(match[1].replace("'", '"'))
    except ValueError:
        return []
    return [tag for tag in tags if isinstance(tag, str)]


def _kernel_name(text: str) -> str:
    header = _HEADER.search(text)
    kernel = _KERNEL.search(header["yaml"]) if header else None
    return kernel["name"].strip("'\"") if kernel else "python3"


def _cell_lines(cells: list[Any], file_lines: list[str]) -> tuple[int | None, ...]:
    """Find each cell's source in the file, one after the other.

    jupytext does not say where a cell stood. A code cell's lines stand in the file as they are, except
    that magics are commented out there.
    """
    found: list[int | None] = []
    position = 0
    for cell in cells:
        source = cell.source.splitlines() if cell.cell_type == "code" else []
        start = _find(source, file_lines, position) if any(line.strip() for line in source) else None
        found.append(None if start is None else start + 1)
        if start is not None:
            position = start + len(source)
    return tuple(found)


def _find(source: list[str], file_lines: list[str], position: int) -> int | None:
    whole_cell = any(line.startswith("%%") for line in source)  # a cell magic: every line is commented
    for start in range(position, len(file_lines) - len(source) + 1):
        if all(_same(line, file_lines[start + i], whole_cell) for i, line in enumerate(source)):
            return start
    return None


def _same(cell_line: str, file_line: str, commented: bool) -> bool:
    if cell_line == file_line:
        return True
    stripped = cell_line.strip()
    if commented or stripped.startswith(("%", "!", "?")) or stripped.endswith("?"):
        return file_line.lstrip().removeprefix("#").strip() == stripped
    return False
