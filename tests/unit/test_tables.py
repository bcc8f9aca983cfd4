import math
import sys
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
        pytest.param([" 1", "2 "], [1, 2], id="blanks around numbers"),
        pytest.param([" 0.5", "2"], [0.5, 2.0], id="blanks around floats"),
        pytest.param(["v1.2", "1.2.3"], ["v1.2", "1.2.3"], id="versions"),
        pytest.param(["JFK;LGA", "a|b"], ["JFK;LGA", "a|b"], id="other separators within texts"),
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
        pytest.param("a,b\n1,2,3\n", "row 2: 3 cells for 2 headings, separated by ','", id="more cells"),
        pytest.param("a,b\n1,2\n1\n", "row 3: 1 cells for 2 headings", id="fewer cells"),
        pytest.param("a,b\n1,2,\n", "row 2: 3 cells for 2 headings", id="a separator at the end"),
        pytest.param("a;b\n1;2;3\n", "row 2: 3 cells for 2 headings, separated by ';'", id="more, `;`"),
        pytest.param("x\n0,5\n", "row 2: 2 cells for 1 headings", id="one column with a decimal comma"),
        pytest.param("a,b;c\n1,2;3\n", "not certain what separates the cells: ',' or ';'", id="separator"),
        pytest.param('a,b\n1,"0,5"\n', "row 2, b: '0,5' may be a number with a decimal comma", id="quoted"),
        pytest.param("a;b\n1;1,234\n", "row 2, b: '1,234' may have a decimal comma or a thou", id="1,234"),
        pytest.param(
            "a;b\n0,5;0.25\n",
            "row 2, b: '0.25' has a decimal point (or separates thousands), other numbers",
            id="both",
        ),
        pytest.param("a;b\n1;1.234,5\n", "row 2, b: '1.234,5' is a number that can be read in", id="1.234,5"),
        pytest.param('a,b\n1,"1,234.5"\n', "row 2, b: '1,234.5' is a number that can be", id="1,234.5"),
        pytest.param("a,b\n1,1 234\n", "row 2, b: '1 234' is a number that can be read", id="1 234"),
        pytest.param("a,b\n1,\n2,#N/A\n", "row 3, b: #N/A is a spreadsheet's error", id="#N/A"),
        pytest.param("a,b\n1,2\n2, \n", "row 3, b: holds blanks only", id="a blank cell"),
        pytest.param(" a,a\n1,2\n", "needs distinct text headings", id="headings that differ by blanks"),
        pytest.param(",a\n0,1\n", "Name it, or write the table with index=False", id="an index"),
        pytest.param('a\n"1\n', "cannot be read as a table", id="quote not closed"),
    ],
)
def test_a_csv_that_is_no_table_says_why(tmp_path: Path, text: str, message: str) -> None:
    assert message in problem(csv(tmp_path, text))


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        pytest.param("a;b\n1;x\n", [{"a": 1, "b": "x"}], id="semicolons"),
        pytest.param("a\tb\n1\tx, y\n", [{"a": 1, "b": "x, y"}], id="tabs"),
        pytest.param("a|b\n1|x\n", [{"a": 1, "b": "x"}], id="bars"),
        pytest.param("a;b\n0,5;1\n12,25;2\n", [{"a": 0.5, "b": 1}, {"a": 12.25, "b": 2}], id="commas"),
        pytest.param("a;b\n0,5;1,234\n", [{"a": 0.5, "b": 1.234}], id="certain by another cell"),
        pytest.param("a;b\n0.5;x,y\n", [{"a": 0.5, "b": "x,y"}], id="semicolons and points"),
        pytest.param("a;b\n1;\n", [{"a": 1, "b": None}], id="an empty cell"),
        pytest.param("sep=;\na;b\n1;2\n", [{"a": 1, "b": 2}], id="the separator is said"),
        pytest.param("\ufeffa;b\r\n1;2\r\n", [{"a": 1, "b": 2}], id="as Excel writes it"),
        pytest.param(" a , b\n1, x\n", [{"a": 1, "b": "x"}], id="blanks behind the separator"),
        pytest.param('a, b\n1, "x, y"\n', [{"a": 1, "b": "x, y"}], id="blanks before a quote"),
        pytest.param("a ,b\n1, x\n", [{"a": 1, "b": " x"}], id="blanks around one heading"),
        pytest.param("a,b,\n1,2,\n", [{"a": 1, "b": 2}], id="an empty column"),
        pytest.param("a,b\n1,2\n,\n\n3,4\n", [{"a": 1, "b": 2}, {"a": 3, "b": 4}], id="empty rows"),
        pytest.param('a,b\n1,"x\ny"\n', [{"a": 1, "b": "x\ny"}], id="a line end within quotes"),
        pytest.param('"a;b",c\n1,2\n', [{"a;b": 1, "c": 2}], id="a quoted heading"),
    ],
)
def test_the_dialect_of_a_csv_is_recognised_where_it_is_certain(
    tmp_path: Path, text: str, rows: list[dict[str, Any]]
) -> None:
    (found := tmp_path / "t.csv").write_bytes(text.encode("utf-8"))
    assert read_table(found) == rows
    assert [[type(v) for v in row.values()] for row in read_table(found)] == [
        [type(v) for v in row.values()] for row in rows
    ]


