"""Reads text files and CSVs that any program wrote: encoding, separator and header are worked out from the file.

In: a path. Out: a `CsvFile`, its cells as text. What the columns mean is for the caller to say.
"""

import codecs
import csv
import io
import logging
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from subcam.errors import BadInputError
from subcam.runtime.documents.regular_file import read_bytes

_UTF16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_SEPARATOR_LINE = "sep="
"""How the first line begins in which Excel notes the separator for itself."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class CsvRow:
    """One row; `line` is where it begins in the file, counted from 1."""

    line: int
    cells: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class CsvFile:
    """A header and the rows below it; blank rows are left out, and a row may have more or fewer cells."""

    path: Path
    delimiter: str
    header: CsvRow
    rows: tuple[CsvRow, ...]

    @property
    def columns(self) -> tuple[str, ...]:
        """The names in the header in small letters, without the spaces around them."""
        return tuple(cell.strip().casefold() for cell in self.header.cells)

    def dicts(self) -> list[dict[str, str]]:
        """Each row by the columns of the header.

        Raises:
            BadInputError: a row has too few or too many cells; names its line.
        """
        return [self.by_column(row) for row in self.rows]

    def by_column(self, row: CsvRow) -> dict[str, str]:
        """A row by the columns of the header.

        Raises:
            BadInputError: it has too few or too many cells; names its line.
        """
        columns = self.columns
        self.require_width(row, columns)
        return dict(zip(columns, row.cells[: len(columns)], strict=True))

    def at(self, row: CsvRow) -> str:
        """How errors name a row."""
        return f"{self.path}:{row.line}"

    def require_width(self, row: CsvRow, columns: Sequence[str]) -> None:
        """Raise `BadInputError` unless a row has a cell for each column; empty cells beyond them do no harm."""
        if len(row.cells) < len(columns) or any(cell.strip() for cell in row.cells[len(columns) :]):
            raise BadInputError(
                f"{self.at(row)}: expected {len(columns)} cells as in the header, got {len(row.cells)}; "
                "put quotes around a cell that contains the separator"
            )


def read_csv(path: Path, *, needed: Sequence[str] = ()) -> CsvFile:
    """Read a CSV: UTF-8, UTF-16 with its byte order mark, or Windows-1252; commas, semicolons or tabs.

    needed: columns that the header must have, in small letters.

    Raises:
        BadInputError: the file is missing, empty or in another encoding, a column is missing, or quotes do not match.
    """
    text = read_text(path)
    delimiter = _delimiter(text)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    rows: list[CsvRow] = []
    line = 1
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells) and (rows or not cells[0].startswith(_SEPARATOR_LINE)):
                rows.append(CsvRow(line=line, cells=tuple(cells)))
            line = reader.line_num + 1
    except csv.Error as error:
        raise BadInputError(f"{path}:{line}: not a table ({error}); check the quotes") from error
    header = f"a header with the columns {', '.join(needed)}" if needed else "a header and rows below it"
    if not rows:
        raise BadInputError(f"{path}: expected {header}, got an empty file; write it again")
    file = CsvFile(path=path, delimiter=delimiter, header=rows[0], rows=tuple(rows[1:]))
    if absent := [name for name in needed if name not in file.columns]:
        raise BadInputError(
            f"{file.at(file.header)}: expected {header}, got {', '.join(file.columns)}; add {', '.join(absent)}"
        )
    return file


def read_lines(path: Path) -> tuple[str, ...]:
    """The lines of a text file without the spaces around them; blank ones are left out.

    Raises:
        BadInputError: see `read_text`.
    """
    return tuple(line.strip() for line in read_text(path).splitlines() if line.strip())


def read_text(path: Path) -> str:
    """Read a text file in UTF-8, UTF-16 with its byte order mark, or else Windows-1252 (which is logged).

    Raises:
        BadInputError: there is no such file, or it is in none of these.
    """
    try:
        data = read_bytes(path)
    except OSError as error:
        raise BadInputError(f"{path}: expected a text file, got none ({error.strerror}); check its name") from error
    try:
        text = data.decode("utf-16" if data.startswith(_UTF16_MARKS) else "utf-8-sig")
    except UnicodeDecodeError as unicode_error:
        try:
            text = data.decode("cp1252")
        except UnicodeDecodeError:
            raise BadInputError(
                f"{path}: expected UTF-8, got bytes that are neither that nor Windows-1252 ({unicode_error}); "
                "save it as UTF-8"
            ) from unicode_error
        line = data.count(b"\n", 0, unicode_error.start) + 1
        logger.warning("%s: line %d is not UTF-8; read as Windows-1252. Check the names, or save as UTF-8", path, line)
    if "\0" in text:
        raise BadInputError(f"{path}: expected text, got zero bytes (UTF-16 without its mark?); save it as UTF-8")
    return unicodedata.normalize("NFC", text)


def _delimiter(text: str) -> str:
    """What separates the header's cells: the most frequent of comma, semicolon and tab outside quotes."""
    lines = (line for line in text.splitlines() if line.strip(" \t,;") and not line.startswith(_SEPARATOR_LINE))
    outside_quotes = "".join(next(lines, "").split('"')[::2])
    return max(",;\t", key=outside_quotes.count)
