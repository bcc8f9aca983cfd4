"""The pytest plugin: options, and which parts a session needs. No logic, and nothing heavy at the top:
a session without instances pays next to nothing."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from pytest_ductaflow.live import Live
from pytest_ductaflow.names import check_pattern
from pytest_ductaflow.notices import warn
from pytest_ductaflow.options import executes_nothing, instance_files
from pytest_ductaflow.progress import ProgressLine
from pytest_ductaflow.reporting import Reporting
from pytest_ductaflow.settings import INSTANCES

if TYPE_CHECKING:
    from pytest_ductaflow.items import InstanceFile

_IDENTIFIER: Final = pytest.StashKey[str]()
_LAUNCHER: Final = pytest.StashKey[str]()
_CHOSE_DIST: Final = pytest.StashKey[bool]()
_FILES: Final = pytest.StashKey[set[Path]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options and ini keys."""
    group = parser.getgroup("ductaflow", "instances as tests (ductaflow)")
    group.addoption(
        "--ductaflow-engine",
        default=None,
        metavar="NAME",
        help="how cells are executed: fork (each run in a fork of a warm process; the default on Linux) "
        "or papermill (a fresh kernel for each run)",
    )
    group.addoption(
        "--ductaflow-timeout",
        default=None,
        metavar="SECONDS",
        help="limit for each instance that has no timeout of its own",
    )
    group.addoption(
        "--ductaflow-force",
        action="store_true",
        help="execute every selected instance, also those that are up to date",
    )
    group.addoption(
        "--ductaflow-explain",
        action="store_true",
        help="execute nothing; say for each selected instance whether it would run, and why",
    )
    group.addoption(
        "--ductaflow-accept",
        action="store_true",
        help="execute nothing; declare the selected instances up to date as they are",
    )
    group.addoption(
        "--ductaflow-with-needed",
        action="store_true",
        help="also select the instances that the selected ones need",
    )
    group.addoption(
        "--ductaflow-report",
        choices=("page", "none"),
        default="page",
        help="page: write runs/conductor_status_report.html while instances run (the default); none: do not",
    )
    group.addoption(
        "--ductaflow-compare",
        default=None,
        metavar="RUNS_DIR",
        help="compare this session with an older copy of runs/: lights, measures, durations",
    )
    group.addoption(
        "--ductaflow-tracebacks",
        choices=("clusters", "all"),
        default="clusters",
        help="clusters: instances that failed for the same cause are shown together (the default); "
        "all: a traceback for each",
    )
    group.addoption(
        "--no-execute",
        action="store_true",
        help="prepare run directories (config, notebook) and execute nothing",
    )
    parser.addini(
        "ductaflow_instances",
        "glob patterns of instance files, relative to the root directory",
        type="args",
        default=list(INSTANCES),
    )
    parser.addini(
        "ductaflow_preload",
        "modules that the engine fork imports once for all runs, besides the libraries that flows import",
        type="args",
        default=[],
    )


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config, args: list[str]) -> None:
    """Whether the user chose how xdist distributes, on the command line or in ``addopts``."""
    chosen = any(argument in ("-d", "--dist") or argument.startswith("--dist=") for argument in args)
    early_config.stash[_CHOSE_DIST] = chosen


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """What executes nothing needs no workers."""
    if config.getoption("--ductaflow-explain") and hasattr(config.option, "numprocesses"):
        config.option.numprocesses, config.option.dist, config.option.tx = 0, "no", []


