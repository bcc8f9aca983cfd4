from pathlib import Path
from typing import Any

import pytest

from pytest_ductaflow import parameters
from pytest_ductaflow.errors import FlowError
from pytest_ductaflow.parameters import Parameters


def declared(source: str) -> Parameters:
    return parameters.of_cell(source, 10)


@pytest.mark.parametrize(
    ("source", "names"),
    [
        pytest.param("country = 'France'; degree = 1", ("country", "degree"), id="papermill style"),
        pytest.param("degree: int = 1", ("degree",), id="annotated"),
        pytest.param("degree: int", ("degree",), id="annotated, without a value"),
        pytest.param("a, (b, *c) = 1, (2, 3)", ("a", "b", "c"), id="several at once"),
        pytest.param("[a, b] = 1, 2", ("a", "b"), id="as a list"),
        pytest.param("a = b = 1", ("a", "b"), id="chained"),
        pytest.param("a = (  # why\n    1,\n    2,\n)\n# b = 2", ("a",), id="over lines, with comments"),
        pytest.param("if True:\n    a = 1\nelse:\n    b = 1", ("a", "b"), id="in a block"),
        pytest.param("try:\n    a = 1\nexcept E:\n    b = 1\nfinally:\n    c = 1", ("a", "b", "c"), id="try"),
        pytest.param("a = 1\na += 1", ("a",), id="twice"),
        pytest.param("%matplotlib inline\na = 1", ("a",), id="magic"),
        pytest.param("config = {}\na = 1", ("a",), id="config is none of them"),
        pytest.param("id = 1\nlist = [2]", ("id", "list"), id="names of builtins"),
        pytest.param("x.a = 1\nx['b'] = 2", (), id="no names"),
        pytest.param("import os\nfor i in x: pass", (), id="imports and loops"),
        pytest.param("def f():\n    a = 1\nclass C:\n    b = 1", (), id="other scopes"),
        pytest.param("a = (", (), id="no Python"),
        pytest.param("", (), id="empty"),
    ],
)
def test_names_that_the_cell_assigns_are_parameters(source: str, names: tuple[str, ...]) -> None:
    assert declared(source).names == names


@pytest.mark.parametrize(
    ("source", "defaults"),
    [
        pytest.param(
            "config = {'a': 1, 'b': {'c': [None, True, -1.5]}}",
            {"a": 1, "b": {"c": [None, True, -1.5]}},
            id="literal",
        ),
        pytest.param("config: dict = {\n    'a': 1,  # one\n}", {"a": 1}, id="annotated, over lines"),
        pytest.param("config = dict(a=1, b='x' 'y')", {"a": 1, "b": "xy"}, id="dict(…)"),
        pytest.param("config = {}", {}, id="empty"),
        pytest.param("config = dict()", {}, id="empty dict()"),
        pytest.param("config = {'a': 1}\nconfig = {'b': 2}", {"b": 2}, id="the last one counts"),
        pytest.param("config = None", None, id="None"),
        pytest.param("config: dict", None, id="annotation only"),
        pytest.param("a = 1", None, id="not there"),
    ],
)
def test_a_literal_config_gives_defaults(source: str, defaults: dict[str, Any] | None) -> None:
    found = declared(source)
    assert found.defaults == defaults
    assert found.replaced is None


@pytest.mark.parametrize(
    "source",
    [
        "config = {**base, 'a': 1}",
        "config = BASE",
        "config = dict(BASE)",
        "config = dict(**BASE)",
        "config = load()",
        "config = {'a': f'{x}'}",
        "config = {'a': 60 * 60}",
        "config, b = {'a': 1}, 2",
        "config = {'a': 1}; config['b'] = 2",
        "config = {'a': 1}; config |= {'b': 2}",
        "config = {'a': 1}; config.update(b=2)",
    ],
)
def test_what_is_no_literal_declares_nothing_and_is_said_to_be_replaced(source: str) -> None:
    found = declared(f"\n{source}\na = 1")
    assert (found.defaults, found.replaced) == (None, 11)
    assert list(found.undeclared({"x": 1})) == []
    [remark] = found.remarks({"x": 1})
    assert remark.line == 11
    assert "is replaced by the run's config" in remark.text


