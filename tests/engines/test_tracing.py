"""What a run read, wrote and looked for: each source is recorded, and a change of it is a reason to run."""

import importlib
import importlib.util
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from pytest_ductaflow.engines import ENGINES
from pytest_ductaflow.engines.tracing import Loaded
from pytest_ductaflow.execution import Request, execute, up_to_date
from pytest_ductaflow.record import Record

HEADER = '# %% tags=["parameters"]\nconfig = {}\n\n# %%\nroot = config["_project_root"]\n'


class Source(NamedTuple):
    """A way to read something.

    :param code: of the flow. :param name: of the file that it reads; it is there, unless ``appears``.
    :param appears: the file is made after the run.
    """

    code: str
    name: str = "data/a.csv"
    config: dict[str, Any] = {}  # noqa: RUF012 # never changed
    inputs: tuple[str, ...] = ()
    appears: bool = False
    needs: str = "json"


CHILD = "import multiprocessing as m\ndef read(p): return open(p).read()\n"
SOURCES = {
    "open": Source("open(root + '/data/' + 'a.csv').read()"),
    "pathlib": Source("import pathlib\npathlib.Path(root, 'data', 'a.csv').read_bytes()"),
    "relative": Source("open('../../../data/' + 'a.csv').read()"),
    "pandas": Source("import pandas, os\npandas.read_csv(os.path.join(root, 'data', 'a.csv'))"),
    "sqlite": Source("import sqlite3\nsqlite3.connect(root + '/data/' + 'a.db')", name="data/a.db"),
    "command": Source("import subprocess\nsubprocess.run(['cat', root + '/data/' + 'a.csv'])"),
    "command with a wildcard": Source("import os\nos.system('cat ' + root + '/da' + 'ta/*.csv')"),
    "one more for a wildcard": Source(
        "get_ipython().system('cat ' + root + '/da' + 'ta/*.csv')", name="data/b.csv", appears=True
    ),
    "a directory of a command": Source(
        "import subprocess\nsubprocess.run(['cp', '-r', root + '/da' + 'ta', '.'])"
    ),
    "one more in a directory of a command": Source(
        "import subprocess\nsubprocess.run(['ls', root + '/da' + 'ta'])", name="data/b.csv", appears=True
    ),
    "there goes a command": Source(
        "import subprocess\nsubprocess.run(['tar', 'cf', 'a.tar', '-C', root, 'da' + 'ta'])"
    ),
    "a shell goes there": Source("import os\nos.system(f'cd {root}/da' + 'ta && cat *.csv')"),
    "shell": Source("name = root + '/data/' + 'a.csv'\nget_ipython().system('cat ' + name)"),
    "forked": Source(CHILD + "m.get_context('fork').Pool(1).map(read, [root + '/data/' + 'a.csv'])"),
    "thread": Source(
        "import threading\nt = threading.Thread(target=lambda: open(root + '/data/' + 'a.csv').read())\n"
        "t.start(); t.join()"
    ),
    "hidden": Source("open(root + '/' + '.env').read()", name=".env"),
    "listed": Source("import glob\nglob.glob(root + '/data/*.c' + 'sv')", name="data/b.csv", appears=True),
    "listed by pathlib": Source(
        "import pathlib\nlist(pathlib.Path(root, 'data').iterdir())", name="data/b.csv", appears=True
    ),
    "looked for": Source(
        "import pathlib\npathlib.Path(root, 'data', 'b.csv').exists()", name="data/b.csv", appears=True
    ),
    "looked for by os.path": Source(
        "import os\nos.path.isfile(root + '/data/' + 'b.csv')", name="data/b.csv", appears=True
    ),
    "tried": Source(
        "try: open(root + '/data/' + 'b.csv')\nexcept FileNotFoundError: pass",
        name="data/b.csv",
        appears=True,
    ),
    "imported in vain": Source(
        "try: import local_settings\nexcept ImportError: pass", name="local_settings.py", appears=True
    ),
    "imported in vain by name": Source(
        "import importlib\ntry: importlib.import_module('local' + '_settings')\nexcept ImportError: pass",
        name="local_settings.py",
        appears=True,
    ),
    "shadowed": Source("import colorsys", name="colorsys.py", appears=True),
    "declared": Source("pass", inputs=("data/*.csv",)),
    "declared, another file": Source("pass", inputs=("data/*.csv",), name="data/b.csv", appears=True),
    "named by the config": Source("pass", config={"file": "data/a.csv"}),
    "in a directory of the config": Source("pass", config={"files": "data"}),
    "named by the code": Source("name = 'data/a.csv'"),
    "pyarrow": Source(
        "import pyarrow.parquet as p\np.read_table(root + '/data/t.parquet')",
        name="data/t.parquet",
        needs="pyarrow",
    ),
    "polars": Source(
        "import polars\npolars.read_csv(config['file'])", config={"file": "{root}/data/a.csv"}, needs="polars"
    ),
    "duckdb": Source(
        "import duckdb, os\nos.chdir(root)\nduckdb.sql(\"SELECT * FROM read_csv('data/a.csv')\").fetchall()",
        needs="duckdb",
    ),
}


