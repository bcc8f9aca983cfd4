"""Which texts lead to which instances, and what the flow gets."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from pytest_ductaflow import project as module
from pytest_ductaflow.errors import InstanceError
from pytest_ductaflow.instance import Instance, load_instances

from .conftest import Project

FLOW = {"flow": "flows/fit.py"}
FITS = ["runs/fit/fit-1", "runs/fit/fit-2", "runs/fit/fit-10"]
ALL = ["runs/prepare/p", *FITS]


def resolved(project: Project) -> module.Resolved:
    return module.resolve(module.load(project.root, ["instances/*.json"])[0], project.root)


@pytest.fixture
def reader(project: Project) -> Any:
    """One that prepares, three fits, and `z`, whose keys are given; `z` resolved."""
    project.write("instances/a.json", {**FLOW, "step": "prepare", "name": "p"})
    project.write("instances/fit.json", {**FLOW, "scenarios": {"x": [1, 2, 10]}})

    def read(**keys: Any) -> Instance:
        project.write("instances/z.json", {**FLOW, "step": "sum", **keys})
        found = resolved(project)
        assert found.problems == {}
        return next(value for key, value in found.instances.items() if found.node_ids[key].endswith("::z"))

    return read


#: A text, the run directories that it leads to, and what the flow gets, below the project root; ``None``: the text.
CASES = [
    ("runs/fit/fit-1/o.txt", FITS[:1], "runs/fit/fit-1/o.txt"),
    ("./runs/fit/fit-1/o.txt", FITS[:1], "runs/fit/fit-1/o.txt"),
    ("runs/fit/fit-1", FITS[:1], "runs/fit/fit-1"),
    ("runs/fit/fit-1/", FITS[:1], "runs/fit/fit-1"),
    (".//runs//fit/./fit-1//", FITS[:1], "runs/fit/fit-1"),
    ("runs/prepare/../fit/fit-1/x", FITS[:1], "runs/fit/fit-1/x"),
    ("data/../runs/fit/fit-1/x", FITS[:1], "runs/fit/fit-1/x"),
    ("runs/fit/fit-1/runs/inner/x", FITS[:1], "runs/fit/fit-1/runs/inner/x"),
    ("runs/fit/fit-1/*.csv", FITS[:1], "runs/fit/fit-1/*.csv"),
    ("runs/fit/fit-1/**/x", FITS[:1], "runs/fit/fit-1/**/x"),
    ("runs/fit", FITS, "runs/fit"),
    ("runs/fit/", FITS, "runs/fit"),
    ("runs/fit/*/model.json", FITS, "runs/fit/*/model.json"),
    ("runs/fit/*", FITS, "runs/fit/*"),
    ("runs/f*/*/x", FITS, "runs/f*/*/x"),
    ("runs/fit/fit-?/x", FITS[:2], "runs/fit/fit-?/x"),
    ("runs/fit/fit-[13]*/x", [FITS[0], FITS[2]], "runs/fit/fit-[13]*/x"),
    ("runs/fit/[!f]*/x", [], None),
    ("runs/*/*-2/x", FITS[1:2], "runs/*/*-2/x"),
    ("runs/*/p/x", ALL[:1], "runs/*/p/x"),
    ("runs/*", ALL, "runs/*"),
    ("runs/**/o.txt", ALL, "runs/**/o.txt"),
    ("runs/**", ALL, "runs/**"),
    ("runs/fit/**", FITS, "runs/fit/**"),
    ("runs/fit/**/o.txt", FITS, "runs/fit/**/o.txt"),
    ("runs/**/fit-1/o.txt", ALL, "runs/**/fit-1/o.txt"),
    ("runs/*/../fit/*/x", ALL, "runs/*/../fit/*/x"),
    ("run?/fit/fit-1/x", FITS[:1], None),
    ("../../fit/fit-1/x", FITS[:1], None),
    ("../../fit/*/x", FITS, None),
    ("runs/x", [], None),
    ("runs/x/y/z", [], None),
    ("runs/fit/fit-3/x", [], None),
    ("runs/fit/fit-11/x", [], None),
    ("runs/Fit/fit-1/x", [], None),
    ("runs/fit/FIT-*/x", [], None),
    ("runs/sum/*/x", [], None),  # only itself
    ("runs", [], None),
    ("runs/", [], None),
    ("running/fit/fit-1/z", [], None),
    ("data/runs/fit/fit-1", [], None),
    ("a runs/fit/fit-1", [], None),
    ("runs/fit/fit-1\nx", [], None),
    ("**/*.csv", [], None),
    ("*/5 * * * *", [], None),
    ("../fit/fit-1", [], None),
    ("../z/x", [], None),
    ("../../../elsewhere", [], None),
]


@pytest.mark.parametrize(("text", "leads_to", "given"), CASES, ids=[repr(case[0]) for case in CASES])
def test_where_a_config_text_leads(
    reader: Any, project: Project, text: str, leads_to: list[str], given: str | None
) -> None:
    found = reader(config={"a": {"b": [text]}})
    assert list(found.needed) == leads_to
    assert found.config == {"a": {"b": [text if given is None else f"{project.root}/{given}"]}}


@pytest.mark.parametrize("end", ["fit/fit-1/x", "fit/fit-1", "fit", "fit/*/x", "**/x", ""])
@pytest.mark.parametrize("way", ["root", "linked root", "linked runs", "runs within", "outside"])
def test_an_absolute_path_leads_there_by_whatever_links(
    reader: Any, project: Project, tmp_path_factory: pytest.TempPathFactory, way: str, end: str
) -> None:
    other = tmp_path_factory.mktemp("other")
    start = {
        "root": project.root / "runs",
        "linked root": other / "link/runs",
        "linked runs": other / "disk",
        "runs within": project.root / "results",
        "outside": other / "runs",
    }[way]
    if way == "linked root":
        (other / "link").symlink_to(project.root)
    if way in ("linked runs", "runs within"):
        start.mkdir()
        (project.root / "runs").symlink_to(start)
    text = f"{start}/{end}"
    found = reader(config={"a": text})
    expected = {"fit": FITS, "**": ALL, "": ALL}.get(end.split("/")[0], FITS)
    expected = FITS[:1] if "fit-1" in end else expected
    assert list(found.needed) == ([] if way == "outside" else expected)
    assert found.config == {"a": text}


def test_a_path_by_way_of_what_runs_is_a_link_to_leads_there(reader: Any, project: Project) -> None:
    (project.root / "results").mkdir()
    (project.root / "runs").symlink_to("results")
    assert list(reader(config={"a": "results/fit/*/x"}).needed) == FITS


def test_a_path_in_the_home_directory_leads_there(
    reader: Any, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(project.root))
    found = reader(config={"a": "~/runs/fit/fit-1/x"})
    assert list(found.needed) == FITS[:1]
    assert found.config["a"] == str(project.root / "runs/fit/fit-1/x")


@pytest.mark.parametrize(
    ("pattern", "leads_to"),
    [
        ("runs", ALL),
        ("runs/", ALL),
        ("./runs/fit", FITS),
        ("runs/fit/*/x", FITS),
        ("runs/fit/fit-{n}/x", FITS[1:2]),
        ("**/*.csv", ALL),
        ("**", ALL),
        ("*/*/*/*.csv", ALL),
        ("*/fit/*/*.csv", FITS),
        ("data/**/*.csv", []),
        ("*.csv", []),
        ("*/*.csv", []),
    ],
)
def test_where_a_pattern_of_inputs_leads(reader: Any, pattern: str, leads_to: list[str]) -> None:
    found = reader(config={"n": 2}, inputs=[pattern])
    assert list(found.needed) == leads_to
    assert pattern.replace("{n}", "2") in found.inputs


def test_references_are_found_after_templates_in_configs_overrides_and_scenarios(
    project: Project, reader: Any
) -> None:
    project.write("config/builds/all.json", {"file": "runs/{step}/{step}-1/x", "step": "fit"})
    project.write("flows/sum.py", (project.root / "flows/fit.py").read_bytes())
    build = {"flow": "flows/sum.py", "config": "config/builds/all.json"}
    assert list(reader(**build).needed) == FITS[:1]
    assert list(reader(**build, overrides={"deep": [{"er": "runs/fit/fit-2/y"}]}).needed) == FITS[:2]
    project.write("instances/y.json", {**build, "scenarios": [{"label": "l", "f": "runs/prepare/p"}]})
    assert list(resolved(project).instances["runs/sum/y-l"].needed) == [FITS[0], ALL[0]]


def test_what_a_flow_has_by_default_may_be_a_reference(project: Project, reader: Any) -> None:
    defaults = '{"a": {"b": "runs/fit/fit-1/x"}, "l": {"$paths": "runs/fit/*/m"}, "c": "{x}"}'
    project.write("flows/sum.py", f'# %% tags=["parameters"]\nconfig = {defaults}\n')
    found = reader(flow="flows/sum.py", config={"c": "d"})
    assert list(found.needed) == FITS
    assert found.config["a"] == {"b": str(project.root / "runs/fit/fit-1/x")}
    assert found.config["l"][0] == str(project.root / "runs/fit/fit-1/m")


def test_a_scenario_keeps_the_reference_as_written(reader: Any, project: Project) -> None:
    project.write("instances/y.json", {**FLOW, "scenarios": {"f": ["runs/prepare/p/x"]}, "name": "y"})
    found = resolved(project).instances["runs/fit/y"]
    assert found.scenario == {"f": "runs/prepare/p/x"}
    assert found.config == {"f": str(project.root / "runs/prepare/p/x")}


def test_what_counts_as_an_input(reader: Any) -> None:
    assert reader(config={"a": "runs/fit/fit-1/x"}).inputs == ("runs/fit/fit-1/x",)
    assert reader(config={"a": "../../fit/fit-1/x"}).inputs == ("runs/fit/fit-1/x",)
    assert reader(config={"a": "runs/fit"}).inputs == ("runs/fit",)
    assert reader(config={"a": "runs/fit/*/x"}).inputs == ("runs/fit/*/x",)
    assert reader(config={"a": "runs/fit/*"}).inputs == ("runs/fit/*", *FITS)
    assert reader(config={"a": "runs/x/y"}).inputs == ()


def test_of_the_own_step_the_others_are_inputs(project: Project, reader: Any) -> None:
    found = reader(step="fit", config={"a": "runs/fit"})
    assert list(found.needed) == FITS


# --- {"$paths": …} -------------------------------------------------------------------------------


def test_paths_become_one_for_each_instance_in_the_order_of_collection(reader: Any, project: Project) -> None:
    found = reader(config={"a": [{"b": {"$paths": "./runs/fit/*-{n}*/m.json"}}], "n": 1, "c": 2})
    paths = [f"{project.root}/{FITS[0]}/m.json", f"{project.root}/{FITS[2]}/m.json"]
    assert found.config == {"a": [{"b": paths}], "n": 1, "c": 2}
    assert list(found.needed) == [FITS[0], FITS[2]]


@pytest.mark.parametrize(
    ("pattern", "paths"),
    [
        ("runs/*/*/m.json", [f"{path}/m.json" for path in ALL]),
        ("runs/fit/*", FITS),
        ("runs/fit/*/", FITS),
        ("runs/fit/fit-2/a/b.csv", ["runs/fit/fit-2/a/b.csv"]),
        ("../../fit/*/x", None),
    ],
)
def test_which_paths(reader: Any, project: Project, pattern: str, paths: list[str] | None) -> None:
    if paths is None:
        with pytest.raises(AssertionError, match="names no run directories"):
            reader(config={"a": {"$paths": pattern}})
    else:
        found = reader(config={"a": {"$paths": pattern}})
        assert found.config["a"] == [f"{project.root}/{path}" for path in paths]


def test_paths_do_not_depend_on_the_disk(reader: Any, project: Project) -> None:
    project.write("runs/fit/fit-3/m.json", "of a scenario that was removed")
    assert len(reader(config={"a": {"$paths": "runs/fit/*/m.json"}}).config["a"]) == 3


def test_paths_replace_and_are_replaced_as_a_whole(reader: Any, project: Project) -> None:
    paths = {"$paths": "runs/fit/*-2/x"}
    file = [f"{project.root}/runs/fit/fit-2/x"]
    assert reader(config={"a": {"b": 1}}, overrides={"a": paths}).config == {"a": file}
    assert reader(config={"a": paths}, overrides={"a": {"b": 1}}).config == {"a": {"b": 1}}
    project.write("config/sum.json", {"a": {"$paths": "runs/fit/*/x"}})
    assert reader(config="config/sum.json", overrides={"a": paths}).config == {"a": file}
    assert len(reader(config="config/sum.json").config["a"]) == 3


def test_two_dollars_are_one_for_the_flow_and_a_schema_stays(reader: Any) -> None:
    config = {"q": [{"$$gt": 5, "$$$": {"$$paths": 1}}], "$schema": "s", "v": {"$schema": "t"}}
    expected = {"q": [{"$gt": 5, "$$": {"$paths": 1}}], "$schema": "s", "v": {"$schema": "t"}}
    assert reader(config=config).config == expected


@pytest.mark.parametrize(
    ("config", "key", "fragment", "message"),
    [
        (
            {"a": {"$paths": "runs/fti/*/m"}},
            "config.a",
            '"a"',
            "leads to no instance: did you mean runs/fit?",
        ),
        (
            {"a": {"$paths": "runs/fit/fit1/m"}},
            "config.a",
            '"a"',
            "leads to no instance: did you mean runs/fit/fit-1?",
        ),
        ({"a": {"$paths": "runs/sum/*/m"}}, "config.a", '"a"', "leads to this instance only"),
        ({"a": {"$paths": "runs/fit/*/*.json"}}, "config.a", '"a"', "a wildcard behind the run directory"),
        ({"a": {"$paths": "runs/**/m.json"}}, "config.a", '"a"', "has `**`"),
        ({"a": {"$paths": "runs/fit"}}, "config.a", '"a"', "names no run directories"),
        ({"a": {"$paths": "data/*.csv"}}, "config.a", '"a"', "names no run directories"),
    ],
)
def test_a_pattern_that_is_no_list_of_paths_is_a_problem_with_its_place(
    reader: Any, project: Project, config: Any, key: str, fragment: str, message: str
) -> None:
    project.write("instances/z.json", {**FLOW, "step": "sum", "config": config})
    ((place, text),) = resolved(project).problems["runs/sum/z"]
    assert place == tuple(key.split("."))
    assert message in text
    assert repr(config["a"]["$paths"]) in text


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"config": {"a": {"$path": "runs/fit/*"}}}, "config.a.$path: unknown key: did you mean '$paths'?"),
        ({"config": {"a": [{"$gt": 1}]}}, "config.a[0].$gt: unknown key (there are $paths); write '$$gt' if"),
        (
            {"config": {"a": {"$paths": 1}}},
            "config.a.$paths: must be a pattern of run directories, not the number 1",
        ),
        ({"config": {"a": {"$paths": ""}}}, "not an empty string"),
        (
            {"config": {"a": {"$paths": "runs/x/*", "b": 1}}},
            "config.a: '$paths' stands for a list: the object",
        ),
        ({"config": {"$paths": "runs/x/*"}}, "config.$paths: stands for a list, and the config is an object"),
        ({"overrides": {"a": {"$paths": 1}}}, "overrides.a.$paths: must be"),
        ({"scenarios": {"a": [{"$paths": 1}]}}, "scenarios.a[0].$paths: must be"),
        ({"needs": "some"}, 'needs: must be "all" or "finished", not \'some\''),
        ({"needs": ["a"]}, 'needs: must be "all" or "finished", not a list'),
        ({"inputs": ["runs/{x}/*"]}, "inputs[0]: {x} in 'runs/{x}/*'"),
        ({"inputs": ["{x}"], "config": {"x": "../y"}}, "inputs[0]: '../y' leads outside the project root"),
    ],
)
def test_a_wrong_object_with_a_dollar_is_refused(project: Project, keys: Any, message: str) -> None:
    with pytest.raises(InstanceError) as caught:
        project.load({**FLOW, **keys})
    assert message in str(caught.value)


# --- cycles --------------------------------------------------------------------------------------


def test_what_only_a_pattern_leads_to_is_not_waited_for_if_that_closes_a_cycle(project: Project) -> None:
    project.write("instances/a.json", {**FLOW, "name": "a", "config": {"r": "runs/**/x"}})
    project.write("instances/b.json", {**FLOW, "name": "b", "config": {"r": "runs/fit/a/x"}})
    project.write("instances/c.json", {**FLOW, "name": "c"})
    found = resolved(project)
    edges = {key: list(instance.needed) for key, instance in found.instances.items()}
    assert edges == {"runs/fit/a": ["runs/fit/c"], "runs/fit/b": ["runs/fit/a"], "runs/fit/c": []}
    text = "instances/a.json::a does not wait for runs/fit/b (config.r: 'runs/**/x')"
    assert found.describe_dropped() == f"each would have to wait for the other: {text}"


def test_siblings_that_all_name_their_step_wait_for_none_of_them(project: Project) -> None:
    keys = {"config": {"folder": "runs/fit", "others": "runs/fit/*/x"}}
    project.write("instances/a.json", {**FLOW, **keys, "scenarios": {"n": [1, 2, 3]}})
    found = resolved(project)
    assert [list(instance.needed) for instance in found.instances.values()] == [[], [], []]
    one = found.instances["runs/fit/a-1"]
    assert one.config["folder"] == "runs/fit"  # a path to write to
    assert one.config["others"] == str(project.root / "runs/fit/*/x")
    text = found.describe_dropped()
    assert text is not None
    assert text.count("does not wait for") == 3
    assert text.endswith("; and 9 more")


def test_paths_leave_out_what_waits_for_this_one(project: Project) -> None:
    project.write("instances/a.json", {**FLOW, "name": "a", "config": {"r": {"$paths": "runs/fit/*/x"}}})
    project.write("instances/b.json", {**FLOW, "name": "b", "config": {"r": "runs/fit/a/x"}})
    project.write("instances/c.json", {**FLOW, "name": "c"})
    found = resolved(project)
    assert found.instances["runs/fit/a"].config == {"r": [str(project.root / "runs/fit/c/x")]}
    (project.root / "instances/c.json").unlink()
    ((_, text),) = resolved(project).problems["runs/fit/a"]
    assert text == "'runs/fit/*/x' leads only to instances that need this one"


# --- many ----------------------------------------------------------------------------------------


def test_ten_thousand_that_need_one_another_are_resolved_in_seconds(project: Project) -> None:
    project.write("instances/fit.json", {**FLOW, "scenarios": {"x": list(range(5_000))}})
    project.write(
        "instances/use.json",
        {
            **FLOW,
            "step": "use",
            "config": {"m": "runs/fit/fit-{x}/*.json"},
            "scenarios": {"x": list(range(5_000))},
        },
    )
    project.write("instances/z.json", {**FLOW, "step": "sum", "config": {"m": {"$paths": "runs/use/*/x"}}})
    instances = module.load(project.root, ["instances/*.json"])[0]
    started = time.perf_counter()
    found = module.resolve(instances, project.root)
    assert time.perf_counter() - started < 30  # each with each would be 25 million
    assert len(found.instances["runs/sum/z"].config["m"]) == 5_000
    assert list(found.instances["runs/use/use-77"].needed) == ["runs/fit/fit-77"]


def test_a_file_that_was_read_is_not_read_again(project: Project) -> None:
    file = project.write("instances/a.json", {**FLOW, "name": "a"})
    loaded = {file: load_instances(file, project.root)}
    file.write_text("{")
    found, in_error = module.load(project.root, ["instances/*.json"], loaded)
    assert (list(found), in_error) == (["instances/a.json::a"], ())


def test_a_file_that_cannot_be_read_is_named_whatever_the_reason(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(file: Path, root: Path) -> list[Instance]:
        raise RecursionError if file.stem == "b" else InstanceError("a", 1, "", "a mistake")

    project.write("instances/a.json", FLOW)
    project.write("instances/b.json", FLOW)
    monkeypatch.setattr(module, "load_instances", fail)
    assert module.load(project.root, ["instances/*.json"]) == ({}, ("instances/a.json", "instances/b.json"))
