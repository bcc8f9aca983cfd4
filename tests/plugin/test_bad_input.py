"""Mistakes in files: each names file, line and key, and keeps nothing else from running."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_ductaflow import regular

if TYPE_CHECKING:
    from tests.conftest import Project

FIT = {"flow": "flows/fit.py"}

#: What is wrong: the file's content, the line and key named, a part of the message.
BAD: dict[str, tuple[Any, int, str, str]] = {
    "invalid JSON": ('{\n  "flow": "flows/fit.py",\n}\n', 3, "", "invalid JSON"),
    "no object": (["flows/fit.py"], 1, "", "one JSON object, not a list"),
    "empty file": ("", 1, "", "invalid JSON"),
    "byte-order mark": ('\ufeff{"flow": "flows/fit.py"}', 1, "", "byte-order mark"),
    "not UTF-8": (b'{\n  "flow": "\xff"\n}', 2, "", "not UTF-8: byte 0xff"),
    "duplicate key": (
        '{\n  "flow": "flows/fit.py",\n  "config": {\n    "x": 1,\n    "x": 2\n  }\n}',
        5,
        "config.x",
        "stands twice",
    ),
    "unknown key": ({**FIT, "scenarois": {}}, 3, "scenarois", "did you mean 'scenarios'?"),
    "both flow and build": ({**FIT, "build": "builds/all.py"}, 3, "build", "exactly one"),
    "neither flow nor build": ({"config": {}}, 1, "", "neither `flow` nor `build`"),
    "flow outside the root": ({"flow": "../fit.py"}, 2, "flow", "outside the project root"),
    "absolute flow": ({"flow": "/flows/fit.py"}, 2, "flow", "below the project root"),
    "flow through a symlink": ({"flow": "flows/link.py"}, 2, "flow", "outside the project root"),
    "missing flow": ({"flow": "flows/fti.py"}, 2, "flow", "flows/fti.py: there is no such file"),
    "flow without parameters": (
        {"flow": "flows/plain.py", "config": {"a": 1}},
        2,
        "flow",
        "has no parameters cell",
    ),
    "unknown kernel": ({"flow": "flows/alien.py"}, 2, "flow", "kernel 'alien'"),
    "config no object": ({**FIT, "config": [1]}, 3, "config", "must be an object, or the path"),
    "missing config file": ({**FIT, "config": "config/no.json"}, 3, "config", "config/no.json"),
    "missing template key": (
        {**FIT, "config": {"a": "{orgin}", "origin": "JFK"}},
        4,
        "config.a",
        "did you mean 'origin'?",
    ),
    "attribute in a template": (
        {**FIT, "config": {"a": "{b.__class__}", "b": 1}},
        4,
        "config.a",
        "plain keys only",
    ),
    "index in a template": ({**FIT, "config": {"a": "{b[0]}", "b": [1]}}, 4, "config.a", "plain keys only"),
    "empty dimension": ({**FIT, "scenarios": {"x": []}}, 4, "scenarios.x", "the dimension is empty"),
    "empty list": ({**FIT, "scenarios": []}, 3, "scenarios", "the list is empty"),
    "empty table": (
        {**FIT, "scenarios": "data/empty.csv"},
        3,
        "scenarios",
        "data/empty.csv: the table is empty",
    ),
    "missing table": ({**FIT, "scenarios": "data/no.csv"}, 3, "scenarios", "data/no.csv: does not exist"),
    "duplicate names": ({**FIT, "scenarios": [{"x": 1}, {"x": 1}]}, 8, "scenarios[1].x", "stands twice"),
    "unknown label": ({**FIT, "scenarios": {"x": [1]}, "active": ["y"]}, 9, "active[0]", "no dimension 'y'"),
    "name with a slash": ({**FIT, "name": "a/b"}, 3, "name", "letters, digits"),
    "name with dots": ({**FIT, "name": ".."}, 3, "name", "start with a letter or digit"),
    "name with NUL": ({**FIT, "name": "a\0b"}, 3, "name", "letters, digits"),
    "leading dot": ({**FIT, "name": ".hidden"}, 3, "name", "start with a letter or digit"),
    "device of Windows": ({**FIT, "name": "aux.json"}, 3, "name", "device name on Windows"),
    "long name": ({**FIT, "name": "n" * 101}, 3, "name", "has 101 characters, at most 100"),
    "step with a slash": ({**FIT, "step": "../a"}, 3, "step", "start with a letter or digit"),
    "needs itself": ({**FIT, "config": {"a": "runs/fit/bad/a.csv"}}, 3, "config", "dependency cycle"),
    "timeout of zero": ({**FIT, "timeout": 0}, 3, "timeout", "seconds above 0"),
    "mark with arguments": (
        {**FIT, "marks": [{"name": "ci", "x": 1}]},
        6,
        "marks[0].x",
        "unknown argument of the mark 'ci'",
    ),
    "skipif without reason": (
        {**FIT, "marks": [{"name": "skipif", "condition": True}]},
        4,
        "marks[0]",
        "needs `condition`",
    ),
    "mark with power": ({**FIT, "marks": ["usefixtures"]}, 4, "marks[0]", "cannot be set"),
}


@pytest.fixture
def with_files(project: Project) -> Iterator[Project]:
    """Whatever the bad files refer to, and one good instance, which is last in order."""
    project.flow("fit")
    project.build("all", "")
    project.write("flows/plain.py", "print(1)\n")
    kernel = "# ---\n# jupyter:\n#   kernelspec:\n#     name: alien\n# ---\n"
    project.write("flows/alien.py", kernel + '\n# %% tags=["parameters"]\nconfig = {}\n')
    outside = project.write("../fit.py", '# %% tags=["parameters"]\nconfig = {}\n')
    (project.root / "flows/link.py").symlink_to("../../fit.py")
    project.write("data/empty.csv", "x,y\n")
    project.write("instances/good.json", FIT)
    yield project
    outside.unlink()


@pytest.mark.parametrize("case", BAD)
def test_a_bad_file_is_one_line_that_names_file_line_and_key(with_files: Project, case: str) -> None:
    content, line, key, message = BAD[case]
    with_files.write("instances/bad.json", content)
    result = with_files.run("--collect-only", "-q")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert "instances/good.json::good" in result.outlines
    place = f"instances/bad.json:{line}: " + (f"{key}: " if key else "")
    (shown,) = (text for text in result.outlines if text.startswith("instances/bad.json:"))
    assert shown.startswith(place)
    assert message in shown
    assert f"ERROR instances/bad.json - line {shown.removeprefix('instances/bad.json:')}" in result.outlines
    assert "Traceback" not in result.stdout.str()


def test_an_unreadable_file_says_so(with_files: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    bad, read_bytes = with_files.write("instances/bad.json", FIT), regular.read_bytes

    def refuse(path: Path) -> bytes:  # a file's mode would not keep root from reading it
        if path == bad:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return read_bytes(path)

    monkeypatch.setattr(regular, "read_bytes", refuse)
    result = with_files.run("--collect-only", "-q")
    assert "instances/bad.json:1: cannot be read: Permission denied" in result.outlines
    assert "instances/good.json::good" in result.outlines


def test_two_instances_with_one_run_directory_are_refused_across_files(project: Project) -> None:
    project.flow("fit")
    project.instance("a", **FIT, name="same")
    project.instance("b", **FIT, name="SAME")
    project.instance("c", **FIT)
    result = project.run("--collect-only", "-q")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    (shown,) = (text for text in result.outlines if text.startswith("instances/b.json:"))
    assert shown.startswith("instances/b.json:1: name: instances/b.json::SAME and instances/a.json::same ")
    assert "share the run directory runs/fit/SAME: give one of them another `name` or `step`" in shown
    assert [text for text in result.outlines if "::" in text and " " not in text] == [
        "instances/a.json::same",
        "instances/c.json::c",
    ]


def test_a_cycle_across_files_is_printed_as_a_walk(project: Project) -> None:
    for name in ("a", "b", "c", "free"):
        project.flow(name)
    for name, needed in {"a": "b", "b": "c", "c": "a"}.items():
        project.instance(name, config={"input": f"runs/{needed}/{needed}/out.csv"})
    project.instance("free")
    result = project.run("--collect-only", "-q")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    walk = "instances/a.json::a → instances/b.json::b → instances/c.json::c → instances/a.json::a"
    for name in ("a", "b", "c"):
        text = f"instances/{name}.json:1: config: dependency cycle: {walk}"
        assert text in result.outlines
    assert [text for text in result.outlines if "::" in text and " " not in text] == [
        "instances/free.json::free"
    ]


@pytest.mark.parametrize("parallel", [(), ("-n", "2")], ids=["serial", "xdist"])
def test_the_other_files_run_and_each_error_is_shown_once(project: Project, parallel: tuple[str]) -> None:
    project.flow("fit")
    project.instance("bad", **FIT, config=[1])
    project.instance("fit")
    project.instance("same", **FIT, name="fit")
    result = project.run_apart("instances", *parallel)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.assert_outcomes(passed=1, errors=2)
    for start in ("instances/bad.json:3: config: must be", "instances/same.json:1: name: instances/same"):
        assert len([line for line in result.outlines if line.startswith(start)]) == 1
    assert project.record("fit/fit")["status"] == "success"


def test_a_project_without_instances_collects_nothing(project: Project) -> None:
    project.flow("fit")
    assert project.run("instances").ret == pytest.ExitCode.NO_TESTS_COLLECTED
    project.instance("none", **FIT, scenarios={"x": []})
    assert project.run("instances").ret == pytest.ExitCode.TESTS_FAILED


def test_a_pattern_of_instance_files_that_cannot_be_used_is_a_usage_error(project: Project) -> None:
    project.ini("ductaflow_instances = **.json")
    result = project.run("--collect-only")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: *ductaflow_instances: '**.json' has *"])


def test_whatever_goes_wrong_in_one_file_names_it_and_the_others_run(
    with_files: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pytest_ductaflow import items

    with_files.write("instances/bad.json", FIT)
    load = items.load_instances

    def fail(path: Path, root: Path) -> Any:
        if path.name == "bad.json":
            raise RecursionError("too deep")
        return load(path, root)

    monkeypatch.setattr(items, "load_instances", fail)
    result = with_files.run("--collect-only", "-q")
    assert "instances/bad.json:1: RecursionError: too deep" in result.outlines
    assert "instances/good.json::good" in result.outlines


def test_an_unregistered_mark_names_its_file_if_warnings_are_errors(with_files: Project) -> None:
    with_files.write("instances/bad.json", {**FIT, "marks": ["unheard_of"]})
    result = with_files.run("--collect-only", "-q", "-W", "error")
    assert any(line.startswith("instances/bad.json:3: marks: ") for line in result.outlines)
    assert "instances/good.json::good" in result.outlines


@pytest.mark.parametrize("name", ["self", "name", "args", "kwargs"])
def test_a_dimension_may_have_any_name(with_files: Project, name: str) -> None:
    with_files.write("instances/any.json", {**FIT, "scenarios": {name: [1, 2]}})
    result = with_files.run("--collect-only", "-q")
    ids = [line for line in result.outlines if line.startswith("instances/any.json::")]
    assert ids == ["instances/any.json::any-1", "instances/any.json::any-2"]
