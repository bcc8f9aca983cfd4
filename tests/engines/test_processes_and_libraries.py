"""Processes that a flow starts, and libraries with threads of their own, work as in a fresh kernel.

Also where the warm process has imported all of them before the fork.
"""

from unittest.mock import ANY

import pytest

from .shown import (
    EVERYONE,
    OURS,
    PLAIN,
    Case,
    Executed,
    Like,
    Notebooks,
    case,
    compared,
    displayed,
    execute_cases,
    failing,
    once_each,
    preloaded,
    printed,
    raised,
    result,
)

PRELOADED = "fork, everything preloaded"
LIBRARIES = (
    *("numpy", "numpy.linalg", "pandas", "pyarrow.parquet", "pyarrow.dataset", "pyarrow.compute", "polars"),
    *("duckdb", "sqlite3", "plotly.graph_objects", "matplotlib.pyplot", "openpyxl", "threadpoolctl", "tqdm"),
    *("multiprocessing", "concurrent.futures.process", "multiprocessing.shared_memory", "ssl", "http.server"),
)
CHILDREN = (
    "what a flow's processes print stands where it was printed; papermill shows it when it comes, or never"
)

PROCESSES = {
    "a forked process": case(
        """
        import asyncio, math, multiprocessing, os, signal, subprocess, sys
        fork, spawn = (multiprocessing.get_context(name) for name in ("fork", "spawn"))
        def work(name):
            print("in the", name)
            print("oh", file=sys.stderr)
        print("before")
        process = fork.Process(target=work, args=("child",)); process.start(); process.join()
        print("after"); process.exitcode
        """,
        printed("before\nin the child\noh\nafter\n"),
        result("0"),
        unsteady=True,
        because=CHILDREN,
    ),
    "a spawned process": case(
        "process = spawn.Process(target=print, args=('spawned',)); process.start(); process.join(); process.exitcode",
        printed("spawned\n"),
        result("0"),
        unsteady=True,
        because=CHILDREN,
    ),
    "a spawned process does not know the cells": case(
        "process = spawn.Process(target=work, args=('x',)); process.start(); process.join(); process.exitcode",
        printed(Like(".*AttributeError.*Can't get attribute 'work' on <module '__main__' .*")),
        result("1"),
        unsteady=True,
        because=CHILDREN,
    ),
    "a process of a fork server": case(
        """
        server = multiprocessing.get_context("forkserver")
        process = server.Process(target=print, args=("served",)); process.start(); process.join(); process.exitcode
        """,
        printed("served\n"),
        result("0"),
        unsteady=True,
        because=CHILDREN,
    ),
    "exit statuses": case(
        """
        def status(target, *args):
            process = fork.Process(target=target, args=args); process.start(); process.join()
            return process.exitcode
        status(sys.exit, 3), status(os._exit, 4), status(signal.raise_signal, signal.SIGTERM)
        """,
        result("(3, 4, -15)"),
    ),
    "a process that prints and dies": case(
        "status(lambda: (print('half a line', end='', flush=True), os.kill(os.getpid(), 9)))",
        printed("half a line"),
        result("-9"),
        unsteady=True,
        because=CHILDREN,
    ),
    "a fork by hand": case(
        """
        print("parent")
        import warnings
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a kernel of papermill's has threads, of which Python 3.12 warns
            child = os.fork()
        if child == 0:
            print("child"); sys.stdout.flush(); os._exit(7)
        os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        """,
        printed("parent\nchild\n"),
        result("7"),
        unsteady=True,
        because=CHILDREN,
    ),
    "a fork after half a line": case(
        "print('half', end=' '); status(print, 'whole')",
        printed("half whole\n"),
        result("0"),
        unsteady=True,
        because=CHILDREN,
    ),
    "a pool": case(
        "def square(x): return x * x\nwith fork.Pool(2) as pool: print(pool.map(square, range(5)))",
        printed("[0, 1, 4, 9, 16]\n"),
    ),
    "a spawned pool": case(
        "with spawn.Pool(1) as pool: print(pool.map(math.sqrt, [4, 9]))", printed("[2.0, 3.0]\n")
    ),
    "an error in a pool": failing(
        "with fork.Pool(1) as pool: pool.map(math.sqrt, [-1])",
        raised("ValueError", Like("math domain error|expected a nonnegative input.*")),
    ),
    "ProcessPoolExecutor": case(
        """
        from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
        with ProcessPoolExecutor(2, mp_context=fork) as pool: print(list(pool.map(square, range(4))))
        """,
        printed("[0, 1, 4, 9]\n"),
    ),
    "ProcessPoolExecutor, spawned": case(
        "with ProcessPoolExecutor(1, mp_context=spawn) as pool: print(pool.submit(pow, 2, 10).result())",
        printed("1024\n"),
    ),
    "ProcessPoolExecutor, as it comes": case(
        "with ProcessPoolExecutor(1) as pool: print(pool.submit(math.factorial, 5).result())",
        printed("120\n"),
    ),
    "ProcessPoolExecutor and await": case(
        """
        with ProcessPoolExecutor(1, mp_context=fork) as pool:
            print(await asyncio.get_running_loop().run_in_executor(pool, square, 3))
        """,
        printed("9\n"),
    ),
    "a worker that dies": failing(
        "with ProcessPoolExecutor(1, mp_context=fork) as pool: pool.submit(os._exit, 1).result()",
        raised("BrokenProcessPool", Like("A process in the process pool was terminated abruptly.*")),
    ),
    "ThreadPoolExecutor": case(
        "with ThreadPoolExecutor(8) as pool: print(sum(pool.map(square, range(1000))))",
        printed("332833500\n"),
    ),
    "queues, pipes and shared memory": case(
        """
        from multiprocessing import shared_memory
        memory = shared_memory.SharedMemory(create=True, size=8)
        queue, (end, other), value = fork.Queue(), fork.Pipe(), fork.Value("i", 1)
        def talk():
            memory.buf[0] = 5
            queue.put("queued"); other.send("sent")
            with value.get_lock(): value.value += 1
        code = status(talk)
        print(code, queue.get(), end.recv(), value.value, memory.buf[0])
        memory.close(); memory.unlink()
        """,
        printed("0 queued sent 2 5\n"),
    ),
    "a manager": case(
        """
        with fork.Manager() as manager:
            shared = manager.dict()
            status(shared.update, {"by": "child"})
            print(dict(shared))
        """,
        printed("{'by': 'child'}\n"),
    ),
    "another Python": case(
        """
        code = "import sys; print(sys.stdin.read(), sys.flags.isolated, len(sys.argv)); sys.exit(2)"
        subprocess.run([sys.executable, "-c", code, "a"], input="in", text=True, capture_output=True)
        """,
        result(Like(r"CompletedProcess\(.* returncode=2, stdout='in 0 2\\n', stderr=''\)")),
    ),
    "a subprocess that is stopped": case(
        """
        sleeper = subprocess.Popen(["sleep", "1000"])
        try:
            sleeper.wait(.01)
        except subprocess.TimeoutExpired as error:
            print("still there")
        sleeper.terminate(); sleeper.wait()
        """,
        printed("still there\n"),
        result("-15"),
    ),
    "no process is left": case("multiprocessing.active_children()", result("[]")),
}

