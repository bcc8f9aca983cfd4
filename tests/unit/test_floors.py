import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import pytest_ductaflow

PACKAGE = Path(pytest_ductaflow.__file__).parent

#: DESIGN.md §6: a module imports from its own floor (without a cycle) or from lower ones.
FLOORS = {
    "digests": 0,
    "errors": 0,
    "regular": 0,
    "settings": 0,
    "figures": 0,
    "looks": 0,
    "meaning": 0,
    "parameters": 1,
    "percent": 1,
    "reader": 1,
    "injection": 1,
    "printable": 0,
    "modules": 0,
    "paths": 0,
    "status": 0,
    "xfail": 0,
    "strict_json": 0,
    "instance": 1,
    "names": 1,
    "csv_tables": 1,
    "shadows": 1,
    "tables": 1,
    "flow": 1,
    "record": 1,
    "last_words": 1,
    "capture": 1,
    "context": 1,
    "expectations": 1,
    "measures": 1,
    "notebook_html": 1,
    "collected": 2,
    "frame": 2,
    "freshness": 2,
    "outputs": 2,
    "graph": 1,
    "problem": 1,
    "references": 1,
    "project": 2,
    "needed": 2,
    "leftovers": 2,
    "reads": 2,
    "engines": 2,
    "engines.base": 2,
    "engines.callers": 2,
    "engines.driver": 2,
    "engines.entry": 2,
    "engines.exceptions": 2,
    "engines.fork": 2,
    "engines.fork_child": 2,
    "engines.fork_server": 2,
    "engines.kernel": 2,
    "engines.launcher": 2,
    "engines.launcher_process": 2,
    "engines.measuring": 2,
    "engines.pages": 2,
    "engines.preload": 2,
    "engines.processes": 2,
    "engines.threads": 2,
    "engines.warm": 2,
    "engines.slots": 2,
    "engines.supervisor": 2,
    "engines.tracing": 2,
    "engines.wire": 2,
    "engines.papermill": 2,
    "execution": 3,
    "logs": 3,
    "loop": 4,
    "nested": 3,
    "report": 3,
    "report.comparison": 3,
    "report.page": 3,
    "report.rows": 3,
    "report.sweep": 3,
    "report.failure": 3,
    "report.clusters": 3,
    "report.summary": 3,
    "config": 4,
    "script": 4,
    "debug": 4,
    "ahead": 5,
    "arguments": 5,
    "explain": 5,
    "nothing": 5,
    "notices": 5,
    "live": 5,
    "options": 5,
    "order": 5,
    "representation": 5,
    "items": 5,
    "session": 5,
    "terminal": 5,
    "reporting": 5,
    "scheduling": 5,
    "plugin": 5,
    "doubts": 5,
    "command": 5,
    "command.project": 5,
    "command.prune": 5,
    "__main__": 5,
    "progress": 5,
}

#: What no kernel needs just because a flow imports this package.
HEAVY = (
    "pytest",
    "_pytest",
    "papermill",
    "pandas",
    "numpy",
    "jupytext",
    "nbformat",
    "nbclient",
    "IPython",
    "dask",
)


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")


MODULES = {
    name_of(path): path
    for path in sorted(PACKAGE.rglob("*.py"))
    if path.parent.name != "_alias" and path != PACKAGE / "__init__.py"
}


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


def imports_of(node: ast.AST) -> Iterator[str]:
    """Modules of the package that this code imports, at the top or in functions, but not for types only."""
    if isinstance(node, ast.Import):
        for alias in node.names:
            if alias.name.startswith("pytest_ductaflow."):
                yield alias.name.removeprefix("pytest_ductaflow.")
    elif isinstance(node, ast.ImportFrom):
        assert node.level == 0, "imports are absolute"
        if node.module == "pytest_ductaflow":
            yield from (pytest_ductaflow._HOMES.get(alias.name, alias.name) for alias in node.names)
        elif node.module and node.module.startswith("pytest_ductaflow."):
            module = node.module.removeprefix("pytest_ductaflow.")
            for alias in node.names:
                inner = f"{module}.{alias.name}"
                yield inner if inner in MODULES else module
    for child in ast.iter_child_nodes(node):
        if is_type_checking(node) and child in node.body:  # type: ignore[attr-defined]
            continue
        yield from imports_of(child)