def test_a_csv_in_utf_16_is_read(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a\tb\n1\tä\n", encoding="utf-16")
    assert read_table(tmp_path / "t.csv") == [{"a": 1, "b": "ä"}]


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
    assert problem(tmp_path / "t.csv") == "cannot be read as a table: Is a directory"


def workbook(tmp_path: Path, **sheets: list[list[Any]]) -> Path:
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    book.remove(book.active)
    for name, lines in sheets.items():
        sheet = book.create_sheet(name)
        for line in lines:
            sheet.append(line)
    book.save(tmp_path / "t.xlsx")
    return tmp_path / "t.xlsx"


def test_a_workbook_has_typed_cells_and_empty_rows_and_columns_are_none(tmp_path: Path) -> None:
    lines = [[" a ", None, "b"], [1, None, "x"], [None, None, None], [0.5, None, None], [2.0, None, "5"]]
    rows = read_table(workbook(tmp_path, one=lines, two=[]))
    assert rows == [{"a": 1, "b": "x"}, {"a": 0.5, "b": None}, {"a": 2, "b": "5"}]
    assert type(rows[2]["a"]) is int


@pytest.mark.parametrize(
    ("sheets", "message"),
    [
        pytest.param({"a": [["x"], [1]], "b": [["x"], [2]]}, "has several sheets: 'a', 'b'", id="sheets"),
        pytest.param({"a": [["x"], [1], ["#N/A"]]}, "row 3, x: #N/A is a spreadsheet's error", id="#N/A"),
        pytest.param({"a": [["x"], [], [None], ["#REF!"]]}, "row 4, x: #REF! is a", id="behind empty rows"),
        pytest.param(
            {"a": [["x"], ["=1+1"]]}, "row 2, x: the formula has no value in the file", id="formula"
        ),
        pytest.param({"a": [["x", None], [1, 2]]}, "needs distinct text headings", id="no heading"),
        pytest.param({"a": [["x", "x "], [1, 2]]}, "needs distinct text headings", id="a heading twice"),
        pytest.param({"a": [["x"]]}, "the table is empty", id="headings only"),
        pytest.param({"a": []}, "the table is empty", id="nothing"),
    ],
)
def test_a_workbook_that_could_be_misread_says_where(
    tmp_path: Path, sheets: dict[str, list[list[Any]]], message: str
) -> None:
    assert message in problem(workbook(tmp_path, **sheets))


def test_a_named_index_of_a_parquet_file_is_columns(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    frame = pd.DataFrame({"origin": ["JFK", "LGA"], "month": [1, 2], "x": [0.5, 1.5]})
    frame.set_index(["origin", "month"]).to_parquet(tmp_path / "t.parquet")
    assert read_table(tmp_path / "t.parquet") == records(frame)


def test_a_default_index_of_a_parquet_file_is_none(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    pd.DataFrame({"x": [1, 2]}).to_parquet(tmp_path / "t.parquet")
    assert read_table(tmp_path / "t.parquet") == [{"x": 1}, {"x": 2}]


def test_an_index_without_a_name_in_a_parquet_file_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    pd.DataFrame({"x": [1, 2]}, index=["a", "b"]).to_parquet(tmp_path / "t.parquet")
    assert "has an index without a name" in problem(tmp_path / "t.parquet")


def test_a_cell_without_a_json_type_is_named_by_row_and_column(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    frame = pd.DataFrame({"a": [1, 2], "t": pd.to_datetime([None, "2013-01-01"])})
    frame.to_parquet(tmp_path / "t.parquet")
    assert problem(tmp_path / "t.parquet").startswith("row 3: t: ")


def test_a_package_that_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "t.xlsx").touch()
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    assert "openpyxl" in problem(tmp_path / "t.xlsx")
    assert "pip install 'pytest-ductaflow[tables]'" in problem(tmp_path / "t.xlsx")


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
