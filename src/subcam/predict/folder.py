"""A folder of predictions: where its files lie, what made them, and its tables of classes, images and failures."""

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import asdict, astuple, dataclass, fields
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from jaxtyping import Integer

from subcam.data.images import read_indices, voc_palette
from subcam.data.records import Record, Skipped
from subcam.errors import SettingsError
from subcam.runtime.documents.plain_values import as_plain
from subcam.runtime.documents.regular_file import read_bytes
from subcam.runtime.files import atomic_write, below, read_as, write_json

RECORD_FILE = "predict.json"
CLASSES_FILE = "classes.csv"
TABLE_FILE = "predictions.csv"
FAILED_FILE = "failed.csv"

PATHS_KEEP_ALL_BYTES = "surrogateescape"
"""File names need not be UTF-8; the tables hold the same bytes as the file system."""


def mask_path(out: Path, name: str) -> Path:
    """Where the mask of the image called `name` lies."""
    return below(out, f"masks/{name}", ".png")


def overlay_path(out: Path, name: str) -> Path:
    """Where the image called `name` lies with its mask laid over it."""
    return below(out, f"overlays/{name}", ".jpg")


def probabilities_path(out: Path, name: str) -> Path:
    """Where the probabilities of the image called `name` lie."""
    return below(out, f"probabilities/{name}", ".npz")


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of `predictions.csv`.

    image: the image's path as it was given. mask: its mask's path in the folder.
    classes: what is in it with its share of the pixels, the largest first, as "cat 12.50%; dog 3.10%".
    seconds: of network, CRF and writing; "" where an earlier attempt was interrupted before it was written down.
    """

    image: str
    mask: str
    classes: str
    seconds: str


def row_of(
    record: Record, out: Path, counts: Integer[np.ndarray, " labels"], names: Sequence[str], *, seconds: str
) -> Row:
    """The line of an image; counts: how many of its pixels have each label, names: of labels, background first."""
    shares = counts / max(int(counts.sum()), 1)
    present = sorted(range(1, len(names)), key=lambda label: -shares[label])
    return Row(
        image=str(record.image),
        mask=mask_path(out, record.name).relative_to(out).as_posix(),
        classes="; ".join(f"{names[label]} {shares[label]:.2%}" for label in present if counts[label]),
        seconds=seconds,
    )


class Table:
    """`predictions.csv` while it grows: a line is written when its image is done; at the end the lines are sorted.

    A line that an earlier attempt could not finish is dropped; that of a mask without one is made from the mask.
    """

    def __init__(self, out: Path, names: Sequence[str]) -> None:
        self._out, self._names = out, tuple(names)
        self._rows = {row.mask: row for row in _read_rows(out / TABLE_FILE)}

    def check_origin(self, record: Record) -> None:
        """Refuse to take the mask of another image of the same name for that of `record`.

        Raises:
            SettingsError: the mask was made from another image.
        """
        mask = mask_path(self._out, record.name)
        row = self._rows.get(mask.relative_to(self._out).as_posix())
        if row is not None and row.image != str(record.image):
            raise SettingsError(
                f"{mask} was made from {row.image}, and {record.image} has the same name; choose another --out, or give"
                " the path as before"
            )

    def forget(self, name: str) -> None:
        """Drop the line of the image called `name`."""
        self._rows.pop(mask_path(self._out, name).relative_to(self._out).as_posix(), None)

    def begin(self, done: Iterable[Record]) -> "Table":
        """Make the lines of images that are done and have none; used as a context from here on."""
        for record in done:
            path = mask_path(self._out, record.name)
            if path.relative_to(self._out).as_posix() not in self._rows:
                counts = np.bincount(read_indices(path).ravel(), minlength=256)
                self._keep(row_of(record, self._out, counts, self._names, seconds=""))
        self._write()
        self._file = (self._out / TABLE_FILE).open("a", encoding="utf-8", errors=PATHS_KEEP_ALL_BYTES, newline="")
        return self

    def add(self, row: Row) -> None:
        """Write the line of an image that was just done."""
        self._keep(row)
        csv.writer(self._file).writerow(astuple(row))
        self._file.flush()

    def __enter__(self) -> "Table":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        self._write()

    def _keep(self, row: Row) -> None:
        self._rows[row.mask] = row

    def _write(self) -> None:
        columns = [field.name for field in fields(Row)]
        _write_table(self._out / TABLE_FILE, columns, (astuple(self._rows[mask]) for mask in sorted(self._rows)))


def check_same(out: Path, made_with: dict[str, Any]) -> None:
    """Write down what the folder's predictions are made with, or refuse to mix them with others.

    Raises:
        SettingsError: the folder holds predictions of another model or other settings; says what differs.
    """
    path, given = out / RECORD_FILE, as_plain(made_with)
    if not path.is_file():
        write_json(path, given)
        return
    mend = "choose another --out, or move the folder's files away"
    recorded = read_as(dict[str, Any], path, what="the record of predictions", mend=mend)
    differing = [key for key in {**recorded, **given} if recorded.get(key) != given.get(key)]
    if differing:
        differences = "; ".join(f"{key} was {recorded.get(key)} and is {given.get(key)}" for key in differing)
        raise SettingsError(
            f"{out} holds predictions of another model or other settings ({differences}); choose another --out, or "
            "give the same model and settings again"
        )


def write_classes(out: Path, names: Sequence[str]) -> None:
    """`classes.csv`: value in the masks, name and colour of background and classes."""
    colours = ("#" + bytes(colour).hex() for colour in voc_palette()[: len(names)])
    rows = ((str(index), name, colour) for index, (name, colour) in enumerate(zip(names, colours, strict=True)))
    _write_table(out / CLASSES_FILE, ("index", "name", "colour"), rows)


def write_failures(out: Path, failures: Sequence[Skipped]) -> None:
    """`failed.csv`: images that could not be predicted, and why; without a line once none fails any more."""
    if failures or (out / FAILED_FILE).is_file():
        _write_table(out / FAILED_FILE, ("image", "reason"), (tuple(asdict(entry).values()) for entry in failures))


def _read_rows(path: Path) -> list[Row]:
    if not path.is_file():
        return []
    text = read_bytes(path).decode("utf-8", PATHS_KEEP_ALL_BYTES)
    whole = text[: text.rfind("\n") + 1]
    width = len(fields(Row))
    rows = [cells for cells in csv.reader(io.StringIO(whole, newline="")) if len(cells) == width][1:]
    return [Row(image=image, mask=mask, classes=classes, seconds=seconds) for image, mask, classes, seconds in rows]


def _write_table(path: Path, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    with atomic_write(path) as file:
        text = io.TextIOWrapper(file, encoding="utf-8", errors=PATHS_KEEP_ALL_BYTES, newline="")
        writer = csv.writer(text)
        writer.writerow(columns)
        writer.writerows(rows)
        text.detach()
