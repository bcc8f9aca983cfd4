"""Which changes of code count: what is read as data, what may be imported instead, docstrings, lines."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pytest_ductaflow.engines import available
from pytest_ductaflow.execution import Request, execute, up_to_date
from pytest_ductaflow.record import Record

HEADER = """# %% tags=["parameters"]
config = {}

# %%
import os, sys
root = config["_project_root"]
path = os.path.join(root, "help" + "er.py")

# %%
"""
HELPER = '''"""Help."""
import warnings
def value():
    """Five."""
    return 5  # a comment
def fail():
    raise ValueError  # a comment
def warn():
    warnings.warn("careful")  # a comment
'''


@pytest.fixture(params=available())
def project(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., Request]:
    """Write a flow or build; give the request that runs it."""
    write(tmp_path, "helper.py", HELPER)
    write(tmp_path, "pk/sub.py", "V = 1  # a comment\n")

    def ask(code: str, name: str = "it", kind: str = "flow", **options: Any) -> Request:
        flow = write(tmp_path, f"{kind}s/{name}.py", f"{HEADER}{code}\n")
        asked: dict[str, Any] = {"config": {}, "project_root": tmp_path, "engine": request.param, **options}
        return Request(kind, flow, "one", tmp_path / f"runs/{name}/one", **asked)

    return ask


def write(root: Path, name: str, text: str) -> Path:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def change(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def run(request: Request) -> Record:
    record = execute(request)
    assert record.status == "success", record.error
    return record


def reasons(request: Request) -> list[str]:
    return up_to_date(request)[1]


# --- code that is read as data -----------------------------------------------------------------------


READ = {
    "linecache": "import linecache\nlinecache.getline(path, 5)",
    "tokenize": "import tokenize\ntokenize.open(path).read()",
    "getsource": "import inspect, helper\ninspect.getsource(helper.value)",
    "shown before": (
        "import inspect, traceback, helper\ntry: helper.fail()\nexcept ValueError: traceback.print_exc()\n"
        "inspect.getsource(helper.value)"
    ),
    "parsed": "import ast\nast.parse(open(path).read())",
    "executed": "exec(open(path).read())",
    "runpy": "import runpy\nrunpy.run_path(path)",
    "loader": "import helper\nhelper.__loader__.get_source('helper')",
    "pkgutil": "import pkgutil\npkgutil.get_data('pk', '../help' + 'er.py')",
    "resources": "import importlib.resources, pk\nimportlib.resources.files(pk).joinpath('../help' + 'er.py').read_text()",
    "own tokenize": "import my_tokenize\nmy_tokenize.read(path)",
    "own linecache": "import linecache_\nsys.path.insert(0, root + '/tools')\nimport deep.linecache as l\nl.read(path)",
    "own importlib": "sys.path.insert(0, root + '/tools/importlib')\nimport reader\nreader.read(path)",
    "own loader": (
        "from importlib.machinery import SourceFileLoader\nfrom importlib.util import spec_from_file_location\n"
        "class Loader(SourceFileLoader):\n"
        "    def source_to_code(self, data, path, **options): print(data); return super().source_to_code(data, path)\n"
        "    def path_stats(self, path): raise OSError\n"
        "spec = spec_from_file_location('other', path, loader=Loader('other', path))\n"
        "spec.loader.exec_module(importlib.util.module_from_spec(spec))"
    ),
}


@pytest.mark.parametrize("name", READ)
def test_a_comment_counts_where_code_is_read_as_data(project: Callable[..., Request], name: str) -> None:
    request = project(f"import importlib.util\n{READ[name]}")
    root = request.project_root
    write(root, "pk/__init__.py", "")
    write(root, "linecache_.py", "")
    for module in ("my_tokenize.py", "tools/deep/linecache.py", "tools/importlib/reader.py"):
        write(root, module, "def read(path):\n    return open(path).read()\n")
    run(request)
    assert reasons(request) == []
    change(root / "helper.py", "# a comment", "# another")
    assert reasons(request) == ["input changed: helper.py"]


def test_a_comment_in_the_flow_counts_where_it_reads_itself(project: Callable[..., Request]) -> None:
    request = project("import inspect\ndef own():  # a comment\n    pass\nprint(inspect.getsource(own))")
    run(request)
    assert reasons(request) == []
    change(request.flow, "# a comment", "# another")
    assert reasons(request) == ["input changed: flows/it.py"]


def test_a_line_that_is_shown_beside_an_error_or_a_warning_is_no_data(
    project: Callable[..., Request],
) -> None:
    request = project(
        "import traceback, helper\ntry: helper.fail()\nexcept ValueError: text = traceback.format_exc()\n"
        "helper.warn()\n\n# %% tags=['raises-exception']\nhelper.fail()"
    )
    record = execute(request)
    assert not record.light.is_red, record.error
    change(request.project_root / "helper.py", "# a comment", "# another")
    assert reasons(request) == []


# --- what may be imported instead --------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "pk/__init__.py",
        "pk/sub/__init__.py",
        "pk.pyc",
        "flows/pk/__init__.py",
        "heapq.py",
        "pk/missing.pyc",
        "settings",
    ],
)
@pytest.mark.parametrize(
    "code",
    ["from pk.sub import V", "import importlib\nimportlib.import_module('p' + 'k.sub')"],
    ids=["named", "by name"],
)
def test_what_may_be_imported_instead_counts(project: Callable[..., Request], code: str, name: str) -> None:
    request = project(
        f"sys.path.insert(0, os.path.join(root, 'flows'))\n{code}\n"
        "try: import pk.missing\nexcept ImportError: pass\ntry: import settings\nexcept ImportError: pass"
    )
    run(request)
    assert reasons(request) == []
    path = request.project_root / name
    path.parent.mkdir(exist_ok=True)
    path.touch() if path.suffix else path.mkdir()
    assert any("appeared" in reason and name in reason for reason in reasons(request)), reasons(request)


# --- docstrings and lines ----------------------------------------------------------------------------


def test_docstrings_count_unless_nobody_can_read_them(project: Callable[..., Request]) -> None:
    plain = project("import helper, json, numpy as np\nprint(helper.value())", name="plain")
    asking = project("import click, helper\nprint(click.command(helper.value).help)", name="asking")
    for request in (plain, asking):
        run(request)
        assert reasons(request) == []
    change(plain.project_root / "helper.py", "Five.", "Six.")
    assert reasons(plain) == []
    assert reasons(asking) == ["code: helper.py"]


def test_an_older_record_says_nothing_of_docstrings_that_count_now(project: Callable[..., Request]) -> None:
    request = project("import click, helper\nprint(click.command(helper.value).help)")
    run(request)
    file = request.directory / "run.json"
    record = json.loads(file.read_text())
    del record["code"]["helper.py"]["docstrings"]
    file.write_text(json.dumps(record))
    assert reasons(request) == []
    change(request.project_root / "helper.py", "Five.", "Six.")
    assert reasons(request) == ["code: helper.py"]


def test_of_two_flows_of_a_build_the_one_that_reads_docstrings_counts(
    project: Callable[..., Request],
) -> None:
    project("import click, helper\nprint(click.command(helper.value).help)", name="asking")
    project("if False: import helper", name="naming")
    project("import helper\nprint(helper.value())", name="plain")
    request = project(
        "from pytest_ductaflow import run_notebook\nfor name in ('asking', 'plain', 'naming'):\n"
        "    run_notebook(f'{root}/flows/{name}.py', execution_dir=f'runs/{name}', config={})",
        name="all",
        kind="build",
        reuse=True,
    )
    run(request)
    assert reasons(request) == []
    change(request.project_root / "helper.py", "Five.", "Six.")
    assert reasons(request) == ["code: helper.py"]


def test_comments_count_where_code_looks_at_the_numbers_of_lines(project: Callable[..., Request]) -> None:
    request = project("import helper, sys\nprint(sys._getframe().f_lineno)")
    run(request)
    assert reasons(request) == []
    change(request.flow, "import helper", "# one line more\nimport helper")
    assert reasons(request) == ["code: flows/it.py"]
    # Declared up to date, it still does.
    from pytest_ductaflow.execution import accept

    accept(request)
    assert reasons(request) == []
    change(request.flow, "# one line more\n", "")
    assert reasons(request) == ["code: flows/it.py"]


# --- who lists the directories to import from --------------------------------------------------------


@pytest.mark.skipif(importlib.util.find_spec("pkg_resources") is None, reason="without pkg_resources")
def test_a_library_that_looks_for_distributions_makes_no_directory_an_input(
    project: Callable[..., Request],
) -> None:
    request = project("import pkg_resources\npkg_resources.WorkingSet()")
    run(request)
    write(request.project_root, "notes.txt", "")
    assert reasons(request) == []


@pytest.mark.parametrize("code", ["os.listdir(root)", "import pkgutil\nlist(pkgutil.iter_modules([root]))"])
def test_the_project_s_own_listing_is_an_input(project: Callable[..., Request], code: str) -> None:
    request = project(code)
    run(request)
    assert reasons(request) == []
    write(request.project_root, "new_file.py", "")
    assert reasons(request) == ["input changed: other files in: ./"]


def test_a_library_that_lists_only_where_data_lies_makes_it_an_input(project: Callable[..., Request]) -> None:
    request = project("from IPython.utils.path import shellglob\nprint(shellglob([root + '/*.csv']))")
    run(request)
    assert reasons(request) == []
    write(request.project_root, "new.csv", "")
    assert "input changed: other files in: ./" in reasons(request)
