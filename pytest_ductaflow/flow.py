"""A flow's file: a readable ``.py`` notebook in jupytext's percent format.

:func:`examine` looks at the text alone (collection must stay fast: no jupytext, no kernel);
:func:`read` gives the notebook through jupytext, and for each cell the line it starts at. Both refuse
a file whose notebook would run other code than Python does.
"""

from __future__ import annotations

import functools
import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pytest_ductaflow import meaning, parameters, reader, regular
from pytest_ductaflow.digests import digest_of_bytes, digest_of_text
from pytest_ductaflow.errors import FlowError
from pytest_ductaflow.parameters import Parameters
from pytest_ductaflow.percent import Cell, Source
from pytest_ductaflow.reader import runs

if TYPE_CHECKING:
    from nbformat import NotebookNode

#: The kernel of the Python that runs pytest. Any other name must be an installed kernel.
NATIVE_KERNELS: Final = frozenset({"python3", "python"})

#: What to say where a config has no cell to go to.
NO_PARAMETERS: Final = 'has no parameters cell: add a cell `# %% tags=["parameters"]` with `config = {}`'

#: Tags of cells that a run adds: the parameters, as papermill calls them; the way to the project's modules.
INJECTED: Final = "injected-parameters"
IMPORTS: Final = "injected-imports"


@dataclass(frozen=True)
class About:
    """What collection needs to know of a flow.

    :param parameters: what its parameters cell declares; ``None`` if it has no such cell.
    """

    parameters: Parameters | None

    def merged(self, config: dict[str, Any]) -> dict[str, Any]:
        """The config over the flow's defaults."""
        return config if self.parameters is None else self.parameters.merged(config)


@dataclass(frozen=True)
class Flow:
    """A flow as it is executed.

    :param path: absolute path of the ``.py`` file.
    :param notebook: jupytext's reading of it, outputs empty. Shared: copy it before you change it.
    :param text: the file's. :param digest: that of the file's bytes.
    :param lines: for each cell of the notebook the 1-based line of its first source line, or
        ``None`` where the cell has no source in the file.
    :param kernel: name of the kernel that the header asks for.
    :param parameters: what the parameters cell declares; of a flow without one, nothing.
    :param position: index of the parameters cell among the notebook's, ``None`` if there is none.
    """

    path: Path
    notebook: NotebookNode
    text: str
    digest: str
    lines: tuple[int | None, ...]
    kernel: str
    parameters: Parameters
    position: int | None

    @functools.cached_property
    def cells(self) -> tuple[meaning.Cell, ...]:
        """The cells that run, as code."""
        return _code_of(self.notebook.cells)

    @functools.cached_property
    def layout(self) -> tuple[int | str, ...]:
        """The cells of the executed notebook: the index of a flow's own, or the tag of one that a run adds.

        The parameters are injected below the parameters cell; without one they are at the top, where the
        original and papermill put them. The way to the project's modules is part of them, unless
        code above may need it: then it has a cell of its own above that.
        """
        found: list[int | str] = list(range(len(self.notebook.cells)))
        at = 0 if self.position is None else self.position + 1
        found.insert(at, INJECTED)
        above = [index for index in range(at) if runs(self.notebook.cells[index])]
        if self.is_python and above and not (above == [self.position] and self.parameters.is_plain):
            found.insert(above[0], IMPORTS)
        return tuple(found)

    @property
    def is_python(self) -> bool:
        """Whether the cells are Python."""
        return str(self.notebook.metadata["kernelspec"]["language"]).lower() == "python"

    @property
    def added(self) -> int:
        """How many cells a run adds."""
        return sum(isinstance(cell, str) for cell in self.layout)

    def meaning(self, *, docstrings: bool = False) -> str:
        """Digest of what the flow does. ``docstrings``: whether they count."""
        meant = meaning.of_cells(self.cells, docstrings=docstrings)
        return meant if self.kernel in NATIVE_KERNELS else digest_of_text(f"{self.kernel} {meant}")

    def place_of(self, index: int) -> tuple[int, int | None]:
        """The number (from 1) among all cells, and the line, of one of :attr:`cells`."""
        running = [position for position, cell in enumerate(self.notebook.cells) if runs(cell)]
        return running[index] + 1, self.lines[running[index]]

    def line_of_executed(self, index: int) -> int | None:
        """The line of a cell of the executed notebook; ``None`` for one that the run added."""
        position = self.layout[index] if index < len(self.layout) else INJECTED
        return self.lines[position] if isinstance(position, int) else None


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
        cells = nbformat.reads(regular.read_text(notebook), as_version=4).cells
        return _code_of([cell for cell in cells if not {INJECTED, IMPORTS}.intersection(_tags(cell))])
    except Exception:  # of many types, all about this file
        return None


