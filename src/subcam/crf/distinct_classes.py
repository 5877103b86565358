"""Which classes the dense CRF has to compute: those that score nothing anywhere are one.

In: score sets of one image. Out: the classes to compute, and the way back to all of them. Classes of equal scores stay
equal in every iteration of the mean field, so that this changes no marginal.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float32

from subcam.crf.mean_field import SMALLEST


class DistinctClasses(NamedTuple):
    """Which classes are computed. Those that score nothing anywhere are equal, so that one stands for all of them.

    computed: by index, that one last. copies: how many classes the last one stands for. all: of each class, its place
    in `computed`.
    """

    computed: list[int]
    copies: int
    all: list[int]

    def of(self, scores: Float[np.ndarray, "cls h w"]) -> Float[np.ndarray, "computed h w"]:
        """The scores of the classes that are computed."""
        return scores if self.copies == 1 else scores[self.computed]

    def to_all(self, marginals: Float32[np.ndarray, "sets computed pixels"]) -> Float32[np.ndarray, "sets cls pixels"]:
        """The marginals of all classes, from those that were computed."""
        return marginals if self.copies == 1 else marginals[:, self.all]


def distinct_classes(score_sets: Sequence[np.ndarray], highest: Sequence[np.ndarray]) -> DistinctClasses:
    """Classes of no score above the clipped ones in any set become one, unless a negative score is to be found."""
    nowhere = np.all([most <= SMALLEST for most in highest], axis=0)
    indices = list(range(len(nowhere)))
    if nowhere.sum() < 2 or any(scores[nowhere].min() < 0 for scores in score_sets):
        return DistinctClasses(computed=indices, copies=1, all=indices)
    absent = np.flatnonzero(nowhere).tolist()
    computed = [*np.flatnonzero(~nowhere).tolist(), absent[0]]
    places = {index: place for place, index in enumerate(computed)}
    return DistinctClasses(
        computed=computed, copies=len(absent), all=[places.get(index, len(computed) - 1) for index in indices]
    )
