"""Reads a CSV of image-level labels into rows of names, whatever program wrote it.

In: the file. Out: a `LabelTable`; a row that cannot be used carries its error, so that the caller may stop or skip.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from subcam.data.readers.class_names import is_background, is_missing
from subcam.data.readers.csv_file import CsvFile, CsvRow, read_csv
from subcam.errors import BadInputError

RESERVED_COLUMNS = ("image", "labels", "split", "mask")

_INDEX_COLUMNS = ("", "unnamed: 0", "index", "id")
"""What a column is called, in small letters, that may count the rows; pandas writes it without a name."""

_NO_CLASS = "no class: "
"""How a column begins here that counts the rows or holds other numbers than 0 and 1."""

IMAGE_KEYS = (
    *("image", "file_name", "filename", "file", "path", "image_path", "imageid"),
    *("image_id", "image_name", "filepath", "file_path", "img"),
)
"""What the image may be called in tables of other programs, in small letters; the first that is there counts."""

TAG_KEYS = (
    *("labels", "tags", "tag", "label", "labelname", "text", "caption"),
    *("class", "classes", "category", "categories", "class_name"),
)
"""What the names of classes may stand under there, in small letters; the first that is there counts."""

SCORE_KEYS = ("confidence", "score")
"""What says how sure an entry is that its tags are in the image; 0 says that they are not, as in Open Images."""

_WITH_COMMAS = frozenset({"tags", "tag", "text", "caption"})
"""Columns in whose cells commas separate names: other programs write tags so."""

_YES = frozenset({"1", "true", "yes", "1.0"})
_NO = frozenset({"0", "false", "no", "", "0.0"})

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class LabelRow:
    """One row of the table.

    line: where it stands in the file, counted from 1; 0 where there are no lines.
    image: the image's path as it was written.
    names: what is in the image, the background left out.
    split: its split, None where there is no such column.
    mask: the mask's path as it was written, None where there is no such column or nothing in it.
    problem: why the row cannot be used; the other fields are then what could be read.
    """

    line: int
    image: str = ""
    names: tuple[str, ...] = ()
    split: str | None = None
    mask: str | None = None
    problem: BadInputError | None = None


@dataclass(frozen=True, kw_only=True)
class LabelTable:
    """The rows of a CSV of labels, or what another program's labels are as such rows.

    `class_columns` is empty where the names stand in one column `labels`. foreign: the table is another program's by
    its header, so that images are found by the end of their path too.
    """

    path: Path
    columns: tuple[str, ...]
    rows: tuple[LabelRow, ...]
    foreign: bool = False

    @property
    def class_columns(self) -> tuple[str, ...]:
        """The columns that are classes."""
        return tuple(column for column in _class_columns(self.columns) if not is_missing(column))

    @property
    def splits(self) -> tuple[str, ...]:
        """The names in the column `split` in order of first appearance; empty where there is no such column."""
        return tuple(dict.fromkeys(row.split for row in self.rows if row.split))

    def at(self, row: LabelRow) -> str:
        """How errors name the row."""
        return f"{self.path}:{row.line}" if row.line else f"{self.path}: {row.image}"


def read_label_table(path: Path) -> LabelTable:
    """Read a CSV of labels: UTF-8, UTF-16 with its mark, or Windows-1252; commas, semicolons or tabs.

    The header has `image` (or another of `IMAGE_KEYS`) and either `labels` (names separated by `;` or `|`, or by commas
    where commas do not separate the columns) or one column a class (1, true, yes, 1.0; 0, false, no, 0.0 or nothing),
    and may have `split` and `mask`, and columns that count the rows or hold other numbers. Background is no class, and
    a name such as "nan" is none: what such a row's image shows is unknown. Blank lines are passed over. Names are
    brought to Unicode's composed form.

    In place of `labels` may stand another of `TAG_KEYS`, as other programs write: then commas separate tags, and
    several rows of an image are put together.

    Raises:
        BadInputError: the file is missing, empty, in another encoding, or its header or quotes cannot be understood.
    """
    file = read_csv(path)
    tags = _tags_column(file)
    columns = _columns(_named(file, tags), file.at(file.header))
    rows = tuple(_read_row(file, row, columns, commas=tags in _WITH_COMMAS) for row in file.rows)
    if not rows:
        raise BadInputError(f"{path}: expected one row an image below the header, got none; add the images")
    of_others = tags not in ("", "labels")
    if of_others and has_scores(file):
        raise BadInputError(
            f"{file.at(file.header)}: has a column {' or '.join(SCORE_KEYS)}, which says whether an image shows its "
            "tags; have it read with --dataset.layout tags"
        )
    return LabelTable(
        path=path,
        columns=columns,
        rows=_together(rows) if of_others else rows,
        foreign=of_others or "image" not in file.columns,
    )


def has_scores(file: CsvFile) -> bool:
    """Whether a table says of each row how sure it is that its tags are in the image, as Open Images does."""
    return bool(_tags_column(file)) and not set(SCORE_KEYS).isdisjoint(file.columns)


def is_label_table(file: CsvFile) -> bool:
    """Whether a table is of images and their labels by its header."""
    image = next((key for key in IMAGE_KEYS if key in file.columns), None)
    others = [name for name in file.columns if name not in (image, *RESERVED_COLUMNS, *_INDEX_COLUMNS)]
    return image is not None and bool(_tags_column(file) or others)


def _tags_column(file: CsvFile) -> str:
    """The column of names, in small letters; "" where there is none.

    It is one of `TAG_KEYS` whose cells do not say yes or no; numbers are names only where there is nothing else.
    """
    if "labels" in file.columns:
        return "labels"
    known = {*IMAGE_KEYS, *RESERVED_COLUMNS, *TAG_KEYS, *SCORE_KEYS, *_INDEX_COLUMNS}
    for key in (key for key in TAG_KEYS if key in file.columns):
        place = file.columns.index(key)
        cells = {row.cells[place].strip().casefold() for row in file.rows if place < len(row.cells)}
        if not cells <= _YES | _NO and (not all(map(_is_number, cells)) or known.issuperset(file.columns)):
            return key
    return ""


def _is_number(cell: str) -> bool:
    try:
        float(cell or 0)
    except ValueError:
        return False
    return True


def _together(rows: tuple[LabelRow, ...]) -> tuple[LabelRow, ...]:
    """Rows of one image, split and mask as one row with the names of all, where the first stands."""
    by_image: dict[object, LabelRow] = {}
    for row in rows:
        key = row.line if row.problem else (row.image, row.split, row.mask)
        before = by_image.get(key)
        names = dict.fromkeys([*before.names, *row.names]) if before else row.names
        by_image[key] = replace(before or row, names=tuple(names))
    return tuple(by_image.values())


def _named(file: CsvFile, tags: str) -> list[str]:
    """The header; the columns of the image and of names are called so, and columns that are no classes."""
    header = [cell.strip() for cell in file.header.cells]
    folded = [name.casefold() for name in header]
    image = next((key for key in IMAGE_KEYS if key in folded), None)
    if image is not None:
        header[folded.index(image)] = "image"
    if tags:
        header[folded.index(tags)] = "labels"
        folded[folded.index(tags)] = "labels"
    data = []
    last = max((place for place, name in enumerate(header) if name), default=-1)
    for place, name in enumerate(header):
        if name.casefold() in RESERVED_COLUMNS or place > last:
            continue
        cells = [row.cells[place].strip() if place < len(row.cells) else "" for row in file.rows]
        if _holds_data(cells) and name:
            data.append(name)
            header[place] = f"{_NO_CLASS}{name}"
        elif (place == 0 and not name and _numbers_rows(cells)) or (
            name.casefold() in _INDEX_COLUMNS and _counts(cells)
        ):
            header[place] = f"{_NO_CLASS}{name or place}"
    if data and "labels" not in folded:
        logger.warning("%s: no classes, as they hold numbers: %s", file.at(file.header), ", ".join(data))
    return header


def _holds_data(cells: Sequence[str]) -> bool:
    """Whether cells are numbers of which none is 0 or 1, and some are beyond, as widths and times are; not counts."""
    try:
        numbers = [float(cell) for cell in cells if cell]
    except ValueError:
        return False
    return any(not 0 <= number <= 1 for number in numbers) and not {0, 1} & set(numbers)


def _numbers_rows(cells: Sequence[str]) -> bool:
    """Whether a first column that has no name holds whole numbers of which each is there once, as pandas numbers rows.

    They are in any order where rows were shuffled, or some left out.
    """
    return 1 < len(cells) == len(set(cells)) and all(cell.isdecimal() for cell in cells)


def _counts(cells: Sequence[str]) -> bool:
    """Whether a column's cells are 0, 1, 2, ... or 1, 2, 3, ..."""
    counted = ([str(number + first) for number in range(len(cells))] for first in (0, 1))
    return len(cells) > 1 and list(cells) in counted


