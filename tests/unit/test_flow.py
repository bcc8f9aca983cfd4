import os
import re
import sys
from pathlib import Path

import pytest

from pytest_ductaflow import flow, percent, regular
from pytest_ductaflow.errors import FlowError

from .conftest import PARAMETERS, needs_timer, time_limit


@pytest.fixture(autouse=True)
def _nothing_remembered() -> None:
    flow._examined.cache_clear()  # same size, same clock tick: files of the test before


def write(directory: Path, text: str | bytes) -> Path:
    path = directory / "fit.py"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def read(directory: Path, text: str) -> flow.Flow:
    return flow.read(write(directory, text))


def header(body: str) -> str:
    return f"# ---\n{body}# ---\n\n"


def kernelspec(name: str) -> str:
    spec = f"#     display_name: Some kernel\n#     language: python\n#     name: {name}\n"
    return header(f"# jupyter:\n#   jupytext:\n#     formats: py:percent\n#   kernelspec:\n{spec}")


# --- check ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(PARAMETERS, id="plain"),
        pytest.param('#%% tags=["parameters"]\nconfig = {}\n', id="no space"),
        pytest.param("# %% tags=['parameters']\nconfig = {}\n", id="single quotes"),
        pytest.param('# %% Parameters tags=["a", "parameters"]\nconfig = {}\n', id="title and another tag"),
        pytest.param('# %% name="[" tags=["parameters"]\nconfig = {}\n', id="another option"),
        pytest.param('# %% Parameters {"tags": ["parameters"]}\nconfig = {}\n', id="options as JSON"),
        pytest.param("import os\n\n# %% [markdown]\n# text\n" + PARAMETERS, id="not the first cell"),
        pytest.param(PARAMETERS.replace("\n", "\r\n"), id="Windows line ends"),
        pytest.param(PARAMETERS + "# %%\ndef broken(:\n", id="a syntax error is the run's business"),
    ],
)
def test_a_file_with_a_parameters_cell_can_be_a_flow(tmp_path: Path, text: str) -> None:
    assert flow.examine(write(tmp_path, text)).parameters is not None
    assert any("parameters" in cell.metadata.get("tags", ()) for cell in read(tmp_path, text).notebook.cells)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("# %%\nconfig = {}\n", id="no tag"),
        pytest.param('# %% tags=["params"]\nconfig = {}\n', id="another tag"),
        pytest.param('# %% tags=["parameters"\nconfig = {}\n', id="tags not closed"),
        pytest.param("# %% tags=[parameters]\nconfig = {}\n", id="no quotes"),
        pytest.param('# tags=["parameters"]\nconfig = {}\n', id="no cell marker"),
        pytest.param('# + tags=["parameters"]\nconfig = {}\n', id="light format"),
        pytest.param('# %%tags=["parameters"]\nconfig = {}\n', id="a cell magic, for jupytext"),
        pytest.param('text = """\n# %% tags=["parameters"]\n"""\n', id="within a string"),
        pytest.param('# %% [markdown] tags=["parameters"]\n# text\n# %%\nx = 1\n', id="markdown cell"),
        pytest.param('# %% [raw] tags=["parameters"]\n# text\n# %%\nx = 1\n', id="raw cell"),
        pytest.param('# %% tags=["parameters", "active-py"]\nx = 1\n# %%\ny = 1\n', id="for scripts only"),
    ],
)
def test_a_flow_may_have_no_parameters_cell(tmp_path: Path, text: str) -> None:
    assert flow.examine(write(tmp_path, text)).parameters is None
    found = read(tmp_path, text)
    assert found.position is None
    assert found.layout == ("injected-parameters", *range(len(found.notebook.cells)))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        pytest.param("", "has no code cell", id="empty"),
        pytest.param("# %% [markdown]\n# text\n# %%\n\n", "has no code cell", id="text only"),
        pytest.param(b"# caf\xe9\n" + PARAMETERS.encode(), "is not UTF-8", id="Latin-1"),
    ],
)
def test_a_file_that_cannot_be_a_flow_says_why(tmp_path: Path, text: str | bytes, problem: str) -> None:
    with pytest.raises(FlowError) as caught:
        flow.examine(write(tmp_path, text))
    assert str(caught.value) == problem


def test_a_missing_file_is_named_as_such(tmp_path: Path) -> None:
    with pytest.raises(FlowError, match=r"^there is no such file$"):
        flow.examine(tmp_path / "none.py")


def test_a_directory_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(FlowError, match=r"^cannot be read: Is a directory"):
        flow.examine(tmp_path)


