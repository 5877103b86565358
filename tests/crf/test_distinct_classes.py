"""Classes that score nothing anywhere are computed once, and all get their marginals."""

import sys

import numpy as np
import pytest
from tests.crf.direct_crf import plain_dense_crf, random_image, random_scores

from subcam.crf.dense_crf import DenseCRF, dense_crf, dense_crf_many
from subcam.crf.settings import CRFSettings

SMALL = CRFSettings(iterations=4, bilateral_sigma_xy=6, bilateral_sigma_rgb=40)


@pytest.mark.parametrize(
    ("absent", "sets"), [([0, 3], 1), ([1, 2, 4], 1), ([4, 5, 6], 1), ([2, 5], 2), (list(range(1, 7)), 1)]
)
def test_classes_without_a_score_stand_for_each_other(absent, sets):
    """Heavy kernels as well, where a softmax takes off the largest power of e; and scores that are clipped to 1e-5."""
    image, stacked = random_image(9, 11), [random_scores(7, 9, 11, seed) for seed in range(sets)]
    for scores in stacked:
        scores[absent] = random_scores(len(absent), 9, 11) * np.float32(1e-5)
    for model in (SMALL, CRFSettings(iterations=4, spatial_weight=90, bilateral_sigma_xy=6, bilateral_sigma_rgb=40)):
        for marginals, scores in zip(dense_crf_many(image, stacked, settings=model), stacked, strict=True):
            assert marginals.shape == scores.shape
            np.testing.assert_allclose(marginals, plain_dense_crf(image, scores, model), rtol=0, atol=2e-5)


def test_no_class_has_a_score():
    np.testing.assert_allclose(dense_crf(random_image(5, 6), np.zeros((4, 5, 6), np.float32)), 0.25, rtol=1e-6)


def test_classes_without_a_score_are_not_computed(monkeypatch):
    """Unless one set has a score of them, or there is something wrong about them."""
    module, counts = sys.modules[DenseCRF.__module__], []
    counted = module.infer_sets

    def infer_sets(score_sets, *arguments, **settings):
        counts.append(len(score_sets[0]))
        return counted(score_sets, *arguments, **settings)

    monkeypatch.setattr(module, "infer_sets", infer_sets)
    image, scores = random_image(8, 9), np.zeros((6, 8, 9), np.float32)
    scores[[0, 2]] = random_scores(2, 8, 9)
    other = scores.copy()
    other[5, 3, 3] = 2e-5
    dense_crf(image, scores)
    dense_crf(image, scores[:4])  # two of four
    dense_crf(image, scores[:3])  # one alone is as it is
    dense_crf_many(image, [scores, other])
    assert counts == [3, 3, 3, 4]
    scores[4, 7, 8] = -1e-6
    with pytest.raises(ValueError, match="class 4, row 7, column 8"):
        dense_crf(image, scores)
