"""More ways to read: one flow with a cell for each is run once by each engine, then file after file changes."""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from pytest_ductaflow.engines import available
from pytest_ductaflow.execution import Request, execute, up_to_date
from pytest_ductaflow.record import Record

HEADER = """# %% tags=["parameters"]
config = {}

# %%
import contextlib, os, pathlib
root = config["_project_root"]
def at(name, file="a.csv"):  # no text in the code is the path of a file
    return os.path.join(root, "data", name, file)
"""
CONTENT = "x,y\n1,2\n"


@dataclass(frozen=True)
class Way:
    """A way to read ``data/<its name>/a.csv``, or to notice that there is no ``b.csv`` beside it.

    :param code: a cell. :param appears: what is made after the run, instead of a change of ``a.csv``.
    :param needs: a library. :param wrong: why the product does not see it.
    """

    code: str
    appears: str | None = None
    needs: str = "json"
    wrong: str = ""
    config: dict[str, Any] = field(default_factory=dict)


UNSEEN = "only os.path.exists and the like and Path.exists are seen, not every os.stat"
WAYS = {
    # opened by Python
    "json": Way("import json\nwith open(at('json')) as file: file.read()"),
    "os_open": Way("os.close(os.open(at('os_open'), os.O_RDONLY))"),
    "bytes_path": Way("open(os.fsencode(at('bytes_path'))).read()"),
    "dotted": Way("open(os.path.join(root, 'data', 'csv', '..', 'dotted', 'a.csv')).read()"),
    "chdir": Way(
        "os.chdir(root)\nopen(os.path.join('data', 'chdir', 'a.csv')).read()\nos.chdir('runs/it/one')"
    ),
    "csv": Way("import csv\nlist(csv.reader(open(at('csv'))))"),
    "numpy": Way("import numpy\nnumpy.loadtxt(at('numpy'), delimiter=',', skiprows=1)"),
    "pandas": Way("import pandas\npandas.read_csv(at('pandas'))"),
    "mmap": Way(
        "import mmap\nwith open(at('mmap'), 'rb') as file: mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)[:]"
    ),
    "shutil": Way("import shutil\nshutil.copy(at('shutil'), 'copy.csv')"),
    "url": Way("import urllib.request\nurllib.request.urlopen('file://' + at('url')).read()"),
    "linked": Way("open(at('linked', 'link.csv')).read()"),
    "executor": Way(
        "from concurrent.futures import ThreadPoolExecutor\n"
        "with ThreadPoolExecutor(1) as pool: pool.submit(lambda: open(at('executor')).read()).result()"
    ),
    "os_fork": Way(
        "child = os.fork()\nif not child:\n    open(at('os_fork')).read(); os._exit(0)\nos.waitpid(child, 0)"
    ),
    "dir_fd": Way(
        "folder = os.open(os.path.dirname(at('dir_fd')), os.O_RDONLY)\n"
        "os.close(os.open('a' + '.csv', os.O_RDONLY, dir_fd=folder)); os.close(folder)",
        wrong="a path relative to dir_fd is taken for one relative to the working directory",
    ),
    # commands
    "command": Way("import subprocess\nsubprocess.run(['cat', at('command')], check=True)"),
    "command_text": Way(
        "import subprocess\nsubprocess.run('cat ' + at('command_text'), shell=True, check=True)"
    ),
    "command_there": Way(
        "import subprocess\nsubprocess.run(['cat', 'a.' + 'csv'], cwd=os.path.dirname(at('command_there')), check=True)"
    ),
    "os_system": Way("os.system('cat ' + at('os_system'))"),
    "popen": Way("os.popen('cat ' + at('popen')).read()"),
    "spawned": Way("os.waitpid(os.posix_spawn('/bin/cat', ['cat', at('spawned')], os.environ), 0)"),
    "shell_line": Way("name = at('shell_line')\n!cat {name}"),
    "shell_value": Way("name = at('shell_value')\nlines = !cat {name}"),
    "option": Way("import subprocess\nsubprocess.run(['dd', 'if=' + at('option')], check=True)"),
    "redirected": Way(
        "import subprocess\nsubprocess.run('cat <' + at('redirected'), shell=True, check=True)"
    ),
    "command_in_vain": Way(
        "import subprocess\nsubprocess.run(['cat', at('command_in_vain', 'b.csv')])",
        appears="b.csv",
        wrong="a file that a command was asked for and that is not there",
    ),
    # directories
    "listdir": Way("os.listdir(os.path.dirname(at('listdir')))", appears="b.csv"),
    "scandir": Way("with os.scandir(os.path.dirname(at('scandir'))) as found: list(found)", appears="b.csv"),
    "walk": Way("list(os.walk(os.path.dirname(at('walk'))))", appears="b.csv"),
    "walk_deep": Way("list(os.walk(os.path.dirname(at('walk_deep'))))", appears="deep/b.csv"),
    "globbed": Way("import glob\nglob.glob(at('globbed', '*.csv'))", appears="b.csv"),
    "path_glob": Way("list(pathlib.Path(at('path_glob')).parent.glob('*.csv'))", appears="b.csv"),
    "rglob": Way("list(pathlib.Path(at('rglob')).parent.rglob('*.csv'))", appears="deep/b.csv"),
    "fwalk": Way(
        "list(os.fwalk(os.path.dirname(at('fwalk'))))",
        appears="b.csv",
        wrong="a directory that is listed by its descriptor",
    ),
    # looked for in vain
    "exists": Way("assert not os.path.exists(at('exists', 'b.csv'))", appears="b.csv"),
    "isdir": Way("assert not os.path.isdir(at('isdir', 'b.csv'))", appears="b.csv"),
    "getsize": Way(
        "with contextlib.suppress(OSError): os.path.getsize(at('getsize', 'b.csv'))", appears="b.csv"
    ),
    "path_exists": Way("assert not pathlib.Path(at('path_exists', 'b.csv')).exists()", appears="b.csv"),
    "path_is_file": Way("assert not pathlib.Path(at('path_is_file', 'b.csv')).is_file()", appears="b.csv"),
    "tried": Way("with contextlib.suppress(OSError): open(at('tried', 'b.csv'))", appears="b.csv"),
    "tried_deep": Way(
        "with contextlib.suppress(OSError): open(at('tried_deep', 'new/b.csv'))", appears="new/b.csv"
    ),
    "os_stat": Way(
        "with contextlib.suppress(OSError): os.stat(at('os_stat', 'b.csv'))", appears="b.csv", wrong=UNSEEN
    ),
    "path_stat": Way(
        "with contextlib.suppress(OSError): pathlib.Path(at('path_stat', 'b.csv')).stat()",
        appears="b.csv",
        wrong=UNSEEN,
    ),
    "access": Way("assert not os.access(at('access', 'b.csv'), os.R_OK)", appears="b.csv", wrong=UNSEEN),
    "path_size": Way("print(pathlib.Path(at('path_size')).stat().st_size)", wrong=UNSEEN),
    # opened by C++ or Rust: the code or the config name it
    "polars": Way("import polars\npolars.scan_csv(f'{root}/data/polars/a.csv').collect()", needs="polars"),
    "polars_glob": Way(
        "import polars\npolars.scan_csv(f'{root}/data/polars_glob/*.csv').collect()",
        appears="b.csv",
        needs="polars",
    ),
    "polars_config": Way(
        "import polars\npolars.scan_csv(os.path.join(root, config['file'])).collect()",
        needs="polars",
        config={"file": "data/polars_config/a.csv"},
    ),
    "arrow": Way("import pyarrow.csv\npyarrow.csv.read_csv(root + '/data/arrow/a.csv')", needs="pyarrow"),
    "arrow_folder": Way(
        "import pyarrow.dataset\npyarrow.dataset.dataset(root + '/data/arrow_folder', format='csv').to_table()",
        needs="pyarrow",
        wrong="a text in the code that names a directory",
    ),
    "duckdb": Way(
        "import duckdb\nos.chdir(root)\nduckdb.sql('''\nSELECT *\nFROM 'data/duckdb/a.csv'\n''').fetchall()\n"
        "os.chdir('runs/it/one')",
        needs="duckdb",
    ),
    "duckdb_config": Way(
        "import duckdb\nduckdb.read_csv(os.path.join(root, config['sql_file'])).fetchall()",
        needs="duckdb",
        config={"sql_file": "data/duckdb_config/a.csv"},
    ),
    "duckdb_formatted": Way(
        "import duckdb\nduckdb.sql(f\"SELECT * FROM '{root}/data/duckdb_formatted/a.csv'\").fetchall()",
        needs="duckdb",
    ),
    "duckdb_called": Way(
        "import duckdb\nduckdb.sql(f\"FROM read_csv('{root}/data/duckdb_called/a.csv')\").fetchall()",
        needs="duckdb",
    ),
    "attached": Way(
        "import sqlite3\nsqlite3.connect(':memory:').execute(f\"ATTACH '{root}/data/attached/a.csv' AS o\")",
    ),
}
THERE = {name: way for name, way in WAYS.items() if importlib.util.find_spec(way.needs) is not None}

