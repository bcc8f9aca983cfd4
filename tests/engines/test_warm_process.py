"""The warm process and its forks: what is preloaded, what is not shared, when it goes."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from pytest_ductaflow import engines
from pytest_ductaflow.engines import launcher, warm
from pytest_ductaflow.engines.warm import WarmProcess
from pytest_ductaflow.execution import Request, execute

from .conftest import HEADER

pytestmark = pytest.mark.skipif("fork" not in engines.available(), reason="forks are for Linux")


@pytest.fixture
def process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[WarmProcess]:
    """A warm process of this test's own, which ends with it."""
    monkeypatch.setattr(warm, "_known", {})
    monkeypatch.setattr(launcher, "_known", [])
    (tmp_path / "lib").mkdir()
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "lib"))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    process = warm.current()
    yield process
    warm.release()
    assert list(tmp_path.glob("ductaflow-*")) == []


@pytest.fixture
def run(process: WarmProcess, tmp_path: Path) -> Callable[..., str]:
    """Run a cell in a fork; give what it printed."""

    def run(cell: str, name: str = "it") -> str:
        root = tmp_path / "project"
        flow = root / "flows" / f"{name}.py"
        flow.parent.mkdir(exist_ok=True, parents=True)
        flow.write_text(f"{HEADER}# %%\n{cell}\n")
        directory = root / "runs" / name
        request = Request(
            kind="flow",
            flow=flow,
            instance="it",
            directory=directory,
            config={},
            project_root=root,
            engine="fork",
        )
        record = execute(request)
        assert record.status == "success", record.error
        return (directory / f"{name}_execution_output.txt").read_text()

    return run


#: Prints the number of the warm process: the parent of the run's supervisor.
PRINT_WARM = "import os, psutil; print(psutil.Process(os.getppid()).ppid())"


def server_of(process: WarmProcess) -> psutil.Process:
    """The warm process itself."""
    process.ensure()
    return serving(process.directory)


def serving(directory: Path) -> psutil.Process:
    """The process that listens in a directory."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        for found in psutil.process_iter(["cmdline"]):
            if (found.info["cmdline"] or [""])[-1] == str(directory):
                return found
        time.sleep(0.01)  # between two looks
    raise AssertionError(f"nobody listens in {directory}")


def refusals(process: WarmProcess, run: Callable[..., str]) -> dict[str, str]:
    """What is refused, once the modules that were asked for have been dealt with."""
    run("pass")  # requests are answered in order
    return process.refused()


#: Starts the launcher at an address and the warm process, and lets them go.
OTHER = """
import sys
from pytest_ductaflow.engines import launcher, warm
launcher.use(sys.argv[1])
warm.current().ensure()
print("started", flush=True)
sys.stdin.read()
warm.release()
"""


def test_whoever_started_it_may_leave_first(process: WarmProcess, run: Callable[..., str]) -> None:
    address = str(launcher.current().directory)
    command = [sys.executable, "-c", OTHER, address]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"started\n"
        server = server_of(process)
        other.communicate(timeout=60)
    assert run(PRINT_WARM) == f"{server.pid}\n"


def test_preloaded_modules_are_there_already(process: WarmProcess, run: Callable[..., str]) -> None:
    assert run("import sys; print('imaplib' in sys.modules)") == "False\n"
    process.preload(["imaplib"], Path("/nowhere"))
    assert run("import sys; print('imaplib' in sys.modules)") == "True\n"
    assert process.refused() == {}


def test_a_run_finds_the_memory_copied_that_the_flow_writes_to(run: Callable[..., str]) -> None:
    """Every object of the modules is written to when it is looked at: its references are counted."""
    cell = """
