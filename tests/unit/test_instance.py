import json
import math
from pathlib import Path
from typing import Any

import pytest

from pytest_ductaflow import instance as module
from pytest_ductaflow import regular
from pytest_ductaflow.instance import Mark, lines_of, load_instances

from .conftest import PARAMETERS, Project, needs_timer, time_limit

FLOW = {"flow": "flows/fit.py"}


def names(instances: list[module.Instance]) -> list[str]:
    return [instance.name for instance in instances]


# --- one instance --------------------------------------------------------------------------------


def test_the_least_that_an_instance_needs_is_a_flow(project: Project) -> None:
    found = project.one(FLOW)
    assert found == module.Instance(
        name="sweep",
        step="fit",
        kind="flow",
        flow="flows/fit.py",
        config={},
        scenario={},
        marks=(),
        timeout=None,
        inputs=(),
        place=(),
    )
    assert found.run_directory == "runs/fit/sweep"


def test_every_key_reaches_the_instance(project: Project) -> None:
    found = project.one(
        {
            "$schema": "../instance.schema.json",
            "description": "for people",
            "build": "builds/all.py",
            "config": {"a": 1},
            "overrides": {"b": 2},
            "name": "base",
            "step": "delays",
            "marks": ["ci"],
            "timeout": 600,
            "inputs": ["data/*.parquet"],
        }
    )
    assert (found.kind, found.flow, found.run_directory) == ("build", "builds/all.py", "runs/delays/base")
    assert (found.config, found.marks) == ({"a": 1, "b": 2}, (Mark("ci"),))
    assert (found.timeout, found.inputs) == (600, ("data/*.parquet",))


def test_a_flow_with_a_syntax_error_is_accepted(project: Project) -> None:
    project.write("flows/broken.py", PARAMETERS + "# %%\ndef broken(:\n")
    assert project.one({"flow": "flows/broken.py"}).flow == "flows/broken.py"


@pytest.mark.parametrize("text", ["flows/../flows/fit.py", "./flows/fit.py", "flows//fit.py"])
def test_the_flow_s_path_is_normalised(project: Project, text: str) -> None:
    assert project.one({"flow": text}).flow == "flows/fit.py"


def test_config_values_keep_their_types(project: Project) -> None:
    config = {
        "nested": {"list": [1, 2.0, None, True, "x"]},
        "big": 2**80,
        "text": 'ä☃🎉 "quoted"\nline\\',
        "inf": math.inf,
        "empty": {},
    }
    found = project.one({**FLOW, "config": config}).config
    assert found == config
    assert type(found["nested"]["list"][1]) is float
    assert math.isnan(project.one('{"flow": "flows/fit.py", "config": {"a": NaN}}').config["a"])


@pytest.mark.parametrize(
    ("stem", "name"),
    [
        ("delays", "delays"),
        ("my sweep (2)", "my_sweep__2_"),
        ("_private", "private"),
        ("...", "instance"),
        ("über", "über"),
    ],
)
def test_the_name_is_the_file_s_stem_as_a_name(project: Project, stem: str, name: str) -> None:
    assert project.one(FLOW, f"{stem}.json").name == name


# --- default configs, config files, overrides ----------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "flow"), [("flow", "flows/fit.py"), ("build", "builds/all.py")], ids=["flow", "build"]
)
def test_without_a_config_the_default_beside_the_flow_is_taken(
    project: Project, kind: str, flow: str
) -> None:
    project.write(f"config/{kind}s/{Path(flow).stem}.json", {"year": 2013, "db": {"host": "h", "port": 1}})
    found = project.one({kind: flow, "overrides": {"db": {"port": 2}}})
    assert found.config == {"year": 2013, "db": {"host": "h", "port": 2}}


def test_an_empty_config_is_a_config_so_no_default_is_taken(project: Project) -> None:
    project.write("config/flows/fit.json", {"year": 2013})
    assert project.one({**FLOW, "config": {}}).config == {}


def test_a_config_can_be_the_path_of_a_file(project: Project) -> None:
    project.write("config/other.json", {"year": 1999, "path": "data/{year}.csv"})
    found = project.one({**FLOW, "config": "config/other.json", "overrides": {"x": 1}})
    assert found.config == {"year": 1999, "path": "data/1999.csv", "x": 1}


def test_scenarios_merge_deeply_over_overrides_over_the_config(project: Project) -> None:
    found = project.load(
        {
            **FLOW,
            "config": {"m": {"a": 1, "b": 1, "c": 1}, "list": [1, 2]},
            "overrides": {"m": {"b": 2, "c": 2}},
            "scenarios": [{"label": "x", "m": {"c": 3}, "list": [3]}],
        }
    )
    assert found[0].config == {"m": {"a": 1, "b": 2, "c": 3}, "list": [3]}


def test_scenarios_share_no_part_of_the_config(project: Project) -> None:
    one, two = project.load({**FLOW, "config": {"m": {"a": [1]}}, "scenarios": {"x": [1, 2]}})
    one.config["m"]["a"].append(2)
    assert two.config["m"]["a"] == [1]


# --- dimensions ----------------------------------------------------------------------------------


def test_dimensions_make_every_combination_as_nested_loops(project: Project) -> None:
    found = project.load({**FLOW, "scenarios": {"origin": ["JFK", "LGA"], "month": [1, 7]}})
    assert names(found) == ["sweep-JFK-1", "sweep-JFK-7", "sweep-LGA-1", "sweep-LGA-7"]
    assert [instance.scenario for instance in found][:2] == [
        {"origin": "JFK", "month": 1},
        {"origin": "JFK", "month": 7},
    ]
    assert found[3].config == {"origin": "LGA", "month": 7}
    assert [instance.place for instance in found][1:3] == [
        ("scenarios", "origin", 0),
        ("scenarios", "origin", 1),
    ]


@pytest.mark.parametrize(
    ("value", "label"),
    [
        ("a/b c", "a_b_c"),
        (1.5, "1.5"),
        (-3, "-3"),
        (True, "True"),
        (None, "None"),
        ([1, 2], "x0"),
        ({"k": 1}, "x0"),
        ("Zürich", "Zürich"),
        ("Zu\u0308rich", "Zürich"),
        ("", ""),
    ],
    ids=repr,
)
def test_a_value_is_labelled_as_pytest_labels_parameters(project: Project, value: Any, label: str) -> None:
    found = project.one({**FLOW, "scenarios": {"x": [value]}})
    assert found.name == f"sweep-{label}"
    assert found.config == {"x": value}


def test_a_labelled_value_merges_its_other_keys(project: Project) -> None:
    found = project.load(
        {
            **FLOW,
            "config": {"model": {"kind": "ols", "depth": 1}},
            "scenarios": {
                "variant": [{"label": "base case"}, {"label": "deep", "model": {"depth": 9}}],
                "month": [1],
            },
        }
    )
    assert names(found) == ["sweep-base_case-1", "sweep-deep-1"]
    assert found[0].config == {"model": {"kind": "ols", "depth": 1}, "month": 1}
    assert found[1].config == {"model": {"kind": "ols", "depth": 9}, "month": 1}
    assert [instance.scenario for instance in found] == [
        {"variant": "base case", "month": 1},
        {"variant": "deep", "month": 1},
    ]


