"""What notebooks show, in a form that can be compared: cases, ways to execute them, normalised outputs.

A case is a cell and what it has to show, written by hand. The cases of a module make one notebook, which is
executed once by each engine and once by papermill alone, with its own untouched engine (``PLAIN``).
"""

from __future__ import annotations

import importlib.util
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import jupytext
import nbformat
import papermill
import pytest
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from pytest_ductaflow.engines import available, warm
from pytest_ductaflow.execution import Request, execute
from pytest_ductaflow.record import read_record

#: papermill without us: the notebook as jupytext reads it, the config as papermill's parameter.
PLAIN: Final = "plain papermill"
OURS: Final = available()
EVERYONE: Final = (*OURS, PLAIN)
#: A run that hangs is a failed test, not a session that hangs.
TIMEOUT: Final = 60
_STREAMS: Final = ("stdout", "stderr")

Shown = tuple[Any, ...]


# --- what a cell shows ---


def printed(text: object) -> Shown:
    return ("stdout", text)


def complained(text: object) -> Shown:
    return ("stderr", text)


def displayed(data: dict[str, Any] | str, metadata: dict[str, Any] | None = None) -> Shown:
    return ("display_data", _bundle(data), metadata or {})


def result(data: dict[str, Any] | str, metadata: dict[str, Any] | None = None) -> Shown:
    return ("execute_result", _bundle(data), metadata or {})


def raised(name: str, value: object = "") -> Shown:
    return ("error", name, value)


def _bundle(data: dict[str, Any] | str) -> dict[str, Any]:
    return {"text/plain": data} if isinstance(data, (str, Like)) else data