Ran = tuple[Request, Record]


@pytest.fixture(scope="module", params=available())
def ran(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """All ways in one flow, executed."""
    root = tmp_path_factory.mktemp("project")
    for name in WAYS:
        (root / "data" / name / "deep").mkdir(parents=True)
        (root / "data" / name / "a.csv").write_text("" if name == "attached" else CONTENT)
    (root / "data/linked/link.csv").symlink_to("a.csv")
    flow = root / "flows/it.py"
    flow.parent.mkdir()
    flow.write_text(HEADER + "".join(f"\n# %%\n{way.code}\n" for way in THERE.values()))
    config = {key: value for way in THERE.values() for key, value in way.config.items()}
    asked = Request(
        "flow", flow, "one", root / "runs/it/one", config=config, project_root=root, engine=request.param
    )
    record = execute(asked)
    assert record.status == "success", record.error
    return asked, record


def reasons(request: Request) -> list[str]:
    return up_to_date(request)[1]


@contextmanager
def changed(path: Path) -> Iterator[None]:
    """A file with more in it, or one that was not there."""
    before = path.read_bytes() if path.exists() else None
    existed = path.parent.exists()
    path.parent.mkdir(exist_ok=True)
    path.write_bytes((before or b"") + b"3,4\n")
    try:
        yield
    finally:
        if before is None:
            path.unlink()
        else:
            path.write_bytes(before)
        if not existed:
            path.parent.rmdir()


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(
            name,
            marks=[pytest.mark.xfail(strict=True, reason=way.wrong)] if way.wrong else [],
        )
        for name, way in THERE.items()
    ],
)
def test_a_change_of_what_was_read_is_a_reason(ran: Ran, name: str) -> None:
    request, record = ran
    assert reasons(request) == []
    way = THERE[name]
    path = request.project_root / "data" / name / (way.appears or "a.csv")
    if way.appears is None and name != "linked":
        assert f"data/{name}/a.csv" in record.inputs
    with changed(path):
        found = reasons(request)
        assert len(found) in (1, 2), found
        assert all(f"data/{name}" in reason for reason in found)
    assert reasons(request) == []


