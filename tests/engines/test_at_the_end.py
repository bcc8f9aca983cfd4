"""When the last cell has run, a flow's process ends as Python does: nothing that was begun gets lost."""

import functools
import gzip
import importlib.util
import re
import sqlite3
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from .shown import OURS, TIMEOUT, Notebooks, execute_cells, once_each, sources

#: A module of the project that keeps files open.
MODULE = """
import gzip, zipfile

def begin():
    global plain, packed, archive, cycle
    plain = open("module.txt", "w"); plain.write("of a module")
    packed = gzip.open("module.gz", "wt"); packed.write("of a module")
    archive = zipfile.ZipFile("module.zip", "w"); archive.writestr("inner", "of a module")
    class Cycle: pass
    cycle = Cycle(); cycle.itself = cycle
    cycle.packed = gzip.open("cycle.gz", "wt"); cycle.packed.write("in a cycle")
"""


def text(path: Path) -> object:
    return path.read_text()


def unpacked(path: Path) -> object:
    return gzip.decompress(path.read_bytes()).decode()


def zipped(path: Path) -> object:
    with zipfile.ZipFile(path) as archive:
        return archive.read("inner").decode()


def exists(path: Path) -> object:
    return path.exists()


def is_left(path: Path) -> object:
    """Whether a link still leads to something; it is removed, so that the test leaves nothing behind."""
    if not path.exists():
        return False
    path.resolve().unlink()
    return True


@dataclass(frozen=True)
class Left:
    """Something that a flow leaves unfinished, and what has to be in a file afterwards."""

    code: str
    file: str
    content: object
    read: Callable[[Path], Any] = text
    needs: str = "sys"


def rows_of_sqlite(path: Path) -> object:
    return sqlite3.connect(path).execute("select x from t").fetchall()


def rows_of_duckdb(path: Path) -> object:
    import duckdb

    with duckdb.connect(str(path), read_only=True) as connection:
        return connection.execute("select x from t").fetchall()


def rows_of_parquet(path: Path) -> object:
    import pyarrow.parquet

    return pyarrow.parquet.read_table(path)["x"].to_pylist()


