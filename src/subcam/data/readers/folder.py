"""Reads a plain folder: images, a CSV with the names of what is in them, and masks where there are some.

In: a folder with `labels.csv`; either `image,labels` with names separated by `;`, or `image` and one column a class;
optionally columns `split` and `mask`, and beside it `classes.txt`, `images/` and `masks/`. Out: an `ImageSet`. No
image is opened here; `subcam.data.check` does that.
"""

import csv
import io
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

from subcam.checks.arguments import takes_arrays
from subcam.data.files import (
    ImagesByEnd,
    find_file,
    find_listed,
    image_named,
    looks_like_image,
    mask_named,
    name_of,
    relative_path,
    require_inside,
)
from subcam.data.readers.class_names import chosen_classes, is_missing, read_class_list
from subcam.data.readers.label_table import RESERVED_COLUMNS, LabelRow, LabelTable, missing_label, read_label_table
from subcam.data.records import ImageSet, Record, Skipped, mask_values_of, require_room, suggest
from subcam.data.settings import OnBadInput
from subcam.errors import BadInputError
from subcam.runtime.documents.regular_file import is_there
from subcam.runtime.files import atomic_write

CLASSES_FILE = "classes.txt"
_IMAGE_FOLDER = "images"
MASK_FOLDER = "masks"
_SHOWN = 8

logger = logging.getLogger(__name__)


@takes_arrays()
def read_folder(
    root: Path,
    *,
    labels: str = "labels.csv",
    split: str | None = None,
    classes: Sequence[str] | None = None,
    keep_unlabelled: bool = False,
    on_bad_input: OnBadInput = "stop",
) -> ImageSet:
    """Read a folder of images whose labels stand in a CSV.

    Paths in the CSV are relative to `root` or `root/images`, those of masks to `root` or `root/masks`; without a
    column `mask` the mask of `a/b.jpg` is `masks/a/b.png` if that exists. In a mask, 0 is background, 255 is not
    scored and i + 1 means class i of `classes.txt`, else of the class columns in their order, else of the sorted names.
    The CSV may be UTF-8, UTF-16 with its mark, or Windows-1252; separated by commas, semicolons or tabs. Where commas
    do not separate the columns they may separate names, and so may `|` anywhere.

    Args:
        root: the folder.
        labels: the CSV's name in it.
        split: only rows with this in their column `split`; None takes all rows.
        classes: the names to learn, in this order; it may be some of those that occur: the others' pixels are then not
            scored. Without `classes.txt` and class columns, they number masks themselves if no other name occurs.
        keep_unlabelled: keep images that have labels but none of `classes`, as examples of their absence; else they
            are left out and their number is logged. Images with no label at all are kept always.
        on_bad_input: what to do about a row that cannot be used.

    Raises:
        BadInputError: names the CSV and the line. A row that cannot be used raises only where `on_bad_input` is "stop".
    """
    root = Path(root)
    return image_set_of(
        read_label_table(root / labels),
        root=root,
        split=split,
        classes=classes,
        keep_unlabelled=keep_unlabelled,
        on_bad_input=on_bad_input,
    )