def test_what_was_not_read_is_no_reason(ran: Ran) -> None:
    request, _ = ran
    with changed(request.project_root / "data/unread.csv"), changed(request.project_root / "data/json/b.csv"):
        assert reasons(request) == []


# --- one flow each -----------------------------------------------------------------------------------


@pytest.fixture(params=available())
def project(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., Request]:
    """Write a flow; give the request that runs it."""
    for folder in ("flows", "data", "src"):
        (tmp_path / folder).mkdir()
    (tmp_path / "data/a.csv").write_text(CONTENT)

    def ask(code: str, config: dict[str, Any] | None = None, **options: Any) -> Request:
        flow = tmp_path / "flows/it.py"
        flow.write_text(f"{HEADER}\n# %%\n{code}\n")
        directory = tmp_path / "runs/it/one"
        asked: dict[str, Any] = {"project_root": tmp_path, "engine": request.param, **options}
        return Request("flow", flow, "one", directory, config=config or {}, **asked)

    return ask


def run(request: Request) -> Record:
    record = execute(request)
    assert record.status == "success", record.error
    return record


def test_a_comment_in_a_module_that_is_also_read_as_data_counts(project: Callable[..., Request]) -> None:
    request = project("import helper\nprint(open(helper.__file__).read())")
    (request.project_root / "helper.py").write_text("VALUE = 1\n")
    run(request)
    (request.project_root / "helper.py").write_text("VALUE = 1  # shown\n")
    assert reasons(request) != []


