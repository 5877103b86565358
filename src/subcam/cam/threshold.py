"""Where an object ends, found without masks: background thresholds for the response maps of a set of images.

In: response maps and the images they belong to. Out: the threshold that splits both best, for all classes and for
each. A good threshold parts the strong responses from the weak ones, and it parts the images' colours too, since
objects and what is around them differ. Otsu's share of explained variance measures both; not in the paper.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
from jaxtyping import Float, Float32, Float64, Integer, UInt8

from subcam.cam.map_files import maps_path, read_response_maps
from subcam.checks.arguments import takes_arrays
from subcam.checks.fields import Range
from subcam.data.images import read_image
from subcam.data.records import Record
from subcam.errors import SettingsError

THRESHOLDS = np.arange(0, 101) / 100
"""The grid 0.00, 0.01 ... 1.00."""

STEPS_OF_HALVING = 60
"""After so many an interval of 1 is as short as float64 tells apart."""

COLOUR_EXPONENT = 2
"""Weight of colours against responses, the responses' being 1. Chosen on generated images and photographs with masks
(docs/log.md): responses alone do well on photographs and badly on generated images, colours alone the reverse."""

PRIOR_IMAGES = 10
"""A class's own threshold is chosen as if it had so many more images, which look like all images on average."""

MOST_IMAGES = 2000
"""Of a larger set every second, third, ... image is looked at."""


@dataclass(frozen=True, kw_only=True)
class SplitShares:
    """Shares of variance in 0..1 that each threshold explains of one image: of its response, of its colours.

    classes: indices 0..C-1 of what is in the image.
    """

    classes: tuple[int, ...]
    response: Float64[np.ndarray, " thresholds"]
    colour: Float64[np.ndarray, " thresholds"]


@dataclass(frozen=True, kw_only=True)
class ChosenThreshold:
    """Background thresholds that were chosen without looking at masks.

    threshold: for all classes.
    by_class: for each class; the common one for a class without images.
    scores: of each of `thresholds`, 0..1; greatest at `threshold`.
    """

    threshold: float
    by_class: tuple[float, ...]
    thresholds: Float64[np.ndarray, " thresholds"]
    scores: Float64[np.ndarray, " thresholds"]
    images: int


def explained_share(
    values: Float[np.ndarray, "pixels channels"], level: Integer[np.ndarray, " pixels"], *, num_thresholds: int
) -> Float64[np.ndarray, " thresholds"]:
    """Share of the variance of `values` that lies between two groups of pixels, at every threshold (Otsu 1979).

    Variances are summed over channels. One pass over the pixels, whatever the number of thresholds.

    Args:
        values: of each pixel; one channel or several of one unit.
        level: number of thresholds that lie below the pixel, 0..num_thresholds; above threshold i it is in front.
        num_thresholds: how many thresholds there are.

    Returns:
        Shares in 0..1; 0 where a group is empty or all values are equal.
    """
    centred = values.astype(np.float64) - values.mean(0, dtype=np.float64)
    total = (centred**2).sum()
    count = len(level)
    front = _above(np.bincount(level, minlength=num_thresholds + 1))
    sums = [_above(np.bincount(level, weights=channel, minlength=num_thresholds + 1)) for channel in centred.T]
    split = (front > 0) & (front < count)
    safe = np.where(split, front, 1)
    between = np.square(sums).sum(0) * (1 / safe + 1 / np.where(split, count - front, 1))
    # Sums of equal values are not exactly 0.
    negligible = 1e-12 * count * max(1.0, float(np.abs(values).max(initial=0)) ** 2)
    return np.where(split, between / total, 0.0) if total > negligible else np.zeros(num_thresholds)


@takes_arrays(may_be_empty=("classes",))
def split_shares(
    response: Float[np.ndarray, "h w"],
    colours: Float[np.ndarray, "h w 3"],
    *,
    classes: Sequence[int] = (),
    thresholds: Float64[np.ndarray, " thresholds"] = THRESHOLDS,
) -> SplitShares:
    """What each threshold explains of one image.

    Args:
        response: the strongest response of any class that is present, in 0..1.
        colours: RGB of the same pixels; any scale.
        classes: indices of what is in the image.
        thresholds: rising; a pixel is in front where its response is greater.

    Raises:
        ValueError: response and colours differ in size, are not finite, or responses lie outside 0..1.
    """
    if not (response.min() >= 0 and response.max() <= 1):
        raise ValueError(f"response: expected values in 0..1, got {response.min()}..{response.max()}")
    if not np.isfinite(colours).all():
        raise ValueError("colours: expected finite values, got NaN or infinity")
    level = np.searchsorted(thresholds, response.ravel(), side="left")
    count = len(thresholds)
    return SplitShares(
        classes=tuple(classes),
        response=explained_share(response.reshape(-1, 1), level, num_thresholds=count),
        colour=explained_share(colours.reshape(-1, 3), level, num_thresholds=count),
    )


