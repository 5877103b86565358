"""`masks.csv` beside a run's masks: how far each can be trusted, the worst first, and what lowers it."""

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from subcam.checks.arguments import takes_arrays
from subcam.errors import BadInputError
from subcam.runtime.documents.regular_file import read_bytes
from subcam.runtime.files import atomic_write

MASKS_CSV = "masks.csv"
"""In the folder `masks` of a run, and in that of the stage that wrote it."""

_HEAD = ("image", "confidence", "lowered by")
_MEND = "give the run's command again, which writes it anew"


@dataclass(frozen=True, kw_only=True)
class RegionRow:
    """Background or a labelled class of one image: its share of the pixels and its confidence, both in 0..1."""

    area: float
    confidence: float


@dataclass(frozen=True, kw_only=True)
class MaskRow:
    """One mask of a run.

    image: the record's name, as the mask is called without its suffix.
    confidence: in 0..1; stands for the mean IoU of its regions, by rank.
    lowered_by: which region is trusted least and why; "" where all can be.
    regions: by class name, "background" first; of the classes that the image is labelled with.
    """

    image: str
    confidence: float
    lowered_by: str
    regions: dict[str, RegionRow] = field(default_factory=dict)


def worst_first(rows: Sequence[MaskRow]) -> list[MaskRow]:
    """The rows by their confidence, those of equal confidence by name."""
    return sorted(rows, key=lambda row: (row.confidence, row.image))


def write_masks_csv(path: Path, rows: Sequence[MaskRow], *, class_names: Sequence[str]) -> None:
    """Write the table, worst first: a line a mask, and of background and each class two columns.

    Raises:
        RunFolderError: the disk is full or the folder cannot be written.
    """
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    names = ("background", *class_names)
    lines.writerow([*_HEAD, *(f"{name} {what}" for name in names for what in ("area", "confidence"))])
    for row in worst_first(rows):
        cells: list[str] = [row.image, f"{row.confidence:.4f}", row.lowered_by]
        for name in names:
            region = row.regions.get(name)
            cells += [f"{region.area:.4f}", f"{region.confidence:.4f}"] if region else ["", ""]
        lines.writerow(cells)
    with atomic_write(path, "w") as file:
        file.write(text.getvalue())


@takes_arrays()
def read_confidences(run: Path | str) -> tuple[MaskRow, ...]:
    """What a run's folder, or its `masks`, says of its masks, worst first; nothing where there is no `masks.csv`.

    Raises:
        BadInputError: the file is not the table that was written there; names it.
    """
    run = Path(run)
    path = next((path for path in (run / "masks" / MASKS_CSV, run / MASKS_CSV) if path.is_file()), None)
    return () if path is None else read_masks_csv(path)


def read_masks_csv(path: Path) -> tuple[MaskRow, ...]:
    """The table that `write_masks_csv` wrote, in the order of the file.

    Raises:
        BadInputError: it is another; names the mask, counted from 1.
    """
    try:
        # Names as they were written, composed or not: masks are found by them.
        (header, *lines) = csv.reader(io.StringIO(read_bytes(path).decode("utf-8"), newline=""), strict=True)
    except (OSError, ValueError, csv.Error) as error:
        raise BadInputError(f"{path}: cannot be read as the table of masks ({error}); {_MEND}") from error
    names = [cell.removesuffix(" area") for cell in header[len(_HEAD) :: 2]]
    expected = [*_HEAD, *(f"{name} {what}" for name in names for what in ("area", "confidence"))]
    if header != expected:
        raise BadInputError(f"{path}: expected the columns {', '.join(_HEAD)} and two of each class; {_MEND}")
    return tuple(_row(cells, names, f"{path}, mask {number}") for number, cells in enumerate(lines, start=1))


def _row(cells: Sequence[str], names: Sequence[str], where: str) -> MaskRow:
    if len(cells) != len(_HEAD) + 2 * len(names):
        raise BadInputError(f"{where}: expected {len(_HEAD) + 2 * len(names)} cells, got {len(cells)}; {_MEND}")
    image, confidence, lowered_by, *shares = cells
    regions = {
        name: RegionRow(area=_share(area, where), confidence=_share(sure, where))
        for name, area, sure in zip(names, shares[::2], shares[1::2], strict=True)
        if area or sure
    }
    return MaskRow(image=image, confidence=_share(confidence, where), lowered_by=lowered_by, regions=regions)


def _share(cell: str, where: str) -> float:
    try:
        number = float(cell)
    except ValueError:
        number = math.nan
    if not 0 <= number <= 1:
        raise BadInputError(f"{where}: expected a share of 0..1, got {cell!r:.40}; {_MEND}")
    return number