def _tags(cell: NotebookNode) -> list[str]:
    return list(cell.metadata.get("tags", []))


def _code_of(cells: list[NotebookNode]) -> tuple[meaning.Cell, ...]:
    return tuple(
        meaning.Cell(cell.source, tuple(sorted(meaning.TAGS.intersection(_tags(cell)))))
        for cell in cells
        if runs(cell)
    )


# --- by the text alone ---------------------------------------------------------------------------


def examine(path: Path) -> About:
    """Say whether this file can be a flow, and what it declares, without running its code.

    A file that did not change since is not read again; a syntax error in the code is the run's business.

    :raises FlowError: if it cannot be read, its notebook would run other code than Python does, or it
        names a kernel that is not installed.
    """
    try:
        stat = path.stat()
    except OSError:
        raise FlowError("there is no such file") from None
    found = _examined(path, stat.st_mtime_ns, stat.st_size)
    if isinstance(found, About):
        return found
    raise FlowError(*found)


@functools.cache
def _examined(path: Path, mtime: int, size: int) -> About | tuple[str, int | None]:
    try:
        data = regular.read_bytes(path)
        text = _decode(data)
    except OSError as error:
        return f"cannot be read: {error.strerror or error}", None
    except UnicodeDecodeError as error:
        return "is not UTF-8", data.count(b"\n", 0, error.start) + 1
    try:
        return _about(path, data, text)
    except FlowError as error:
        return error.problem, error.line


def _about(path: Path, data: bytes, text: str) -> About:
    source = Source(text)
    kernel = source.header.kernel
    if kernel not in NATIVE_KERNELS:
        from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel  # slow, and rarely needed

        try:
            KernelSpecManager().get_kernel_spec(kernel)
        except NoSuchKernel:
            raise FlowError(
                f"asks for the kernel {kernel!r}, which is not installed (jupyter kernelspec list)"
            ) from None
    if source.is_doubtful:
        flow = _parse(path, data)
        return About(None if flow.position is None else flow.parameters)
    position, declared = _checked(source, source.cells)
    return About(None if position is None else declared)


def _checked(source: Source, cells: tuple[Cell, ...]) -> tuple[int | None, Parameters]:
    """The index of the parameters cell and what it declares, if these cells are what Python reads."""
    source.check(cells)
    tagged = [index for index, cell in enumerate(cells) if cell.kind == "code" and "parameters" in cell.tags]
    if len(tagged) > 1:
        first, second = (cells[index].marker for index in tagged[:2])
        raise FlowError(f"is the second cell tagged `parameters`, after line {first}: keep one", second)
    for cell in cells:
        if added := {INJECTED, IMPORTS}.intersection(cell.tags):
            raise FlowError(f"a cell tagged `{added.pop()}` is what a run adds: remove it", cell.marker)
    if not any(cell.kind == "code" and source.source_of(cell).strip() for cell in cells):
        raise FlowError("has no code cell")
    if not tagged:
        return None, Parameters()
    cell = cells[tagged[0]]
    if not source.is_python:
        return tagged[0], Parameters()
    return tagged[0], parameters.of_cell(source.source_of(cell), cell.first)


def _decode(data: bytes) -> str:
    return io.TextIOWrapper(io.BytesIO(data), "utf-8-sig").read()  # any line ends


# --- through jupytext ----------------------------------------------------------------------------


def read(path: Path) -> Flow:
    """Read a flow as a notebook.

    :raises FlowError: if it cannot be a flow, naming file and line.
    """
    try:
        examine(path)
        return _parse(path, regular.read_bytes(path))
    except FlowError as error:
        raise FlowError(error.at(path)) from None


@functools.lru_cache(maxsize=100)  # the same few flows run for hundreds of scenarios
def _parse(path: Path, data: bytes) -> Flow:
    text = _decode(data)
    source = Source(text)
    notebook, cells = reader.read(source)
    spec = notebook.metadata.setdefault("kernelspec", {})
    spec.setdefault("name", "python3")
    spec.setdefault("display_name", "Python 3 (ipykernel)" if spec["name"] == "python3" else spec["name"])
    spec.setdefault("language", "python")
    position, declared = _checked(source, tuple(cell for cell in cells if cell is not None))
    if position is not None:  # of the cells that stand in the file
        position = [index for index, cell in enumerate(cells) if cell is not None][position]
    return Flow(
        path=path,
        notebook=notebook,
        text=text,
        digest=digest_of_bytes(data),
        lines=tuple(
            cell.first if cell is not None and found.cell_type == "code" and found.source.strip() else None
            for found, cell in zip(notebook.cells, cells, strict=True)
        ),
        kernel=str(spec["name"]),
        parameters=declared,
        position=position,
    )