def test_active_names_the_dimensions_that_vary(project: Project) -> None:
    found = project.load({**FLOW, "scenarios": {"a": [1, 2], "b": [3, 4]}, "active": ["b"]})
    assert [instance.config for instance in found] == [{"b": 3}, {"b": 4}]


# --- lists and tables ----------------------------------------------------------------------------


def test_a_list_gives_its_scenarios_in_its_order(project: Project) -> None:
    found = project.load(
        {**FLOW, "scenarios": [{"label": "z", "a": 1}, {"a": 2, "b": "x"}, {"label": 7, "a": 3}]}
    )
    assert names(found) == ["sweep-z", "sweep-2-x", "sweep-7"]
    assert [instance.config for instance in found] == [{"a": 1}, {"a": 2, "b": "x"}, {"a": 3}]
    assert [instance.scenario for instance in found] == [{"a": 1}, {"a": 2, "b": "x"}, {"a": 3}]
    assert [instance.place for instance in found] == [("scenarios", index) for index in range(3)]


def test_active_keeps_all_scenarios_of_a_label(project: Project) -> None:
    rows = [{"label": "a", "x": 1}, {"label": "b", "x": 2}, {"label": "a", "x": 3}]
    found = project.load({**FLOW, "scenarios": rows, "active": ["a"], "name": "x{x}"})
    assert names(found) == ["x1", "x3"]


def test_active_names_scenarios_by_label_and_keeps_the_file_s_order(project: Project) -> None:
    rows = [{"label": "a", "x": 1}, {"label": "b", "x": 2}, {"x": 3, "y": 4}]
    assert names(project.load({**FLOW, "scenarios": rows, "active": ["3-4", "a"]})) == [
        "sweep-a",
        "sweep-3-4",
    ]


CSV = "origin,month,share,late,note\nJFK,1,0.5,True,ä\nLGA,,,False,\n"


def test_a_csv_table_gives_a_scenario_for_each_row_with_types_and_none(project: Project) -> None:
    project.write("data/t.csv", CSV)
    found = project.load({**FLOW, "scenarios": "data/t.csv"})
    assert [instance.config for instance in found] == [
        {"origin": "JFK", "month": 1, "share": 0.5, "late": True, "note": "ä"},
        {"origin": "LGA", "month": None, "share": None, "late": False, "note": None},
    ]
    assert [type(value) for value in found[0].config.values()] == [str, int, float, bool, str]
    assert names(found) == ["sweep-JFK-1-0.5-True-ä", "sweep-LGA-None-None-False-None"]
    assert [instance.place for instance in found] == [("scenarios",)] * 2


def test_a_parquet_table_keeps_its_types(project: Project) -> None:
    pytest.importorskip("pyarrow")
    import pandas as pd

    (project.root / "data").mkdir()
    frame = pd.DataFrame({"label": ["a", "b"], "n": pd.array([1, None], dtype="Int64"), "f": [0.5, None]})
    frame.to_parquet(project.root / "data/t.PARQUET")
    found = project.load({**FLOW, "scenarios": "data/t.PARQUET"})
    assert [instance.config for instance in found] == [{"n": 1, "f": 0.5}, {"n": None, "f": None}]
    assert names(found) == ["sweep-a", "sweep-b"]


def test_an_xlsx_table_keeps_its_types(project: Project) -> None:
    pytest.importorskip("openpyxl")
    import pandas as pd

    (project.root / "data").mkdir()
    frame = pd.DataFrame({"s": ["a", None], "n": [1, None], "b": [True, False]})
    frame.to_excel(project.root / "data/t.xlsx", index=False)
    found = project.load({**FLOW, "scenarios": "data/t.xlsx"})
    assert [instance.config for instance in found] == [
        {"s": "a", "n": 1, "b": True},
        {"s": None, "n": None, "b": False},
    ]


def test_a_float_column_of_whole_numbers_stays_float_in_csv(project: Project) -> None:
    project.write("data/t.csv", "x\n30.0\n15.0\n")
    found = project.load({**FLOW, "scenarios": "data/t.csv"})
    assert [type(instance.config["x"]) for instance in found] == [float, float]


def test_a_float_column_of_whole_numbers_stays_float_in_parquet(project: Project) -> None:
    pytest.importorskip("pyarrow")
    import pandas as pd

    (project.root / "data").mkdir()
    pd.DataFrame({"x": [30.0, 15.0]}).to_parquet(project.root / "data/t.parquet")
    found = project.load({**FLOW, "scenarios": "data/t.parquet"})
    assert [type(instance.config["x"]) for instance in found] == [float, float]


def test_only_an_empty_cell_of_a_csv_is_missing(project: Project) -> None:
    project.write("data/t.csv", "carrier,x\nNA,1\nnull,2\n,3\n")
    found = project.load({**FLOW, "scenarios": "data/t.csv"})
    assert [instance.config["carrier"] for instance in found] == ["NA", "null", None]


# --- names ---------------------------------------------------------------------------------------


def test_a_name_is_filled_from_labels_then_config(project: Project) -> None:
    found = project.load(
        {
            **FLOW,
            "config": {"year": 2013, "place": "N/Y", "full": "{place}-{year}"},
            "scenarios": {"origin": [{"label": "J F K", "code": 1}], "month": [1]},
            "name": "{origin}_{month}_{year}_{code}_{full}",
        }
    )
    assert names(found) == ["J_F_K_1_2013_1_N_Y-2013"]


def test_a_row_s_label_can_be_used_in_a_name(project: Project) -> None:
    found = project.load({**FLOW, "scenarios": [{"label": "a b", "x": 1}], "name": "n-{label}-{x}"})
    assert names(found) == ["n-a_b-1"]


def test_the_step_is_the_flow_s_stem_as_a_name(project: Project) -> None:
    project.write("flows/_my flow.py", PARAMETERS)
    assert project.one({"flow": "flows/_my flow.py"}).run_directory == "runs/my_flow/sweep"


# --- templates -----------------------------------------------------------------------------------


def test_templates_are_filled_everywhere_in_the_config(project: Project) -> None:
    found = project.load(
        {
            **FLOW,
            "config": {
                "year": 2013,
                "path": "data/{origin}/{year}.csv",
                "deep": {"list": ["{month}", {"x": "{path}!"}]},
                "literal": "{{year}} }}{{",
                "number": 5,
            },
            "scenarios": {"origin": ["JFK"], "month": [7]},
        }
    )
    assert found[0].config == {
        "year": 2013,
        "path": "data/JFK/2013.csv",
        "deep": {"list": ["7", {"x": "data/JFK/2013.csv!"}]},
        "literal": "{year} }{",
        "number": 5,
        "origin": "JFK",
        "month": 7,
    }


def test_templates_in_scenarios_are_filled(project: Project) -> None:
    found = project.load({**FLOW, "config": {"y": 1}, "scenarios": {"p": ["a{y}", "b{y}"]}})
    assert [instance.config["p"] for instance in found] == ["a1", "b1"]
    assert [instance.scenario["p"] for instance in found] == ["a1", "b1"]


