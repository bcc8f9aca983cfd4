"""What a person types: a flow instead of its instances, or something that leads to no instance."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.conftest import Project

A1, A2, B = "instances/a.json::a-1", "instances/a.json::a-2", "instances/b.json::b"
C, ALL = "instances/c.json::c", "instances/all.json::all"


@pytest.fixture
def typed(project: Project) -> Project:
    """Two flows, one of which has two instance files, and a build that calls both."""
    body = "import sys\nprint('ran')\nif 'pytest' in sys.modules: sys.exit('a flow is no test module')\n"
    for flow in ("growth", "other", "unused"):
        project.flow(flow, body)
    project.build("all", "from pytest_ductaflow import run_notebook\n# flows/growth.py")
    project.instance("a", flow="flows/growth.py", scenarios={"x": [1, 2]})
    project.instance("b", flow="./flows/growth.py")
    project.instance("c", flow="flows/other.py")
    project.instance("all", build="builds/all.py")
    return project


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["flows/growth.py"], [A1, A2, B]),
        (["./flows/../flows/growth.py"], [A1, A2, B]),
        (["builds/all.py"], [ALL]),
        (["flows"], [A1, A2, B, C]),
        (["flows/"], [A1, A2, B, C]),
        (["builds", "flows/other.py"], [ALL, C]),
        (["flows/growth.py", "instances/a.json"], [A1, A2, B]),
        (["instances/a.json::a-2", "flows/growth.py"], [A1, A2, B]),
        (["flows/growth.py", "flows/growth.py"], [A1, A2, B]),
        (["--keep-duplicates", "flows/growth.py", "instances"], [A1, A2, B, ALL, C]),
        (["flows/growth.py", "."], [A1, A2, B, ALL, C]),
        (["flows/growth.py::a-2"], [A2]),
        (["flows/growth.py", "-k", "a-2"], [A2]),
        (["flows/growth.py", "--deselect", A1], [A2, B]),
    ],
)
def test_a_flow_stands_for_its_instances(typed: Project, arguments: list[str], expected: list[str]) -> None:
    assert sorted(typed.node_ids(*arguments)) == sorted(expected)


@pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["serial", "xdist"])
def test_a_flows_instances_run(typed: Project, workers: tuple[str, ...]) -> None:
    typed.flow("growth", "print('ran')")
    result = typed.run_apart(*workers, "flows/growth.py", "-rA")
    assert result.ret == 0
    result.stdout.fnmatch_lines_random([f"PASSED {node_id}*" for node_id in (A1, A2, B)])
    assert sorted(typed.records()) == ["growth/a-1", "growth/a-2", "growth/b"]


@pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["serial", "xdist"])
@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ("flows/unused.py", "no instance runs it (instance files: instances/*.json below *)"),
        ("flows/growth.py::a-3", "none of its 3 instances has this name, did you mean a-*?"),
        ("flows/growth.py::zzz", "none of its 3 instances has this name: they are a-1, a-2, b"),
    ],
)
def test_a_flow_without_the_instances_is_one_line(
    typed: Project, workers: tuple[str, ...], argument: str, said: str
) -> None:
    result = typed.run_apart(*workers, argument)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    errors = [line for line in (*result.outlines, *result.errlines) if line.startswith("ERROR")]
    pytest.LineMatcher(errors).fnmatch_lines([f"ERROR: {argument}: {said}"])
    assert len(errors) == 1


def test_an_instance_file_in_error_is_not_passed_over(typed: Project) -> None:
    typed.write("instances/b.json", '{"flow": "flows/growth.py",')
    result = typed.run("--collect-only", "flows/growth.py")
    result.stdout.fnmatch_lines(["ERROR instances/b.json*"])
    typed.run("--collect-only", "flows/other.py").stdout.no_fnmatch_line("*ERROR*")


def test_what_pytest_takes_for_tests_stays_tests(typed: Project) -> None:
    typed.flow("test_it", "def test_it(): pass")
    typed.instance("d", flow="flows/test_it.py")
    assert typed.node_ids("flows/test_it.py") == ["flows/test_it.py::test_it"]
    assert "flows/test_it.py::test_it" in typed.node_ids("flows")
    typed.write("tools/check.py", "def test_tool(): pass\n")
    assert typed.node_ids("tools/check.py") == ["tools/check.py::test_tool"]


def test_a_flow_is_found_from_a_subdirectory(typed: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(typed.root / "flows")
    result = typed.run("--collect-only", "-q", "growth.py")
    assert [line for line in result.outlines if "::" in line] == [A1, A2, B]


# --- nothing collected ---


def said(result: pytest.RunResult) -> list[str]:
    assert result.ret == pytest.ExitCode.NO_TESTS_COLLECTED
    return [line for line in result.outlines if line.startswith("ductaflow: ") and "engine" not in line]


def test_from_a_subdirectory_it_is_said_where_instances_are(
    typed: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    typed.write("data/table.csv", "x\n1\n")
    monkeypatch.chdir(typed.root / "data")
    looked = f"instance files are instances/*.json below the root {typed.root}"
    expected = [f"ductaflow: no instance in .: {looked}; type: pytest ../instances"]
    assert said(typed.run()) == expected
    assert said(typed.run_apart("-n", "2", "data")) == [
        f"ductaflow: no instance in data: {looked}; type: pytest instances"
    ]


@pytest.mark.parametrize(("place", "way"), [("inner", "."), ("inner/flows/deep", "../..")])
def test_a_root_above_the_project_is_said(
    project: Project, monkeypatch: pytest.MonkeyPatch, place: str, way: str
) -> None:
    project.write("inner/instances/a.json", {"flow": "flows/a.py"})
    (project.root / "inner/flows/deep").mkdir(parents=True)
    (project.root / "instances").rmdir()
    monkeypatch.chdir(project.root / place)
    (line,) = said(project.run())
    assert f"below the root {project.root}, but {project.root / 'inner/instances'} has some" in line
    assert line.endswith(f"type: pytest --rootdir={way} {way}")


def test_a_root_below_the_project_is_said(typed: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    typed.write("sub/pytest.ini", "[pytest]\n")
    monkeypatch.chdir(typed.root / "sub")
    (line,) = said(typed.run())
    assert f"below the root {typed.root / 'sub'}, but {typed.root / 'instances'} has some" in line
    assert line.endswith("type: pytest --rootdir=.. ..")


def test_misspelt_patterns_and_deeper_files_are_said(project: Project) -> None:
    project.ini("ductaflow_instances = instance/*.json sweeps/*.json")
    (line,) = said(project.run())
    assert "instance files are instance/*.json, sweeps/*.json below the root" in line
    project.ini()
    project.write("instances/deep/a.json", {"flow": "flows/a.py"})
    (line,) = said(project.run())
    assert line.endswith("in pytest's configuration: ductaflow_instances = instances/**/*.json")


def test_who_has_no_instances_hears_nothing(project: Project) -> None:
    for name in ("flows", "builds", "instances"):
        (project.root / name).rmdir()
    assert said(project.run()) == []
    project.write("tests/instances/data.json", {"flow": 1, "build": "no path"})
    project.write("tests/deep/x.txt", "")
    assert said(project.run("tests/deep")) == []
    project.write("tests/check.py", "# %%\n")
    assert said(project.run("tests/check.py")) == []


def test_who_deselects_all_hears_nothing(typed: Project) -> None:
    assert said(typed.run("-k", "nothing")) == []
    assert said(typed.run("--deselect", "instances")) == []
