"""From scores of background and classes to a pseudo mask, and where the masks of each variant lie."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Float32, Integer, UInt8

from subcam.cam.map_files import ResponseMaps
from subcam.crf.settings import CRFSettings
from subcam.data.images import read_image
from subcam.data.records import IGNORE_INDEX, MOST_CLASSES, Record
from subcam.errors import BadInputError
from subcam.runtime.files import below

if TYPE_CHECKING:
    import torch


def mask_path(folder: Path, variant: str, name: str) -> Path:
    """Where the pseudo mask of the image called `name` lies in a stage's folder."""
    return below(folder, f"{variant}/{name}", ".png")


def label_map(
    scores: Float[np.ndarray, "channels h w"],
    classes: Integer[np.ndarray, " present"],
    *,
    ignore_margin: float = 0.0,
) -> UInt8[np.ndarray, "h w"]:
    """The best channel at each pixel: 0 for the background in front, class + 1, 255 where the best two are too close.

    The first of equals wins.

    Raises:
        ValueError: a class beyond 253, which has no value in 8 bits.
    """
    if classes.max(initial=0) >= MOST_CLASSES:
        raise ValueError(f"label_map: expected classes of 0..{MOST_CLASSES - 1}, got {classes.max()}")
    labels = np.array([0, *(classes + 1)], np.uint8)[scores.argmax(0)]
    if ignore_margin and len(scores) > 1:
        second, best = np.partition(scores, len(scores) - 2, axis=0)[-2:]
        labels[best - second < ignore_margin] = IGNORE_INDEX
    return labels


def scores_with_background(maps: ResponseMaps, *, alpha: float) -> Float32[np.ndarray, "channels h w"]:
    """Background score and response maps of one image at full size, unnormalised as in psa: [1 + present, h, w]."""
    import torch  # who only reads a run, such as the report, does without

    from subcam.cam.response import likely_background

    full = torch.from_numpy(maps.full_size())
    return torch.cat([likely_background(full, alpha)[None], full]).numpy()


def forget_lattices() -> None:
    """Give up the memory that the CPU's dense CRF keeps from image to image: at the end of a stage that used it."""
    from subcam.crf.dense_crf import SPATIAL

    SPATIAL.clear()


def crf_of(
    record: Record, scores: list[np.ndarray], settings: CRFSettings, device: "torch.device | None" = None
) -> list[Float32[np.ndarray, "channels h w"]]:
    """Marginals of several score sets of one image, in 0..1.

    device: where `dense_crf_torch` computes them; None for the CPU's kernels.

    Raises:
        BadInputError: the scores cannot be used; names the image.
    """
    # torch and numba take their time, and who only reads a run, such as the report, has no CRF
    import torch

    from subcam.crf.dense_crf import dense_crf_many
    from subcam.crf.dense_crf_torch import dense_crf_torch
    from subcam.runtime.devices import HostCopy, to_device

    try:
        image = read_image(record.image)
        if device is None:
            return dense_crf_many(image, scores, settings=settings)
        there = (to_device(torch.from_numpy(array), device) for array in (image, np.stack(scores)))
        (marginals,) = dense_crf_torch(*([tensor] for tensor in there), settings=settings)
        return list(HostCopy(marginals).numpy())
    except (ValueError, MemoryError, torch.OutOfMemoryError) as error:
        raise BadInputError(f"{record.image}: {error}") from error
