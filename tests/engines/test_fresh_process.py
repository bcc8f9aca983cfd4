"""A flow finds its process as in a fresh kernel, whoever made that process and whatever it did before."""

import ast
import json
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from .shown import OURS, PLAIN, execute_cells, preloaded, result, sources

#: What a flow can see of its process: expressions, evaluated in the first cell of a flow.
VISIBLE = {
    # What the system gives a process.
    "environment": "{k: v for k, v in os.environ.items() if k not in ('DUCTAFLOW_CONTEXT', 'JPY_PARENT_PID')}",
    "environment of a kernel": "'JPY_PARENT_PID' in os.environ",
    "environment as subprocesses have it": "dict(os.environ) == dict(line.split('=', 1) for line in subprocess.run(['env', '-0'], capture_output=True, text=True).stdout.split(chr(0)) if line)",
    "environment as C has it": "[name for name in os.environ if not libc.getenv(name.encode())]",
    "working directory": "[os.getcwd(), os.path.realpath('.')]",
    "umask": "status['Umask']",
    "user": "[os.getresuid(), os.getresgid(), sorted(os.getgroups())]",
    "limits": "{name: resource.getrlimit(getattr(resource, name)) for name in dir(resource) if name.startswith('RLIMIT_')}",
    "priority": "[os.getpriority(os.PRIO_PROCESS, 0), os.sched_getscheduler(0), sorted(os.sched_getaffinity(0))]",
    "process group": "[os.getpgrp() == os.getpid(), os.getsid(0) == os.getpid()]",
    "terminal": "[os.isatty(0), os.isatty(1), os.isatty(2)]",
    "inherited by subprocesses": "[os.get_inheritable(descriptor) for descriptor in (0, 1, 2)]",
    "no other descriptor is inherited": "subprocess.run(['ls', '/proc/self/fd'], close_fds=False, capture_output=True, text=True).stdout.split()",
    "standard input": "[sys.stdin.read(), sys.stdin.isatty(), sys.stdin.encoding, sys.stdin.errors, sys.stdin.fileno(), sys.__stdin__ is sys.stdin]",
    "capabilities": "[status['CapEff'], status['NoNewPrivs'], status['Seccomp']]",
    "out of memory": "open('/proc/self/oom_score_adj').read()",
    "may be debugged": "libc.prctl(3, 0, 0, 0, 0)",
    "processor time": "time.process_time() < 60 and time.thread_time() < 60",
    "children": "open(f'/proc/self/task/{os.getpid()}/children').read()",
    # Signals.
    "signal handlers": "{s.name: repr(signal.getsignal(s)) for s in signal.Signals}",
    "signals ignored and blocked": "[status['SigIgn'], status['SigBlk'], sorted(signal.pthread_sigmask(signal.SIG_BLOCK, []))]",
    "signals caught": "status['SigCgt']",
    "timers": "[signal.getitimer(timer) for timer in (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF)]",
    "signals of a subprocess": "[line for line in subprocess.run(['cat', '/proc/self/status'], capture_output=True, text=True).stdout.split(chr(10)) if line.startswith('Sig')][1:]",
    # Python.
    "arguments": "[os.path.basename(sys.argv[0]), sys.argv[1], os.path.splitext(sys.argv[2])[1]]",
    "the program": "os.path.isfile(sys.argv[0])",
    "flags": "str(sys.flags)",
    "options": "[sys.warnoptions, {k: v for k, v in sys._xoptions.items() if k != 'frozen_modules'}]",
    "executable": "[sys.executable, sys.prefix, sys.base_prefix, sys.exec_prefix, sys.platform]",
    "import path": "[path for path in sys.path if not path.startswith(config['_project_root'])]",
    "import path begins": "sys.path[0]",
    # One finder more, which finds nothing: tracing.
    "import system": "[[str(f) for f in sys.meta_path if type(f).__name__ != 'Trace'], len(sys.path_hooks), sys.dont_write_bytecode, sys.pycache_prefix]",
    "interpreter's limits": "[sys.getrecursionlimit(), sys.getswitchinterval(), threading.stack_size()]",
    "hooks": "list(map(repr, [sys.excepthook, sys.unraisablehook, sys.breakpointhook, threading.excepthook, type(sys.displayhook).__name__]))",
    "tracing": "[sys.gettrace(), sys.getprofile()]",
    "encodings": "[sys.getdefaultencoding(), sys.getfilesystemencoding(), sys.getfilesystemencodeerrors(), locale.getpreferredencoding(False), sys.stdout.encoding.lower()]",
    "locale": "[locale.getlocale(), locale.setlocale(locale.LC_ALL), locale.localeconv()]",
    "time zone": "[time.tzname, time.timezone, time.daylight]",
    "warning filters": "[repr(f) for f in warnings.filters if 'ipykernel|jupyter_client' not in repr(f)]",
    "warnings": "[warnings.showwarning.__module__, warnings.formatwarning.__module__]",
    "garbage collection": "[gc.isenabled(), gc.get_threshold(), gc.get_debug(), gc.garbage]",
    "fault handler": "faulthandler.is_enabled()",
    "logging": "[logging.root.level, logging.root.handlers, logging.root.filters, logging.root.manager.disable, logging.raiseExceptions, logging.getLoggerClass().__name__, type(logging.lastResort).__name__, logging.lastResort.level]",
    "loggers": "sorted(name for name, logger in logging.root.manager.loggerDict.items() if isinstance(logger, logging.Logger) and (logger.handlers or logger.disabled or logger.level) and name not in ('traitlets', 'tornado', IPKernelApp.instance().log.name))",
    "log of asyncio": "[logging.getLogger('asyncio').level, logging.getLogger('asyncio').isEnabledFor(logging.WARNING)]",
    "decimal numbers": "repr(decimal.getcontext())",
    "builtins": "sorted(vars(builtins))",
    "threads": "[threading.current_thread() is threading.main_thread(), threading.current_thread().name, threading.main_thread().ident == threading.get_ident(), threading.main_thread().native_id == os.getpid()]",
    "processes": "[multiprocessing.current_process().name, multiprocessing.parent_process(), multiprocessing.current_process().daemon, multiprocessing.get_start_method(allow_none=True), multiprocessing.active_children(), len(multiprocessing.current_process().authkey)]",
    "temporary files": "[tempfile.tempdir, tempfile.gettempdir(), tempfile.template]",
    "sockets": "socket.getdefaulttimeout()",
    "exceptions": "[sys.exc_info()[0], getattr(sys, 'last_value', None), getattr(sys, 'last_type', None)]",
    # asyncio.
    "event loop": "[type(asyncio.get_running_loop()).__name__, asyncio.get_running_loop().get_debug(), repr(asyncio.get_running_loop().get_exception_handler()), asyncio.get_running_loop().get_task_factory()]",
    "subprocesses of asyncio": "[p.returncode for p in [await asyncio.create_subprocess_exec('true')] if await p.wait() is not None]",
    # IPython.
    "shell": "[type(shell).__name__, isinstance(shell, ZMQInteractiveShell), shell.xmode, shell.autoawait, shell.ast_node_interactivity, shell.pdb, shell.colors, shell.logstart, shell.automagic, shell.autocall]",
    "configuration": "['IPKernelApp' in shell.config, bool(shell.config['IPKernelApp']), 'parent' in str(shell.config)]",
    "kernel": "[shell.has_trait('kernel'), shell.kernel.shell is shell, shell.kernel.implementation, shell.kernel.language_info]",
    "application": "[IPKernelApp.initialized(), IPKernelApp.instance().kernel is shell.kernel, os.path.splitext(IPKernelApp.instance().connection_file)[1]]",
    "magics": "{kind: sorted(found) for kind, found in shell.magics_manager.lsmagic().items()}",
    "aliases": "sorted(name for name, _ in shell.alias_manager.aliases)",
    "extensions": "sorted(shell.extension_manager.loaded - {'pytest_ductaflow.engines.kernel'})",
    "transformers": "[shell.ast_transformers, shell.input_transformers_post, list(map(repr, shell.input_transformer_manager.line_transforms)), list(map(repr, shell.input_transformer_manager.cleanup_transforms))]",
    "formatters": "{mime: [formatter.enabled, sorted(map(str, formatter.type_printers))] for mime, formatter in shell.display_formatter.formatters.items()}",
    "active formatters": "shell.display_formatter.active_types",
    "hidden names": "sorted(shell.user_ns_hidden)",
    "main module": "[sys.modules['__main__'] is shell.user_module, sys.modules['__main__'].__dict__ is globals(), *(repr(getattr(sys.modules['__main__'], name, None)) for name in ('__name__', '__spec__', '__file__', '__doc__', '__package__', '__loader__'))]",
    "history": "[shell.history_manager.input_hist_raw[:2], shell.history_length, shell.history_load_length]",
    "profile": "[os.path.basename(shell.profile_dir.location), shell.ipython_dir]",
    "directory history": "list(map(str, _dh))",
    "shell's directory": "shell.starting_dir",
    "as notebooks know it": "[display.__module__, input.__qualname__, print.__module__, open.__module__]",
    "the last cell": "[shell._last_traceback, shell.last_execution_succeeded, shell.execution_count]",
    "completion of code": "shell.complete('os.getcw')[1]",
    # Libraries.
    "matplotlib": "[matplotlib.get_backend(), matplotlib.is_interactive(), sorted(k for k in matplotlib.rcParams if matplotlib.rcParams[k] != matplotlib.rcParamsDefault[k])]",
    "numpy": "[numpy.geterr(), {k: v for k, v in numpy.get_printoptions().items() if k != 'formatter'}]",
    "pandas": "[pandas.get_option(name) for name in ('display.max_rows', 'display.width', 'display.notebook_repr_html')]",
}

