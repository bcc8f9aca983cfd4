"""What code means: two texts with the same meaning do the same.

Comments, formatting, markdown, docstrings, type comments and where cells are split do not count;
the syntax tree does. Docstrings count where somebody may read them (see ``looks``). Magics
and shell lines count as text.
"""

from __future__ import annotations

import ast
import functools
import itertools
import re
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pytest_ductaflow import regular
from pytest_ductaflow.digests import digest_of_text

_MAGIC_LINE: Final = re.compile(r"^(\s*)([%!].*|[^#'\"]*\?{1,2}\s*)$")
_MAGIC_VALUE: Final = re.compile(r"^(\s*[\w.,\s\[\]'\"]+?\s*=)\s*([%!].*)$")
_DOCUMENTED: Final = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Module)
_QUOTED: Final = re.compile("['\"]([^'\"\\n]+)['\"]")
_SEPARATOR: Final = re.compile("[\\s'\"(),;<>|&=]+")
_MARKER: Final = re.compile(r"^# %%.*$", re.MULTILINE)
#: Magics as jupytext writes them into a ``.py`` file: a line, or a cell of another language.
_COMMENTED_MAGIC: Final = re.compile(
    r"^[ \t]*#[ \t]*[!%](?!%).*$|^# %%[^\n]*\blanguage=[^\n]*\n(?:#(?! %%)[^\n]*\n?)*"
    r"|^# %%(?:bash|sh|sql|script|writefile)\b[^\n]*\n(?:#(?! %%)[^\n]*\n?)*",
    re.MULTILINE,
)
#: Longer texts name no file.
_LONGEST_NAME: Final = 1024


@dataclass(frozen=True)
class Cell:
    """A code cell: its source, and its tags as far as they change what runs."""

    source: str
    tags: tuple[str, ...] = ()


@dataclass(frozen=True)
class Mentions:
    """What a file of code names: modules (also dotted), and texts that may be paths."""

    imports: frozenset[str] = frozenset()
    texts: tuple[str, ...] = ()


#: Tags that change what a cell does.
TAGS: Final = frozenset({"parameters", "raises-exception"})


def of_cells(cells: Iterable[Cell], *, docstrings: bool = False) -> str:
    """Digest of what a flow's code cells mean, one after the other.

    :param docstrings: whether they count.
    """
    found = (statement for cell in cells for statement in statements(cell, docstrings=docstrings))
    return digest_of_text("\n".join(found))


@functools.lru_cache(maxsize=200)  # the same few modules are used by hundreds of runs
def of_module(text: str, *, docstrings: bool = False) -> str:
    """Digest of what a module means. A text that is no Python counts as it is."""
    tree = _parse(text)
    dumped = None if tree is None else _dumped(tree, docstrings=docstrings)
    return digest_of_text(text if dumped is None else "\n".join(dumped))


def statements(cell: Cell, *, docstrings: bool = False) -> list[str]:
    """A cell's statements, normalised."""
    found = _statements(cell.source, docstrings)
    if cell.tags:
        return [f"<{' '.join(cell.tags)}>", *found, "</>"]
    return list(found)


def first_difference(old: Sequence[Cell], new: Sequence[Cell]) -> int | None:
    """The index of the first of the ``new`` cells whose statements are not the old ones; ``None`` for none.

    The last cell stands for what is gone after it.
    """
    before = [statement for cell in old for statement in statements(cell)]
    position = 0
    for index, cell in enumerate(new):
        now = statements(cell)
        if before[position : position + len(now)] != now:
            return index
        position += len(now)
    return len(new) - 1 if position < len(before) and new else None


