"""``run_instances``: the loop over a data frame, in which only what changed is executed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest

from pytest_ductaflow import ConfigError, RunFailed, load_runs, run_instances, write_instances
from pytest_ductaflow.engines import warm

if TYPE_CHECKING:
    from tests.conftest import Project

LOG = 'open(config["_project_root"] + "/log.txt", "a").write(f"{config.get(\'x\', 0)}\\n")\n'
STEP = LOG + "open('out.csv', 'w').write(str(config['x']))\n"
DF = pd.DataFrame({"x": [3, 1, 2]}, index=["c", "a", "b"])


@pytest.fixture
def step(project: Project) -> Iterator[Project]:
    project.flow("step", STEP)
    yield project
    assert_nothing_left(project)


def assert_nothing_left(project: Project) -> None:
    """No process of a run: each has the project in its environment or as its working directory."""
    deadline = time.monotonic() + 10
    while left := [
        pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if belongs(pid, project)
    ]:
        assert time.monotonic() < deadline, left
        time.sleep(0.01)


def belongs(pid: int, project: Project) -> bool:
    try:
        return pid != os.getpid() and os.readlink(f"/proc/{pid}/cwd").startswith(f"{project.root}/runs")
    except OSError:
        return False


def executed(project: Project) -> list[str]:
    """What was executed since the last look."""
    log = project.root / "log.txt"
    found = log.read_text().splitlines() if log.exists() else []
    log.unlink(missing_ok=True)
    return found


def run(df: pd.DataFrame = DF, **keys: Any) -> pd.DataFrame:
    return run_instances(df, **{"flow": "flows/step.py", "progress": False, **keys})


# --- the loop --------------------------------------------------------------------------------------


def test_only_what_changed_is_executed(step: Project) -> None:
    runs = run()
    assert executed(step) == ["3", "1", "2"]
    assert list(runs.index) == ["c", "a", "b"]
    assert list(runs.light) == ["green"] * 3
    assert list(runs.x) == [3, 1, 2]
    assert list(runs.directory) == ["runs/step/step-c", "runs/step/step-a", "runs/step/step-b"]
    assert not runs.up_to_date.any()
    changed = pd.concat([DF.assign(x=[3, 1, 20]), pd.DataFrame({"x": [4]}, index=["d"])])
    runs = run(changed)
    assert executed(step) == ["20", "4"]
    assert list(runs.up_to_date) == [True, True, False, False]
    step.flow("step", STEP + "# a remark\n")
    run(changed)
    assert executed(step) == []
    run(changed, force=True)
    assert executed(step) == ["3", "1", "20", "4"]


def test_its_rows_are_those_of_load_runs(step: Project) -> None:
    step.flow(
        "step", STEP + "from pytest_ductaflow import record_measure\nrecord_measure('y', config['x'] * 2)\n"
    )
    runs = run().sort_values("directory").reset_index(drop=True)
    loaded = load_runs()
    assert set(runs.columns) - set(loaded.columns) == {"up_to_date"}
    pd.testing.assert_frame_equal(runs[["directory", "instance", "light", "x", "y", "duration"]],
                                  loaded[["directory", "instance", "light", "x", "y", "duration"]])  # fmt: skip


ODD = {
    "plain": DF,
    "a range": pd.DataFrame({"x": [1, 2]}),
    "two levels": pd.DataFrame({"x": [1, 2]}, index=pd.MultiIndex.from_tuples([("a", 1), ("b", 2)])),
    "named index": pd.DataFrame({"x": [1.5, 2.5]}, index=pd.Index(["JFK ", "a/b"], name="origin")),
    "numpy and missing": pd.DataFrame(
        {"x": pd.array([1, None], dtype="Int64"), "y": [0.1, float("nan")], "z": pd.Categorical(["a", None])}
    ),
    "objects": pd.DataFrame({"x": [[1, 2], {"a": {"b": None}}], "text": ["{x}", "no/run"]}),
}


@pytest.mark.parametrize("first", ["pytest", "loop"])
def test_pytest_and_the_loop_take_each_other_s_runs(step: Project, first: str) -> None:
    step.write("pytest.ini", "[pytest]\npythonpath = src\nductaflow_instances = */*/step.json\n")
    step.write("src/mine.py", "VALUE = 1\n")
    step.flow("step", "import mine\n" + STEP)
    step.write("data/a.csv", "1")
    keys: dict[str, Any] = {
        "config": {"base": [1, {"k": "v"}]},
        "timeout": 60,
        "inputs": ["data/*.csv"],
        "expect": {"y": {"max": 3}},
    }
    step.flow(
        "step", "import mine\nfrom pytest_ductaflow import record_measure\nrecord_measure('y', 3)\n" + STEP
    )
    steps = [name.replace(" ", "_") for name in ODD]
    for name, df in zip(steps, ODD.values(), strict=True):
        write_instances(df, f"instances/{name}/step.json", flow="flows/step.py", step=name, **keys)
    total = sum(map(len, ODD.values()))

    def loop() -> list[bool]:
        frames = [run(df, step=name, **keys) for name, df in zip(steps, ODD.values(), strict=True)]
        return [bool(taken) for frame in frames for taken in frame.up_to_date]

    if first == "pytest":
        step.run("instances").assert_outcomes(passed=total)
        assert loop() == [True] * total
    else:
        assert loop() == [False] * total
        step.run("instances").stdout.fnmatch_lines([f"*{total} up to date*"])
    assert len(executed(step)) == total
    step.write("data/b.csv", "1")
    assert loop() == [False] * total
    step.run("instances").stdout.fnmatch_lines([f"*{total} up to date*"])


def test_a_red_run_does_not_stop_the_others_unless_asked(
    step: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    step.flow("step", STEP + "assert config['x'] != 3, 'not three'\n")
    runs = run(progress=True)
    assert list(runs.light) == ["red", "green", "green"]
    assert (
        runs.error["c"]
        == f"flows/step.py:{step.line_of('flows/step.py', 'assert')}: AssertionError: not three"
    )
    shown = capsys.readouterr()
    assert shown.out.count("🔴 step-c: flows/step.py:") == 1
    assert "3/3" in shown.err
    assert executed(step) == ["3", "1", "2"]
    with pytest.raises(RunFailed, match="not three"):
        run(stop_on_error=True, force=True)
    assert executed(step) == ["3"]
    run()
    assert executed(step) == ["3"]


def test_marks(step: Project) -> None:
    step.flow("step", STEP + "assert config['x'] != 3\n")
    for mark in (
        "skip",
        {"name": "skipif", "condition": True, "reason": "r"},
        {"name": "xfail", "run": False},
    ):
        runs = run(marks=[mark])
        assert list(runs.status) == ["skipped"] * 3
        assert runs.light.isna().all()
    assert executed(step) == []
    runs = run(marks=["xfail"], stop_on_error=True)
    assert list(runs.light) == ["red", "green", "green"]
    assert len(run(marks=[{"name": "skipif", "condition": False, "reason": "r"}, "ci"])) == 3


def test_rows_that_refer_to_one_another_run_in_order(step: Project) -> None:
    step.flow("step", LOG + "text = open(config['of']).read() if config['of'] else '0'\n"
              "open('out.txt', 'w').write(text + str(config['x']))\n")  # fmt: skip
    df = pd.DataFrame(
        {"x": [1, 2, 3], "of": ["runs/step/step-b/out.txt", "runs/step/step-c/out.txt", None]},
        index=list("abc"),
    )
    runs = run(df)
    assert executed(step) == ["3", "2", "1"]
    assert list(runs.index) == ["a", "b", "c"]
    assert (step.root / "runs/step/step-a/out.txt").read_text() == "0321"
    df.loc["c", "x"] = 4
    assert not run(df).up_to_date.any()
    df.loc["c", "of"] = "runs/step/step-a/out.txt"
    with pytest.raises(ConfigError, match="cycle"):
        run(df)
    df.loc["c", "of"] = "missing.txt"
    runs = run(df)
    assert list(runs.light) == ["red"] * 3
    assert runs.error["a"] == "NotRun: needs runs/step/step-b, which failed"
    df.loc["c", "of"] = None
    assert list(run(df).light) == ["green"] * 3


def test_expectations_are_judged_again_without_running(step: Project) -> None:
    step.flow(
        "step", STEP + "from pytest_ductaflow import record_measure\nrecord_measure('y', config['x'])\n"
    )
    assert list(run(expect={"y": {"max": 2}}).light) == ["red", "green", "green"]
    executed(step)
    assert list(run(expect={"y": {"max": 9, "warn_max": 1}}).light) == ["orange", "green", "orange"]
    assert list(run(expect={"y": {"baseline": "step-a", "atol": 1}}).light) == ["red", "green", "green"]
    assert executed(step) == []
    record = step.record("step/step-c")
    assert record["error"]["message"].startswith("y = 3, expected 1 ± 1")


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"flow": None}, "run_instances: give exactly one of flow and build"),
        ({"flow": "flows/none.py"}, "run_instances: flow: flows/none.py: "),
        ({"timout": 3}, "run_instances: unknown key 'timout'"),
        ({"name": "{y}"}, "run_instances: name: .*no such key"),
        ({"df": pd.DataFrame({"x": []})}, "run_instances: the data frame has no rows"),
        ({"df": pd.DataFrame({"x": ["a"], "_y": 1})}, r"run_instances: scenarios\[0\]._y: "),
        ({"df": pd.DataFrame({"x": [1, 1]}), "name": "x"}, "the name 'x' stands twice"),
    ],
)
def test_a_mistake_is_named_and_nothing_runs(step: Project, keys: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        run(**keys)
    assert not (step.root / "runs").exists()


# --- where it is called ----------------------------------------------------------------------------


def test_the_project_is_that_which_pytest_would_find(step: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    step.write("pytest.ini", "[pytest]\n")
    step.write("notebooks/explore.txt", "")
    monkeypatch.chdir(step.root / "notebooks")
    runs = run()
    assert runs.directory["a"] == f"{step.root}/runs/step/step-a"
    monkeypatch.chdir("/")
    assert run(project_root=step.root).up_to_date.all()


def test_several_threads(step: Project) -> None:
    frames: dict[int, pd.DataFrame] = {}

    def go(number: int) -> None:
        df = pd.DataFrame({"x": [number, 7]}, index=[str(number), "shared"])
        frames[number] = run(df)

    threads = [threading.Thread(target=go, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert all(list(frames[number].light) == ["green"] * 2 for number in range(3))
    assert sorted(executed(step)) == ["0", "1", "2", "7"]


@pytest.mark.parametrize("engine", ["fork", "papermill"])
def test_in_a_build_they_are_its_nested_runs(step: Project, engine: str) -> None:
    body = (
        "import pandas as pd\nfrom pytest_ductaflow import run_instances\n"
        "df = pd.DataFrame({'x': config['xs']}, index=[f'i{x}' for x in config['xs']])\n"
        "runs = run_instances(df, flow='flows/step.py')\n"
        "print(list(runs.light), list(runs.up_to_date))\n"
    )
    step.build("sweep", body)
    step.instance("sweep", build="builds/sweep.py", config={"xs": [1, 2]})
    option = f"--ductaflow-engine={engine}"
    step.run("instances", option).assert_outcomes(passed=1)
    record = step.record("sweep/sweep")
    assert record["runs"] == ["runs/step/step-i1", "runs/step/step-i2"]
    assert step.record("sweep/sweep/runs/step/step-i1")["session"] == record["session"]
    assert executed(step) == ["1", "2"]
    step.run("instances", option).stdout.fnmatch_lines(["*1 up to date*"])
    step.instance("sweep", build="builds/sweep.py", config={"xs": [1, 3]})
    step.run("instances", option)
    assert executed(step) == ["3"]
    step.flow("step", STEP + "# a remark\n")
    step.run("instances", option).stdout.fnmatch_lines(["*1 up to date*"])
    step.flow("step", STEP + "assert config['x'] != 3\n")
    step.run("instances", option, "--ductaflow-force")
    assert step.record("sweep/sweep")["status"] == "warning"
    assert executed(step) == ["1", "3"]
    text = (step.root / "runs/sweep/sweep/sweep_execution_output.txt").read_text()
    assert "['green', 'red'] [False, False]" in text


NOTEBOOK = """
import asyncio, json, sys
import pandas as pd, nbclient, nbformat
code = '''
import asyncio
import pandas as pd
from pytest_ductaflow import run_instances
assert asyncio.get_running_loop().is_running()
df = pd.DataFrame({"x": [1, 2]}, index=["a", "b"])
runs = run_instances(df, flow="flows/step.py")
print(list(runs.light), list(runs.up_to_date))
'''
notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code) for _ in range(2)])
nbclient.NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
print(json.dumps(notebook.cells))
"""


def test_in_a_notebook_s_own_kernel(step: Project) -> None:
    done = step.python("-c", NOTEBOOK, timeout=180)
    cells = json.loads(done.stdout)
    printed = ["".join(o["text"] for o in cell["outputs"] if o.get("name") == "stdout") for cell in cells]
    assert printed == ["['green', 'green'] [False, False]\n", "['green', 'green'] [True, True]\n"]
    assert executed(step) == ["1", "2"]


@pytest.mark.parametrize("stdin", [False, True], ids=["script", "stdin"])
def test_ctrl_c_stops_it_and_leaves_a_good_state(step: Project, stdin: bool) -> None:
    flow = (
        STEP
        + "import subprocess, pathlib\nif config['x'] == 1 and not pathlib.Path(config['go']).exists():\n"
    )
    flow += "    subprocess.run(['sleep', '600'])\n"
    step.flow("step", flow)
    script = (
        "import pandas as pd\nfrom pytest_ductaflow import run_instances\n"
        "df = pd.DataFrame({'x': [3, 1, 2]}, index=list('cab'))\n"
        f"run_instances(df, flow='flows/step.py', config={{'go': {str(step.root / 'go')!r}}})\n"
    )
    path = step.write("loop.py", script)
    process = subprocess.Popen(
        [sys.executable, "-" if stdin else str(path)],
        stdin=open(path) if stdin else subprocess.DEVNULL,  # noqa: SIM115 # the process has it
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        cwd=step.root,
        env=step.environment(),
        text=True,
    )
    log, deadline = step.root / "log.txt", time.monotonic() + 60
    while not log.exists() or "1" not in log.read_text():
        assert time.monotonic() < deadline
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    assert "KeyboardInterrupt" in process.communicate(timeout=60)[1]
    assert_nothing_left(step)
    statuses = {name: record["status"] for name, record in step.records().items()}
    assert statuses == {"step/step-c": "success", "step/step-a": "interrupted"}
    executed(step)
    (step.root / "go").touch()
    runs = run(config={"go": str(step.root / "go")})
    assert list(runs.light) == ["green"] * 3
    assert executed(step)[-2:] == ["1", "2"]


def test_no_warm_process_stays(step: Project) -> None:
    """It has imported libraries that may be replaced before the next loop."""
    known = dict(warm._known)
    processes: list[warm.WarmProcess] = []
    ensure = warm.WarmProcess.ensure

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(warm.WarmProcess, "ensure", lambda self: (processes.append(self), ensure(self)))
        run()
    assert processes
    assert {process.directory.exists() for process in processes} == {False}
    assert warm._known == known
