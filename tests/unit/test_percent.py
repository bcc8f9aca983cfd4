"""Where a notebook would run other code than Python does, that is said; else all lines are known."""

import ast
import re
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_ductaflow import flow
from pytest_ductaflow.errors import FlowError

from .conftest import PARAMETERS


@pytest.fixture(autouse=True)
def _nothing_remembered() -> None:
    flow._examined.cache_clear()  # same size, same clock tick: files of the test before


def write(directory: Path, text: str | bytes) -> Path:
    path = directory / "fit.py"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def header(format_name: str = "percent", formats: str = "") -> str:
    lines = ["---", "jupyter:", "  jupytext:"]
    if formats:
        lines.append(f"    formats: {formats}")
    if format_name:
        lines += [
            "    text_representation:",
            "      extension: .py",
            f"      format_name: {format_name}",
            "      format_version: '1.3'",
        ]
    return "".join(f"# {line}\n" for line in [*lines, "---"]) + "\n"


@pytest.mark.parametrize(
    ("body", "line", "problem"),
    [
        pytest.param("# %% [markdown]\n# text\nx = 1\n", 5, "in the markdown cell of line 3", id="markdown"),
        pytest.param("# %% [md]\nx = 1\n", 4, "in the markdown cell of line 3", id="md"),
        pytest.param("# %% [raw]\nx = 1\n", 4, "in the raw cell of line 3", id="raw"),
        pytest.param('# %% [markdown]\n"""\ntext\n"""\nx = 1\n', 7, "in the markdown cell", id="below its text"),
        pytest.param("# %% [markdown]\n@f\ndef g(): pass\n", 4, "in the markdown cell", id="a decorator"),
        pytest.param(PARAMETERS, 3, "the second cell tagged `parameters`, after line 1", id="two parameters cells"),
        pytest.param(
            '# %% tags=["injected-parameters"]\nconfig = {"a": 1}\n', 3, "is what a run adds", id="injected"
        ),
        pytest.param("# %%\nfor i in x:\n    # %%\n    f(i)\n", 5, "statement of line 4", id="indented marker"),
        pytest.param("# %%\nx = [\n# %%\n1]\n", 5, "statement of line 4", id="a marker in a list"),
        pytest.param('# %%\nx = ("a"\n# %%\n"b")\n', 5, "statement of line 4", id="a marker between texts"),
        pytest.param(
            "# %%\nx = ('\\\\', '''\n# %%\n''')\n", 5, "statement of line 4", id="in a text, not for jupytext"
        ),
        pytest.param("# %%\nif x:\n    f()\n# In[3]:\nelse:\n    g()\n", 6, "statement of line 4", id="In[3]"),
        pytest.param(
            "# %% [markdown]\n'''\ntext\n# %%\nx = 1\n", 4, "the notebook would run without it", id="not closed"
        ),
        pytest.param(
            "# %% [markdown]\n'''\na\n# %%\nx = 1\n# %% [markdown]\n'''\nb\n'''\n",
            11,
            "Python cannot read this",
            id="one too many",
        ),
        pytest.param(
            "# %% [markdown]\n'''\na\n# %%\nx = 1\n'''\n# %%\ny = 1\n", 6, "neither `python` nor", id="closed later"
        ),
    ],
)  # fmt: skip
def test_code_that_one_of_the_two_would_not_run_is_refused(
    tmp_path: Path, body: str, line: int, problem: str
) -> None:
    path = write(tmp_path, PARAMETERS + body)
    for look in (flow.examine, flow.read):
        with pytest.raises(FlowError, match=re.escape(problem)) as caught:
            look(path)
    with pytest.raises(FlowError) as caught:
        flow.examine(path)
    assert caught.value.line == line


@pytest.mark.parametrize(
    "text",
    [
        *(header(name) for name in ("light", "nomarker", "sphinx", "hydrogen", "bare")),
        header("", "ipynb,py:light"),
        "#!/usr/bin/env python\n" + header("light"),
        "\n\n" + header("light"),
    ],
)
def test_a_header_of_another_format_is_refused_at_its_line(tmp_path: Path, text: str) -> None:
    with pytest.raises(FlowError, match="the header says that the format is") as caught:
        flow.examine(write(tmp_path, text + PARAMETERS))
    named = text.split("\n").index(
        next(line for line in text.split("\n") if re.search("format_name|formats", line))
    )
    assert caught.value.line == named + 1