@pytest.mark.parametrize(
    ("value", "text"), [(1.5, "1.5"), (True, "True"), (None, "None"), (2**70, str(2**70))]
)
def test_a_plain_value_is_filled_as_python_shows_it(project: Project, value: Any, text: str) -> None:
    assert project.one({**FLOW, "config": {"v": value, "t": "<{v}>"}}).config["t"] == f"<{text}>"


def test_a_filled_value_is_not_a_template_again(project: Project) -> None:
    found = project.one({**FLOW, "config": {"a": "{{b}}", "b": "x", "c": "{a}"}})
    assert found.config["c"] == "{b}"


# --- marks ---------------------------------------------------------------------------------------


def test_marks_have_plain_arguments(project: Project) -> None:
    marks = [
        "ci",
        "skip",
        {"name": "slow"},
        {"name": "skip", "reason": "later"},
        {"name": "skipif", "condition": True, "reason": "r"},
        {"name": "xfail", "reason": "known", "strict": True, "run": False, "condition": True},
    ]
    assert project.one({**FLOW, "marks": marks}).marks == (
        Mark("ci"),
        Mark("skip"),
        Mark("slow"),
        Mark("skip", {"reason": "later"}),
        Mark("skipif", {"condition": True, "reason": "r"}),
        Mark("xfail", {"reason": "known", "strict": True, "run": False, "condition": True}),
    )


# --- mistakes: one row each ----------------------------------------------------------------------

