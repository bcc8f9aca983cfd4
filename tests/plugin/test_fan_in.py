"""Many feed one: patterns, whole steps and `$paths`, and what becomes of the red ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.conftest import Project

FIT = """
import pathlib
if pathlib.Path(config["_project_root"], f"fails_{config['x']}").exists():
    raise ValueError("on purpose")
pathlib.Path("m.txt").write_text(str(config["x"]))
"""
USE = """
import glob, pathlib
given = config["m"]
if isinstance(given, str):
    pattern = given if "*" in given else given + "/*/m.txt"
    given = sorted(glob.glob(pattern, recursive=True))
files = [path if path.endswith(".txt") else f"{path}/m.txt" for path in given]
pathlib.Path("sum.txt").write_text(" ".join(pathlib.Path(path).read_text() for path in files))
"""

ENGINES = ["fork", "papermill"]


@pytest.fixture
def fits(project: Project) -> Project:
    """Three fits; `a_use`, which is collected before them, is for the test to write."""
    project.flow("fit", FIT)
    project.flow("use", USE)
    project.instance("fit", scenarios={"x": [1, 2, 10]})
    return project


def use(project: Project, m: Any, **keys: Any) -> None:
    project.instance("a_use", flow="flows/use.py", config={"m": m}, **keys)


def summed(project: Project) -> str:
    return (project.root / "runs/use/a_use/sum.txt").read_text()


def lines_of(result: pytest.RunResult, fragment: str) -> list[str]:
    return [line for line in result.outlines if fragment in line]


SPELLINGS = [
    {"$paths": "runs/fit/*/m.txt"},
    {"$paths": "./runs//fit/*"},
    "runs/fit",
    "runs/fit/",
    "runs/fit/*/m.txt",
    "runs/**/m.txt",
    "ROOT/runs/fit",
    "ROOT/runs/*/fit-*/m.txt",
]


@pytest.mark.parametrize("spelling", SPELLINGS, ids=str)
def test_a_fan_in_runs_after_what_it_reads_and_again_when_that_changed(fits: Project, spelling: Any) -> None:
    given = spelling.replace("ROOT", str(fits.root)) if isinstance(spelling, str) else spelling
    use(fits, given)
    fits.run("instances").assert_outcomes(passed=4)
    assert sorted(summed(fits).split()) == ["1", "10", "2"]
    assert lines_of(fits.run("instances"), "4 up to date in ")
    fits.flow("fit", FIT + "pathlib.Path('m.txt').write_text(str(config['x'] + 100))")
    fits.run("instances").assert_outcomes(passed=4)
    assert sorted(summed(fits).split()) == ["101", "102", "110"]


def test_inputs_order_too(fits: Project) -> None:
    fits.flow("use", "import os; print(os.path.exists(config['_project_root'] + '/runs/fit/fit-10/m.txt'))")
    use(fits, 0, inputs=["runs/fit/*/m.txt"])
    fits.run("instances").assert_outcomes(passed=4)
    assert "True" in (fits.root / "runs/use/a_use/use_execution_output.txt").read_text()


@pytest.mark.parametrize("engine", ENGINES)
def test_paths_in_two_processes_are_in_the_order_of_collection(fits: Project, engine: str) -> None:
    use(fits, {"$paths": "runs/fit/*/m.txt"})
    result = fits.run_apart("-n", "2", f"--ductaflow-engine={engine}", "instances")
    result.assert_outcomes(passed=4)
    assert summed(fits) == "1 2 10"
    assert fits.record("use/a_use")["config"]["m"] == [
        f"{fits.root}/runs/fit/fit-{x}/m.txt" for x in (1, 2, 10)
    ]


def test_paths_are_those_of_the_whole_project_whatever_is_selected(fits: Project) -> None:
    use(fits, {"$paths": "runs/fit/*/m.txt"})
    fits.run("instances").assert_outcomes(passed=4)
    for arguments in (
        ["instances/a_use.json"],
        ["instances", "-k", "a_use"],
        ["instances/a_use.json", "instances"],
    ):
        assert not fits.run("-q", *arguments).parseoutcomes().get("passed")
    fits.run("instances/a_use.json", "--ductaflow-force").assert_outcomes(passed=1)
    assert summed(fits) == "1 2 10"


def test_with_needed_adds_all_that_a_pattern_leads_to(fits: Project) -> None:
    use(fits, "runs/fit/*/m.txt")
    fits.run("instances/a_use.json", "--ductaflow-with-needed").assert_outcomes(passed=4)
    assert summed(fits) == "1 10 2"


def test_a_new_scenario_makes_the_fan_in_stale_and_a_removed_one_too(fits: Project) -> None:
    use(fits, {"$paths": "runs/fit/*/m.txt"})
    fits.run("instances").assert_outcomes(passed=4)
    fits.instance("fit", scenarios={"x": [1, 2, 10, 3]})
    fits.run("instances").assert_outcomes(passed=2)
    assert summed(fits) == "1 2 10 3"
    fits.instance("fit", scenarios={"x": [1, 10]})
    fits.run("instances").assert_outcomes(passed=1)
    assert summed(fits) == "1 10"


@pytest.mark.parametrize("given", [{"$paths": "runs/fit/*/m.txt"}, "runs/fit/*/m.txt", "runs/fit"], ids=str)
def test_a_removed_red_one_blocks_nobody(fits: Project, given: Any) -> None:
    use(fits, given)
    fits.write("fails_10", "")
    fits.run("instances").assert_outcomes(passed=2, failed=1, errors=1)
    fits.instance("fit", scenarios={"x": [1, 2]})
    result = fits.run("instances")
    assert result.parseoutcomes()["passed"] == 1
    assert fits.record("use/a_use")["error"] is None


def test_a_pattern_that_leads_nowhere_is_a_collection_error_and_the_others_run(fits: Project) -> None:
    use(fits, {"$paths": "runs/fti/*/m.txt"})
    result = fits.run("instances")
    result.assert_outcomes(passed=3, errors=1)
    text = "config.m: 'runs/fti/*/m.txt' leads to no instance: did you mean runs/fit?"
    line = fits.line_of("instances/a_use.json", '"m"')
    assert lines_of(result, f"instances/a_use.json:{line}: {text}")


@pytest.mark.parametrize("workers", [[], ["-n", "2"]], ids=["serial", "xdist"])
def test_what_would_be_a_cycle_is_not_waited_for_and_named_once(fits: Project, workers: list[str]) -> None:
    use(fits, "runs/**/m.txt")
    fits.instance("b_uses_it", flow="flows/use.py", config={"m": ["runs/use/a_use/sum.txt"]})
    result = fits.run_apart(*workers, "instances")
    result.assert_outcomes(passed=5, warnings=1)
    text = "instances/a_use.json::a_use does not wait for runs/use/b_uses_it (config.m: 'runs/**/m.txt')"
    assert len(lines_of(result, text)) == 1
    assert (fits.root / "runs/use/b_uses_it/sum.txt").read_text() == summed(fits) == "1 10 2"


# --- "needs": "finished" -------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("workers", [[], ["-n", "2"]], ids=["serial", "xdist"])
def test_finished_leaves_out_what_is_red_and_is_orange_until_it_is_green(
    fits: Project, engine: str, workers: list[str]
) -> None:
    use(fits, {"$paths": "runs/fit/*/m.txt"}, needs="finished")
    fits.write("fails_2", "")
    arguments = [*workers, f"--ductaflow-engine={engine}", "instances"]
    result = fits.run_apart(*arguments)
    result.assert_outcomes(passed=3, failed=1, warnings=1)
    assert summed(fits) == "1 10"
    record = fits.record("use/a_use")
    assert record["status"] == "warning"
    text = "⚠️ left out of what this needs: instances/fit.json::fit-2 (failed)"
    assert [warning["text"] for warning in record["warnings"]] == [text]
    again = fits.run_apart(*arguments)  # fit-2 is tried again, the others are up to date
    again.assert_outcomes(failed=1, warnings=1)
    assert fits.record("use/a_use")["started"] == record["started"]
    (fits.root / "fails_2").unlink()
    fits.run_apart(*arguments).assert_outcomes(passed=2)
    assert summed(fits) == "1 2 10"
    assert fits.record("use/a_use")["status"] == "success"


@pytest.mark.parametrize("given", ["runs/fit/*/m.txt", "runs/fit"])
def test_with_a_plain_pattern_a_red_one_makes_it_orange_too(fits: Project, given: str) -> None:
    use(fits, given, needs="finished")
    fits.write("fails_2", "")
    fits.run("instances").assert_outcomes(passed=3, failed=1, warnings=1)
    assert summed(fits) == "1 10"
    assert fits.record("use/a_use")["status"] == "warning"
    (fits.root / "fails_2").unlink()
    fits.run("instances").assert_outcomes(passed=2)
    assert fits.record("use/a_use")["status"] == "success"


def test_finished_alone_goes_by_the_last_runs_and_says_what_never_ran(fits: Project) -> None:
    use(fits, {"$paths": "runs/fit/*/m.txt"}, needs="finished")
    fits.write("fails_2", "")
    fits.run("instances", "-k", "fit-1 or fit-2")
    fits.run("instances", "-k", "a_use")
    text = fits.record("use/a_use")["warnings"][0]["text"]
    assert "instances/fit.json::fit-2 (failed)" in text
    result = fits.run("instances/a_use.json", "--ductaflow-explain")
    assert lines_of(result, "a_use: up to date")
    (fits.root / "fails_2").unlink()
    fits.run("instances/fit.json")
    result = fits.run("instances/a_use.json", "--ductaflow-explain")
    assert lines_of(result, "needed: runs/fit/fit-2 is no longer left out (failed)")


def test_if_nothing_finished_it_is_not_run(fits: Project) -> None:
    use(fits, {"$paths": "runs/fit/*/m.txt"}, needs="finished")
    for x in (1, 2, 10):
        fits.write(f"fails_{x}", "")
    result = fits.run("instances")
    result.assert_outcomes(failed=3, errors=1)
    assert lines_of(result, "needs runs/fit/*/m.txt, and nothing of that finished")


def test_what_is_named_is_needed_in_any_case(fits: Project) -> None:
    use(fits, ["runs/fit/fit-1/m.txt", "runs/fit/fit-2/m.txt"], needs="finished")
    fits.write("fails_2", "")
    result = fits.run("instances")
    result.assert_outcomes(passed=2, failed=1, errors=1)
    assert lines_of(result, "needs instances/fit.json::fit-2, which failed")


def test_by_default_a_red_one_stops_it(fits: Project) -> None:
    use(fits, {"$paths": "runs/fit/*/m.txt"})
    fits.write("fails_2", "")
    fits.run("instances").assert_outcomes(passed=2, failed=1, errors=1)


def test_a_file_in_error_makes_a_fan_in_orange_until_it_is_mended(fits: Project) -> None:
    use(fits, {"$paths": "runs/fit/*/m.txt"})
    fits.write("instances/z.json", "{")
    fits.run("instances/a_use.json", "instances/fit.json").assert_outcomes(passed=4, warnings=1)
    record = fits.record("use/a_use")
    assert record["status"] == "warning"
    assert record["warnings"][0]["text"].startswith("⚠️ instances/z.json is in error")
    fits.instance("z", flow="flows/fit.py", config={"x": 4}, step="fit", name="z")
    fits.run("instances").assert_outcomes(passed=2)
    assert summed(fits) == "1 2 10 4"
    assert fits.record("use/a_use")["status"] == "success"


def test_a_table_beside_the_instance_files_is_no_file_in_error(fits: Project) -> None:
    fits.ini("ductaflow_instances = instances/*")
    fits.write("instances/xs.csv", "x\n1\n2\n")
    use(fits, {"$paths": "runs/fit/*/m.txt"})
    result = fits.run()
    result.assert_outcomes(passed=4)
    assert "4 green  0 orange" in result.stdout.str()
