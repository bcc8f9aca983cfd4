import copy
import datetime
import decimal
import json
import math
import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_ductaflow import strict_json
from pytest_ductaflow.errors import ConfigError
from pytest_ductaflow.strict_json import JSONProblem

# --- reading -------------------------------------------------------------------------------------


def problem_of(text: str) -> JSONProblem:
    with pytest.raises(JSONProblem) as caught:
        strict_json.loads(text)
    return caught.value


@pytest.mark.parametrize(
    ("text", "line", "key"),
    [
        pytest.param('{"a": 1,\n "a": 2}', 2, "a", id="top level"),
        pytest.param('{"a": {\n"b": 1,\n\n"b": 1}}', 4, "a.b", id="nested"),
        pytest.param('{"a": [0, {"x": 1},\n {"x": 1,\n"x": 2}]}', 3, "a[2].x", id="in a list"),
        pytest.param('[{"a": 1}, {"a": 1, "a": 1}]', 1, "[1].a", id="list at the top"),
        pytest.param('{"a": 1,\n"\\u0061": 2}', 2, "a", id="escaped"),
        pytest.param('{"": 1,\n"": 2}', 2, "", id="empty key"),
        pytest.param('{"a": "}{[,:",\n"b": "\\"",\n"b": 0}', 3, "b", id="brackets and quotes in strings"),
        pytest.param('{"a": {"x": 1},\n"a": {"x": 1}}', 2, "a", id="objects twice"),
        pytest.param('{"a": {"b": 1,\n"b": 2}, oops', 2, "a.b", id="before a syntax error"),
        pytest.param('{\r\n"a": 1,\r\n"a": 2}', 3, "a", id="Windows line ends"),
    ],
)
def test_a_key_twice_is_refused_with_its_second_line(text: str, line: int, key: str) -> None:
    problem = problem_of(text)
    assert (problem.line, problem.key) == (line, key)
    assert "twice" in problem.message


def test_the_same_key_in_different_objects_is_fine() -> None:
    assert strict_json.loads('[{"a": 1}, {"a": {"a": 2}}]') == [{"a": 1}, {"a": {"a": 2}}]


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        pytest.param("", 1, "invalid JSON", id="empty"),
        pytest.param('{"a": 1\n, "b"}', 2, "invalid JSON", id="colon missing"),
        pytest.param('{\n"a": 1\n"b": 2}', 3, "invalid JSON", id="comma missing"),
        pytest.param("{'a': 1}", 1, "invalid JSON", id="single quotes"),
        pytest.param('{"a": 1} x', 1, "invalid JSON", id="more behind the end"),
        pytest.param('{"a": "x\ty"}', 1, "invalid JSON", id="raw control character"),
        pytest.param('{"a": 1,\n"b": 1e400}', 2, "number out of range: 1e400", id="too large for a float"),
        pytest.param(
            '{"a": 1,\n\n"b": [-1e999]}', 3, "number out of range: -1e999", id="too small for a float"
        ),
        pytest.param("[" * 100_000 + "]" * 100_000, 1, "nested too deeply", id="nested too deeply"),
        pytest.param('{"a":' * 100_000, 1, "nested too deeply", id="objects nested too deeply"),
        pytest.param('{"a": ' + "9" * 5000 + "}", 1, "number out of range", id="too long for an int"),
    ],
)
def test_bad_json_is_refused_with_line_and_reason(text: str, line: int, message: str) -> None:
    problem = problem_of(text)
    assert message in problem.message
    assert problem.line == line


@pytest.mark.parametrize(
    "text",
    [
        pytest.param('{"a": "1e400",\n"b": 1e400}', id="the same text in a string before"),
        pytest.param('{"a": 1,\n"b": ' + "9" * 5000 + "}", id="too long for an int"),
    ],
)
def test_a_number_out_of_range_is_named_with_its_own_line(text: str) -> None:
    assert problem_of(text).line == 2


@pytest.mark.parametrize(
    ("text", "value"),
    [
        pytest.param("1" + "0" * 400, 10**400, id="big int"),
        pytest.param("-9007199254740993", -9007199254740993, id="beyond a float's exact range"),
        pytest.param("1e308", 1e308, id="large float"),
        pytest.param("1e-400", 0.0, id="too small is zero"),
        pytest.param("Infinity", math.inf, id="Infinity"),
        pytest.param("-Infinity", -math.inf, id="-Infinity"),
        pytest.param('"\\ud800"', "\ud800", id="lone surrogate"),
        pytest.param('"ä☃🎉\\n\\""', 'ä☃🎉\n"', id="unicode and escapes"),
        pytest.param("[true, false, null]", [True, False, None], id="words"),
    ],
)
def test_values_are_read_as_they_are(text: str, value: object) -> None:
    read = strict_json.loads(text)
    assert read == value
    assert type(read) is type(value)


def test_nan_is_read_because_data_frames_hold_it() -> None:
    assert math.isnan(strict_json.loads("NaN"))


