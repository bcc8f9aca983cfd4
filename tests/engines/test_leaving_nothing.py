"""A run ends with its own process, and nothing that it started outlives it, whatever that did to get away."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from pytest_ductaflow.engines import launcher

from .conftest import Outcome

pytestmark = pytest.mark.skipif(not launcher.available(), reason="needs a subreaper")

Run = Callable[..., Outcome]

#: Starts what would live for ten minutes. All of it writes its number into a file that ends in ``.pid``.
COMMON = """
import contextlib, ctypes, multiprocessing, os, signal, socket, subprocess, sys, time
LONG = "import os, sys, time; open(sys.argv[1] + '.pid', 'w').write(str(os.getpid())); time.sleep(600)"
HERE = os.getcwd()
def note(name):
    with open(f"{HERE}/{name}.new", "w") as file:
        file.write(str(os.getpid()))
    os.rename(f"{HERE}/{name}.new", f"{HERE}/{name}.pid")
def appears(*names):
    while not all(os.path.exists(f"{HERE}/{name}.pid") and os.path.getsize(f"{HERE}/{name}.pid") for name in names):
        time.sleep(0.01)
def daemon(name, work=lambda: time.sleep(600), closes=False):
    if os.fork() == 0:
        os.setsid()
        if os.fork():
            os._exit(0)
        os.chdir("/")
        if closes:
            os.closerange(0, 200)
        note(name)
        with contextlib.suppress(BaseException):
            work()
        os._exit(0)
    os.wait()
    appears(name)
"""

#: How something is started, and waits: each leaves ``it.pid``.
STARTS = {
    "a daemon that holds everything": "daemon('it')",
    "a daemon that closed everything": "daemon('it', closes=True)",
    "a daemon with an empty environment": """
daemon("it", lambda: os.execve(sys.executable, [sys.executable, "-c", "import time; time.sleep(600)"], {}))
""",
    "a program in a session of its own": """
subprocess.Popen([sys.executable, "-c", LONG, f"{HERE}/it"], start_new_session=True, cwd="/")
appears("it")
""",
    "a program with the run's output": """
subprocess.Popen([sys.executable, "-c", LONG, f"{HERE}/it"], stdin=subprocess.PIPE)
appears("it")
""",
    "posix_spawn": """
os.posix_spawn(sys.executable, [sys.executable, "-c", LONG, f"{HERE}/it"], {}, setsid=True)
appears("it")
""",
    "nohup in a shell's background": """
os.system(f'nohup sh -c \\'echo $$ > {HERE}/it.pid; sleep 600 & wait\\' > /dev/null 2>&1 &')
appears("it")
""",
    "a spawned daemon of multiprocessing": """
multiprocessing.get_context("spawn").Process(
    target=os.execv, args=(sys.executable, [sys.executable, "-c", LONG, f"{HERE}/it"]), daemon=True
).start()
appears("it")
""",
    "a daemon that ignores SIGTERM": """
daemon("it", lambda: (signal.signal(signal.SIGTERM, signal.SIG_IGN), note("deaf"), time.sleep(600)))
appears("deaf")
""",
    "a stopped daemon": "daemon('it', lambda: os.kill(os.getpid(), signal.SIGSTOP))",
    "a daemon that holds the events": """
events = __import__("json").load(open(os.environ["DUCTAFLOW_CONTEXT"]))["events"]
daemon("it", lambda: (open(events), time.sleep(600)))
""",
    "daemons that fork for ever": """
def fork_for_ever():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    end = time.monotonic() + 60
    while time.monotonic() < end:
        if os.fork():
            os._exit(0)
        time.sleep(0.001)
for number in range(3):
    daemon("it", fork_for_ever)
""",
}
#: How the run ends, and what its record says.
ENDS: dict[str, tuple[str, dict[str, Any], str]] = {
    "well": ("", {}, "success"),
    "with an error": ("1 / 0", {}, "ZeroDivisionError"),
    "by os._exit": ("os._exit(3)", {}, "DeadKernel"),
    "by a signal": ("os.kill(os.getpid(), signal.SIGSEGV)", {}, "DeadKernel"),
}


def left_in(directory: Path) -> list[psutil.Process]:
    """The living processes that the run in a directory noted, and those that still are where it was."""
    noted = {int(text) for path in directory.glob("*.pid") if (text := path.read_text().strip())}
    found = []
    for process in psutil.process_iter():
        try:
            named = str(directory) in " ".join(process.cmdline())
            place = process.pid != os.getpid() and Path(process.cwd()).is_relative_to(directory)
            if (process.pid in noted or named or place) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:
            continue
    return found


@pytest.mark.parametrize("start", STARTS)
def test_a_run_s_end_is_the_end_of_what_it_started(run: Run, start: str) -> None:
    result = run(COMMON, STARTS[start])
    assert result.status == "success", result.record.error
    assert (result.directory / "it.pid").exists()
    assert left_in(result.directory) == []


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("start", ["a daemon that holds everything", "a program with the run's output"])
def test_however_a_run_ends_its_light_is_its_own(run: Run, start: str, end: str) -> None:
    code, options, what = ENDS[end]
    result = run(COMMON, STARTS[start], code, timeout=300, **options)
    assert (result.record.error or {"type": result.status})["type"] == what
    assert left_in(result.directory) == []


@pytest.mark.parametrize("start", ["a daemon that holds everything", "a daemon that ignores SIGTERM"])
def test_a_timeout_ends_a_run_whatever_holds_its_sockets(run: Run, start: str) -> None:
    late = COMMON + STARTS[start] + "\nwith open('started', 'w'): pass\ntime.sleep(600)"
    result = run(late, timeout=20)
    assert (result.directory / "started").exists()
    assert result.error["type"] == "Timeout"
    assert left_in(result.directory) == []


def test_a_nested_run_ends_only_what_it_started_itself(run: Run) -> None:
    """The daemon of the build still answers when the daemon of its flow is gone."""
    build = """