def test_a_directory_that_is_listed_as_bytes(project: Callable[..., Request]) -> None:
    request = project("os.listdir(os.fsencode(os.path.join(root, 'data')))")
    run(request)
    assert reasons(request) == []


BASH = "\n\n# %%\n%%bash\necho hello; ls -l"


@pytest.mark.parametrize(
    "code",
    [
        "%%bash\ncat ../../../data/a.csv",
        "# %%bash\n# cat '../../../data/a.csv'",
        "name = 'data/a.csv'" + BASH,
        "name = f'{root}/data/a.csv'" + BASH,
        "name = '/data/' 'a.csv'" + BASH,
    ],
    ids=["bash", "commented bash", "text beside bash", "formatted beside bash", "joined beside bash"],
)
def test_what_a_text_names_in_a_flow_with_cells_of_bash(project: Callable[..., Request], code: str) -> None:
    request = project(code)
    assert "data/a.csv" in run(request).inputs


def test_a_flow_that_is_edited_while_it_runs_is_not_up_to_date(project: Callable[..., Request]) -> None:
    request = project(
        "with open(os.path.join(root, 'flows', 'it.py'), 'a') as file: file.write('print(1)\\n')"
    )
    run(request)
    assert "code: flows/it.py" in " ".join(reasons(request))


def test_a_module_that_is_edited_while_it_runs_is_not_up_to_date(project: Callable[..., Request]) -> None:
    request = project(
        "import helper\nos.system(f'cd {root}; printf \"VALUE = 2\" > $(echo helper.p)y')\nprint(helper.VALUE)"
    )
    (request.project_root / "helper.py").write_text("VALUE = 1\n")
    run(request)
    assert (request.project_root / "helper.py").read_text() == "VALUE = 2"
    assert reasons(request) == ["input changed during the last run: helper.py"]


@pytest.mark.parametrize("name", ["local_settings", "colorsys"])
def test_a_module_that_appears_where_the_flow_says_counts(project: Callable[..., Request], name: str) -> None:
    request = project(
        "import sys\nsys.path.insert(0, os.path.join(root, 'src'))\n"
        f"with contextlib.suppress(ImportError):\n    import {name}"
    )
    run(request)
    assert reasons(request) == []
    (request.project_root / f"src/{name}.py").write_text("VALUE = 1\n")
    assert reasons(request) != []


ATOMIC = (
    "results = os.path.join(root, 'results'); os.makedirs(results, exist_ok=True)\n"
    "with open(os.path.join(results, 'part'), 'w') as file: file.write('1')\n"
)


@pytest.mark.parametrize(
    "move",
    [
        "os.replace(os.path.join(results, 'part'), os.path.join(results, 'whole.csv'))",
        "pathlib.Path(results, 'part').rename(pathlib.Path(results, 'whole.csv'))",
    ],
)
def test_what_is_written_outside_by_way_of_another_name_is_output(
    project: Callable[..., Request], move: str
) -> None:
    request = project(ATOMIC + move)
    record = run(request)
    assert "../../../results/whole.csv" in record.outputs
    (request.project_root / "results/whole.csv").unlink()
    assert reasons(request) == ["output missing: results/whole.csv"]


def test_what_is_replaced_outside_and_named_in_the_code_is_up_to_date(
    project: Callable[..., Request],
) -> None:
    request = project(ATOMIC + "os.replace(root + '/results/part', root + '/results/whole.csv')")
    run(request)
    run(request)
    assert reasons(request) == []


