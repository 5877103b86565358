"""How far a pseudo mask can be trusted, region by region, without ground truth: from what its run has anyway.

In: a mask, the scores that it was made of, the label maps that earlier stages would have given, a network's mask. Out:
of background and of each labelled class a confidence in 0..1, and what lowers it. Not in the paper; chosen by rank
correlation with the true IoU on training images (`docs/log.md`, `python -m benchmarks.confidence`).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Integer, UInt8

from subcam.checks.arguments import takes_arrays
from subcam.data.records import BACKGROUND, IGNORE_INDEX

NOTHING_LOWERS = 0.9
"""Where every region is at least this confident, nothing is named that lowers it."""

BY_HAND = "corrected by a person"
"""Stands in the place of a cause where a mask is no draft any more."""


@dataclass(frozen=True, kw_only=True)
class RegionConfidence:
    """Background or a labelled class in one image. Each part is a share in 0..1; None where the run has nothing for it.

    value: of the region in the mask: 0 background, class + 1.
    area: share of the image's pixels that the region has.
    decided: mean over its pixels of its own score as a share of all scores there; 0 without a pixel.
    stages: IoU of this class in the label maps of two earlier stages.
    network: IoU of the region with that of the network.
    """

    value: int
    area: float
    decided: float | None
    stages: float | None
    network: float | None

    @property
    def confidence(self) -> float:
        """Mean of the parts that are known; 0 for a labelled class without a pixel, 1 where nothing is known."""
        if not self.area and self.value != BACKGROUND:
            return 0.0
        known = [part for part in (self.decided, self.stages, self.network) if part is not None]
        return sum(known) / len(known) if known else 1.0

    @property
    def cause(self) -> str:
        """What lowers it most, for a person."""
        if not self.area and self.value != BACKGROUND:
            return "is labelled and has no pixel"
        parts = {
            "its scores are undecided": self.decided,
            "the stages disagree": self.stages,
            "the network sees it otherwise": self.network,
        }
        known = {cause: part for cause, part in parts.items() if part is not None}
        return min(known, key=known.__getitem__) if known else "nothing is known of it"


@takes_arrays(may_be_empty=("classes",))
def region_confidences(
    mask: UInt8[np.ndarray, "h w"],
    classes: Integer[np.ndarray, " present"],
    *,
    scores: Float[np.ndarray, "channels h w"] | None = None,
    before: UInt8[np.ndarray, "h w"] | None = None,
    after: UInt8[np.ndarray, "h w"] | None = None,
    network: UInt8[np.ndarray, "h w"] | None = None,
) -> tuple[RegionConfidence, ...]:
    """The confidence of background and of each labelled class in one image's mask.

    Args:
        mask: 0 background, c + 1 class c of `classes`, 255 no label; such pixels are in no region.
        classes: indices of the classes that the image is labelled with.
        scores: of background and `classes`, 0 or more, before the last CRF; or None.
        before: label map of the response maps; or None.
        after: label map of what was made of them, such as by the random walk; or None.
        network: a segmentation network's label map of the same image; or None.

    Raises:
        ValueError: one is not as large as another, or the mask has a value that is neither labelled nor 255.
    """
    values = [BACKGROUND, *(int(c) + 1 for c in classes)]
    places = _places(values, mask)
    unknown = np.unique(mask[(places == len(values)) & (mask != IGNORE_INDEX)])
    if unknown.size:
        raise ValueError(f"expected the values {values} and {IGNORE_INDEX} in the mask, got {unknown[:8].tolist()}")
    areas = np.bincount(places.ravel(), minlength=len(values) + 1)[:-1]
    decided = _decided(scores, places, areas) if scores is not None else None
    agreed = None
    if before is not None and after is not None:
        agreed = _iou(_places(values, before), _places(values, after), len(values))
    seen = _iou(places, _places(values, network), len(values)) if network is not None else None
    return tuple(
        RegionConfidence(
            value=value,
            area=float(areas[place] / mask.size),
            decided=None if decided is None else float(decided[place]),
            stages=None if agreed is None else float(agreed[place]),
            network=None if seen is None else float(seen[place]),
        )
        for place, value in enumerate(values)
    )


def image_confidence(regions: Sequence[RegionConfidence]) -> float:
    """Mean over background and the labelled classes, in 0..1: it stands for the mean of their IoU."""
    return sum(region.confidence for region in regions) / len(regions)


def what_lowers(regions: Sequence[RegionConfidence], class_names: Sequence[str]) -> str:
    """The region that is trusted least and why, for a person; "" where all are at least `NOTHING_LOWERS`."""
    worst = min(regions, key=lambda region: region.confidence)
    if worst.confidence >= NOTHING_LOWERS:
        return ""
    name = "background" if worst.value == BACKGROUND else class_names[worst.value - 1]
    return f"{name}: {worst.cause}"


def _places(values: Sequence[int], labels: UInt8[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w"]:
    """Where each label stands in `values`; their number for one that does not."""
    places = np.full(256, len(values), np.uint8)
    places[list(values)] = np.arange(len(values))
    return places[labels]


def _decided(
    scores: Float[np.ndarray, "channels h w"],
    places: UInt8[np.ndarray, "h w"],
    areas: Integer[np.ndarray, " channels"],
) -> Float[np.ndarray, " channels"]:
    """Mean share of each region's own score in its pixels; 0 of a region without a pixel, or with no score at all."""
    own = np.take_along_axis(scores, np.minimum(places, len(scores) - 1)[None].astype(np.int64), 0)[0]
    total = scores.sum(0)
    share = np.divide(own, total, out=np.zeros(total.shape, np.float64), where=total > 0)
    sums = np.bincount(places.ravel(), weights=share.ravel(), minlength=len(areas) + 1)[:-1]
    return np.asarray(sums / np.maximum(areas, 1))


def _iou(
    one: UInt8[np.ndarray, "h w"], other: UInt8[np.ndarray, "h w"], channels: int
) -> Float[np.ndarray, " channels"]:
    """IoU of each of `channels` labels in two maps; 0 for one that neither has."""
    pairs = one.astype(np.int64).ravel() * (channels + 1) + other.ravel()
    counts = np.bincount(pairs, minlength=(channels + 1) ** 2).reshape(channels + 1, channels + 1)
    hits = np.diagonal(counts)
    union = counts.sum(0) + counts.sum(1) - hits
    return np.asarray((hits / np.maximum(union, 1))[:channels])