def pytest_configure(config: pytest.Config) -> None:
    """Check options; markers; the session's identity, which xdist workers share."""
    for line in (
        "flow(name): the flow that an instance runs (set by ductaflow)",
        "build(name): the build that an instance runs (set by ductaflow)",
        "scenario(**values): what a scenario varies (set by ductaflow)",
    ):
        config.addinivalue_line("markers", line)
    engine, timeout = config.getoption("--ductaflow-engine"), config.getoption("--ductaflow-timeout")
    if engine is not None:
        _check_engine(engine)
    try:
        if timeout is not None and not 0 < float(timeout) < float("inf"):
            raise ValueError
    except ValueError:
        raise pytest.UsageError(
            f"--ductaflow-timeout: {timeout!r} is not a number of seconds above 0"
        ) from None
    instance_patterns(config)
    compared = config.getoption("--ductaflow-compare")
    if compared is not None and next(Path(compared).glob("*/*/run.json"), None) is None:
        raise pytest.UsageError(f"--ductaflow-compare: {compared!r} is no directory of runs: no */*/run.json")
    for module in config.getini("ductaflow_preload"):
        if not all(part.isidentifier() for part in module.split(".")):
            raise pytest.UsageError(f"ductaflow_preload: {module!r} is no module's name")
    exclusive = ("--ductaflow-force", "--ductaflow-explain", "--ductaflow-accept", "--no-execute")
    given = [option for option in exclusive if config.getoption(option)]
    if len(given) > 1 and given != ["--ductaflow-force", "--ductaflow-explain"]:
        raise pytest.UsageError(f"{' and '.join(given)} exclude each other")
    worker_input: dict[str, Any] | None = getattr(config, "workerinput", None)
    if worker_input is None:
        config.stash[_IDENTIFIER] = uuid.uuid4().hex
        config.pluginmanager.register(Reporting(config, config.stash[_IDENTIFIER]), "ductaflow-reporting")
        if not executes_nothing(config):
            progress = ProgressLine(config)
            config.pluginmanager.register(progress, "ductaflow-progress")
            live = Live(config, config.stash[_IDENTIFIER], progress.start)
            config.pluginmanager.register(live, "ductaflow-live")
        distribution = config.getoption("dist", "no")
        if distribution != "no" and config.stash.get(_CHOSE_DIST, False) and instance_files(config):
            text = "is respected: an instance may keep a worker waiting for what it needs"
            warn(config, f"--dist={distribution} {text}")
    else:
        config.stash[_IDENTIFIER] = worker_input["ductaflow_session"]
        config.stash[_LAUNCHER] = worker_input["ductaflow_launcher"]
        if worker_input["ductaflow_schedules"]:
            from pytest_ductaflow.scheduling import StartAtOnce

            config.pluginmanager.register(StartAtOnce(), "ductaflow-start-at-once")


def instance_patterns(config: pytest.Config) -> list[str]:
    """The ini ``ductaflow_instances``, checked."""
    patterns: list[str] = config.getini("ductaflow_instances")
    for pattern in patterns:
        if not pattern or Path(pattern).is_absolute():
            raise pytest.UsageError(f"ductaflow_instances: {pattern!r} is no pattern relative to the root")
        if reason := check_pattern(pattern):
            raise pytest.UsageError(f"ductaflow_instances: {pattern!r} {reason}")
    return patterns


def _check_engine(name: str) -> None:
    from pytest_ductaflow import engines
    from pytest_ductaflow.errors import DuctaflowError

    try:
        engines.choose(name)
    except DuctaflowError as error:
        raise pytest.UsageError(f"--ductaflow-engine: {error}") from None


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """All workers of one xdist run are one session, with one launcher."""
    node.workerinput["ductaflow_session"] = node.config.stash[_IDENTIFIER]
    from pytest_ductaflow.engines import launcher

    node.workerinput["ductaflow_launcher"] = str(launcher.current().directory)
    node.workerinput["ductaflow_schedules"] = _schedules(node.config)


@pytest.hookimpl(optionalhook=True, tryfirst=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Instances are distributed in the order of what they need, unless the user chose otherwise."""
    if not _schedules(config):
        return None
    from pytest_ductaflow.scheduling import Scheduling

    return Scheduling(config, log)


def _schedules(config: pytest.Config) -> bool:
    """Whether we distribute. Who chose another way keeps it; needed instances are waited for anyway."""
    chosen = config.stash.get(_CHOSE_DIST, False)
    return config.getoption("dist", "no") == "load" and not chosen and bool(instance_files(config))


def pytest_sessionstart(session: pytest.Session) -> None:
    """Flows and builds on the command line stand for their instances; xdist's workers are not there yet."""
    if any(word in argument for argument in session.config.args for word in (".py", "flows", "builds")):
        from pytest_ductaflow.arguments import name_instances

        name_instances(session.config)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Run directories hold results, never tests."""
    return True if collection_path == config.rootpath / "runs" else None


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> InstanceFile | None:
    """Instance files are collected; with the first one, what runs need is loaded."""
    if file_path.suffix != ".json" or not _is_instance_file(file_path, parent):
        return None
    from pytest_ductaflow.items import InstanceFile
    from pytest_ductaflow.order import Order
    from pytest_ductaflow.session import begin

    config = parent.config
    state = begin(config, config.stash[_IDENTIFIER], config.stash.get(_LAUNCHER, None))
    if not config.pluginmanager.has_plugin("ductaflow-order"):
        order = Order(state, with_needed=config.getoption("--ductaflow-with-needed"))
        config.pluginmanager.register(order, "ductaflow-order")
    return InstanceFile.from_parent(parent, path=file_path)


def _is_instance_file(path: Path, parent: pytest.Collector) -> bool:
    if parent.session.isinitpath(path):
        return True
    stash = parent.session.stash
    if _FILES not in stash:
        stash[_FILES] = instance_files(parent.config)
    return path in stash[_FILES]
