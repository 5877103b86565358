"""Labels of positions on disk: one grid of prototypes an image, all grids of a training set in one npz."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Int16

from subcam.runtime import distributed
from subcam.runtime.files import atomic_write, open_arrays

LABELS_FILE = "prototype-labels.npz"


def write_label_grids(folder: Path, grids: Sequence[Int16[np.ndarray, "_ _"]]) -> None:
    """Write the grids of all training images, in the order of the records, atomically."""
    labels = np.concatenate([grid.ravel() for grid in grids])
    with atomic_write(folder / LABELS_FILE) as file:
        np.savez_compressed(file, labels=labels, shapes=np.array([grid.shape for grid in grids], np.int32))


def read_label_grids(folder: Path) -> tuple[Int16[np.ndarray, "_ _"], ...]:
    """Read what `write_label_grids` wrote: for each position class times prototypes a class + prototype, or -1.

    Raises:
        BadInputError: missing, truncated or of another format; names the file.
    """
    with open_arrays(folder / LABELS_FILE, what="labels of positions") as arrays:
        shapes, labels = arrays["shapes"], arrays["labels"]
    return _split(labels, shapes)


def gather_grids(grids: dict[int, np.ndarray]) -> tuple[Int16[np.ndarray, "_ _"], ...]:
    """The grids of all processes, by the index of their record, as one sequence in the first process."""
    rows = [(index, *grid.shape) for index, grid in grids.items()]
    shapes = np.concatenate(
        distributed.gathered(np.array(rows, np.int32).reshape(-1, 3)) or [np.zeros((0, 3), np.int32)]
    )
    flat = [grid.ravel() for grid in grids.values()]
    labels = np.concatenate(
        distributed.gathered(np.concatenate([*flat, np.zeros(0, np.int16)])) or [np.zeros(0, np.int16)]
    )
    parts = _split(labels, shapes[:, 1:])
    return tuple(parts[place] for place in np.argsort(shapes[:, 0]))


def _split(labels: np.ndarray, shapes: np.ndarray) -> tuple[np.ndarray, ...]:
    ends = shapes.prod(1).cumsum()
    return tuple(labels[end - shape.prod() : end].reshape(shape) for end, shape in zip(ends, shapes, strict=True))
