"""How the process of a run ends after its last cell, and what that makes of the run."""

from collections.abc import Callable

import pytest

from .conftest import Outcome

Run = Callable[..., Outcome]

KILLED = "Warning: the kernel did not stop by itself after the last cell and was killed"
ENDLESS_THREAD = "import threading\nthreading.Thread(target=threading.Event().wait).start()"


@pytest.mark.parametrize("name", ["SIGKILL", "SIGTERM", "SIGSEGV", "SIGHUP"])
def test_who_is_killed_at_its_end_by_somebody_else_is_red(run: Run, name: str) -> None:
    result = run(
        "import atexit, os, signal\nfile = open('out.csv', 'w'); file.write('half')\n"
        f"atexit.register(os.kill, os.getpid(), signal.{name})"
    )
    assert (result.status, result.error["type"]) == ("error", "DeadKernel")
    assert result.error["message"].startswith(f"the kernel died of {name} after the last cell")
    assert result.record.warnings == []


def test_who_exits_on_its_own_at_its_end_is_red(run: Run) -> None:
    result = run("import atexit, os\natexit.register(os._exit, 0)")
    assert (result.status, result.error["type"]) == ("error", "DeadKernel")


@pytest.mark.parametrize("ignores", ["", "\nimport signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)"])
def test_who_does_not_end_is_stopped_after_10_s_and_orange(run: Run, ignores: str) -> None:
    result = run(ENDLESS_THREAD + ignores)
    assert (result.status, result.record.error) == ("warning", None)
    assert [warning["text"] for warning in result.record.warnings] == [KILLED]
    assert (result.record.duration or 0) >= 10


def test_who_does_not_end_is_red_at_its_timeout_if_that_is_sooner(run: Run) -> None:
    result = run(ENDLESS_THREAD, "print('all done')", timeout=8)
    assert result.printed == b"all done\n"
    assert (result.status, result.error["type"]) == ("error", "Timeout")
    assert result.error["message"].startswith("stopped after 8 s, the run's timeout")


def test_what_is_no_longer_there_or_not_yet_is_left_alone_at_the_end(run: Run) -> None:
    result = run(
        "import json, weakref\n"  # a module that stays
        "class Thing: pass\nthing = Thing()\njson.proxy = weakref.proxy(thing)\ndel thing\n"
        "class Lazy:\n    def __init__(self, write=print): self.write = write\n"
        "    @property\n    def __class__(self):\n        self.write('evaluated')\n        return int\n"
        "json.lazy = Lazy()\n"
        "import importlib.util, sys\n"
        "open('late.py', 'w').write('print(\"loaded\")')\nsys.path.insert(0, '.')\n"
        "spec = importlib.util.find_spec('late')\nspec.loader = importlib.util.LazyLoader(spec.loader)\n"
        "sys.modules['late'] = importlib.util.module_from_spec(spec)\n"
        "spec.loader.exec_module(sys.modules['late'])"
    )
    assert (result.status, result.record.error) == ("success", None)
    assert b"evaluated" not in result.printed


@pytest.mark.parametrize(
    "call",
    ["asyncio.run(work())", "asyncio.get_event_loop().run_until_complete(work())"],
    ids=["run", "loop"],
)
@pytest.mark.parametrize("also", ["", "asyncio.get_event_loop().call_later(0.001, print, 'later')\n"])
def test_loops_within_the_kernel_s_own_loop(run: Run, call: str, also: str) -> None:
    pytest.importorskip("nest_asyncio")
    result = run(
        "import asyncio, nest_asyncio\nnest_asyncio.apply()\n"
        f"async def work():\n    await asyncio.sleep(0.01)\n    return 'worked'\n\n{also}print({call})",
        f"print({call})",
        "print(await work())",
    )
    assert (result.status, result.record.error) == ("success", None)
    assert result.printed.decode().split() == [*(["later"] if also else []), *["worked"] * 3]


@pytest.mark.parametrize("action", ["error", "always"])
def test_a_flow_may_make_errors_of_warnings(run: Run, action: str) -> None:
    result = run(f"import warnings\nwarnings.simplefilter({action!r})", "print('fine')")
    assert (result.status, result.record.warnings, result.printed) == ("success", [], b"fine\n")


def test_a_warning_that_is_made_an_error_is_one(run: Run) -> None:
    result = run("import warnings\nwarnings.simplefilter('error')", "warnings.warn('odd')")
    assert (result.error["type"], result.error["message"], result.error["line"]) == ("UserWarning", "odd", 7)


def test_a_flow_may_close_its_output(run: Run) -> None:
    result = run("import os\nprint('before', flush=True)\nos.close(1)\nos.close(2)", "x = 1")
    assert (result.status, result.record.error, result.printed) == ("success", None, b"before\n")


def test_files_in_the_place_of_a_closed_output_hold_what_was_written_to_them(run: Run) -> None:
    result = run(
        "import os\nos.close(1)\nos.close(2)\none, two = open('one.txt', 'w'), open('two.txt', 'w')\n"
        "open('numbers.txt', 'w').write(f'{one.fileno()} {two.fileno()}')\n"
        "one.write('first')\ntwo.write('second')",
        "x = 1",
    )
    assert (result.status, result.record.error, result.printed) == ("success", None, b"")
    assert (result.directory / "numbers.txt").read_text() == "1 2"
    assert (result.directory / "one.txt").read_text() == "first"
    assert (result.directory / "two.txt").read_text() == "second"
