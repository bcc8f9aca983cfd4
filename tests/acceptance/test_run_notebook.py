"""``run_notebook`` from a conductor, in this process: what the original's arguments do here."""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import papermill
import pytest

from pytest_ductaflow import ConfigError, FlowError, engines, run_notebook, run_step_flow
from pytest_ductaflow.engines import warm

if TYPE_CHECKING:
    from tests.conftest import Project

READ = "print(open(config['table']).read())\n"


@pytest.fixture
def conductor(project: Project) -> Iterator[Project]:
    project.flow("prepare", "open('table.csv', 'w').write('1')\n")
    project.flow("use", READ)
    with warm.session():
        yield project


def config_of(run: str) -> dict[str, Any]:
    (path,) = Path("runs", run).glob("*_config.json")
    return json.loads(path.read_text("utf-8"))


@pytest.mark.parametrize(
    "table", ["runs/prepare/a/table.csv", "./runs/prepare/a/table.csv", "runs/prepare/../prepare/a/table.csv"]
)
def test_a_reference_of_a_conductor_is_an_absolute_path(conductor: Project, table: str) -> None:
    run_step_flow("flows/prepare.py", "prepare", "a")
    run_step_flow("flows/use.py", "use", "a", {"table": table})
    assert config_of("use/a")["table"] == str(conductor.root / "runs/prepare/a/table.csv")
    assert "runs/prepare/a/table.csv" in conductor.record("use/a")["inputs"]


def test_what_leads_into_no_other_run_stays_as_it_is(conductor: Project) -> None:
    conductor.flow("use", "print(config)")
    run_step_flow("flows/prepare.py", "prepare", "a")
    config = {
        "table": "runs/prepare/b/table.csv",
        "run_folder": "runs/Scenario_A",
        "step": "runs/prepare",
        "own": "runs/use/a/own.csv",
        "leaves": "runs/../data.csv",
        "deep": {"list": ["runs/prepare/a", "runs/prepare/*/table.csv", "runs/none/*.csv", 3]},
    }
    for _ in range(2):  # the second time its own directory holds a run
        run_step_flow("flows/use.py", "use", "a", config)
        made = config_of("use/a")
        runs = conductor.root / "runs/prepare"
        assert made.pop("deep") == {"list": [f"{runs}/a", f"{runs}/*/table.csv", "runs/none/*.csv", 3]}
        assert made == {
            **{key: config[key] for key in made if key in config},
            "_project_root": str(conductor.root),
        }
        assert len(made) == len(config)  # without `deep`, with the root


def test_a_build_s_own_paths_stay_as_they_are(conductor: Project) -> None:
    """In a build ``runs/…`` is below the build's own directory."""
    conductor.flow("use", "print(config)")
    run_step_flow("flows/prepare.py", "prepare", "a")
    conductor.build(
        "all",
        "from pytest_ductaflow import run_notebook\n"
        "run_notebook('flows/use.py', None, {'table': 'runs/prepare/a/table.csv'}, execution_dir='runs/use')\n",
    )
    run_notebook("builds/all.py", execution_dir="runs/all/a")
    assert config_of("all/a/runs/use")["table"] == "runs/prepare/a/table.csv"


def test_the_arguments_of_the_original_in_its_order(conductor: Project) -> None:
    place, root = "runs/prepare/a", conductor.root
    made = run_notebook("prepare.py", "flows", {}, "_executed", "python3", 60, False, place, root, False)
    assert made == root / place / "prepare_executed.ipynb"
    assert made.read_bytes() == (root / place / "prepare.ipynb").read_bytes()
    assert run_step_flow(
        notebook_file="flows/prepare.py", step_name="s", instance_name="i", config={}
    ).exists()
    with pytest.raises(FlowError, match="kernel_name='julia'"):
        run_notebook("flows/prepare.py", kernel_name="julia", execution_dir=place)
    with pytest.raises(TypeError, match="give one of them"):
        run_step_flow("flows/prepare.py", "s", "i", notebook_file="flows/prepare.py")
    with pytest.raises(TypeError, match="needs notebook_path"):
        run_step_flow(step_name="s", instance_name="i")


@pytest.mark.parametrize("engine", ["fork", "papermill"])
def test_a_config_may_hold_paths_and_numbers_of_a_data_frame(
    conductor: Project, monkeypatch: pytest.MonkeyPatch, engine: str
) -> None:
    """As the original's conductors pass them: ``unpack_config`` makes paths, ``iterrows`` numpy's scalars."""
    monkeypatch.setattr(engines, "default", lambda: engine)
    conductor.flow("use", "print(config)")
    run_step_flow("flows/prepare.py", "prepare", "a")
    (_, row), *_ = pd.DataFrame({"years": [10], "degree": [3]}).iterrows()
    (_, rates), *_ = pd.DataFrame({"rate": [0.25]}).iterrows()
    assert not isinstance(row["years"], int)
    config = {
        "data_dir": Path("data"),
        "deep": [{"table": Path("runs/prepare/a/table.csv"), "ok": np.bool_(True)}],
        "_project_root": conductor.root,
    }
    run_step_flow("flows/use.py", "use", "a", {**config, **row, **rates})
    text = (conductor.root / "runs/use/a/use_config.json").read_text()
    assert json.loads(text) == {
        "data_dir": "data",
        "deep": [{"table": str(conductor.root / "runs/prepare/a/table.csv"), "ok": True}],
        "years": 10,
        "degree": 3,
        "rate": 0.25,
        "_project_root": str(conductor.root),
    }
    assert '"years": 10,' in text
    with pytest.raises(ConfigError, match=r"when: datetime\.date is not a JSON type"):
        run_step_flow("flows/use.py", "use", "b", {"when": datetime.date(2024, 1, 1)})


@pytest.mark.parametrize("timeout", ["60", 0, -1])
def test_a_timeout_that_is_none_is_refused_before_anything_runs(conductor: Project, timeout: Any) -> None:
    with pytest.raises(ConfigError, match=rf"timeout: a number of seconds .*, not {timeout!r}"):
        run_notebook("flows/prepare.py", timeout=timeout, execution_dir="runs/prepare/a")
    assert not (conductor.root / "runs").exists()


def test_a_red_run_leaves_its_copy_too(conductor: Project) -> None:
    conductor.flow("use", "print(1)\nraise KeyError('x')\n")
    with pytest.raises(papermill.PapermillExecutionError, match="KeyError: 'x'") as caught:
        run_notebook("flows/use.py", output_suffix="_executed", execution_dir="runs/use/a")
    assert (caught.value.ename, caught.value.evalue) == ("KeyError", "'x'")
    assert "KeyError" in (conductor.root / "runs/use/a/use_executed.ipynb").read_text()
