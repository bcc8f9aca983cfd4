"""The order of instances beside plugins, options and hooks that have an order of their own."""

from __future__ import annotations

import html
import json
import re
import xml.etree.ElementTree as ElementTree
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.conftest import Project

#: The needed instance fails; by name it comes last.
A, B = "instances/a.json::a", "instances/z.json::z"
PLAIN = "test_plain.py::test_plain"
MENDED = "open('out.csv', 'w').write('1')"

REVERSE = "items[:] = sorted(items, key=lambda item: 'instances/z' in item.nodeid)"
#: How plugins implement the hook: each puts the needed instance last.
HOOKS = {
    "plain": f"def pytest_collection_modifyitems(items):\n    {REVERSE}\n",
    "tryfirst": "@pytest.hookimpl(tryfirst=True)\n"
    f"def pytest_collection_modifyitems(items):\n    {REVERSE}\n",
    "trylast": f"@pytest.hookimpl(trylast=True)\ndef pytest_collection_modifyitems(items):\n    {REVERSE}\n",
    "wrapper": "@pytest.hookimpl(wrapper=True, tryfirst=True)\n"
    f"def pytest_collection_modifyitems(items):\n    yield\n    {REVERSE}\n",
    "old wrapper": "@pytest.hookimpl(hookwrapper=True, tryfirst=True)\n"
    f"def pytest_collection_modifyitems(items):\n    yield\n    {REVERSE}\n",
}
#: Registered after ours, so its wrapper is around ours.
LATE = (
    "class Late:\n"
    "    @pytest.hookimpl(wrapper=True, tryfirst=True)\n"
    f"    def pytest_collection_modifyitems(self, items):\n        yield\n        {REVERSE}\n"
    "def pytest_itemcollected(item):\n"
    "    if not item.config.pluginmanager.has_plugin('late'):\n"
    "        item.config.pluginmanager.register(Late(), 'late')\n"
)


@pytest.fixture
def two(project: Project) -> Project:
    """An instance that needs one that fails, and an ordinary test."""
    project.flow("fails", "raise ValueError('on purpose')")
    project.flow("uses", "print(open(config['input']).read())")
    project.instance("a", flow="flows/uses.py", config={"input": "runs/fails/z/out.csv"})
    project.instance("z", flow="flows/fails.py")
    project.write("test_plain.py", "def test_plain(): pass\n")
    return project


def conftest(project: Project, text: str) -> None:
    project.write("conftest.py", "import pytest\n" + text)


def cases(project: Project) -> dict[str, set[str]]:
    """What JUnit says of each test that did not pass."""
    tree = ElementTree.parse(project.root / "junit.xml")
    suite = tree.getroot()[0]
    found = {
        f"{case.get('classname')}.{case.get('name')}": {e.tag for e in case}
        for case in suite.iter("testcase")
    }
    assert len(found) == int(suite.get("tests", 0))
    return {name: tags & {"failure", "error", "skipped"} for name, tags in found.items() if tags}


def last_failed(project: Project) -> list[str]:
    return sorted(json.loads((project.root / ".pytest_cache/v/cache/lastfailed").read_text()))


def rows(project: Project) -> dict[str, str]:
    """pytest-html's rows: test id and result."""
    (blob,) = re.findall('data-jsonblob="([^"]*)"', (project.root / "report.html").read_text())
    cells = [
        row["resultsTableRow"] for tests in json.loads(html.unescape(blob))["tests"].values() for row in tests
    ]
    texts = [[html.unescape(re.sub("<.*?>", "", cell)) for cell in row] for row in cells]
    return {row[2]: row[0] for row in texts}


@pytest.mark.parametrize("name", HOOKS)
def test_what_is_needed_comes_first_whatever_a_hook_arranges(two: Project, name: str) -> None:
    conftest(two, HOOKS[name])
    assert [one for one in two.node_ids() if one != PLAIN] == [B, A]


def test_a_wrapper_around_ours_does_not_change_the_order(two: Project) -> None:
    conftest(two, LATE)
    assert [one for one in two.node_ids() if one != PLAIN] == [B, A]


