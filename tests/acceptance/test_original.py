"""A project written for the original ductaflow runs unchanged: as script, as instance, as notebook."""

import json
import subprocess
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
