"""A project written for the original ductaflow runs unchanged: as script, as instance, as notebook."""

import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., subprocess.CompletedProcess[str]]

HEADER = """
# %% tags=["parameters"]
config = {{}}

# %%
from ductaflow import is_notebook_execution, load_cli_config, unpack_config, display_config_summary
if not is_notebook_execution():
    config = load_cli_config('{config}', 'A flow')
vars().update(unpack_config(config, "A flow", locals()))
display_config_summary(config, "A flow")
"""
FIRST = """
# %%
import json
import subprocess
import sys
rows = [{"i": i, "value": i * scale} for i in range(iterations)]
json.dump(rows, open("rows.json", "w"))
print(f"{len(rows)} rows, host {host}", _project_root.name)
print("to stderr", file=sys.stderr)
subprocess.run(["echo", "from a subprocess"])
if scale > 5:
    print("⚠️ large scale")
"""
SECOND = """
# %%
import json
upstream = json.load(open("../first_instance/rows.json"))
print(sum(row["value"] for row in upstream))
json.dump({"total": sum(row["value"] for row in upstream)}, open("total.json", "w"))
"""
BUILD = """
# %%
from pathlib import Path
from ductaflow import run_notebook
project_root = Path(config['_project_root'])
flows_dir = project_root / 'flows'
run_folder = Path(".")
for name in ("first", "second"):
    run_notebook(
        notebook_file=flows_dir / f"{name}.py",
        config=config,
        execution_dir=run_folder / "runs" / f"{name}_instance",
        project_root=project_root,
    )
print("build done")
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for path, code in (("flows/first", FIRST), ("flows/second", SECOND), ("builds/both", BUILD)):
        file = tmp_path / f"{path}.py"
        file.parent.mkdir(exist_ok=True)
        file.write_text(HEADER.format(config=f"config/{path}.json") + code, encoding="utf-8")
        config = tmp_path / "config" / f"{path}.json"
        config.parent.mkdir(parents=True, exist_ok=True)
        config.write_text(json.dumps({"iterations": 3, "scale": 2, "database": {"host": "h"}}))
    (tmp_path / "instances").mkdir()
    (tmp_path / "instances/both.json").write_text('{"build": "builds/both.py"}')
    (tmp_path / "instances/first.json").write_text(
        '{"flow": "flows/first.py", "scenarios": {"scale": [2, 9]}, "overrides": {"iterations": 4}, '
        '"config": {"database": {"host": "h"}}, "name": "scale_{scale}"}'
    )
    return tmp_path


def record_of(directory: Path) -> dict:
    return json.loads((directory / "run.json").read_text("utf-8"))


def files_of(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir() if path.name not in (".run.lock", "runs")}


def test_it_runs_as_instance_and_as_script_with_the_same_results(
    project: Path, run_pytest: Run, python: Run
) -> None:
    result = run_pytest("instances", "-v")
    assert result.returncode == 0, result.stdout
    assert "first.json::scale_2 PASSED (green)" in result.stdout
    assert "first.json::scale_9 PASSED (orange)" in result.stdout
    assert "both.json::both PASSED (green)" in result.stdout

    script = python(
        "flows/first.py", "--config", "config/flows/first.json", "--output-dir", "runs/script/first"
    )
    assert script.returncode == 0, script.stderr
    assert "3 rows, host h" in script.stdout
    assert "from a subprocess" in script.stdout
    assert script.stderr == "to stderr\n"
    build = python("builds/both.py", "--output-dir", "runs/script/both")
    assert build.returncode == 0, build.stderr

    as_instance, as_script = project / "runs/both/both/runs/first_instance", project / "runs/script/first"
    nested = project / "runs/script/both/runs/first_instance"
    assert files_of(as_instance) == files_of(nested)
    assert files_of(as_script) ^ files_of(as_instance) == {
        "_cli_execution_output.txt",
        "first_execution_output.txt",
    }
    outputs = [record_of(directory)["outputs"] for directory in (as_instance, as_script, nested)]
    assert outputs[0] == outputs[1] == outputs[2]
    assert (as_script / "_cli_execution_output.txt").read_text() == (
        as_instance / "first_execution_output.txt"
    ).read_text().replace("\n📋 _project", "\n📋 _project")
    assert record_of(project / "runs/script/both")["runs"] == ["runs/first_instance", "runs/second_instance"]
    assert record_of(project / "runs/both/both")["runs"] == ["runs/first_instance", "runs/second_instance"]
    total = json.loads((project / "runs/both/both/runs/second_instance/total.json").read_text())
    assert total == {"total": 6}
    assert (
        "first         │ 3 rows, host h" in (project / "runs/both/both/both_execution_output.txt").read_text()
    )


def test_a_script_that_fails_or_leaves_early_has_a_red_record(project: Path, python: Run) -> None:
    flow = project / "flows/first.py"
    good = flow.read_text("utf-8")
    flow.write_text(good + "\nraise ValueError('no')\n", encoding="utf-8")
    assert python("flows/first.py", "--output-dir", "runs/x/fails").returncode == 1
    failed = record_of(project / "runs/x/fails")
    assert (failed["status"], failed["error"]["type"]) == ("error", "ValueError")
    assert failed["error"]["line"] == len(flow.read_text("utf-8").splitlines())

    flow.write_text(good.replace("rows = [", "sys.exit(0)\nrows = ["), encoding="utf-8")
    assert python("flows/first.py", "--output-dir", "runs/x/leaves").returncode == 0
    left = record_of(project / "runs/x/leaves")
    assert (left["status"], left["error"]["type"]) == ("error", "SystemExit")

    flow.write_text(good.replace("rows = [", "import os; os._exit(0)\nrows = ["), encoding="utf-8")
    assert python("flows/first.py", "--output-dir", "runs/x/dies").returncode == 0
    dead = python("-c", "from ductaflow import *; print(load_runs('runs/x/dies').status[0])")
    assert dead.stdout == "interrupted\n"
    status = python("-c", "from ductaflow import *; print(analyze_execution_logs('runs/x/dies'))")
    assert status.stdout == "error\n"


def test_no_execute_prepares_the_directory(project: Path, python: Run) -> None:
    result = python("flows/first.py", "--output-dir", "runs/x/prepared", "--no-execute")
    assert result.returncode == 0
    assert files_of(project / "runs/x/prepared") == {"first.ipynb", "first_config.json"}
    notebook = json.loads((project / "runs/x/prepared/first.ipynb").read_text("utf-8"))
    assert any(
        "'iterations'" in "".join(c["source"]) or '"iterations": 3' in "".join(c["source"])
        for c in notebook["cells"]
    )


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "config/bad.json:1: invalid JSON"),
        ("[]", "a config is a JSON object"),
        (None, "config/bad.json: No such file"),
    ],
)
def test_a_bad_config_is_a_clear_error_of_the_script(
    project: Path, python: Run, content: str | None, said: str
) -> None:
    if content is not None:
        (project / "config/bad.json").write_text(content)
    result = python("flows/first.py", "--config", "config/bad.json")
    assert result.returncode == 2
    assert said in result.stderr


def test_a_conductor_runs_steps_and_writes_the_report(project: Path, python: Run) -> None:
    conductor = textwrap.dedent(
        """
        from pathlib import Path
        from ductaflow import RunFailed, generate_status_report, run_step_flow
        results = []
        for scale in (2, 9, None):
            config = {"iterations": 3, "scale": scale, "database": {"host": "h"}}
            try:
                run_step_flow("flows/first.py", "step", f"s{scale}", config)
                results.append({"scenario": f"s{scale}", "status": "success"})
            except Exception as error:
                results.append({"scenario": f"s{scale}", "status": "failed", "error": str(error)})
        results.append({"scenario": "never ran", "status": "success"})
        Path("runs/report.html").write_text(generate_status_report(results, Path("runs")), encoding="utf-8")
        """
    )
    (project / "conductor.py").write_text(conductor)
    result = python("conductor.py")
    assert result.returncode == 0, result.stderr
    assert "🚀 Starting first | Instance: s2" in result.stdout
    assert "3 rows, host h" in result.stdout
    assert "✅ Completed first | Instance: s9 | Time: " in result.stdout
    assert "❌ Failed first | Instance: sNone | Error: TypeError: unsupported operand type" in result.stdout
    page = (project / "runs/report.html").read_text("utf-8")
    data = json.loads(page.partition('id="data">')[2].partition("</script>")[0])
    lights = {row["name"]: row["light"] for row in data["rows"]}
    assert lights == {"s2": "green", "s9": "orange", "sNone": "red", "never ran": "red"}


CONDUCTOR = """
# %% [markdown]
# # Scenarios of a build