import resource, sys
faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
before = faults()
held = [list(vars(module).values()) for module in list(sys.modules.values())]
print(faults() - before)
"""
    first, *_, last = [int(run(cell)) for _ in range(4)]
    assert last < first / 2


def test_what_cannot_be_shared_is_refused_with_the_reason(
    process: WarmProcess, run: Callable[..., str], tmp_path: Path
) -> None:
    library = tmp_path / "lib"
    (library / "threaded.py").write_text(
        "import threading; threading.Thread(target=threading.Event().wait, daemon=True).start()"
    )
    (library / "innocent.py").write_text("loaded = True")
    (library / "broken.py").write_text("1 / 0")
    project = tmp_path / "project"
    project.mkdir()
    (project / "mine.py").write_text("")
    (library / "uses_mine.py").write_text(f"import sys; sys.path.append({str(project)!r}); import mine")
    process.preload(["innocent", "threaded", "uses_mine", "broken", "missing"], project)
    refused = refusals(process, run)
    assert refused.keys() == {"threaded", "uses_mine", "broken", "missing"}
    assert "it starts threads when imported" in refused["threaded"]
    assert "it imports mine, a module of the project" in refused["uses_mine"]
    assert refused["broken"] == "ZeroDivisionError: division by zero"
    assert "No module named 'missing'" in refused["missing"]
    names = ("innocent", "threaded", "mine")
    assert run(f"import sys; print([name in sys.modules for name in {names}])") == "[True, False, False]\n"


def test_a_module_sees_a_notebook_when_it_is_preloaded(
    process: WarmProcess, run: Callable[..., str], tmp_path: Path
) -> None:
    (tmp_path / "lib" / "curious.py").write_text("""
import __main__, os, sys
try:
    shell = type(get_ipython()).__name__, "IPKernelApp" in get_ipython().config
except NameError:
    shell = None
here = shell, "JPY_PARENT_PID" in os.environ, os.path.basename(sys.argv[0]), hasattr(__main__, "__file__")
""")
    process.preload(["curious"], Path("/nowhere"))
    loaded, seen = run("""