LEFT = {
    "a file": Left("f = open('a.txt', 'w'); f.write('text')", "a.txt", "text"),
    "a binary file": Left("b = open('b.txt', 'wb'); b.write(b'bytes')", "b.txt", "bytes"),
    "a file to read and write": Left(
        "r = open('r.txt', 'w+b'); r.write(b'one'); r.seek(0); r.read(1); r.write(b'-')", "r.txt", "o-e"
    ),
    "a large file": Left(
        "g = open('g.txt', 'w')\nfor i in range(9999): g.write('x' * 99)", "g.txt", "x" * 989901
    ),
    "a file by codecs": Left(
        "import codecs; h = codecs.open('h.txt', 'w', 'utf-8'); h.write('ü')", "h.txt", "ü"
    ),
    "a text stream on a file": Left(
        "import io; t = io.TextIOWrapper(io.BufferedWriter(io.FileIO('t.txt', 'w'))); t.write('three layers')",
        "t.txt",
        "three layers",
    ),
    "a file that only a list holds": Left(
        "files = [open('list.txt', 'w')]; files[0].write('listed')", "list.txt", "listed"
    ),
    "a file that only a function holds": Left(
        "def write(file=open('default.txt', 'w')): file.write('by default')\nwrite()",
        "default.txt",
        "by default",
    ),
    "a file that a generator holds": Left(
        "def lines():\n    with open('lines.txt', 'w') as file:\n        while True: file.write((yield))\n"
        "writer = lines(); next(writer); writer.send('sent')",
        "lines.txt",
        "sent",
    ),
    "a temporary file that stays": Left(
        "import tempfile; n = tempfile.NamedTemporaryFile('w', delete=False, dir='.')\n"
        "n.write('named'); import os; os.link(n.name, 'named.txt')",
        "named.txt",
        "named",
    ),
    "a file of C": Left(
        "import ctypes; libc = ctypes.CDLL(None); libc.fopen.restype = ctypes.c_void_p\n"
        "libc.fputs(b'by C', ctypes.c_void_p(libc.fopen(b'libc.txt', b'w')))",
        "libc.txt",
        "by C",
    ),
    "gzip": Left("import gzip; z = gzip.open('z.gz', 'wt'); z.write('packed')", "z.gz", "packed", unpacked),
    "zip": Left(
        "import zipfile; y = zipfile.ZipFile('y.zip', 'w'); y.writestr('inner', 'zipped')",
        "y.zip",
        "zipped",
        zipped,
    ),
    "a module's file": Left("import keeper; keeper.begin()", "module.txt", "of a module"),
    "a module's gzip": Left("keeper", "module.gz", "of a module", unpacked),
    "a module's zip": Left("keeper", "module.zip", "of a module", zipped),
    "a module's gzip in a cycle": Left("keeper", "cycle.gz", "in a cycle", unpacked),
    "an error's variables": Left(
        "def fail():\n    kept = gzip.open('error.gz', 'wt'); kept.write('kept by the error'); 1 / 0\n"
        "try: fail()\nexcept ZeroDivisionError as error: stored = error",
        "error.gz",
        "kept by the error",
        unpacked,
    ),
    "the last result": Left(
        "def last():\n    file = gzip.open('last.gz', 'wt'); file.write('result'); return file\nlast()",
        "last.gz",
        "result",
        unpacked,
    ),
    "a memory map": Left(
        "import mmap; m = open('m.txt', 'w+b'); m.truncate(4); mapped = mmap.mmap(m.fileno(), 4); mapped[:] = b'maps'",
        "m.txt",
        "maps",
    ),
    "shelve": Left(
        "import shelve\ns = shelve.open('s', writeback=True); s['k'] = []; s['k'].append(1)\n"
        "import atexit\n"
        "def check():\n    with open('s.txt', 'w') as file: file.write('checked')\natexit.register(check)",
        "s.txt",
        "checked",
    ),
    "sqlite": Left(
        "import sqlite3; q = sqlite3.connect('q.sqlite'); q.execute('create table t (x)')\n"
        "q.execute('insert into t values (1)'); q.commit(); q.execute('insert into t values (2)')",
        "q.sqlite",
        [(1,)],
        rows_of_sqlite,
    ),
    "duckdb": Left(
        "import duckdb; d = duckdb.connect('d.duckdb'); d.execute('create table t as select 5 as x')",
        "d.duckdb",
        [(5,)],
        rows_of_duckdb,
        "duckdb",
    ),
    "parquet": Left(
        "import pyarrow.parquet; part = pyarrow.table({'x': [1, 2]})\n"
        "p = pyarrow.parquet.ParquetWriter('p.parquet', part.schema); p.write_table(part)",
        "p.parquet",
        [1, 2],
        rows_of_parquet,
        "pyarrow",
    ),
    "logging": Left(
        "import logging, logging.handlers\n"
        "log = logging.getLogger('late'); log.addHandler(logging.handlers.MemoryHandler(99, target=logging.FileHandler('log.txt')))\n"
        "log.warning('held back')",
        "log.txt",
        "held back\n",
    ),
    "an exit handler": Left(
        "import atexit\n"
        "def bye():\n    with open('bye.txt', 'w') as file: file.write(f'bye from {os.getcwd()}'[:3])\n    print('printed by an exit handler')\n"
        "atexit.register(bye)",
        "bye.txt",
        "bye",
    ),
    "exit handlers in order": Left(
        "order = open('order.txt', 'w')\nfor i in range(3): atexit.register(order.write, str(i))",
        "order.txt",
        "210",
    ),
    "a finalizer": Left(
        "import weakref\nclass Thing: pass\nthing = Thing()\n"
        "def finish():\n    with open('finalized.txt', 'w') as file: file.write('finalized')\n    print('printed by a finalizer')\n"
        "weakref.finalize(thing, finish)",
        "finalized.txt",
        "finalized",
    ),
    "a temporary directory": Left(
        "directory = tempfile.TemporaryDirectory(dir='.', prefix='temporary-')\nos.symlink(directory.name, 'temporary')",
        "temporary",
        False,
        exists,
    ),
    "an object's __del__": Left(
        "class Mortal:\n    def __init__(self, open=open): self.open = open\n    def __del__(self):\n        with self.open('del.txt', 'w') as file: file.write('deleted')\nmortal = Mortal()",
        "del.txt",
        "deleted",
    ),
    "a thread": Left(
        "import threading\n"
        "def late():\n    threading.main_thread().join()\n    with open('thread.txt', 'w') as file: file.write('late')\n    print('printed by a late thread')\n"
        "threading.Thread(target=late).start()",
        "thread.txt",
        "late",
    ),
    "a pool of threads": Left(
        "from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor\n"
        "workers, futures, ending = ThreadPoolExecutor(1), [], threading.Event()\n"
        "threading._register_atexit(ending.set)\n"
        "def note(i):\n    ending.wait()\n    with open('futures.txt', 'a') as file: file.write(str(i))\n"
        "for i in range(3): futures.append(workers.submit(note, i))",
        "futures.txt",
        "012",
    ),
    "a daemon thread": Left(
        "threading.Thread(target=threading.Event().wait, daemon=True).start(); open('daemon.txt', 'w').close()",
        "daemon.txt",
        "",
    ),
    "a process that is still at work": Left(
        "import multiprocessing\nfork = multiprocessing.get_context('fork')\n"
        "end, other = fork.Pipe()\n"
        "def finish_work():\n    end.recv()\n    with open('process.txt', 'w') as file: file.write('done')\n"
        "process = fork.Process(target=finish_work); process.start(); atexit.register(other.send, 'go')",
        "process.txt",
        "done",
    ),
    "a pool that nobody closed": Left(
        "pool = fork.Pool(1); open('pool.txt', 'w').write(str(pool.apply(os.getppid) == os.getpid()))",
        "pool.txt",
        "True",
    ),
    "an executor that nobody shut down": Left(
        "executor = ProcessPoolExecutor(1, mp_context=fork); open('executor.txt', 'w').write(str(executor.submit(pow, 2, 3).result()))",
        "executor.txt",
        "8",
    ),
    "a manager that nobody shut down": Left(
        "manager = fork.Manager(); shared = manager.list([1]); open('manager.txt', 'w').write(str(shared[0]))",
        "manager.txt",
        "1",
    ),
    "a pending task": Left(
        "import asyncio; task = asyncio.ensure_future(asyncio.sleep(1000)); open('task.txt', 'w').write('begun')",
        "task.txt",
        "begun",
    ),
    "shared memory that nobody unlinked": Left(
        "from multiprocessing import shared_memory\nmemory = shared_memory.SharedMemory(create=True, size=8)\nos.symlink(f'/dev/shm/{memory.name}', 'memory')",
        "memory",
        False,
        is_left,
    ),
    "the last words": Left(
        "open('last.txt', 'w').close(); print('the last words', end='')", "last.txt", True, exists
    ),
}


