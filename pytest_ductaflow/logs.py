"""Loggers as projects of the original ductaflow set them up. ``print`` does as well."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

from pytest_ductaflow import context
from pytest_ductaflow.notebook_html import convert_notebook_to_html


def setup_execution_logging(
    log_file_path: str | os.PathLike[str],
    logger_name: str = "ductaflow",
    level: int = logging.INFO,
    propagate: bool = False,
) -> logging.Logger:
    """A logger that writes to a file, with time and level, and to the console, the message only.

    :param log_file_path: made anew, with its directory. The output file of the run around has all that is
        printed anyway: if it is that one, the logger only prints.
    :param logger_name: handlers that a logger of this name has are closed and replaced.
    :param level: of the logger. :param propagate: whether loggers above get the messages, too.
    """
    path = Path(os.path.abspath(log_file_path))
    path.parent.mkdir(parents=True, exist_ok=True)
    around = context.current()
    logger = _new_logger(logger_name, level, propagate)
    if around is None or Path(around.output) != path.parent.resolve() / path.name:
        logger.addHandler(_file_handler(path, "w"))
    return logger


def setup_conductor_logging(
    session_outputs_dir: str | os.PathLike[str] = "session_outputs",
    logger_name: str = "conductor",
    level: int = logging.INFO,
) -> logging.Logger:
    """A logger for a conductor: one file a day, ``conductor_<date>.txt``, to which it appends.

    ``logger.info("…", extra={"save_state": True})`` also saves the script that logs this, or the
    ``conductor.py`` in the working directory, as a notebook beside it, and as HTML if nbconvert is there.
    ``extra={"label": …}`` names it; otherwise the message does.

    :param session_outputs_dir: made if needed. The logger has it as ``session_outputs_dir``.
    :param logger_name: handlers that a logger of this name has are closed and replaced.
    :param level: of the logger.
    """
    directory = Path(session_outputs_dir)
    directory.mkdir(parents=True, exist_ok=True)
    logger: Any = _new_logger(logger_name, level, propagate=False)
    logger.addHandler(_file_handler(directory / f"conductor_{datetime.now():%Y%m%d}.txt", "a"))
    logger.addHandler(_Checkpoints(directory))
    logger.session_outputs_dir = directory
    return logger  # type: ignore[no-any-return] # it has an attribute that loggers lack


def setup_console_encoding() -> None:
    """Let ``print`` write any character to a Windows console; elsewhere nothing needs to be done."""
    if sys.platform == "win32":
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(AttributeError, OSError, ValueError):  # another kind of stream
                stream.reconfigure(encoding="utf-8", errors="replace")  # type: ignore[union-attr]


def _new_logger(name: str, level: int, propagate: bool) -> logging.Logger:
    logger = logging.getLogger(name)
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
        handler.close()
    logger.setLevel(level)
    logger.propagate = propagate
    console = logging.StreamHandler()
    console.setFormatter(logging.Formatter("%(message)s"))
    logger.addHandler(console)
    return logger


def _file_handler(path: Path, mode: str) -> logging.FileHandler:
    handler = logging.FileHandler(path, mode=mode, encoding="utf-8")
    form = "%(asctime)s - %(name)s - %(levelname)s - %(message)s"
    handler.setFormatter(logging.Formatter(form, datefmt="%Y-%m-%d %H:%M:%S"))
    return handler


class _Checkpoints(logging.Handler):
    """Saves the conductor as a notebook when a message asks for that."""

    def __init__(self, directory: Path) -> None:
        super().__init__()
        self._directory = directory

    def emit(self, record: logging.LogRecord) -> None:
        if not getattr(record, "save_state", False):
            return
        try:
            self._save(record)
        except Exception:
            self.handleError(record)

    def _save(self, record: logging.LogRecord) -> None:
        import jupytext  # slow to import, like all of Jupyter

        source = Path(record.pathname)
        if not source.is_file():  # a notebook's cell
            source = Path("conductor.py")
        label = re.sub(r"[^\w-]", "_", str(getattr(record, "label", None) or record.getMessage()))[:30]
        name = f"{source.stem}_{datetime.now():%Y%m%d_%H%M%S}_{label}.ipynb"
        jupytext.write(jupytext.read(source), self._directory / name)
        with contextlib.suppress(ImportError, RuntimeError):  # no nbconvert: the notebook is what counts
            convert_notebook_to_html(self._directory / name, (self._directory / name).with_suffix(".html"))
