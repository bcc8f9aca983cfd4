"""What the terminal and a job's page say of failures that share a cause."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import pytest

if TYPE_CHECKING:
    from tests.conftest import Project

Ran = tuple["Project", pytest.RunResult]

ASSIGN = """
print("toll", config["toll"])
if config["origin"] == "EWR":
    print("⚠️", config["month"], "rows dropped")
if config["toll"] == "high":
    raise ValueError(f"negative flow: {-config['month']}")
if (config["origin"], config["month"]) == ("LGA", 7):
    {}["gone"]
"""
SCENARIOS = {"toll": ["low", "high"], "origin": ["JFK", "LGA", "EWR"], "month": [1, 7]}


def write(project: Project) -> Project:
    """Of 12 instances 6 fail for one cause and 1 for another; 2 more need one of them."""
    project.flow("assign", ASSIGN)
    project.instance("assign", scenarios=SCENARIOS, name="{toll}_{origin}_{month}")
    project.flow("after")
    project.instance("after", scenarios={"n": [1, 2]}, config={"x": "runs/assign/high_JFK_1/x.csv"})
    project.write(
        "test_plain.py",
        "import pytest\n@pytest.mark.parametrize('n', [1, 2])\ndef test_plain(n): assert not n\n",
    )
    return project


@pytest.fixture(scope="module", params=[(), ("-n", "2")], ids=["serial", "xdist"])
def ran(new_project: Callable[[], Project], request: pytest.FixtureRequest) -> Ran:
    project = write(new_project())
    project.write(
        "conftest.py",
        """
def pytest_terminal_summary(terminalreporter):
    for category in ("failed", "error"):
        print(category, "seen:", len({report.nodeid for report in terminalreporter.stats[category]}))
""",
    )
    reports = ("--junitxml=junit.xml", "--html=report.html", "--self-contained-html")
    return project, project.run_apart("instances", "test_plain.py", *reports, *request.param)


def between(result: pytest.RunResult, start: str, end: str) -> list[str]:
    """The lines of a section of pytest's."""
    lines = result.outlines
    first = next(n for n, line in enumerate(lines) if line.strip("=- ") == start)
    last = next(n for n, line in enumerate(lines) if n > first and line.strip("=- ") == end)
    return lines[first + 1 : last]


def test_failures_of_one_cause_are_three_lines_and_one_whole_failure(ran: Ran) -> None:
    _, result = ran
    failures = between(result, "FAILURES", "lights")
    titles = [line.strip("_ ") for line in failures if line.startswith("__")]
    assert sorted(titles) == [
        "6 of 14: flows/assign.py:9 ValueError: negative flow: -7 … -1",
        "low_LGA_7 (flows/assign.py)",
        "test_plain[1]",
        "test_plain[2]",
    ]
    start = next(n for n, line in enumerate(failures) if "6 of 14" in line)
    assert failures[start + 1] == "  all have toll = high, and no other"
    names, _, rest = failures[start + 2].partition(
        " … and 3 more; re-run: pytest instances/assign.json::high_"
    )
    assert [name[:5] for name in names.strip().split(", ")] == ["high_"] * 3
    assert "; open: jupyter lab runs/assign/high_" in rest
    assert failures.count(">       raise ValueError(f\"negative flow: {-config['month']}\")") == 1
    assert len([line for line in failures if line.startswith("E   ValueError: negative flow: -")]) == 1
    assert "E   KeyError: 'gone'" in failures


def test_what_was_not_run_for_one_reason_is_shown_once(ran: Ran) -> None:
    _, result = ran
    title, *lines = between(result, "ERRORS", "FAILURES")
    assert title.strip("_ ") == (
        "ERROR at setup of 2 of 14: flows/after.py NotRun: needs instances/assign.json::high_JFK_1, which failed"
    )
    assert len(lines) == 1
    assert "; re-run: pytest instances/after.json::after-" in lines[0]
    assert "open:" not in lines[0]


def test_everything_that_counts_or_lists_failures_sees_each(ran: Ran) -> None:
    project, result = ran
    result.assert_outcomes(passed=5, failed=9, errors=2, warnings=4)
    result.stdout.fnmatch_lines(["failed seen: 9", "error seen: 2"])
    summary = result.outlines[
        next(n for n, line in enumerate(result.outlines) if "short test summary" in line) :
    ]
    assert len([line for line in summary if line.startswith("FAILED")]) == 9
    assert len([line for line in summary if line.startswith("ERROR")]) == 2
    assert len([line for line in summary if "ValueError: negative flow: -" in line]) == 6
    texts = [node.text or "" for node in ElementTree.parse(project.root / "junit.xml").iter("failure")]
    assert (
        len([text for text in texts if "E   ValueError: negative flow: -" in text and "re-run: " in text])
        == 6
    )
    page = (project.root / "report.html").read_text("utf-8")
    assert page.count("E   ValueError: negative flow: -") == 6
    assert "6 of 14" not in page


