"""What builds, scripts and notebooks call to run a flow: ``run_notebook`` and ``run_step_flow``."""

from __future__ import annotations

import contextlib
import glob
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from numbers import Real
from pathlib import Path
from typing import Any, Final

from pytest_ductaflow import context, freshness, last_words, record, regular, strict_json
from pytest_ductaflow.digests import is_digest
from pytest_ductaflow.engines import tracing
from pytest_ductaflow.errors import (
    ConfigError,
    FlowError,
    FlowNotFound,
    RecordError,
    RunBusy,
    RunFailed,
    run_failed,
)
from pytest_ductaflow.execution import Request, Run, execute, prepare, up_to_date
from pytest_ductaflow.flow import NATIVE_KERNELS
from pytest_ductaflow.flow import read as read_flow
from pytest_ductaflow.record import RunDirectory
from pytest_ductaflow.references import RUNS
from pytest_ductaflow.settings import project_of, settings_of

#: A nested flow's lines carry its name, at least this wide, so a build's own warnings stay its own.
_ECHO_WIDTH: Final = 16
#: How much of a run's output is shown on the console.
_ECHO_LIMIT: Final = 1_000_000


@tracing.unseen()
def run_notebook(
    notebook_file: str | os.PathLike[str],
    notebooks_dir: str | os.PathLike[str] | None = None,
    config: dict[str, Any] | None = None,
    output_suffix: str | None = None,
    kernel_name: str | None = None,
    timeout: float | None = None,
    export_html: bool = False,
    execution_dir: str | os.PathLike[str] | None = None,
    project_root: str | os.PathLike[str] | None = None,
    no_execute: bool = False,
    *,
    reuse: bool | None = None,
) -> Path:
    """Execute a flow or build with a config, in a directory of its own.

    Its output appears on the console and in ``<flow>_execution_output.txt``. Inside a build each line
    is prefixed with the flow's name. Then a line says how it ended, ``✅ Completed …`` or ``❌ Failed …``.

    :param notebook_file: the ``.py`` file; a relative path is looked up in ``notebooks_dir``, in the
        working directory, then below the project root; without one below the root that pytest would find.
    :param config: injected as ``config``; JSON types only, a path becomes a text and a scalar of numpy a
        number or text. ``_project_root`` is added. Called in a script or
        notebook, a path such as ``runs/prepare/a/table.csv`` that leads into another run's directory
        becomes absolute, as in an instance file; in a flow or build, paths stay as they are.
    :param output_suffix: write a copy of the executed notebook, ``<flow><output_suffix>.ipynb``.
    :param kernel_name: must be ``python3``, or the kernel that the flow's header names: there it is chosen.
    :param timeout: seconds for the whole run.
    :param export_html: also write ``<flow>.html``.
    :param execution_dir: the run directory, created if needed; by default the working directory.
    :param project_root: by default the config's ``_project_root``, that of the surrounding run or of the run
        in whose directory a notebook is run by hand, or the working directory. If the flow or the run
        directory is outside that, the root that pytest would find for them. Flows can import from the root,
        from pytest's ``pythonpath`` and from beside them, wherever the caller lies.
    :param no_execute: prepare the directory and execute nothing.
    :param reuse: ``True`` takes the last run in that directory if it is up to date, ``False`` executes in
        any case. By default it is as in the surrounding run: taken in a build that pytest runs, executed in
        a script or notebook. With pytest's ``--ductaflow-force`` nothing is taken.
    :returns: path of the executed notebook, or of its copy.
    :raises RunFailed: if the run is red; a ``PapermillExecutionError``, too, if papermill is loaded.
    :raises FlowError: if the flow cannot be run; a ``FileNotFoundError``, too, if there is none.
    :raises ConfigError: if the config has a value that JSON has no type for, ``timeout`` is no number of
        seconds, or pytest's configuration cannot be read. It is a ``ValueError``.
    """
    config = strict_json.plain(dict(config or {}))
    _check_timeout(timeout)
    no_execute = bool(config.pop("_no_execute", False)) or no_execute
    stem, directory = Path(notebook_file).stem, Path(os.path.abspath(execution_dir or "."))
    with contextlib.nullcontext() if no_execute else _telling(stem, directory.name):
        given = project_root or config.get("_project_root")
        flow, root = _flow_and_root(Path(notebook_file), notebooks_dir, directory, given)
        _check_kernel(kernel_name, flow)
        request = _request(flow, root, directory, config)
        request = replace(request, timeout=timeout, export_html=export_html)
        if no_execute:
            prepared = prepare(request)
            _print(f"🔍 Prepared, not executed: {prepared.path}")
            return prepared.notebook
        around = context.current()
        wanted = around.reuse if around else None
        request = replace(request, reuse=True if wanted is None and reuse else wanted)
        if request.reuse and reuse is not False and (kept := _reuse(request)) is not None:
            return _copy(kept, output_suffix)
        result = execute(request, echo=_Echo(flow.stem if around else None))
        names = RunDirectory(directory.resolve(), flow.stem)
        notebook = _copy(names.notebook, output_suffix)
        if result.light.is_red:
            raise run_failed(str(names.path), result.error or {})
        return notebook


