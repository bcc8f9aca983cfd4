"""What code means: what counts as a change, and what a text names."""

import pytest

from pytest_ductaflow import meaning
from pytest_ductaflow.meaning import Cell

FLOW = 'import json\n\n\ndef double(x):\n    """Twice."""\n    return x * 2\n\n\nprint(double(3))\n'


def of(*sources: str, docstrings: bool = False) -> str:
    return meaning.of_cells([Cell(source) for source in sources], docstrings=docstrings)


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(FLOW + "# a comment\n", id="comment"),
        pytest.param(FLOW.replace("x * 2", "(x  *  2)"), id="formatting"),
        pytest.param(FLOW.replace("Twice.", "Two times."), id="docstring"),
        pytest.param(FLOW.replace('    """Twice."""\n', ""), id="no docstring"),
    ],
)
def test_what_does_not_count(other: str) -> None:
    assert of(other) == of(FLOW)
    assert meaning.of_module(other) == meaning.of_module(FLOW)


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(FLOW.replace("2", "3"), id="number"),
        pytest.param(FLOW.replace("json", "csv"), id="import"),
        pytest.param(FLOW.replace("x * 2", "2 * x"), id="order"),
        pytest.param(FLOW + "print()\n", id="statement"),
        pytest.param(FLOW.replace("2", "2.0"), id="float"),
        pytest.param(FLOW.replace("print(double(3))", "if True:\n    print(double(3))"), id="indented"),
    ],
)
def test_what_counts(other: str) -> None:
    assert of(other) != of(FLOW)
    assert meaning.of_module(other) != meaning.of_module(FLOW)


def test_where_cells_are_split_does_not_count() -> None:
    assert of("a = 1\nb = 2") == of("a = 1", "b = 2") == of("", "a = 1", "# only words", "b = 2")
    assert of("a = 1\nb = 2") != of("b = 2", "a = 1")


def test_docstrings_count_where_code_looks_at_them() -> None:
    assert of(FLOW, docstrings=True) != of(FLOW.replace("Twice.", "Two."), docstrings=True)


def test_a_module_s_docstring_does_not_count_and_a_cell_s_text_does() -> None:
    assert meaning.of_module('"""One."""\nx = 1') == meaning.of_module('"""Two."""\nx = 1')
    assert of('"shown"') != of('"other"')


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("%matplotlib inline\nx = 1", "%matplotlib agg\nx = 1"),
        ("!ls data", "!ls others"),
        ("files = !ls data", "files = !ls others"),
        ("x = %time f(1)", "x = %time f(2)"),
        ("%%bash\necho 1", "%%bash\necho 2"),
        ("for x in a:\n    %run {x}.py", "for x in a:\n    %run {x}.ipy"),
    ],
)
def test_magics_and_shell_lines_count_as_text(one: str, other: str) -> None:
    assert of(one) != of(other)
    if not one.startswith("%%"):
        assert of(one) == of(f"# words\n{one}")


def test_a_percent_at_the_start_of_a_line_is_no_magic() -> None:
    assert of("x = (7\n  % 4)") == of("x = (7 % 4)")


def test_what_is_no_python_counts_as_text() -> None:
    assert of("this is not code") != of("this is no code")
    assert meaning.of_module("this is not code") != meaning.of_module("this is no code")


def test_tags_that_change_what_runs_count() -> None:
    plain, tagged = Cell("x = 1"), Cell("x = 1", ("raises-exception",))
    assert meaning.of_cells([plain]) != meaning.of_cells([tagged])


@pytest.mark.parametrize(
    ("new", "index"),
    [
        (("a = 1", "b = 2", "c = 3"), None),
        (("a = 1\nb = 2", "c = 3"), None),
        (("a = 1", "b = 3", "c = 3"), 1),
        (("a = 1", "x = 0", "b = 2", "c = 3"), 1),
        (("a = 1", "b = 2"), 1),
    ],
)
def test_the_first_cell_that_differs_is_found(new: tuple[str, ...], index: int | None) -> None:
    old = [Cell("a = 1"), Cell("b = 2"), Cell("c = 3")]
    assert meaning.first_difference(old, [Cell(source) for source in new]) == index


def test_what_a_text_names() -> None:
    found = meaning.mentions(
        "import numpy as np, os.path\nfrom package import deep\nfrom . import near\n"
        "a = 'data/a.csv'; b = f'{root}/data/b.csv'; c = 'no path'\n"
        "query = \"SELECT * FROM 'data/c.parquet' JOIN read_csv('d.csv')\"\n"
    )
    assert found.imports == {"numpy", "os.path", "package", "package.deep"}
    texts = {"data/a.csv", "/data/b.csv", "data/c.parquet", "d.csv"}
    assert texts <= set(found.texts)
    assert "no path" not in found.texts


@pytest.mark.parametrize(
    "code",
    [
        "x = root / 'data' / 'a.csv'",
        "x = Path(root) / 'data' / 'a.csv'",
        "x = os.path.join(root, 'data', 'a.csv')",
        "x = Path(root, 'data', 'a.csv')",
        "x = root.joinpath('data', 'a.csv')",
    ],
)
def test_a_path_that_is_put_together_is_named(code: str) -> None:
    assert "data/a.csv" in meaning.mentions(code).texts


def test_a_text_that_is_no_python_names_what_is_quoted() -> None:
    assert "data/a.csv" in meaning.mentions("what is 'data/a.csv'").texts
