"""The cells of a percent-format file as they stand in its text, and what Python makes of them.

``python flow.py`` runs the statements of the file; a notebook runs its code cells. A flow is both, so
each statement has to lie in exactly one code cell. jupytext makes the notebook (see ``flow.py``), but is
slow to import: this module finds the cells in the text alone, and says where jupytext must be asked.
"""

from __future__ import annotations

import ast
import codecs
import json
import re
import threading
import warnings
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from pytest_ductaflow import meaning
from pytest_ductaflow.errors import FlowError

Kind = Literal["code", "markdown", "raw"]

#: Lines at which jupytext begins a cell; the last two are older editors'.
_MARKER: Final = re.compile(
    r"^[ \t]*#[ \t]*(?:%%(?:%*[ \t](?P<options>.*)|)|<codecell>[ \t]*|In\[[0-9 ]*\]:?[ \t]*)$"
)
_KIND: Final = re.compile(r"\[(markdown|md|raw)\]")
_TAGS: Final = re.compile(r'(?:\btags[ \t]*=|"tags"[ \t]*:)[ \t]*(\[[^\]]*\])')
_ACTIVE: Final = re.compile(r'(?:\bactive[ \t]*=|"active"[ \t]*:)[ \t]*"([^"]*)"')
#: PEP 263: where a comment of the first two lines names the file's encoding.
_COOKIE: Final = re.compile(r"^[ \t\f]*#.*?coding[:=][ \t]*([-\w.]+)")
#: What jupytext's idea of strings may stumble over: an escaped quote beside a triple one, four in a row.
_ODD_QUOTES: Final = re.compile(
    r"\\['\"].*(?:'''|\"\"\")|(?:'''|\"\"\").*\\['\"]|''''|\"\"\"\"", re.MULTILINE
)
_MAGIC: Final = re.compile(r"^\s*(?:[%!?]|[^#'\"]*\?\s*$|[\w.,\s\[\]]+=\s*[%!])")
_FENCE: Final = re.compile("```|~~~")

_quiet: Final = threading.Lock()  # Python's filters of warnings belong to all threads


@dataclass(frozen=True)
class Cell:
    """The lines of a cell.

    :param first: 1-based line of its first source line. :param end: the line behind its last one.
    :param marker: the line of its marker; ``None`` for what stands above the first one.
    :param chosen: the author says where it runs: jupytext's ``active`` option or tags.
    """

    kind: Kind
    first: int
    end: int
    marker: int | None = None
    tags: tuple[str, ...] = ()
    chosen: bool = False


@dataclass(frozen=True)
class Header:
    """What the YAML between two ``# ---`` says of the kernel. The language is in lower case."""

    kernel: str = "python3"
    language: str = "python"


