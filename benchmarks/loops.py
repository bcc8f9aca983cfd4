"""The competitors that are a loop in a process of their own: ``python loops.py LOOP OUTPUT [ORIGINAL]``.

The working directory is the project; ``ORIGINAL`` is a directory to import the original from. Each loop
executes the flow once for each config, one after the other, in ``OUTPUT/<label>/``.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Final


def fork(flow: Path, configs: list[Path], output: Path) -> None:
    """The limit: nothing but a fork of a warm process, and the flow's compiled code."""
    import pandas  # noqa: F401 (this is what makes it warm)

    code = compile(flow.read_text(), str(flow), "exec")
    for config in configs:
        directory = output / config.stem
        directory.mkdir(parents=True)
        child = os.fork()
        if child == 0:
            status = 1
            try:
                os.chdir(directory)
                os.dup2(os.open("printed.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644), 1)
                sys.argv = [str(flow), str(config)]
                exec(code, {"__name__": "__main__"})
                sys.stdout.flush()
                status = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(status)
        if os.waitpid(child, 0)[1] != 0:
            raise SystemExit(f"{config.stem} failed")


def script(flow: Path, configs: list[Path], output: Path) -> None:
    """``python flow.py``, a new Python for each run."""
    for config in configs:
        directory = output / config.stem
        directory.mkdir(parents=True)
        with open(directory / "printed.txt", "wb") as printed:
            subprocess.run([sys.executable, flow, config], cwd=directory, stdout=printed, check=True)


def papermill(flow: Path, configs: list[Path], output: Path) -> None:
    """papermill's API with its default engine; the notebook is there already, nothing is converted."""
    from papermill import execute_notebook

    notebook = flow.parent.with_name("notebooks") / f"{flow.stem}.ipynb"
    for config in configs:
        directory = output / config.stem
        directory.mkdir(parents=True)
        execute_notebook(
            notebook,
            directory / notebook.name,
            parameters={"config": json.loads(config.read_text())},
            cwd=directory,
            progress_bar=False,
        )


def original(flow: Path, configs: list[Path], output: Path) -> None:
    """The loop of the original's users; without its HTML export, which takes another second."""
    from ductaflow import run_notebook

    for config in configs:
        run_notebook(
            flow,
            config=json.loads(config.read_text()),
            execution_dir=output / config.stem,
            export_html=False,
        )


LOOPS: Final[dict[str, Callable[[Path, list[Path], Path], None]]] = {
    "fork": fork,
    "script": script,
    "papermill": papermill,
    "original": original,
}

if __name__ == "__main__":
    sys.path[:1] = sys.argv[3:]  # not this file's directory
    project = Path.cwd()
    (only_flow,) = project.glob("flows/*.py")
    LOOPS[sys.argv[1]](only_flow, sorted(project.glob("configs/*.json")), project / sys.argv[2])
