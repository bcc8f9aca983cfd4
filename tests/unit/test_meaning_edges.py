"""Meaning at its edges: kinds of strings, deep and huge code, magics, what texts name."""

import pytest

from pytest_ductaflow import meaning
from pytest_ductaflow.meaning import Cell


def of(*sources: str, docstrings: bool = False) -> str:
    return meaning.of_cells([Cell(source) for source in sources], docstrings=docstrings)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param("x = 'a'", 'x = """a"""', id="quotes"),
        pytest.param("x = 'a'", "x = u'a'", id="u prefix"),
        pytest.param("x = 'a\\\\b'", "x = r'a\\b'", id="raw"),
        pytest.param("x = 'a' 'b'", "x = 'ab'", id="adjacent"),
        pytest.param("x = 1000", "x = 1_000", id="underscore"),
        pytest.param("x = 255", "x = 0xFF", id="hexadecimal"),
        pytest.param("x = 1", "x = (1)  # type: int", id="type comment"),
        pytest.param("f(1,\n  2)", "f(\n    1,\n    2,\n)", id="trailing comma"),
        pytest.param("if a: b", "if a:\n        b\n", id="indentation"),
        pytest.param("a = 1; b = 2", "a = 1\nb = 2", id="semicolon"),
        pytest.param("a = 1\nb = 2", "a = 1\r\nb = 2", id="line ends"),
        pytest.param("await f()", "await   f()", id="await"),
        pytest.param(
            "class A:\n    'one'\n    x = 1", "class A:\n    'two'\n    x = 1", id="class docstring"
        ),
        pytest.param("async def f():\n    'one'", "async def f():\n    'two'", id="async docstring"),
        pytest.param("def f():\n    'one'", "def f():\n    pass", id="nothing but a docstring"),
    ],
)
def test_two_ways_to_write_the_same(one: str, other: str) -> None:
    assert of(one) == of(other)
    assert meaning.of_module(one) == meaning.of_module(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param("x = 'a'", "x = b'a'", id="bytes"),
        pytest.param("x = 'a\\tb'", "x = r'a\\tb'", id="raw"),
        pytest.param("x = 1", "x = True", id="bool"),
        pytest.param("x = 1", "x = 1.0", id="float"),
        pytest.param("x = '{a}'", "x = f'{a}'", id="formatted"),
        pytest.param("x = f'{a}'", "x = f'{a!r}'", id="conversion"),
        pytest.param("x = f'{a:3}'", "x = f'{a:4}'", id="format"),
        pytest.param("x = '# 1'", "x = '# 2'", id="no comment"),
        pytest.param("x = '''a\nb'''", "x = '''a\n b'''", id="white space in a string"),
        pytest.param("x: int = 1", "x: float = 1", id="annotation"),
        pytest.param("def f(a, b=1): pass", "def f(a, b=2): pass", id="default"),
        pytest.param("@one\ndef f(): pass", "@two\ndef f(): pass", id="decorator"),
        pytest.param("def f():\n    'doc'\n    'two'", "def f():\n    'doc'", id="second string"),
        pytest.param("def f():\n    x = 'one'", "def f():\n    x = 'two'", id="no docstring"),
        pytest.param("def f():\n    f'one'", "def f():\n    f'two'", id="formatted is no docstring"),
        pytest.param("a\nb", "a.b", id="structure"),
    ],
)
def test_ways_to_write_something_else(one: str, other: str) -> None:
    assert of(one) != of(other)
    assert meaning.of_module(one) != meaning.of_module(other)


def test_docstrings_of_modules_count_where_code_looks_at_them() -> None:
    one, other = '"""One."""\nx = 1', '"""Two."""\nx = 1'
    assert meaning.of_module(one, docstrings=True) != meaning.of_module(other, docstrings=True)


def test_comments_beside_magics_do_not_count() -> None:
    assert of("# one\n%matplotlib inline\nx = 1") == of("%matplotlib inline\nx = 1  # two\n")
    assert of("%matplotlib inline", "x = 1") == of("%matplotlib inline\nx = 1")


def test_a_magic_is_not_what_python_makes_of_it() -> None:
    assert of("!ls") != of("ls")
    assert of("%time f()") != of("f()")


@pytest.mark.parametrize("magic", ["%%bash", "%%writefile notes.md", "%%time", "%%sql"])
def test_comments_in_a_cell_of_another_language_count(magic: str) -> None:
    assert of(f"{magic}\n# one") != of(f"{magic}\n# two")