@takes_arrays()
def choose_threshold(
    images: Sequence[SplitShares],
    *,
    num_classes: Annotated[int, Range(0, 65_536)],
    thresholds: Float64[np.ndarray, " thresholds"] = THRESHOLDS,
) -> ChosenThreshold:
    """The threshold at which (mean share of responses) x (mean share of colours)^2 over the images is greatest.

    The threshold of one class is that of the images that show it, drawn towards all (`PRIOR_IMAGES`). Where no
    image has colours to split, responses alone decide. The lowest of equal thresholds is chosen.

    Raises:
        ValueError: there are no images, or one shows a class beyond `num_classes`.
    """
    if not images:
        raise ValueError("a threshold is chosen on one image or more, got none")
    highest = max((c for image in images for c in image.classes), default=-1)
    if highest >= num_classes:
        raise ValueError(f"images: expected classes below num_classes = {num_classes}, got {highest}")
    shares = np.array([(image.response, image.colour) for image in images])
    means = shares.mean(0)

    def scores(response: np.ndarray, colour: np.ndarray) -> np.ndarray:
        return response * (colour**COLOUR_EXPONENT if means[1].any() else 1.0)

    by_class = []
    for c in range(num_classes):
        own = shares[[c in image.classes for image in images]]
        drawn = (own.sum(0) + PRIOR_IMAGES * means) / (len(own) + PRIOR_IMAGES)
        by_class.append(float(thresholds[scores(*drawn).argmax()]))
    common = scores(*means)
    return ChosenThreshold(
        threshold=float(thresholds[common.argmax()]),
        by_class=tuple(by_class),
        thresholds=thresholds,
        scores=common,
        images=len(images),
    )


def looked_at(records: Sequence[Record]) -> list[Record]:
    """Those of the images by which something is chosen: all with a class, or of many every second, third, ..."""
    named = [record for record in records if record.labels]
    return named[:: -(-len(named) // MOST_IMAGES) or 1]


def threshold_of_maps(records: Sequence[Record], folder: Path, *, num_classes: int) -> ChosenThreshold:
    """The thresholds for response maps that a stage stored, from these maps and their images alone.

    Works on the grid on which the maps are stored. Images without a class say nothing and are left out.

    Args:
        records: the images; a mask that one has is not opened.
        folder: of the stage that wrote the maps.
        num_classes: C; records and maps name classes by 0..C-1.

    Raises:
        SettingsError: no image has a class.
        BadInputError: an image or its maps cannot be read; names the file.
    """
    chosen_by = looked_at(records)
    if not chosen_by:
        raise SettingsError(
            "nothing can be chosen without masks: no image has a label; give a number in the place of auto"
        )
    shares = []
    for record in chosen_by:
        maps = read_response_maps(maps_path(folder, record.name)).maps
        response = maps.max(0).astype(np.float32) / 255
        colours = cell_colours(read_image(record.image), grid=maps.shape[1:])
        shares.append(split_shares(response, colours, classes=record.labels))
    return choose_threshold(shares, num_classes=num_classes)


def cell_colours(image: UInt8[np.ndarray, "h w 3"], *, grid: tuple[int, int]) -> Float32[np.ndarray, "gh gw 3"]:
    """Mean colour of the pixels in each cell of a grid."""
    import torch  # who only reads thresholds, such as the report, does without
    import torch.nn.functional as F

    pixels = torch.from_numpy(image).permute(2, 0, 1)[None].float()
    return F.interpolate(pixels, size=grid, mode="area")[0].permute(1, 2, 0).numpy()


def alpha_of_threshold(threshold: float) -> float:
    """The exponent at which the background score (1 - m)^alpha equals a response m at the threshold.

    In an argmax over background and classes a single class then wins exactly where it is above the threshold.

    Raises:
        ValueError: the threshold is not between 0 and 1.
    """
    if not 0 < threshold < 1:
        raise ValueError(f"expected a threshold between 0 and 1, got {threshold}")
    return float(np.log(threshold) / np.log1p(-threshold))


def threshold_of_alpha(alpha: float) -> float:
    """The response that equals the background score (1 - m)^alpha: what `alpha_of_threshold` is the inverse of.

    Raises:
        ValueError: the exponent is not above 0 and finite.
    """
    if not 0 < alpha < np.inf:
        raise ValueError(f"expected an exponent above 0, got {alpha}")
    low, high = 0.0, 1.0
    for _ in range(STEPS_OF_HALVING):
        middle = (low + high) / 2
        low, high = (middle, high) if middle < (1 - middle) ** alpha else (low, middle)
    return (low + high) / 2


def _above(counts: np.ndarray) -> Float64[np.ndarray, " thresholds"]:
    """Sums over all levels above each threshold."""
    return counts[::-1].cumsum()[::-1][1:].astype(np.float64)
