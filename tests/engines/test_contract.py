import contextlib
import json
import os
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pytest_ductaflow.record import read_record

from .conftest import Outcome

Run = Callable[..., Outcome]


def processes_in(directory: Path) -> list[int]:
    found = []
    for process in psutil.process_iter(["cwd"]):
        if process.info["cwd"] == str(directory):
            found.append(process.pid)
    return found


def test_output_of_python_subprocesses_and_c_arrives_in_order_in_file_and_notebook(run: Run) -> None:
    result = run(
        "import os, subprocess, sys\n"
        "print('one')\n"
        "subprocess.run(['echo', 'two'])\n"
        "os.system('echo three >&2')\n"
        "print('four', file=sys.stderr)\n"
        "os.write(1, b'five\\n')\n"
        "print('six', end='')",
    )
    assert result.printed == b"one\ntwo\nthree\nfour\nfive\nsix"
    assert sorted(result.streams.split()) == sorted(["one", "two", "three", "four", "five", "six"])
    assert result.status == "success"


def test_bytes_and_lone_surrogates_neither_fail_nor_vanish(run: Run) -> None:
    result = run(r"""import sys; sys.stdout.buffer.write(b"raw \xff\n"); print("\ud800 ü")""")
    assert result.printed == b"raw \xff\n\\ud800 \xc3\xbc\n"
    assert result.status == "success"


@pytest.mark.parametrize("flush", [False, True])
def test_no_printed_line_is_lost(run: Run, flush: bool) -> None:
    result = run(f"for i in range(20000): print('line', i, flush={flush})")
    assert result.printed == b"".join(b"line %d\n" % i for i in range(20000))


def test_a_huge_output_is_whole_in_the_file_and_cut_with_a_notice_in_the_notebook(run: Run) -> None:
    result = run("for i in range(30): print('x' * 1_000_000)\nprint('the end')")
    assert len(result.printed) == 30 * 1_000_001 + 8
    assert len(result.streams) < 1_000_000
    assert "left out here; the whole output is in it_execution_output.txt" in result.streams
    assert "the end\n" in result.streams


def test_warning_lines_turn_it_orange_and_are_recorded_with_line_and_cell(run: Run) -> None:
    result = run(
        "print('fine')", "print('5%', end='\\r')\nprint('Warning: odd')\nprint('a Warning: far to the right')"
    )
    assert result.status == "warning"
    assert result.record.warnings == [
        {"line": 2, "cell": 3, "text": "Warning: odd"},
        {"line": 3, "cell": 3, "text": "a Warning: far to the right"},
    ]


def test_an_exception_is_red_with_the_flow_s_own_file_and_lines(run: Run) -> None:
    result = run("def f(x):\n    return 1 / x\n\nf(0)", "print('never')")
    assert result.status == "error"
    assert (result.error["type"], result.error["message"]) == ("ZeroDivisionError", "division by zero")
    assert (result.error["file"], result.error["line"], result.error["cell"]) == ("flows/it.py", 5, 2)
    assert [(f["file"], f["line"], f["function"]) for f in result.error["frames"]] == [
        ("flows/it.py", 7, "<module>"),
        ("flows/it.py", 5, "f"),
    ]
    assert 'File "flows/it.py", line 5, in f\n    return 1 / x' in result.error["traceback"]
    assert "IPython" not in result.error["traceback"]
    assert result.record.cells == {"total": 4, "done": 2, "current": 2}
    statuses = [cell.metadata.papermill["status"] for cell in result.notebook.cells]
    assert statuses == ["completed", "completed", "failed", "pending"]
    assert b"never" not in result.printed


def test_a_syntax_error_is_red_at_its_line(run: Run) -> None:
    result = run("x = 1", "y = = 2")
    assert (result.error["type"], result.error["file"], result.error["line"]) == (
        "SyntaxError",
        "flows/it.py",
        6,
    )


@pytest.mark.parametrize("leave", ["import sys; sys.exit(0)", "raise SystemExit(1)", "quit()", "exit()"])
def test_leaving_early_is_red_and_says_so(run: Run, leave: str) -> None:
    result = run(leave, "print('never')")
    assert result.error["type"] == "SystemExit"
    assert "stopped early" in result.error["message"]
    assert "1 more cell never ran" in result.error["message"]
    assert b"never" not in result.printed