def _columns(header: list[str], where: str) -> tuple[str, ...]:
    while header and not header[-1]:
        header = header[:-1]
    columns = tuple(cell.casefold() if cell.casefold() in RESERVED_COLUMNS else cell for cell in header)
    shown = ", ".join(columns)
    if "image" not in columns:
        raise BadInputError(
            f"{where}: expected a CSV whose header has a column of images ('image' or 'filename') and one of labels,"
            f" got the columns {shown.replace(_NO_CLASS, '')}; name them so, or add the header line"
        )
    if "" in columns or len(set(columns)) < len(columns):
        raise BadInputError(f"{where}: expected column names that differ and are not empty, got {shown}; correct them")
    others = _class_columns(columns)
    if "labels" not in columns and not others:
        raise BadInputError(f"{where}: expected a column 'labels' or one column a class, got {shown}; add the labels")
    ignored = [column for column in columns if column not in RESERVED_COLUMNS and not column.startswith(_NO_CLASS)]
    if "labels" in columns and ignored:
        logger.warning("%s: there is a column 'labels', so these are not read: %s", where, ", ".join(ignored))
    return columns


def _class_columns(columns: tuple[str, ...]) -> tuple[str, ...]:
    """The columns that say yes or no: classes, and perhaps "nan" for images without a label."""
    if "labels" in columns:
        return ()
    others = (column for column in columns if column not in RESERVED_COLUMNS and not column.startswith(_NO_CLASS))
    return tuple(column for column in others if not is_background(column))


