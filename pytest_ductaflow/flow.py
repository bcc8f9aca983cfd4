"""A flow's file: a readable ``.py`` notebook in jupytext's percent format.

:func:`check` looks at the text alone (collection must stay fast: no jupytext, no kernel);
:func:`read` gives the notebook through jupytext, and for each cell the line it starts at.
"""

from __future__ import annotations

import functools
import io
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pytest_ductaflow import meaning
from pytest_ductaflow.digests import digest_of_bytes, digest_of_text
from pytest_ductaflow.errors import FlowError

if TYPE_CHECKING:
    from nbformat import NotebookNode

#: The kernel of the Python that runs pytest. Any other name must be an installed kernel.
NATIVE_KERNELS: Final = frozenset({"python3", "python"})

_MARKER: Final = re.compile(r"^[ \t]*#[ \t]*%%+(?:[ \t]+(?P<options>.*))?$", re.MULTILINE)
_CELL_TYPE: Final = re.compile(r"\[(?:markdown|md|raw)\]")
_TAGS: Final = re.compile(r'(?:\btags[ \t]*=|"tags"[ \t]*:)[ \t]*(\[[^\]]*\])')
_QUOTES: Final = re.compile("\"\"\"|'''")


@dataclass(frozen=True)
class Flow:
    """A flow as it is executed.

    :param path: absolute path of the ``.py`` file.
    :param notebook: jupytext's reading of it, outputs empty. Shared: copy it before you change it.
    :param serialized: the same as the text of an ``.ipynb`` file.
    :param text: the file's. :param digest: that of the file's bytes.
    :param lines: for each cell of the notebook the 1-based line of its first source line, or
        ``None`` where the cell has no source in the file.
    :param kernel: name of the kernel that the header asks for.
    """

    path: Path
    notebook: NotebookNode
    serialized: str
    text: str
    digest: str
    lines: tuple[int | None, ...]
    kernel: str

    @functools.cached_property
    def cells(self) -> tuple[meaning.Cell, ...]:
        """The cells that run, as code."""
        return _code_of(self.notebook.cells)

    def meaning(self, *, docstrings: bool = False) -> str:
        """Digest of what the flow does. ``docstrings``: whether they count."""
        meant = meaning.of_cells(self.cells, docstrings=docstrings)
        return meant if self.kernel in NATIVE_KERNELS else digest_of_text(f"{self.kernel} {meant}")

    def place_of(self, index: int) -> tuple[int, int | None]:
        """The number (from 1) among all cells, and the line, of one of :attr:`cells`."""
        running = [position for position, cell in enumerate(self.notebook.cells) if runs(cell)]
        return running[index] + 1, self.lines[running[index]]

    def line_of_executed(self, index: int) -> int | None:
        """The line of a cell of the executed notebook, which has the injected parameters as one cell more."""
        tags = [cell.metadata.get("tags", []) for cell in self.notebook.cells]
        parameters = next(i for i, tagged in enumerate(tags) if "parameters" in tagged)
        if index == parameters + 1:
            return None
        position = index if index <= parameters else index - 1
        return self.lines[position] if position < len(self.lines) else None


def runs(cell: NotebookNode) -> bool:
    """Whether a cell is executed at all."""
    if cell.cell_type != "code" or not cell.source.strip():
        return False
    return "skip-execution" not in cell.metadata.get("tags", [])


@functools.lru_cache(maxsize=1000)
def line_of_cell(flow: Path, cell: int | None) -> int | None:
    """The line at which a cell of the executed notebook starts, if the flow can still be read."""
    if cell is None:
        return None
    try:
        return read(flow).line_of_executed(cell)
    except FlowError:
        return None


def executed_cells(notebook: Path) -> tuple[meaning.Cell, ...] | None:
    """The cells of a flow as they were when it was executed, ``None`` if the notebook is gone or damaged."""
    import nbformat

    try:
        cells = nbformat.read(notebook, as_version=4).cells
        return _code_of(
            [cell for cell in cells if "injected-parameters" not in cell.metadata.get("tags", [])]
        )
    except Exception:  # of many types, all about this file
        return None


def _code_of(cells: list[NotebookNode]) -> tuple[meaning.Cell, ...]:
    return tuple(
        meaning.Cell(cell.source, tuple(sorted(meaning.TAGS.intersection(cell.metadata.get("tags", [])))))
        for cell in cells
        if runs(cell)
    )


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
        text = path.read_text("utf-8-sig")
    except OSError as error:
        return f"cannot be read: {error.strerror or error}"
    except UnicodeDecodeError:
        return "is not UTF-8"
    if not _has_parameters_cell(text):
        return 'has no parameters cell: add a cell `# %% tags=["parameters"]` with `config = {}`'
    try:
        kernel = _kernel_name(text)
    except ValueError as error:
        return f"has a header that is no YAML: {error}"
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
    try:
        check(path)
    except FlowError as error:
        raise FlowError(f"{path}: {error}") from None
    return _parse(path, path.read_bytes())