@pytest.mark.parametrize(
    ("data", "line", "message"),
    [
        pytest.param(b"\xef\xbb\xbf{}", 1, "byte-order mark (BOM)", id="UTF-8 BOM"),
        pytest.param("{}".encode("utf-16"), 1, "byte-order mark (BOM)", id="UTF-16"),
        pytest.param(b"\xfe\xff\x00{", 1, "byte-order mark (BOM)", id="UTF-16 big-endian"),
        pytest.param(b'{\n"a": "caf\xe9"}', 2, "not UTF-8: byte 0xe9", id="Latin-1"),
        pytest.param(b'"\xed\xa0\x80"', 1, "not UTF-8: byte 0xed", id="encoded surrogate"),
    ],
)
def test_only_plain_utf8_is_text(tmp_path: Path, data: bytes, line: int, message: str) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(data)
    with pytest.raises(JSONProblem) as caught:
        strict_json.read_text(path)
    assert caught.value.line == line
    assert message in caught.value.message


def test_a_file_problem_names_file_line_and_key(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('{"a": {"b": 1,\n"b": 2}}')
    with pytest.raises(ConfigError) as caught:
        strict_json.load(path)
    assert str(caught.value) == f"{path}:2: a.b: this key stands twice in one object"


def test_a_missing_file_is_a_config_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        strict_json.load(tmp_path / "none.json")
    assert str(caught.value) == f"{tmp_path / 'none.json'}: No such file or directory"


def test_a_directory_is_a_config_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        strict_json.load(tmp_path)
    assert str(tmp_path) in str(caught.value)


def test_a_problem_shows_line_and_key_and_pickles() -> None:
    problem = JSONProblem("too large", 3, "a[0]")
    assert str(problem) == "line 3: a[0]: too large"
    assert str(JSONProblem("bad")) == "line 1: bad"
    assert str(pickle.loads(pickle.dumps(problem))) == str(problem)


# --- writing -------------------------------------------------------------------------------------


def test_text_for_people_is_indented_and_keeps_unicode_and_order() -> None:
    assert strict_json.dumps({"z": "ä", "a": [1]}) == '{\n  "z": "ä",\n  "a": [\n    1\n  ]\n}\n'


@pytest.mark.parametrize("value", ["\ud800", {"\udcff": ["ä", "\udfff"]}], ids=["value", "key"])
def test_lone_surrogates_are_written_as_escapes_and_come_back(value: object) -> None:
    text = strict_json.dumps(value)
    assert text.encode("utf-8").isascii()
    assert strict_json.loads(text) == value


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters()), inner, max_size=4),
    max_leaves=20,
)
OBJECTS = st.dictionaries(
    st.sampled_from("abcd"), JSON | st.dictionaries(st.sampled_from("ab"), JSON), max_size=4
)


@given(JSON)
def test_what_is_written_is_read_back_equal(value: object) -> None:
    assert strict_json.loads(strict_json.dumps(value)) == value


# --- types ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        pytest.param(datetime.date(2013, 1, 1), "datetime.date", id="date"),
        pytest.param(datetime.datetime(2013, 1, 1), "datetime.datetime", id="datetime"),
        pytest.param(decimal.Decimal("1.5"), "decimal.Decimal", id="Decimal"),
        pytest.param((1, 2), "tuple", id="tuple"),
        pytest.param({1, 2}, "set", id="set"),
        pytest.param(b"x", "bytes", id="bytes"),
        pytest.param(np.int64(3), "numpy.int64", id="numpy int"),
        pytest.param(np.float64(3), "numpy.float64", id="numpy float, which is a float"),
        pytest.param(np.array([1]), "numpy.ndarray", id="numpy array"),
        pytest.param(object(), "object", id="object"),
        pytest.param(1j, "complex", id="complex"),
    ],
)
def test_a_value_without_a_json_type_is_refused_by_key_and_type(value: object, kind: str) -> None:
    with pytest.raises(ConfigError) as caught:
        strict_json.check_types({"a": [0, {"b": value}]})
    assert str(caught.value).startswith(f"a[1].b: {kind} is not a JSON type (use a string, number")


def test_a_path_is_refused_by_key() -> None:
    with pytest.raises(ConfigError, match=r"^data_dir: pathlib\.\S*Path is not a JSON type"):
        strict_json.check_types({"data_dir": Path("x")})


