"""The text file of a red run ends with its error; what a run printed, nothing else, is in those of others."""

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from pytest_ductaflow import capture, last_words
from pytest_ductaflow.execution import Request, execute, refuse
from pytest_ductaflow.record import read_record

from .conftest import HEADER, Outcome
from .shown import OURS

Run = Callable[..., Outcome]


def ending(result: Outcome) -> str:
    """What stands below what the run printed."""
    assert result.record.printed is not None
    return result.text[result.record.printed :].decode()


def test_an_exception_stands_at_the_end_as_a_script_shows_it(run: Run) -> None:
    result = run("print('Warning: odd', end='')", "def f(x):\n    return 1 / x\n\nf(0)")
    assert result.text.decode().startswith("Warning: odd\nTraceback (most recent call last):\n")
    assert '  File "flows/it.py", line 9, in <module>\n' in ending(result)
    assert '  File "flows/it.py", line 7, in f\n    return 1 / x\n' in ending(result)
    assert ending(result).endswith(
        "\nZeroDivisionError: division by zero\n"
        "❌ Failed it | Instance: one | Error: ZeroDivisionError: division by zero\n"
    )
    assert ending(result).count("Traceback") == 1
    assert [warning["line"] for warning in result.record.warnings] == [1]


def test_the_error_is_in_no_notebook_no_tail_and_no_warning(run: Run) -> None:
    result = run("print('one')", "raise ValueError('x\\nWarning: of the message\\n⚠️ and this')")
    assert result.record.warnings == []
    assert "Failed" not in result.streams
    assert "Traceback" not in result.streams
    assert "⚠️ and this" in ending(result)
    file, printed = result.directory / "it_execution_output.txt", result.record.printed
    assert capture.last_lines(file, 20, printed) == ["one"]
    assert capture.excerpt(file, printed=printed) == "one\n"


@pytest.mark.parametrize(
    ("cell", "options", "said"),
    [
        ("import os; os._exit(3)", {}, "DeadKernel: the kernel exited with status 3, in the cell that"),
        ("import time; time.sleep(1000)", {"timeout": 15}, "Timeout: stopped after 15 s, the run's timeout"),
        ("import sys; sys.exit(2)", {}, "SystemExit: stopped early: exit status 2"),
        ("y = = 2", {}, "SyntaxError: invalid syntax (it.py, line 6)"),
        ("class E(Exception): pass\nraise E", {}, "E"),
        (
            "get_ipython().run_line_magic('run', 'nothing.py')",
            {},
            "Exception: File `'nothing.py'` not found.",
        ),
    ],
    ids=["died", "timeout", "exit", "syntax", "no message", "magic"],
)
def test_every_red_says_what_is_known(run: Run, cell: str, options: dict[str, object], said: str) -> None:
    result = run("print('printed')", cell, **options)
    assert result.text.startswith(b"printed\n")
    *above, last = ending(result).splitlines()
    assert last.startswith(f"❌ Failed it | Instance: one | Error: {said}")
    assert above
    if "traceback" not in result.error:
        assert above[-1].startswith(f"flows/it.py:6: {said}")