def test_a_kernel_that_is_not_installed_is_named(tmp_path: Path) -> None:
    with pytest.raises(FlowError, match=r"^asks for the kernel 'no-such-kernel', which is not installed"):
        flow.examine(write(tmp_path, kernelspec("no-such-kernel") + PARAMETERS))


@pytest.mark.parametrize("name", ["python3", "python", "'python3'", '"python3"'])
def test_the_kernel_of_this_python_needs_no_look_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setitem(sys.modules, "jupyter_client.kernelspec", None)  # importing it would fail
    assert flow.examine(write(tmp_path, kernelspec(name) + PARAMETERS)).parameters


@pytest.mark.parametrize(
    ("text", "name"),
    [
        pytest.param(kernelspec("ir"), "ir", id="jupytext's header"),
        pytest.param("#!/usr/bin/env python\n" + kernelspec("ir"), "ir", id="behind a shebang"),
        pytest.param("\n\n" + kernelspec("ir"), "ir", id="behind blank lines"),
        pytest.param(kernelspec("'ir'"), "ir", id="quoted"),
        pytest.param("", "python3", id="no header"),
        pytest.param(header("# jupyter:\n#   jupytext: {}\n"), "python3", id="header without a kernel"),
        pytest.param("x = 1\n" + kernelspec("ir"), "python3", id="not at the beginning"),
    ],
)
def test_the_header_names_the_kernel(text: str, name: str) -> None:
    assert percent.Source(text + PARAMETERS).header.kernel == name


@pytest.mark.parametrize(
    ("text", "name"),
    [
        pytest.param(
            header("# jupyter:\n#   kernelspec: {display_name: R, name: ir}\n"), "ir", id="on one line"
        ),
        pytest.param(
            header("# kernelspec:\n#   display_name: x\n# author:\n#   name: Bob\n"),
            "python3",
            id="not its name",
        ),
    ],
)
def test_the_header_is_yaml(text: str, name: str) -> None:
    assert percent.Source(text + PARAMETERS).header.kernel == name


@needs_timer
def test_many_blank_lines_at_the_beginning_take_no_time(tmp_path: Path) -> None:
    with time_limit(5):
        assert flow.examine(write(tmp_path, "\n" * 100 + "import os\n" + PARAMETERS)).parameters


def test_an_unchanged_file_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, PARAMETERS)
    reads = []
    real = regular.read_bytes
    monkeypatch.setattr(regular, "read_bytes", lambda file: reads.append(file) or real(file))
    flow.examine(path)
    flow.examine(path)
    assert reads == [path]


def test_an_edited_file_is_read_again(tmp_path: Path) -> None:
    path = write(tmp_path, PARAMETERS)
    flow.examine(path)
    path.write_text("# %%\nconfig = {}\n")
    assert flow.examine(path).parameters is None


def test_an_edit_that_keeps_the_size_is_noticed_by_its_time(tmp_path: Path) -> None:
    path = write(tmp_path, PARAMETERS)
    flow.examine(path)
    path.write_text(PARAMETERS.replace("parameters", "parameterz"))
    os.utime(path, ns=(0, 1))
    assert flow.examine(path).parameters is None


def test_a_bad_file_that_was_mended_is_good(tmp_path: Path) -> None:
    path = write(tmp_path, "")
    with pytest.raises(FlowError):
        flow.examine(path)
    path.write_text(PARAMETERS)
    assert flow.examine(path).parameters


# --- read ----------------------------------------------------------------------------------------


def test_a_flow_is_read_as_a_notebook_without_outputs(tmp_path: Path) -> None:
    found = read(tmp_path, "# %% [markdown]\n# # Title\n\n" + PARAMETERS + "\n# %%\nprint(config)\n")
    assert [(cell.cell_type, cell.source) for cell in found.notebook.cells] == [
        ("markdown", "# Title"),
        ("code", "config = {}"),
        ("code", "print(config)"),
    ]
    assert all(cell.outputs == [] for cell in found.notebook.cells if cell.cell_type == "code")
    assert found.path == tmp_path / "fit.py"


def test_without_a_header_the_notebook_gets_this_python(tmp_path: Path) -> None:
    found = read(tmp_path, PARAMETERS)
    assert found.kernel == "python3"
    assert found.notebook.metadata["kernelspec"] == {
        "name": "python3",
        "display_name": "Python 3 (ipykernel)",
        "language": "python",
    }


def test_the_header_s_kernel_stays(tmp_path: Path) -> None:
    found = read(tmp_path, kernelspec("python3") + PARAMETERS)
    assert found.kernel == "python3"
    assert found.notebook.metadata["kernelspec"]["display_name"] == "Some kernel"


def test_reading_a_file_that_is_no_flow_names_it(tmp_path: Path) -> None:
    path = write(tmp_path, "# %% [markdown]\nx = 1\n")
    with pytest.raises(FlowError, match=re.escape(f"{path}:2: this code stands in the markdown cell")):
        flow.read(path)


