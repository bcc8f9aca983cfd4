"""What is up to date, in more detail: environment, parts that are gone, workers, builds, several sessions."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import pytest

if TYPE_CHECKING:
    from tests.conftest import Project

#: Writes a line for each execution, which counts as no input.
LOG = 'open(config["_project_root"] + "/log.txt", "a").write(f"{config.get(\'x\', 0)}\\n")\n'
ORANGE = ("-W", "error::pytest_ductaflow.FlowWarning")


@pytest.fixture
def three(project: Project) -> Project:
    """Three scenarios, each of which writes a file."""
    project.flow("step", LOG + "open('out.csv', 'w').write(str(config['x']))")
    project.instance("step", scenarios={"x": [1, 2, 3]}, name="{x}")
    return project


def executed(project: Project) -> list[str]:
    """What was executed since the last look."""
    log = project.root / "log.txt"
    found = log.read_text().split() if log.exists() else []
    log.unlink(missing_ok=True)
    return found


def explained(project: Project, *arguments: str) -> list[str]:
    result = project.run("--ductaflow-explain", "instances", *arguments)
    assert result.ret == pytest.ExitCode.OK
    return result.outlines


def edit_record(project: Project, run: str, **changes: object) -> None:
    record = project.record(run)
    for key, value in changes.items():
        place, _, name = key.partition("__")
        if name:
            record[place][name] = value
        else:
            record[place] = value
    (project.root / "runs" / run / "run.json").write_text(json.dumps(record))


def append(project: Project, name: str, text: str) -> None:
    with open(project.root / name, "a") as file:
        file.write(text)


# --- counts and words ------------------------------------------------------------------------------


def test_what_ran_and_what_is_up_to_date_are_counted_apart(three: Project) -> None:
    three.run("instances", "-k", "1 or 2")
    result = three.run("instances")
    result.stdout.fnmatch_lines(
        ["instances/step.json uu. *", "3 green  0 orange  0 red*", "*1 passed, 2 up to date in*"]
    )
    assert executed(three) == ["1", "2", "3"]


def test_with_workers(three: Project) -> None:
    three.run("instances", "-k", "2")
    result = three.run_apart("instances", "-n", "2", "-v", "--junitxml=junit.xml")
    assert result.ret == pytest.ExitCode.OK
    result.stdout.fnmatch_lines(["*2 passed, 1 up to date in*"])
    result.stdout.fnmatch_lines(["*UP-TO-DATE (green)*::2*"])
    assert sorted(executed(three)) == ["1", "2", "3"]
    cases = {case.get("name"): case for case in ElementTree.parse(three.root / "junit.xml").iter("testcase")}
    marked = {
        name for name, case in cases.items() for p in case.iter("property") if p.get("name") == "up_to_date"
    }
    assert marked == {"2"}
    three.run_apart("instances", "-n", "2").stdout.fnmatch_lines(["*= 3 up to date in*"])
    three.run_apart("instances", "-n", "2", "--ductaflow-force").assert_outcomes(passed=3)
    assert sorted(executed(three)) == ["1", "2", "3"]


def test_red_is_never_up_to_date(project: Project) -> None:
    project.flow("step", LOG + "assert config['x'] != 2")
    project.instance("step", scenarios={"x": [1, 2, 3]}, name="{x}")
    for _ in range(2):  # red is never up to date
        result = project.run("instances")
        assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["*1 failed, 2 up to date in*"])
    assert executed(project) == ["1", "2", "3", "2"]
    lines = explained(project)
    assert "instances/step.json::2: would run" in lines
    assert "    the last run failed" in lines
    assert executed(project) == []
    project.run("instances", "--lf").stdout.fnmatch_lines(["*1 failed*"])
    assert executed(project) == ["2"]


def test_expected_to_fail_is_judged_as_if_it_ran(project: Project) -> None:
    project.flow("step", LOG)
    project.instance("step", marks=[{"name": "xfail", "strict": True, "reason": "soon"}])
    for _ in range(2):
        result = project.run("instances")
        assert result.ret == pytest.ExitCode.TESTS_FAILED, "it passes, and must not"
    assert len(executed(project)) == 1


def test_explain_with_force_gives_that_as_the_reason(three: Project) -> None:
    three.run("instances")
    executed(three)
    lines = explained(three, "--ductaflow-force")
    assert lines.count("    --ductaflow-force") == 3
    assert executed(three) == []


def test_explain_of_what_is_deselected_says_nothing(three: Project) -> None:
    lines = explained(three, "-k", "1")
    assert [line for line in lines if "::" in line] == ["instances/step.json::1: would run"]
    assert not (three.root / "runs").exists() or three.records() == {}


# --- environment and parts ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"environment__platform": "plan9"}, "environment: plan9 → *"),
        ({"environment__libraries": {"pytest": "0.1"}}, "environment: pytest 0.1 → *"),
        ({"environment__libraries": {"no-such-library": "1.0"}}, "environment: no-such-library 1.0 → absent"),
        ({"environment__absent": ["pytest"]}, "environment: pytest absent → *"),
        ({"environment__import_path": ["src"]}, "environment: import path *"),
        ({"environment": {}}, "it is not known what the last run read"),
        ({"environment": {"python": "3.11"}}, "it is not known what the last run read"),
        ({"code": {}}, "it is not known what the last run read"),
        ({"flow": "flows/other.py"}, "flow: flows/other.py → flows/step.py"),
        ({"config__limit": 5}, "config: limit is gone (it was 5)"),
        ({"started": "yesterday"}, "record: 'yesterday' is no time"),
        ({"ended": None}, "record: None is no time"),
        ({"ended": "2999-01-01T00:00:00+00:00"}, "clock: it has gone backwards since the last run (2999*"),
        ({"inputs__data/new.csv": "a digest of tomorrow"}, "input missing: data/new.csv"),
        ({"outputs": {"out.csv": "md5:0"}}, "output changed: runs/step/1/out.csv"),
        ({"schema": 2}, "record: *"),
        ({"outputs": []}, "record: *damaged*"),
        ({"status": "splendid"}, "record: *damaged*"),
    ],
)
def test_a_record_of_other_circumstances(three: Project, changes: dict[str, object], reason: str) -> None:
    three.run("instances", "-k", "1")
    edit_record(three, "step/1", **changes)
    pytest.LineMatcher(explained(three, "-k", "1")).fnmatch_lines(
        ["instances/step.json::1: would run", f"    {reason.replace('[', '[[]')}", "1 would run*"]
    )


def test_a_micro_version_of_python_does_not_count(three: Project) -> None:
    three.run("instances", "-k", "1")
    edit_record(three, "step/1", environment__python=f"{sys.version_info[0]}.{sys.version_info[1]}.99")
    assert "instances/step.json::1: up to date" in explained(three, "-k", "1")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("out.csv", "output changed: runs/step/2/out.csv"),
        ("step_config.json", None),
        ("step_execution_output.txt", None),
        ("step.ipynb", None),
        ("mine.txt", None),
    ],
)
def test_what_somebody_writes_into_a_run_directory(three: Project, name: str, reason: str | None) -> None:
    three.run("instances")
    append(three, f"runs/step/2/{name}", " ")
    lines = explained(three)
    assert ("    " + str(reason) in lines) == (reason is not None)
    assert lines.count("instances/step.json::2: up to date") == (reason is None)


@pytest.mark.parametrize("name", ["out.csv", "step_config.json", "step_execution_output.txt", "step.ipynb"])
def test_what_is_deleted_from_a_run_directory_is_made_again(three: Project, name: str) -> None:
    three.run("instances")
    executed(three)
    (three.root / "runs/step/2" / name).unlink()
    assert f"    output missing: runs/step/2/{name}" in explained(three)
    three.run("instances").stdout.fnmatch_lines(["*1 passed, 2 up to date*"])
    assert executed(three) == ["2"]
    assert (three.root / "runs/step/2" / name).exists()


def test_runs_that_are_deleted_in_part(three: Project) -> None:
    three.run("instances")
    executed(three)
    shutil.rmtree(three.root / "runs/step/1")
    (three.root / "runs/step/3/run.json").unlink()
    (three.root / "runs/.digests").unlink(missing_ok=True)
    lines = explained(three)
    assert lines[lines.index("instances/step.json::1: would run") + 1] == "    never run"
    assert lines[lines.index("instances/step.json::3: would run") + 1] == "    there is no record of a run"
    three.run("instances")
    assert executed(three) == ["1", "3"]


def test_a_damaged_memory_of_digests_is_no_harm(three: Project) -> None:
    three.run("instances")
    executed(three)
    three.write("runs/.digests", b"\0\xff\n{}\n[]\n")
    three.run("instances").stdout.fnmatch_lines(["*3 up to date*"])
    shutil.rmtree(three.root / "runs/.digests", ignore_errors=True)
    (three.root / "runs/.digests").unlink(missing_ok=True)
    (three.root / "runs/.digests").mkdir()
    three.run("instances").stdout.fnmatch_lines(["*3 up to date*"])
    assert executed(three) == []


def test_another_name_for_the_same_is_another_run(three: Project) -> None:
    three.run("instances")
    executed(three)
    three.instance("step", scenarios={"x": [1, 2, 3]}, name="x{x}")
    three.run("instances").assert_outcomes(passed=3)
    three.instance("step", scenarios={"x": [3, 2, 1]}, name="{x}")
    three.run("instances").stdout.fnmatch_lines(["*3 up to date*"])


# --- accepted ----------------------------------------------------------------------------------------


def test_only_what_is_selected_is_accepted(three: Project) -> None:
    three.run("instances")
    executed(three)
    append(three, "flows/step.py", "print('more')\n")
    three.run("instances", "--ductaflow-accept", "-k", "1 or 3").stdout.fnmatch_lines(["*2 up to date*"])
    assert [bool(three.record(f"step/{x}")["accepted"]) for x in (1, 2, 3)] == [True, False, True]
    three.run("instances")
    assert executed(three) == ["2"]


def test_accepting_twice_or_what_is_up_to_date_changes_nothing(three: Project) -> None:
    three.run("instances")
    record = (three.root / "runs/step/1/run.json").read_bytes()
    three.run("instances", "--ductaflow-accept").stdout.fnmatch_lines(["*3 up to date*"])
    assert (three.root / "runs/step/1/run.json").read_bytes() == record


def test_a_run_after_it_was_accepted_is_a_new_one(three: Project) -> None:
    three.run("instances")
    append(three, "runs/step/1/out.csv", "by hand")
    three.run_apart("instances", "-n", "2", "--ductaflow-accept").stdout.fnmatch_lines(["*3 up to date*"])
    assert three.record("step/1")["accepted"][0]["reasons"] == ["output changed: runs/step/1/out.csv"]
    three.run("instances").stdout.fnmatch_lines(["*3 up to date*"])
    append(three, "runs/step/1/out.csv", " again")
    assert "    output changed: runs/step/1/out.csv" in explained(three)
    three.run("instances", "--ductaflow-force")
    assert three.record("step/1")["accepted"] == []


def test_that_it_was_accepted_is_in_junit_xml(three: Project) -> None:
    three.run("instances")
    append(three, "flows/step.py", "print('more')\n")
    three.run("instances", "--ductaflow-accept")
    three.run("instances", "--junitxml=junit.xml")
    names = [p.get("name") for p in ElementTree.parse(three.root / "junit.xml").iter("property")]
    assert names.count("accepted") == names.count("up_to_date") == 3


def test_an_output_that_is_gone_and_accepted_is_no_output_any_more(three: Project) -> None:
    three.run("instances", "-k", "1")
    (three.root / "runs/step/1/out.csv").unlink()
    three.run("instances", "-k", "1", "--ductaflow-accept").stdout.fnmatch_lines(["*1 up to date*"])
    assert three.record("step/1")["outputs"] == {}
    assert "instances/step.json::1: up to date" in explained(three, "-k", "1")


# --- needed ------------------------------------------------------------------------------------------


@pytest.fixture
def chain(project: Project) -> Project:
    """Three instances in three files; each needs the one before."""
    project.flow("first", LOG + "open('out.csv', 'w').write('1')")
    project.flow("next", LOG + "open('out.csv', 'w').write(open(config['input']).read())")
    project.instance("a", flow="flows/next.py", config={"x": "a", "input": "runs/next/b/out.csv"})
    project.instance("b", flow="flows/next.py", config={"x": "b", "input": "runs/first/c/out.csv"})
    project.instance("c", flow="flows/first.py", config={"x": "c"})
    return project


def test_all_that_is_needed_is_added_also_by_what_is_needed(chain: Project) -> None:
    chain.run("instances/a.json", "--ductaflow-with-needed").assert_outcomes(passed=3)
    assert executed(chain) == ["c", "b", "a"]
    result = chain.run("instances/a.json", "--ductaflow-with-needed")
    result.stdout.fnmatch_lines(["*3 up to date*"])
    assert executed(chain) == []


def test_all_that_is_needed_and_stale_is_said(chain: Project) -> None:
    chain.run("instances")
    append(chain, "flows/first.py", "print('more')\n")
    result = chain.run("instances/a.json")
    result.stdout.fnmatch_lines(
        ["*ductaflow: needs instances/c.json::c, which is stale (code: flows/first.py*)"]
    )
    result.stdout.fnmatch_lines(["*1 up to date*"])
    lines = explained(chain, "-k", "a.json")
    assert [line for line in lines if "which is stale" in line and "c.json::c" in line]


def test_what_follows_may_run_and_does_only_if_its_input_changed(chain: Project) -> None:
    chain.run("instances")
    executed(chain)
    append(chain, "flows/first.py", "print('more')\n")
    lines = explained(chain)
    assert [line for line in lines if "::" in line and line[0] != " "] == [
        "instances/c.json::c: would run",
        "instances/b.json::b: may run",
        "instances/a.json::a: may run",
    ]
    assert "    input: runs/next/b/out.csv will be rewritten by instances/b.json::b" in lines
    chain.run("instances").stdout.fnmatch_lines(["*1 passed, 2 up to date*"])
    assert executed(chain) == ["c"]
    append(chain, "flows/first.py", "open('out.csv', 'w').write('2')\n")
    chain.run_apart("instances", "-n", "2").assert_outcomes(passed=3)
    assert executed(chain) == ["c", "b", "a"]


def test_what_is_needed_and_red_makes_the_next_run_stale(chain: Project) -> None:
    chain.run("instances")
    append(chain, "flows/first.py", "1 / 0\n")
    chain.run("instances").assert_outcomes(failed=1, errors=2)
    path = chain.root / "flows/first.py"
    path.write_text(path.read_text().replace("1 / 0\n", ""))
    executed(chain)
    chain.run("instances").assert_outcomes(passed=3)  # what was refused is red, and runs
    assert executed(chain) == ["c", "b", "a"]


def test_what_a_reference_with_wildcards_leads_to(project: Project) -> None:
    project.flow("part", LOG + "open('out.csv', 'w').write(str(config['x']))")
    project.flow(
        "all", LOG + "import glob\nprint(glob.glob(config['_project_root'] + '/' + config['parts']))"
    )
    project.instance("all", config={"x": "all", "parts": "runs/part/*/out.csv"})
    project.instance("part", scenarios={"x": [1, 2]}, name="{x}")
    project.run("instances").assert_outcomes(passed=3)
    project.run("instances").stdout.fnmatch_lines(["*3 up to date*"])
    project.instance("part", scenarios={"x": [1, 2, 3]}, name="{x}")
    follows = "    input: runs/part/*/out.csv will be rewritten by instances/part.json::3"
    assert follows in explained(project)
    executed(project)
    project.run("instances").stdout.fnmatch_lines(["*2 passed, 2 up to date*"])
    assert executed(project) == ["3", "all"]
    shutil.rmtree(project.root / "runs/part/3")
    project.instance("part", scenarios={"x": [1, 2]}, name="{x}")
    project.run("instances").stdout.fnmatch_lines(["*1 passed, 2 up to date*"])
    assert executed(project) == ["all"]


def test_a_flow_of_any_depth_runs_and_is_up_to_date(project: Project) -> None:
    branches = "".join(f"elif config['x'] == {n}: pass\n" for n in range(600))
    project.flow("step", f"{LOG}if config['x'] < 0: pass\n{branches}")
    project.instance("step", config={"x": 1})
    project.run("instances").assert_outcomes(passed=1)
    project.run("instances").stdout.fnmatch_lines(["*1 up to date*"])


# --- builds ------------------------------------------------------------------------------------------


@pytest.fixture
def build(project: Project) -> Project:
    """A build of an orange flow and one that reads what that wrote."""
    project.flow(
        "one", LOG.replace("config.get('x', 0)", "1") + "print('Warning: odd')\nopen('o.txt', 'w').write('1')"
    )
    project.flow(
        "two", LOG.replace("config.get('x', 0)", "2") + "import helper\nprint(open('../one/o.txt').read())"
    )
    project.write("helper.py", "VALUE = 1\n")
    project.build(
        "all",
        "from pytest_ductaflow import run_notebook\n"
        "for name in ('one', 'two'):\n"
        "    run_notebook(f'flows/{name}.py', execution_dir=f'runs/{name}')\n",
    )
    project.instance("all", build="builds/all.py")
    return project


def test_a_build_keeps_the_warnings_of_its_flows(build: Project) -> None:
    build.run("instances").assert_outcomes(passed=1, warnings=1)
    result = build.run("instances", "-v")
    result.stdout.fnmatch_lines(
        ["*UP-TO-DATE (orange)*", "  1 of 1: flows/* Warning: odd", "*1 warning, 1 up to date*"]
    )
    build.run("instances", *ORANGE).assert_outcomes(failed=1)
    append(build, "builds/all.py", "print('more')\n")
    build.run("instances").assert_outcomes(passed=1, warnings=1)  # the flow's own run is not repeated
    assert executed(build) == ["1", "2"]
    assert build.record("all/all")["status"] == "warning"


def test_comments_in_flows_builds_and_modules_run_nothing(build: Project) -> None:
    build.run("instances")
    executed(build)
    for name in ("flows/one.py", "flows/two.py", "builds/all.py", "helper.py"):
        append(build, name, "# words\n")
    build.run("instances").stdout.fnmatch_lines(["*1 up to date*"])
    append(build, "helper.py", "VALUE = 2\n")
    assert "    code: helper.py" in explained(build)
    build.run("instances").assert_outcomes(passed=1, warnings=1)
    assert executed(build) == ["2"]


def test_a_build_s_output_says_what_was_not_executed_again(build: Project) -> None:
    build.run("instances")
    append(build, "flows/two.py", "print('more')\n")
    build.run("instances")
    output = (build.root / "runs/all/all/all_execution_output.txt").read_text()
    assert "one: up to date, not executed again" in output
    assert "two: up to date" not in output
    assert "more" in output


def test_a_build_can_be_accepted(build: Project) -> None:
    build.run("instances")
    executed(build)
    append(build, "flows/one.py", "print('more')\n")
    build.run("instances", "--ductaflow-accept").stdout.fnmatch_lines(["*1 up to date*"])
    build.run("instances").stdout.fnmatch_lines(["*1 up to date*"])
    assert executed(build) == []


def test_a_moved_build_is_up_to_date(build: Project, tmp_path_factory: pytest.TempPathFactory) -> None:
    build.run("instances")
    other = tmp_path_factory.mktemp("other") / "project"
    shutil.copytree(build.root, other)
    command = [sys.executable, "-m", "pytest", "-p", "no:hypothesispytest", "instances"]
    environment = {**build.environment(), "HOME": str(other)}
    shown = subprocess.run(
        command, cwd=other, env=environment, capture_output=True, text=True, timeout=60
    ).stdout
    assert "1 up to date" in shown
    assert (other / "log.txt").read_text() == "1\n2\n"


@pytest.mark.parametrize(
    "at_once",
    [
        "from concurrent.futures import ThreadPoolExecutor as Pool",
        "from multiprocessing import get_context\nPool = get_context('fork').Pool",
    ],
    ids=["threads", "processes"],
)
def test_flows_that_a_build_runs_at_once(project: Project, at_once: str) -> None:
    project.flow("one", LOG + "print(open(f\"{config['_project_root']}/data/{config['x']}.csv\").read())")
    for x in "123":
        project.write(f"data/{x}.csv", x)
    project.build(
        "all",
        f"{at_once}\nfrom pytest_ductaflow import run_notebook\n"
        "def go(x): run_notebook('flows/one.py', config={'x': x}, execution_dir=f'runs/{x}')\n"
        "with Pool(2) as pool: list(pool.map(go, '123'))\n",
    )
    project.instance("all", build="builds/all.py")
    project.run("instances").assert_outcomes(passed=1)
    assert sorted(executed(project)) == ["1", "2", "3"]
    project.run("instances").stdout.fnmatch_lines(["*1 up to date*"])
    project.write("data/2.csv", "new")
    assert "    input changed: data/2.csv" in explained(project)
    project.run("instances").assert_outcomes(passed=1)
    assert executed(project) == ["2"]
    project.run("instances").stdout.fnmatch_lines(["*1 up to date*"])


@pytest.mark.parametrize(
    "place",
    [
        "../../../../../results.txt",
        pytest.param(
            "../../results.txt",
            marks=pytest.mark.xfail(
                strict=True, reason="a build removes at its start what its flows wrote into its directory"
            ),
        ),
    ],
    ids=["of the project", "of the build"],
)
def test_flows_that_write_into_another_directory_are_taken(project: Project, place: str) -> None:
    project.flow("one", LOG + f"open('{place}', 'w').write('1')")
    project.build(
        "all",
        "from pytest_ductaflow import run_notebook\n"
        "run_notebook('flows/one.py', config={'x': 1}, execution_dir='runs/one')\n",
    )
    project.instance("all", build="builds/all.py")
    project.run("instances")
    project.run("instances").stdout.fnmatch_lines(["*1 up to date*"])
    append(project, "builds/all.py", "print('more')\n")
    project.run("instances").assert_outcomes(passed=1)
    assert executed(project) == ["1"]


# --- two at once -----------------------------------------------------------------------------------


def test_two_sessions_with_workers_and_what_is_needed(new_project: Callable[[], Project]) -> None:
    project = new_project()
    project.flow("first", LOG + "import time\ntime.sleep(0.5)\nopen('out.csv', 'w').write('1')")
    project.flow("next", LOG + "import time\ntime.sleep(0.2)\nprint(open(config['input']).read())")
    project.instance(
        "a",
        flow="flows/next.py",
        scenarios={"x": [1, 2]},
        name="{x}",
        config={"input": "runs/first/z/out.csv"},
    )
    project.instance("z", flow="flows/first.py", config={"x": 0})
    command = [sys.executable, "-m", "pytest", "-p", "no:hypothesispytest", "instances", "-q", "-n", "2"]
    sessions = [
        subprocess.Popen(
            command, cwd=project.root, env=project.environment(), stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    shown = [session.communicate(timeout=60)[0] for session in sessions]
    assert [session.returncode for session in sessions] == [0, 0], shown
    assert sorted(executed(project)) == ["0", "1", "2"]