# %%
from datetime import datetime
from itertools import product
from pathlib import Path
import json
import papermill as pm
from ductaflow import run_notebook, analyze_execution_logs, generate_status_report
from ductaflow.ductaflow import setup_conductor_logging, setup_console_encoding

setup_console_encoding()
logger = setup_conductor_logging("session_outputs", "conductor")
model_root = Path("./runs/conductor_runs")
base = {"model_root": str(model_root), "iterations": 3, "scale": 1, "database": {"host": "h"}}
dimensions = {
    "scale": [{"scale": 2, "label": "Low"}, {"scale": 9, "label": "High"}, {"scale": None, "label": "None"}],
    "mode": [{"mode": "standard", "label": "Standard"}],
}

# %%
results = []
for combination in product(*(dimensions[name] for name in ["scale", "mode"])):
    name = "Scenario_" + "_".join(one["label"] for one in combination)
    parameters = {key: value for one in combination for key, value in one.items() if key != "label"}
    output_dir = model_root / "Model_Runs" / name
    output_dir.mkdir(parents=True, exist_ok=True)
    config = {**base, **parameters, "scenario_name": name, "run_folder": Path("runs") / name}
    with open(output_dir / "config.json", "w") as file:
        json.dump(config, file, indent=2, default=str)
    try:
        started = datetime.now()
        run_notebook("both.py", "builds", config, "_executed", "python3", None, False, output_dir, Path.cwd())
        seconds = (datetime.now() - started).total_seconds()
        results.append({"scenario": name, "status": "success", "duration_minutes": seconds / 60, **parameters})
    except (FileNotFoundError, ValueError) as error:
        results.append({"scenario": name, "status": "not run", "error": str(error), **parameters})
    except pm.PapermillExecutionError as error:
        logger.error(f"{name}: {error.ename}")
        results.append({"scenario": name, "status": "failed", "error": str(error), **parameters})
    logger.info(f"{name}: {analyze_execution_logs(output_dir)}", extra={"save_state": not results[1:]})
    with open("runs/conductor_status_report.html", "w", encoding="utf-8") as file:
        file.write(generate_status_report(results, model_root))