def _read_row(file: CsvFile, row: CsvRow, columns: tuple[str, ...], *, commas: bool) -> LabelRow:
    where, line = file.at(row), row.line
    cells = [cell.strip() for cell in row.cells]
    by_column = dict(zip(columns[: len(cells)], cells[: len(columns)], strict=True))
    image = by_column.get("image", "")
    split = by_column.get("split")
    try:
        file.require_width(row, columns)
        if not image:
            raise BadInputError(f"{where}: expected the image's path in column 'image', got nothing; fill it in")
        names = (
            _listed(by_column["labels"], where, commas=commas or file.delimiter != ",")
            if "labels" in columns
            else _ticked(by_column, where)
        )
    except BadInputError as error:
        return LabelRow(line=line, image=image, split=split, problem=error)
    return LabelRow(line=line, image=image, names=names, split=split, mask=by_column.get("mask") or None)


def _listed(cell: str, where: str, *, commas: bool) -> tuple[str, ...]:
    separated = cell.replace("|", ";")
    if commas:
        separated = separated.replace(",", ";")
    elif "," in cell:
        raise BadInputError(f"{where}: expected names separated by ';', got {cell!r}; replace the commas")
    names = dict.fromkeys(name.strip() for name in separated.split(";") if name.strip())
    return tuple(name for name in names if not is_background(name))


def _ticked(by_column: dict[str, str], where: str) -> tuple[str, ...]:
    names = []
    for column in _class_columns(tuple(by_column)):
        value = by_column[column].casefold()
        if value not in _YES | _NO:
            raise BadInputError(
                f"{where}: expected 0, 1, true, false, yes, no or nothing in column {column!r}, "
                f"got {by_column[column]!r}; correct the cell"
            )
        if value in _YES:
            names.append(column)
    return tuple(names)


def missing_label(name: str, where: str) -> BadInputError:
    """The error for a row whose label is a word for nothing written."""
    return BadInputError(
        f"{where}: expected the names of classes, got {name!r}, which stands for a missing one: what the image shows "
        "is unknown; leave the cell empty if it shows none of the classes, else take the row out"
    )
