import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_ductaflow.capture import HEAD, TAIL, OutputFile, OutputReader, OutputText, excerpt, last_lines


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "out.txt"
    path.touch()
    return path


def append(path: Path, data: bytes) -> None:
    with open(path, "ab") as file:
        file.write(data)


# --- the writing end -----------------------------------------------------------------------------


def test_what_is_written_stands_in_the_file_at_once(path: Path) -> None:
    out = OutputFile(str(path))
    assert list(out.write(b"one\n")) == []
    assert list(out.write(b"two\n")) == []
    assert path.read_bytes() == b"one\ntwo\n"


def test_own_and_foreign_output_are_told_apart(path: Path) -> None:
    one, other = OutputFile(str(path)), OutputFile(str(path))
    assert list(one.write(b"1")) == []
    assert list(other.write(b"2")) == [b"1"]
    append(path, b"sub")
    assert list(one.write(b"3")) == [b"2sub"]
    assert list(other.take_foreign()) == [b"sub3"]
    assert list(one.take_foreign()) == []
    assert path.read_bytes() == b"12sub3"


def test_what_stood_there_before_is_nobody_s(path: Path) -> None:
    append(path, b"before")
    out = OutputFile(str(path))
    assert list(out.take_foreign()) == []
    assert list(out.write(b"x")) == []


def test_foreign_output_is_given_once(path: Path) -> None:
    out = OutputFile(str(path))
    append(path, b"sub")
    assert list(out.take_foreign()) == [b"sub"]
    assert list(out.take_foreign()) == []
    assert list(out.write(b"x")) == []


def test_a_lot_of_foreign_output_comes_in_blocks(path: Path) -> None:
    out = OutputFile(str(path))
    data = os.urandom((2 << 20) + 5)
    append(path, data)
    blocks = list(out.take_foreign())
    assert b"".join(blocks) == data
    assert max(map(len, blocks)) <= 1 << 20


def test_foreign_output_that_was_not_asked_for_can_be_left(path: Path) -> None:
    out = OutputFile(str(path))
    append(path, b"sub")
    out.write(b"mine")  # the iterator is dropped
    assert list(out.take_foreign()) == []


def test_empty_writes_still_find_foreign_output(path: Path) -> None:
    out = OutputFile(str(path))
    append(path, b"sub")
    assert list(out.take_foreign()) + list(out.write(b"")) == [b"sub"]


def test_a_redirected_descriptor_writes_to_the_file_and_is_inherited(path: Path) -> None:
    out = OutputFile(str(path))
    descriptor = os.open(os.devnull, os.O_WRONLY)
    try:
        out.redirect(descriptor)
        assert os.get_inheritable(descriptor)
        os.write(descriptor, b"from C")
        assert list(out.write(b" and Python")) == [b"from C"]
    finally:
        os.close(descriptor)
    assert path.read_bytes() == b"from C and Python"


def test_two_that_write_by_turns_lose_nothing(path: Path) -> None:
    files = [OutputFile(str(path)) for _ in range(3)]
    seen = [b"" for _ in files]
    for number in range(30):
        seen[number % 3] += b"".join(files[number % 3].write(b"%02d" % number))
    for index, file in enumerate(files):
        seen[index] += b"".join(file.take_foreign())
        own = {b"%02d" % number for number in range(index, 30, 3)}
        found = [seen[index][i : i + 2] for i in range(0, len(seen[index]), 2)]
        assert found == [b"%02d" % number for number in range(30) if b"%02d" % number not in own]


# --- the reading end -----------------------------------------------------------------------------


@pytest.fixture
def reader(path: Path) -> Iterator[OutputReader]:
    reader = OutputReader(path)
    yield reader
    reader.close()


def test_new_output_is_read_once(path: Path, reader: OutputReader) -> None:
    assert reader.read() == b""
    append(path, b"one")
    assert reader.read() == b"one"
    append(path, b"two")
    assert reader.read() == b"two"
    assert reader.read() == b""


def test_much_output_is_read_in_blocks(path: Path, reader: OutputReader) -> None:
    append(path, b"x" * ((1 << 20) + 5))
    assert [len(reader.read()), len(reader.read()), len(reader.read())] == [1 << 20, 5, 0]


def test_warnings_have_line_cell_and_text(path: Path, reader: OutputReader) -> None:
    append(path, b"Warning: before any cell\n")
    reader.cell_started(0)
    append(path, b"ok\nWarning: a\n")
    reader.cell_started(1)
    reader.cell_started(2)  # the cell before printed nothing
    append(path, "⚠️ b\n10%\rWarning: c\r".encode())
    while reader.read():
        pass
    assert reader.warnings() == [
        {"line": 1, "cell": None, "text": "Warning: before any cell"},
        {"line": 3, "cell": 0, "text": "Warning: a"},
        {"line": 4, "cell": 2, "text": "⚠️ b"},
        {"line": 5, "cell": 2, "text": "Warning: c"},
    ]


def test_a_line_belongs_to_the_cell_in_which_it_began(path: Path, reader: OutputReader) -> None:
    reader.cell_started(0)
    append(path, b"Warning: begun ")
    reader.cell_started(1)
    append(path, b"and ended\n")
    reader.read()
    assert reader.warnings() == [{"line": 1, "cell": 0, "text": "Warning: begun and ended"}]