def test_what_is_written_by_a_command_that_names_it_is_no_input(project: Callable[..., Request]) -> None:
    code = "import subprocess\nsubprocess.run(['cp', at('', 'a.csv'), 'copy.csv'], check=True)"
    request = project(code)
    run(request)
    assert set(run(request).outputs) == {"copy.csv"}
    assert reasons(request) == []


def test_a_database_that_the_run_changes_is_never_up_to_date(project: Callable[..., Request]) -> None:
    request = project(
        "import sqlite3\nwith sqlite3.connect(at('', 'a.db')) as db:\n"
        "    db.execute('CREATE TABLE IF NOT EXISTS t (x)'); db.execute('INSERT INTO t VALUES (1)')"
    )
    run(request)
    run(request)
    assert reasons(request) == ["input changed during the last run: data/a.db"]


@pytest.mark.xfail(strict=True, reason="what is not yet in the database's file lies in a.db-wal")
def test_a_change_in_a_database_s_log_counts(project: Callable[..., Request]) -> None:
    import sqlite3

    request = project(
        "import sqlite3\nprint(sqlite3.connect(at('', 'a.db')).execute('SELECT * FROM t').fetchall())"
    )
    database = sqlite3.connect(request.project_root / "data/a.db")
    database.executescript("PRAGMA journal_mode=wal; CREATE TABLE t (x); PRAGMA wal_checkpoint(truncate);")
    run(request)
    assert reasons(request) == []
    database.execute("INSERT INTO t VALUES (1)")
    database.commit()
    try:
        assert reasons(request) != []
    finally:
        database.close()


def test_a_relative_path_counts_where_runs_is_a_link(
    project: Callable[..., Request], tmp_path_factory: pytest.TempPathFactory
) -> None:
    request = project("open(os.path.join('..', '..', 'prepare', 'x', 'out.csv')).read()")
    disk = tmp_path_factory.mktemp("disk")
    (disk / "prepare/x").mkdir(parents=True)
    (disk / "prepare/x/out.csv").write_text("1")
    (request.project_root / "runs").symlink_to(disk)
    run(request)
    assert reasons(request) == []
    (disk / "prepare/x/out.csv").write_text("2")
    assert reasons(request) != []


def test_a_project_that_is_reached_through_a_link(
    project: Callable[..., Request], tmp_path_factory: pytest.TempPathFactory
) -> None:
    request = project("open(os.path.realpath(at('', 'a.csv'))).read()\nopen('out.txt', 'w').write('1')")
    link = tmp_path_factory.mktemp("links") / "project"
    link.symlink_to(request.project_root)
    linked = replace(request, flow=link / "flows/it.py", directory=link / "runs/it/one", project_root=link)
    record = run(linked)
    assert "data/a.csv" in record.inputs
    assert set(record.outputs) == {"out.txt"}
    assert reasons(linked) == []
    assert reasons(request) == []
    (link / "data/a.csv").write_text("2")
    assert reasons(linked) == reasons(request) == ["input changed: data/a.csv"]