LOOK = """
import asyncio, builtins, ctypes, decimal, faulthandler, gc, json, locale, logging, multiprocessing
import os, re, resource, signal, socket, subprocess, sys, tempfile, threading, time, warnings
import matplotlib, numpy, pandas
from ipykernel.kernelapp import IPKernelApp
from ipykernel.zmqshell import ZMQInteractiveShell
from IPython.display import display

shell, libc = get_ipython(), ctypes.CDLL(None)
libc.getenv.restype = ctypes.c_char_p
status = dict(line.split(":\\t", 1) for line in open("/proc/self/status").read().splitlines())
found = {}
"""
NOTE = """
try:
    value = {expression}
except Exception as error:
    value = repr(error)
found[{name!r}] = re.sub("0x[0-9a-f]{{6,}}", "0x", json.dumps(value, default=repr, sort_keys=True, indent=1))
"""
SAVE = "\nwith open('found.json', 'w') as file:\n    json.dump(found, file)\n"


#: What a flow can do to its process.
CHANGE = """
import builtins, gc, locale, logging, os, random, resource, signal, sys, tempfile, threading, time, warnings
import decimal, matplotlib, numpy, pandas
os.environ["CHANGED"] = "yes"; os.environ["TZ"] = "Asia/Tokyo"; time.tzset()
os.umask(0o123); os.nice(1); os.chdir("/")
signal.signal(signal.SIGINT, signal.SIG_IGN); signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
resource.setrlimit(resource.RLIMIT_NOFILE, (99, 99))
sys.path.insert(0, "/changed"); sys.setrecursionlimit(5000); sys.argv[:] = []; sys.excepthook = print
warnings.simplefilter("ignore"); logging.root.setLevel("DEBUG"); logging.basicConfig()
locale.setlocale(locale.LC_ALL, "C"); decimal.getcontext().prec = 3; gc.disable()
matplotlib.rcParams["lines.linewidth"] = 9; numpy.seterr(all="ignore"); pandas.set_option("display.width", 7)
builtins.changed = 1; threading.stack_size(1 << 20); tempfile.tempdir = "/"
get_ipython().run_line_magic("xmode", "Minimal"); get_ipython().autoawait = False
get_ipython().display_formatter.formatters["text/html"].for_type(int, str)
"""


