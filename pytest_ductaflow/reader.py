"""A percent-format file as a notebook, through jupytext, with the lines at which its cells stand.

jupytext is the reader; where its reading is not what stands in the file, that is mended or refused.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Final

from pytest_ductaflow import percent
from pytest_ductaflow.errors import FlowError
from pytest_ductaflow.percent import Cell, Source

if TYPE_CHECKING:
    from nbformat import NotebookNode

#: What jupytext takes for ends of lines, and Python does not. It reads stand-ins for them.
_NO_LINE_ENDS: Final = "\v\f\x1c\x1d\x1e\x85\u2028\u2029"
_STAND_INS: Final = range(0xF0000, 0xF0000 + 10_000)  # private use
#: Languages that jupytext knows as an option of a cell.
_LANGUAGES: Final = frozenset(
    {"bash", "sh", "html", "javascript", "js", "latex", "markdown", "perl", "ruby", "svg", "R"}
)
#: Cell magics whose cell is Python all the same.
_PYTHON_MAGICS: Final = frozenset({"%%time", "%%timeit", "%%capture", "%%prun"})


def runs(cell: NotebookNode) -> bool:
    """Whether a cell is executed at all."""
    if cell.cell_type != "code" or not cell.source.strip():
        return False
    return "skip-execution" not in cell.metadata.get("tags", [])


def read(source: Source) -> tuple[NotebookNode, list[Cell | None]]:
    """jupytext's reading, and where its cells stand in the file (one made of the header: nowhere).

    :raises FlowError: if it is not what stands there.
    """
    from jupytext.cell_reader import DoublePercentScriptCellReader  # slow to import, like all of Jupyter
    from jupytext.jupytext import TextNotebookConverter

    stand_ins = _stand_ins(source.text)
    lines = source.text.translate(stand_ins).split("\n")
    if source.cookie is not None:
        lines[source.cookie] = "# -*- coding: utf-8 -*-"  # the only spelling that jupytext knows
    lines = lines[source.blank :]
    total = source.blank + len("\n".join(lines).splitlines())
    cells: list[Cell | None] = []

    class Reader(DoublePercentScriptCellReader):  # type: ignore[misc] # it comes without types
        """Says where its cells stand."""

        def read(self, lines: list[str]) -> tuple[NotebookNode, int]:
            found, length = super().read(lines)
            start = total - len(lines) + 1
            marked = percent.is_marker(lines[0])
            cells.append(_placed(found, start, start + length, marked=marked))
            return found, int(length)

    converter = TextNotebookConverter({"extension": ".py", "format_name": "percent"}, None)
    converter.implementation = copy.copy(converter.implementation)
    converter.implementation.cell_reader_class = Reader
    try:
        notebook = converter.reads("\n".join(lines))
    except Exception as error:  # of many types, all about this text
        raise FlowError(f"jupytext cannot read it: {error}") from None
    back = {stand_in: chr(character) for character, stand_in in stand_ins.items()}
    for found in notebook.cells:
        found.source = found.source.translate({ord(key): value for key, value in back.items()})
    placed = [*[None] * (len(notebook.cells) - len(cells)), *cells]
    if source.is_python:
        for found, cell in zip(notebook.cells, placed, strict=True):
            if cell is not None and cell.kind == "code":
                _compare(found, cell, source)
        _see_that_errors_stay(notebook, source)
    return notebook, placed


def _placed(found: NotebookNode, start: int, end: int, *, marked: bool) -> Cell:
    metadata = found.metadata
    tags = tuple(tag for tag in metadata.get("tags", ()) if isinstance(tag, str))
    chosen = "active" in metadata or "run_control" in metadata or any(t.startswith("active-") for t in tags)
    marker = start if marked else None
    return Cell(found.cell_type, start + 1 if marked else start, end, marker, tags, chosen)


def _stand_ins(text: str) -> dict[int, str]:
    """For each character of the text at which jupytext would end a line one that the text does not have."""
    there = [character for character in _NO_LINE_ENDS if character in text]
    free = (chr(code) for code in _STAND_INS if chr(code) not in text)
    return {ord(character): next(free) for character in there}


def _compare(found: NotebookNode, cell: Cell, source: Source) -> None:
    """See that a code cell has the lines of the file, but for magics, which are commented out there.

    jupytext also takes ``# cat food prices`` for the command ``cat``, commented out. It is a comment.

    :raises FlowError: if a text has changed.
    """
    ours = source.lines[cell.first - 1 : cell.end - 1]
    theirs = found.source.split("\n") if found.source else []
    if cell.chosen or _is_other_language(found, theirs):
        _see_that_all_is_read(ours, theirs, cell)
        return  # all of it may be commented out
    continued = False
    for index, (line, read) in enumerate(zip(ours, theirs, strict=False)):  # without blank lines at the end
        if line != read:
            if cell.first + index in source.quoted or not line.lstrip().startswith("#"):
                raise FlowError("jupytext reads this line differently from Python", cell.first + index)
            if not (continued or percent.is_magic(read)):
                theirs[index] = read = line
        continued = line != read and read.rstrip().endswith("\\")
    found.source = "\n".join(theirs)


def _is_other_language(found: NotebookNode, lines: list[str]) -> bool:
    magic = lines[0].split(maxsplit=1)[0] if lines and lines[0].startswith("%%") else ""
    return "language" in found.metadata or (bool(magic) and magic not in _PYTHON_MAGICS)


def _see_that_all_is_read(ours: list[str], theirs: list[str], cell: Cell) -> None:
    """Below a commented magic such as ``%%bash``, jupytext takes for commands what looks like one.

    :raises FlowError: if lines that are commented out as all others stay comments.
    """
    language = theirs[0].split(maxsplit=1)[0].removeprefix("%%") if theirs else ""
    if language not in _LANGUAGES or not ours[0].lstrip().startswith("#"):
        return
    body = [(line, read) for line, read in zip(ours[1:], theirs[1:], strict=False) if line.strip()]
    stay = next((index for index, (line, read) in enumerate(body) if line == read), None)
    if stay is not None and all(line.lstrip().startswith("#") for line, _ in body):
        raise FlowError(
            f'the lines below `%%{language}` would stay comments: write `# %% language="{language}"` '
            "in place of the cell's marker and the magic",
            cell.first,
        )


def _see_that_errors_stay(notebook: NotebookNode, source: Source) -> None:
    """A syntax error is the run's business, but not if the notebook does without it and what follows."""
    if source.tree is not None or source.error is None:
        return
    for cell in notebook.cells:
        if runs(cell) and not cell.source.lstrip().startswith("%%"):
            try:
                percent.parse(cell.source)
            except SyntaxError:
                return
    raise FlowError(
        f"Python cannot read this ({source.error.msg}), and the notebook would run without it",
        source.error.lineno,
    )