#: The same code as a script: what ends well there has to end well in a flow.
SCRIPT = "a script"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with a module that keeps files open."""
    root = tmp_path_factory.mktemp("project")
    (root / "flows").mkdir()
    (root / "flows" / "keeper.py").write_text(MODULE)
    return root


@pytest.fixture(scope="module")
def notebooks(project: Path) -> Notebooks:
    """The notebook that leaves everything behind, as somebody executed it."""
    return once_each(lambda by: execute_cells(by, project, sources(cells())))


@pytest.fixture(scope="module")
def directories(project: Path, notebooks: Notebooks) -> Callable[[str], Path]:
    """The directory in which everything was left behind."""

    @functools.cache
    def directory(by: str) -> Path:
        if by != SCRIPT:
            notebook = notebooks(by)
            assert notebook.error is None
            return notebook.directory
        script, place = project / "flows" / "script.py", project / "runs" / "script"
        script.write_text("\n".join(cells().values()), "utf-8")
        place.mkdir(parents=True)
        subprocess.run(
            [sys.executable, str(script)], cwd=place, check=True, timeout=TIMEOUT, capture_output=True
        )
        return place

    return directory


def cells() -> dict[str, str]:
    return {name: left.code for name, left in LEFT.items() if importlib.util.find_spec(left.needs)}


@pytest.mark.parametrize("by", [*OURS, SCRIPT])
@pytest.mark.parametrize("name", LEFT)
def test_what_was_begun_is_finished(directories: Callable[[str], Path], name: str, by: str) -> None:
    left = LEFT[name]
    pytest.importorskip(left.needs)
    assert left.read(directories(by) / left.file) == left.content


@pytest.mark.parametrize("by", OURS)
@pytest.mark.parametrize("who", ["an exit handler", "a late thread", "a finalizer"])
def test_what_is_printed_at_the_end_is_in_the_file_and_in_the_last_cell(
    notebooks: Notebooks, who: str, by: str
) -> None:
    notebook = notebooks(by)
    assert f"printed by {who}\n" in notebook.printed.decode()
    [(_, text)] = notebook.shows("the last words")
    assert text.startswith("the last words")
    assert f"printed by {who}\n" in text


@pytest.mark.parametrize("by", OURS)
def test_nothing_else_is_printed_at_the_end(notebooks: Notebooks, by: str) -> None:
    lines = notebooks(by).printed.decode().removeprefix("the last words").splitlines()
    of_python = r"printed by .*|.* resource_tracker: There appear to be .*|  warnings.warn\(.*"
    assert [line for line in lines if not re.fullmatch(of_python, line)] == []


@pytest.mark.parametrize("by", OURS)
def test_a_failed_flow_finishes_what_it_began_too(tmp_path: Path, by: str) -> None:
    cells = {
        "begin": "import atexit, gzip\nfile = open('a.txt', 'w'); file.write('begun')\n"
        "packed = gzip.open('b.gz', 'wt'); packed.write('begun'); atexit.register(print, 'bye')",
        "fail": "1 / 0",
    }
    notebook = execute_cells(by, tmp_path, sources(cells))
    assert notebook.error["type"] == "ZeroDivisionError"
    assert (text(notebook.directory / "a.txt"), unpacked(notebook.directory / "b.gz")) == ("begun", "begun")
    assert notebook.printed == b"bye\n"


@pytest.mark.parametrize("by", OURS)
def test_an_error_in_an_exit_handler_is_shown_and_the_other_handlers_run(tmp_path: Path, by: str) -> None:
    code = "import atexit\natexit.register(print, 'the other')\natexit.register(lambda: 1 / 0)\nprint('fine')"
    notebook = execute_cells(by, tmp_path, sources({"register": code}))
    assert notebook.error is None
    lines = notebook.printed.decode().splitlines()
    assert (lines[0], lines[-1]) == ("fine", "the other")
    assert "ZeroDivisionError: division by zero" in lines


@pytest.mark.parametrize("by", OURS)
def test_text_of_c_that_nobody_flushed_comes_out(tmp_path: Path, by: str) -> None:
    code = "import ctypes, sys\nctypes.CDLL(None).printf(b'of C'); sys.stdout.write('of Python')\n"
    notebook = execute_cells(by, tmp_path, sources({"print": code}))
    assert b"of C" in notebook.printed
    assert b"of Python" in notebook.printed