#: document, key of the error, a text that stands on the error's line, part of the message
MISTAKES = [
    # the file
    pytest.param('{"flow": "flows/fit.py",\n"x" 1}', "", '"x"', "invalid JSON", id="invalid JSON"),
    pytest.param(b'\xef\xbb\xbf{"flow": "flows/fit.py"}', "", "flow", "byte-order mark", id="BOM"),
    pytest.param(b'{"flow":\n"caf\xe9"}', "", None, "not UTF-8", id="not UTF-8"),
    pytest.param('{"flow": "a",\n "flow": "b"}', "flow", ' "flow": "b"', "twice", id="duplicate key"),
    pytest.param(
        '{"config": {"a": 1,\n "a": 2}}', "config.a", ' "a": 2', "twice", id="duplicate key in config"
    ),
    pytest.param('{"config":\n 1e400}', "", "1e400", "out of range", id="number out of range"),
    pytest.param("[]", "", "[]", "holds one JSON object, not a list", id="a list"),
    pytest.param("3", "", "3", "holds one JSON object, not the number 3", id="a number"),
    pytest.param("", "", None, "invalid JSON", id="empty file"),
    # keys
    pytest.param(
        {**FLOW, "confg": {}}, "confg", "confg", "did you mean 'config'?", id="unknown key, a near one"
    ),
    pytest.param({**FLOW, "qqq": {}}, "qqq", "qqq", "the keys are $schema, ", id="unknown key, none near"),
    pytest.param(
        {**FLOW, "build": "builds/all.py"}, "build", "build", "exactly one of", id="both flow and build"
    ),
    pytest.param({"config": {}}, "", "{", "neither `flow` nor `build`", id="neither flow nor build"),
    pytest.param({"flow": None}, "flow", "flow", "must be a string, not null", id="flow null"),
    pytest.param({**FLOW, "config": [1]}, "config", "config", "not a list", id="config a list"),
    pytest.param({**FLOW, "config": None}, "config", "config", "not null", id="config null"),
    pytest.param(
        {**FLOW, "overrides": "x"}, "overrides", "overrides", "must be an object", id="overrides a text"
    ),
    pytest.param({**FLOW, "scenarios": 3}, "scenarios", "scenarios", "dimensions", id="scenarios a number"),
    pytest.param(
        {**FLOW, "marks": "ci"}, "marks", "marks", "a list of marks, not a string", id="marks a text"
    ),
    pytest.param({**FLOW, "marks": [1]}, "marks", "marks", "a list of marks", id="a mark a number"),
    pytest.param({**FLOW, "inputs": "x"}, "inputs", "inputs", "glob patterns", id="inputs a text"),
    pytest.param({**FLOW, "active": [1], "scenarios": {}}, "active", "active", "names", id="active a number"),
    pytest.param(
        {**FLOW, "name": 3}, "name", "name", "must be a string, not the number 3", id="name a number"
    ),
    *(
        pytest.param({**FLOW, "timeout": bad}, "timeout", "timeout", "seconds above 0", id=f"timeout {bad!r}")
        for bad in (0, -1, True, False, "60", None, math.inf, math.nan)
    ),
    pytest.param(
        {**FLOW, "active": ["a"]}, "active", "active", "there are no `scenarios`", id="active alone"
    ),
    # the flow's file
    pytest.param(
        {"flow": "flows/none.py"}, "flow", "flow", "flows/none.py: there is no such file", id="no file"
    ),
    pytest.param({"flow": "flows"}, "flow", "flow", "is not a .py file", id="a directory"),
    pytest.param({"flow": "config/x.json"}, "flow", "flow", "is not a .py file", id="not .py"),
    pytest.param({"flow": ""}, "flow", "flow", "below the project root", id="empty"),
    pytest.param({"flow": "../fit.py"}, "flow", "flow", "leads outside the project root", id="dot dot"),
    pytest.param({"flow": "flows/../../x.py"}, "flow", "flow", "leads outside", id="dot dot within"),
    pytest.param({"flow": "/etc/x.py"}, "flow", "flow", "relative to it", id="absolute"),
    pytest.param({"flow": "C:\\x.py"}, "flow", "flow", "relative to it", id="Windows drive"),
    pytest.param({"flow": "\\\\host\\x.py"}, "flow", "flow", "relative to it", id="Windows share"),
    pytest.param({"flow": "flows/fit\0.py"}, "flow", "flow", "NUL", id="NUL in the flow"),
    pytest.param(
        {"flow": "flows/bare.py", "config": {"a": 1}},
        "flow",
        "flow",
        "no parameters cell",
        id="no parameters cell",
    ),
    pytest.param({"flow": "flows/alien.py"}, "flow", "flow", "kernel 'no-such-kernel'", id="unknown kernel"),
    pytest.param({"build": "builds/none.py"}, "build", "build", "no such file", id="no build file"),
    # config files
    pytest.param(
        {**FLOW, "config": "config/none.json"},
        "config",
        "config",
        "config/none.json: No such",
        id="no config file",
    ),
    pytest.param(
        {**FLOW, "config": "config/list.json"},
        "config",
        "config",
        "must hold a JSON object, not a list",
        id="config file a list",
    ),
    pytest.param(
        {**FLOW, "config": "config/bad.json"},
        "config",
        "config",
        "config/bad.json:2: a: this key stands twice",
        id="config file bad",
    ),
    pytest.param(
        {**FLOW, "config": "../x.json"}, "config", "config", "leads outside", id="config file outside"
    ),
    pytest.param(
        {"flow": "flows/with_bad_default.py"},
        "flow",
        "flow",
        "config/flows/with_bad_default.json:1: invalid",
        id="default config bad",
    ),
    # names and steps
    *(
        pytest.param({**FLOW, "name": bad}, "name", '"name"', problem, id=f"name {bad[:12]!r}")
        for bad, problem in [
            ("a/b", "must be letters"),
            ("../x", "must be letters"),
            ("..", "must be letters"),
            ("a\0b", "must be letters"),
            (".hidden", "start with a letter"),
            ("CON", "device name"),
            ("nul.txt", "device name"),
            ("x" * 101, "101 characters"),
            ("", "must be letters"),
        ]
    ),
    pytest.param(
        {**FLOW, "step": "a/b"}, "step", "step", "the step 'a/b' must be letters", id="step with a slash"
    ),
    pytest.param({**FLOW, "step": ".."}, "step", "step", "must be letters", id="step dot dot"),
    pytest.param(
        {"flow": "flows/aux.py"}, "flow", "flow", "the step 'aux' is a device", id="step from the flow"
    ),
    pytest.param(
        {**FLOW, "scenarios": {"x": [1, 2]}, "name": "same"},
        "scenarios.x[1]",
        "2",
        "'same' stands twice",
        id="names twice",
    ),
    pytest.param(
        {**FLOW, "scenarios": [{"a": "x/y"}, {"a": "x_y"}]},
        "scenarios[1].a",
        '"x_y"',
        "'sweep-x_y' stands twice",
        id="names twice by label",
    ),
    pytest.param(
        {**FLOW, "scenarios": {"x": ["a", "A"]}},
        "scenarios.x[1]",
        '"A"',
        "differs from 'sweep-a' by case only",
        id="names by case",
    ),
    pytest.param(
        {**FLOW, "scenarios": {"x": [1, "1"]}},
        "scenarios.x[1]",
        '"1"',
        "stands twice: give labels",
        id="1 and '1'",
    ),
    pytest.param(
        {**FLOW, "scenarios": {"x": ["y" * 100]}},
        "scenarios.x[0]",
        "yyy",
        "106 characters",
        id="label too long",
    ),
    pytest.param(
        {**FLOW, "name": "{nope}"}, "name", '"name"', "{nope} in '{nope}': no such key", id="name's template"
    ),
    pytest.param(
        {**FLOW, "config": {"d": {}}, "name": "{d}"}, "name", '"name"', "is an object", id="name of an object"
    ),
    # templates
    pytest.param(
        {**FLOW, "config": {"yaer": 1, "p": "{year}"}},
        "config.p",
        '"p"',
        "did you mean 'yaer'?",
        id="missing key, a near one",
    ),
    pytest.param(
        {**FLOW, "config": {"a": {"b": ["{nope}"]}}},
        "config.a.b[0]",
        "nope",
        "no such key in the config",
        id="missing key, deep",
    ),
    *(
        pytest.param(
            {**FLOW, "config": {"a": 1, "p": bad}}, "config.p", '"p"', "plain keys only", id=f"template {bad}"
        )
        for bad in ("{a.__class__}", "{a[0]}", "{a!r}", "{a:>10}", "{0.a}")
    ),
    pytest.param({**FLOW, "config": {"p": "{}"}}, "config.p", '"p"', "no such key", id="empty template"),
    pytest.param({**FLOW, "config": {"p": "a { b"}}, "config.p", '"p"', "a single '{'", id="single brace"),
    pytest.param(
        {**FLOW, "config": {"p": "a } b"}},
        "config.p",
        '"p"',
        "write '}}' for the character",
        id="single closing brace",
    ),
    pytest.param(
        {**FLOW, "config": {"d": [1], "p": "{d}"}},
        "config.p",
        '"p"',
        "is a list, which is no part of a text",
        id="a list in a text",
    ),
    pytest.param(
        {**FLOW, "config": {"a": "{b}", "b": "{a}"}},
        "config.a",
        '"a"',
        "needs itself",
        id="templates in a circle",
    ),
    pytest.param(
        {**FLOW, "config": {"a": "{a}"}}, "config.a", '"a"', "needs itself", id="a template of itself"
    ),
    pytest.param(
        {**FLOW, "scenarios": {"p": ["{nope}"]}},
        "scenarios.p[0]",
        '"{nope}"',
        "no such key",
        id="template in a dimension",
    ),
    pytest.param(
        {**FLOW, "scenarios": [{"x": 1}, {"p": "{nope}"}]},
        "scenarios[1].p",
        '"p"',
        "no such key",
        id="template in a list",
    ),
    # scenarios
    pytest.param(
        {**FLOW, "scenarios": {}}, "scenarios", "scenarios", "there is no dimension", id="no dimension"
    ),
    pytest.param(
        {**FLOW, "scenarios": {"a": [1], "b": []}},
        "scenarios.b",
        '"b"',
        "the dimension is empty",
        id="empty dimension",
    ),
    pytest.param(
        {**FLOW, "scenarios": {"a": [1], "b": []}, "active": ["a"]},
        "scenarios.b",
        '"b"',
        "is empty",
        id="empty dimension, not active",
    ),
    pytest.param(
        {**FLOW, "scenarios": {"a": "x"}},
        "scenarios.a",
        '"a"',
        "a list of values, not a string",
        id="dimension a text",
    ),
    pytest.param(
        {**FLOW, "scenarios": {"a": [{"label": 1}]}},
        "scenarios.a[0].label",
        "label",
        "a label is a string",
        id="label a number",
    ),
    pytest.param({**FLOW, "scenarios": []}, "scenarios", "scenarios", "the list is empty", id="empty list"),
    pytest.param(
        {**FLOW, "scenarios": [{"a": 1}, 3]},
        "scenarios[1]",
        "3",
        "a scenario is an object, not the number 3",
        id="scenario a number",
    ),
    pytest.param(
        {**FLOW, "scenarios": [{}]}, "scenarios[0]", "{}", "the scenario is empty", id="scenario empty"
    ),
    pytest.param(
        {**FLOW, "scenarios": [{"label": []}]},
        "scenarios[0].label",
        "label",
        "a label is a string, not a list",
        id="row's label a list",
    ),
    pytest.param(
        {**FLOW, "scenarios": {"month": [1]}, "active": ["mnth"]},
        "active[0]",
        "mnth",
        "no dimension 'mnth': did you mean 'month'?",
        id="active unknown",
    ),
    pytest.param(
        {**FLOW, "scenarios": {"a": [1]}, "active": []},
        "active",
        "active",
        "the list is empty",
        id="active empty",
    ),
    pytest.param(
        {**FLOW, "scenarios": [{"label": "base", "x": 1}], "active": ["bse"]},
        "active[0]",
        "bse",
        "did you mean 'base'?",
        id="active unknown label",
    ),
    pytest.param(
        {**FLOW, "scenarios": [{"label": "a", "x": 1}], "active": []},
        "active",
        "active",
        "the list is empty",
        id="active empty in a list",
    ),
    # tables
    pytest.param(
        {**FLOW, "scenarios": "data/none.csv"},
        "scenarios",
        "scenarios",
        "does not exist",
        id="missing table",
    ),
    pytest.param(
        {**FLOW, "scenarios": "data/empty.csv"},
        "scenarios",
        "scenarios",
        "is empty",
        id="empty table",
    ),
    pytest.param(
        {**FLOW, "scenarios": "data/header.csv"},
        "scenarios",
        "scenarios",
        "is empty",
        id="table with a header only",
    ),
    pytest.param(
        {**FLOW, "scenarios": "data/latin.csv"},
        "scenarios",
        "scenarios",
        "cannot be read as a table",
        id="table not UTF-8",
    ),
    pytest.param(
        {**FLOW, "scenarios": "data/t.json"},
        "scenarios",
        "scenarios",
        "is not a table: .csv, .parquet or .xlsx",
        id="no table",
    ),
    pytest.param(
        {**FLOW, "scenarios": "../t.csv"}, "scenarios", "scenarios", "leads outside", id="table outside"
    ),
    pytest.param(
        {**FLOW, "scenarios": "data/bad.parquet"},
        "scenarios",
        "scenarios",
        "data/bad.parquet",
        id="bad parquet",
    ),
    pytest.param(
        {**FLOW, "scenarios": "data/bad.xlsx"}, "scenarios", "scenarios", "data/bad.xlsx", id="bad xlsx"
    ),
    pytest.param(
        {**FLOW, "scenarios": "data/same.csv"},
        "scenarios",
        "scenarios",
        "'sweep-1' stands twice",
        id="table rows alike",
    ),
    # references
    pytest.param(
        {**FLOW, "config": {"a": "runs/../secret"}},
        "config.a",
        '"a"',
        "leaves runs/",
        id="reference leaves runs",
    ),
    pytest.param(
        {**FLOW, "config": {"a": "./runs/a/b/../../../../x"}},
        "config.a",
        '"a"',
        "leaves runs/",
        id="reference leaves the root",
    ),
    pytest.param(
        {**FLOW, "config": {"a": "runs/a/b\0"}}, "config.a", '"a"', "leaves runs/", id="NUL in a reference"
    ),
    pytest.param(
        {**FLOW, "config": {"a": "runs/fit/sweep/x"}},
        "config",
        "config",
        "its own run directory runs/fit/sweep: a dependency cycle",
        id="own directory",
    ),
    pytest.param(
        {**FLOW, "config": {"a": "runs/fit/sweep-q/x"}, "scenarios": {"x": ["p", "q"]}},
        "scenarios.x[1]",
        '"q"',
        "a dependency cycle",
        id="own directory in a scenario",
    ),
    # inputs
    pytest.param(
        {**FLOW, "inputs": ["data/*", "../*"]}, "inputs[1]", "../*", "leads outside", id="input outside"
    ),
    pytest.param({**FLOW, "inputs": ["/etc/*"]}, "inputs[0]", "/etc", "relative to it", id="input absolute"),
    # marks
    pytest.param({**FLOW, "marks": ["a-b"]}, "marks[0]", "a-b", "a mark is a name", id="mark no identifier"),
    pytest.param(
        {**FLOW, "marks": ["ci", {}]}, "marks[1]", "{}", "a mark is a name", id="mark without a name"
    ),
    pytest.param(
        {**FLOW, "marks": [{"name": 3}]}, "marks[0]", None, "a mark is a name", id="mark's name a number"
    ),
    *(
        pytest.param(
            {**FLOW, "marks": [bad]},
            "marks[0]",
            f'    "{bad}"',
            "cannot be set in an instance file",
            id=f"mark {bad}",
        )
        for bad in ("parametrize", "usefixtures", "filterwarnings", "flow", "build", "scenario")
    ),
    pytest.param(
        {**FLOW, "marks": [{"name": "ci", "reason": "x"}]},
        "marks[0].reason",
        "reason",
        "allowed: none",
        id="argument of another mark",
    ),
    pytest.param(
        {**FLOW, "marks": [{"name": "skip", "reason": 3}]},
        "marks[0].reason",
        "reason",
        "must be a string",
        id="reason a number",
    ),
    pytest.param(
        {**FLOW, "marks": [{"name": "xfail", "raises": "X"}]},
        "marks[0].raises",
        "raises",
        "allowed: condition, reason, strict, run",
        id="xfail raises",
    ),
    pytest.param(
        {**FLOW, "marks": [{"name": "xfail", "strict": 1}]},
        "marks[0].strict",
        "strict",
        "must be true or false",
        id="strict a number",
    ),
    pytest.param(
        {**FLOW, "marks": [{"name": "skipif", "condition": "os.system('x')", "reason": "r"}]},
        "marks[0].condition",
        "condition",
        "must be true or false, not a string",
        id="skipif with code",
    ),
    pytest.param(
        {**FLOW, "marks": [{"name": "xfail", "condition": "1"}]},
        "marks[0].condition",
        "condition",
        "must be true or false",
        id="xfail with code",
    ),
    pytest.param(
        {**FLOW, "marks": [{"name": "skipif", "reason": "r"}]},
        "marks[0]",
        None,
        "skipif needs `condition`",
        id="skipif without a condition",
    ),
    pytest.param(
        {**FLOW, "marks": ["skipif"]}, "marks[0]", "skipif", "skipif needs `condition`", id="skipif alone"
    ),
]