def answer():
    while not os.path.exists(f"{HERE}/asked"):
        time.sleep(0.01)
    note("answered")
    time.sleep(600)
daemon("it", answer)
import psutil, pytest_ductaflow
with open("nested.py", "w") as file:
    file.write('# %% tags=["parameters"]\\nconfig = {}\\n# %%\\n' + config["nested"])
pytest_ductaflow.run_notebook("nested.py", execution_dir="nested")
with open("nested/it.pid") as file:
    print(psutil.pid_exists(int(file.read())))
open("asked", "w").close()
appears("answered")
"""
    result = run(COMMON, build, config={"nested": COMMON + "daemon('it')\n"}, timeout=300)
    assert result.status == "success", result.record.error
    assert result.printed.endswith(b"False\n")
    assert left_in(result.directory) == []


def test_a_daemon_that_ended_is_no_zombie_while_its_run_lasts(run: Run) -> None:
    """Scripts that stop a server wait until its process is gone."""
    code = """
daemon("it", lambda: None)
pid = int(open("it.pid").read())
deadline = time.monotonic() + 60
while os.path.exists(f"/proc/{pid}") and time.monotonic() < deadline:
    time.sleep(0.01)
print(os.path.exists(f"/proc/{pid}"))
with contextlib.suppress(ChildProcessError):  # nothing of it is the flow's child
    print(os.wait())
"""
    assert run(COMMON, code).printed == b"False\n"


def test_what_a_run_left_is_asked_to_end_first(run: Run) -> None:
    code = """
def serve():
    signal.signal(signal.SIGTERM, lambda *_: (note("closed"), os._exit(0)))
    note("ready")
    time.sleep(600)
daemon("it", serve)
appears("ready")
"""
    result = run(COMMON, code)
    assert result.status == "success"
    assert (result.directory / "closed.pid").exists()


SCRIPT = """
import os, sys
from pytest_ductaflow import run_notebook
from pytest_ductaflow.errors import RunFailed
sys.argv = ["script"]
try:
    run_notebook("flow.py", execution_dir="run", timeout=20)
except RunFailed as error:
    print(error.error["type"])
"""


def test_a_script_s_run_ends_at_its_timeout_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "tmp").mkdir()
    flow = f'# %% tags=["parameters"]\nconfig = {{}}\n# %%\n{COMMON}\ndaemon("it")\ntime.sleep(600)\n'
    (tmp_path / "flow.py").write_text(flow)
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        cwd=tmp_path,
        env={**os.environ, "TMPDIR": str(tmp_path / "tmp")},
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "Timeout"
    assert (tmp_path / "run" / "it.pid").exists()
    assert left_in(tmp_path) == []
    assert list((tmp_path / "tmp").glob("ductaflow-*")) == []


@pytest.mark.parametrize("who", ["the launcher", "the supervisor"])
def test_whoever_is_killed_a_run_s_daemons_go_too(run: Run, tmp_path: Path, who: str) -> None:
    """The run is red, and the next one runs."""
    kill = """
import psutil
daemon("it")
parents = psutil.Process().parents()
target = parents[0] if config["who"] == "the supervisor" else next(
    parent for parent in parents if "launcher_process" in " ".join(parent.cmdline()) and parent != parents[0]
)
target.kill()
time.sleep(600)
"""
    result = run(COMMON, kill, config={"who": who}, timeout=300)
    assert result.error["type"] == "DeadKernel"
    deadline = time.monotonic() + 60
    while left_in(result.directory) and time.monotonic() < deadline:
        time.sleep(0.01)  # between two looks
    assert left_in(result.directory) == []
    assert run("print(1)").status == "success"


def test_runs_of_several_threads_end_what_is_theirs(tmp_path: Path) -> None:
    from pytest_ductaflow.execution import Request, execute

    header = '# %% tags=["parameters"]\nconfig = {}\n# %%\n'
    records: dict[int, str] = {}

    def work(number: int) -> None:
        flow = tmp_path / f"flow{number}.py"
        flow.write_text(f"{header}{COMMON}\ndaemon('it')\n")
        directory = tmp_path / "runs" / str(number)
        request = Request(
            kind="flow", flow=flow, instance="it", directory=directory, config={}, project_root=tmp_path
        )
        records[number] = execute(request).status
        assert left_in(directory) == []

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert records == dict.fromkeys(range(4), "success")


def test_a_flow_that_cannot_be_started_says_so(tmp_path: Path) -> None:
    with (
        open(tmp_path / "log", "wb") as log,
        pytest.raises(FileNotFoundError, match=f"No such file or directory: '{tmp_path}/no-such-program'"),
    ):
        launcher.current().begin(
            [f"{tmp_path}/no-such-program"], log, environment={}, directory=str(tmp_path), private=""
        )


@pytest.mark.parametrize("status", [0, 7, -signal.SIGKILL])
def test_how_a_program_ended_is_known(tmp_path: Path, status: int) -> None:
    end = f"import os; os.kill(os.getpid(), {-status})" if status < 0 else f"raise SystemExit({status})"
    with open(tmp_path / "log", "wb") as log:
        started = launcher.current().begin(
            [sys.executable, "-c", end], log, environment={}, directory=str(tmp_path), private=""
        )
    assert started.wait(60) == started.poll() == status
    started.close(60)
