"""Who competes: how each executes a project, and where its evidence of having done so is."""

from __future__ import annotations

import importlib.util
import json
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks.projects import RESULT, Project

_LOOPS: Final = Path(__file__).with_name("loops.py")
PYTEST: Final = (sys.executable, "-m", "pytest", "-q")
#: pytest plugins that cost time in every session: each competitor loads its own only.
_PLUGINS: Final = ("ductaflow", "nbmake", "nbval")


class WrongResultError(Exception):
    """A competitor did not do its work."""


@dataclass(frozen=True)
class Competitor:
    """A way to execute all of a project's configs, by one command.

    :param name: for the command line.
    :param title: for people.
    :param slow: a run takes about a second, so it is measured with fewer runs.
    :param printed: the file of a run directory that has what the flow printed; ``{flow}`` is its stem.
    """

    name: str
    title: str
    slow: bool = False
    printed: str | None = None

    def output(self, project: Project) -> Path:
        """The directory of the run directories, each named by its label."""
        return project.root / self.name

    def prepare(self, project: Project) -> None:
        """Remove what was there, so that nothing is up to date. Not timed."""
        shutil.rmtree(self.output(project), ignore_errors=True)

    def command(self, project: Project) -> list[str]:
        """The command, to be started in the project's root."""
        raise NotImplementedError

    def results(self, project: Project) -> dict[str, tuple[bytes, str | None]]:
        """What each run wrote, and printed if it can be told.

        :raises WrongResultError: if a run is missing.
        """
        found = {path.parent.name: path for path in self.output(project).glob(f"*/{RESULT}")}
        if found.keys() != project.configs.keys():
            raise WrongResultError(f"{self.title}: {len(found)} results of {len(project.configs)}")
        return {label: (path.read_bytes(), self._printed(project, path)) for label, path in found.items()}

    def _printed(self, project: Project, result: Path) -> str | None:
        if self.printed is None:
            return None
        path = result.with_name(self.printed.format(flow=project.flow))
        text = path.read_text(encoding="utf-8")
        if path.suffix != ".ipynb":
            return text
        outputs = [output for cell in json.loads(text)["cells"] for output in cell.get("outputs", ())]
        return "".join("".join(output["text"]) for output in outputs if output.get("name") == "stdout")


@dataclass(frozen=True)
class Ductaflow(Competitor):
    """``pytest instances/``, with an engine."""

    engine: str = ""
    arguments: tuple[str, ...] = ()

    def output(self, project: Project) -> Path:
        """``runs/<flow>/``."""
        return project.root / "runs" / project.flow

    def command(self, project: Project) -> list[str]:
        """pytest, without the other plugins."""
        own = (f"--ductaflow-engine={self.engine}", *self.arguments)
        return [*PYTEST, *others("ductaflow"), *own, "instances/"]

    def results(self, project: Project) -> dict[str, tuple[bytes, str | None]]:
        """As for all; the records must agree: green, and by this engine."""
        for label in project.configs:
            record = json.loads((self.output(project) / label / "run.json").read_text(encoding="utf-8"))
            if (record["status"], record["engine"]) != ("success", self.engine):
                raise WrongResultError(f"{self.title}: {label}: {record['status']}, {record['engine']}")
        return super().results(project)


@dataclass(frozen=True)
class Loop(Competitor):
    """A loop of ``loops.py``."""

    loop: str = ""
    original: Path | None = None

    def command(self, project: Project) -> list[str]:
        """The loop, in a Python of its own."""
        where = [str(self.original)] if self.original else []
        return [sys.executable, str(_LOOPS), self.loop, self.name, *where]


@dataclass(frozen=True)
class PlainPytest(Competitor):
    """A test function that executes the flow's code."""

    def command(self, project: Project) -> list[str]:
        """pytest, without plugins for notebooks."""
        return [*PYTEST, *others(), "test_flow.py"]


@dataclass(frozen=True)
class NotebookPytest(Competitor):
    """A pytest plugin for notebooks: one for each config, with the config in it."""

    option: str = ""

    def prepare(self, project: Project) -> None:
        """Also write the notebooks."""
        super().prepare(project)
        for label, config in project.configs.items():
            project.write_notebook(self.output(project) / label / f"{project.flow}.ipynb", config)

    def command(self, project: Project) -> list[str]:
        """pytest, with this plugin only."""
        return [*PYTEST, *others(self.name), self.option, f"{self.name}/"]


def others(*used: str) -> list[str]:
    """pytest's arguments that leave out the competitors' plugins but those used."""
    return [argument for name in _PLUGINS if name not in used for argument in ("-p", f"no:{name}")]


def ductaflow(engine: str, *arguments: str) -> Ductaflow:
    """This engine, or the plugin's other one."""
    return Ductaflow(
        name=f"{engine}-engine",
        title=" ".join(["pytest instances/", *arguments, f"(engine {engine})"]),
        slow=engine == "papermill",
        printed="{flow}_execution_output.txt",
        engine=engine,
        arguments=arguments,
    )


FORK_LIMIT: Final = Loop("fork-limit", "fork limit", printed="printed.txt", loop="fork")
PAPERMILL: Final = Loop("papermill", "papermill's API", slow=True, printed="{flow}.ipynb", loop="papermill")
NBMAKE: Final = NotebookPytest("nbmake", "pytest --nbmake", slow=True, option="--nbmake")
NBVAL: Final = NotebookPytest("nbval", "pytest --nbval-lax", slow=True, option="--nbval-lax")
SCRIPT: Final = Loop("script", "python flow.py", slow=True, printed="printed.txt", loop="script")
PLAIN: Final = PlainPytest("plain-pytest", "plain pytest, in process")
_ORIGINAL: Final[dict[str, Any]] = {
    "name": "original",
    "title": "the original's loop",
    "slow": True,
    "printed": "{flow}_executed.ipynb",
    "loop": "original",
}


def opponents(engine: str, original: Path | None) -> list[Competitor]:
    """All that compete with an engine.

    :param original: a directory with the original's package, ``None`` for the installed one.
    """
    other = [ductaflow("papermill")] if engine != "papermill" else []
    loop = Loop(**_ORIGINAL, original=original)
    return [FORK_LIMIT, NBMAKE, PAPERMILL, loop, NBVAL, SCRIPT, PLAIN, *other]


def missing(competitor: Competitor) -> str | None:
    """Why a competitor cannot take part, if so."""
    if isinstance(competitor, NotebookPytest) and importlib.util.find_spec(competitor.name) is None:
        return f"{competitor.name} is not installed (benchmarks/requirements.txt)"
    if isinstance(competitor, Loop) and competitor.loop == "original":
        if competitor.original is not None:
            found = (competitor.original / "ductaflow" / "__init__.py").is_file()
        else:  # the original is a package; our module of the same name is a file
            spec = importlib.util.find_spec("ductaflow")
            found = spec is not None and spec.submodule_search_locations is not None
        return None if found else "the original is not there: give a checkout with --original PATH"
    return None
