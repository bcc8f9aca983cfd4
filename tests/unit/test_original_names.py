"""The public names of the original ductaflow, with their signatures, and what its projects rely on."""

from __future__ import annotations

import inspect
import logging
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import papermill
import pytest

import pytest_ductaflow
from pytest_ductaflow import context
from pytest_ductaflow.errors import RunFailed, run_failed

if TYPE_CHECKING:
    from collections.abc import Iterator

ALIAS = Path(__file__).parents[2] / "pytest_ductaflow" / "_alias" / "ductaflow.py"

#: The original's public functions (mjbaske/ductaflow, 0.3.0), with their parameters in order.
SIGNATURES = {
    "run_notebook": "notebook_file notebooks_dir config output_suffix kernel_name timeout export_html "
    "execution_dir project_root no_execute",
    "run_step_flow": "notebook_path step_name instance_name config suffix",
    "debug_flow": "flow_path execution_dir config force",
    "display_config_summary": "config flow_name",
    "generate_config_markdown": "config flow_name",
    "unpack_config": "config flow_name caller_locals",
    "analyze_execution_logs": "output_dir",
    "generate_status_report": "results model_root",
    "convert_notebook_to_html": "notebook_path html_path template",
    "load_cli_config": "default_config_path description",
    "is_notebook_execution": "",
    "setup_execution_logging": "log_file_path logger_name level propagate",
    "setup_conductor_logging": "session_outputs_dir logger_name level",
    "setup_console_encoding": "",
}


@pytest.mark.parametrize("name", SIGNATURES)
def test_it_takes_what_the_original_takes_in_its_order(name: str) -> None:
    parameters = inspect.signature(getattr(pytest_ductaflow, name)).parameters.values()
    positional = [one.name for one in parameters if one.kind is one.POSITIONAL_OR_KEYWORD]
    assert positional == SIGNATURES[name].split()
    assert all(one.default is not one.empty for one in parameters if one.kind is one.KEYWORD_ONLY)


def python(code: str, directory: Path, **environment: str) -> str:
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=directory,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


@pytest.mark.parametrize("copies", [("lib",), (".",), (".", "lib")], ids=["installed", "in the root", "both"])
def test_all_ways_to_import_them(tmp_path: Path, copies: tuple[str, ...]) -> None:
    for place in copies:
        (tmp_path / place).mkdir(exist_ok=True)
        (tmp_path / place / "ductaflow.py").write_text(ALIAS.read_text("utf-8"), encoding="utf-8")
    code = (
        "import ductaflow, ductaflow.ductaflow as inner\n"
        "from ductaflow.ductaflow import run_notebook, setup_console_encoding\n"
        "from ductaflow import run_notebook as same\n"
        "assert run_notebook is same is inner.run_notebook is ductaflow.ductaflow.run_notebook\n"
        "import pytest_ductaflow\n"
        "assert run_notebook is pytest_ductaflow.run_notebook\n"
        "print(ductaflow.__file__)"
    )
    shown = python(code, tmp_path, PYTHONPATH=str(tmp_path / "lib"))
    assert Path(tmp_path, shown).resolve().parent.name in {Path(tmp_path, place).name for place in copies}


@pytest.mark.parametrize("copies", [("a", "b"), ("a",)])
def test_a_copy_steps_back_for_the_original(tmp_path: Path, copies: tuple[str, ...]) -> None:
    for place in copies:
        (tmp_path / place).mkdir()
        (tmp_path / place / "ductaflow.py").write_text(ALIAS.read_text("utf-8"), encoding="utf-8")
    original = tmp_path / "original/ductaflow"
    original.mkdir(parents=True)
    (original / "__init__.py").write_text("mark = 'the original'\n")
    path = os.pathsep.join(str(tmp_path / place) for place in (*copies, "original"))
    assert python("import ductaflow; print(ductaflow.mark)", tmp_path, PYTHONPATH=path) == "the original"


# --- what its projects catch -----------------------------------------------------------------------