@pytest.fixture
def furnished(project: Project) -> Project:
    project.write("flows/bare.py", "config = {}\n")
    project.write("flows/aux.py", PARAMETERS)
    project.write("flows/with_bad_default.py", PARAMETERS)
    project.write("config/flows/with_bad_default.json", "{,}")
    header = "# ---\n# jupyter:\n#   kernelspec:\n#     name: no-such-kernel\n# ---\n"
    project.write("flows/alien.py", header + PARAMETERS)
    project.write("config/list.json", [1])
    project.write("config/x.json", {})
    project.write("config/bad.json", '{"a": 1,\n"a": 2}')
    project.write("data/empty.csv", "")
    project.write("data/header.csv", "a,b\n")
    project.write("data/latin.csv", "a\ncaf\xe9\n".encode("latin-1"))
    project.write("data/same.csv", "a\n1\n1\n")
    project.write("data/t.json", "[]")
    project.write("data/bad.parquet", "x")
    project.write("data/bad.xlsx", "x")
    return project


@pytest.mark.parametrize(("document", "key", "at", "problem"), MISTAKES)
def test_a_mistake_names_file_line_key_and_problem(
    furnished: Project, document: Any, key: str, at: str | None, problem: str
) -> None:
    error = furnished.refused(document)
    assert error.key == key
    assert problem in error.problem
    if key == "scenarios" and isinstance(document["scenarios"], str) and "twice" not in problem:
        assert document["scenarios"] in error.problem  # which table
    if at is not None:
        assert error.line == furnished.line_of(at)


@pytest.mark.parametrize(
    ("document", "key", "at"),
    [
        pytest.param(
            {**FLOW, "config": {}, "overrides": {"a": "{nope}"}}, "overrides.a", '"a"', id="overrides"
        ),
        pytest.param(
            {**FLOW, "scenarios": {"o": [{"label": "x"}, {"label": "y", "p": "{nope}"}]}},
            "scenarios.o[1].p",
            '"p"',
            id="a labelled value",
        ),
        pytest.param(
            {**FLOW, "scenarios": {"o": [1], "x": ["a", "A"]}},
            "scenarios.x[1]",
            '"A"',
            id="names by case, second dimension",
        ),
    ],
)
def test_a_mistake_is_placed_where_its_value_stands(
    project: Project, document: Any, key: str, at: str
) -> None:
    error = project.refused(document)
    assert (error.key, error.line) == (key, project.line_of(at))