def _flow_and_root(
    notebook_file: Path,
    notebooks_dir: str | os.PathLike[str] | None,
    directory: Path,
    project_root: str | os.PathLike[str] | None,
) -> tuple[Path, Path]:
    around = context.current()
    if around is None:
        freshness.notice_installations()
    given = project_root or (around.project_root if around else _root_of_run_here())
    root = Path(os.path.abspath(given)) if given else None
    flow = _find_flow(notebook_file, notebooks_dir, root)
    return flow, root or project_of(flow, directory) or Path.cwd()


def _request(flow: Path, root: Path, directory: Path, config: dict[str, Any]) -> Request:
    """What to execute, as the run around this process would have it."""
    around = context.current()
    request = Request(
        kind="build" if flow.parent.name == "builds" else "flow",
        flow=flow,
        instance=directory.name,
        directory=directory,
        config=config if around else _with_absolute_references(config, root, directory),
        project_root=root,
    )
    if around is None:
        return replace(request, python_path=settings_of(root).python_path)
    return replace(
        request,
        session=around.session,
        engine=around.engine,
        python_path=around.python_path,
        earlier=written_earlier(around),
    )


def run_step_flow(
    notebook_path: str | os.PathLike[str] | None = None,
    step_name: str | None = None,
    instance_name: str | None = None,
    config: dict[str, Any] | None = None,
    suffix: str = "",
    *,
    notebook_file: str | os.PathLike[str] | None = None,
    reuse: bool | None = None,
) -> Path:
    """Execute a flow in ``runs/<step_name>/<instance_name><suffix>/`` below the working directory.

    :param notebook_path: the ``.py`` file, as for :func:`run_notebook`.
    :param step_name: the directory below ``runs``. :param instance_name: the run's name.
    :param config: as for :func:`run_notebook`. :param suffix: appended to the name.
    :param notebook_file: another name of ``notebook_path``, as the original's README has it.
    :param reuse: as for :func:`run_notebook`.
    :returns: path of the executed notebook. :raises: what :func:`run_notebook` raises.
    """
    if notebook_path is not None and notebook_file is not None:
        raise TypeError("run_step_flow: notebook_path and notebook_file are the same: give one of them")
    notebook_file = notebook_file if notebook_path is None else notebook_path
    if notebook_file is None or step_name is None or instance_name is None:
        raise TypeError("run_step_flow: needs notebook_path, step_name and instance_name")
    _print(f"🚀 Starting {Path(notebook_file).stem} | Instance: {instance_name}{suffix}")
    directory = Path(RUNS, step_name, f"{instance_name}{suffix}")
    return run_notebook(notebook_file, config=config, execution_dir=directory, reuse=reuse)


