"""Runs that are up to date are taken outside pytest, too, if one asks for it."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

import nbformat
import pytest

if TYPE_CHECKING:
    from tests.conftest import Project

LOG = 'open(config["_project_root"] + "/log.txt", "a").write(f"{config.get(\'x\', 0)}\\n")\n'
STEP = LOG + "open('out.csv', 'w').write(str(config['x']))"
#: Each takes the run if it is up to date.
NOTEBOOK = "run_notebook('flows/step.py', config={'x': 1}, execution_dir='runs/step/one', reuse=True)"
STEP_FLOW = "run_step_flow('flows/step.py', 'step', 'one', {'x': 1}, reuse=True)"
IMPORT = "from pytest_ductaflow import *\n"


@pytest.fixture
def step(project: Project) -> Project:
    project.flow("step", STEP)
    return project


def executed(project: Project) -> list[str]:
    """What was executed since the last look."""
    log = project.root / "log.txt"
    found = log.read_text().split() if log.exists() else []
    log.unlink(missing_ok=True)
    return found


def script(project: Project, code: str, *, stdin: bool = False) -> subprocess.CompletedProcess[str]:
    """Run a script in the project's root."""
    path = project.write("by_hand.py", IMPORT + code)
    if stdin:
        return project.python("-", given=path.read_text())
    return project.python(str(path))


@pytest.mark.parametrize(
    ("call", "stdin"), [(NOTEBOOK, True), (STEP_FLOW, False)], ids=["run_notebook", "run_step_flow"]
)
def test_a_script_takes_what_is_up_to_date_if_it_asks_to(step: Project, call: str, stdin: bool) -> None:
    script(step, call, stdin=stdin)
    assert executed(step) == ["1"]
    assert "♻️ step: up to date" in script(step, call, stdin=stdin).stdout
    assert executed(step) == []
    script(step, call.replace("'x': 1", "'x': 2"), stdin=stdin)
    assert executed(step) == ["2"]
    for asked in ("reuse=False", "reuse=None"):
        script(step, call.replace("'x': 1", "'x': 2").replace("reuse=True", asked), stdin=stdin)
        assert executed(step) == ["2"], asked


def test_what_ran_in_one_way_is_up_to_date_for_the_other(step: Project) -> None:
    step.instance("step", config={"x": 1}, name="one")
    step.run("instances")
    executed(step)
    script(step, NOTEBOOK + "\n" + STEP_FLOW)
    assert executed(step) == []
    shutil.rmtree(step.root / "runs")
    script(step, NOTEBOOK)
    executed(step)
    step.run("instances").stdout.fnmatch_lines(["*1 up to date*"])
    assert executed(step) == []


EXECUTE = ["-c", "from nbclient.cli import main; main()", "by_hand.ipynb"]  # `jupyter execute`
#: A conductor: where it lies, how it is started, from which directory, and what it puts before the paths.
CONDUCTORS: dict[str, tuple[str, list[str], str, str, str]] = {
    "in the root": ("by_hand.py", ["by_hand.py"], ".", "", ""),
    "in a subdirectory": ("tools/by_hand.py", ["tools/by_hand.py"], ".", "", ""),
    "as a module": ("tools/by_hand.py", ["-m", "tools.by_hand"], ".", "", ""),
    "from a subdirectory": ("tools/by_hand.py", ["by_hand.py"], "tools", "../", "../"),
    "with the flow as pytest names it": ("tools/by_hand.py", ["by_hand.py"], "tools", "", "../"),
    "from elsewhere": ("tools/by_hand.py", ["ROOT/tools/by_hand.py"], "ELSEWHERE", "ROOT/", "ROOT/"),
    "a notebook in the root": ("by_hand.ipynb", EXECUTE, ".", "", ""),
    "a notebook": ("tools/by_hand.ipynb", EXECUTE, "tools", "../", "../"),
}


@pytest.mark.parametrize("way", CONDUCTORS)
def test_wherever_a_conductor_lies_its_runs_are_pytest_s(
    project: Project, tmp_path_factory: pytest.TempPathFactory, way: str
) -> None:
    """Its own directory, which Python puts on its path, is no flow's; pytest's ``pythonpath`` is."""
    path, arguments, directory, to_flow, to_run = CONDUCTORS[way]
    elsewhere = str(tmp_path_factory.mktemp("elsewhere"))
    project.ini("pythonpath = lib")
    project.write("lib/helper.py", "SCALE = 2\n")
    project.write("tools/helper.py", "raise SystemExit('the wrong one')\n")
    project.flow("step", "import helper\nimport step_tools\n" + STEP)
    project.write("flows/step_tools.py", "")
    project.instance("step", config={"x": 1}, name="one")
    code = IMPORT + NOTEBOOK.replace("'flows/", f"'{to_flow}flows/").replace("'runs/", f"'{to_run}runs/")
    code = code.replace("ROOT", str(project.root))
    cell = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
    project.write(path, nbformat.writes(cell) if path.endswith(".ipynb") else code)

    def conduct() -> None:
        given = [part.replace("ROOT", str(project.root)) for part in arguments]
        project.python(*given, below=directory.replace("ELSEWHERE", elsewhere))

    project.run("instances").assert_outcomes(passed=1)
    executed(project)
    conduct()
    assert executed(project) == []
    shutil.rmtree(project.root / "runs")
    conduct()
    assert executed(project) == ["1"]
    assert project.record("step/one")["environment"]["import_path"] == [".", "lib", "flows"]
    project.run("instances").stdout.fnmatch_lines(["*1 up to date*"])
    assert executed(project) == []