def test_new_and_failed_first_leave_what_is_needed_in_front(two: Project) -> None:
    two.run("instances/z.json", "test_plain.py").assert_outcomes(passed=1, failed=1)
    assert [one for one in two.node_ids("--nf") if one != PLAIN] == [B, A]
    two.run().assert_outcomes(passed=1, failed=1, errors=1)
    two.flow("fails", MENDED)
    two.run("instances/z.json").assert_outcomes(passed=1)
    assert [one for one in two.node_ids("--ff") if one != PLAIN] == [B, A]


@pytest.mark.parametrize("stop", ["-x", "--maxfail=1", "--sw"])
def test_the_failure_that_stops_a_session_is_the_needed_instances(two: Project, stop: str) -> None:
    conftest(two, LATE)
    result = two.run(stop, "--junitxml=junit.xml", "instances")
    result.assert_outcomes(failed=1)
    assert result.ret == (pytest.ExitCode.INTERRUPTED if stop == "--sw" else pytest.ExitCode.TESTS_FAILED)
    assert any(line.startswith(f"FAILED {B} - flows/fails.py:5: ValueError") for line in result.outlines)
    assert cases(two) == {"instances.z.json.z": {"failure"}}
    assert last_failed(two) == [B]
    assert two.node_ids("--lf") == [B]


def test_stepwise_goes_on_from_what_failed(two: Project) -> None:
    conftest(two, HOOKS["wrapper"])
    two.run("--sw", "instances").assert_outcomes(failed=1)
    two.flow("fails", MENDED)
    two.run("--sw", "instances").assert_outcomes(passed=2)


@pytest.mark.parametrize(
    "option", ["--setup-plan", "--setup-only", "--setup-only -n 2", "--fixtures", "--fixtures-per-test"]
)
def test_what_only_looks_executes_nothing(two: Project, option: str) -> None:
    two.flow("fails", MENDED)
    result = two.run_apart(*option.split(), "instances")
    assert result.ret in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED), result.stdout.str()
    assert not (two.root / "runs").exists()
    result.stdout.no_fnmatch_line("*lost*")


# --- --ductaflow-with-needed ---

FOREIGN = """
class File(pytest.File):
    def collect(self):
        yield Item.from_parent(self, name="foreign")

class Item(pytest.Item):
    def runtest(self):
        pass

@pytest.hookimpl(tryfirst=True)
def pytest_collect_file(file_path, parent):
    if file_path.suffix == ".json":
        return File.from_parent(parent, path=file_path)
"""
FOREIGN_A = "instances/a.json::foreign"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["instances/a.json"], [B, A, FOREIGN_A]),
        ([A], [B, A]),
        (["instances", "-k", "a and not foreign"], [B, A]),
        (["instances", "--deselect", B, "-k", "not foreign"], [B, A]),
        (["instances", "--deselect", A, "-k", "not foreign"], [B]),
        (["instances/z.json::foreign"], ["instances/z.json::foreign"]),
    ],
)
def test_what_is_needed_is_added_beside_other_collectors_of_json(
    two: Project, arguments: list[str], expected: list[str]
) -> None:
    conftest(two, FOREIGN)
    assert sorted(two.node_ids("--ductaflow-with-needed", *arguments)) == sorted(expected)
    ours = [node_id for node_id in two.node_ids("--ductaflow-with-needed", *arguments) if node_id in (A, B)]
    assert ours == [node_id for node_id in (B, A) if node_id in expected]


def test_what_is_needed_is_added_to_what_failed_last(two: Project) -> None:
    two.flow("fails", MENDED)
    two.flow("uses", "raise ValueError")
    two.run("instances").assert_outcomes(passed=1, failed=1)
    assert two.node_ids("--lf", "instances") == [A]
    assert two.node_ids("--lf", "--ductaflow-with-needed", "instances") == [B, A]


def test_other_hooks_see_what_is_added(two: Project) -> None:
    conftest(
        two,
        "def pytest_collection_modifyitems(items):\n"
        "    for item in items:\n"
        "        if item.nodeid.startswith('instances/z'):\n"
        "            item.add_marker(pytest.mark.skip(reason='not here'))\n",
    )
    two.write("runs/fails/z/out.csv", "by hand")
    result = two.run("--ductaflow-with-needed", "instances/a.json", "-rs")
    result.assert_outcomes(passed=1, skipped=1)


