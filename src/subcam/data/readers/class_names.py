"""What may be the name of a class, and what a list of names means for the values of masks: one rule for all readers.

In: names as a file has them. Out: the classes of the values 1, 2, ..., without background and what is not scored.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from subcam.data.readers.csv_file import CsvFile, CsvRow, read_csv, read_lines
from subcam.data.records import IGNORE_INDEX, require_class_names, suggest
from subcam.errors import BadInputError
from subcam.runtime.files import atomic_write

BACKGROUND_NAME = "background"
BACKGROUND_NAMES = frozenset({BACKGROUND_NAME, "_background_", "__background__"})
"""Names of value 0, in small letters: labelme writes _background_."""

IGNORED_NAMES = frozenset({"__ignore__", "_ignore_"})
"""Names of what is not scored (255), in small letters: labelme writes __ignore__."""

MISSING_NAMES = frozenset({"", "nan", "none", "null", "<na>", "n/a", "#n/a"})
"""Words, in small letters, that stand where somebody or a program had nothing to write. None becomes a class by itself;
a list of classes may name it."""


def is_background(name: str) -> bool:
    """Whether a name is that of the background, which is no class."""
    return name.strip().casefold() in BACKGROUND_NAMES


def is_ignored(name: str) -> bool:
    """Whether a name is that of pixels which are not scored."""
    return name.strip().casefold() in IGNORED_NAMES


def is_missing(name: str) -> bool:
    """Whether a name stands for a missing one."""
    return name.strip().casefold() in MISSING_NAMES


def listed_classes(names: Sequence[str], *, where: str) -> tuple[str, ...]:
    """The classes of the values 1, 2, ... that a list means; empty where it has none.

    A list may begin with a name of what is not scored, then one of the background, as labelme's do.

    Raises:
        BadInputError: such a name stands elsewhere, or a name is empty or there twice; names `where`.
    """
    classes = list(names)
    if classes and is_ignored(classes[0]):
        classes = classes[1:]
    if classes and is_background(classes[0]):
        classes = classes[1:]
    for name in classes:
        if is_background(name) or is_ignored(name):
            raise BadInputError(
                f"{where}: expected {name!r} on the first line or nowhere, as the place in the list is the value in "
                "masks; move it up or take it out"
            )
    if "" in classes or len(set(classes)) < len(classes):
        double = next((name for name, count in Counter(classes).items() if count > 1), "")
        raise BadInputError(f"{where}: expected each class once, got {double!r} twice; remove the repeated name")
    require_class_names(classes, where=where)
    return tuple(classes)


def chosen_classes(classes: Sequence[str] | None, known: Sequence[str], *, where: str) -> tuple[str, ...]:
    """The classes to learn in their order: `classes`, else all that are known.

    Raises:
        BadInputError: none, an unknown one, or one twice; names `where`.
    """
    chosen = tuple(known if classes is None else classes)
    among = frozenset(known)
    for name in chosen:
        if name not in among:
            raise BadInputError(f"{where}: unknown class name {name!r}: {suggest(name, known)}")
    if not chosen:
        raise BadInputError(f"{where}: expected the names of the classes, got none; label the images")
    if len(set(chosen)) < len(chosen):
        raise BadInputError(f"{where}: expected each class once, got {', '.join(chosen)}; correct the list")
    require_class_names(known, where=where)
    return chosen


LEGEND_FILE = "classes.txt"
"""What a folder of masks has beside them: line i names the class of value i."""


def write_legend(folder: Path, class_names: Sequence[str]) -> None:
    """Write `classes.txt`, which `read_class_list` reads back; a line break in a name becomes a space.

    Raises:
        RunFolderError: the folder cannot be written.
    """
    with atomic_write(folder / LEGEND_FILE, durable=False) as file:
        file.write(legend(class_names))


def legend(class_names: Sequence[str]) -> bytes:
    """The content of `classes.txt`."""
    return "".join(f"{' '.join(name.split())}\n" for name in class_names).encode("utf-8", "backslashreplace")


@dataclass(frozen=True, kw_only=True)
class ClassList:
    """Classes and the value of each in masks.

    colours: the value of each colour, where masks are not indexed but in colours that are none of PASCAL VOC's.
    """

    names: tuple[str, ...]
    values: tuple[int, ...]
    colours: tuple[tuple[tuple[int, int, int], int], ...] = ()

    @classmethod
    def numbered(cls, names: Sequence[str]) -> "ClassList":
        """Classes of the values 1, 2, ..."""
        return cls(names=tuple(names), values=tuple(range(1, len(names) + 1)))

    def __str__(self) -> str:
        shown = [f"{value} {name}" for value, name in zip(self.values[:20], self.names[:20], strict=True)]
        return ", ".join(shown + (["..."] if len(self.names) > len(shown) else []))


def read_class_list(path: Path) -> ClassList:
    """The classes of a list: a text file with one a line, a table with columns index and name, or a `labelmap.txt`.

    In a table the rows of values 0 and 255 are passed over; it may have a column "colour" (#804000). In a label map
    (`name:red,green,blue:parts:actions`, as CVAT writes it) a class has the value that its colour has in PASCAL VOC's
    colour map. Where a colour is none of these, masks are in the colours themselves.

    Raises:
        BadInputError: the file cannot be read or understood, or has no class; names it.
    """
    if path.suffix.lower() == ".csv":
        classes = _from_table(path)
    else:
        lines = read_lines(path)
        if path.name.casefold() == "labelmap.txt":
            classes = _from_label_map(lines, path)
        else:
            classes = ClassList.numbered(listed_classes(lines, where=str(path)))
    if not classes.names:
        raise BadInputError(f"{path}: expected the names of the classes, got none; list one a line")
    return classes


def _from_table(path: Path) -> ClassList:
    table = read_csv(path, needed=("index", "name"))
    index, name = table.columns.index("index"), table.columns.index("name")
    try:
        rows = {int(row.cells[index]): row.cells[name].strip() for row in table.rows}
    except (ValueError, IndexError) as error:
        raise BadInputError(
            f"{path}: expected a table with the columns index and name, got another "
            f"({type(error).__name__}: {error}); correct it or give the names with --classes"
        ) from error
    if len(rows) < len(table.rows):
        raise BadInputError(f"{path}: expected each value once, got one twice; correct the table")
    values = sorted(value for value in rows if value not in (0, IGNORE_INDEX))
    if values != list(range(1, len(values) + 1)):
        raise BadInputError(f"{path}: expected the values 1..{len(values)}, got {str(values)[:100]}; correct the table")
    classes = ClassList.numbered(listed_classes([rows[value] for value in values], where=str(path)))
    column = next((place for place, title in enumerate(table.columns) if title in ("colour", "color")), None)
    if column is None:
        return classes
    colours = {int(row.cells[index]): _hex_colour(row, column, table) for row in table.rows}
    if len(set(colours.values())) < len(colours):
        raise BadInputError(f"{path}: expected each colour once, got one twice; correct the table")
    if all(_value_of_colour(*colour) == value for value, colour in colours.items()):
        return classes
    return replace(classes, colours=tuple((colour, value) for value, colour in colours.items()))


def _hex_colour(row: CsvRow, column: int, table: CsvFile) -> tuple[int, int, int]:
    text = row.cells[column].strip() if column < len(row.cells) else ""
    if not re.fullmatch("#[0-9a-fA-F]{6}", text):
        raise BadInputError(f"{table.at(row)}: expected a colour such as #804000, got {text!r:.100}; correct the table")
    red, green, blue = bytes.fromhex(text[1:])
    return red, green, blue


def _from_label_map(lines: Sequence[str], path: Path) -> ClassList:
    entries = [line for line in lines if not line.startswith("#")]
    if entries and all(line.partition(":")[2].startswith(":") for line in entries):
        # Datumaro leaves colours out where they are those of the places in the list.
        return ClassList.numbered(listed_classes([line.partition(":")[0] for line in entries], where=str(path)))
    colours: dict[str, tuple[int, int, int]] = {}
    seen: set[tuple[int, int, int]] = set()
    for line in entries:
        name, *rest = line.split(":")
        try:
            red, green, blue = map(int, rest[0].split(","))
        except (ValueError, IndexError) as error:
            raise BadInputError(
                f"{path}: expected lines NAME:RED,GREEN,BLUE:PARTS:ACTIONS, got {line!r:.300}; export the set again"
            ) from error
        if name in colours or (red, green, blue) in seen:
            raise BadInputError(f"{path}: expected each class and colour once, got {line!r:.300}; correct it")
        colours[name] = (red, green, blue)
        seen.add(colours[name])
    values = {name: _value_of_colour(*colour) for name, colour in colours.items()}
    if None in values.values():
        names = [name for name in colours if not is_background(name) and not is_ignored(name)]
        numbers = {name: value for value, name in enumerate(names, start=1)}
        numbers |= {name: 0 if is_background(name) else IGNORE_INDEX for name in colours if name not in numbers}
        by_colour = tuple((colour, numbers[name]) for name, colour in colours.items())
        return ClassList(names=tuple(names), values=tuple(range(1, len(names) + 1)), colours=by_colour)
    ordered = {
        name: value
        for name, value in sorted(values.items(), key=lambda entry: entry[1] or 0)
        if value not in (None, IGNORE_INDEX) and not is_background(name) and not is_ignored(name)
    }
    return ClassList(names=tuple(ordered), values=tuple(value for value in ordered.values() if value is not None))


def _value_of_colour(red: int, green: int, blue: int) -> int | None:
    """The index of a colour in PASCAL VOC's colour map: from the highest bits of R, G and B, three at a time."""
    if not all(0 <= part <= 255 for part in (red, green, blue)):
        return None
    value = 0
    for place in range(8):
        for channel, part in enumerate((red, green, blue)):
            value |= (part >> (7 - place) & 1) << (3 * place + channel)
    return value if value <= IGNORE_INDEX else None