# %%
with open(model_root / "conductor_results.json", "w") as file:
    json.dump({"base_config": base, "results": results}, file, indent=2, default=str)
"""
PURE_CONDUCTOR = """
import json
import os
import subprocess
from pathlib import Path
import pandas as pd

def run_flow_as_script(flow_path, step_name, instance_name, config):
    output_dir = Path("runs") / step_name / instance_name
    output_dir.mkdir(parents=True, exist_ok=True)
    config_path = (output_dir / "config.json").resolve()
    with open(config_path, "w") as file:
        json.dump(config, file, indent=2)
    original_cwd = os.getcwd()
    try:
        os.chdir(output_dir)
        result = subprocess.run(
            ["python", str(Path(original_cwd) / flow_path), "--config", str(config_path), *MORE],
            check=True, capture_output=True, text=True,
        )
        print(f"✅ Completed: {step_name}/{instance_name}", result.stdout)
    except subprocess.CalledProcessError as error:
        print(f"❌ Failed: {step_name}/{instance_name}", error.stderr)
        raise
    finally:
        os.chdir(original_cwd)

frame = pd.DataFrame({"instance_name": ["A", "B"], "scale": [2, 9], "host": ["h", "h"]})
for _, row in frame.iterrows():
    config = {"iterations": 3, "scale": row["scale"], "host": row["host"]}
    run_flow_as_script("flows/first.py", "data_prep", row["instance_name"], config)
for instance in sorted(path.name for path in Path("runs/data_prep").iterdir() if path.is_dir()):
    run_flow_as_script("flows/analysis.py", "analysis", instance, {"prep_instance": instance})