IMPORTS = {
    name: sorted(set(imports_of(ast.parse(path.read_text("utf-8"), str(path)))))
    for name, path in MODULES.items()
}


def test_every_module_has_a_floor() -> None:
    assert set(MODULES) == set(FLOORS)


@pytest.mark.parametrize("module", IMPORTS)
def test_a_module_imports_from_its_own_floor_or_lower(module: str) -> None:
    upward = [wanted for wanted in IMPORTS[module] if FLOORS[wanted] > FLOORS[module]]
    assert upward == []


def reachable(start: str) -> set[str]:
    found: set[str] = set()
    pending = list(IMPORTS[start])
    while pending:
        module = pending.pop()
        if module not in found:
            found.add(module)
            pending += IMPORTS[module]
    return found


def test_no_module_imports_itself_by_way_of_others() -> None:
    assert {module for module in MODULES if module in reachable(module)} == set()


def test_the_imports_are_seen_at_all() -> None:
    assert "strict_json" in IMPORTS["instance"]  # from pytest_ductaflow import …
    assert "status" in IMPORTS["record"]  # from pytest_ductaflow.status import …
    assert "script" in IMPORTS["config"]  # within a function
    assert "report.page" in IMPORTS["report"]  # a package's own module


@pytest.mark.parametrize("module", [module for module, floor in FLOORS.items() if floor < 5])
def test_below_the_plugin_nothing_imports_pytest(module: str) -> None:
    tree = ast.parse(MODULES[module].read_text("utf-8"))
    roots = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            roots |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            roots.add(node.module.split(".")[0])
    assert roots.isdisjoint({"pytest", "_pytest"})


@pytest.mark.parametrize("module", MODULES)
def test_nothing_imports_from_pytest_s_private_package(module: str) -> None:
    text = MODULES[module].read_text("utf-8")
    assert "from _pytest" not in text
    assert "import _pytest" not in text


def test_importing_what_flows_import_loads_nothing_heavy() -> None:
    names = (
        "pytest_ductaflow",
        "pytest_ductaflow.config",
        "pytest_ductaflow.capture",
        "pytest_ductaflow.context",
        "pytest_ductaflow.measures",
    )
    code = f"import sys, {', '.join(names)}; print(*sorted(sys.modules))"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert set(names) <= set(loaded)
    assert [name for name in loaded if name.split(".")[0] in HEAVY] == []


def test_the_launcher_loads_nothing_that_makes_it_large() -> None:
    code = "import sys, pytest_ductaflow.engines.launcher_process; print(*sorted(sys.modules))"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    ours = [name.removeprefix("pytest_ductaflow.") for name in loaded if name.startswith("pytest_ductaflow.")]
    assert ours == [
        *("context", "engines", "engines.base", "engines.launcher_process", "engines.supervisor"),
        *("engines.wire", "errors"),
    ]
    assert [name for name in loaded if name.split(".")[0] in (*HEAVY, "psutil", "asyncio", "logging")] == []


@pytest.mark.parametrize("name", pytest_ductaflow.__all__)
def test_every_public_name_is_there_and_documented(name: str) -> None:
    value = getattr(pytest_ductaflow, name)
    assert value.__name__ == name
    assert value.__doc__


def test_public_names_have_one_home_and_are_listed_sorted() -> None:
    assert sorted(pytest_ductaflow._HOMES) == sorted(pytest_ductaflow.__all__)
    assert set(pytest_ductaflow.__all__) <= set(dir(pytest_ductaflow))


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'run_notebok'"):
        pytest_ductaflow.run_notebok  # noqa: B018