LIBRARY_CASES = {
    "linear algebra": case(
        """
        import numpy, pandas
        a = numpy.random.default_rng(1).random((600, 600)) + 600 * numpy.eye(600)
        bool(numpy.allclose(a @ numpy.linalg.inv(a), numpy.eye(600))), numpy.linalg.svd(a[:9, :9])[1].shape
        """,
        result("(True, (9,))"),
    ),
    "linear algebra in threads": case(
        "with ThreadPoolExecutor(4) as pool: print(len({round(float((a @ a).sum()), 3) for _ in pool.map(str, range(8))}))",
        printed("1\n"),
    ),
    "linear algebra in forked processes": case(
        """
        def product(i): return round(float((a @ a).sum()), 3)
        with fork.Pool(2) as pool: print(set(pool.map(product, range(4))) == {product(0)})
        """,
        printed("True\n"),
    ),
    "as many threads as in a fresh process": case(
        """
        from threadpoolctl import threadpool_info
        sorted((info["internal_api"], info["num_threads"]) for info in threadpool_info() if "openblas" in info["internal_api"])
        """,
        result(Like(r"\[\('openblas', \d+\).*\]")),
        needs=("threadpoolctl",),
    ),
    "pyarrow": case(
        """
        import pyarrow, pyarrow.compute, pyarrow.dataset, pyarrow.parquet
        table = pyarrow.table({"k": [i % 3 for i in range(100_000)], "v": range(100_000)})
        pyarrow.parquet.write_table(table, "table.parquet", row_group_size=1000)
        table = pyarrow.parquet.read_table("table.parquet", use_threads=True)
        found = pyarrow.dataset.dataset("table.parquet").to_table(filter=pyarrow.compute.field("v") < 10)
        sums = table.group_by("k").aggregate([("v", "sum")]).sort_by("k")
        table.num_rows, found.num_rows, sums["v_sum"].to_pylist(), pyarrow.cpu_count() == os.cpu_count()
        """,
        result("(100000, 10, [1666683333, 1666616667, 1666650000], True)"),
        needs=("pyarrow",),
    ),
    "pyarrow reads text in threads": case(
        """
        import pyarrow.csv
        with open("table.csv", "w") as file: file.write("a,b\\n" + "1,x\\n" * 500_000)
        options = pyarrow.csv.ReadOptions(block_size=1 << 16, use_threads=True)
        pyarrow.compute.sum(pyarrow.csv.read_csv("table.csv", options)["a"]).as_py()
        """,
        result("500000"),
        needs=("pyarrow",),
    ),
    "pyarrow in forked processes": case(
        """
        def count(i): return pyarrow.parquet.read_table("table.parquet", use_threads=False).num_rows
        with spawn.Pool(1) as pool: print(pool.apply(pyarrow.cpu_count) == pyarrow.cpu_count())
        """,
        printed("True\n"),
        needs=("pyarrow",),
    ),
    "pandas and parquet": case(
        """
        df = pandas.DataFrame({"s": ["a", "b", None], "t": pandas.date_range("2020-01-01", periods=3)})
        df.to_parquet("df.parquet"); pandas.read_parquet("df.parquet").equals(df.convert_dtypes().astype(df.dtypes)), len(pandas.read_parquet("df.parquet"))
        """,
        result(Like(r"\((True|False), 3\)")),
        needs=("pyarrow",),
    ),
    "pandas and Excel": case(
        "df.to_excel('df.xlsx', index=False); pandas.read_excel('df.xlsx')['s'].tolist()[:2]",
        result("['a', 'b']"),
        needs=("openpyxl",),
    ),
    "sqlite": case(
        """
        import sqlite3, threading
        base = sqlite3.connect("base.sqlite", check_same_thread=False)
        base.execute("create table t (x)"); base.executemany("insert into t values (?)", [(i,) for i in range(1000)])
        base.commit()
        def total(_): return sqlite3.connect("base.sqlite").execute("select sum(x) from t").fetchone()[0]
        with ThreadPoolExecutor(4) as pool: print(set(pool.map(total, range(8))))
        pandas.read_sql("select count(*) as n from t", base)["n"].item()
        """,
        printed("{499500}\n"),
        result("1000"),
    ),
    "duckdb": case(
        """
        import duckdb
        numbers = pandas.DataFrame({"x": range(200_000), "k": [i % 4 for i in range(200_000)]})
        memory = duckdb.connect()
        memory.execute("set threads to 4"); memory.register("numbers", numbers)
        memory.execute("select k, sum(x)::bigint from numbers group by k order by k").fetchall()
        """,
        result("[(0, 4999900000), (1, 4999950000), (2, 5000000000), (3, 5000050000)]"),
        needs=("duckdb",),
    ),
    "duckdb and parquet": case(
        "memory.execute(\"select count(*), max(v) from 'table.parquet'\").fetchall()",
        result("[(100000, 99999)]"),
        needs=("duckdb", "pyarrow"),
    ),
    "polars": case(
        """
        import polars
        frame = polars.DataFrame({"k": [i % 3 for i in range(100_000)], "v": range(100_000)})
        frame.lazy().group_by("k").agg(polars.col("v").sum()).sort("k").collect()["v"].to_list()
        """,
        result("[1666683333, 1666616667, 1666650000]"),
        needs=("polars",),
    ),
    "polars and parquet": case(
        "polars.scan_parquet('table.parquet').filter(polars.col('v') < 10).collect().shape",
        result("(10, 2)"),
        needs=("polars", "pyarrow"),
    ),
    "a data frame of polars": case(
        "frame.head(1)",
        result({"text/html": Like(r"<div>.*</div>"), "text/plain": Like(r"shape: \(1, 2\).*")}),
        needs=("polars",),
    ),
    "plotly": case(
        """
        import plotly.graph_objects, plotly.io
        figure = plotly.graph_objects.Figure(plotly.graph_objects.Scatter(y=[1, 2]))
        figure.show(renderer="plotly_mimetype")
        plotly.io.renderers.default
        """,
        displayed({"application/vnd.plotly.v1+json": ANY}),
        result("'plotly_mimetype'"),
        needs=("plotly",),
    ),
    "tqdm and threads": case(
        """
        import warnings
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # there are no widgets
            from tqdm.contrib.concurrent import thread_map
        sum(thread_map(square, range(10), max_workers=3, disable=True))
        """,
        result("285"),
        needs=("tqdm",),
    ),
    "sockets": case(
        """
        import http.server, urllib.request
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self): self.send_response(200); self.end_headers(); self.wfile.write(b"served")
            def log_message(self, *args): pass
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        print(opener.open(f"http://127.0.0.1:{server.server_port}").read())
        server.shutdown(); server.server_close()
        """,
        printed("b'served'\n"),
    ),
    "encryption": case("import ssl; type(ssl.create_default_context()).__name__", result("'SSLContext'")),
    "figures made in threads": case(
        """
        import matplotlib.figure, io
        def draw(i):
            figure = matplotlib.figure.Figure(); figure.subplots().plot([0, i]); figure.savefig(held := io.BytesIO())
            return held.getvalue()[:4]
        with ThreadPoolExecutor(2) as pool: print(set(pool.map(draw, range(4))))
        """,
        printed("{b'\\x89PNG'}\n"),
    ),
}

