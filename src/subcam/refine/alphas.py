"""Exponents of the background score (1 - max)^alpha, chosen without masks.

In: response maps and images, then the maps after the random walk. Out: the alphas of the sure regions, of the CRF and
of the walk, and the limits of confident positions, which are to prototypes what sure regions are to AffinityNet. A
threshold that parts maps and colours (`cam.threshold`) says how much of the images is object; all else follows from it.
Not in the paper.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from subcam.cam.threshold import alpha_of_threshold, threshold_of_alpha
from subcam.refine.variants import Auto, Variant

AFFINITYNETS_THRESHOLD = 0.2
AFFINITYNETS_LOW, AFFINITYNETS_HIGH = 4.0, 24.0
"""AffinityNet's paper cuts its maps at the one, and finds sure regions with the others."""

MOST_ALPHA = 1000.0


@dataclass(frozen=True, kw_only=True)
class AlphasOfMaps:
    """What the response maps of a data set say of its alphas.

    threshold: chosen without masks, in 0..1.
    area: share of the pixels whose response is above it, in the mean over images.
    images: how many were looked at.
    """

    threshold: float
    area: float
    images: int

    @property
    def crf(self) -> float:
        """The alpha at which a single class wins exactly where it is above the threshold."""
        return alpha_of(self.threshold)

    @property
    def low(self) -> float:
        """For sure objects: AffinityNet's 4, in proportion to how the thresholds' alphas differ."""
        return self._in_proportion(AFFINITYNETS_LOW)

    @property
    def high(self) -> float:
        """For sure background: AffinityNet's 24, likewise."""
        return self._in_proportion(AFFINITYNETS_HIGH)

    @property
    def object_above(self) -> float:
        """The response above which a single class is a sure object, by `low`: 0.276 where the threshold is 0.2."""
        return threshold_of_alpha(self.low)

    @property
    def context_below(self) -> float:
        """The response below which a position is sure background, by `high`: 0.094 where the threshold is 0.2."""
        return threshold_of_alpha(self.high)

    def _in_proportion(self, alpha: float) -> float:
        return min(alpha * self.crf / alpha_of_threshold(AFFINITYNETS_THRESHOLD), MOST_ALPHA)


@dataclass(frozen=True, kw_only=True)
class AlphaOfWalk:
    """What walked maps say of their alpha.

    alpha: the one that was chosen, of `alphas`.
    areas: for each of them, the share of the cells where a class is above the background, in the mean over images.
    """

    alpha: float
    alphas: tuple[float, ...]
    areas: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class MadeMasks:
    """What is written of pseudo masks: how many there are, which of them count, and the alphas that made them.

    walk_alpha: None where nothing walked.
    """

    images: int
    pseudo_mask: Variant
    crf_alpha: float
    walk_alpha: float | None = None


def alpha_of(threshold: float) -> float:
    """`alpha_of_threshold` of a threshold that was chosen, which may lie at an end of 0..1 where maps are all alike."""
    return alpha_of_threshold(min(max(threshold, 0.01), 0.99))


def settled(setting: float | Auto, chosen: float | None) -> float:
    """The number that a setting gives, or where it is "auto" the one that was chosen."""
    if not isinstance(setting, str):
        return setting
    assert chosen is not None, "the pipeline runs the stage that chooses before those that ask"
    return chosen


def alpha_text(setting: float | Auto, chosen: float | None) -> str:
    """An alpha and where it comes from, for a person; `chosen` is None where that is not known."""
    if not isinstance(setting, str):
        return f"{setting:g}"
    return "chosen without masks" if chosen is None else f"{chosen:.3g} (chosen without masks)"


def alpha_of_area(alphas: Sequence[float], areas: Sequence[float], area: float) -> float:
    """The alpha at which nearest to `area` is object, by the quotient of the two areas; the lowest of equals.

    A walk moves the borders of objects, and need not change how much of the images they take.

    Args:
        alphas: exponents of the background scores that walked.
        areas: of each the share of the cells where a class is above the background, in the mean over images.
        area: the share that is expected, as that of the maps above their threshold.

    Raises:
        ValueError: there is no alpha, or not an area for each.
    """
    if not alphas or len(alphas) != len(areas):
        raise ValueError(f"expected an area for each alpha and one or more, got {len(alphas)} and {len(areas)}")
    least = 1e-9  # where nothing is object
    order = np.argsort(alphas)
    distances = np.abs(np.log(np.maximum(areas, least)) - np.log(max(area, least)))[order]
    return float(alphas[order[int(distances.argmin())]])