class Source:
    """The text of a ``.py`` file and what Python reads in it.

    Of a flow in another language nothing is known but the markers.

    :param text: with ``\\n`` as line end.
    :raises FlowError: if the first lines name another encoding than UTF-8 or another format than percent.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self.lines = text.split("\n")
        #: Blank lines at the beginning; jupytext would not see the header below them.
        self.blank = next((i for i, line in enumerate(self.lines) if line.strip()), 0)
        #: The line of the cookie, 0-based, if the file names its encoding.
        self.cookie = _cookie(self.lines, self.blank)
        #: How many lines stand above the first cell.
        self.preamble, self.header = _header(self.lines, self.blank, self.cookie)
        self.is_python = self.header.language == "python"
        self.error: SyntaxError | None = None
        self.tree: ast.Module | None = None
        if self.is_python:
            try:
                self.tree = parse(text)
            except SyntaxError as error:
                self.tree, self.error = self._without_other_languages(), error
        #: Lines that begin within a string, 1-based.
        self.quoted = frozenset() if self.tree is None else frozenset(_quoted(self.tree))
        self.cells = tuple(self._scan(self.quoted))

    def _scan(self, quoted: Collection[int]) -> Iterator[Cell]:
        """The cells between markers; markers in strings are none."""
        marked = [
            (number, match)
            for number, line in enumerate(self.lines[self.preamble :], self.preamble + 1)
            if number not in quoted and (match := _MARKER.match(line))
        ]
        total = len(self.lines) + 1
        ends = [number for number, _ in marked] + [total]
        if any(line.strip() for line in self.lines[self.preamble : ends[0] - 1]):
            yield Cell("code", self.preamble + 1, ends[0])
        for (number, match), end in zip(marked, ends[1:], strict=True):
            options = match["options"] or ""
            kind = _KIND.search(options)
            tags = tags_of(options)
            active = _ACTIVE.search(options)
            runs_in = {*re.split("[., ]", active[1])} if active else set()
            for tag in tags:
                if tag.startswith("active-"):
                    runs_in.update(tag.split("-"))
            inactive = bool(runs_in) and "ipynb" not in runs_in
            yield Cell(
                "markdown" if kind and kind[1] != "raw" else "raw" if kind or inactive else "code",
                number + 1,
                end,
                number,
                tags,
                bool(runs_in) or "run_control" in options,
            )

    def _without_other_languages(self) -> ast.Module | None:
        """The tree without cells of cell magics that are not commented out, if that makes it Python."""
        lines = list(self.lines)
        for cell in self._scan(()):
            body = lines[cell.first - 1 : cell.end - 1]
            if next((line for line in body if line.strip()), "").startswith("%%"):
                lines[cell.first - 1 : cell.end - 1] = [""] * len(body)
        try:
            return parse("\n".join(lines)) if lines != self.lines else None
        except SyntaxError:
            return None

    def source_of(self, cell: Cell) -> str:
        """The text of a cell."""
        return "\n".join(self.lines[cell.first - 1 : cell.end - 1])

    @property
    def is_doubtful(self) -> bool:
        """Whether only jupytext itself can say which cells it sees."""
        if not self.is_python:
            return any("'''" in line or '"""' in line for line in self.lines)
        return (
            self.tree is None
            or self.error is not None
            or any(_MARKER.match(self.lines[number - 1]) for number in self.quoted)
            or _ODD_QUOTES.search(self.text) is not None
            or any(cell.kind != "code" and _FENCE.search(self.source_of(cell)) for cell in self.cells)
        )

    def check(self, cells: Sequence[Cell]) -> None:
        """See that each statement lies in exactly one code cell.

        :param cells: in the order of the file.
        :raises FlowError: with the line at which Python and the notebook part.
        """
        for statement in self.tree.body if self.tree is not None else ():
            first = min([statement.lineno, *(d.lineno for d in getattr(statement, "decorator_list", ()))])
            last = statement.end_lineno or first
            cell = next((cell for cell in cells if cell.first <= first < cell.end), None)
            if cell is None or cell.chosen:
                continue
            is_text = _is_text(statement)
            if cell.kind != "code" and not is_text:
                raise FlowError(
                    f"this code stands in the {cell.kind} cell of line {cell.marker}: `python` runs it, "
                    "the notebook would not. Begin its cell with `# %%`",
                    first,
                )
            if last >= cell.end:
                raise FlowError(
                    f"a cell begins here, within the statement of line {first}: "
                    "the notebook would cut that in two",
                    cell.end,
                )
            if cell.kind != "code" and (marker := self._marker_within(first, last)):
                raise FlowError(
                    f"this cell marker stands in a text that begins at line {first}: "
                    "neither `python` nor the notebook runs the cell",
                    marker,
                )

    def _marker_within(self, first: int, last: int) -> int | None:
        lines = range(first + 1, last + 1)
        return next((number for number in lines if _MARKER.match(self.lines[number - 1])), None)