import sys
print("curious" in sys.modules)
import curious
print(curious.here)
""").splitlines()
    assert loaded == "True"
    assert seen == "(('ZMQInteractiveShell', True), True, 'ipykernel_launcher.py', False)"


def test_modules_that_share_a_cause_are_refused_without_starting_afresh_for_each(
    process: WarmProcess, run: Callable[..., str], tmp_path: Path
) -> None:
    library = tmp_path / "lib"
    (library / "threaded.py").write_text(
        "import threading; threading.Thread(target=threading.Event().wait, daemon=True).start()"
    )
    names = [f"user{number}" for number in range(5)]
    for name in names:
        (library / f"{name}.py").write_text("import threaded")
    (library / "counted.py").write_text(f"open({str(tmp_path / 'starts')!r}, 'a').write('x')")
    (library / "package").mkdir()
    (library / "package" / "__init__.py").write_text("import threaded")
    (library / "package" / "part.py").write_text("")
    process.preload(["counted", *names, "package", "package.part"], Path("/nowhere"))
    assert run("import sys; print('counted' in sys.modules, 'threaded' in sys.modules)") == "True False\n"
    assert refusals(process, run).keys() == {*names, "package"}
    assert (tmp_path / "starts").read_text() == "xxx"  # at first, tried in a fork, and afresh


def test_the_warm_process_has_one_thread(process: WarmProcess, run: Callable[..., str]) -> None:
    process.preload(["numpy", "pandas"], Path("/nowhere"))
    run("pass")
    assert process.refused() == {}
    assert server_of(process).num_threads() == 1


def test_runs_share_one_warm_process_nested_ones_too(process: WarmProcess, run: Callable[..., str]) -> None:
    parents = {run(PRINT_WARM) for _ in range(2)}
    nested = run(
        "from pytest_ductaflow import run_notebook\nrun_notebook('it.py', 'flows', execution_dir='below')",
        name="build",
    )
    parents.add(nested.partition("│ ")[2].splitlines(keepends=True)[0])
    assert parents == {f"{server_of(process).pid}\n"}


def test_an_environment_that_acts_at_start_has_a_warm_process_of_its_own(
    run: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    cell = PRINT_WARM[:-1] + ", __import__('sys').flags.optimize, os.environ.get('MY_OWN'))"
    first = run(cell).split()
    monkeypatch.setenv("MY_OWN", "1")
    second = run(cell).split()
    monkeypatch.setenv("PYTHONOPTIMIZE", "1")
    third = run(cell).split()
    warm.release()
    assert first[0] == second[0] != third[0]
    assert (first[1:], second[1:], third[1:]) == (["0", "None"], ["0", "1"], ["1", "1"])


def test_a_killed_warm_process_is_replaced(process: WarmProcess, run: Callable[..., str]) -> None:
    first = run(PRINT_WARM)
    server = server_of(process)
    server.kill()
    server.wait(5)
    assert run(PRINT_WARM) != first


@pytest.mark.parametrize("above", [0, 1], ids=["supervisor", "warm process"])
def test_whoever_dies_above_a_run_takes_it_along_and_it_is_red(
    process: WarmProcess, tmp_path: Path, above: int
) -> None:
    flow = tmp_path / "it.py"
    kill = f"import psutil; psutil.Process().parents()[{above}].kill()\nwhile True: pass\n"
    flow.write_text(f"{HEADER}# %%\n{kill}")
    request = Request(
        kind="flow",
        flow=flow,
        instance="it",
        directory=tmp_path / "run",
        config={},
        project_root=tmp_path,
        engine="fork",
    )
    record = execute(request)
    assert (record.status, (record.error or {})["type"]) == ("error", "DeadKernel")


def test_both_go_with_their_last_client_also_when_that_is_killed(tmp_path: Path) -> None:
    client = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import os\n"
            "from pytest_ductaflow.engines import launcher, warm\n"
            "warm.current().ensure()\n"
            "if os.fork() == 0:\n"  # has all sockets, too, and lives on
            "    input(); os._exit(0)\n"
            "print(launcher.current().directory, warm.current().directory, flush=True)\n"
            "input()",
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert client.stdout is not None
    directories = [Path(word) for word in client.stdout.readline().split()]
    servers = [serving(directory) for directory in directories]
    client.send_signal(signal.SIGKILL)
    client.wait()
    _, alive = psutil.wait_procs(servers, timeout=10)
    assert alive == []
    assert not directories[0].exists()
    client.communicate()


def test_the_socket_is_for_this_user_only(process: WarmProcess) -> None:
    process.ensure()
    assert process.directory.parent.stat().st_mode & 0o777 == 0o700
    assert process.directory.stat().st_mode & 0o777 == 0o700


def test_the_process_is_as_fresh_as_a_new_one(run: Callable[..., str]) -> None:
    old = os.umask(0o027)
    try:
        printed = run(
            "import asyncio, json, os, signal, sys, threading\n"
            "umask = os.umask(0); os.umask(umask)\n"
            "print(json.dumps({\n"
            "    'umask': umask, 'group': os.getpgrp() == os.getpid(), 'session': os.getsid(0) == os.getpid(),\n"
            "    'threads': threading.active_count(), 'launcher': os.path.basename(sys.argv[0]),\n"
            "    'descriptors': sorted(int(fd) for fd in os.listdir('/proc/self/fd')),\n"
            "    'interrupt': signal.getsignal(signal.SIGINT) is signal.default_int_handler,\n"
            "    'handlers': [s for s in signal.valid_signals() if s != signal.SIGINT\n"
            "                 and callable(signal.getsignal(s))],\n"
            "}))"
        )
    finally:
        os.umask(old)
    found = json.loads(printed)
    descriptors = found.pop("descriptors")
    assert found == {
        "umask": 0o027,
        "group": True,
        "session": True,
        "threads": 1,
        "launcher": "ipykernel_launcher.py",
        "interrupt": True,
        "handlers": [],
    }
    assert len(descriptors) < 20  # standard streams, output, log, the driver, an event loop


def test_runs_from_many_threads_at_once_keep_apart(run: Callable[..., str]) -> None:
    printed: dict[int, str] = {}

    def work(number: int) -> None:
        printed[number] = run(f"import os; print({number}, os.getcwd())", name=f"flow{number}")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number in range(8):
        assert printed[number].startswith(f"{number} ")
        assert printed[number].endswith(f"/runs/flow{number}\n")


def test_what_left_the_process_group_does_not_outlive_the_run(
    run: Callable[..., str], tmp_path: Path
) -> None:
    pid = int(
        run(
            "import subprocess\n"
            "print(subprocess.Popen(['sleep', '1000'], start_new_session=True, cwd='/').pid)"
        )
    )
    assert not psutil.pid_exists(pid)


def test_a_preload_that_hangs_does_not_outlast_the_timeout(
    process: WarmProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "lib" / "hanging.py").write_text("import threading; threading.Event().wait()")
    process.preload(["hanging"], tmp_path)
    flow = tmp_path / "it.py"
    flow.write_text(HEADER)
    request = Request(
        kind="flow",
        flow=flow,
        instance="it",
        directory=tmp_path / "run",
        config={},
        project_root=tmp_path,
        engine="fork",
        timeout=1,
    )
    record = execute(request)
    assert (record.status, (record.error or {})["type"]) == ("error", "Timeout")
    # It imports for ever, and is ended with the session: the fixture sees that.


def test_a_long_order_arrives(run: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LONG", "x" * 100_000)
    assert run("import os; print(len(os.environ['LONG']))") == "100000\n"
