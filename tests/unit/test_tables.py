import math
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from pytest_ductaflow.errors import ConfigError
from pytest_ductaflow.tables import read_table, records


def csv(tmp_path: Path, text: str) -> Path:
    (tmp_path / "t.csv").write_text(text, encoding="utf-8")
    return tmp_path / "t.csv"


def problem(path: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        read_table(path)
    return str(caught.value)


@pytest.mark.parametrize(
    ("cells", "values"),
    [
        pytest.param(["1", "2"], [1, 2], id="ints"),
        pytest.param(["1", ""], [1, None], id="ints stay ints beside an empty cell"),
        pytest.param(["1.0", "2.0"], [1.0, 2.0], id="whole floats stay floats"),
        pytest.param(["0.5", ""], [0.5, None], id="floats"),
        pytest.param(["True", "False"], [True, False], id="bools"),
        pytest.param(["True", ""], [True, None], id="bools and an empty cell"),
        pytest.param(["NA", ""], ["NA", None], id="NA is a text"),
        pytest.param(["00123", "5"], ["00123", "5"], id="zero-padded numbers are texts"),
        pytest.param(["1", "0.5"], [1.0, 0.5], id="numbers are of one type"),
        pytest.param(["-1", "+2"], [-1, 2], id="signs"),
        pytest.param(["1e3", "inf"], [1000.0, float("inf")], id="exponents and infinity"),
        pytest.param(["null", "None"], ["null", "None"], id="null is a text"),
        pytest.param(["2013-01-01", "x"], ["2013-01-01", "x"], id="dates are texts"),
        pytest.param(["{a}", " b "], ["{a}", " b "], id="texts as they are"),
    ],
)
def test_a_csv_column_has_values_of_one_type(tmp_path: Path, cells: list[str], values: list[Any]) -> None:
    rows = read_table(csv(tmp_path, "k,v\n" + "".join(f"{n},{cell}\n" for n, cell in enumerate(cells))))
    assert [row["v"] for row in rows] == values
    assert [type(row["v"]) for row in rows] == [type(value) for value in values]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("", "is empty", id="empty"),
        pytest.param("\n\n", "is empty", id="blank lines"),
        pytest.param("a,b\n", "is empty", id="header only"),
        pytest.param("a,a\n1,2\n", "needs distinct text headings: ['a', 'a']", id="a heading twice"),
        pytest.param("a,\n1,2\n", "needs distinct text headings", id="no heading"),
        pytest.param("a,b\n1,2,3\n", "cannot be read as a table", id="more cells than headings"),
        pytest.param('a\n"1\n', "cannot be read as a table", id="quote not closed"),
    ],
)
def test_a_csv_that_is_no_table_says_why(tmp_path: Path, text: str, message: str) -> None:
    assert message in problem(csv(tmp_path, text))


def test_a_heading_is_a_text_even_if_it_looks_like_a_number(tmp_path: Path) -> None:
    assert read_table(csv(tmp_path, "1,a\n2,3\n")) == [{"1": 2, "a": 3}]


@pytest.mark.parametrize("name", ["t.json", "t", "t.csv.gz"])
def test_only_the_three_kinds_are_tables(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    assert problem(tmp_path / name) == "is not a table: .csv, .parquet or .xlsx"


@pytest.mark.parametrize("name", ["none.csv", "none.parquet", "none.xlsx"])
def test_a_missing_table_does_not_exist(tmp_path: Path, name: str) -> None:
    assert problem(tmp_path / name) == "does not exist"


def test_a_directory_is_no_table(tmp_path: Path) -> None:
    (tmp_path / "t.csv").mkdir()
    assert problem(tmp_path / "t.csv") == "does not exist"


def test_a_cell_without_a_json_type_is_named_by_row_and_column(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    frame = pd.DataFrame({"a": [1, 2], "t": pd.to_datetime([None, "2013-01-01"])})
    frame.to_parquet(tmp_path / "t.parquet")
    assert problem(tmp_path / "t.parquet").startswith("row 3: t: ")


def test_a_package_that_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ImportError("Missing optional dependency 'openpyxl'")

    (tmp_path / "t.xlsx").touch()
    monkeypatch.setattr(pd, "read_excel", fail)
    assert "openpyxl" in problem(tmp_path / "t.xlsx")


def test_records_are_plain_python_values() -> None:
    frame = pd.DataFrame(
        {
            "f": [0.5, math.nan],
            "n": pd.array([1, None], dtype="Int64"),
            "t": pd.to_datetime(["2013-01-01", None]),
            3: [True, False],
        }
    )
    one, two = records(frame)
    assert [type(value) for value in one.values()] == [float, int, pd.Timestamp, bool]
    assert math.isnan(two.pop("f"))
    assert two == {"n": None, "t": None, "3": False}


def test_a_number_of_thousands_of_digits_is_refused(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a\n" + "9" * 5000 + "\n")
    with pytest.raises(ConfigError, match="a number that is too long"):
        read_table(tmp_path / "t.csv")