@pytest.mark.parametrize(
    "text", [header(), header("", "ipynb,py:percent"), header("percent", "ipynb,auto:percent")]
)
def test_a_header_of_the_percent_format_is_fine(tmp_path: Path, text: str) -> None:
    assert flow.examine(write(tmp_path, text + PARAMETERS)).parameters
    assert flow.read(tmp_path / "fit.py").position == 0


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16", "no-such-thing"])
def test_another_encoding_is_refused(tmp_path: Path, encoding: str) -> None:
    with pytest.raises(FlowError, match="save it as UTF-8") as caught:
        flow.examine(write(tmp_path, f"#!/usr/bin/env python\n# -*- coding: {encoding} -*-\n{PARAMETERS}"))
    assert caught.value.line == 2


@pytest.mark.parametrize(
    ("before", "first"),
    [
        pytest.param("# -*- coding: utf-8 -*-\n", 3, id="cookie"),
        pytest.param("# coding: UTF8\n", 3, id="another name of it"),
        pytest.param("#!/usr/bin/env python\n# vim: set fileencoding=utf-8 :\n", 4, id="shebang and cookie"),
        pytest.param("#!/usr/bin/env python\n# -*- coding: utf_8 -*-\n" + header(), 13, id="and a header"),
        pytest.param("\n\n", 4, id="blank lines"),
        pytest.param("\n\n" + header(), 13, id="blank lines and a header"),
        pytest.param("\ufeff", 2, id="byte-order mark"),
        pytest.param("# ---\n# title: x\n# ---\n\n", 6, id="a header that is not Jupyter's"),
        pytest.param("# %% [markdown]\n# ```\n# %% x\n# ```\n", 6, id="a marker in a fence"),
        pytest.param("# %% [markdown]\n# # %%time in a text\n# %%time\n", 5, id="%% in markdown"),
        pytest.param('# %% [markdown]\n"""\nit\'s\n"""\n', 6, id="an apostrophe"),
        pytest.param("# %%\nimport os\n", 4, id="a cell"),
        pytest.param("# In[3]:\nimport os\n\n\n", 6, id="In[3]"),
        pytest.param("# <codecell>\nimport os\n", 4, id="codecell"),
        pytest.param("#%%\n\x0c\nimport os\n", 5, id="form feed"),
        pytest.param('"""About.\n\n# %%\n"""\nimport os\n', 7, id="docstring with a marker"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"], ids=repr)
def test_lines_are_known_below(tmp_path: Path, before: str, first: int, end: str) -> None:
    path = write(tmp_path, (before + PARAMETERS + "# %%\ny = 2").replace("\n", end))
    assert flow.examine(path).parameters is not None
    found = flow.read(path)
    assert found.position is not None
    assert found.lines[found.position :] == (first, first + 2)
    assert found.notebook.cells[-1].source == "y = 2"


@pytest.mark.parametrize("character", "\v\f\x1c\x1d\x1e\x85\u2028\u2029", ids=ascii)
def test_a_character_that_only_python_s_splitlines_splits_at_stays(tmp_path: Path, character: str) -> None:
    body = f"# %%\nx = 'a{character}b'\ny = '''{character}\n'''  # {character}x\n# %%\nz = 1\n"
    found = flow.read(write(tmp_path, PARAMETERS + body))
    assert found.lines == (2, 4, 8)
    names: dict[str, object] = {}
    exec(found.notebook.cells[1].source, names)
    assert (names["x"], names["y"]) == (f"a{character}b", f"{character}\n")


@pytest.mark.parametrize(
    ("comment", "read"),
    [
        *((text, text) for text in ("# cat food prices", "# rm old", "#cd up", "# echo x", "# ls", "    # cp a b")),
        ("# %matplotlib inline", "%matplotlib inline"),
        ("# !ls -l", "!ls -l"),
        ("# files = !ls", "files = !ls"),
        ("# x = %time f()", "x = %time f()"),
        ("# ?print", "?print"),
        ("# !ls \\\n#   -l", "!ls \\\n  -l"),
    ],
)  # fmt: skip
def test_a_comment_stays_one_unless_it_is_a_magic_with_its_sign(
    tmp_path: Path, comment: str, read: str
) -> None:
    found = flow.read(write(tmp_path, f"{PARAMETERS}# %%\nif True:\n    x = 1\n{comment}\ny = 2\n"))
    assert found.notebook.cells[1].source == f"if True:\n    x = 1\n{read}\ny = 2"


def test_cells_that_are_said_to_run_on_one_side_only_are_read_so(tmp_path: Path) -> None:
    body = '# %% tags=["active-ipynb"]\n# x = 1\n# %% tags=["active-py"]\nimport sys\n# %% active="py"\nimport os\n'
    found = flow.read(write(tmp_path, PARAMETERS + body + "# %%\ny = 1\n"))
    assert [cell.source for cell in found.notebook.cells if cell.cell_type == "code"] == [
        "config = {}",
        "x = 1",
        "y = 1",
    ]
    assert found.lines == (2, 4, None, None, 10)


def test_a_plain_file_is_looked_at_without_jupytext(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jupytext.cell_reader", None)  # importing it would fail
    body = '# %% [markdown]\n"""\ntext\n"""\n# %%\ndef f():\n    """It\'s one."""\n# %matplotlib inline\n# %%\nx = f()\n'
    assert flow.examine(write(tmp_path, header() + PARAMETERS + body)).parameters
    with pytest.raises(FlowError, match="markdown cell"):
        flow.examine(write(tmp_path, PARAMETERS + "# %% [markdown]\nx = 12345\n"))


# Pieces of files, in which every `mark()` is a statement.
_CODE = st.sampled_from(
    [
        "mark()",
        "if True:\n    mark()\n",
        "mark('''\n# %% in a text\n''')",
        "mark(\"it's\")  # don't",
        "mark(\n    1,\n)",
        "# %matplotlib inline\nmark()",
        "mark()  # 100 %%",
        "# cat and mouse\nmark()",
        "x = 'a\\\nb'; mark()",
        'mark("""a \\""" b""")',
        "\x0c\nmark('\u2028')",
        "def f():\n    '''It\\'s'''\n\nmark()",
        "# ---\nmark()",
        "# + tags\nmark()\n# -",
        "\n\n\nmark()\n\n\n",
        "",
    ]
)
_MARKER = st.sampled_from(
    ["# %%", "#%%", "# %% A title", "# %%% deeper", '# %% tags=["a"]', "# In[12]:", "# <codecell>",
     "# %% [markdown]\n# text\n# %%", '# %% [markdown]\n"""\nit\'s\n"""\n# %%', "# %% [raw]\n# r\n# %%",
     "# %% [markdown]\n# ```\n# %%x\n# %% y\n# ```\n# %%", "# %%\n# %%time", "# %% [markdown]\n# '''\n# %%"]
)  # fmt: skip
_TOP = st.sampled_from(
    [
        "",
        "\n",
        "#!/bin/python\n",
        "# coding: utf-8\n",
        "#!/x\n# coding: utf8\n",
        header(),
        "# a comment\n\n",
        "'''Doc'''\n",
    ]
)


@given(
    top=_TOP,
    cells=st.lists(st.tuples(_MARKER, st.lists(_CODE, max_size=3)), min_size=1, max_size=6),
    end=st.sampled_from(["\n", "\r\n"]),
    last=st.sampled_from(["", "\n", "\n\n\n"]),
)
def test_every_statement_is_in_one_cell_and_its_line_is_known(
    tmp_path_factory: pytest.TempPathFactory,
    top: str,
    cells: list[tuple[str, list[str]]],
    end: str,
    last: str,
) -> None:
    text = top + PARAMETERS + "\n".join("\n".join([marker, *code]) for marker, code in cells) + last
    path = tmp_path_factory.getbasetemp() / "generated.py"
    path.write_bytes(text.replace("\n", end).encode())
    expected = marks(text)
    flow._examined.cache_clear()
    flow.examine(path)
    found = flow.read(path)
    seen = []
    for cell, line in zip(found.notebook.cells, found.lines, strict=True):
        if cell.cell_type == "code" and cell.source.strip():
            assert line is not None
            source = re.sub("^%(?=.*$)", "#", cell.source, flags=re.MULTILINE)
            seen += [line - 1 + inner for inner in marks(source)]
    assert seen == expected


def marks(text: str) -> list[int]:
    calls = (node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call))
    return sorted(call.lineno for call in calls if getattr(call.func, "id", "") == "mark")
