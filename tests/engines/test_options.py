"""What libraries decide when they are imported is the same in a fork of the warm process as in a kernel.

Some look whether they are in a notebook, on a terminal, in a fresh process. The warm process imports them
long before there is a run.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pytest_ductaflow.engines import warm

from .shown import OURS, execute_cells, preloaded, sources

LIBRARIES = ("numpy", "pandas", "matplotlib", "matplotlib.pyplot", "xarray", "sklearn", "numexpr", "seaborn")

#: Cells that leave ``options``: what the library goes by, as text.
OPTIONS = {
    "pandas": """
        import pandas
        from pandas._config import config
        options = {name: repr(pandas.get_option(name)) for name in config._registered_options}
    """,
    "numpy": """
        import numpy
        options = {**numpy.get_printoptions(), **numpy.geterr(), "buffer": numpy.getbufsize()}
    """,
    "matplotlib": """
        import matplotlib.pyplot
        options = {**matplotlib.rcParams, "interactive": matplotlib.is_interactive()}
        options["backend"] = matplotlib.get_backend()
    """,
    "xarray": """
        import xarray
        options = xarray.get_options()
    """,
    "sklearn": """
        import sklearn
        options = sklearn.get_config()
    """,
    "numexpr": """
        import numexpr, os
        before = len(os.listdir("/proc/self/task"))
        options = {"python": numexpr.nthreads, "c": numexpr.set_num_threads(1), "cores": numexpr.ncores}
        options["threads"] = before - len(os.listdir("/proc/self/task"))
    """,
    "warning filters": """
        import warnings
        options = {"filters": sorted(map(repr, warnings.filters))}
    """,
    "locale": """
        import locale
        options = {name: locale.setlocale(getattr(locale, name)) for name in dir(locale) if name[:3] == "LC_"}
        options["encoding"] = locale.getpreferredencoding()
    """,
    "signals": """
        import signal
        options = {str(number): signal.getsignal(number) for number in signal.valid_signals()}
        options["blocked"] = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    """,
    "the interpreter": """
        import decimal, gc, logging, os, random, resource, sys
        options = {
            "decimal": decimal.getcontext(),
            "recursion": sys.getrecursionlimit(),
            "switch": sys.getswitchinterval(),
            "collects": gc.isenabled(),
            "thresholds": gc.get_threshold(),
            "logging": (logging.root.level, logging.root.handlers, logging.raiseExceptions),
            "prompt": hasattr(sys, "ps1"),
            "umask": os.umask(0o22),
            "nice": os.nice(0),
            "limits": [resource.getrlimit(number) for number in range(16)],
            "trace": (type(sys.gettrace()), type(sys.getprofile())),  # coverage has an object for each process
            "main": sorted(vars(sys.modules["__main__"]).keys() & {"__file__", "__spec__", "__loader__"}),
        }
    """,
}

CELLS = {
    "import": "\n".join(
        f"try:\n    import {name}\nexcept ImportError:\n    pass" for name in [*LIBRARIES, "json"]
    ),
    **{
        name: f"""
try:
    {code.strip().replace("        ", "    ")}
except ImportError:
    options = None
else:
    options = {{str(name): repr(value) for name, value in options.items()}}
json.dump(options, open({name!r} + ".json", "w"))
"""
        for name, code in OPTIONS.items()
    },
}

Options = Callable[[str], dict[str, Any]]


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory) -> Options:
    """All options, as an engine's second run finds them."""
    found: dict[str, dict[str, Any]] = {}
    root: Path = tmp_path_factory.mktemp("project")

    def of(engine: str) -> dict[str, Any]:
        if engine not in found:
            with preloaded(LIBRARIES, root):
                for name in ("one", "two"):
                    executed = execute_cells(engine, root, sources(CELLS), name=f"{engine}-{name}")
                    assert executed.error is None, executed.error
                if engine == "fork":
                    assert warm.current().refused() == {}  # else nothing is compared
            found[engine] = {
                name: json.loads((executed.directory / f"{name}.json").read_text()) for name in OPTIONS
            }
        return found[engine]

    return of


@pytest.mark.skipif("fork" not in OURS, reason="there are no forks")
@pytest.mark.parametrize("name", OPTIONS)
def test_a_fork_has_the_options_of_a_kernel(options: Options, name: str) -> None:
    if options("papermill")[name] is None:
        pytest.skip("not installed")
    assert options("fork")[name] == options("papermill")[name]
