from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_ductaflow.names import check_name, check_pattern, default_name, label_text, without_group


@pytest.mark.parametrize(
    "name", ["a", "A.b-c_1", "1", "ä", "日本", "x" * 100, "console", "a..b", "com10", "com"]
)
def test_a_good_name_has_nothing_against_it(name: str) -> None:
    assert check_name(name) is None


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        pytest.param("", "must be letters", id="empty"),
        pytest.param("a/b", "must be letters", id="slash"),
        pytest.param("a\\b", "must be letters", id="backslash"),
        pytest.param("..", "must be letters", id="dot dot"),
        pytest.param(".hidden", "start with a letter or digit", id="leading dot"),
        pytest.param("-x", "start with a letter or digit", id="leading dash"),
        pytest.param("_x", "start with a letter or digit", id="leading underscore"),
        pytest.param("a\0b", "must be letters", id="NUL"),
        pytest.param("a b", "must be letters", id="space"),
        pytest.param("a\n", "must be letters", id="newline at the end"),
        pytest.param("a:b", "must be letters", id="colon"),
        pytest.param("<b>", "must be letters", id="HTML"),
        pytest.param("a[1]", "must be letters", id="brackets"),
        pytest.param("a.", "must not end with a dot", id="dot at the end"),
        pytest.param("x" * 101, "has 101 characters, at most 100", id="too long"),
        pytest.param("Zu\u0308rich", "must be letters", id="combining mark"),
        pytest.param("\u212b", "not in Unicode normalization form NFC", id="not NFC"),
        *(
            pytest.param(n, "a device name on Windows", id=n)
            for n in ("con", "NUL", "Aux.txt", "com1", "LPT9.a.b")
        ),
    ],
)
def test_a_bad_name_says_why(name: str, problem: str) -> None:
    assert problem in (check_name(name) or "")


@pytest.mark.parametrize("name", ["com¹", "LPT³"])
def test_device_names_with_superscript_digits_are_refused(name: str) -> None:
    assert "a device name on Windows" in (check_name(name) or "")


@given(st.text(max_size=90))
def test_any_label_becomes_part_of_a_good_name(text: str) -> None:
    name = f"sweep-{label_text(text)}"
    assert check_name(name) is None or name.endswith(".") or len(name) > 100


@pytest.mark.parametrize(
    ("label", "text"),
    [
        ("a/b c", "a_b_c"),
        ("<b>", "_b_"),
        ("Zu\u0308rich", "Zürich"),
        ("a.b-c", "a.b-c"),
        ("\0", "_"),
        ("", ""),
    ],
    ids=ascii,
)
def test_any_other_character_of_a_label_becomes_an_underscore(label: str, text: str) -> None:
    assert label_text(label) == text


@pytest.mark.parametrize(
    ("stem", "name"), [("fit", "fit"), ("_fit", "fit"), ("-.-", "instance"), ("a b", "a_b")]
)
def test_a_name_is_made_of_a_file_s_stem(stem: str, name: str) -> None:
    assert default_name(stem) == name


@pytest.mark.parametrize("pattern", ["*.csv", "data/**/*.csv", "**", "**/x", "./a", "a?[b]"])
def test_a_glob_pattern_is_accepted(pattern: str, tmp_path: Path) -> None:
    assert check_pattern(pattern) is None
    list(tmp_path.glob(pattern))


@pytest.mark.parametrize("pattern", ["", ".", "./", "**.csv", "data/**.csv", "a**/x", "a\0"])
def test_what_pathlib_cannot_glob_is_refused(pattern: str) -> None:
    assert check_pattern(pattern)


@pytest.mark.parametrize("group", ["", "@default", "@a_b"])
def test_a_group_that_xdist_appends_is_no_part_of_an_id(group: str) -> None:
    assert without_group(f"in@stances/a.json::a-1{group}") == "in@stances/a.json::a-1"