@functools.lru_cache(maxsize=100)  # the same few flows run for hundreds of scenarios
def _parse(path: Path, data: bytes) -> Flow:
    import jupytext  # slow to import, like all of Jupyter, and collection does not need it
    import nbformat

    text = io.TextIOWrapper(io.BytesIO(data), "utf-8-sig").read()  # any line ends
    try:
        notebook = jupytext.reads(text, fmt="py:percent")
    except Exception as error:  # of many types, all about this text
        raise FlowError(f"{path}: jupytext cannot read it: {error}") from None
    notebook.metadata.setdefault("kernelspec", {})
    spec = notebook.metadata["kernelspec"]
    spec.setdefault("name", "python3")
    spec.setdefault("display_name", "Python 3 (ipykernel)" if spec["name"] == "python3" else spec["name"])
    spec.setdefault("language", "python")
    lines = _cell_lines(notebook.cells, text.split("\n"))
    return Flow(
        path=path,
        notebook=notebook,
        serialized=nbformat.writes(notebook),
        text=text,
        digest=digest_of_bytes(data),
        lines=lines,
        kernel=str(spec["name"]),
    )


def _has_parameters_cell(text: str) -> bool:
    for marker in _MARKER.finditer(text):
        options = marker["options"] or ""
        if "parameters" in _tags(options) and not _CELL_TYPE.search(options):
            if not _QUOTES.search(text, 0, marker.start()):
                return True
            break  # maybe inside a string: jupytext knows
    else:
        return False
    import jupytext  # rarely needed here, and slow to import

    try:
        cells = jupytext.reads(text, fmt="py:percent").cells
    except Exception:  # reading the flow says what is wrong
        return True
    return any(c.cell_type == "code" and "parameters" in c.metadata.get("tags", []) for c in cells)


def _tags(options: str) -> list[str]:
    match = _TAGS.search(options)
    if match is None:
        return []
    try:
        tags = json.loads(match[1].replace("'", '"'))
    except ValueError:
        return []
    return [tag for tag in tags if isinstance(tag, str)]


def _header(text: str) -> str | None:
    """The YAML between the two ``# ---`` lines at the beginning."""
    lines = iter(text.split("\n"))
    first = next((line for line in lines if line.strip() and not line.startswith("#!")), "")
    if first.rstrip() != "# ---":
        return None
    yaml: list[str] = []
    for line in lines:
        if line.rstrip() == "# ---":
            return "\n".join(yaml)
        if not line.startswith("#"):
            return None
        yaml.append(line[1:].removeprefix(" "))
    return None


def _kernel_name(text: str) -> str:
    """The name in the header's kernelspec. :raises ValueError: if the header is no YAML."""
    header = _header(text)
    if header is None or "kernelspec" not in header:
        return "python3"
    import yaml  # jupytext's own dependency

    try:
        data = yaml.safe_load(header)
    except yaml.YAMLError as error:
        raise ValueError(str(error).splitlines()[0]) from None
    data = data if isinstance(data, dict) else {}
    inner = data.get("jupyter")
    spec = (inner if isinstance(inner, dict) else data).get("kernelspec")
    name = spec.get("name") if isinstance(spec, dict) else None
    return str(name) if name else "python3"


def _cell_lines(cells: list[Any], file_lines: list[str]) -> tuple[int | None, ...]:
    """The line at which each code cell's source starts: that below its marker.

    jupytext does not say where a cell stood. Its cells are the stretches between markers, markers in
    strings not counted; should the two disagree, no cell has a line rather than a wrong one.
    """
    starts = _stretches(file_lines)
    if len(starts) == len(cells) - 1 and not cells[0].source.strip():
        starts.insert(0, 1)  # blank lines at the beginning are a cell for jupytext
    if len(starts) != len(cells):
        return (None,) * len(cells)
    return tuple(
        start if cell.cell_type == "code" and cell.source.strip() else None
        for cell, start in zip(cells, starts, strict=True)
    )


def _stretches(file_lines: list[str]) -> list[int]:
    """The first line of each cell, 1-based; code before the first marker is a cell too."""
    from jupytext.stringparser import StringParser

    strings = StringParser("python")
    starts: list[int] = []
    first_code: int | None = None
    header = _header("\n".join(file_lines))
    skipped = 0 if header is None else _header_end(file_lines)
    for number, line in enumerate(file_lines, 1):
        if number <= skipped or (number == 1 and line.startswith("#!")):
            continue
        quoted = strings.is_quoted()
        strings.read_line(line)
        if not quoted and _MARKER.match(line):
            starts.append(number + 1)
        elif not starts and line.strip() and first_code is None:
            first_code = number
    return starts if first_code is None else [first_code, *starts]


def _header_end(file_lines: list[str]) -> int:
    ends = [number for number, line in enumerate(file_lines, 1) if line.rstrip() == "# ---"]
    return ends[1]