class Like(str):
    """Equal to every text that matches it as a pattern."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, str) and re.fullmatch(str(self), other, re.DOTALL) is not None

    __hash__ = str.__hash__

    def __add__(self, other: str) -> Like:
        return Like(str(self) + (str(other) if isinstance(other, Like) else re.escape(other)))

    def __radd__(self, other: str) -> Like:
        return Like(re.escape(other) + str(self))

    def __repr__(self) -> str:
        return f"Like({super().__repr__()})"


# --- cases ---


@dataclass(frozen=True)
class Case:
    """A cell and what it shows.

    :param shows: with every engine of ours, in this order.
    :param plainly: what plain papermill shows, where that differs on purpose; ``None`` if it does not.
    :param unsteady: plain papermill shows this in no certain cell, or not at all: it is not compared.
    :param because: the difference, as the docs' table says it.
    :param needs: optional libraries; without them there is no such cell.
    """

    source: str
    shows: tuple[Shown, ...]
    plainly: tuple[Shown, ...] | None = None
    unsteady: bool = False
    because: str = ""
    tags: tuple[str, ...] = ()
    kind: str = "code"
    needs: tuple[str, ...] = ()

    @property
    def missing(self) -> list[str]:
        return [name for name in self.needs if importlib.util.find_spec(name) is None]


def case(source: str, *shows: Shown, **options: Any) -> Case:
    """A case; its source may be indented."""
    lines = source.strip("\n").split("\n")
    margin = min((len(line) - len(line.lstrip()) for line in lines if line.strip()), default=0)
    return Case("\n".join(line[margin:] for line in lines).rstrip(), shows, **options)


def failing(source: str, *shows: Shown, **options: Any) -> Case:
    """A case whose exception is expected."""
    return case(source, *shows, tags=("raises-exception",), **options)


def write_flow(path: Path, cells: list[NotebookNode]) -> None:
    """Write cells as a flow, below the cell that takes the config."""
    parameters = new_code_cell("config = {}", metadata={"tags": ["parameters"]})
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(jupytext.writes(new_notebook(cells=[parameters, *cells]), fmt="py:percent"), "utf-8")


def cell_of(case: Case) -> NotebookNode:
    if case.kind == "markdown":
        return new_markdown_cell(case.source)
    return new_code_cell(case.source, metadata={"tags": list(case.tags)} if case.tags else {})


# --- executed notebooks ---


class Executed:
    """A notebook that somebody executed.

    :param names: of its cells, in order, the two on top left out.
    :param error: that of the run as a whole, if any.
    """

    def __init__(
        self, by: str, root: Path, flow: Path, directory: Path, names: list[str], error: object
    ) -> None:
        self.by, self.directory, self.error = by, directory, error
        self._root, self._flow, self._names = root, flow, names
        self.notebook = nbformat.read(directory / f"{flow.stem}.ipynb", as_version=4)
        own = [c for c in self.notebook.cells if "papermill-error-cell-tag" not in c.metadata.get("tags", ())]
        self._cells = dict(zip(names, own[2:], strict=True))

    @property
    def printed(self) -> bytes:
        """What the run printed, without the error at the end of a red one's text file."""
        text = (self.directory / f"{self._flow.stem}_execution_output.txt").read_bytes()
        return text[: read_record(self.directory).printed]

    def cell(self, name: str) -> NotebookNode:
        """A cell that was executed."""
        cell = self._cells[name]
        skipped = "skip-execution" in cell.metadata.get("tags", ())
        if cell.cell_type == "code" and cell.source and not skipped and cell.execution_count is None:
            raise AssertionError(f"cell {name!r} was not executed, for earlier: {self.error}")
        return cell

    def shows(self, name: str) -> list[Shown]:
        """A cell's outputs, normalised."""
        return [self._shown(output, name) for output in self.cell(name).get("outputs", ())]

    def traceback(self, name: str) -> str:
        """The traceback that a cell shows, normalised, colours kept."""
        [output] = [o for o in self.cell(name).outputs if o.output_type == "error"]
        return self.normalised("\n".join(output.traceback), name)

    def frames(self, name: str) -> list[tuple[str, int, str]]:
        """The frames of a traceback: file, line, function; lines of the flow count from the cell's first."""
        text = re.sub(r"\x1b\[[\d;]*m", "", self.traceback(name))
        text = re.sub(r"Cell In\[\d+\], line (\d+)", r"File {flow}:\1", text)
        found = re.findall(r"^ *File (\S+?):(\d+)(?:, in (.+))?$", text, re.MULTILINE)
        return [(file.rpartition("/")[2], int(line), function) for file, line, function in found]

    def metadata(self, name: str) -> dict[str, Any]:
        """The metadata of a cell; of times only which there are."""
        found = dict(self.cell(name).metadata)
        return {**found, **{key: sorted(found[key]) for key in ("execution", "papermill") if key in found}}

    def whole(self, name: str, plainly: bool) -> dict[str, Any]:
        """All of a cell but its metadata, normalised.

        :param plainly: leave out what is papermill's or ours on purpose: tracebacks, the order of streams.
        """
        cell = self.cell(name)
        found = {key: value for key, value in cell.items() if key not in ("id", "metadata", "outputs")}
        shown = self.shows(name)
        found["outputs"] = merged(shown) if plainly else shown
        found["counts"] = [o.execution_count for o in cell.get("outputs", ()) if "execution_count" in o]
        if not plainly:
            tracebacks = ["\n".join(o.traceback) for o in cell.get("outputs", ()) if o.output_type == "error"]
            found["tracebacks"] = [self.normalised(text, name) for text in tracebacks]
        return found

    @cached_property
    def text(self) -> str:
        """All text that the notebook shows."""
        streams = [o for c in self.notebook.cells for o in c.get("outputs", ()) if o.output_type == "stream"]
        return "".join(output.text for output in streams)

    def normalised(self, text: str, name: str) -> str:
        """A text without what differs from run to run: paths, addresses, times, random ids."""
        start = self.starts[name]

        def relative(match: re.Match[str]) -> str:
            return f"{{flow}}{match[1]}{int(match[2]) - start + 1}"

        colours = r"(?:\x1b\[[\d;]*m)*"
        place = rf"{re.escape(str(self._flow))}({colours}(?::|\"{colours}, line ){colours})(\d+)"
        text = re.sub(place, relative, text)
        text = re.sub(rf"(?<=\(){re.escape(self._flow.name)}(, line )(\d+)(?=\))", relative, text)
        text = re.sub(r"/tmp/ipykernel_\d+/\d+\.py", "{flow}", text)
        text = re.sub(r"(?<=\()\d+\.py(?=, line \d+\))", "{flow}", text)  # a syntax error's own text
        text = text.replace(str(self.directory), "{run}").replace(str(self._root), "{project}")
        for pattern, replacement in _VARYING:
            text = re.sub(pattern, replacement, text)
        return text

    @cached_property
    def starts(self) -> dict[str, int]:
        lines = self._flow.read_text("utf-8").split("\n")
        markers = [number for number, line in enumerate(lines, 1) if re.match(r"# %%( |$)", line)]
        return {name: marker + 1 for name, marker in zip(self._names, markers[1:], strict=True)}

    def _shown(self, output: NotebookNode, name: str) -> Shown:
        if output.output_type == "stream":
            return (output.name, self.normalised(output.text, name))
        if output.output_type == "error":
            return ("error", output.ename, self.normalised(output.evalue, name))
        data = {
            mime: self.normalised(value, name) if isinstance(value, str) and "image/p" not in mime else value
            for mime, value in output.data.items()
        }
        return (output.output_type, data, dict(output.metadata))


