"""Which instances are collected, under which ids, in which order. Nothing here runs a kernel."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from pytest_ductaflow.items import InstanceItem

if TYPE_CHECKING:
    from tests.conftest import Project

# --- ids and their order ---


def test_files_are_sorted_and_scenarios_keep_their_order(project: Project) -> None:
    project.flow("fit")
    project.instance("zeta", flow="flows/fit.py")
    project.instance("alpha", flow="flows/fit.py", step="a", scenarios=[{"x": 9}, {"x": 1}, {"x": 5}])
    assert project.node_ids() == [
        "instances/alpha.json::alpha-9",
        "instances/alpha.json::alpha-1",
        "instances/alpha.json::alpha-5",
        "instances/zeta.json::zeta",
    ]


def test_dimensions_are_nested_loops_with_labels_joined_as_pytest_joins_them(project: Project) -> None:
    project.flow("fit")
    project.instance(
        "sweep",
        flow="flows/fit.py",
        scenarios={"origin": ["JFK", "LGA"], "model": [{"label": "quick look", "trees": 5}, True, [1]]},
    )
    assert project.node_ids() == [
        "instances/sweep.json::sweep-JFK-quick_look",
        "instances/sweep.json::sweep-JFK-True",
        "instances/sweep.json::sweep-JFK-model2",
        "instances/sweep.json::sweep-LGA-quick_look",
        "instances/sweep.json::sweep-LGA-True",
        "instances/sweep.json::sweep-LGA-model2",
    ]


def test_a_name_template_names_scenarios_and_active_chooses_them(project: Project) -> None:
    project.flow("fit")
    scenarios = {"origin": ["JFK", "LGA"], "month": [1, 7]}
    project.instance("sweep", flow="flows/fit.py", scenarios=scenarios, name="{origin}_{month}")
    rows = [{"label": "wet", "rain": 1}, {"label": "dry", "rain": 0}]
    project.instance("weather", flow="flows/fit.py", scenarios=rows, active=["dry"])
    assert project.node_ids() == [
        "instances/sweep.json::JFK_1",
        "instances/sweep.json::JFK_7",
        "instances/sweep.json::LGA_1",
        "instances/sweep.json::LGA_7",
        "instances/weather.json::weather-dry",
    ]


def test_a_csv_table_gives_one_scenario_a_row_in_its_order(project: Project) -> None:
    project.flow("fit")
    project.write("data/sweep.csv", "label,x\nlast,3\nfirst,1\n")
    project.instance("sweep", flow="flows/fit.py", scenarios="data/sweep.csv")
    assert project.node_ids() == ["instances/sweep.json::sweep-last", "instances/sweep.json::sweep-first"]


def test_what_is_needed_comes_first_and_the_rest_keeps_its_order(project: Project) -> None:
    for name in ("compare", "fit", "other"):
        project.flow(name)
    project.instance("compare", config={"inputs": ["runs/fit/fit-2/out.csv", "runs/fit/fit-1/out.csv"]})
    project.instance("fit", scenarios=[{"x": 1}, {"x": 2}])
    project.instance("other")
    project.instance("all", flow="flows/compare.py", config={"files": "runs/*/*/out.csv"})
    assert project.node_ids() == [
        "instances/fit.json::fit-1",
        "instances/fit.json::fit-2",
        "instances/compare.json::compare",
        "instances/other.json::other",
        "instances/all.json::all",
    ]


def test_collect_only_lists_ids_and_their_number_and_runs_nothing(project: Project) -> None:
    project.flow("fit")
    project.instance("fit", scenarios={"x": [1, 2]})
    project.write("tests/test_plain.py", "def test_plain(): pass\n")
    result = project.run("--collect-only", "-q")
    assert result.ret == pytest.ExitCode.OK
    assert result.outlines[:3] == [
        "instances/fit.json::fit-1",
        "instances/fit.json::fit-2",
        "tests/test_plain.py::test_plain",
    ]
    result.stdout.fnmatch_lines(["3 tests collected in *"])
    assert not (project.root / "runs").exists()


def test_ten_thousand_scenarios_are_collected_about_as_fast_as_tests(project: Project) -> None:
    project.flow("fit")
    project.instance("fit", scenarios={"x": list(range(100)), "y": list(range(100))})
    project.write(
        "test_plain.py",
        "import pytest\n"
        "@pytest.mark.parametrize('x', range(100))\n"
        "@pytest.mark.parametrize('y', range(100))\n"
        "def test_plain(x, y): pass\n",
    )
    seconds = {}
    for place in ("instances", "test_plain.py"):
        before = os.times()
        ids = project.node_ids(place)
        after = os.times()
        assert len(ids) == 10_000
        seconds[place] = after.user + after.system - before.user - before.system
    assert ids[-1].startswith("test_plain.py::")
    assert project.node_ids("instances")[-1] == "instances/fit.json::fit-99-99"
    assert seconds["instances"] < 3 * seconds["test_plain.py"], seconds


# --- which files ---


def test_the_ini_key_says_which_files_are_instance_files(project: Project) -> None:
    project.ini("ductaflow_instances =", "    sweeps/*.json", "    **/nightly-*.json")
    project.flow("fit")
    for name in ("instances/no.json", "sweeps/yes.json", "a/b/nightly-1.json", "sweeps/deep/no.json"):
        project.write(name, {"flow": "flows/fit.py"})
    assert project.node_ids() == [
        "a/b/nightly-1.json::nightly-1",
        "sweeps/yes.json::yes",
    ]


def test_a_recursive_glob_finds_instance_files_at_every_depth(project: Project) -> None:
    project.ini("ductaflow_instances = instances/**/*.json")
    project.flow("fit")
    names = ("a", "deep/b", "deep/er/c")
    for name in names:
        project.write(f"instances/{name}.json", {"flow": "flows/fit.py"})
    assert sorted(project.node_ids()) == [f"instances/{name}.json::{name[-1]}" for name in names]


def test_globs_start_at_the_root_directory(project: Project) -> None:
    project.flow("fit")
    project.write("vendored/instances/x.json", {"flow": "flows/fit.py"})
    project.instance("fit")
    assert project.node_ids() == ["instances/fit.json::fit"]


def test_an_explicit_path_is_an_instance_file_wherever_it_lies(project: Project) -> None:
    project.flow("fit")
    project.write("elsewhere/one.json", {"flow": "flows/fit.py", "scenarios": {"x": [1, 2]}})
    assert project.node_ids() == []
    assert len(project.node_ids("elsewhere/one.json")) == 2
    assert project.node_ids("elsewhere/one.json::one-2") == ["elsewhere/one.json::one-2"]


def test_json_files_beside_tests_are_left_alone(project: Project) -> None:
    project.write("tests/data.json", "no JSON at all")
    project.write("instances/readme.txt", "no instance file")
    project.write("instances/deep/er.json", "no JSON at all")
    assert project.node_ids() == []


def test_run_directories_are_never_collected(project: Project) -> None:
    project.ini("ductaflow_instances = **/*.json")
    project.flow("fit")
    project.write("runs/fit/fit/fit_config.json", {"x": 1})
    project.write("runs/fit/fit/instances/copy.json", {"flow": "flows/fit.py"})
    project.write("runs/fit/fit/test_output.py", "def test_output(): raise AssertionError\n")
    project.write("sub/runs/kept.json", {"flow": "flows/fit.py"})
    assert project.node_ids() == ["sub/runs/kept.json::kept"]


def test_without_the_plugin_instances_are_no_tests(project: Project) -> None:
    project.flow("fit")
    project.instance("fit")
    assert project.node_ids("instances") == ["instances/fit.json::fit"]
    result = project.run("-p", "no:ductaflow", "instances")
    assert result.ret == pytest.ExitCode.NO_TESTS_COLLECTED
    result.stdout.no_fnmatch_line("*fit*")


# --- selection ---


@pytest.fixture
def selectable(project: Project) -> Project:
    project.flow("fit")
    project.build("delays", "")
    project.instance("delays", build="builds/delays.py", scenarios={"origin": ["JFK", "LGA"], "month": [1]})
    project.instance("fit", marks=["ci"])
    return project


@pytest.mark.parametrize(
    ("option", "value", "selected"),
    [
        ("-m", "ci", ["fit"]),
        ("-m", "not ci", ["delays-JFK-1", "delays-LGA-1"]),
        ("-m", 'flow(name="fit")', ["fit"]),
        ("-m", 'flow(name="delays")', []),
        ("-m", 'build(name="delays")', ["delays-JFK-1", "delays-LGA-1"]),
        ("-m", 'scenario(origin="JFK")', ["delays-JFK-1"]),
        ("-m", "scenario(month=1)", ["delays-JFK-1", "delays-LGA-1"]),
        ("-m", "scenario(month=2)", []),
        ("-k", "JFK", ["delays-JFK-1"]),
        ("-k", "lga or fit", ["delays-LGA-1", "fit"]),
    ],
)
def test_marks_and_keywords_select_scenarios(
    selectable: Project, option: str, value: str, selected: list[str]
) -> None:
    ids = selectable.node_ids("--strict-markers", option, value)
    assert [node_id.partition("::")[2] for node_id in ids] == selected


def test_k_finds_a_value_that_is_no_part_of_the_name(project: Project) -> None:
    project.flow("fit")
    rows = [{"label": "a", "origin": "JFK"}, {"label": "b", "origin": "LGA"}]
    project.instance("fit", scenarios=rows)
    assert project.node_ids("-k", "JFK") == ["instances/fit.json::fit-a"]


# --- the items ---


def test_an_item_says_where_it_stands_and_has_no_callspec(
    project: Project, pytester: pytest.Pytester
) -> None:
    project.flow("fit")
    project.instance("alone", flow="flows/fit.py")
    path = project.instance("fit", scenarios=[{"x": 1}, {"x": 2}])
    items, _ = pytester.inline_genitems("-p", "no:hypothesispytest", "instances")
    assert [type(item) for item in items] == [InstanceItem] * 3
    alone, first, second = (item.reportinfo() for item in items if isinstance(item, pytest.Item))
    assert alone == (project.root / "instances/alone.json", 0, "alone (flows/fit.py)")
    assert first == (path, 3, "fit-1 (flows/fit.py)")
    assert second == (path, 6, "fit-2 (flows/fit.py)")
    assert {type(line) for _, line, _ in (alone, first, second)} == {int}
    assert not any(hasattr(item, "callspec") for item in items)


# --- what the plugin costs a run without instances ---


def test_the_plugin_loads_nothing_heavy() -> None:
    code = """\
import sys
import pytest_ductaflow.plugin
heavy = {"pandas", "numpy", "papermill", "jupytext", "nbformat", "nbclient", "IPython", "zmq"}
print(sorted(heavy & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_a_run_without_instances_loads_nothing_of_jupyter(project: Project) -> None:
    project.write(
        "test_plain.py",
        "import sys\n"
        "def test_plain():\n"
        "    heavy = {'pandas', 'papermill', 'nbformat', 'pytest_ductaflow.items'}\n"
        "    assert not heavy & set(sys.modules)\n",
    )
    project.run_apart().assert_outcomes(passed=1)