def outcome(project: Project, document: Any) -> str:
    """What comes of a document: ``read``, or the problem; any other error gets out."""
    try:
        project.load(document)
    except module.InstanceError as error:
        return error.problem
    return "read"


@needs_timer
def test_templates_that_double_each_other_are_refused_before_they_fill_the_memory(project: Project) -> None:
    config = {f"k{n}": f"{{k{n + 1}}}{{k{n + 1}}}" for n in range(40)} | {"k40": "x"}
    with time_limit(2):
        assert "too long" in project.refused({**FLOW, "config": config}).problem


@pytest.mark.parametrize("depth", [100, 450, 900, 100_000])
def test_nesting_is_read_or_refused_but_never_a_crash(project: Project, depth: int) -> None:
    document = '{"flow": "flows/fit.py", "config": {"a": ' + "[" * depth + "]" * depth + "}}"
    assert outcome(project, document) in ("read", "nested too deeply")


def test_a_mark_that_starts_with_an_underscore_is_refused(project: Project) -> None:
    assert project.refused({**FLOW, "marks": ["_x"]}).key == "marks[0]"


def test_a_timeout_beyond_all_floats_is_refused(project: Project) -> None:
    assert project.refused('{"flow": "flows/fit.py", "timeout": 1' + "0" * 400 + "}").key == "timeout"


def test_a_table_with_the_same_heading_twice_is_refused(project: Project) -> None:
    project.write("data/t.csv", "a,a\n1,2\n")
    assert "distinct" in project.refused({**FLOW, "scenarios": "data/t.csv"}).problem


def test_a_table_with_more_cells_than_headings_is_refused(project: Project) -> None:
    project.write("data/t.csv", "a,b\n1,2,3\n4,5,6\n")
    assert "data/t.csv" in project.refused({**FLOW, "scenarios": "data/t.csv"}).problem


def test_a_table_s_date_is_refused_with_its_row(project: Project) -> None:
    pytest.importorskip("openpyxl")
    import pandas as pd

    (project.root / "data").mkdir()
    frame = pd.DataFrame({"day": pd.to_datetime(["2013-01-01", "2013-01-02"]), "x": [1, 2]})
    frame.to_excel(project.root / "data/t.xlsx", index=False)
    error = project.refused({**FLOW, "scenarios": "data/t.xlsx"})
    assert (error.key, error.line) == ("scenarios", project.line_of("scenarios"))
    assert "data/t.xlsx" in error.problem
    assert "row 2: day: " in error.problem
    assert "datetime.datetime is not a JSON type" in error.problem


def test_a_table_s_list_is_read_or_refused_with_its_row(project: Project) -> None:
    pytest.importorskip("pyarrow")
    import pandas as pd

    (project.root / "data").mkdir()
    pd.DataFrame({"x": [[1, 2], [3, 4]]}).to_parquet(project.root / "data/t.parquet")
    problem = outcome(project, {**FLOW, "scenarios": "data/t.parquet"})
    assert problem == "read" or "row 2: x: " in problem


def test_a_flow_behind_a_symbolic_link_out_of_the_project_is_refused(
    project: Project, tmp_path_factory: pytest.TempPathFactory
) -> None:
    outside = tmp_path_factory.mktemp("outside")
    (outside / "evil.py").write_text(PARAMETERS)
    (project.root / "flows/link.py").symlink_to(outside / "evil.py")
    (project.root / "linked").symlink_to(outside)
    for text in ("flows/link.py", "linked/evil.py"):
        error = project.refused({"flow": text})
        assert (error.key, error.line) == ("flow", 2)
        assert f"{text!r} leads outside the project root" in error.problem


def test_a_flow_whose_path_goes_up_from_a_symbolic_link_is_checked_as_it_is_used(
    project: Project, tmp_path_factory: pytest.TempPathFactory
) -> None:
    outside = tmp_path_factory.mktemp("outside") / "evil.py"
    outside.write_text(PARAMETERS)
    (project.root / "flows/evil.py").symlink_to(outside)
    (project.root / "deep/below").mkdir(parents=True)
    (project.root / "link").symlink_to(project.root / "deep/below")
    assert project.refused({"flow": "link/../flows/evil.py"}).key == "flow"


@pytest.mark.parametrize("key", ["config", "scenarios"])
def test_other_files_behind_links_out_of_the_project_are_refused(
    project: Project, tmp_path_factory: pytest.TempPathFactory, key: str
) -> None:
    outside = tmp_path_factory.mktemp("outside")
    (project.root / "linked").symlink_to(outside)
    for name, content in (("x.json", "{}"), ("x.csv", "a\n1\n")):
        (outside / name).write_text(content)
    error = project.refused({**FLOW, key: f"linked/x.{'json' if key == 'config' else 'csv'}"})
    assert (error.key, error.line) == (key, 3)
    assert "leads outside the project root" in error.problem


def test_a_default_config_behind_a_link_out_of_the_project_is_refused(
    project: Project, tmp_path_factory: pytest.TempPathFactory
) -> None:
    outside = tmp_path_factory.mktemp("outside")
    (outside / "fit.json").write_text("{}")
    (project.root / "config").mkdir()
    (project.root / "config/flows").symlink_to(outside)
    assert "leads outside the project root" in project.refused(FLOW).problem


def test_a_project_root_behind_a_symbolic_link_is_no_obstacle(project: Project, tmp_path: Path) -> None:
    (tmp_path / "alias").symlink_to(project.root)
    file = project.write("instances/a.json", {**FLOW, "config": {"a": "runs/x/y/z"}})
    root = tmp_path / "alias"
    (found,) = load_instances(root / file.relative_to(project.root), root)
    assert [mention.injected for mention in found.mentions] == [str(root / "runs/x/y/z")]