CASES: dict[str, Case] = {**PROCESSES, **LIBRARY_CASES}


@pytest.fixture(scope="module")
def notebooks(tmp_path_factory: pytest.TempPathFactory) -> Notebooks:
    """The notebook of all cases, as somebody executed it."""
    root, warm_root = tmp_path_factory.mktemp("project"), tmp_path_factory.mktemp("warm")

    def execute(by: str) -> Executed:
        if by != PRELOADED:
            return execute_cases(by, root, CASES)
        with preloaded(LIBRARIES, warm_root):
            return execute_cases("fork", warm_root, CASES)

    return once_each(execute)


@pytest.mark.parametrize("by", [*EVERYONE, *([PRELOADED] if "fork" in OURS else [])])
@pytest.mark.parametrize("name", CASES)
def test_it_works_in_a_cell(notebooks: Notebooks, name: str, by: str) -> None:
    shown, wanted = compared(CASES[name], name, notebooks(by))
    assert shown == wanted


@pytest.mark.parametrize("by", OURS)
@pytest.mark.parametrize("name", ["as many threads as in a fresh process"])
def test_it_is_as_with_plain_papermill(notebooks: Notebooks, name: str, by: str) -> None:
    shown, wanted = compared(CASES[name], name, notebooks(by))
    assert shown == wanted == notebooks(PLAIN).shows(name)