@pytest.fixture(params=ENGINES)
def project(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., Request]:
    """Write a flow; give the request that runs it."""
    for folder in ("flows", "data"):
        (tmp_path / folder).mkdir()
    (tmp_path / "data/a.csv").write_text("x,y\n1,2\n")
    (tmp_path / "data/a.db").write_bytes(b"")
    (tmp_path / ".env").write_text("A=1")

    def ask(code: str, name: str = "it", config: dict[str, Any] | None = None, **options: Any) -> Request:
        flow = tmp_path / "flows" / f"{name}.py"
        flow.write_text(f"{HEADER}{code}\n")
        directory = tmp_path / "runs" / name / "one"
        engine = request.param
        asked = {"config": config or {}, "project_root": tmp_path, "engine": engine, **options}
        return Request("flow", flow, "one", directory, **asked)

    return ask


def run(request: Request) -> Record:
    record = execute(request)
    assert record.status == "success", record.error
    return record


def reasons(request: Request) -> list[str]:
    return up_to_date(request)[1]


@pytest.mark.parametrize("name", SOURCES)
def test_a_source_is_seen_and_its_change_is_a_reason(project: Callable[..., Request], name: str) -> None:
    source = SOURCES[name]
    if importlib.util.find_spec(source.needs) is None:
        pytest.skip(f"without {source.needs}")
    request = project("pass")
    root = request.project_root
    config = {key: value.replace("{root}", str(root)) for key, value in source.config.items()}
    request = project(source.code, config=config, inputs=source.inputs)
    path = root / source.name
    if path.suffix == ".parquet":
        import pyarrow
        import pyarrow.parquet

        pyarrow.parquet.write_table(pyarrow.table({"x": [1]}), path)
    record = run(request)
    assert reasons(request) == []
    if source.appears:
        path.write_text("VALUE = 1\n")
    else:
        assert source.name in record.inputs
        path.write_bytes(path.read_bytes() + b"\n3,4")
    assert reasons(request) != []
    assert path.name in " ".join(reasons(request)) or f"{source.name.rpartition('/')[0]}/" in str(
        reasons(request)
    )


def test_what_the_run_made_is_output_and_no_input(project: Callable[..., Request]) -> None:
    request = project(
        "import os, pathlib\n"
        "if not os.path.exists('mine.txt'): open('mine.txt', 'w').write('1')\n"
        "open('mine.txt').read()\n"
        "os.makedirs(root + '/results', exist_ok=True)\n"
        "open(root + '/results/shared.txt', 'w').write('2'); open(root + '/results/shared.txt').read()\n"
        "open(root + '/log.txt', 'a').write('3')\n"
        "print(os.listdir('.'))"
    )
    run(request)
    record = run(request)  # now that all is there that it looks for
    assert reasons(request) == []
    assert set(record.outputs) == {"mine.txt", "../../../results/shared.txt"}
    assert record.inputs["log.txt"] == "appended to"
    (request.project_root / "log.txt").write_text("another run")
    assert reasons(request) == []
    (request.project_root / "results/shared.txt").unlink()
    assert reasons(request) == ["output missing: results/shared.txt"]


def test_modules_count_by_meaning_also_those_imported_by_others(project: Callable[..., Request]) -> None:
    request = project("import outer\nprint(outer.inner.VALUE)")
    root = request.project_root
    (root / "outer.py").write_text("import inner\n")
    (root / "inner.py").write_text("VALUE = 1\n")
    record = run(request)
    assert set(record.code) == {"flows/it.py", "outer.py", "inner.py"}
    (root / "inner.py").write_text("# the same\nVALUE = 1\n")
    assert reasons(request) == []
    (root / "inner.py").write_text("VALUE = 2\n")
    assert reasons(request) == ["code: inner.py"]
    (root / "inner.py").unlink()
    assert reasons(request) == ["code missing: inner.py"]


def test_a_module_that_only_a_forked_process_imports_counts(project: Callable[..., Request]) -> None:
    request = project(
        "import multiprocessing\ndef load(_):\n    import late\n    return late.VALUE\n"
        "print(multiprocessing.get_context('fork').Pool(1).map(load, [1]))"
    )
    (request.project_root / "late.py").write_text("VALUE = 1\n")
    run(request)
    (request.project_root / "late.py").write_text("VALUE = 2\n")
    assert "code: late.py" in reasons(request)


def test_what_changes_while_the_run_reads_it_is_never_up_to_date(project: Callable[..., Request]) -> None:
    request = project(
        "import os\nopen(root + '/data/a.csv').read()\nos.system('echo 5 >> ' + root + '/data/' + 'a.csv')"
    )
    assert "data/a.csv" in run(request).inputs
    assert reasons(request) == ["input changed during the last run: data/a.csv"]