def test_an_unreadable_file_is_named_with_the_reason(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(regular, "read_bytes", refuse)
    error = project.refused(FLOW)
    assert (error.line, error.key, error.problem) == (1, "", "cannot be read: Permission denied")


def test_a_directory_in_place_of_the_file_is_named(project: Project) -> None:
    (project.root / "instances/dir.json").mkdir(parents=True)
    with pytest.raises(module.InstanceError) as caught:
        load_instances(project.root / "instances/dir.json", project.root)
    assert str(caught.value) == "instances/dir.json:1: cannot be read: Is a directory"


def test_a_file_outside_the_root_is_shown_by_its_whole_path(
    project: Project, tmp_path_factory: pytest.TempPathFactory
) -> None:
    file = tmp_path_factory.mktemp("outside") / "a.json"
    file.write_text("[]")
    with pytest.raises(module.InstanceError) as caught:
        load_instances(file, project.root)
    assert caught.value.file == file.as_posix()


# --- places --------------------------------------------------------------------------------------


def test_every_instance_has_a_line_in_the_file(project: Project) -> None:
    document = {**FLOW, "scenarios": {"a": [1, 2], "b": [3, 4]}}
    found = project.load(document)
    lines = lines_of(project.root / "instances/sweep.json")
    assert [lines[instance.place] for instance in found] == [
        project.line_of("1,"),
        *[project.line_of("1,")],
        *[project.line_of("2")] * 2,
    ]


@pytest.mark.parametrize("content", [b"\xff", b"]", b'{"a": ]]'], ids=["not UTF-8", "bracket", "broken"])
def test_a_damaged_file_has_no_lines_and_raises_nothing(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.json").write_bytes(content)
    assert isinstance(lines_of(tmp_path / "a.json"), dict)
    assert lines_of(tmp_path / "none.json") == {}


# --- write_instances -----------------------------------------------------------------------------


def write(project: Project, frame: Any, **keys: Any) -> Path:
    keys = {"flow": "flows/fit.py"} | keys
    return module.write_instances(frame, project.root / "instances/sweep.json", **keys)


def round_trip(project: Project, frame: Any, **keys: Any) -> list[module.Instance]:
    return load_instances(write(project, frame, **keys), project.root)


def test_a_data_frame_comes_back_with_values_and_types(project: Project) -> None:
    import numpy as np
    import pandas as pd

    frame = pd.DataFrame(
        {
            "i": np.array([1, 2], dtype="int32"),
            "f": [0.5, math.nan],
            "whole": [1.0, 2.0],
            "inf": [math.inf, -math.inf],
            "b": [True, False],
            "s": ["ä {x} }}", None],
            "n": pd.array([1, None], dtype="Int64"),
            "o": [np.int64(3), [1, {"a": None}]],
            "c": pd.Categorical(["u", "v"]),
        }
    )
    one, two = round_trip(project, frame, name="n{i}")
    assert one.config == {
        "i": 1,
        "f": 0.5,
        "whole": 1.0,
        "inf": math.inf,
        "b": True,
        "s": "ä {x} }}",
        "n": 1,
        "o": 3,
        "c": "u",
    }
    assert [type(value) for value in one.config.values()] == [
        int,
        float,
        float,
        float,
        bool,
        str,
        int,
        int,
        str,
    ]
    assert math.isnan(two.config.pop("f"))
    assert two.config == {
        "i": 2,
        "whole": 2.0,
        "inf": -math.inf,
        "b": False,
        "s": None,
        "n": None,
        "o": [1, {"a": None}],
        "c": "v",
    }


def test_each_scenario_stands_on_a_line_of_its_own(project: Project) -> None:
    import pandas as pd

    text = write(
        project, pd.DataFrame({"a": [1, 2], "s": ["ä", "y"]}), config={"k": 1}, marks=["ci"]
    ).read_text("utf-8")
    assert text.endswith('  "scenarios": [\n    {"a": 1, "s": "ä"},\n    {"a": 2, "s": "y"}\n  ]\n}\n')
    assert json.loads(text) == {
        "flow": "flows/fit.py",
        "config": {"k": 1},
        "marks": ["ci"],
        "scenarios": [{"a": 1, "s": "ä"}, {"a": 2, "s": "y"}],
    }


@pytest.mark.parametrize(
    ("index", "expected"),
    [
        pytest.param(["a b", "ü"], ["sweep-a_b", "sweep-ü"], id="texts"),
        pytest.param([3, 7], ["sweep-3", "sweep-7"], id="numbers"),
        pytest.param([("x", 1), ("y", 2)], ["sweep-x-1", "sweep-y-2"], id="several levels"),
        pytest.param(None, ["sweep-10", "sweep-20"], id="default index: the values"),
    ],
)
def test_an_index_gives_the_labels(project: Project, index: Any, expected: list[str]) -> None:
    import pandas as pd

    if index is not None and isinstance(index[0], tuple):
        index = pd.MultiIndex.from_tuples(index)
    assert names(round_trip(project, pd.DataFrame({"v": [10, 20]}, index=index))) == expected


def test_a_named_default_index_gives_the_labels(project: Project) -> None:
    import pandas as pd

    frame = pd.DataFrame({"v": [10, 20]}, index=pd.RangeIndex(2, name="run"))
    assert names(round_trip(project, frame)) == ["sweep-0", "sweep-1"]


def test_a_named_index_is_a_key_of_the_config_too(project: Project) -> None:
    import pandas as pd

    frame = pd.DataFrame({"origin": ["JFK", "LGA"], "month": [1, 7], "v": [10, 20]})
    found = round_trip(project, frame.set_index(["origin", "month"]))
    assert names(found) == ["sweep-JFK-1", "sweep-LGA-7"]
    assert [instance.config["origin"] for instance in found] == ["JFK", "LGA"]
    assert [instance.config["month"] for instance in found] == [1, 7]


def test_a_label_column_goes_before_the_index(project: Project) -> None:
    import pandas as pd

    assert names(round_trip(project, pd.DataFrame({"v": [1], "label": ["x"]}, index=["y"]))) == ["sweep-x"]


def test_a_build_and_a_config_path_are_written(project: Project) -> None:
    import pandas as pd

    project.write("config/base.json", {"k": {"a": 1}})
    frame = pd.DataFrame({"v": [1]})
    (found,) = round_trip(project, frame, flow=None, build="builds/all.py", config="config/base.json")
    assert (found.kind, found.config) == ("build", {"k": {"a": 1}, "v": 1})


def test_directories_on_the_way_are_made(project: Project) -> None:
    import pandas as pd

    path = project.root / "instances/new/deep.json"
    assert module.write_instances(pd.DataFrame({"v": [1]}), str(path), flow="flows/fit.py") == path
    assert names(load_instances(path, project.root)) == ["deep-1"]


@pytest.mark.parametrize(
    ("columns", "keys", "message"),
    [
        pytest.param({"v": [1]}, {"flow": None}, "give exactly one of flow and build", id="neither"),
        pytest.param({"v": [1]}, {"build": "b"}, "give exactly one of flow and build", id="both"),
        pytest.param({"v": [1]}, {"nmae": "x"}, "unknown key 'nmae'", id="unknown key"),
        pytest.param({"v": []}, {}, "the data frame has no rows", id="no rows"),
        pytest.param(
            {"v": [1, 2], "d": [0, "DATE"]}, {}, "row 1: d: datetime.date is not a JSON type", id="date"
        ),
        pytest.param(
            {"d": [[], [1, ("x",)]]}, {}, "row 1: d[1]: tuple is not a JSON type", id="tuple within"
        ),
        pytest.param({"d": [Path("x")]}, {}, "row 0: d: pathlib", id="Path"),
    ],
)
def test_a_frame_that_cannot_be_written_is_refused_by_row_and_column(
    project: Project, columns: dict, keys: dict, message: str
) -> None:
    import datetime

    import pandas as pd

    values = {
        key: [datetime.date(2013, 1, 1) if v == "DATE" else v for v in column]
        for key, column in columns.items()
    }
    with pytest.raises(module.ConfigError) as caught:
        write(project, pd.DataFrame(values), **keys)
    assert str(caught.value).startswith("write_instances: ")
    assert message in str(caught.value)
    assert not (project.root / "instances/sweep.json").exists()


def test_a_column_of_times_is_refused_by_row_and_column(project: Project) -> None:
    import pandas as pd

    with pytest.raises(module.ConfigError, match=r"row 0: t: pandas\S*Timestamp is not a JSON type"):
        write(project, pd.DataFrame({"t": pd.to_datetime(["2013-01-01"])}))


@pytest.mark.parametrize("value", [(1, 2), Path("x")], ids=["tuple", "Path"])
def test_a_config_value_without_a_json_type_is_refused(project: Project, value: Any) -> None:
    import pandas as pd

    with pytest.raises(module.ConfigError, match="config"):
        write(project, pd.DataFrame({"v": [1]}), config={"a": value})


def test_a_config_with_a_key_scenarios_comes_back(project: Project) -> None:
    import pandas as pd

    (found,) = round_trip(project, pd.DataFrame({"v": [1]}), config={"scenarios": []})
    assert found.config == {"scenarios": [], "v": 1}


@pytest.mark.parametrize("columns", [["a", "a"], [1, "1"]], ids=["the same", "the same as text"])
def test_two_columns_of_one_name_are_refused(project: Project, columns: list) -> None:
    import pandas as pd

    with pytest.raises(module.ConfigError, match="column"):
        write(project, pd.DataFrame([[1, 2]], columns=columns))


@pytest.mark.parametrize("size", [1, 2])
def test_an_array_in_a_cell_is_refused_by_row_and_column(project: Project, size: int) -> None:
    import numpy as np
    import pandas as pd

    with pytest.raises(module.ConfigError, match=r"row 0: v: numpy\.ndarray"):
        write(project, pd.DataFrame({"v": [np.ones(size)]}))


def test_a_label_with_braces_comes_back_as_it_was(project: Project) -> None:
    import pandas as pd

    assert names(round_trip(project, pd.DataFrame({"v": [1], "label": ["a{b"]}))) == ["sweep-a_b"]


def test_a_lone_surrogate_comes_back(project: Project) -> None:
    import pandas as pd

    (found,) = round_trip(project, pd.DataFrame({"v": pd.Series(["\ud800"], dtype=object)}), name="n")
    assert found.config == {"v": "\ud800"}


# --- texts that UTF-8 cannot hold ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "key"),
    [
        ({"name": "a\ud800"}, "name"),
        ({"step": "a\ud800"}, "step"),
        ({"marks": ["a\ud800"]}, "marks[0]"),
        ({"marks": [{"name": "skip", "reason": "\ud800"}]}, "marks[0].reason"),
        ({"config": "\ud800.json"}, "config"),
        ({"config": {"a": {"\ud800": 1}}}, "config.a.\\ud800"),
        ({"overrides": {"\ud800": 1}}, "overrides.\\ud800"),
        ({"scenarios": {"\ud800": [1]}}, "scenarios.\\ud800"),
        ({"scenarios": {"a": ["\udfff"]}}, "scenarios.a[0]"),
        ({"scenarios": [{"label": "\ud800", "a": 1}]}, "scenarios[0].label"),
        ({"\ud800": 1}, "\\ud800"),
        ({"config": {"a": "runs/fit/\ud800"}}, "config.a"),
        ({"config": {"a": "{\ud800}"}}, "config.a"),
    ],
)
def test_a_lone_surrogate_is_refused_wherever_names_or_reports_would_hold_it(
    project: Project, more: dict[str, Any], key: str
) -> None:
    error = project.refused(json.dumps({**FLOW, **more}, indent=2))
    assert error.key == key
    assert error.line >= 3 or key == "marks[0]"
    str(error).encode()


def test_a_lone_surrogate_as_a_key_of_a_config_file_is_refused(project: Project) -> None:
    project.write("config/flows/fit.json", '{"\\ud800": 1}')
    error = project.refused(FLOW)
    assert error.key == "flow"
    assert error.problem.startswith("config/flows/fit.json: \\ud800: ")


def test_a_config_value_may_hold_any_text(project: Project) -> None:
    text = json.dumps({**FLOW, "config": {"a": "\ud800", "b": ["\udfff"]}})
    assert project.one(text).config == {"a": "\ud800", "b": ["\udfff"]}


@pytest.mark.parametrize("text", ["☃", "🎉"])
def test_an_escaped_character_is_a_character(project: Project, text: str) -> None:
    assert project.one(json.dumps({**FLOW, "scenarios": {"a": [text]}})).scenario == {"a": text}


# --- keys that steer a run -----------------------------------------------------------------------


@pytest.mark.parametrize("key", ["_no_execute", "_project_root", "_other"])
@pytest.mark.parametrize(
    ("more", "place"),
    [
        (lambda key: {"config": {key: True}}, "config.{}"),
        (lambda key: {"overrides": {key: True}}, "overrides.{}"),
        (lambda key: {"scenarios": {key: [True]}}, "scenarios.{}"),
        (lambda key: {"scenarios": {"a": [{"label": "x", key: True}]}}, "scenarios.a[0].{}"),
        (lambda key: {"scenarios": [{key: True}], "name": "n"}, "scenarios[0].{}"),
    ],
    ids=["config", "overrides", "dimension", "in a labelled value", "list"],
)
def test_a_config_key_with_an_underscore_is_refused(
    project: Project, key: str, more: Any, place: str
) -> None:
    error = project.refused({**FLOW, **more(key)})
    assert error.key.removesuffix("[0]") == place.format(key)
    assert error.line - error.key.endswith("[0]") == project.line_of(f'"{key}"')
    assert "set by ductaflow only" in error.problem


def test_a_key_with_an_underscore_in_a_config_file_is_refused(project: Project) -> None:
    project.write("config/flows/fit.json", {"_no_execute": True})
    assert project.refused(FLOW).key == "config._no_execute"


def test_an_underscore_below_the_top_level_is_a_key_like_others(project: Project) -> None:
    assert project.one({**FLOW, "config": {"a": {"_b": 1}}}).config == {"a": {"_b": 1}}


@pytest.mark.parametrize(
    ("pattern", "problem"),
    [
        ("data/**.csv", "has `**` beside"),
        (".", "names no files"),
        ("d/**/../../secret.txt", "must not contain `..`"),
        ("d/../x", "must not contain `..`"),
        ("*/..", "must not contain `..`"),
    ],
)
def test_a_pattern_of_inputs_is_checked_when_collected(project: Project, pattern: str, problem: str) -> None:
    error = project.refused({**FLOW, "inputs": ["a", pattern]})
    assert (error.key, error.line) == ("inputs[1]", project.line_of(json.dumps(pattern)))
    assert problem in error.problem


def test_a_long_chain_of_templates_is_refused(project: Project) -> None:
    config = {f"k{number}": f"{{k{number + 1}}}" for number in range(600)} | {"k600": "x"}
    error = project.refused({**FLOW, "config": config})
    assert (error.key, error.line) == ("config.k0", project.line_of('"k0"'))
    assert "a chain of more than 50 templates" in error.problem
