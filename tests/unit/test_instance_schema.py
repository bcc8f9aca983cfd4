import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

import pytest_ductaflow
from pytest_ductaflow import instance as module
from pytest_ductaflow.errors import InstanceError

from .conftest import PARAMETERS, Project

SCHEMA = json.loads((Path(pytest_ductaflow.__file__).parent / "instance.schema.json").read_text("utf-8"))
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
FLOW = {"flow": "flows/fit.py"}


@pytest.fixture
def furnished(project: Project) -> Project:
    for name in ("flows/fit_delay_model.py", "builds/delays.py"):
        project.write(name, PARAMETERS)
    project.write("config/flows/fit.json", {"a": 1})
    project.write("data/scenarios.csv", "label,origin\nbase,JFK\nstrict,LGA\n")
    return project


def test_the_schema_is_a_valid_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert SCHEMA["$schema"] == "https://json-schema.org/draft/2020-12/schema"


def test_schema_and_loader_know_the_same_keys() -> None:
    assert list(SCHEMA["properties"]) == list(module._KEYS)
    assert SCHEMA["additionalProperties"] is False


@pytest.mark.parametrize("key", module._KEYS)
def test_every_key_is_described_with_an_example_of_its_type(key: str) -> None:
    described = SCHEMA["properties"][key]
    assert len(described["description"]) > 20
    assert described["examples"]
    resolved = {**described, "$defs": SCHEMA["$defs"]}
    for example in described["examples"]:
        jsonschema.Draft202012Validator(resolved).validate(example)


@pytest.mark.parametrize("document", SCHEMA["examples"], ids=["flow", "build"])
def test_the_examples_are_accepted_by_schema_and_loader(furnished: Project, document: dict) -> None:
    VALIDATOR.validate(document)
    furnished.write("flows/fit.py", PARAMETERS)
    assert furnished.load(document)


@pytest.mark.parametrize(
    ("key", "example"),
    [(key, example) for key in module._KEYS for example in SCHEMA["properties"][key]["examples"]],
    ids=lambda value: value if isinstance(value, str) else json.dumps(value)[:30],
)
def test_the_example_of_each_key_is_accepted_by_the_loader(
    furnished: Project, key: str, example: Any
) -> None:
    document = {key: example}
    if key not in ("flow", "build"):
        document |= FLOW
    if key == "name":
        document["scenarios"] = {"origin": ["JFK"], "month": [1]}
    if key == "config" and isinstance(example, dict):
        document["scenarios"] = {"origin": ["JFK"]}
    if key == "active":
        document["scenarios"] = {"origin": ["JFK"]} if example == ["origin"] else "data/scenarios.csv"
    VALIDATOR.validate(document)
    assert furnished.load(document)


@pytest.mark.parametrize(
    "document",
    [
        pytest.param(FLOW, id="flow"),
        pytest.param(
            {"build": "builds/all.py", "config": "config/flows/fit.json"}, id="build and config file"
        ),
        pytest.param({"$schema": "x", "description": "y", **FLOW}, id="$schema and description"),
        pytest.param({"flow": "./flows/../flows/fit.py"}, id="dots in a path"),
        pytest.param({**FLOW, "config": {"any": [1, None, {"k": True}]}, "overrides": {}}, id="any config"),
        pytest.param(
            {**FLOW, "scenarios": {"a": [1, "x", None, [1], {"b": 1}], "c": [{"label": "l"}]}},
            id="dimensions",
        ),
        pytest.param(
            {**FLOW, "scenarios": [{"label": 3, "a": 1}, {"label": None, "a": 2}, {"a": {}}]}, id="list"
        ),
        pytest.param({**FLOW, "scenarios": "data/scenarios.csv", "active": ["base"]}, id="table and active"),
        pytest.param(
            {**FLOW, "scenarios": {"a": [1]}, "active": ["a"], "name": "ä-{a}.x_"}, id="name's template"
        ),
        pytest.param({**FLOW, "name": "日本", "step": "1.b-c_ü"}, id="names in any script"),
        pytest.param({**FLOW, "marks": ["ci", "ä", {"name": "slow"}, "skip", "xfail"]}, id="marks"),
        pytest.param(
            {
                **FLOW,
                "marks": [
                    {"name": "skip", "reason": "r"},
                    {"name": "skipif", "condition": False, "reason": "r"},
                    {"name": "xfail", "condition": True, "reason": "r", "strict": False, "run": True},
                ],
            },
            id="marks with arguments",
        ),
        pytest.param({**FLOW, "marks": [], "inputs": []}, id="empty lists"),
        pytest.param(
            {
                **FLOW,
                "config": {
                    "a": {"$paths": "runs/x/*"},
                    "b": [{"c": {"$paths": "runs/x/*/y"}}],
                    "$schema": "s",
                },
                "overrides": {"d": {"$$gt": 1, "$schema": "s"}},
                "scenarios": [{"label": "x", "e": {"$paths": "runs/y/*"}}],
                "needs": "finished",
            },
            id="$paths, $$ and needs",
        ),
        pytest.param({**FLOW, "timeout": 0.5, "inputs": ["data/*.csv", "x"]}, id="timeout and inputs"),
    ],
)
def test_a_good_document_is_accepted_by_both(furnished: Project, document: dict) -> None:
    VALIDATOR.validate(document)
    assert furnished.load(document)