def test_errors_are_those_that_the_original_raises(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match="there is no flow"):
        pytest_ductaflow.run_notebook("flows/none.py", execution_dir="runs/x")
    with pytest.raises(ValueError, match="no config given"):
        pytest_ductaflow.debug_flow("flows/none.py", "runs/x")
    with pytest.raises(RuntimeError, match="no_such"):
        pytest_ductaflow.convert_notebook_to_html("a.ipynb", "a.html", template="no_such")


def test_a_red_run_is_papermill_s_error_too() -> None:
    details = {"type": "KeyError", "message": "'x'", "file": "flows/a.py", "line": 3, "cell": 2}
    error = run_failed("/p/runs/a", details)
    assert isinstance(error, RunFailed)
    assert isinstance(error, papermill.PapermillExecutionError)
    assert (error.ename, error.evalue, error.cell_index) == ("KeyError", "'x'", 2)
    assert str(error) == str(RunFailed("/p/runs/a", details))
    assert repr(error).startswith("RunFailed(")
    copy = pickle.loads(pickle.dumps(error))
    assert isinstance(copy, papermill.PapermillExecutionError)
    assert (copy.directory, copy.error) == ("/p/runs/a", details)


def test_without_papermill_it_is_ours_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "papermill.exceptions", raising=False)
    assert type(run_failed("/p", {})) is RunFailed


# --- loggers ---------------------------------------------------------------------------------------


@pytest.fixture
def loggers() -> Iterator[list[logging.Logger]]:
    made: list[logging.Logger] = []
    yield made
    for logger in made:
        for handler in list(logger.handlers):
            logger.removeHandler(handler)
            handler.close()


def test_a_logger_writes_to_its_file_and_to_the_console(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], loggers: list[logging.Logger]
) -> None:
    for _ in range(2):  # set up again, it does not write twice
        logger = pytest_ductaflow.setup_execution_logging(tmp_path / "logs/a.txt", "flow:a")
        loggers.append(logger)
    logger.warning("seen")
    logger.debug("below its level")
    assert capsys.readouterr().err == "seen\n"
    (line,) = (tmp_path / "logs/a.txt").read_text().splitlines()
    assert line.endswith(" - flow:a - WARNING - seen")
    assert (logger.name, logger.level, logger.propagate) == ("flow:a", logging.INFO, False)
    with_parent = pytest_ductaflow.setup_execution_logging(
        tmp_path / "b.txt", "b", logging.DEBUG, propagate=True
    )
    loggers.append(with_parent)
    assert (with_parent.level, with_parent.propagate) == (logging.DEBUG, True)


def test_a_logger_does_not_overwrite_what_the_run_around_prints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loggers: list[logging.Logger]
) -> None:
    output = tmp_path / "a_execution_output.txt"
    output.write_text("printed\n")
    here = str(tmp_path)
    around = context.Context(here, here, "", "", "fork", (), str(output), str(tmp_path / "events"))
    around.save(tmp_path / "context.json")
    monkeypatch.setenv(context.VARIABLE, str(tmp_path / "context.json"))
    monkeypatch.chdir(tmp_path)
    loggers.append(pytest_ductaflow.setup_execution_logging("a_execution_output.txt"))
    loggers[0].info("more")
    assert output.read_text() == "printed\n"


def test_a_conductor_s_logger_appends_and_saves_its_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loggers: list[logging.Logger]
) -> None:
    monkeypatch.chdir(tmp_path)
    for message in ("first", "second"):
        logger = pytest_ductaflow.setup_conductor_logging()
        loggers.append(logger)
        logger.info(message)
    logger.info("now", extra={"save_state": True, "label": "after step 1"})
    directory = tmp_path / "session_outputs"
    assert logger.session_outputs_dir == Path("session_outputs")  # type: ignore[attr-defined]
    (log,) = directory.glob("conductor_*.txt")
    assert [line.rpartition(" - ")[2] for line in log.read_text().splitlines()] == ["first", "second", "now"]
    (notebook,) = directory.glob("*.ipynb")
    assert notebook.stem.startswith("test_original_names_")
    assert notebook.stem.endswith("_after_step_1")
