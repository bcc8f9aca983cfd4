from pathlib import Path

from pytest_ductaflow.engines import preload


def modules(tmp_path: Path, text: str) -> list[str]:
    flow = tmp_path / "flow.py"
    flow.write_text(text, encoding="utf-8")
    preload._imports.cache_clear()
    return preload.modules_of([flow])


def test_libraries_that_a_flow_imports_are_preloaded_in_its_order(tmp_path: Path) -> None:
    text = "%time 1\nimport pandas as pd, numpy as np\nif x:\n    from scipy.stats import norm\nimport matplotlib.pyplot"
    assert modules(tmp_path, text)[:4] == ["pandas", "numpy", "scipy.stats", "matplotlib.pyplot"]


def test_what_a_library_loads_at_its_first_use_comes_too(tmp_path: Path) -> None:
    assert "pandas.io.formats.csvs" in modules(tmp_path, "import pandas")
    assert modules(tmp_path, "import numpy") == ["numpy"]


def test_what_may_start_threads_is_only_preloaded_when_asked_for(tmp_path: Path) -> None:
    assert modules(tmp_path, "import polars, torch, duckdb\nimport dask.dataframe") == []


def test_the_project_s_own_modules_are_not(tmp_path: Path) -> None:
    assert modules(tmp_path, "import helpers\nfrom pandas_helpers import x\nfrom . import pandas") == []


def test_a_name_is_no_import(tmp_path: Path) -> None:
    assert modules(tmp_path, "# import pandas\nx = 'import numpy'\nimportant = 1") == []


def test_a_flow_that_cannot_be_read_is_the_run_s_business(tmp_path: Path) -> None:
    assert preload.modules_of([tmp_path / "missing.py"]) == []
