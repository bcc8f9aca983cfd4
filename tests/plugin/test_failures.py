"""What a red run shows."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.conftest import Project

Ran = tuple["Project", pytest.RunResult]

FIT = """
import helper

for i in range(30):
    print("line", i)

def check(x):
    if x < 0:
        raise ValueError(f"negative flow: {x}\\nsecond line")

check(config["x"])  # the call

# %%
print("never reached")
"""

BUILD = """
from pytest_ductaflow import run_notebook

print("the build's own output")
run_notebook("flows/fit.py", config={"x": -2}, execution_dir="runs/fit")
"""


@pytest.fixture(scope="module", params=[(), ("-n", "2")], ids=["serial", "xdist"])
def ran(new_project: Callable[[], Project], request: pytest.FixtureRequest) -> Ran:
    project = new_project()
    project.flow("fit", FIT)
    project.write("helper.py", "def explode():\n    raise KeyError('deep')\n")
    project.instance(
        "fit",
        config={"api_token": "s3cr3t", "nested": {"Password": "s3cr3t"}},
        scenarios=[{"label": "a b", "x": -1}],
    )
    project.build("all", BUILD)
    project.instance("all", build="builds/all.py")
    project.flow("broken", "print('fine')\n\nx = = 1")
    project.instance("broken")
    project.flow("deep", "import helper\n\nhelper.explode()")
    project.instance("deep")
    project.flow("exits", "import sys\nsys.exit(3)\n\n# %%\nprint(1)")
    project.instance("exits")
    # A build and an instance fail for the same cause: each of their tracebacks is looked at here.
    return project, project.run_apart("instances", "--ductaflow-tracebacks=all", *request.param)


def part(result: pytest.RunResult, name: str) -> list[str]:
    """The lines that pytest shows about one failed instance."""
    lines = [line.rstrip() for line in result.outlines]
    titles = [n for n, line in enumerate(lines) if line.startswith("____") and line.endswith("____")]
    ends = [n for n, line in enumerate(lines) if line.startswith(("=====", "---")) and " lights " in line]
    (start,) = (n for n in titles if lines[n].strip("_ ").startswith(f"{name} ("))
    end = min(n for n in [*titles, *ends] if n > start)
    return lines[start + 1 : end]


def section(lines: list[str], title: str) -> list[str]:
    """The lines of a titled section of a failure."""
    (start,) = (n for n, line in enumerate(lines) if line.startswith("---") and line.strip("- ") == title)
    following = (n for n, line in enumerate(lines) if n > start and line.startswith("---"))
    return lines[start + 1 : next(following, len(lines))]


def test_a_failure_shows_the_cells_source_with_the_line_marked(ran: Ran) -> None:
    project, result = ran
    shown = part(result, "fit-a_b")
    call = project.line_of("flows/fit.py", "# the call")
    raised = project.line_of("flows/fit.py", "raise ValueError")
    assert '>   check(config["x"])  # the call' in shown
    assert '>           raise ValueError(f"negative flow: {x}\\nsecond line")' in shown
    assert "    def check(x):" in shown
    assert f"flows/fit.py:{call}: in <module>" in shown
    place = shown.index(f"flows/fit.py:{raised}: ValueError")
    assert shown.index("E   ValueError: negative flow: -1") < place
    assert "E     second line" in shown
    text = "\n".join(shown)
    for inner in ("nbclient", "papermill", "pytest_ductaflow/", "ipykernel", "never reached"):
        assert inner not in text


def test_a_failure_in_a_module_of_the_project_shows_the_flow_and_the_module(ran: Ran) -> None:
    _, result = ran
    shown = part(result, "deep")
    assert shown.index("flows/deep.py:7: in <module>") < shown.index("helper.py:2: KeyError")
    assert ">       raise KeyError('deep')" in shown
    assert "E   KeyError: 'deep'" in shown


def test_sections_show_config_run_directory_and_how_to_reproduce(ran: Ran) -> None:
    _, result = ran
    shown = part(result, "fit-a_b")
    config = section(shown, "config")
    assert '  "x": -1' in config
    assert '  "api_token": "***",' in config
    assert "s3cr3t" not in result.stdout.str() + result.stderr.str()
    assert "_project_root" not in "\n".join(config)
    assert section(shown, "run directory") == ["runs/fit/fit-a_b"]
    assert section(shown, "reproduce") == [
        "re-run: pytest instances/fit.json::fit-a_b",
        "open:   jupyter lab runs/fit/fit-a_b/fit.ipynb",
    ]


def test_only_the_last_twenty_printed_lines_are_shown(ran: Ran) -> None:
    project, result = ran
    assert section(part(result, "fit-a_b"), "Captured stdout call") == [f"line {i}" for i in range(10, 30)]
    output = project.root / "runs/fit/fit-a_b/fit_execution_output.txt"
    *text, last = output.read_text("utf-8").splitlines()
    assert text[:31] == [*(f"line {i}" for i in range(30)), "Traceback (most recent call last):"]
    assert text[-2:] == ["ValueError: negative flow: -1", "second line"]
    assert last == "❌ Failed fit | Instance: fit-a_b | Error: ValueError: negative flow: -1"
    page = (project.root / "runs/conductor_status_report.html").read_text("utf-8")
    rows = json.loads(page.partition('id="data">')[2].partition("</script>")[0])["rows"]
    [shown] = [row["output"] for row in rows if row["path"] == "fit/fit-a_b"]
    assert shown[-1] == "line 29"


def test_the_short_summary_says_place_and_error_and_the_instance_once(ran: Ran) -> None:
    project, result = ran
    raised = project.line_of("flows/fit.py", "raise ValueError")
    summary = result.outlines[
        next(n for n, line in enumerate(result.outlines) if " short test summary " in line) :
    ]
    error = f"flows/fit.py:{raised}: ValueError: negative flow"
    for expected in (
        f"FAILED instances/fit.json::fit-a_b - {error}: -1",
        f"FAILED instances/all.json::all - {error}: -2",
        "FAILED instances/deep.json::deep - flows/deep.py:7: KeyError: 'deep'",
        "FAILED instances/exits.json::exits - flows/exits.py:6: SystemExit: stopped early: exit status 3; "
        "1 more cell never ran",
    ):
        assert summary.count(expected) == 1, expected
    result.assert_outcomes(failed=5)


def test_a_syntax_error_is_red_with_its_line(ran: Ran) -> None:
    project, result = ran
    shown = part(result, "broken")
    assert ">   x = = 1" in shown
    assert "flows/broken.py:7: SyntaxError" in shown
    record = project.record("broken/broken")
    assert (record["status"], record["error"]["line"]) == ("error", 7)
    (line,) = (line for line in result.outlines if "FAILED" in line and "SyntaxError" in line)
    assert "flows/broken.py:7: SyntaxError: invalid syntax" in line
    assert "Error in callback" not in "\n".join(shown)


def test_a_builds_failure_shows_the_flows_own_error_on_top_and_the_way_it_came(ran: Ran) -> None:
    project, result = ran
    shown = part(result, "all")
    raised = project.line_of("flows/fit.py", "raise ValueError")
    assert f"flows/fit.py:{raised}: ValueError" in shown
    assert "E   ValueError: negative flow: -2" in shown
    call = project.line_of("builds/all.py", "run_notebook(")
    assert section(shown, "raised through") == [f"builds/all.py:{call}, in run runs/all/all"]
    assert section(shown, "run directory") == ["runs/all/all/runs/fit"]
    assert section(shown, "reproduce") == [
        "re-run: pytest instances/all.json::all",
        "open:   jupyter lab runs/all/all/runs/fit/fit.ipynb",
    ]
    assert '  "x": -2' in section(shown, "config")
    assert section(shown, "Captured stdout call")[-1] == "line 29"


# --- shorter and longer ---


@pytest.mark.parametrize(
    ("option", "present", "absent"),
    [
        pytest.param(
            "--tb=no", ["FAILED*flows/fit.py:12: ValueError*"], ["*E   *", "*-- config --*", "line 29"]
        ),
        pytest.param("--tb=long", ['  File "flows/fit.py", line 14, in <module>', "*-- traceback --*"], []),
        pytest.param(
            "--tb=short",
            ["flows/fit.py:12: in check", "E   ValueError: negative flow: -1", "*-- config --*"],
            ["*for i in range(30):"],
        ),
        pytest.param(
            "--tb=line",
            ["flows/fit.py:12: ValueError: negative flow: -1*"],
            ["*for i in range(30):", "*-- config --*", "flows/fit.py:12: flows/fit.py:12: *"],
        ),
        pytest.param(
            "--tb=native",
            ["Traceback (most recent call last):", '  File "flows/fit.py", line 12, in check'],
            [],
        ),
    ],
)
def test_tb_styles(project: Project, option: str, present: list[str], absent: list[str]) -> None:
    project.flow("fit", FIT)
    project.write("helper.py", "")
    project.instance("fit", config={"x": -1})
    result = project.run(option, "instances")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines_random(present)
    for pattern in absent:
        result.stdout.no_fnmatch_line(pattern)


def test_a_chained_error_shows_its_cause(project: Project) -> None:
    project.flow(
        "fit",
        "try:\n    {}['origin']\nexcept KeyError as error:\n    raise ValueError('no origin') from error",
    )
    project.instance("fit")
    result = project.run("instances")
    result.stdout.fnmatch_lines(
        [
            "E   ValueError: no origin",
            "flows/fit.py:8: ValueError",
            "*-- traceback --*",
            "KeyError: 'origin'",
            "The above exception was the direct cause of the following exception:",
            "ValueError: no origin",
        ]
    )