def test_a_last_line_without_an_end_counts_when_the_reader_closes(path: Path) -> None:
    reader = OutputReader(path)
    append(path, b"Warning: last")
    reader.read()
    assert reader.warnings() == []
    reader.close()
    assert reader.warnings() == [{"line": 1, "cell": None, "text": "Warning: last"}]


# --- views ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "count", "lines"),
    [
        pytest.param(b"", 20, [], id="nothing"),
        pytest.param(b"\n\n\n", 20, [], id="blank lines only"),
        pytest.param(b"a\nb\nc\n", 2, ["b", "c"], id="the last ones"),
        pytest.param(b"a\n\nb", 20, ["a", "", "b"], id="blank lines between stay"),
        pytest.param(b"a\nb\n\n\n", 2, ["a", "b"], id="blank lines at the end do not count"),
        pytest.param(b"10%\r50%\r100%\ndone\n", 20, ["100%", "done"], id="of a progress bar the last state"),
        pytest.param(b"10%\r50%\r", 20, ["50%"], id="a progress bar that still goes on"),
        pytest.param(b"a\r\nb\r\n", 20, ["a", "b"], id="Windows line ends"),
        pytest.param("ä\u2028b\x0cc\n".encode(), 20, ["ä\u2028b\x0cc"], id="only line ends end lines"),
        pytest.param(b"caf\xe9\n", 20, ["caf\\xe9"], id="not UTF-8"),
    ],
)
def test_the_last_lines_are_as_a_terminal_shows_them(
    path: Path, data: bytes, count: int, lines: list[str]
) -> None:
    append(path, data)
    assert last_lines(path, count) == lines


def test_the_last_lines_of_a_huge_file_are_found_at_its_end(path: Path) -> None:
    append(path, b"x" * (1 << 20) + b"\n" + b"short\n" * 3)
    assert last_lines(path, 2) == ["short", "short"]


def test_a_missing_output_has_no_last_lines_and_no_excerpt(tmp_path: Path) -> None:
    assert last_lines(tmp_path / "none", 20) == []
    assert excerpt(tmp_path / "none") == ""


def test_a_short_output_is_shown_whole(path: Path) -> None:
    append(path, b"x" * 100)
    assert excerpt(path, 100) == "x" * 100


def test_a_long_output_is_shown_by_head_and_tail_with_a_notice(path: Path) -> None:
    append(path, b"h" * 50 + b"m" * 9_900 + b"t" * 50)
    assert excerpt(path, 100) == (
        "h" * 50 + "\n[… 9,900 of 10,000 bytes left out; all are in out.txt …]\n" + "t" * 50
    )


def test_an_excerpt_cuts_between_characters(path: Path) -> None:
    append(path, "é".encode() * 100)
    assert "\\x" not in excerpt(path, 10)


# --- the text of notebooks ---------------------------------------------------------------------------


@pytest.fixture
def text(path: Path) -> OutputText:
    return OutputText(path)


def test_text_is_given_once_with_its_stream(path: Path, text: OutputText) -> None:
    path.write_bytes(b"out\nerr\nmore\n")
    assert text.until(4) == [("stdout", "out\n")]
    assert text.until(13, [(4, 8)]) == [("stderr", "err\n"), ("stdout", "more\n")]
    assert text.until(13) == []


def test_marks_that_do_not_fit_are_put_right(path: Path, text: OutputText) -> None:
    path.write_bytes(b"0123456789")
    assert text.until(4) == [("stdout", "0123")]
    assert text.until(8, [(2, 6), (5, 7), (7, 99)]) == [("stderr", "45"), ("stderr", "6"), ("stderr", "7")]


def test_pending_text_is_shown_and_still_given_later(path: Path, text: OutputText) -> None:
    path.write_bytes(b"abc")
    assert text.pending() == "abc"
    assert text.rest() == [("stdout", "abc")]
    assert text.pending() == ""


def test_of_a_huge_cell_head_and_tail_are_given_with_a_notice(path: Path, text: OutputText) -> None:
    size = HEAD + TAIL + 1000
    path.write_bytes(b"x" * size + b"end")
    (name, head), *others = text.until(size + 3)
    assert (name, len(head), others) == ("stdout", HEAD, [])
    assert text.pending() == ""
    [(name, tail)] = text.end_cell()
    assert tail.startswith(f"\n[… 1,003 bytes left out here; the whole output is in {path.name} …]\n")
    assert tail.endswith("xend")


def test_the_next_cell_has_room_again(path: Path, text: OutputText) -> None:
    path.write_bytes(b"x" * (HEAD + 10))
    text.until(HEAD + 10)
    assert text.end_cell() == [("stdout", "x" * 10)]
    with path.open("ab") as file:
        file.write(b"next")
    assert text.until(HEAD + 14) == [("stdout", "next")]
    assert text.end_cell() == []


@pytest.mark.parametrize("character", ["ü", "€", "🚀"])
@pytest.mark.parametrize("offset", range(4))
def test_no_character_is_cut_in_two(path: Path, text: OutputText, character: str, offset: int) -> None:
    whole = "x" * offset + character * (HEAD // 2 + 10)
    path.write_bytes(whole.encode())
    size = path.stat().st_size
    given = "".join(piece for _, piece in [*text.until(size), *text.end_cell()])
    assert "\\x" not in given
    assert given.count(character) <= len(whole)


def test_bytes_that_are_no_text_are_shown_as_escapes(path: Path, text: OutputText) -> None:
    path.write_bytes(b"\xff\x80ok\n")
    assert text.until(5) == [("stdout", "\\xff\\x80ok\n")]