def test_the_lights_section_has_the_slowest_and_the_warnings_by_cause(ran: Ran) -> None:
    _, result = ran
    lights = between(result, "lights", "short test summary info")
    assert lights[0].split("  ") == ["3 green", "2 orange", "9 red", ""]
    assert lights[1].startswith("slowest: ")
    assert lights[1].count(" s") == 3
    assert lights[2] == "8 failures are shown by cause (--ductaflow-tracebacks=all: each)"
    assert lights[3:6] == [
        "warnings:",
        "  4 of 14: flows/assign.py:5 ⚠️ 1 … 7 rows dropped",
        "    all have origin = EWR, and no other",
    ]
    assert "status page: runs/conductor_status_report.html" in lights


def test_last_failed_runs_all_of_a_cluster(ran: Ran) -> None:
    project, _ = ran
    result = project.run_apart("--lf", "--collect-only", "-q", "-p", "no:xdist")
    assert len([line for line in result.outlines if "::" in line]) == 11


@pytest.mark.parametrize(
    ("options", "tracebacks", "clusters"),
    [
        (["--ductaflow-tracebacks=all"], 6, 0),
        (["--tb=short"], 1, 1),
        (["--tb=long", "-rA"], 1, 1),
        (["--tb=native"], 0, 1),
        (["--tb=line"], 6, 0),  # as short as it can be
        (["--tb=no"], 0, 0),
        (["-q"], 1, 1),
        (["-qq"], 1, 1),
        (["-vv"], 1, 1),
        (["--no-summary"], 0, 0),
        (["--maxfail=2"], 1, 1),
        (["-x"], 1, 0),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_options_of_pytest_go_with_it(
    project: Project, options: list[str], tracebacks: int, clusters: int
) -> None:
    project.flow("assign", ASSIGN)
    project.instance("assign", scenarios=SCENARIOS, name="{toll}_{origin}_{month}")
    result = project.run("instances", "-k", "high", *options)
    text = result.stdout.str()
    assert text.count("E   ValueError: negative flow") == tracebacks
    assert text.count("flows/assign.py:9 ValueError: negative flow: -7 … -1") == clusters
    count = {"--maxfail=2": 2, "-x": 1}.get(options[0], 6)
    failed = len([line for line in result.outlines if line.startswith("FAILED ")])
    assert failed == (0 if options[0] == "--no-summary" else count)
    lines = [line for line in result.outlines if line.startswith("flows/assign.py:9: ValueError: negative")]
    assert len(lines) == (6 if options[0] == "--tb=line" else 0)
    quiet = options[0] in ("-q", "-qq")
    assert ("lights" in text) is not quiet
    result.stdout.fnmatch_lines([f"0 green  0 orange  {count} red*", "status page: *"])
    assert ("\nslowest: " in text) is not (quiet or options[0] == "-x")


def test_an_unknown_choice_is_a_usage_error(project: Project) -> None:
    result = project.run("--ductaflow-tracebacks=none")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*--ductaflow-tracebacks: invalid choice: 'none'*clusters*all*"])


def test_expected_failures_and_orange_failures_are_no_cluster(project: Project) -> None:
    project.flow("assign", ASSIGN)
    expected = [{"name": "xfail", "reason": "known"}]
    project.instance("known", flow="flows/assign.py", scenarios=SCENARIOS, marks=expected)
    project.instance("assign", scenarios={"toll": ["high"], "origin": ["JFK"], "month": [1, 2]})
    project.instance("orange", flow="flows/assign.py", config={"toll": "", "origin": "EWR", "month": 1})
    project.instance("orange2", flow="flows/assign.py", config={"toll": "", "origin": "EWR", "month": 2})
    result = project.run("instances", "-W", "error::pytest_ductaflow.FlowWarning")
    result.stdout.fnmatch_lines(["*_ 2 of 7: flows/assign.py:9 ValueError: negative flow: -2 … -1 _*"])
    assert result.stdout.str().count("orange counts as failure here") == 2
    assert (
        " of 7: "
        not in result.stdout.str().split("= FAILURES =")[1].split("2 of 7: flows", 1)[1].split("lights")[0]
    )


@pytest.mark.parametrize("options", [(), ("-n", "2")], ids=["serial", "xdist"])
def test_a_warning_line_is_shown_once(project: Project, options: tuple[str, ...]) -> None:
    project.flow("assign", "import warnings\n" + ASSIGN)
    project.instance("assign", scenarios={"toll": ["low"], "origin": ["EWR"], "month": [1, 7]})
    project.write("test_other.py", "import warnings\ndef test_other(): warnings.warn('of a test')\n")
    result = project.run_apart("instances", "test_other.py", *options)
    text = result.stdout.str()
    assert "\n  2 of 2: flows/assign.py:5 ⚠️ 1 … 7 rows dropped\n" in text
    assert "FlowWarning" not in text
    assert text.count("UserWarning: of a test") == 1
    result.assert_outcomes(passed=3, warnings=3)
    assert (
        project.run_apart("instances", "--ductaflow-tracebacks=all").stdout.str().count("FlowWarning: ") == 2
    )
    assert project.run_apart("instances", "-q").stdout.str().count("FlowWarning: ") == 2


def test_an_expected_failure_is_not_counted_as_red(project: Project) -> None:
    project.flow("fails", "raise ValueError")
    project.instance("fails", marks=["xfail"])
    project.flow("works")
    project.instance("works")
    project.run("instances").stdout.fnmatch_lines(["1 green  0 orange  0 red  1 xfailed*"])


def test_what_a_file_or_flow_holds_moves_no_cursor(project: Project) -> None:
    project.flow(
        "hostile",
        "title = '\x1b]0;owned\x07'\nprint('\\x1b[31mred\\x1b[0m', title)\nprint('Warning:', title)\n"
        "raise ValueError(title)  # \x1b[2J",
    )
    project.instance("hostile", config={"text": "\x1b[2J"})
    project.write("instances/bad.json", '{"\\u001b[2Jflow": "flows/hostile.py"}')
    text = project.run_apart("instances").stdout.str()
    assert text.replace("\x1b[31m", "").replace("\x1b[0m", "").count("\x1b") == 0
    assert text.count("\x1b[31mred") == 1
    assert "\x07" not in text
    assert "\\x1b]0;owned\\x07" in text


def test_the_summary_line_says_the_way_out(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.delenv("CI", raising=False)
    project.flow("a")
    project.write("instances/bad.json", '{"flow": "flows/a.py", "confg": {}}')
    result = project.run_apart("instances")
    assert "ERROR instances/bad.json - line 1: confg: unknown key: did you mean 'config'?" in result.outlines


def test_a_failure_whose_record_is_gone_keeps_its_traceback(project: Project) -> None:
    project.flow("assign", ASSIGN)
    project.instance("assign", scenarios=SCENARIOS, name="{toll}_{origin}_{month}")
    project.write(
        "conftest.py",
        """
import pathlib
def pytest_runtest_logreport(report):
    if report.failed:
        pathlib.Path(dict(report.user_properties)["run_directory"], "run.json").write_text("{")
""",
    )
    result = project.run("instances", "-k", "high")
    result.assert_outcomes(failed=6)
    assert result.stdout.str().count("E   ValueError: negative flow") == 6


# --- GitHub's summary of a job ---


@pytest.mark.parametrize(
    "options", [(), ("-n", "2"), ("-p", "no:terminal")], ids=["serial", "xdist", "no-terminal"]
)
def test_a_github_job_has_a_summary(
    project: Project, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...]
) -> None:
    write(project)
    target = project.write("summary.md", "before\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(target))
    project.run_apart("instances", *options)
    text = target.read_text("utf-8")
    assert text.startswith("before\n")
    assert f"### {project.root.name.replace('_', chr(92) + '_')}: ● 3 green ▲ 2 orange ✖ 9 red\n" in text
    assert (
        "| 6 of 14 | flows/assign.py:9 | ValueError: negative flow: -7 … -1 | all have toll = high, and no other |"
        in text
    )
    assert text.count("| instances/") == 9
    assert text.count("###") == 1


def test_a_summary_that_cannot_be_written_is_a_warning(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.flow("a")
    project.instance("a")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(project.root))
    result = project.run("instances")
    result.assert_outcomes(passed=1, warnings=1)
    result.stdout.fnmatch_lines(["*ductaflow: GITHUB_STEP_SUMMARY cannot be written: /*: Is a directory*"])
    result = project.run_apart("instances", "-W", "error")
    assert result.ret == 0


def test_a_session_without_instances_writes_no_summary(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.write("test_plain.py", "def test_plain(): pass\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(project.root / "summary.md"))
    project.run("test_plain.py").assert_outcomes(passed=1)
    assert not (project.root / "summary.md").exists()