def parse(text: str) -> ast.Module:
    """The syntax tree; magics and shell lines are calls of their text.

    :raises SyntaxError: if it is no Python.
    """
    with _quiet, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about escapes such as \\d: it is the run that says them
        try:
            try:
                return ast.parse(text)
            except SyntaxError as error:
                try:
                    return ast.parse(meaning.without_magics(text))
                except SyntaxError:
                    raise error from None
        except (ValueError, RecursionError, MemoryError) as error:  # a NUL character, too deep
            raise SyntaxError(str(error)) from None


def is_marker(line: str) -> bool:
    """Whether a cell begins at a line, unless it stands in a string."""
    return _MARKER.match(line) is not None


def is_magic(line: str) -> bool:
    """Whether a line has the sign of a magic, shell line or question for help."""
    return _MAGIC.match(line) is not None


def tags_of(options: str) -> tuple[str, ...]:
    """The tags among the options of a marker."""
    match = _TAGS.search(options)
    if match is None:
        return ()
    try:
        tags = json.loads(match[1].replace("'", '"'))
    except ValueError:
        return ()
    return tuple(tag for tag in tags if isinstance(tag, str))


def _cookie(lines: list[str], start: int) -> int | None:
    for number in (start, start + 1):
        if number < min(2, len(lines)) and (cookie := _COOKIE.match(lines[number])):
            if not _is_utf8(cookie[1]):
                raise FlowError(f"says that its encoding is {cookie[1]}: save it as UTF-8", number + 1)
            return number
        if not lines[start].startswith("#!"):
            break
    return None


def _header(lines: list[str], start: int, cookie: int | None) -> tuple[int, Header]:
    """How many lines stand above the first cell, and what they say."""
    first = start + 1 if lines[start].startswith("#!") else start
    first = first if cookie is None else cookie + 1
    if first < len(lines) and lines[first].rstrip() == "# ---":
        for end in range(first + 1, len(lines)):
            if lines[end].rstrip() == "# ---":
                return end + 1, _parsed_header(lines[first + 1 : end], first + 2)
            if not lines[end].startswith("#"):
                break
    return first, Header()


def _parsed_header(lines: list[str], first: int) -> Header:
    text = "\n".join(line[1:].removeprefix(" ") for line in lines)
    if "kernelspec" not in text and "format" not in text:
        return Header()
    import yaml  # jupytext's own dependency

    try:
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise FlowError(f"has a header that is no YAML: {str(error).splitlines()[0]}", first) from None
    data = _mapping(data)
    data = _mapping(data["jupyter"]) if "jupyter" in data else data
    if (name := _format_of(_mapping(data.get("jupytext")))) not in (None, "percent"):
        line = next((number for number, line in enumerate(lines, first) if str(name) in line), first)
        raise FlowError(
            f"the header says that the format is {name!r}: a flow is in the percent format "
            "(jupytext --to py:percent)",
            line,
        )
    spec = _mapping(data.get("kernelspec"))
    return Header(str(spec.get("name") or "python3"), str(spec.get("language") or "python").lower())


def _mapping(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _format_of(options: dict[str, Any]) -> str | None:
    """The name of the format that jupytext takes a ``.py`` file with these options for."""
    told = _mapping(options.get("text_representation"))
    if str(told.get("extension", ".py")).endswith(".py") and told.get("format_name"):
        return str(told["format_name"])
    for part in str(options.get("formats") or "").split(","):
        extension, _, name = part.rpartition("/")[2].partition(":")
        if extension.strip().endswith("py") and name:
            return name.strip()
    return None


def _is_utf8(encoding: str) -> bool:
    """Whether this is a name of UTF-8."""
    try:
        return codecs.lookup(encoding).name == "utf-8"
    except LookupError:
        return False


def _quoted(tree: ast.Module) -> Iterator[int]:
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr) or (
            isinstance(node, ast.Constant) and isinstance(node.value, (str, bytes))
        ):
            yield from range(node.lineno + 1, (node.end_lineno or node.lineno) + 1)


def _is_text(statement: ast.stmt) -> bool:
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, (ast.Constant, ast.JoinedStr))
        and isinstance(getattr(statement.value, "value", ""), str)
    )
