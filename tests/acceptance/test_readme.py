"""What the README shows is executed, literally."""

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from .conftest import REPOSITORY

Run = Callable[..., subprocess.CompletedProcess[str]]
README = (REPOSITORY / "README.md").read_text("utf-8")


def section(title: str) -> str:
    return README.split(f"\n## {title}\n")[1].split("\n## ")[0]


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


@pytest.fixture
def first_project(tmp_path: Path) -> Path:
    text = section("Your first flow")
    for folder, name, content in (
        ("flows", "savings.py", blocks(text, "python")[0]),
        ("instances", "savings.json", blocks(text, "json")[0]),
    ):
        assert f"`{folder}/{name}`" in text
        (tmp_path / folder).mkdir()
        (tmp_path / folder / name).write_text(content, encoding="utf-8")
    return tmp_path


def test_the_first_flow_gives_what_the_readme_shows(
    first_project: Path, run_pytest: Run, python: Run
) -> None:
    text = section("Your first flow")
    result = run_pytest("instances/", "-v")
    assert result.returncode == 0, result.stdout
    shown = blocks(text, "console")[0].splitlines()
    assert shown[0] == "$ pytest instances/ -v"
    printed = [re.sub(r" +\[.*", "", line) for line in result.stdout.splitlines()]
    for line in shown[1:]:
        assert line in printed
    directory = first_project / "runs/savings/savings-0.01"
    for name in re.findall(r"^\| `([\w.]+)`", text, re.MULTILINE):
        assert (directory / name).is_file(), name
    assert "orange" in python("-c", blocks(text, "python")[1]).stdout
    assert "0.03    1343.9" in python("-c", blocks(text, "python")[2]).stdout

    sweep = section("Sweep it")
    assert python("-c", "\n".join(blocks(sweep, "python"))).returncode == 0
    for line in blocks(sweep, "bash")[0].splitlines():
        arguments = re.sub(r" +#.*", "", line).removeprefix("pytest ").replace("-n 8", "-n 2")
        chosen = run_pytest(
            "--collect-only", "-q", *[part.strip("'") for part in re.findall(r"'[^']*'|\S+", arguments)]
        )
        assert chosen.returncode == 0, (line, chosen.stdout)
    assert "1/5 tests collected" in run_pytest("instances", "--collect-only", "-q", "-k", "long").stdout

    debugged = python("-c", blocks(section("Debug it"), "python")[0])
    assert '"type": "debugpy"' in debugged.stdout, debugged.stderr


def test_results_are_brought_together_as_the_readme_shows(first_project: Path, run_pytest: Run) -> None:
    text = section("Bring results together")
    (first_project / "instances/compare.json").write_text(blocks(text, "json")[0], encoding="utf-8")
    (first_project / "flows/compare.py").write_text(blocks(text, "python")[0], encoding="utf-8")
    result = run_pytest("instances/")
    assert result.returncode == 0, result.stdout
    table = (first_project / "runs/compare/compare/all.csv").read_text("utf-8").splitlines()
    assert len(table) == 1 + 3 * 11
    assert table[-1].endswith("runs/savings/savings-0.05/balance.csv")


def test_what_is_run_again_is_what_the_readme_shows(first_project: Path, run_pytest: Run) -> None:
    run_pytest("instances/")
    again, explained = blocks(section("Change something, and run again"), "console")
    printed = run_pytest("instances/").stdout
    for line in again.splitlines()[1:]:
        assert re.sub(r"\d\.\d+s", "", line.strip("= ")) in re.sub(r"\d\.\d+s", "", printed)
    instances = first_project / "instances/savings.json"
    changed = instances.read_text("utf-8").replace('"years": 10', '"years": 12')
    instances.write_text(changed, encoding="utf-8")
    printed = run_pytest("instances/", "--ductaflow-explain").stdout
    for line in explained.splitlines()[1:]:
        assert line in printed.splitlines()
    assert "3 would run" in printed


def test_the_failure_that_the_readme_shows_is_what_comes_back(first_project: Path, run_pytest: Run) -> None:
    flow = first_project / "flows/savings.py"
    broken = 'growth = {0.05: "fast"}[rate]\nfactor = growth / years\n'
    flow.write_text(flow.read_text("utf-8").replace("import pandas as pd\n", broken), encoding="utf-8")
    result = run_pytest("instances/savings.json::savings-0.05")
    lines = result.stdout.splitlines()
    for line in blocks(section("Debug it"), "text")[0].splitlines():
        assert not line.strip() or line in lines, line


def test_the_options_that_the_readme_lists_are_those_that_there_are(run_pytest: Run) -> None:
    group = run_pytest("--help").stdout.split("instances as tests (ductaflow):")[1].split("\n\n")[0]
    documented = set(re.findall(r"`(--[\w-]+)", section("Options")))
    assert documented == set(re.findall(r"^  (--[\w-]+)", group, re.MULTILINE))


def test_the_keys_that_the_readme_lists_are_those_of_the_schema() -> None:
    import json

    rows = [line for line in section("The instance file").splitlines() if line.startswith("| `")]
    keys = {key for row in rows for key in re.findall(r"`([$\w]+)`", row.split("|")[1])}
    schema = json.loads((REPOSITORY / "pytest_ductaflow/instance.schema.json").read_text("utf-8"))
    assert keys == set(schema["properties"])


def test_the_first_screen_has_the_two_commands() -> None:
    commands = blocks("\n".join(README.splitlines()[:40]), "bash")
    assert len(commands) == 2
    assert "pip install -e '.[demo]' && pytest instances/" in commands[0]
    assert commands[1].strip() == "pip install tox && tox"
    assert commands[1].strip() in (REPOSITORY / ".ci/run").read_text("utf-8")


def test_what_the_page_on_measures_shows_is_what_comes_back(
    tmp_path: Path, run_pytest: Run, python: Run
) -> None:
    text = (REPOSITORY / "docs/measures.md").read_text("utf-8")
    flow, columns = blocks(text, "python")
    for name, content in (
        ("flows/trips.py", flow.removeprefix("# flows/trips.py\n")),
        ("instances/trips.json", blocks(text, "json")[0]),
    ):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text(content, encoding="utf-8")
    judged, explained = blocks(text, "console")
    printed = [re.sub(r" +\[.*", "", line) for line in run_pytest("instances/", "-v").stdout.splitlines()]
    for line in judged.splitlines()[1:]:
        assert line in printed, line
    printed = run_pytest("instances/", "--ductaflow-explain").stdout.splitlines()
    for line in explained.splitlines()[1:]:
        assert line in printed, line
    frame = python("-c", columns)
    assert re.search(r"high +red +13\.75 +780", frame.stdout), frame.stdout + frame.stderr


def test_the_keys_of_an_expectation_are_documented() -> None:
    import json

    text = (REPOSITORY / "docs/measures.md").read_text("utf-8")
    schema = json.loads((REPOSITORY / "pytest_ductaflow/instance.schema.json").read_text("utf-8"))
    documented = set(re.findall(r"`(\w+)`", text.partition("\n| key |")[2].partition("\n\n")[0]))
    assert documented == set(schema["$defs"]["bounds"]["properties"])