_VARYING: Final = (
    (r"0x[0-9a-f]{6,}", "0x…"),
    (r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b", "{uuid}"),
    (r"\bT_[0-9a-f]{5}(?![0-9a-f])", "T_{id}"),  # pandas' styled tables
    (r"<dc:date>.*?</dc:date>", "<dc:date>…</dc:date>"),  # matplotlib's SVG
    (r"\(\d+ times\)", "(many times)"),  # the frames of a recursion
    (r"CPU times: .*\nWall time: .*", "CPU times: …\nWall time: …"),
    (r"[-+\d.e]+ [nμµm]?s ± [\d.e+]+ [nμµm]?s per loop", "… per loop"),
)


def merged(outputs: list[Shown] | tuple[Shown, ...]) -> list[Shown]:
    """Outputs with the text of each stream in one piece, where its first piece stood."""
    found: list[Shown] = []
    places: dict[str, int] = {}
    for output in outputs:
        if output[0] not in _STREAMS:
            found.append(output)
        elif output[0] in places:
            place = places[output[0]]
            found[place] = (output[0], found[place][1] + output[1])
        else:
            places[output[0]] = len(found)
            found.append(output)
    return found


def execute_cells(
    by: str,
    root: Path,
    cells: dict[str, NotebookNode],
    *,
    name: str = "it",
    config: dict[str, Any] | None = None,
    timeout: float = TIMEOUT,
) -> Executed:
    """Execute cells as the flow ``flows/<name>.py`` of a project, by one of ``EVERYONE``."""
    flow, directory = root / "flows" / f"{name}.py", root / "runs" / name / re.sub(r"\W", "_", by)
    write_flow(flow, list(cells.values()))
    if by == PLAIN:
        error = execute_plainly(flow, directory, {**(config or {}), "_project_root": str(root)})
        return Executed(by, root, flow, directory, list(cells), error)
    request = Request(
        kind="flow",
        flow=flow,
        instance=by,
        directory=directory,
        config=config or {},
        project_root=root,
        engine=by,
        timeout=timeout,
    )
    return Executed(by, root, flow, directory, list(cells), execute(request).error)


def execute_plainly(flow: Path, directory: Path, config: dict[str, Any]) -> object:
    """Have papermill alone execute a flow, in a directory; give the error that it raises."""
    directory.mkdir(parents=True)
    notebook = directory / f"{flow.stem}.ipynb"
    nbformat.write(jupytext.read(flow, fmt="py:percent"), notebook)
    try:
        with pytest.MonkeyPatch.context() as patch:
            for name in [name for name in os.environ if name.startswith("PYTEST_")]:
                patch.delenv(name)  # ipykernel looks for it and does not show what subprocesses print
            papermill.execute_notebook(
                notebook,
                notebook,
                parameters={"config": config},
                kernel_name="python3",
                language="python",
                cwd=directory,
                progress_bar=False,
                execution_timeout=TIMEOUT,
            )
    except papermill.PapermillExecutionError as error:  # perhaps that of a cell tagged raises-exception
        return error
    return None


def sources(cells: dict[str, str]) -> dict[str, NotebookNode]:
    """Cells of which nothing is known but the code."""
    return {name: new_code_cell(source) for name, source in cells.items()}


def execute_cases(by: str, root: Path, cases: dict[str, Case], **options: Any) -> Executed:
    """Execute cases as one notebook."""
    cells = {name: cell_of(case) for name, case in cases.items() if not case.missing}
    return execute_cells(by, root, cells, **options)


@contextmanager
def preloaded(modules: Sequence[str], root: Path) -> Iterator[None]:
    """Give the engine ``fork`` a new warm process that has imported modules, as far as it is safe."""
    warm.release()
    warm.current().preload(
        [name for name in modules if importlib.util.find_spec(name.partition(".")[0])], root
    )
    try:
        yield
    finally:
        warm.release()


Notebooks = Callable[[str], Executed]


def once_each(execute: Callable[[str], Executed]) -> Notebooks:
    """A notebook as somebody executed it; each executes it once, and fails once."""
    made: dict[str, Executed | Exception] = {}

    def notebooks(by: str) -> Executed:
        if by not in made:
            try:
                made[by] = execute(by)
            except Exception as error:
                made[by] = error
        notebook = made[by]
        if isinstance(notebook, Exception):
            raise notebook
        return notebook

    return notebooks


def compared(expected: Case, name: str, notebook: Executed) -> tuple[object, object]:
    """What a cell shows and what it has to, for ``==``."""
    if expected.missing:
        pytest.skip(f"without {', '.join(expected.missing)}")
    if expected.unsteady and notebook.by == PLAIN:
        pytest.skip(expected.because)
    shown = notebook.shows(name)
    if notebook.by != PLAIN:
        return shown, list(expected.shows)
    wanted = expected.shows if expected.plainly is None else expected.plainly
    return merged(shown), merged(wanted)