@pytest.mark.parametrize("value", ["(1, 2)", "{1}", "b'x'", "1j", "{1: 2}"])
def test_a_default_without_a_json_type_is_refused_with_its_line(value: str) -> None:
    with pytest.raises(FlowError, match=r"the default config\.a") as caught:
        declared(f"config = {{\n    'x': 1,\n    'a': {value},\n}}")
    assert caught.value.line == 12


def test_a_default_whose_key_is_no_text_is_refused() -> None:
    with pytest.raises(FlowError, match="the key 1 is not a string") as caught:
        declared("config = {1: 2}")
    assert caught.value.line == 10


def test_the_config_is_merged_over_the_defaults_object_by_object() -> None:
    found = declared("config = {'a': 1, 'db': {'host': 'h', 'port': 1}, 'list': [1, 2]}")
    assert found.merged({"db": {"port": 2}, "list": [3], "new": 4}) == {
        "a": 1, "db": {"host": "h", "port": 2}, "list": [3], "new": 4,
    }  # fmt: skip


def test_only_own_names_that_the_config_has_are_injected_beside_config() -> None:
    config = {"a": 1, "c\nimport os": 2, "class": 3, "config": 4}
    assert declared("a = 0\nb = 0\nconfig = {}").injected(config) == {"config": config, "a": 1}


@pytest.mark.parametrize(
    ("source", "config", "expected"),
    [
        pytest.param("country = 1", {"contry": 2}, ["contry: did you mean 'country'?"], id="misspelt name"),
        pytest.param("a = 1", {"zzz": 2}, ["zzz: it declares a"], id="nothing near"),
        pytest.param("a = 1", {"a\nb": 2}, ["a\nb: it declares a"], id="no name"),
        pytest.param("config = {'rate': 1}", {"rat": 2}, ["rat: did you mean 'rate'?"], id="misspelt key"),
        pytest.param("config = {'db': {'host': 1}}", {"db": {"hots": 2}},
                     ["db.hots: did you mean 'host'?"], id="in an object"),
        pytest.param("config = {'db': {}}", {"db": {"hots": 2}}, [], id="an empty object welcomes all"),
        pytest.param("config = {'db': 1}", {"db": {"hots": 2}}, [], id="types are not looked at"),
        pytest.param("config = {'a': 1}\nb = 1", {"a": 2, "b": 3}, [], id="both ways"),
        pytest.param("config = {}", {"x": 1}, [], id="an empty config welcomes all"),
        pytest.param("config = {}\na = 1", {"x": 1}, [], id="also beside names"),
        pytest.param("# nothing", {"x": 1}, [], id="an empty cell declares nothing"),
    ],
)  # fmt: skip
def test_keys_that_are_not_declared(source: str, config: dict[str, Any], expected: list[str]) -> None:
    found = declared(source).undeclared(config)
    assert [f"{'.'.join(path)}: {hint}" for path, hint in found] == expected


@pytest.mark.parametrize(
    ("source", "config", "lines"),
    [
        pytest.param("a = 1\nb = a + 1", {"a": 2}, [11], id="from a name"),
        pytest.param("a = 1\nb = f'{a}.csv'", {"a": 2}, [11], id="in a text"),
        pytest.param("a = 1\nb = a + 1", {"a": 2, "b": 3}, [], id="the config has both"),
        pytest.param("a = 1\nb = a + 1", {}, [], id="the config has neither"),
        pytest.param("config = {'a': 1}\nb = config['a']", {"a": 1}, [11], id="from config"),
        pytest.param("config = {'a': 1}\na = config['a']", {"a": 1}, [], id="from config, injected"),
        pytest.param("a = 1\nprint(a)", {"a": 2}, [], id="shown"),
    ],
)
def test_what_is_computed_from_a_default_that_is_replaced_is_said(
    source: str, config: dict[str, Any], lines: list[int]
) -> None:
    assert [remark.line for remark in declared(source).remarks(config)] == lines


@pytest.mark.parametrize(
    "source", ["open('here', 'w')", "config = {'a': open('here', 'w')}", "a = open('here', 'w')"]
)
def test_the_cell_is_not_executed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str) -> None:
    monkeypatch.chdir(tmp_path)
    declared(source)
    assert list(tmp_path.iterdir()) == []