def test_only_the_project_counts_and_what_the_config_names(
    project: Callable[..., Request], tmp_path_factory: pytest.TempPathFactory
) -> None:
    outside = tmp_path_factory.mktemp("outside")
    for name in ("one", "two"):
        (outside / name).write_text("1")
    request = project(f"open({str(outside)!r} + '/one').read()", config={"file": str(outside / "two")})
    assert set(run(request).inputs) == {f"{outside}/two"}
    (outside / "two").write_text("2")
    assert reasons(request) == [f"input changed: {outside}/two"]


def test_a_linked_directory_counts(
    project: Callable[..., Request], tmp_path_factory: pytest.TempPathFactory
) -> None:
    request = project("open(root + '/linked/' + 'a.csv').read()")
    outside = tmp_path_factory.mktemp("outside")
    (outside / "a.csv").write_text("1")
    os.symlink(outside, request.project_root / "linked")
    run(request)
    (outside / "a.csv").write_text("2")
    assert reasons(request) == ["input changed: linked/a.csv"]


def test_a_run_can_be_moved(
    project: Callable[..., Request], tmp_path_factory: pytest.TempPathFactory
) -> None:
    request = project("open(config['file']).read()", config={})
    root = request.project_root
    request = replace(request, config={"file": f"{root}/data/a.csv"})
    run(request)
    other = tmp_path_factory.mktemp("moved") / "project"
    shutil.copytree(root, other)
    moved = replace(
        request,
        flow=other / "flows/it.py",
        directory=other / "runs/it/one",
        project_root=other,
        config={"file": f"{other}/data/a.csv"},
    )
    assert reasons(moved) == []


def test_the_libraries_are_those_that_the_run_imported(project: Callable[..., Request]) -> None:
    record = run(project("import pandas"))
    assert {"pandas", "numpy"} <= record.environment["libraries"].keys()


def test_a_module_that_changes_while_the_run_goes_on_is_a_reason(project: Callable[..., Request]) -> None:
    request = project("import mine\nopen(root + '/mi' + 'ne.py', 'a').write('VALUE = 2\\n')")
    (request.project_root / "mine.py").write_text("VALUE = 1\n")
    run(request)
    assert reasons(request) == ["input changed during the last run: mine.py"]


def test_what_two_flows_of_a_build_saw_differently_is_a_reason(project: Callable[..., Request]) -> None:
    first = project("open(root + '/data/' + 'a.csv').read()", name="first")
    root = first.project_root
    (root / "builds").mkdir()
    build = root / "builds/all.py"
    build.write_text(
        f"{HEADER}from pytest_ductaflow import run_notebook\n"
        "run_notebook(root + '/flows/first.py', config={}, execution_dir='runs/1')\n"
        "import subprocess\nsubprocess.run(['sh', '-c', f'echo 5 >> {root}/data/a.csv'])\n"
        "run_notebook(root + '/flows/first.py', config={}, execution_dir='runs/2')\n"
    )
    request = replace(first, kind="build", flow=build, directory=root / "runs/all/one")
    run(request)
    assert "input changed during the last run: data/a.csv" in reasons(request)


def test_a_file_elsewhere_that_a_later_flow_makes_is_an_input_of_the_earlier(
    project: Callable[..., Request],
) -> None:
    first = project("import os\nprint(os.path.exists(root + '/data/cac' + 'he'))", name="first")
    project("open(root + '/data/cac' + 'he', 'w').write('1')", name="second")
    root = first.project_root
    (root / "builds").mkdir()
    build = root / "builds/all.py"
    build.write_text(
        f"{HEADER}from pytest_ductaflow import run_notebook\n"
        "run_notebook(root + '/flows/first.py', config={}, execution_dir='runs/1')\n"
        "run_notebook(root + '/flows/second.py', config={}, execution_dir='runs/2')\n"
    )
    request = replace(first, kind="build", flow=build, directory=root / "runs/all/one", reuse=True)
    run(request)
    assert "input appeared: data/cache" in reasons(request)
    run(request)
    assert reasons(request) == []


def test_what_is_loaded_later_is_told_from_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "early.py").write_text("")
    (tmp_path / "late.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("sys.modules", dict(sys.modules))
    early = importlib.import_module("early")
    loaded = Loaded()
    assert loaded.later() == {}
    assert "early" in loaded.top_level()
    late = importlib.import_module("late")
    sys.modules["another"] = late
    assert loaded.later() == {"late": late, "another": late}
    assert {"early", "late", "another"} <= loaded.top_level()
    assert {early.__file__, late.__file__} <= set(loaded.files())
    del sys.modules["early"]
    again = importlib.import_module("early")
    assert loaded.later() == {"late": late, "another": late, "early": again}
    assert not loaded.top_level() & sys.stdlib_module_names