@pytest.mark.parametrize(
    ("death", "said"),
    [
        ("import os; os._exit(3)", "exited with status 3"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "died of SIGSEGV"),
        (
            "import os, threading, time\n"
            "threading.Thread(target=lambda: (time.sleep(.3), os._exit(3))).start()",
            "exited with status 3 after the last cell",
        ),
    ],
    ids=["exit", "signal", "after the last cell"],
)
def test_a_dead_process_is_red_and_names_how_it_died(run: Run, death: str, said: str) -> None:
    result = run("print('before', flush=True)", death)
    assert result.error["type"] == "DeadKernel"
    assert said in result.error["message"]
    assert result.printed == b"before\n"
    ended = "completed" if "after the last cell" in said else "failed"
    assert result.notebook.cells[-1].metadata.papermill["status"] == ended


@pytest.mark.parametrize(
    "hang",
    [
        "import subprocess, time; subprocess.Popen(['sleep', '1000']); time.sleep(1000)",
        "import re; re.match(r'(a+)+$', 'a' * 40 + 'b')",
        "import os, signal; os.kill(os.getpid(), signal.SIGSTOP)",
    ],
    ids=["with a child", "holding the GIL", "stopped"],
)
def test_a_timeout_ends_the_run_with_all_it_started(run: Run, hang: str) -> None:
    result = run("print('before')", hang, timeout=3)
    assert result.error["type"] == "Timeout"
    assert (
        result.error["message"] == "stopped after 3 s, the run's timeout, in the cell that starts at line 6"
    )
    assert (result.error["file"], result.error["line"]) == ("flows/it.py", 6)
    assert result.notebook.cells[-1].metadata.papermill["status"] == "failed"
    assert processes_in(result.directory) == []
    assert 3 <= (result.record.duration or 0) < 10