def test_scripts_and_their_flows_import_what_pytest_s_runs_import(step: Project) -> None:
    step.ini("pythonpath = lib")
    step.write("lib/helper.py", "SCALE = 2\n")
    step.flow("step", "import helper\nprint(helper.SCALE)\n")
    step.write("config.json", {})
    step.build(
        "all",
        "from pytest_ductaflow import is_notebook_execution, load_cli_config, run_notebook\n"
        "if not is_notebook_execution():\n"
        "    config = load_cli_config('config.json')\n"
        "import helper\n"
        "run_notebook(config['_project_root'] + '/flows/step.py', execution_dir='runs/step')\n",
    )
    step.python("all.py", "--config=../config.json", "--output-dir=../runs/all/one", below="builds")
    for run in ("all/one", "all/one/runs/step"):
        assert step.record(run)["status"] == "success"
        assert step.record(run)["config"] == {"_project_root": str(step.root)}
    script(step, "debug_flow('flows/step.py', 'runs/step/two', {})")
    assert '\\"../../../lib\\"' in (step.root / "runs/step/two/step.ipynb").read_text()  # to import from


def test_a_thread_takes_what_is_up_to_date(step: Project) -> None:
    code = (
        "from concurrent.futures import ThreadPoolExecutor\n"
        "def go(x):\n"
        "    return run_step_flow('flows/step.py', 'step', str(x), {'x': x}, reuse=True)\n"
        "with ThreadPoolExecutor(3) as pool:\n"
        "    print(list(pool.map(go, range(4))))\n"
    )
    script(step, code)
    assert sorted(executed(step)) == ["0", "1", "2", "3"]
    script(step, code.replace("range(4)", "range(5)"))
    assert executed(step) == ["4"]


def test_a_build_run_by_a_script_does_as_the_script_says(step: Project) -> None:
    """``None``: executed; ``True``: taken, also within; what the build itself says goes before."""
    nested = "from pytest_ductaflow import run_notebook\n"
    nested += "run_notebook('flows/step.py', config={'x': 1}, execution_dir='runs/step', reuse=%s)\n"
    call = "run_notebook('builds/all.py', config={}, execution_dir='runs/all/one', reuse=%s)"
    step.build("all", nested % None)
    script(step, call % True)
    executed(step)
    for number, (inner, outer, again) in enumerate(
        [(None, None, True), (None, True, False), (True, None, False), (False, True, True)]
    ):
        step.build("all", nested % inner + f"print({number})\n")  # the build itself is stale
        script(step, call % outer)
        assert bool(executed(step)) is again, (inner, outer)


@pytest.mark.parametrize("engine", ["fork", "papermill"])
def test_force_goes_before_what_a_build_asks_for(step: Project, engine: str) -> None:
    body = "from pytest_ductaflow import run_notebook\n"
    body += "run_notebook('flows/step.py', config={'x': 1}, execution_dir='runs/step', reuse=True)\n"
    step.build("all", body)
    step.instance("all", build="builds/all.py")
    option = f"--ductaflow-engine={engine}"
    step.run("instances", option)
    executed(step)
    step.build("all", body + "print('more')\n")
    step.run("instances", option)
    assert executed(step) == []
    step.run("instances", option, "--ductaflow-force")
    assert executed(step) == ["1"]


def test_a_library_that_is_installed_meanwhile_is_noticed(step: Project) -> None:
    """The process that asks may be a notebook's, which lives for days."""
    step.flow("step", STEP + "\nimport library\n")
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "sys.path.append(str(Path('site').resolve()))\n"
        "def install(version):\n"
        "    place = Path('site', f'library-{version}.dist-info')\n"
        "    place.mkdir(parents=True)\n"
        "    place.joinpath('METADATA').write_text(f'Metadata-Version: 2.1\\nName: library\\nVersion: {version}\\n')\n"
        "    place.joinpath('RECORD').write_text('library.py,,\\n')\n"
        "    Path('site/library.py').write_text('')\n"
        "def uninstall(version):\n"
        "    import shutil\n"
        "    shutil.rmtree(Path('site', f'library-{version}.dist-info'))\n"
        "install('1.0')\n"
        "import os; os.environ['PYTHONPATH'] = sys.path[-1]\n"
        f"{NOTEBOOK}; {NOTEBOOK}\n"
        "uninstall('1.0'); install('2.0')\n"
        f"{NOTEBOOK}\n"
    )
    script(step, code)
    assert executed(step) == ["1", "1"]
    assert step.record("step/one")["environment"]["libraries"]["library"] == "2.0"
