"""Features on disk, in parts; many of them stay there when they are read. torch is not needed for it.

In: a stage's folder, or the `.npy` of another program. Out: a row an image.
"""

import math
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from subcam.errors import BadInputError
from subcam.runtime.documents.regular_file import open_file
from subcam.runtime.files import atomic_write

IMAGES_PER_PART = 256

MAPPED_ABOVE_BYTES = 1 << 30
"""Features that take more than this stay on the disk: 130,000 rows of 2,048 numbers."""


def read_features(folder: Path, *, mapped_above_bytes: int = MAPPED_ABOVE_BYTES) -> Float32[np.ndarray, "images dim"]:
    """The features that `extract_features` left in `folder`, in the order of the images.

    More than `mapped_above_bytes` are put together in one file, `features.npy`, which is memory-mapped.

    Raises:
        BadInputError: there are none, or a part is damaged; names folder or file.
    """
    paths = sorted(folder.glob("part-*.npy"))
    if not paths:
        raise BadInputError(f"{folder} holds no features (part-00000.npy, ...); run the stage again")
    parts = [_part(path) for path in paths]
    shape = (sum(map(len, parts)), parts[0].shape[1])
    if math.prod(shape) * parts[0].itemsize <= mapped_above_bytes:
        return np.concatenate(parts)
    whole = folder / "features.npy"
    if not whole.is_file():
        with atomic_write(whole) as file:
            np.lib.format.write_array_header_1_0(
                file, {"descr": np.lib.format.dtype_to_descr(parts[0].dtype), "fortran_order": False, "shape": shape}
            )
            for part in parts:
                part.tofile(file)
    return np.load(whole, mmap_mode="r", allow_pickle=False)


def write_features(folder: Path, features: Float32[np.ndarray, "images dim"]) -> None:
    """Write features in parts, as `extract_features` leaves them."""
    for indices in parts_of(len(features)):
        with atomic_write(part_path(folder, indices)) as file:
            np.save(file, features[indices.start : indices.stop])


def parts_of(count: int) -> list[range]:
    """Which of `count` images lie in each part."""
    return [range(start, min(start + IMAGES_PER_PART, count)) for start in range(0, count, IMAGES_PER_PART)]


def read_given_features(path: Path, *, count: int) -> Float32[np.ndarray, "images dim"]:
    """Features of another program from an `.npy` file, a row for each of `count` images.

    Raises:
        BadInputError: it is no such file, has another number of rows, or numbers that are not finite; names it.
    """
    try:
        with open_file(path) as file:
            features = np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise BadInputError(f"{path}: expected an .npy of features, got something else ({error}); check it") from error
    if not isinstance(features, np.ndarray) or features.ndim != 2 or features.dtype.kind not in "fiu":
        got = f"{list(features.shape)} {features.dtype}" if isinstance(features, np.ndarray) else "several"
        raise BadInputError(f"{path}: expected an array of images x dim numbers, got {got}; write it so")
    if len(features) != count or not features.shape[1]:
        raise BadInputError(
            f"{path}: expected a row for each of {count} training images, in the order of the data set, got"
            f" {list(features.shape)}; write them again"
        )
    features = features.astype(np.float32)
    if not np.isfinite(features).all():
        row = int(np.flatnonzero(~np.isfinite(features).all(1))[0])
        raise BadInputError(f"{path}: expected finite features, got others in row {row}; mend them")
    return features


def _part(path: Path) -> Float32[np.ndarray, "images dim"]:
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise BadInputError(f"{path} holds no features ({error}); remove it and run again") from error


def part_path(folder: Path, indices: range) -> Path:
    """Where the features of some images lie, which begin a part."""
    return folder / f"part-{indices.start // IMAGES_PER_PART:05d}.npy"