def test_white_space_that_a_cell_magic_writes_counts() -> None:
    assert of("%%writefile notes.md\na  \nb") != of("%%writefile notes.md\na\nb")


def test_white_space_in_a_string_counts_also_beside_a_magic() -> None:
    cell = "%matplotlib inline\nx = '''\n%a{}\n'''"
    assert of(cell.format("  ")) != of(cell.format(""))


DEEP = {
    "sum": "x = " + " + ".join(["1"] * 1500),
    "elif": "if a == 0: pass\n" + "".join(f"elif a == {n}: pass\n" for n in range(600)),
    "huge number": "x = 0x" + "F" * 5000,
}


@pytest.mark.parametrize("name", DEEP)
def test_code_of_any_depth_and_size_has_a_meaning(name: str) -> None:
    text = DEEP[name]
    assert meaning.of_module(text) != meaning.of_module(f"{text}\ny = 1")
    assert of(text) != of(f"{text}\ny = 1")


def test_a_tagged_cell_is_one_of_its_own() -> None:
    tagged = ("raises-exception",)
    assert meaning.of_cells([Cell("a", tagged), Cell("b")]) != meaning.of_cells([Cell("a\nb", tagged)])
    assert meaning.of_cells([Cell("a", tagged)]) != meaning.of_cells([Cell("a", ("parameters",))])


def test_the_first_difference_sees_tags_and_no_comments() -> None:
    old = [Cell("a = 1"), Cell("b = 2  # one")]
    assert meaning.first_difference(old, [Cell("a = 1"), Cell("b = 2  # two")]) is None
    assert meaning.first_difference(old, [Cell("a = 1"), Cell("b = 2", ("raises-exception",))]) == 1
    assert meaning.first_difference(old, []) is None
    assert meaning.first_difference([], [Cell("a = 1")]) == 0


# --- what texts name ---


@pytest.mark.parametrize(
    ("text", "imports"),
    [
        ("import a.b as c", {"a.b"}),
        ("from a import b as c, d", {"a", "a.b", "a.d"}),
        ("from a import *", {"a"}),
        ("def f():\n    import a", {"a"}),
        ("try:\n    import a\nexcept ImportError:\n    import b", {"a", "b"}),
        ("%matplotlib inline\nimport a", {"a"}),
        ("import a\n!ls", {"a"}),
        ("from . import a", set()),
        ("'import a'", set()),
    ],
)
def test_imports(text: str, imports: set[str]) -> None:
    assert meaning.mentions(text).imports == imports


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("open('data/a.csv')", "data/a.csv"),
        ("open(r'data\\a.csv')", "data\\a.csv"),
        ("f('a b/c d.csv')", "a b/c d.csv"),
        ("f('data/' 'a.csv')", "data/a.csv"),
        ("open(f'{root}/data/a.csv')", "/data/a.csv"),
        ("open(root + '/data/a.csv')", "/data/a.csv"),
        ("def f(path='data/a.csv'): pass", "data/a.csv"),
        ("x = {'file': ['data/a.csv']}", "data/a.csv"),
        ("!cat 'data/a.csv'", "data/a.csv"),
        ("q = '''\nSELECT *\nFROM 'data/a.csv'\n'''", "data/a.csv"),
        ("q = 'FROM read_csv(\"data/a.csv\")'", "data/a.csv"),
        ("os.system('sort \"data/a.csv\"')", "data/a.csv"),
        ("q = f\"FROM '{root}/data/a.csv'\"", "/data/a.csv"),
        ("q = f\"FROM read_csv('{root}/data/a.csv')\"", "/data/a.csv"),
        ('q = "FROM \'" + root + "/data/a.csv\'"', "/data/a.csv"),
        ("q = f\"FROM '{root}/data/a.csv' WHERE x\"", "/data/a.csv"),
        ("!sort data/a.csv", "data/a.csv"),
        ("%%bash\nsort data/a.csv", "data/a.csv"),
    ],
)
def test_texts_that_name_files(text: str, named: str) -> None:
    assert named in meaning.mentions(text).texts


def test_texts_too_long_or_without_a_sign_of_a_path_name_no_file() -> None:
    assert meaning.mentions(f"'{'a' * 2000}.csv', 'word', '', 1.5, b'data/a.csv'").texts == ()