def image_set_of(
    table: LabelTable,
    *,
    root: Path,
    split: str | None = None,
    classes: Sequence[str] | None = None,
    keep_unlabelled: bool = False,
    on_bad_input: OnBadInput = "stop",
) -> ImageSet:
    """The images of a table, by the rules of `read_folder`, whose arguments and errors these are."""
    known, chosen = _class_names(table, root, classes)
    rows = _rows_of_split(table, split)
    by_end = ImagesByEnd(root)
    first: dict[str, LabelRow] = {}
    # where each image is named first, in any split: the same image in two of them would be a leak
    for row in table.rows:
        if row.problem is None:
            first.setdefault(_name_of(row.image), row)
    among, places = dict.fromkeys(known), {name: index for index, name in enumerate(chosen)}
    records: list[Record] = []
    skipped: list[Skipped] = []
    unlabelled = 0
    for row in rows:
        try:
            record = _read_record(root, table, row, among, places, first, by_end)
        except BadInputError as error:
            if on_bad_input == "stop":
                raise
            skipped.append(Skipped(file=row.image or table.at(row), reason=str(error)))
            continue
        if row.names and not record.labels and not keep_unlabelled:
            unlabelled += 1
        else:
            records.append(record)
    if unlabelled:
        logger.info("%s: left out %d images with none of the chosen classes", table.path.name, unlabelled)
    if not records:
        why = f"; the first: {skipped[0].reason}" if skipped else ""
        raise BadInputError(
            f"{table.path}: expected at least one usable row, got none of {len(rows)} ({len(skipped)} bad, "
            f"{unlabelled} without the chosen classes){why}"
        )
    if (root / MASK_FOLDER).is_dir() and not any(record.mask for record in records):
        expected = root / MASK_FOLDER / f"{records[0].name}.png"
        logger.warning("no image has a mask, though there is a folder of masks (expected e.g. %s)", expected)
    return ImageSet(
        class_names=chosen,
        records=tuple(records),
        mask_values=mask_values_of(known, chosen),
        skipped=tuple(skipped),
    )


@takes_arrays()
def write_labels_csv(path: Path, image_set: ImageSet) -> None:
    """Write a set's labels as a CSV with one column a class, which `read_folder` of its folder reads back the same.

    Images and masks are not copied: they must lie in the folder of `path`.

    Raises:
        BadInputError: an image lies elsewhere, a class has the name of another column, or the masks number the classes
            in another way than a folder's (those of a VOC folder do).
        RunFolderError: the disk is full or the folder cannot be written.
    """
    root = path.parent.absolute()
    if image_set.has_masks and image_set.mask_values != mask_values_of(image_set.class_names, image_set.class_names):
        raise BadInputError(
            f"{path}: expected masks where i + 1 means class i, got a set with other mask values; "
            "write the masks anew with `read_mask` and `write_mask`"
        )
    for name in image_set.class_names:
        if name.casefold() in RESERVED_COLUMNS:
            raise BadInputError(
                f"{path}: expected class names other than {', '.join(RESERVED_COLUMNS)}, got {name!r}; rename it"
            )

    def relative(file: Path | None) -> str:
        if file is None:
            return ""
        if not file.absolute().is_relative_to(root):
            raise BadInputError(
                f"{path}: expected images and masks inside {root}, got {file}; write the CSV beside them"
            )
        return file.absolute().relative_to(root).as_posix()

    with atomic_write(path) as file:
        text = io.TextIOWrapper(file, encoding="utf-8", newline="")
        writer = csv.writer(text)
        writer.writerow(["image", *image_set.class_names, *(["mask"] if image_set.has_masks else [])])
        for record, row in zip(image_set.records, image_set.labels.tolist(), strict=True):
            masks = [relative(record.mask)] if image_set.has_masks else []
            writer.writerow([relative(record.image), *row, *masks])
        text.detach()