def mentions(text: str) -> Mentions:
    """What a ``.py`` file, flow or module, names."""
    imports: set[str] = set()
    texts: dict[str, None] = {}
    for part in [text] if _parse(text) is not None else _MARKER.split(text):  # cells, some of them no Python
        tree = _parse(part) or _parse(without_magics(part))
        if tree is None:
            texts |= dict.fromkeys(_words(part))
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                imports.update(alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                imports.add(node.module)
                imports.update(f"{node.module}.{alias.name}" for alias in node.names if alias.name != "*")
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                texts |= dict.fromkeys(_names_in(node.value))
            elif joined := _joined(node):
                texts[joined] = None
    for magic in _COMMENTED_MAGIC.finditer(text):
        texts |= dict.fromkeys(_words(magic[0]))
    return Mentions(frozenset(imports), tuple(texts))


@functools.lru_cache(maxsize=1000)
def mentions_in(path: Path, digest: str) -> Mentions:
    """The same of a file; ``digest`` is that of its content."""
    try:
        return mentions(regular.read_text(path, "utf-8-sig"))
    except (OSError, UnicodeDecodeError):
        return Mentions()


def _joined(node: ast.AST) -> str | None:
    """The constant end of a path that is put together, as in ``root / "data" / "a.csv"``."""
    parts: list[ast.expr] = []
    if isinstance(node, ast.Call):
        function = node.func
        name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
        if name in ("join", "joinpath", "Path"):
            parts = node.args[::-1]
    else:
        while isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
            parts.append(node.right)
            node = node.left
    values = (getattr(part, "value", None) for part in parts)
    end = [str(value) for value in itertools.takewhile(lambda value: isinstance(value, str), values)][::-1]
    return "/".join(end) if len(end) > 1 else None


def _names_in(text: str) -> Iterator[str]:
    if len(text) <= _LONGEST_NAME and "\n" not in text and _is_name(text):
        yield text
    if _SEPARATOR.search(text):  # SQL, a command, or a part of one
        yield from _words(text)


def _words(text: str) -> Iterator[str]:
    """What may be paths in SQL, a command, or code that is no Python."""
    yield from filter(_is_name, (*_QUOTED.findall(text), *_SEPARATOR.split(text)))


def _is_name(text: str) -> bool:
    return "/" in text or "." in text or "\\" in text


@functools.lru_cache(maxsize=500)  # the same few flows run for hundreds of scenarios
def _statements(source: str, docstrings: bool) -> tuple[str, ...]:
    if not source.lstrip().startswith("%%"):
        tree = _parse(source) or _parse(without_magics(source))
        dumped = None if tree is None else _dumped(tree, docstrings=docstrings, is_cell=True)
        if dumped is not None:
            return tuple(dumped)
    return (source.strip("\n"),)


def _parse(text: str) -> ast.Module | None:
    try:
        with warnings.catch_warnings():  # of what the flow itself is warned about: "\\d" in a string
            warnings.simplefilter("ignore")
            return ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def without_magics(source: str) -> str:
    """The source with magics and shell lines as calls of their text."""
    lines = []
    for line in source.split("\n"):
        if match := _MAGIC_LINE.match(line):
            line = f"{match[1]}__magic__({match[2]!r})"
        elif match := _MAGIC_VALUE.match(line):
            line = f"{match[1]} __magic__({match[2]!r})"
        lines.append(line)
    return "\n".join(lines)


def _dumped(tree: ast.Module, *, docstrings: bool, is_cell: bool = False) -> list[str] | None:
    """The statements, normalised; ``None`` if they are too deep or too large for that."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant):
            node.kind = None
        elif isinstance(node, _DOCUMENTED) and not docstrings and not (is_cell and node is tree):
            _drop_docstring(node)
    try:
        return [ast.dump(statement) for statement in tree.body]
    except (RecursionError, ValueError):
        return None


def _drop_docstring(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Module) -> None:
    first = node.body[0] if node.body else None
    if (
        isinstance(first, ast.Expr)
        and isinstance(first.value, ast.Constant)
        and isinstance(first.value.value, str)
    ):
        del node.body[0]
        if not node.body and not isinstance(node, ast.Module):
            node.body.append(ast.Pass())