class Seen:
    """What flows see of their process, by who executes them."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._code = LOOK + "".join(NOTE.format(name=n, expression=e) for n, e in VISIBLE.items()) + SAVE
        self._made: dict[str, dict[str, str]] = {}

    def look(self, by: str, name: str = "it") -> dict[str, str]:
        """Have a flow look."""
        notebook = execute_cells(by, self._root, sources({"look": self._code}), name=name)
        assert notebook.error is None
        text = (notebook.directory / "found.json").read_text().replace(str(notebook.directory), "{run}")
        found: dict[str, str] = json.loads(text)
        return found

    def __call__(self, by: str) -> dict[str, str]:
        """What a flow saw the first time."""
        if by not in self._made:
            self._made[by] = self.look(by)
        return self._made[by]


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Seen:
    """What flows saw of their process."""
    return Seen(tmp_path_factory.mktemp("project"))


@pytest.mark.parametrize("by", OURS)
@pytest.mark.parametrize("what", VISIBLE)
def test_a_flow_sees_what_it_sees_in_a_fresh_kernel(seen: Seen, what: str, by: str) -> None:
    assert seen(by)[what] == seen(PLAIN)[what]


@pytest.mark.parametrize("by", OURS)
def test_what_a_run_changes_is_not_seen_by_the_next(seen: Seen, tmp_path: Path, by: str) -> None:
    before = seen(by)
    assert execute_cells(by, tmp_path, sources({"change": CHANGE})).error is None
    assert seen.look(by) == before


@pytest.mark.parametrize("by", OURS)
def test_a_flow_has_the_environment_and_umask_of_whoever_started_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    execute_cells(by, tmp_path, sources({"first": "1"}))
    for name, value in {"OURS": "ü=1\n2", "LC_ALL": "C", "TZ": "Asia/Tokyo", "HOME": str(tmp_path)}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("LANG", raising=False)
    before = os.umask(0o027)
    try:
        notebook = execute_cells(
            by,
            tmp_path,
            sources(
                {
                    "look": "import locale, os, time\nopen('mine', 'w').close()\n"
                    "os.environ['OURS'], 'LANG' in os.environ, time.tzname, os.path.expanduser('~'), "
                    "locale.setlocale(locale.LC_ALL), oct(os.stat('mine').st_mode & 0o777)"
                }
            ),
        )
    finally:
        os.umask(before)
    [(_, data, _)] = notebook.shows("look")
    assert ast.literal_eval(data["text/plain"].replace("{project}", str(tmp_path))) == (
        "ü=1\n2",
        False,
        ("JST", "JST"),
        str(tmp_path),
        "C",
        "0o640",
    )


@pytest.mark.parametrize("by", OURS)
def test_a_flow_starts_with_the_user_s_ipython_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    profile = tmp_path / "ipython" / "profile_default"
    (profile / "startup").mkdir(parents=True)
    (profile / "startup" / "00.py").write_text("from_startup = __name__; print('starting')")
    (profile / "ipython_config.py").write_text("c.InteractiveShell.ast_node_interactivity = 'all'\n")
    (profile / "ipython_kernel_config.py").write_text(
        "c.InteractiveShellApp.exec_lines = ['from_lines = 2']\n"
    )
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    notebook = execute_cells(by, tmp_path, sources({"look": "from_startup\nfrom_lines"}))
    assert notebook.shows("look") == [result("'__main__'"), result("2")]


#: What must not be the same in two runs.
DRAWS = {
    "random": "random.random()",
    "random, another generator": "random.Random().random()",
    "random, the system's": "random.SystemRandom().random()",
    "numpy.random": "numpy.random.rand()",
    "numpy.random, a generator": "numpy.random.default_rng().random()",
    "numpy.random, a state": "numpy.random.RandomState().rand()",
    "pandas": "str(pandas.Series(range(10**6)).sample(3).tolist())",
    "uuid1": "str(uuid.uuid1())",
    "uuid4": "str(uuid.uuid4())",
    "tempfile, a directory": "os.path.basename(tempfile.mkdtemp(dir='.'))",
    "tempfile, a name": "next(tempfile._get_candidate_names())",
    "tempfile, a file": "os.path.basename(tempfile.NamedTemporaryFile(dir='.').name)",
    "secrets": "secrets.token_hex()",
    "os.urandom": "os.urandom(16).hex()",
    "ssl": "ssl.RAND_bytes(16).hex()",
    "displays": "display(display_id=True).display_id",
    "multiprocessing": "multiprocessing.current_process().authkey.hex()",
    "sqlite": "sqlite3.connect(':memory:').execute('select hex(randomblob(16))').fetchone()[0]",
    "pyarrow": "pyarrow.compute.random(1)[0].as_py()",
    "duckdb": "duckdb.connect().execute('select random()').fetchall()[0][0]",
    "polars": "str(polars.Series(range(10**6)).sample(3).to_list())",
    "sockets": "socket.create_server(('127.0.0.1', 0)).getsockname()[1] * 1000 + os.getpid() % 1000",
}
DRAW = """
import json, multiprocessing, os, random, secrets, socket, sqlite3, ssl, tempfile, uuid
import numpy, pandas
for name in ("pyarrow.compute", "duckdb", "polars"):
    try:
        globals()[name.partition(".")[0]] = __import__(name)
    except ImportError:
        pass
