"""What a flow reads by a glob of its own: it orders the next session, and is not read too early unnoticed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.conftest import Project

SUM = """
from pathlib import Path
print(sum(int(path.read_text()) for path in sorted(Path("../../fit").glob("*/o.txt"))))
"""
ENGINES = [["--ductaflow-engine=fork"], ["--ductaflow-engine=papermill"]]


def fan_in(project: Project, *ks: int, factor: int = 1, body: str = SUM) -> None:
    """Fits, and a sum of them that stands before them and that no reference tells of."""
    project.flow("fit", f"open('o.txt', 'w').write(str({factor} * config['k']))")
    project.instance("fit", scenarios={"k": list(ks)})
    project.flow("use", body)
    project.instance("a_use", flow="flows/use.py", name="use")


def shown(project: Project) -> tuple[str, list[str], str]:
    record = project.record("use/use")
    printed = (project.root / "runs/use/use/use_execution_output.txt").read_text().strip()
    return record["status"], [warning["text"] for warning in record["warnings"]], printed


@pytest.mark.parametrize("arguments", ENGINES)
def test_what_reads_too_early_is_orange_and_in_order_next_time(
    project: Project, arguments: list[str]
) -> None:
    fan_in(project, 1, 2)
    project.run_apart("-q", *arguments)
    line = "⚠️ read runs/fit before this session made them (2 runs)"
    assert shown(project) == ("warning", [line], "0")
    assert "    input read too early: runs/fit" in project.run("--ductaflow-explain").outlines
    project.run_apart("-q", *arguments)
    assert shown(project) == ("success", [], "3")
    fan_in(project, 1, 2, 3, factor=10)  # all are stale, and one is new
    result = project.run_apart("-v", *arguments)
    assert shown(project) == ("success", [], "60")
    order = [line.split()[0].split("::")[1] for line in result.outlines if line.startswith("instances/")]
    assert order == ["fit-1", "fit-2", "fit-3", "use"]
    assert "4 up to date" in project.run_apart("-q", *arguments).stdout.str()


def test_explain_tells_of_what_the_last_run_was_seen_to_read(project: Project) -> None:
    fan_in(project, 1, 2)
    project.run_apart("-q")
    project.run_apart("-q")
    project.flow("report", "print(open('../../use/use/use_execution_output.txt').read())")
    project.instance("report")
    project.run_apart("-q")
    assert "0 would run, 0 may run, 4 up to date" in project.run("--ductaflow-explain").outlines
    project.instance("fit", scenarios={"k": [1, 2], "more": [{"label": "x", "extra": 5}]}, name="fit-{k}")
    fit = "instances/fit.json::fit-{}"
    text = "    input: {}, read by the last run, will be rewritten by {}"
    lines = project.run("--ductaflow-explain").outlines
    at = lines.index("instances/a_use.json::use: may run")
    assert lines[at + 1 : at + 3] == [text.format(f"runs/fit/fit-{k}/o.txt", fit.format(k)) for k in (1, 2)]
    at = lines.index("instances/report.json::report: may run")
    assert lines[at + 1] == text.format("runs/use/use/use_execution_output.txt", "instances/a_use.json::use")
    assert "2 would run, 2 may run, 0 up to date" in lines
    selected = project.run("--ductaflow-explain", "instances/a_use.json").outlines
    assert "0 would run, 0 may run, 1 up to date" in selected, "nothing of it is made again"


def test_explain_names_what_is_referred_to_once(project: Project) -> None:
    project.flow("fit", "open('o.txt', 'w').write('1')")
    project.instance("fit")
    project.flow("use", "open(config['o']).read()")
    project.instance("use", config={"o": "runs/fit/fit/o.txt"})
    project.run("instances").assert_outcomes(passed=2)
    project.flow("fit", "open('o.txt', 'w').write('2')")
    lines = project.run("--ductaflow-explain").outlines
    at = lines.index("instances/use.json::use: may run")
    told = "    input: runs/fit/fit/o.txt will be rewritten by instances/fit.json::fit"
    assert lines[at + 1 :][:2] == [told, "1 would run, 1 may run, 0 up to date"]


def test_under_xdist_what_was_seen_is_waited_for(project: Project) -> None:
    fan_in(project, 1, 2)
    project.run_apart("-q")
    project.run_apart("-q")
    assert shown(project) == ("success", [], "3")
    for factor in (10, 100):
        slow = "import time\ntime.sleep(0.5)"  # so that whoever does not wait is too early
        fan_in(project, 1, 2, 3, factor=factor)
        project.flow("fit", f"{slow}\nopen('o.txt', 'w').write(str({factor} * config['k']))")
        project.run_apart("-q", "-n2")
        assert shown(project) == ("success", [], str(6 * factor))


def test_under_xdist_what_reads_too_early_is_orange(project: Project) -> None:
    # The fits wait until the sum has read: nothing but this session's runs tells that it was too early.
    project.flow(
        "fit", "import time\nwhile not __import__('os').path.exists('../../../read'): time.sleep(0.01)"
    )
    project.instance("fit", scenarios={"k": [1, 2]})
    project.flow("use", SUM + "open('../../../read', 'w')")
    project.instance("a_use", flow="flows/use.py", name="use")
    project.run_apart("-q", "-n2", timeout=60)
    status, (line, *_), _ = shown(project)
    assert status == "warning"
    assert line.startswith("⚠️ read runs/fit")
    assert " before this session " in line


def test_what_is_read_while_it_is_up_to_date_is_not_too_early(project: Project) -> None:
    fan_in(project, 1, 2)
    project.run("-q", "instances/fit.json")
    project.run("-q")
    assert shown(project) == ("success", [], "3")


def test_what_is_not_selected_is_not_too_early(project: Project) -> None:
    fan_in(project, 1, 2)
    project.run("-q", "instances/a_use.json")
    assert shown(project) == ("success", [], "0")


def test_what_waits_for_the_reader_is_not_too_early(project: Project) -> None:
    fan_in(project, 1, body=SUM + "print(len(list(Path('../..').glob('*/*/*.txt'))) > 0)\nopen('s.txt', 'w')")
    project.flow("after", "open('o.txt', 'w')")
    project.instance("after", config={"sum": "runs/use/use/s.txt"})
    project.run("-q", "instances/fit.json")
    project.run("-q")
    assert shown(project)[:2] == ("success", [])
    assert "3 up to date" in project.run("-q").stdout.str()


def test_two_that_read_each_other_run_and_neither_waits(project: Project) -> None:
    for name, other in (("a", "b"), ("b", "a")):
        project.flow(
            name, f"import os\nprint(os.path.exists('../../{other}/{other}/o.txt'))\nopen('o.txt', 'w')"
        )
        project.instance(name)
    project.run("-q")
    result = project.run("-v")
    assert result.ret == 0
    order = [line.split()[0].split("::")[1] for line in result.outlines if line.startswith("instances/")]
    assert order == ["a", "b"]


def test_what_is_read_of_a_run_that_failed_is_orange_and_not_up_to_date(project: Project) -> None:
    fan_in(project, 1, 2)
    project.run("-q", "instances/fit.json")
    project.run("-q")
    project.flow("fit", "open('o.txt', 'w').write(str(config['k']))\nassert config['k'] < 2, 'on purpose'")
    for _ in range(2):
        project.run("-q")
        assert shown(project) == ("warning", ["⚠️ read runs/fit/fit-2/o.txt of a run that failed"], "3")
    fan_in(project, 1, 2, factor=2)
    project.run("-q")
    assert shown(project) == ("success", [], "6")


def test_forced_all_that_is_to_run_again_comes_first_too(project: Project) -> None:
    fan_in(project, 1, 2)
    project.run("-q", "instances/fit.json")
    project.run("-q")
    project.run("-q", "--ductaflow-force")
    assert shown(project) == ("success", [], "3")
