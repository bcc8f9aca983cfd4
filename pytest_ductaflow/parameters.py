"""What a flow's parameters cell declares, and what of a config reaches the flow.

The cell assigns ``config``, or names of its own as papermill's users write them, or both:

- ``config`` is injected always, as one dict. A literal of it that is not empty declares keys and gives
  defaults, over which the config is merged;
- a name that the config has is injected under its name, too.

A cell that declares something is complete: a key that it does not declare is probably misspelt.
``config = {}`` declares nothing and welcomes all. The cell is looked at, never executed, and only names
that it assigns itself become code.
"""

from __future__ import annotations

import ast
import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from pytest_ductaflow import percent, strict_json
from pytest_ductaflow.errors import ConfigError, FlowError

#: The parameter that is always there.
CONFIG: Final = "config"
_COMPOUND: Final = (ast.If, ast.For, ast.While, ast.With, ast.Try)


@dataclass(frozen=True)
class Remark:
    """Something that is not as its author means it. :param line: 1-based line of the flow's file."""

    line: int
    text: str


@dataclass(frozen=True)
class _Statement:
    """An assignment of the cell: what it assigns, what it reads."""

    line: int
    targets: tuple[str, ...]
    reads: frozenset[str]


@dataclass(frozen=True)
class Parameters:
    """What a parameters cell declares.

    :param names: those that it assigns, without ``config``.
    :param defaults: the literal that it assigns to ``config``; ``None`` if it assigns none.
    :param replaced: the line at which ``config`` gets what is no literal: the run replaces that.
    :param is_plain: whether it assigns plain values only, so that nothing in it can need the project.
    """

    names: tuple[str, ...] = ()
    defaults: Mapping[str, Any] | None = None
    replaced: int | None = None
    is_plain: bool = True
    statements: tuple[_Statement, ...] = field(default=(), repr=False)

    def merged(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """The config over the defaults, objects key by key: what the run gets."""
        return strict_json.merge(self.defaults or {}, config)

    def injected(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """The variables that a run assigns. ``config``: as :meth:`merged` gives it."""
        return {CONFIG: config, **{name: config[name] for name in self.names if name in config}}

    def undeclared(self, config: Mapping[str, Any]) -> Iterator[tuple[tuple[str, ...], str]]:
        """The keys of a config that are not declared, each with a hint at what may be meant."""
        welcomes_all = self.replaced is not None or (self.defaults is None and not self.names)
        if not welcomes_all and (self.defaults or self.defaults is None):
            yield from _undeclared(self.defaults or {}, self.names, config, ())

    def remarks(self, config: Mapping[str, Any]) -> Iterator[Remark]:
        """What of the cell does not have the effect that it seems to have. ``config``: as it is injected."""
        if self.replaced is not None:
            yield Remark(
                self.replaced,
                "⚠️ what is assigned to `config` here is replaced by the run's config: "
                "only a dict of plain values gives defaults",
            )
        injected = self.injected(config).keys()
        for statement in self.statements:
            stale = sorted(statement.reads & injected)
            if stale and not injected >= set(statement.targets):
                yield Remark(
                    statement.line,
                    f"⚠️ `{', '.join(statement.targets)}` is computed from `{stale[0]}` before "
                    f"the run's `{stale[0]}` is there: compute it in a cell below the parameters",
                )


def of_cell(source: str, first: int) -> Parameters:
    """What a parameters cell declares. A cell that is no Python declares nothing.

    :param first: the line of the file at which it begins.
    :raises FlowError: if a default has no JSON type.
    """
    try:
        tree = percent.parse(source)
    except SyntaxError:  # the run says so
        return Parameters(is_plain=False)
    names: dict[str, None] = {}
    for statement in _statements(tree.body):
        names |= dict.fromkeys(_targets(statement))
    defaults, replaced = _config(tree, first)
    return Parameters(
        names=tuple(name for name in names if name != CONFIG),
        defaults=defaults,
        replaced=replaced,
        is_plain=not any(isinstance(node, (ast.Import, ast.ImportFrom, ast.Call)) for node in ast.walk(tree)),
        statements=tuple(
            _Statement(statement.lineno + first - 1, targets, frozenset(_read(statement)))
            for statement in tree.body
            if (targets := tuple(_targets(statement)))
        ),
    )


def _statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements that are executed in the cell itself, those in blocks too."""
    for statement in body:
        yield statement
        if isinstance(statement, _COMPOUND):
            blocks = [statement.body, *(handler.body for handler in getattr(statement, "handlers", ()))]
            blocks += [getattr(statement, "orelse", []), getattr(statement, "finalbody", [])]
            for block in blocks:
                yield from _statements(block)


def _targets(statement: ast.stmt) -> Iterator[str]:
    """The names that a statement assigns. An annotation alone declares one, too."""
    targets: list[ast.expr] = []
    if isinstance(statement, ast.Assign):
        targets = list(statement.targets)
    elif isinstance(statement, (ast.AnnAssign, ast.AugAssign)):
        targets = [statement.target]
    while targets:
        target = targets.pop(0)
        if isinstance(target, ast.Name):
            yield target.id
        elif isinstance(target, (ast.Tuple, ast.List)):
            targets[:0] = target.elts
        elif isinstance(target, ast.Starred):
            targets.insert(0, target.value)


def _read(statement: ast.stmt) -> Iterator[str]:
    value = getattr(statement, "value", None)
    for node in ast.walk(value) if value is not None else ():
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            yield node.id


def _config(tree: ast.Module, first: int) -> tuple[dict[str, Any] | None, int | None]:
    """The literal that ``config`` is, or the line at which it becomes something else."""
    found: dict[str, Any] | None = None
    for statement in tree.body:
        value = getattr(statement, "value", None)
        line = statement.lineno + first - 1
        if isinstance(statement, (ast.Assign, ast.AnnAssign)) and CONFIG in _targets(statement):
            single = isinstance(statement, ast.AnnAssign) or all(
                isinstance(target, ast.Name) for target in statement.targets
            )
            if value is None or (isinstance(value, ast.Constant) and value.value is None):
                continue
            literal = _literal(value) if single else None
            if literal is None:
                return None, line
            found = literal
            for key, default in literal.items():
                try:
                    strict_json.check_types({key: default})
                except ConfigError as error:
                    place = _line_of(value, key, line - statement.lineno)
                    raise FlowError(f"the default {CONFIG}.{error}", place) from None
        elif _changes_config(statement):
            return None, line
    return found, None


def _literal(value: ast.expr) -> dict[Any, Any] | None:
    """The dict that an expression is, without executing it: ``{"a": 1}`` or ``dict(a=1)``."""
    try:
        if isinstance(value, ast.Call) and isinstance(value.func, ast.Name) and value.func.id == "dict":
            if value.args or any(keyword.arg is None for keyword in value.keywords):
                return None
            return {str(keyword.arg): ast.literal_eval(keyword.value) for keyword in value.keywords}
        literal = ast.literal_eval(value)
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        return None
    return literal if isinstance(literal, dict) else None


def _changes_config(statement: ast.stmt) -> bool:
    """Whether it changes ``config`` in place: ``config["a"] = 1``, ``config |= …``, ``config.update(…)``."""
    targets = getattr(statement, "targets", None) or [getattr(statement, "target", None)]
    if isinstance(statement, (ast.Assign, ast.AugAssign, ast.AnnAssign)):
        return any(
            _is_config(target.value if isinstance(target, ast.Subscript) else target) for target in targets
        )
    call = statement.value if isinstance(statement, ast.Expr) else None
    return (
        isinstance(call, ast.Call)
        and isinstance(call.func, ast.Attribute)
        and call.func.attr in ("update", "setdefault", "pop", "clear")
        and _is_config(call.func.value)
    )


def _is_config(node: ast.expr | None) -> bool:
    return isinstance(node, ast.Name) and node.id == CONFIG


def _line_of(value: ast.expr, key: Any, offset: int) -> int:
    for node in getattr(value, "keys", ()):
        if isinstance(node, ast.Constant) and node.value == key:
            return int(node.lineno) + offset
    return value.lineno + offset


def _undeclared(
    defaults: Mapping[str, Any], names: tuple[str, ...], config: Mapping[str, Any], within: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], str]]:
    known = [*names, *defaults]
    for key, value in config.items():
        if key not in known:
            yield (*within, key), hint(key, known)
        elif isinstance(value, dict) and strict_json.PATHS in value:  # it becomes a list
            continue
        elif isinstance(value, dict) and isinstance(below := defaults.get(key), dict) and below:
            yield from _undeclared(below, (), value, (*within, key))


def hint(key: str, known: list[str]) -> str:
    """What may be meant by a key that is not known."""
    near = difflib.get_close_matches(key, known, 1)
    return f"did you mean {near[0]!r}?" if near else f"it declares {', '.join(known[:10])}"
