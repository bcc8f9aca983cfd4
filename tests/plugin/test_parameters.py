"""What of a config reaches a flow: names of the parameters cell, ``config``, and its defaults."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import nbformat
import pytest
from nbclient import NotebookClient

from pytest_ductaflow import debug_flow
from pytest_ductaflow.engines import ENGINES

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Project

Ran = tuple["Project", pytest.RunResult]

NAMES = """\
import os  # a cell above the parameters
# %% tags=["parameters"]
country = "France"; degree: int = 1
# %%
with open("got.txt", "w") as file:
    file.write(f"{country} {degree} {config.get('country')} {sorted(config)}")
"""
DEFAULTS = """\
# %% tags=["parameters"]
config = {
    "rate": 0.5,  # a default
    "db": {"host": "here", "port": 1},
}
# %%
import json
with open("got.json", "w") as file:
    json.dump(config, file)
"""
BARE = """\
# # No parameters cell
x = 1
# %%
with open("got.txt", "w") as file:
    file.write(f"{x} {sorted(config)}")
"""
BUILD = """
from pytest_ductaflow import run_notebook, run_step_flow
root = config["_project_root"]
run_notebook(f"{root}/flows/names.py", config={"country": "Chad", "of the build": 1}, execution_dir="runs/names")
run_notebook(f"{root}/flows/bare.py", config={"on": "top"}, execution_dir="runs/bare")
run_step_flow(f"{root}/flows/bare.py", "step", "it", config={"on": "top"})
"""


def made(new_project: Callable[[], Project]) -> Project:
    project = new_project()
    project.write("flows/names.py", NAMES)
    project.write("flows/defaults.py", DEFAULTS)
    project.write("flows/bare.py", BARE)
    project.build("all", BUILD)
    project.instance("names", scenarios={"country": ["Germany", "Spain\n'\"; import os"]})
    project.instance("misspelt", flow="flows/names.py", config={"degre": 3, "country": "Peru"})
    project.instance("defaults", config={"db": {"port": 2}})
    project.instance("nested", flow="flows/defaults.py", overrides={"db": {"hots": "there"}})
    project.instance("bare")
    project.instance("all", build="builds/all.py", config={"whatever": 1})
    return project


@pytest.fixture(
    scope="module", params=[(engine, *more) for engine in ENGINES for more in ((), ("-n", "2"))], ids=" ".join
)
def ran(new_project: Callable[[], Project], request: pytest.FixtureRequest) -> Ran:
    """One run of all of them."""
    project, (engine, *more) = made(new_project), request.param
    return project, project.run_apart("-v", f"--ductaflow-engine={engine}", "instances", *more, timeout=300)


def got(project: Project, run: str, name: str = "got.txt") -> str:
    return (project.root / "runs" / run / name).read_text("utf-8")


def test_names_of_the_cell_are_injected_beside_config(ran: Ran) -> None:
    project, _ = ran
    assert got(project, "names/names-Germany") == "Germany 1 Germany ['_project_root', 'country']"
    odd = next(name for name in project.records() if name.startswith("names/names-Spain"))
    assert got(project, odd).startswith("Spain\n'\"; import os 1 Spain\n'\"; import os")
    assert project.record("names/names-Germany")["status"] == "success"


def test_the_config_is_merged_over_the_defaults_everywhere(ran: Ran) -> None:
    project, _ = ran
    expected = {"rate": 0.5, "db": {"host": "here", "port": 2}, "_project_root": str(project.root)}
    assert json.loads(got(project, "defaults/defaults", "got.json")) == expected
    assert json.loads(got(project, "defaults/defaults", "defaults_config.json")) == expected
    assert project.record("defaults/defaults")["config"] == expected
    assert project.record("defaults/defaults")["status"] == "success"


def test_a_key_that_the_flow_does_not_declare_makes_it_orange_and_is_named_with_its_place(ran: Ran) -> None:
    project, result = ran
    text = "⚠️ `degre` is not declared in the parameters cell of flows/names.py: did you mean 'degree'?"
    place = f"instances/misspelt.json:{project.line_of('instances/misspelt.json', 'degre')}"
    [warning] = project.record("names/misspelt")["warnings"]
    assert (warning["text"], warning["place"]) == (text, place)
    assert project.record("names/misspelt")["status"] == "warning"
    assert f"{place} {text}" in result.stdout.str()
    [warning] = project.record("defaults/nested")["warnings"]
    assert "`db.hots`" in warning["text"]
    assert warning["place"] == f"instances/nested.json:{project.line_of('instances/nested.json', 'hots')}"


def test_without_a_parameters_cell_it_runs_as_it_is(ran: Ran) -> None:
    project, _ = ran
    assert got(project, "bare/bare") == "1 ['_project_root']"
    assert project.record("bare/bare")["status"] == "success"


def test_builds_pass_on_what_they_like_and_inject_on_top(ran: Ran) -> None:
    project, _ = ran
    assert project.record("all/all")["status"] == "success"
    assert got(project, "all/all/runs/names").startswith("Chad 1 Chad ")
    assert (
        got(project, "all/all/runs/bare")
        == got(project, "all/all/runs/step/it")
        == "1 ['_project_root', 'on']"
    )
    notebook = nbformat.read(project.root / "runs/all/all/runs/bare/bare.ipynb", as_version=4)
    assert notebook.cells[0].metadata.tags == ["injected-parameters"]


def test_only_these_are_orange_and_none_is_red(ran: Ran) -> None:
    project, result = ran
    orange = {name for name, record in project.records().items() if record["status"] != "success"}
    assert orange == {"names/misspelt", "defaults/nested"}
    result.assert_outcomes(passed=7, warnings=2)


def test_an_orange_key_is_said_again_while_the_run_is_up_to_date(ran: Ran) -> None:
    project, _ = ran
    result = project.run_apart("instances/misspelt.json", "--ductaflow-report=none")
    assert "1 up to date" in result.stdout.str()
    assert "did you mean 'degree'?" in result.stdout.str()


def test_an_edited_default_makes_a_run_stale(project: Project) -> None:
    project.write("flows/defaults.py", DEFAULTS)
    project.instance("defaults")
    project.run("instances")
    project.write("flows/defaults.py", DEFAULTS.replace("0.5", "0.75"))
    result = project.run("--ductaflow-explain", "instances")
    assert "rate 0.5 → 0.75" in result.stdout.str()
    project.run("instances")
    assert project.record("defaults/defaults")["config"]["rate"] == 0.75


def test_what_is_computed_from_a_default_makes_it_orange(project: Project) -> None:
    project.write("flows/late.py", '# %% tags=["parameters"]\na = 1\nb = a + 1\n# %%\nprint(a, b)\n')
    project.instance("late", scenarios={"a": [5]})
    project.run("instances")
    [warning] = project.record("late/late-5")["warnings"]
    assert warning["text"].startswith("⚠️ `b` is computed from `a` before the run's `a` is there")
    assert warning["place"] == "flows/late.py:3"


@pytest.mark.parametrize(
    ("text", "config", "place", "problem"),
    [
        ("x = 1\n", {"a": 1}, "flows/x.py:", "has no parameters cell"),
        ('# %% tags=["parameters"]\nconfig = {\n  "a": (1, 2)}\n', {}, "flows/x.py:3:", "tuple is not a JSON type"),
        ("# %% [markdown]\nx = 1\n", {}, "flows/x.py:2:", "this code stands in the markdown cell"),
        ('# %% tags=["parameters"]\n' * 2, {}, "flows/x.py:2:", "second cell tagged `parameters`"),
        ("# ---\n# jupyter:\n#   jupytext:\n#     formats: py:light\n# ---\n# %%\nx = 1\n", {}, "flows/x.py:4:", "'light'"),
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_run_as_it_stands_is_a_collection_error(
    project: Project, text: str, config: dict[str, Any], place: str, problem: str
) -> None:
    project.write("flows/x.py", text)
    project.instance("x", config=config)
    result = project.run("instances")
    [line] = [line for line in result.outlines if line.startswith("ERROR instances/x.json")]
    assert f" - line 2: flow: {place}" in line
    assert problem in line
    assert not (project.root / "runs" / "x").exists()


def test_a_script_gets_the_defaults_and_its_own_names(project: Project) -> None:
    text = DEFAULTS.replace("# %%\nimport json", "country = 'France'\n# %%\nimport json")
    call = "from pytest_ductaflow import load_cli_config\nconfig = load_cli_config('none.json')\nprint(country)\n"
    project.write("flows/script.py", text.replace("import json\n", f"import json\n{call}"))
    given = project.write("given.json", {"country": "Mali", "db": {"port": 3}})
    command = [sys.executable, "flows/script.py", "--config", str(given), "--output-dir", "runs/script/one"]
    done = subprocess.run(command, cwd=project.root, capture_output=True, text=True, check=True)
    assert done.stdout == "Mali\n"
    config = json.loads(got(project, "script/one", "script_config.json"))
    assert (
        config == json.loads(got(project, "script/one", "got.json")) == project.record("script/one")["config"]
    )
    assert (config["rate"], config["db"]) == (0.5, {"host": "here", "port": 3})
    subprocess.run([*command, "--no-execute"], cwd=project.root, check=True)


# --- a run's notebook, run by hand -----------------------------------------------------------------


def by_hand(notebook: Path) -> list[list[Any]]:
    """Run a notebook in its directory as Jupyter would; what the cells show."""
    shown = nbformat.read(notebook, as_version=4)
    client = NotebookClient(shown, timeout=300, resources={"metadata": {"path": str(notebook.parent)}})
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST", "DUCTAFLOW", "PYTHON"))}
    client.execute(env=environment)
    return outputs_of(shown)


def outputs_of(notebook: Any) -> list[list[Any]]:
    return [
        [output.get("text", output.get("data")) for output in cell.outputs]
        for cell in notebook.cells
        if cell.cell_type == "code"
    ]


HEAD = "# %% [markdown]\n# # Title\n\n# %%\nimport beside\n"


@pytest.mark.parametrize("engine", ENGINES)
def test_a_run_s_notebook_runs_by_hand(project: Project, engine: str) -> None:
    project.write("pytest.ini", "[pytest]\npythonpath = src\n")
    project.write("src/library.py", "VALUE = 1")
    project.write("at_root.py", "VALUE = 2")
    project.write("flows/beside.py", "VALUE = 3")
    show = "import library, at_root\nlibrary.VALUE, at_root.VALUE, beside.VALUE, rate"
    project.write("flows/above.py", f'{HEAD}# %% tags=["parameters"]\nrate = 0\n# %%\n{show}\n')
    project.write("flows/top.py", f'# %% tags=["parameters"]\nrate = 0\n# %%\nimport beside\n{show}\n')
    project.write("flows/none.py", f"import beside\nrate = config.get('rate')\n{show}\n")
    project.flow("fails", "import library\nraise ValueError(library.VALUE)")
    for name in ("above", "top"):
        project.instance(name, config={"rate": 4})
    project.instance("none")
    project.instance("fails")
    flows = "".join(
        f'run_notebook(root + "/flows/{name}.py", execution_dir="{name}")\n' for name in ("above", "none")
    )
    project.build(
        "all", f"from pytest_ductaflow import run_notebook\nroot = config['_project_root']\n{flows}"
    )
    project.instance("all", build="builds/all.py")
    options = (f"--ductaflow-engine={engine}", "instances")
    project.run_apart(*options, timeout=300).assert_outcomes(passed=4, failed=1)
    runs = project.root / "runs"
    for name in ("above", "top", "none"):
        notebook = runs / name / name / f"{name}.ipynb"
        executed = outputs_of(nbformat.read(notebook, as_version=4))
        assert by_hand(notebook) == executed
        assert executed[-1] == [{"text/plain": f"(1, 2, 3, {None if name == 'none' else 4})"}]
    with pytest.raises(Exception, match=r"ValueError\S*: 1"):
        by_hand(runs / "fails/fails/fails.ipynb")
    result = project.run_apart("--ductaflow-explain", *options)
    assert "4 up to date" in result.stdout.str()
    before = project.records()["all/all/above"]["started"]
    (runs / "all/all/above/run.json").unlink()  # so that it is executed
    by_hand(runs / "all/all/all.ipynb")
    again = project.records()["all/all/above"]
    assert again["started"] != before
    assert again["status"] == "success"

    moved = project.root.with_name("moved")
    project.root.rename(moved)
    try:
        assert by_hand(moved / "runs/above/above/above.ipynb")[-1] == [{"text/plain": "(1, 2, 3, 4)"}]
    finally:
        moved.rename(project.root)


def test_a_prepared_notebook_runs_by_hand_with_the_same_values(project: Project) -> None:
    project.write("at_root.py", "VALUE = 2")
    project.write(
        "flows/top.py", '# %% tags=["parameters"]\nrate = 0\n# %%\nimport at_root\nat_root.VALUE, rate\n'
    )
    project.instance("top", config={"rate": 4})
    project.run("--no-execute", "instances")
    notebook = project.root / "runs/top/top/top.ipynb"
    assert by_hand(notebook)[-1] == [{"text/plain": "(2, 4)"}]
    debug_flow(
        project.root / "flows/top.py", notebook.parent, {"rate": 5, "_project_root": str(project.root)}
    )
    assert by_hand(notebook)[-1] == [{"text/plain": "(2, 5)"}]


@pytest.mark.parametrize("engine", ENGINES)
def test_the_way_to_the_modules_is_no_name_and_changes_nothing_in_a_run(
    project: Project, engine: str
) -> None:
    project.flow(
        "it",
        "import sys\nprint(len(sys.path) - len(set(sys.path)), *sorted(n for n in dir() if n[0] != '_'))",
    )
    project.instance("it")
    project.run(f"--ductaflow-engine={engine}", "instances")
    shown = (project.root / "runs/it/it/it_execution_output.txt").read_text().split()
    assert shown == ["0", "In", "Out", "config", "exit", "get_ipython", "open", "quit", "sys"]


def test_a_magic_s_body_that_would_stay_a_comment_is_refused(project: Project) -> None:
    project.write("flows/x.py", "# %%\n# %%bash\n# echo hi\n# exit 4\n")
    project.write("flows/y.py", '# %% language="bash"\n# echo hi\n# exit 4\n')
    project.instance("x")
    project.instance("y")
    result = project.run("instances")
    result.stdout.fnmatch_lines(
        ['*flows/x.py:2: *write `# %% language="bash"` in place of*', "*CalledProcessError*"]
    )
    result.assert_outcomes(failed=2)
