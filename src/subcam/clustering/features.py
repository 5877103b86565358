"""Pooled image features f = E(I) of Eq. 2, extracted in parts that survive a kill; many of them stay on the disk."""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float32

from subcam.checks.arguments import takes_arrays
from subcam.data.batches.inference import inference_batches, same_size_batches
from subcam.data.decoded_cache import decoded_images
from subcam.data.records import Record
from subcam.errors import BadInputError
from subcam.networks.classifier import ClassificationNetwork, for_inference
from subcam.runtime import distributed
from subcam.runtime.devices import Fabric, HostCopy, one_behind
from subcam.runtime.documents.regular_file import open_file
from subcam.runtime.files import atomic_write, save_array
from subcam.runtime.machine.settings import MachineSettings
from subcam.runtime.progress import bar

IMAGES_PER_PART = 256

MAPPED_ABOVE_BYTES = 1 << 30
"""Features that take more than this stay on the disk: 130,000 rows of 2,048 numbers."""


@takes_arrays()
def extract_features(
    network: ClassificationNetwork,
    records: Sequence[Record],
    sizes: Sequence[tuple[int, int]],
    *,
    folder: Path,
    fabric: Fabric,
    batch_size: int,
    machine: MachineSettings,
) -> Float32[np.ndarray, "images dim"]:
    """Global average of the feature map of each whole image at scale 1, without flip.

    Every 256 images are written to `folder` as one part; parts that are there are read, not computed again. Of several
    processes each computes its share of them. What they are together is memory-mapped where it takes more than
    `MAPPED_ABOVE_BYTES`.
    """
    model = for_inference(network, fabric, compiled=machine.compile)
    count = len(records)
    parts = [range(start, min(start + IMAGES_PER_PART, count)) for start in range(0, count, IMAGES_PER_PART)]
    own = distributed.share(parts)
    left = [indices for indices in own if not _part_path(folder, indices).is_file()]
    rows: dict[int, np.ndarray] = {}
    with bar("features", sum(map(len, own)), done=sum(map(len, own)) - sum(map(len, left))) as progress:
        # One pass over all parts, so that the processes that decode start once; no batch is of two parts.
        batches = [batch for indices in left for batch in same_size_batches(indices, sizes, batch_size=batch_size)]
        pooled = _pooled(model, records, batches, fabric=fabric, machine=machine)
        for batch, copy in one_behind(pooled, device=fabric.device):
            rows.update(zip(batch, copy.numpy(), strict=True))
            progress.advance(len(batch))
            if len(rows) == len(left[0]):
                with atomic_write(_part_path(folder, left[0])) as file:
                    save_array(file, np.stack([rows.pop(index) for index in left.pop(0)]))
    with distributed.first_goes_ahead():
        return read_features(folder)


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
    for start in range(0, len(features), IMAGES_PER_PART):
        indices = range(start, min(start + IMAGES_PER_PART, len(features)))
        with atomic_write(_part_path(folder, indices)) as file:
            np.save(file, features[start : indices.stop])


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


def _part_path(folder: Path, indices: range) -> Path:
    return folder / f"part-{indices.start // IMAGES_PER_PART:05d}.npy"


def _pooled(
    model: ClassificationNetwork,
    records: Sequence[Record],
    batches: Sequence[Sequence[int]],
    *,
    fabric: Fabric,
    machine: MachineSettings,
) -> Iterator[tuple[tuple[int, ...], HostCopy]]:
    """Each batch and its features [images, dim]."""
    for batch, images in inference_batches(records, batches, workers=machine.workers, decoded=decoded_images(machine)):
        # Not as a decorator: around a generator it would hold, or not, by what else wraps the function.
        with torch.inference_mode():
            features = model.feature_map(fabric.to_device(images).contiguous(memory_format=torch.channels_last))
            copy = HostCopy(features.mean((2, 3)).float())
        yield batch, copy