def test_an_interrupt_right_after_the_start_ends_the_run(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = run("pass").directory

    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("pytest_ductaflow.freshness.prepare", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run("import time; time.sleep(1000)")
    assert read_record(directory).status == "interrupted"
    assert processes_in(directory) == []


def test_what_python_warns_about_the_kernel_is_not_the_flow_s_output(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONWARNINGS", "default")
    result = run("import warnings\nprint('one')\nwarnings.warn('mine')", "print('two')")
    assert result.printed.startswith(b"one\n")
    assert b"UserWarning: mine" in result.printed
    assert result.printed.endswith(b"two\n")


def test_runs_leave_no_descriptor_thread_or_process_behind(run: Run) -> None:
    run("print(1)")
    process = psutil.Process()
    before = (process.num_fds(), process.num_threads())
    others = processes_of_runs(process)  # a browser of other tests
    for _ in range(3):
        run("print(1)")
    assert (process.num_fds(), process.num_threads()) == before
    assert set(processes_of_runs(process)) <= set(others)


def processes_of_runs(process: psutil.Process) -> list[psutil.Process]:
    """What runs left behind: not the warm process, nor the one fork that it keeps ready."""
    found = []
    for child in process.children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            if "fork_server" in " ".join(child.cmdline()):
                assert child.parent() != process or len(child.children()) <= 1
            else:
                found.append(child)
    return found


def test_what_a_flow_leaves_running_does_not_outlive_it(run: Run) -> None:
    result = run("import subprocess; subprocess.Popen(['sleep', '1000'])")
    assert result.status == "success"
    assert processes_in(result.directory) == []


@settings(max_examples=3, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.dictionaries(
        st.text(max_size=5),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
            lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
            max_leaves=20,
        ),
        min_size=5,
    )
)
def test_a_config_arrives_as_it_is(run: Run, config: dict[str, object]) -> None:
    config.pop("_project_root", None)
    hard = {
        "nan": float("nan"),
        "inf": float("-inf"),
        "big": 10**50,
        "q": "'\"\\\n\r\t{}%\0\u2028\ud800",
        "t": True,
    }
    result = run("import json; open('got.json', 'w').write(json.dumps(config))", config={**config, **hard})
    assert result.status == "success", result.record.error
    got = json.loads((result.directory / "got.json").read_text())
    assert got.pop("_project_root")
    assert json.dumps(got, sort_keys=True) == json.dumps({**config, **hard}, sort_keys=True)


def test_the_child_has_its_own_directory_and_imports_the_project(run: Run, tmp_path: Path) -> None:
    (tmp_path / "helpers.py").write_text("value = 41\n")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "more.py").write_text("value = 1\n")
    before = (os.getcwd(), dict(os.environ))
    result = run(
        "import os, helpers, more\nprint(os.getcwd(), helpers.value + more.value)\n"
        "print([name for name in os.environ if name.startswith('PYTEST_')])",
        python_path=(str(tmp_path / "elsewhere"),),
    )
    assert result.printed.decode() == f"{result.directory} 42\n[]\n"
    assert (os.getcwd(), dict(os.environ)) == before


def test_rich_output_magics_await_and_tags_work_as_in_jupyter(run: Run) -> None:
    result = run(
        "import asyncio\nawait asyncio.sleep(0)\nprint('awaited')",
        "# %time\nx = !echo shell".replace("x = !", "# x = !"),
        "# %%\n# %%bash\n# echo from bash\n",
        '# %% tags=["raises-exception"]\n1 / 0\n',
        '# %% tags=["skip-execution"]\nprint("skipped")\n',
        "from IPython.display import HTML, display\ndisplay(HTML('<b>bold</b>'))",
        "1 + 1",
    )
    assert result.status == "success", result.record.error
    outputs = [output for cell in result.notebook.cells for output in cell.get("outputs", ())]
    assert any(output.get("data", {}).get("text/html") == "<b>bold</b>" for output in outputs)
    assert any(output.get("data", {}).get("text/plain") == "2" for output in outputs)
    assert any(output.get("ename") == "ZeroDivisionError" for output in outputs)
    assert b"from bash" in result.printed
    assert b"skipped" not in result.printed


def test_the_notebook_is_json_that_any_frontend_reads_and_holds_the_config(run: Run) -> None:
    result = run("print(1)", config={"x": float("nan")})

    def refuse(constant: str) -> None:
        raise ValueError(constant)

    document = json.loads((result.directory / "it.ipynb").read_text(), parse_constant=refuse)
    sources = ["".join(cell["source"]) for cell in document["cells"]]
    assert any("config = {" in source and "float('nan')" in source for source in sources)


def test_a_run_starts_without_what_the_last_one_wrote(run: Run) -> None:
    first = run("open('old.txt', 'w').write('1'); open('kept.txt', 'w').write('1')")
    assert set(first.record.outputs) == {"old.txt", "kept.txt"}
    (first.directory / "kept.txt").write_text("changed by hand")
    second = run("import os; print(sorted(os.listdir()))")
    assert b"old.txt" not in second.printed
    assert b"kept.txt" in second.printed


def test_a_kernel_that_cannot_start_is_red_and_says_why(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from pytest_ductaflow.engines import launcher, papermill, warm

    monkeypatch.setattr(papermill, "_EXTENSION_ARGUMENTS", ("--IPKernelApp.outstream_class=no.such.Stream",))
    monkeypatch.setattr(warm, "_MAIN", "import no.such.stream")
    monkeypatch.setattr(warm, "_known", {})
    monkeypatch.setattr(launcher, "_known", [])
    result = run("print(1)")
    assert result.error["type"] == "KernelError"
    assert "No module named 'no'" in result.error["message"]
    *said, last = result.text.decode().splitlines()
    assert "No module named 'no'" in "\n".join(said)
    assert last.startswith("❌ Failed it | Instance: one | Error: KernelError: the kernel did not start: ")
    assert (result.record.duration or 0) < 15


def test_the_record_has_the_run_s_own_process(run: Run) -> None:
    result = run(
        "import json, os, time\n"
        "deadline = time.monotonic() + 30\n"
        "while (now := json.load(open('run.json'))['pid']) != os.getpid() and time.monotonic() < deadline:\n"
        "    time.sleep(0.05)\n"
        "print(now, os.getpid())"
    )
    told, own = map(int, result.printed.split())
    assert told == own == result.record.pid != result.record.worker == os.getpid()