drawn = {}
for name, expression in config["draws"].items():
    try:
        drawn[name] = eval(expression)
    except NameError as error:
        drawn[name] = None
with open("drawn.json", "w") as file:
    json.dump(drawn, file)
"""


@pytest.fixture(scope="module", params=OURS)
def drawn(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What two runs drew that were started at the same time, after all libraries have been used once."""
    root = tmp_path_factory.mktemp("project")
    modules = ["numpy", "pandas", "pyarrow.compute", "duckdb", "polars", "uuid", "secrets", "ssl", "sqlite3"]
    start = threading.Barrier(2)
    config = {"draws": DRAWS}

    def draw(name: str) -> dict[str, Any]:
        start.wait(60)
        notebook = execute_cells(request.param, root, sources({"draw": DRAW}), name=name, config=config)
        assert notebook.error is None
        found: dict[str, Any] = json.loads((notebook.directory / "drawn.json").read_text())
        return found

    with preloaded(modules, root), ThreadPoolExecutor(2) as pool:
        execute_cells(request.param, root, sources({"draw": DRAW}), name="before", config=config)
        return list(pool.map(draw, ["one", "two"]))


@pytest.mark.parametrize("what", DRAWS)
def test_two_runs_that_start_together_draw_different_numbers(drawn: list[dict[str, Any]], what: str) -> None:
    one, two = drawn
    if one[what] is None:
        pytest.skip("not installed")
    assert one[what] != two[what]