def _class_names(
    table: LabelTable, root: Path, classes: Sequence[str] | None
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """All classes in the order of their mask values, and those to learn."""
    file = (root if table.path == root else table.path.parent) / CLASSES_FILE
    if is_there(file):
        known = read_class_list(file).names
        where = str(file)
    elif table.class_columns:
        known, where = table.class_columns, str(table.path)
    else:
        occurring = {name for row in table.rows for name in row.names if not is_missing(name)}
        chosen = {name.casefold() for name in classes or ()}  # "Cat" where "cat" is chosen is no class of its own
        others = {name for name in occurring if name.casefold() not in chosen}
        if classes and not others:
            known, where = tuple(classes), "classes"
        else:
            known, where = tuple(sorted(others | occurring & set(classes or ()))), str(table.path)
            _refuse_case_variants(table, known)
        if classes and others:
            shown = f"{', '.join(sorted(others)[:_SHOWN])}{', ...' if len(others) > _SHOWN else ''}"
            logger.warning(
                "%s: %d names are none of the chosen classes, and not learned: %s", where, len(others), shown
            )
    if not known:
        raise BadInputError(f"{where}: expected the names of the classes, got none; label the images")
    for name in () if known == table.class_columns else table.class_columns:
        if name not in known:
            raise BadInputError(f"{where}: unknown class name {name!r}: {suggest(name, known)}")
    return known, chosen_classes(classes or None, known, where=where)


def _refuse_case_variants(table: LabelTable, names: tuple[str, ...]) -> None:
    spelling: dict[str, str] = {}
    for name in names:
        other = spelling.setdefault(name.casefold(), name)
        if other != name:
            rows = [next(row for row in table.rows if spelt in row.names) for spelt in (other, name)]
            raise BadInputError(
                f"{table.at(rows[1])}: {name!r} differs only in case from {other!r} {_place_of(rows[0])}; "
                f"spell them alike, or list both in {CLASSES_FILE}"
            )


def _rows_of_split(table: LabelTable, split: str | None) -> tuple[LabelRow, ...]:
    if split is None:
        return table.rows
    if "split" not in table.columns:
        raise BadInputError(f"{table.path}: expected a column 'split' to take {split!r} from, got none; add it")
    # a row so short that its split is missing may belong to this one: it is reported rather than lost
    rows = tuple(row for row in table.rows if row.split == split or (row.split is None and row.problem))
    if not any(row.split == split for row in rows):
        raise BadInputError(
            f"{table.path}: expected rows of split {split!r}, got none; there are: {', '.join(table.splits) or 'none'}"
        )
    return rows


def _name_of(image: str) -> str:
    path = PurePosixPath(image.replace("\\", "/"))
    below = path.relative_to(_IMAGE_FOLDER) if path.is_relative_to(_IMAGE_FOLDER) else path
    return name_of(below) if below.name else below.as_posix()


def _place_of(row: LabelRow) -> str:
    return f"on line {row.line}" if row.line else f"that of {row.image!r}"


def _image_of(root: Path, table: LabelTable, row: LabelRow, by_end: ImagesByEnd) -> tuple[Path, str]:
    """The image of a row, and the name of its record.

    Tables of other programs may name it without its folder, or without its suffix.
    """
    folders, where = (root, root / _IMAGE_FOLDER), table.at(row)
    if not table.foreign:
        return find_file(row.image, folders, where=where), _name_of(row.image)
    if not looks_like_image(PurePosixPath(row.image)):
        below = relative_path(row.image, root=root, where=where).as_posix()
        found = image_named(root, below) or image_named(root / _IMAGE_FOLDER, below)
        if found is not None:
            require_inside(root, found, where=where)
            return found, below
    image, _ = find_listed(row.image, folders, by_end=by_end, where=where)
    return image, _name_of(image.relative_to(root).as_posix())


def _read_record(
    root: Path,
    table: LabelTable,
    row: LabelRow,
    known: Mapping[str, None],
    places: Mapping[str, int],
    first: dict[str, LabelRow],
    by_end: ImagesByEnd,
) -> Record:
    """A row as a record.

    known: all classes in their order; places: the index of each that is learned; first: the first row of each name.
    """
    if row.problem is not None:
        raise row.problem
    where = table.at(row)
    for label in row.names:
        if label not in known:
            if is_missing(label):
                raise missing_label(label, where)
            raise BadInputError(f"{where}: unknown class name {label!r}: {suggest(label, known)}")
    image, name = _image_of(root, table, row, by_end)
    mask: Path | None
    earlier = first[_name_of(row.image)]
    if earlier is not row or (earlier := first.setdefault(name, row)) is not row:
        raise BadInputError(f"{where}: duplicate name {name!r}, first {_place_of(earlier)}; remove one of them")
    if row.mask is not None:
        mask = find_file(row.mask, (root, root / MASK_FOLDER), where=where)
    else:
        mask = mask_named(root / MASK_FOLDER, name)
        if mask is not None:
            require_inside(root, mask, where=where)
    if mask is not None:
        require_room(tuple(known), where=where)
    return Record(
        name=name,
        image=image,
        labels=tuple(sorted(places[label] for label in row.names if label in places)),
        mask=mask,
    )