@pytest.mark.parametrize(
    ("value", "text"),
    [
        pytest.param({1: "x"}, "config: the key 1 is not a string", id="int at the top"),
        pytest.param({"a": {None: 1}}, "a: the key None is not a string", id="None"),
        pytest.param({"a": [{("x",): 1}]}, "a[0]: the key ('x',) is not a string", id="tuple in a list"),
    ],
)
def test_a_key_that_is_no_string_is_refused_with_its_place(value: object, text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        strict_json.check_types(value)
    assert str(caught.value) == text


def test_a_whole_value_of_a_wrong_type_is_called_config() -> None:
    with pytest.raises(ConfigError, match=r"^config: set is not a JSON type"):
        strict_json.check_types(set())


@given(JSON)
def test_json_types_pass(value: object) -> None:
    strict_json.check_types(value)
    strict_json.check_types([math.nan, math.inf])


# --- merging -------------------------------------------------------------------------------------


def test_objects_merge_key_by_key_and_anything_else_replaces() -> None:
    base = {"a": {"x": 1, "y": {"z": 2}}, "b": [1, 2], "c": {"d": 1}, "e": 1}
    over = {"a": {"y": {"w": 3}}, "b": [3], "c": None, "e": {"f": 1}}
    assert strict_json.merge(base, over) == {
        "a": {"x": 1, "y": {"z": 2, "w": 3}},
        "b": [3],
        "c": None,
        "e": {"f": 1},
    }


@given(OBJECTS, OBJECTS)
def test_merging_leaves_both_sides_alone(base: dict, over: dict) -> None:
    before = copy.deepcopy((base, over))
    strict_json.merge(base, over)
    assert (base, over) == before


@given(OBJECTS, OBJECTS)
def test_merging_again_changes_nothing_and_nothing_is_neutral(base: dict, over: dict) -> None:
    merged = strict_json.merge(base, over)
    assert strict_json.merge(merged, over) == merged
    assert strict_json.merge(base, {}) == base
    assert strict_json.merge({}, over) == over


@given(OBJECTS, OBJECTS)
def test_merging_keeps_the_base_order_and_adds_new_keys_behind(base: dict, over: dict) -> None:
    assert list(strict_json.merge(base, over)) == [*base, *(key for key in over if key not in base)]


# --- secrets -------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["password", "DB_PASSWORD", "passwd", "api_token", "Token", "client_secret"])
def test_a_secret_is_hidden_by_its_key_at_any_depth(key: str) -> None:
    value = {"user": "u", "db": [{key: "hunter2"}], key: "hunter2"}
    shown = strict_json.redact(value)
    assert "hunter2" not in json.dumps(shown)
    assert shown == {"user": "u", "db": [{key: "***"}], key: "***"}
    assert value[key] == "hunter2"


def test_a_number_as_a_password_is_hidden() -> None:
    assert strict_json.redact({"password": 12345678, "secret": {"pin": 1.5}, "on": True}) == {
        "password": "***",
        "secret": {"pin": "***"},
        "on": True,
    }


@pytest.mark.parametrize(
    "value",
    [
        pytest.param({"tokens": ["hunter2"]}, id="list"),
        pytest.param({"secrets": {"db": "hunter2"}}, id="object"),
        pytest.param({"passwords": [{"db": ["hunter2"]}]}, id="nested"),
    ],
)
def test_all_texts_below_a_secret_key_are_hidden(value: dict) -> None:
    assert "hunter2" not in json.dumps(strict_json.redact(value))


@pytest.mark.parametrize(
    "value", [{"a": 1, "n": None}, {"max_tokens": 100}, {"t": ["password"]}, 3, "x", None]
)
def test_what_is_no_secret_is_shown_as_it_is(value: object) -> None:
    assert strict_json.redact(value) == value


# --- places --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ((), ""),
        (("scenarios", "origin", 2), "scenarios.origin[2]"),
        ((0, "a"), "[0].a"),
        (("a", 0, 1, "b"), "a[0][1].b"),
    ],
)
def test_a_key_path_is_shown_with_dots_and_brackets(path: tuple, text: str) -> None:
    assert strict_json.dotted(path) == text


DOCUMENT = '{\n  "a": 1,\n  "b": {"c": [\n    10,\n    {"d": 2}\n  ]},\n  "e": []\n}\n'


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ((), 1),
        (("a",), 2),
        (("b",), 3),
        (("b", "c"), 3),
        (("b", "c", 0), 4),
        (("b", "c", 1), 5),
        (("b", "c", 1, "d"), 5),
        (("e",), 7),
        (("e", 0), 7),
        (("b", "c", 7, "x"), 3),
        (("nowhere",), 1),
    ],
)
def test_locate_gives_the_line_of_a_place_or_of_the_nearest_above(path: tuple, line: int) -> None:
    assert strict_json.locate(DOCUMENT, path) == line


@given(JSON, st.data())
def test_lines_agree_with_a_writer_that_counts_them(value: object, data: st.DataObject) -> None:
    parts: list[str] = []
    expected: dict[tuple, int] = {}
    line = 1

    def put(text: str) -> None:
        nonlocal line
        gap = data.draw(st.sampled_from(["", "\n", " \n\t", "\r\n", " "]))
        parts.extend((text, gap))
        line += gap.count("\n")

    def write(item: object, path: tuple) -> None:
        if isinstance(item, dict):
            put("{")
            for index, (key, inner) in enumerate(item.items()):
                if index:
                    put(",")
                expected[(*path, key)] = line
                put(json.dumps(key))
                put(":")
                write(inner, (*path, key))
            put("}")
        elif isinstance(item, list):
            put("[")
            for index, inner in enumerate(item):
                if index:
                    put(",")
                expected[(*path, index)] = line
                write(inner, (*path, index))
            put("]")
        else:
            put(json.dumps(item, ensure_ascii=data.draw(st.booleans())))

    put("")
    write(value, ())
    text = "".join(parts)
    assert json.loads(text) == value
    assert strict_json.lines(text) == expected