@pytest.mark.parametrize(
    "document",
    [
        *(pytest.param(value, id=f"document {value!r}") for value in ([], "x", 3, None, True)),
        pytest.param({}, id="nothing"),
        pytest.param({**FLOW, "build": "builds/all.py"}, id="flow and build"),
        pytest.param({**FLOW, "confg": {}}, id="unknown key"),
        *(
            pytest.param({"flow": value}, id=f"flow {value!r}")
            for value in (None, 3, "", "flows", "fit.json", "/etc/x.py", "\\x.py", "C:\\x.py", "c:x.py")
        ),
        *(
            pytest.param({**FLOW, "config": value}, id=f"config {value!r}")
            for value in ([], None, 3, "", {"_a": 1})
        ),
        *(
            pytest.param({**FLOW, "overrides": value}, id=f"overrides {value!r}")
            for value in ([], "x.json", None, {"_a": 1})
        ),
        *(
            pytest.param({**FLOW, "scenarios": value}, id=f"scenarios {value!r}")
            for value in (
                {},
                [],
                3,
                None,
                "data/t.json",
                {"a": []},
                {"a": 1},
                {"a": "x"},
                {"a": [{"label": 1}]},
                [1],
                [{}],
                [{"label": []}],
            )
        ),
        pytest.param({**FLOW, "active": ["a"]}, id="active alone"),
        *(
            pytest.param({**FLOW, "scenarios": {"a": [1]}, "active": value}, id=f"active {value!r}")
            for value in ([], "a", [1], None)
        ),
        *(
            pytest.param({**FLOW, "name": value}, id=f"name {value!r}")
            for value in ("", 3, None, "a b", "a/b", "a\\b", "{", "a}")
        ),
        *(
            pytest.param({**FLOW, "step": value}, id=f"step {value!r}"[:30])
            for value in ("", 3, None, "a b", "a/b", "..", ".x", "-x", "_x", "x" * 101)
        ),
        *(
            pytest.param({**FLOW, "marks": value}, id=f"marks {value!r}")
            for value in (
                "ci",
                None,
                [1],
                ["a-b"],
                ["1a"],
                [""],
                [{}],
                [{"name": 3}],
                ["parametrize"],
                [{"name": "usefixtures"}],
                ["skipif"],
                [{"name": "skipif", "reason": "r"}],
                [{"name": "skipif", "condition": "x", "reason": "r"}],
                [{"name": "skip", "reason": 3}],
                [{"name": "xfail", "raises": "X"}],
                [{"name": "ci", "reason": "r"}],
            )
        ),
        *(
            pytest.param({**FLOW, "timeout": value}, id=f"timeout {value!r}")
            for value in (0, -1, True, "60", None, 1e10)
        ),
        *(
            pytest.param({**FLOW, "inputs": value}, id=f"inputs {value!r}")
            for value in ("x", None, [1], [""])
        ),
        *(
            pytest.param({**FLOW, "needs": value}, id=f"needs {value!r}")
            for value in ("any", "", None, True, ["all"], {"all": 1})
        ),
        *(
            pytest.param({**FLOW, **values}, id=f"dollars {values}"[:60])
            for value in (
                {"$paths": 1},
                {"$paths": ""},
                {"$paths": ["runs/x/*"]},
                {"$paths": None},
                {"$paths": "runs/x/*", "k": 1},
                {"$path": "runs/x/*"},
                {"$gt": 1},
                {"$": 1},
            )
            for values in (
                {"config": {"a": [value]}},
                {"overrides": {"a": {"b": value}}},
                {"scenarios": {"a": [value]}},
                {"scenarios": [{"a": value}]},
            )
        ),
        *(
            pytest.param({**FLOW, "config": value}, id=f"config {value!r}")
            for value in ({"$paths": "runs/x/*"}, {"$a": 1})
        ),
        *(pytest.param({**FLOW, key: 3}, id=f"{key} 3") for key in ("$schema", "description")),
    ],
)
def test_a_document_of_a_bad_shape_is_refused_by_both(furnished: Project, document: Any) -> None:
    assert not VALIDATOR.is_valid(document)
    text = json.dumps(document)
    with pytest.raises(InstanceError):
        furnished.load(text)


def test_the_schema_stands_below_the_package_so_that_it_is_shipped() -> None:
    from importlib.resources import files

    assert json.loads(files("pytest_ductaflow").joinpath("instance.schema.json").read_text("utf-8")) == SCHEMA