def test_a_header_that_jupytext_refuses_is_a_flow_error(tmp_path: Path) -> None:
    with pytest.raises(FlowError, match=r"fit\.py"):
        read(tmp_path, header("# jupyter:\n#   kernelspec:\n#     name: python3\n") + PARAMETERS)


def test_tags_that_are_no_texts_are_a_flow_error(tmp_path: Path) -> None:
    with pytest.raises(FlowError, match=r"fit\.py: jupytext cannot read it"):
        read(tmp_path, "# %% tags=[1]\nconfig = {}\n")


# --- cell and line -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        pytest.param(PARAMETERS + "\n# %%\nx = 1\n", [2, 5], id="plain"),
        pytest.param(PARAMETERS + "# %%\nx = 1", [2, 4], id="no line end at the end"),
        pytest.param(
            "import os\n\n" + PARAMETERS + "# %%\nx = 1\n", [1, 4, 6], id="code before the first marker"
        ),
        pytest.param(kernelspec("python3") + PARAMETERS, [12], id="header"),
        pytest.param("#!/usr/bin/env python\n" + PARAMETERS, [3], id="shebang"),
        pytest.param(PARAMETERS + "# %% [markdown]\n# x = 1\n# %%\nx = 1\n", [2, None, 6], id="markdown"),
        pytest.param(PARAMETERS + "# %% [raw]\n# x\n# %%\nx = 1\n", [2, None, 6], id="raw cell"),
        pytest.param(PARAMETERS + "# %% Title\nx = 1\n\n\n# %% Other\ny = 1\n", [2, 4, 8], id="titles"),
        pytest.param(
            PARAMETERS + "# %%\nx = 1\n# %%\nx = 1\n# %%\nx = 1\n", [2, 4, 6, 8], id="repeated cells"
        ),
        pytest.param(
            PARAMETERS + "# %%\nx = 1\ny = 2\n# %%\ny = 2\n", [2, 4, 7], id="a cell like another's end"
        ),
        pytest.param(PARAMETERS + "# %%\n\n# %%\n   \n# %%\nx = 1\n", [2, None, None, 8], id="blank cells"),
        pytest.param(PARAMETERS + "# %%\n\n\nx = 1\n", [2, 4], id="blank lines first"),
        pytest.param(
            PARAMETERS + "# %%\n# %matplotlib inline\nx = 1\n# !ls\n", [2, 4], id="magics commented out"
        ),
        pytest.param(PARAMETERS + "# %%\n%matplotlib inline\nx = 1\n", [2, 4], id="magics as they are"),
        pytest.param(PARAMETERS + "# %%\n# ?print\nx = 1\n# x?\n", [2, 4], id="help"),
        pytest.param(PARAMETERS + "# %%\n# %%bash\n# ls\n# %%\nx = 1\n", [2, 4, 7], id="cell magic"),
        pytest.param(PARAMETERS + "# %%\nif x:\n\ty = 1   \n", [2, 4], id="tabs and trailing blanks"),
        pytest.param((PARAMETERS + "# %%\nx = 1\n").replace("\n", "\r\n"), [2, 4], id="Windows line ends"),
        pytest.param(PARAMETERS + "# %%\nx = (\n# %%\ny = 1\n", [2, 4, 6], id="syntax error"),
        pytest.param(PARAMETERS + "# %%\n# files = !ls\nprint(files)\n", [2, 4], id="assigned magic"),
        pytest.param(PARAMETERS + "# %%\n# cd ..\nx = 1\n", [2, 4], id="shell command"),
        pytest.param(PARAMETERS + "# %%\n# !ls \\\n#   -l\nx = 1\n", [2, 4], id="magic over two lines"),
        pytest.param(
            PARAMETERS + '# %% [markdown]\n"""\nx = 1\n"""\n# %%\nx = 1\n',
            [2, None, 8],
            id="markdown in a string",
        ),
        pytest.param(
            PARAMETERS + "# %% [markdown]\n# note\n# %%\n# note\n",
            [2, None, 6],
            id="a comment like the markdown before",
        ),
    ],
)
def test_each_cell_has_the_line_it_starts_at(tmp_path: Path, text: str, lines: list[int | None]) -> None:
    found = read(tmp_path, text)
    assert list(found.lines) == lines
    assert len(found.lines) == len(found.notebook.cells)


def test_lines_are_counted_as_editors_count_them(tmp_path: Path) -> None:
    assert read(tmp_path, PARAMETERS + "# %%\n\x0c\nx = 1\n# %%\ny = 1\n").lines[-1] == 7