def _print(line: str) -> None:
    """Print a line; on a console that has no such characters, as escapes."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    print(line.encode(encoding, "backslashreplace").decode(encoding))


@contextlib.contextmanager
def _telling(flow: str, instance: str) -> Iterator[None]:
    """Print how a run ended."""
    started = time.monotonic()
    try:
        yield
    except Exception as error:
        told = {"type": type(error).__name__, "message": str(error)}
        _print(last_words.failed(flow, instance, error.error if isinstance(error, RunFailed) else told))
        raise
    _print(last_words.completed(flow, instance, time.monotonic() - started))


def _root_of_run_here() -> str | None:
    """The project root of the run in whose directory we are, if its notebook is run by hand."""
    here = Path.cwd()
    for path in sorted(here.glob("*_config.json")):
        with contextlib.suppress(ConfigError):
            config = strict_json.load(path)
            root = config.get("_project_root") if isinstance(config, dict) else None
            if isinstance(root, str) and here.is_relative_to(root):
                return root
    return None


def written_earlier(around: context.Context) -> dict[str, str]:
    """The files that the flows wrote that ended before in this build: name to digest."""
    ended = (event for event in context.read_events(Path(around.events)) if event["event"] == "ended")
    made = (item for event in ended for item in event["made_of"]["outputs"].items())
    return {name: state for name, state in made if is_digest(state)}


def _reuse(request: Request) -> Path | None:
    """The notebook of the last run if that is up to date; the run around is told as if it had just run."""
    try:
        run = Run(request)
        with record.lock(run.directory.path):
            found, _ = up_to_date(replace(request, directory=run.directory.path))
            if found is None or found.light.is_red:  # by what is expected of an instance in that directory
                return None
            run.take(found)
    except (RunBusy, RecordError, FlowError, ConfigError):  # executing it says what is wrong
        return None
    _print(f"♻️ {request.flow.stem}: up to date, not executed again")
    return run.directory.notebook


def _check_timeout(seconds: object) -> None:
    if seconds is not None and not (isinstance(seconds, Real) and seconds > 0):  # type: ignore[operator]
        raise ConfigError(f"timeout: a number of seconds greater than 0 or None, not {seconds!r}")


def _check_kernel(name: str | None, flow: Path) -> None:
    if name is not None and name not in NATIVE_KERNELS and name != read_flow(flow).kernel:
        raise FlowError(
            f"kernel_name={name!r}: {flow.name} asks for another kernel; the one to use stands in its header"
        )


def _copy(notebook: Path, suffix: str | None) -> Path:
    """The executed notebook under the name that was asked for."""
    if not suffix:
        return notebook
    copy = notebook.with_name(f"{notebook.stem}{suffix}.ipynb")
    record.write_atomically(copy, regular.read_bytes(notebook))
    return copy


def _with_absolute_references(config: dict[str, Any], root: Path, directory: Path) -> dict[str, Any]:
    """The config with the paths below ``runs`` made absolute that lead into another run's directory."""
    runs = root / RUNS

    def in_other_run(path: Path) -> bool:
        places = (path, *path.parents)
        made = [place for place in places if place.is_relative_to(runs) and place != runs]
        return path.is_relative_to(runs) and any(
            place != directory and (place / record.RECORD_NAME).is_file() for place in made
        )

    def resolve(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: resolve(item) for key, item in value.items()}
        if isinstance(value, list):
            return [resolve(item) for item in value]
        if not isinstance(value, str) or not value.startswith(("runs/", "./runs/")) or "\0" in value:
            return value
        path = Path(os.path.normpath(root / value))
        if path.is_relative_to(directory):
            return value
        wild = glob.has_magic(value)
        found = map(Path, glob.iglob(value, root_dir=root, recursive=True)) if wild else [path]
        return str(path) if any(in_other_run(root / one) for one in found) else value

    resolved: dict[str, Any] = resolve(config)
    return resolved


def _find_flow(name: Path, notebooks_dir: str | os.PathLike[str] | None, root: Path | None) -> Path:
    if notebooks_dir is not None:
        name = Path(notebooks_dir) / name
    found = Path(os.path.abspath(name))
    if not found.is_file():
        root = root or settings_of(Path.cwd()).root
        found = root / name
    if found.is_file():
        if found.suffix != ".py":
            raise FlowError(f"{found} is not a .py file (of a notebook, jupytext --to py:percent makes one)")
        return found
    raise FlowNotFound(f"there is no flow {name}, neither in {Path.cwd()} nor in the project root {root}")


class _Echo:
    """Shows a run's output on the console, up to a limit."""

    def __init__(self, name: str | None) -> None:
        self._prefix = f"{name[:40]:<{_ECHO_WIDTH - 2}}│ " if name else ""
        self._at_line_start = True
        self._left = _ECHO_LIMIT

    def __call__(self, text: str) -> None:
        if self._left <= 0:
            return
        self._left -= len(text)
        if self._prefix:
            text = text.replace("\r\n", "\n").replace("\r", "\n")
            lines = text.split("\n")
            starts = [self._at_line_start] + [True] * (len(lines) - 1)
            shown = [
                self._prefix + line if start and line else line
                for start, line in zip(starts, lines, strict=True)
            ]
            self._at_line_start = not lines[-1]
            text = "\n".join(shown)
        if self._left <= 0:
            text += f"\n{self._prefix}[… more output: see the run's output file …]\n"
        sys.stdout.write(text)
        sys.stdout.flush()
