import sys
from pathlib import Path

import pytest

from pytest_ductaflow import shadows
from pytest_ductaflow.errors import FlowError


def write(root: Path, name: str, text: str = "") -> Path:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")
    return path


def problem(flow: Path, root: Path) -> str:
    with pytest.raises(FlowError) as caught:
        shadows.check(flow, root)
    return caught.value.at(flow.relative_to(root))


@pytest.mark.parametrize(
    "code",
    ["import pandas as pd", "from pandas import read_csv", "import json, pandas.io", "  import pandas"],
)
def test_a_flow_named_like_a_library_that_it_imports_is_refused(tmp_path: Path, code: str) -> None:
    flow = write(tmp_path, "flows/pandas.py", f"# %%\nif True:\n  pass\n{code.strip()}\n")
    assert problem(flow, tmp_path) == (
        "flows/pandas.py:4: `import pandas` finds itself, beside the flow, instead of the library pandas: rename it"
    )


@pytest.mark.parametrize(
    ("beside", "finds"),
    [
        ("flows/calendar.py", "calendar.py"),
        ("flows/pandas.py", "pandas.py"),
        ("flows/pandas/__init__.py", "pandas/"),
    ],
)
def test_so_is_one_beside_such_a_file(tmp_path: Path, beside: str, finds: str) -> None:
    write(tmp_path, beside)
    flow = write(tmp_path, "flows/fit.py", "import calendar\nimport pandas\n")
    assert f"finds {finds}, beside the flow, instead of the library" in problem(flow, tmp_path)


@pytest.mark.parametrize(
    ("name", "code", "other"),
    [
        pytest.param("flows/pandas.py", "import numpy", None, id="a library that it does not import"),
        pytest.param("flows/fit.py", "import helpers", "flows/helpers.py", id="a module of the project"),
        pytest.param("flows/fit.py", "import pandas", "flows/pandas/data.csv", id="a directory of data"),
        pytest.param("flows/pandas.py", "import pandas", "pandas.py", id="the project's own comes first"),
        pytest.param("flows/growth.py", "import growth", "growth/__init__.py", id="a package of that name"),
        pytest.param("flows/growth.py", "import growth", None, id="no library of that name"),
    ],
)
def test_anything_else_is_not(tmp_path: Path, name: str, code: str, other: str | None) -> None:
    flow = write(tmp_path, name, code)
    if other:
        write(tmp_path, other)
    shadows.check(flow, tmp_path)


def test_a_module_on_pytest_s_path_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "src/pandas.py")
    flow = write(tmp_path, "flows/pandas.py", "import pandas")
    monkeypatch.setattr(sys, "path", [str(tmp_path / "src"), *sys.path])
    shadows.check(flow, tmp_path)