def test_what_is_added_and_taken_back_is_counted(two: Project) -> None:
    two.instance("unneeded", flow="flows/uses.py", config={"input": "runs/fails/z/out.csv"})
    for arguments, counted in {
        ("instances/a.json",): "collected 2 items",
        ("instances/a.json", "-k", "a.json"): "collected 2 items",
        ("instances", "-k", "a.json"): "collected 3 items / 1 deselected / 2 selected",
        ("instances", "-k", "nothing"): "collected 3 items / 3 deselected / 0 selected",
        ("instances/a.json", "-k", "nothing"): "collected 2 items / 2 deselected / 0 selected",
    }.items():
        result = two.run("--ductaflow-with-needed", "--setup-only", *arguments)
        assert counted in [line.strip() for line in result.outlines]


def test_a_needed_file_with_a_mistake_is_an_error_of_its_own(two: Project) -> None:
    two.instance("z", flow="flows/fails.py", marks=["unregistered"])
    result = two.run("--ductaflow-with-needed", "--strict-markers", "instances/a.json")
    result.stdout.fnmatch_lines(["ERROR instances/z.json*marks*unregistered*"])
    assert result.ret == pytest.ExitCode.TESTS_FAILED


def test_an_instance_runs_once_although_it_is_named_twice(two: Project) -> None:
    two.flow("fails")
    two.run("--keep-duplicates", "instances/z.json", "instances/z.json").assert_outcomes(passed=1)


# --- who is executed ahead of its turn ---

#: A loop of its own, which leaves our order: the needed instance would come last.
LOOP = """
@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session):
    session.items.sort(key=lambda item: "instances/z" in item.nodeid)
"""


@pytest.mark.parametrize("stop", ["-x", "--maxfail=1", "--sw"])
def test_what_was_executed_ahead_is_reported_although_the_session_stops(two: Project, stop: str) -> None:
    conftest(two, LOOP)
    result = two.run(stop, "--junitxml=junit.xml", "--html=report.html", "instances")
    result.assert_outcomes(failed=1, errors=1)
    assert result.ret == (pytest.ExitCode.INTERRUPTED if stop == "--sw" else pytest.ExitCode.TESTS_FAILED)
    result.stdout.fnmatch_lines(["0 green  0 orange  2 red*"])
    assert any(line.startswith(f"FAILED {B} - flows/fails.py:5: ValueError") for line in result.outlines)
    assert any(line.startswith(f"ERROR {A} - Failed: needs {B}, which failed") for line in result.outlines)
    assert cases(two) == {"instances.a.json.a": {"error"}, "instances.z.json.z": {"failure"}}
    assert rows(two) == {f"{A}::setup": "Error", B: "Failed"}
    assert last_failed(two) == [A, B]


def test_what_was_executed_ahead_keeps_its_marks_and_is_not_executed_again(two: Project) -> None:
    conftest(two, LOOP)
    body = "with open(config['_project_root'] + '/log.txt', 'a') as log: log.write('z ')\n"
    two.flow("fails", body + "raise ValueError")
    two.instance("z", flow="flows/fails.py", marks=["xfail"])
    two.run("-x", "instances").assert_outcomes(xfailed=1, errors=1)
    assert (two.root / "log.txt").read_text() == "z "


@pytest.mark.parametrize("dist", ["loadfile", "loadscope"])
def test_what_a_worker_executed_ahead_is_reported(two: Project, dist: str) -> None:
    """The file with more tests goes first."""
    two.instance(
        "a",
        flow="flows/uses.py",
        config={"input": "runs/fails/z/out.csv"},
        scenarios={"x": [1, 2]},
    )
    result = two.run_apart(
        "-x", "-n", "1", f"--dist={dist}", "--junitxml=junit.xml", "--html=report.html", "instances"
    )
    assert result.parseoutcomes()["failed"] == result.parseoutcomes()["errors"] == 1
    assert result.ret == pytest.ExitCode.INTERRUPTED  # as xdist has it
    assert any(line.startswith(f"FAILED {B} - flows/fails.py:5: ValueError") for line in result.outlines)
    assert cases(two) == {"instances.a.json.a-1": {"error"}, "instances.z.json.z": {"failure"}}
    assert rows(two) == {f"{A}-1::setup": "Error", B: "Failed"}
    assert last_failed(two) == [f"{A}-1", B]
