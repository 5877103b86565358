"""CSVs of any program: encodings, separators, headers, and errors that name the line."""

from pathlib import Path

import pytest

from subcam.data.readers.csv_file import read_csv, read_lines
from subcam.errors import BadInputError

TEXT = "Image{0} Label {0}n\na.png{0}käse{0}1\n\nb.png{0}dog{0}2{0}\n"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("first", ["", "sep={0}\n"])
def test_encoding_and_separator_are_worked_out(tmp_path: Path, encoding: str, delimiter: str, first: str) -> None:
    path = tmp_path / "any.csv"
    path.write_bytes((first + TEXT).format(delimiter).encode(encoding))
    file = read_csv(path, needed=("label", "image"))
    shift = int(bool(first))
    assert file.delimiter == delimiter
    assert file.columns == ("image", "label", "n")
    assert [(row.line, row.cells) for row in file.rows] == [
        (2 + shift, ("a.png", "käse", "1")),
        (4 + shift, ("b.png", "dog", "2", "")),
    ]
    for row in file.rows:
        file.require_width(row, file.columns)


def test_a_separator_inside_quotes_does_not_count(tmp_path: Path) -> None:
    path = tmp_path / "any.csv"
    path.write_text('"a,b,c";d\n1;2\n')
    assert read_csv(path).columns == ("a,b,c", "d")


def test_a_row_is_named_by_the_line_on_which_it_begins(tmp_path: Path) -> None:
    path = tmp_path / "any.csv"
    path.write_text('a,b\n"1\n1",2\n3\n4,5,6\n7,8, \n')
    file = read_csv(path)
    assert [row.line for row in file.rows] == [2, 4, 5, 6]
    file.require_width(file.rows[0], file.columns)
    file.require_width(file.rows[3], file.columns)
    for row, message in ((1, r"any\.csv:4: expected 2 cells as in the header, got 1"), (2, r"any\.csv:5: .*got 3")):
        with pytest.raises(BadInputError, match=message):
            file.require_width(file.rows[row], file.columns)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "any.csv: expected a header with the columns a, b, got an empty file"),
        (b"\n , \nsep=;\n", "got an empty file"),
        (b"a,c\n1,2\n", "any.csv:1: expected a header with the columns a, b, got a, c; add b"),
        (b'a,b\n1,2\n"3,4\n5,6\n', "any.csv:3: not a table .*check the quotes"),
        (b"a\0,b\n", "expected text, got zero bytes"),
        (b"a,b\n\x81\x8d,2\n", "expected UTF-8, got bytes that are neither that nor Windows-1252"),
    ],
)
def test_what_is_no_table(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "any.csv"
    path.write_bytes(content)
    with pytest.raises(BadInputError, match=message):
        read_csv(path, needed=("a", "b"))


def test_lines_without_blanks(tmp_path: Path) -> None:
    path = tmp_path / "classes.txt"
    path.write_bytes("\ufeffcat\r\n\r\n  dög \n".encode())
    assert read_lines(path) == ("cat", "dög")
    with pytest.raises(BadInputError, match=r"gone\.txt: expected a text file, got none"):
        read_lines(tmp_path / "gone.txt")
