"""``run_instances``: the rows of a data frame as runs, from a notebook, a script or a build.

Each row is the instance that :func:`~pytest_ductaflow.write_instances` makes of it, and its run is the one
that pytest would make: whichever of the two made it, it is up to date for the other.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pytest_ductaflow import context, digests, engines, execution, freshness, graph, project, record
from pytest_ductaflow.engines import preload, tracing, warm
from pytest_ductaflow.errors import (
    ConfigError,
    InstanceError,
    RecordError,
    RunBusy,
    describe_error,
    run_failed,
)
from pytest_ductaflow.execution import PROCESS_SESSION, Request
from pytest_ductaflow.expectations import Expectation
from pytest_ductaflow.frame import frame_of
from pytest_ductaflow.instance import Instance, parse_instances, text_of_instances
from pytest_ductaflow.leftovers import Leftovers
from pytest_ductaflow.needed import Needed
from pytest_ductaflow.nested import written_earlier
from pytest_ductaflow.record import Record
from pytest_ductaflow.references import RUNS
from pytest_ductaflow.settings import Settings, settings_of
from pytest_ductaflow.status import Status
from pytest_ductaflow.strict_json import dotted

if TYPE_CHECKING:
    import pandas

_NAME: Final = "run_instances"


def run_instances(
    df: pandas.DataFrame,
    *,
    flow: str | None = None,
    build: str | None = None,
    config: Mapping[str, Any] | str | None = None,
    project_root: str | os.PathLike[str] | None = None,
    force: bool = False,
    stop_on_error: bool = False,
    progress: bool | None = None,
    **keys: Any,
) -> pandas.DataFrame:
    """Run an instance for each row of a data frame; only what changed is executed.

    The arguments are those of :func:`write_instances`, and so are the instances: names, steps and run
    directories, templates, references, inputs, timeouts and expectations. A run that pytest made of such an
    instance is up to date here, and the other way round. Without ``name``, names begin with the stem of the
    flow's file. What a row refers to runs before it. In a flow or build these are nested runs: their
    directories, ``runs/<step>/<name>``, are below its own.

    A red run does not stop the others, but what refers to its outputs is not executed, which is red as well.
    Of marks, ``skip``, ``skipif`` and ``xfail`` with ``"run": false`` keep a row from being executed: its
    status is ``skipped``. A run that is expected to fail is red, but does not stop the loop.
    Ctrl-C, or interrupting the notebook's cell, stops the run in progress and the loop.

    :param df: as for :func:`write_instances`.
    :param flow: path of the flow below the project root; or
    :param build: path of the build. Exactly one of the two.
    :param config: the base config that each row is merged over, or the path of a JSON file below the root.
    :param project_root: by default that of the surrounding run, or the one that pytest would find from the
        working directory. pytest's ``pythonpath`` counts, too.
    :param force: execute also what is up to date.
    :param stop_on_error: raise ``RunFailed`` at the first run that is red.
    :param progress: whether to show a progress bar, and a line for each run that is red. By default not in a
        flow or build.
    :param keys: other keys of the instance file: ``name``, ``step``, ``timeout``, ``inputs``, ``expect``, …
    :returns: the runs as :func:`load_runs` gives them, in the order of ``df`` and with its index, and a
        column ``up_to_date``: whether the last run was taken instead of executing it.
    :raises ConfigError: if something is wrong with the rows or arguments; nothing is executed then.
    :raises RunFailed: with ``stop_on_error``. :raises RunBusy: in a flow or build, if a directory is in use.
    """
    around = context.current()
    settings = _settings(around, project_root)
    instances = _instances(df, settings, flow=flow, build=build, config=config, **keys)
    with _Loop(instances, settings, around, force=force) as loop:
        shown = around is None if progress is None else progress
        with _progress_bar(len(instances), shown=shown) as step:
            for instance in loop.order:
                made = loop.run(instance)
                red = made is not None and made.light.is_red
                step(f"🔴 {instance.name}: {describe_error(made.error or {})}" if made and red else None)
                if made and red and stop_on_error and not _is_xfail(instance):
                    raise run_failed(str(loop.directory_of(instance)), made.error or {})
    return loop.frame(df)


def _settings(around: context.Context | None, root: str | os.PathLike[str] | None) -> Settings:
    if around is not None:
        given = Path(os.path.abspath(root or around.project_root))
        with tracing.unseen():
            return replace(settings_of(given), root=given, python_path=around.python_path)
    if root is None:
        return settings_of(Path.cwd())
    return replace(settings_of(Path(os.path.abspath(root))), root=Path(os.path.abspath(root)))


def _instances(df: pandas.DataFrame, settings: Settings, **given: Any) -> list[Instance]:
    text = text_of_instances(_NAME, df, **given)
    stem = Path(given["flow"] or given["build"]).stem
    try:
        instances = parse_instances(text, settings.root / f"{stem}.json", settings.root)
    except InstanceError as error:
        place = f"{error.key}: " if error.key else ""
        raise ConfigError(f"{_NAME}: {place}{error.problem}") from None
    return [replace(one, expected=tuple(map(_from_here, one.expected))) for one in instances]


def _from_here(expectation: Expectation) -> Expectation:
    return replace(expectation, file=f"{_NAME}(expect=…)", line=0)


class _Loop:
    """The runs of some instances, and what came of them.

    :param around: the run that this process is in.
    """

    def __init__(
        self,
        instances: Sequence[Instance],
        settings: Settings,
        around: context.Context | None,
        *,
        force: bool,
    ) -> None:
        self._settings, self._around = settings, around
        self._forced = force or (around is not None and around.reuse is False)
        self._base = Path(around.run_directory) if around else settings.root
        directories = [instance.run_directory for instance in instances]
        rows = {f"{_NAME}::{instance.name}": instance for instance in instances}
        self._project = project.around(rows, settings.root, settings.instances)
        for key in directories:
            for place, text in self._project.problems.get(key, ()):
                raise ConfigError(f"{_NAME}: {dotted(place)}: {text}")
        self._instances = {key: self._project.instances[key] for key in directories}
        needs = {
            key: [needed for needed in one.needed if needed in self._instances]
            for key, one in self._instances.items()
        }
        if around is not None and any(needs.values()):
            key, needed = next((key, needed) for key, needed in needs.items() if needed)
            raise ConfigError(
                f"{_NAME}: {key} refers to {needed[0]}; in a flow or build, where runs are below its own "
                "directory, rows cannot refer to one another"
            )
        ordered, cycles = graph.order(directories, needs)
        if cycles:
            raise ConfigError(f"{_NAME}: dependency cycle: {' → '.join(cycles[0])}")
        self.order: Final = [self._instances[key] for key in ordered]
        self._leftovers = Leftovers(settings.root, settings.instances)
        self._leftovers.known |= set(directories)
        self._made: dict[str, Record | None] = {}
        self._needed = Needed(self._project, settings.root, self._made)
        self._taken: set[str] = set()
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> _Loop:
        freshness.notice_installations()
        if self._around is None:
            self._stack.enter_context(warm.session())
            if engines.default() == "fork":
                root, builds = self._settings.root, self.order[0].kind == "build"
                modules = preload.modules_for(root, [root / self.order[0].flow], builds=builds)
                warm.current().preload(modules, root)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()
        if self._around is None and (self._settings.root / RUNS).is_dir():
            digests.of_project(self._settings.root).save()

    def directory_of(self, instance: Instance) -> Path:
        """Absolute path of the run directory."""
        return self._base / instance.run_directory

    @tracing.unseen()
    def run(self, instance: Instance) -> Record | None:
        """The record of an instance's run, executed if it is not up to date; ``None`` if it is skipped."""
        key = instance.run_directory
        self._made[key] = None
        if not _is_skipped(instance):
            request = self._request(instance)
            reason = self._needed.refusal(instance)
            self._made[key] = execution.refuse(request, reason) if reason else self._run(request, key)
        return self._made[key]

    def _run(self, request: Request, key: str) -> Record:
        def taken() -> Record | None:
            found = None if self._forced else execution.take(request)
            if found is not None:
                self._taken.add(key)
            return found

        while True:
            try:
                return execution.execute(request, done=taken)
            except RunBusy:
                if self._around is not None:  # it may be waiting for us
                    raise
            with record.lock(request.directory, wait=True):
                pass  # another process makes the same run: in the next round that is taken

    def _request(self, instance: Instance) -> Request:
        around, directory = self._around, self.directory_of(instance)
        if directory.parent.is_symlink():
            raise RecordError(f"{directory.parent} is a symbolic link: an instance writes below runs only")
        instance, needed = self._needed.without_left_out(instance, _NAME)
        request = Request(
            kind=instance.kind,
            flow=self._settings.root / instance.flow,
            instance=instance.name,
            directory=directory,
            config=instance.config,
            project_root=self._settings.root,
            session=around.session if around else PROCESS_SESSION,
            engine=around.engine if around else engines.default(),
            timeout=instance.timeout,
            inputs=instance.inputs,
            scenario=instance.scenario,
            python_path=self._settings.python_path,
            reuse=not self._forced,
            earlier=written_earlier(around) if around else {},
            expected=instance.expected,
            needed=needed,
            remarks=instance.remarks,
        )
        if around is not None:  # what a nested run read, the run around it is asked for
            return request
        found = self._leftovers
        return replace(request, leftovers=found.directories, undecided=found.undecided)

    def frame(self, df: pandas.DataFrame) -> pandas.DataFrame:
        """The records, in the order of the rows."""
        found = []
        for key, one in self._instances.items():
            path, made = self.directory_of(one), self._made[key]
            shown = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
            not_run = Record(one.kind, one.flow, one.name, Status.ERROR.value, "", config=one.config)
            found.append((shown, made or not_run))
        frame = frame_of(found, lambda _: True)
        skipped = [self._made[key] is None for key in self._instances]
        frame.loc[skipped, ["status", "light"]] = ["skipped", None]
        frame["parent"] = self._around.run_directory if self._around else None
        frame["up_to_date"] = [key in self._taken for key in self._instances]
        frame.index = df.index.take([int(one.place[1]) for one in self._instances.values()])
        return frame


def _is_skipped(instance: Instance) -> bool:
    """Whether a mark keeps it from being executed."""
    return any(
        mark.name in ("skip", "skipif") or (mark.name == "xfail" and mark.arguments.get("run") is False)
        for mark in instance.marks
        if mark.arguments.get("condition", True)
    )


def _is_xfail(instance: Instance) -> bool:
    return any(mark.name == "xfail" and mark.arguments.get("condition", True) for mark in instance.marks)


@contextlib.contextmanager
def _progress_bar(total: int, *, shown: bool) -> Iterator[Callable[[str | None], None]]:
    """A progress bar; what it gives is called after each run, with a line to print."""
    if not shown:
        yield lambda line: None
        return
    with _tqdm()(total=total, unit="run") as bar:

        def step(line: str | None) -> None:
            if line is not None:
                bar.write(line)
            bar.update()

        yield step


def _tqdm() -> Any:
    """tqdm as a notebook or a terminal shows it."""
    try:
        from tqdm.auto import tqdm  # comes with papermill
    except Warning:  # a filter made an error of its hint that ipywidgets are missing
        from tqdm.std import tqdm
    return tqdm