print("✅ Pure Python orchestration complete!")
"""
ANALYSIS = """
# %%
import json
rows = json.load(open(_project_root / "runs/data_prep" / prep_instance / "rows.json"))
json.dump({"total": sum(row["value"] for row in rows)}, open("total.json", "w"))
print("total of", prep_instance)
"""


def test_a_conductor_runs_builds_over_dimensions(project: Path, python: Run) -> None:
    """In the manner of the original's ``conductor.py``."""
    (project / "conductor.py").write_text(CONDUCTOR, encoding="utf-8")
    result = python("conductor.py")
    assert result.returncode == 0, result.stderr
    places = {name: project / f"runs/conductor_runs/Model_Runs/Scenario_{name}_Standard" for name in LIGHTS}
    assert {name: record_of(place)["status"] for name, place in places.items()} == {
        "Low": "success",
        "High": "warning",
        "None": "error",
    }
    assert (places["Low"] / "both_executed.ipynb").read_bytes() == (places["Low"] / "both.ipynb").read_bytes()
    for name, total in (("Low", 6), ("High", 27)):
        assert json.loads((places[name] / "runs/second_instance/total.json").read_text()) == {"total": total}
    assert not (places["None"] / "runs/second_instance").exists()
    config = json.loads((places["Low"] / "both_config.json").read_text())
    assert (config["run_folder"], config["_project_root"]) == ("runs/Scenario_Low_Standard", str(project))

    results = json.loads((project / "runs/conductor_runs/conductor_results.json").read_text())["results"]
    assert [one["status"] for one in results] == ["success", "success", "failed"]
    assert results[2]["error"].startswith("flows/first.py:")
    assert "TypeError: unsupported operand" in results[2]["error"]
    page = (project / "runs/conductor_status_report.html").read_text("utf-8")
    data = json.loads(page.partition('id="data">')[2].partition("</script>")[0])
    assert {row["name"]: row["light"] for row in data["rows"]} == {
        f"Scenario_{name}_Standard": light for name, light in LIGHTS.items()
    }
    (log,) = (project / "session_outputs").glob("conductor_*.txt")
    assert [line.partition(" - ")[2] for line in log.read_text("utf-8").splitlines()] == [
        "conductor - INFO - Scenario_Low_Standard: success",
        "conductor - INFO - Scenario_High_Standard: warning",
        "conductor - ERROR - Scenario_None_Standard: TypeError",
        "conductor - INFO - Scenario_None_Standard: error",
    ]
    assert [path.stem.partition("_")[0] for path in (project / "session_outputs").glob("*.ipynb")] == [
        "conductor"
    ]


#: Of the scenarios of the conductor.
LIGHTS = {"Low": "green", "High": "orange", "None": "red"}


@pytest.mark.parametrize("has_records", [False, True], ids=["as it is", "with --output-dir"])
def test_a_pure_conductor_runs_flows_as_scripts(project: Path, python: Run, has_records: bool) -> None:
    """In the manner of the original's ``pure_conductor_example.py``; only ``--output-dir`` makes a run of it."""
    more = '["--output-dir", "."]' if has_records else "[]"
    (project / "pure_conductor.py").write_text(f"MORE = {more}\n{PURE_CONDUCTOR}", encoding="utf-8")
    header = HEADER.format(config="config/flows/analysis.json")
    (project / "flows/analysis.py").write_text(header + ANALYSIS, encoding="utf-8")
    result = python(
        "pure_conductor.py", PATH=os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]])
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert "✅ Pure Python orchestration complete!" in result.stdout
    assert f"3 rows, host h {project.name}" in result.stdout
    for name, total in (("A", 6), ("B", 27)):
        directory = project / "runs/analysis" / name
        assert json.loads((directory / "total.json").read_text()) == {"total": total}
        assert f"total of {name}" in (directory / "_cli_execution_output.txt").read_text("utf-8")
        assert (directory / "run.json").exists() is has_records
    if has_records:
        statuses = [record_of(project / f"runs/data_prep/{name}")["status"] for name in "AB"]
        assert statuses == ["success", "warning"]


def test_debug_flow_takes_the_failed_run_s_own_config(project: Path, run_pytest: Run, python: Run) -> None:
    (project / "instances/bad.json").write_text('{"flow": "flows/first.py", "overrides": {"scale": null}}')
    assert run_pytest("instances/bad.json").returncode == 1
    code = "from ductaflow import debug_flow; debug_flow('flows/first.py', 'runs/first/bad')"
    result = python("-c", code)
    assert result.returncode == 0, result.stderr
    launch = json.loads(result.stdout[result.stdout.index('{\n  "version"') :])
    (entry,) = launch["configurations"]
    program = entry["program"].replace("${workspaceFolder}", str(project))
    arguments = [argument.replace("${workspaceFolder}", str(project)) for argument in entry["args"]]
    again = python(program, *arguments)
    assert again.returncode == 1
    assert record_of(project / "runs/first/bad")["config"]["scale"] is None


@pytest.mark.parametrize("place", ["beside", "on the path"])
def test_an_installed_original_is_not_shadowed(tmp_path: Path, python: Run, place: str) -> None:
    package = tmp_path / ("ductaflow" if place == "beside" else "lib/ductaflow")
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("from .inner import mark\n")
    (package / "inner.py").write_text("mark = 'the original'\n")
    environment = {} if place == "beside" else {"PYTHONPATH": str(tmp_path / "lib")}
    code = "import ductaflow; print(ductaflow.mark)"
    assert python("-c", code, **environment).stdout == "the original\n"
    if place == "on the path":  # behind our alias, as an editable install of the original is
        later = f"import sys; sys.path.append({str(tmp_path / 'lib')!r}); {code}"
        result = python("-c", later)
        assert result.stdout == "the original\n", result.stderr