def test_an_interrupted_run_says_so(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = run("pass").directory

    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("pytest_ductaflow.freshness.prepare", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run("import time; time.sleep(1000)")
    assert (directory / "it_execution_output.txt").read_text("utf-8").splitlines()[-2:] == [
        "KeyboardInterrupt: stopped by the user",
        "❌ Failed it | Instance: one | Error: KeyboardInterrupt: stopped by the user",
    ]


@pytest.mark.parametrize("text", ["fine", "Warning: odd\n", ""])
def test_other_runs_files_hold_what_was_printed(run: Run, text: str) -> None:
    result = run(f"print({text!r}, end='')")
    assert not result.record.light.is_red
    assert (result.text, result.record.printed) == (text.encode(), None)


def request(tmp_path: Path, engine: str, cells: str, name: str = "it") -> Request:
    flow = tmp_path / "flows" / f"{name}.py"
    flow.parent.mkdir(exist_ok=True)
    flow.write_text(HEADER + f"# %%\n{cells}\n", "utf-8")
    directory = tmp_path / "runs" / name / "one"
    return Request("flow", flow, "one", directory, {}, tmp_path, engine=engine)


def test_a_refused_run_says_so_once_and_keeps_what_was_printed(tmp_path: Path) -> None:
    asked = request(tmp_path, OURS[0], "print('good')")
    execute(asked)
    file = asked.directory / "it_execution_output.txt"
    for reason in ("needs a.json::a, which failed", "needs b.json::b, which failed"):
        refuse(asked, reason)
        expected = f"good\nNotRun: {reason}\n❌ Failed it | Instance: one | Error: NotRun: {reason}\n"
        assert file.read_text("utf-8") == expected
    execute(asked)
    assert file.read_text("utf-8") == "good\n"


def test_who_never_ran_and_is_refused_has_no_text_file(tmp_path: Path) -> None:
    asked = request(tmp_path, OURS[0], "print('good')")
    refuse(asked, "needs a.json::a, which failed")
    assert not (asked.directory / "it_execution_output.txt").exists()


@pytest.mark.parametrize("caught", [False, True])
@pytest.mark.parametrize("by", OURS)
def test_the_original_s_searches_work(tmp_path: Path, by: str, caught: bool) -> None:
    request(tmp_path, by, "print('⚠️ odd')", "good")
    request(tmp_path, by, "raise ValueError('bad')", "bad")
    call = "run_step_flow('flows/bad.py', 'bad', 'b')"
    last = f"try:\n    {call}\nexcept Exception:\n    pass" if caught else call
    asked = request(
        tmp_path,
        by,
        "from pytest_ductaflow import run_notebook, run_step_flow\n"
        f"run_notebook('flows/good.py', execution_dir='runs/g')\n{last}",
        "all",
    )
    final = execute(asked)
    assert final.status == ("warning" if caught else "error")
    files = sorted(tmp_path.glob("runs/**/*_execution_output.txt"))
    texts = {file.name.removesuffix("_execution_output.txt"): file.read_text("utf-8") for file in files}
    failed = {name: re.findall("❌ Failed (.*)", text) for name, text in texts.items()}
    bad, whole = "bad | Instance: b | Error: ValueError: bad", "all | Instance: one | Error: ValueError: bad"
    assert failed == {"good": [], "bad": [bad], "all": [bad] if caught else [bad, whole]}
    completed = {name: re.findall("✅ Completed.*Time:", text) for name, text in texts.items()}
    assert completed == {"good": [], "bad": [], "all": ["✅ Completed good | Instance: g | Time:"]}
    assert {name for name, text in texts.items() if "⚠️" in text} == {"good", "all"}
    assert 'File "flows/bad.py", line 4, in <module>' in texts["bad"]
    assert ('File "flows/bad.py", line 4, in <module>' in texts["all"]) is not caught


def test_an_error_that_does_not_fit_on_the_disk_is_one_line(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> int:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(last_words, "append", full)
    result = run("print('printed')\n1 / 0")
    assert (result.status, result.error["type"], result.text) == (
        "error",
        "ZeroDivisionError",
        b"printed\n",
    )
    assert [warning["text"] for warning in result.record.warnings] == [
        "⚠️ the error is not in it_execution_output.txt: No space left on device"
    ]
    assert read_record(result.directory).printed is None


@pytest.mark.parametrize("instead", ["os.symlink('/etc/passwd', name)", "os.mkfifo(name)"])
def test_what_the_flow_put_in_the_place_of_its_text_file_is_not_touched(run: Run, instead: str) -> None:
    result = run(f"import os\nname = 'it_execution_output.txt'\nos.unlink(name)\n{instead}\n1 / 0")
    assert (result.status, result.error["type"]) == ("error", "ZeroDivisionError")
    [warning] = result.record.warnings
    assert warning["text"].startswith("⚠️ the error is not in it_execution_output.txt: ")