def test_a_path_below_home_in_the_config_counts(
    project: Callable[..., Request], tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("HOME", str(home))
    (home / "a.csv").write_text("1")
    request = project("open(os.path.expanduser(config['file'])).read()", config={"file": "~/a.csv"})
    run(request)
    assert reasons(request) == []
    (home / "a.csv").write_text("2")
    assert reasons(request) != []


def test_names_that_are_hard_to_write(project: Callable[..., Request]) -> None:
    request = project(
        "for entry in os.listdir(os.path.join(root, 'data')):\n"
        "    open(os.fsencode(os.path.join(root, 'data', entry)), 'rb').read()"
    )
    folder = os.fsencode(request.project_root / "data")
    names = [
        b"a b.csv",
        b"a\nb.csv",
        b"'\".csv",
        "ä☃.csv".encode(),
        b"\xff.csv",
        b"*.csv",
        b"-rf",
        b".hidden",
    ]
    for name in names:
        with open(os.path.join(folder, name), "wb") as file:
            file.write(b"1")
    record = run(request)
    assert len(record.inputs) == len(names) + 2  # and a.csv, and the listing
    assert reasons(request) == []
    for name in names:
        path = os.path.join(folder, name)
        with open(path, "wb") as file:
            file.write(b"2")
        assert reasons(request) == [f"input changed: data/{os.fsdecode(name)}"]
        with open(path, "wb") as file:
            file.write(b"1")
    assert reasons(request) == []


def test_a_directory_of_the_config_counts_as_a_whole(project: Callable[..., Request]) -> None:
    request = project("import subprocess", config={"folder": "data"})
    data = request.project_root / "data"
    (data / "deep").mkdir()
    run(request)
    assert reasons(request) == []
    (data / "deep/b.csv").write_text("1")
    assert reasons(request) == ["input appeared: data/deep/b.csv"]
    (data / "deep/b.csv").unlink()
    assert reasons(request) == []
    (data / "a.csv").unlink()
    assert reasons(request) == ["input missing: data/a.csv"]
    shutil.rmtree(data)
    assert "input missing: data/a.csv" in reasons(request)


def test_more_than_ten_reasons_of_a_kind_are_counted(project: Callable[..., Request]) -> None:
    request = project("pass", inputs=("data/*.csv",))
    run(request)
    for number in range(25):
        (request.project_root / f"data/{number}.csv").write_text("1")
    found = reasons(request)
    assert len(found) == 11
    assert found[-1] == "input appeared: … and 15 more"


def test_inputs_count_where_the_project_s_path_has_brackets(
    project: Callable[..., Request], tmp_path_factory: pytest.TempPathFactory
) -> None:
    request = project("pass")
    root = tmp_path_factory.mktemp("brackets") / "project [v2]"
    shutil.copytree(request.project_root, root)
    request = replace(
        request,
        flow=root / "flows/it.py",
        directory=root / "runs/it/one",
        project_root=root,
        inputs=("data/*.csv",),
    )
    assert "data/a.csv" in run(request).inputs


def test_what_is_linked_into_a_directory_of_the_config_counts(
    project: Callable[..., Request], tmp_path_factory: pytest.TempPathFactory
) -> None:
    disk = tmp_path_factory.mktemp("disk")
    (disk / "b.csv").write_text("1")
    request = project("pass", config={"folder": "data"})
    (request.project_root / "data/linked").symlink_to(disk)
    run(request)
    assert reasons(request) == []
    (disk / "b.csv").write_text("2")
    assert reasons(request) != []


def test_a_link_that_the_run_made_is_output(project: Callable[..., Request]) -> None:
    request = project("open('out.txt', 'w').write('1')\nos.symlink('out.txt', 'latest')")
    run(request)
    assert reasons(request) == []
    (request.directory / "latest").unlink()
    assert reasons(request) != []


def test_a_file_that_lies_in_the_run_directory_and_is_read_is_input(project: Callable[..., Request]) -> None:
    request = project("print(open('mine.txt').read())")
    request.directory.mkdir(parents=True)
    (request.directory / "mine.txt").write_text("1")
    assert set(run(request).inputs) == {"runs/it/one/mine.txt"}
    assert reasons(request) == []
    (request.directory / "mine.txt").write_text("2")
    assert reasons(request) == ["input changed: runs/it/one/mine.txt"]
    run(request)
    assert (request.directory / "mine.txt").read_text() == "2"


def test_what_the_run_makes_outside_and_deletes_is_nothing(project: Callable[..., Request]) -> None:
    request = project(
        "import tempfile\n"
        "with tempfile.NamedTemporaryFile(dir=os.path.join(root, 'data')) as file: file.write(b'1')\n"
        "open(at('', 'b.csv'), 'w').write('1')\nos.unlink(at('', 'b.csv'))"
    )
    assert run(request).outputs == {}
    assert reasons(request) == []


@pytest.mark.xfail(strict=True, reason="a text names the file, and writing outside the project is not traced")
def test_what_is_written_outside_the_project_is_no_input(
    project: Callable[..., Request], tmp_path_factory: pytest.TempPathFactory
) -> None:
    outside = tmp_path_factory.mktemp("outside")
    request = project(f"with open('{outside}/out.csv', 'w') as file: file.write('1')")
    run(request)
    run(request)
    assert reasons(request) == []
