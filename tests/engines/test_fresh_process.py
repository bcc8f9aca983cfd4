"""A flow finds its process as in a fresh kernel, whoever made that process and whatever it did before."""

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from .shown import OURS, PLAIN, execute_cells, sources

#: What a flow can see of its process: expressions, evaluated in the first cell of a flow.
VISIBLE = {
    # What the system gives a process.
    "environment": "{k: v for k, v in os.environ.items() if k not in ('DUCTAFLOW_CONTEXT', 'JPY_PARENT_PID')}",
    "environment of a kernel": "'JPY_PARENT_PID' in os.environ",
    "environment as subprocesses have it": "dict(os.environ) == dict(line.split('=', 1) for line in subprocess.run(['env', '-0'], capture_output=True, text=True).stdout.split(chr(0)) if line)",
    "environment as C has it": "[name for name in os.environ if not libc.getenv(name.encode())]",
    "working directory": "os.getcwd() == os.environ.get('PWD', os.getcwd()) or os.listdir()",
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
    "options": "[sys.warnoptions, sys._xoptions]",
    "executable": "[sys.executable, sys.prefix, sys.base_prefix, sys.exec_prefix, sys.platform]",
    "import path": "[path for path in sys.path if not path.startswith(config['_project_root'])]",
    "import path begins": "sys.path[0]",
    "import system": "[list(map(str, sys.meta_path)), len(sys.path_hooks), sys.dont_write_bytecode, sys.pycache_prefix]",
    "interpreter's limits": "[sys.getrecursionlimit(), sys.getswitchinterval(), threading.stack_size()]",
    "hooks": "list(map(repr, [sys.excepthook, sys.unraisablehook, sys.breakpointhook, threading.excepthook, type(sys.displayhook).__name__]))",
    "tracing": "[sys.gettrace(), sys.getprofile()]",
    "encodings": "[sys.getdefaultencoding(), sys.getfilesystemencoding(), sys.getfilesystemencodeerrors(), locale.getpreferredencoding(False), sys.stdout.encoding.lower()]",
    "locale": "[locale.getlocale(), locale.setlocale(locale.LC_ALL), locale.localeconv()]",
    "time zone": "[time.tzname, time.timezone, time.daylight]",
    "warning filters": "[repr(f) for f in warnings.filters if 'ipykernel|jupyter_client' not in repr(f)]",
    "warnings": "[warnings.showwarning.__module__, warnings.formatwarning.__module__, sys.modules['__main__'].__dict__.get('__warningregistry__')]",
    "garbage collection": "[gc.isenabled(), gc.get_threshold(), gc.get_debug(), gc.garbage]",
    "fault handler": "faulthandler.is_enabled()",
    "logging": "[logging.root.level, logging.root.handlers, logging.root.filters, logging.root.manager.disable, logging.raiseExceptions, logging.getLoggerClass().__name__, repr(logging.lastResort)]",
    "loggers": "sorted([name, logger.level] for name, logger in logging.root.manager.loggerDict.items() if isinstance(logger, logging.Logger) and (logger.handlers or logger.disabled or logger.level))",
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
    "kernel": "[shell.has_trait('kernel'), shell.kernel.shell is shell, shell.kernel.implementation, shell.kernel.language_info, shell.kernel.banner == shell.banner]",
    "application": "[IPKernelApp.initialized(), IPKernelApp.instance().kernel is shell.kernel, os.path.splitext(IPKernelApp.instance().connection_file)[1]]",
    "magics": "{kind: sorted(found) for kind, found in shell.magics_manager.lsmagic().items()}",
    "aliases": "sorted(name for name, _ in shell.alias_manager.aliases)",
    "extensions": "sorted(shell.extension_manager.loaded - {'pytest_ductaflow.engines.kernel'})",
    "transformers": "[shell.ast_transformers, shell.input_transformers_post, list(map(repr, shell.input_transformer_manager.line_transforms)), list(map(repr, shell.input_transformer_manager.cleanup_transforms))]",
    "formatters": "{mime: [formatter.enabled, sorted(map(str, formatter.type_printers))] for mime, formatter in shell.display_formatter.formatters.items()}",
    "active formatters": "shell.display_formatter.active_types",
    "hidden names": "sorted(shell.user_ns_hidden)",
    "main module": "[sys.modules['__main__'] is shell.user_module, sys.modules['__main__'].__dict__ is globals(), *(repr(getattr(sys.modules['__main__'], name, None)) for name in ('__name__', '__spec__', '__file__', '__doc__', '__package__', '__loader__'))]",
    "history": "[shell.history_manager.enabled, str(shell.history_manager.hist_file), shell.history_manager.input_hist_raw[:2], shell.history_length]",
    "history session": "shell.history_manager.session_number",
    "profile": "[os.path.basename(shell.profile_dir.location), shell.ipython_dir]",
    "shell's directory": "[shell.starting_dir == os.getcwd(), get_ipython().user_ns.get('_dh')]",
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


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], dict[str, str]]:
    """What a flow saw of its process."""
    root = tmp_path_factory.mktemp("project")
    code = LOOK + "".join(NOTE.format(name=n, expression=e) for n, e in VISIBLE.items()) + SAVE
    made: dict[str, dict[str, str]] = {}

    def seen(by: str) -> dict[str, str]:
        if by not in made:
            notebook = execute_cells(by, root, sources({"look": code}))
            assert notebook.error is None
            text = (notebook.directory / "found.json").read_text().replace(str(notebook.directory), "{run}")
            made[by] = json.loads(text)
        return made[by]

    return seen


@pytest.mark.parametrize("by", OURS)
@pytest.mark.parametrize("what", VISIBLE)
def test_a_flow_sees_what_it_sees_in_a_fresh_kernel(
    seen: Callable[[str], dict[str, str]], what: str, by: str
) -> None:
    assert seen(by)[what] == seen(PLAIN)[what]
