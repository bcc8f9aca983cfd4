import sys
from pathlib import Path

import pytest

from pytest_ductaflow import convert_notebook_to_html
from pytest_ductaflow.errors import DuctaflowError


@pytest.fixture
def notebook(tmp_path: Path) -> Path:
    import nbformat

    document = nbformat.v4.new_notebook()
    output = nbformat.v4.new_output("stream", text="ä printed\n")
    document.cells = [
        nbformat.v4.new_markdown_cell("# The title"),
        nbformat.v4.new_code_cell("print('ä')", outputs=[output]),
    ]
    nbformat.write(document, tmp_path / "a.ipynb")
    return tmp_path / "a.ipynb"


@pytest.mark.parametrize("template", ["lab", "classic"])
def test_a_notebook_becomes_one_html_file_with_its_outputs(
    notebook: Path, tmp_path: Path, template: str
) -> None:
    pytest.importorskip("nbconvert")
    convert_notebook_to_html(str(notebook), str(tmp_path / "a.html"), template)
    text = (tmp_path / "a.html").read_text("utf-8")
    assert "<html" in text
    assert "The title" in text
    assert "ä printed" in text


def test_an_unknown_template_is_named(notebook: Path, tmp_path: Path) -> None:
    pytest.importorskip("nbconvert")
    with pytest.raises(DuctaflowError, match=r"^HTML template 'nope': "):
        convert_notebook_to_html(notebook, tmp_path / "a.html", "nope")
    assert not (tmp_path / "a.html").exists()


def test_without_nbconvert_the_extra_is_named(
    notebook: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "nbconvert", None)
    with pytest.raises(DuctaflowError, match=r"pip install 'pytest-ductaflow\[html\]'"):
        convert_notebook_to_html(notebook, tmp_path / "a.html")
