"""Pseudo masks from scores: by hand, and against a loop over pixels."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from subcam.data.records import IGNORE_INDEX
from subcam.refine.scores_and_masks import label_map, mask_path
from subcam.refine.variants import VARIANTS


def test_best_channel_by_hand() -> None:
    scores = np.array([[[0.5, 0.2, 0.3]], [[0.4, 0.6, 0.3]], [[0.1, 0.2, 0.4]]], np.float32)
    assert label_map(scores, np.array([4, 11], np.int16)).tolist() == [[0, 5, 12]]


def test_a_class_without_a_value_is_refused() -> None:
    scores = np.array([[[0.1]], [[0.9]]], np.float32)
    assert label_map(scores, np.array([253])).tolist() == [[254]]
    for number in (254, 300):  # 255 is not scored, and 301 would be 45
        with pytest.raises(ValueError, match=f"expected classes of 0..253, got {number}"):
            label_map(scores, np.array([number]))


def test_the_first_of_equals_wins() -> None:
    scores = np.array([[[0.5, 0.1]], [[0.5, 0.4]], [[0.5, 0.4]]], np.float32)
    assert label_map(scores, np.array([2, 7])).tolist() == [[0, 3]]


def test_too_close_is_ignored_where_asked() -> None:
    """Differences 0, 1/8 and 1/4 are exact in binary; the margin itself is far enough."""
    scores = np.array([[[0.5, 0.5, 0.5]], [[0.5, 0.625, 0.75]], [[0.125, 0.25, 0.25]]], np.float32)
    classes = np.array([0, 1])
    assert label_map(scores, classes, ignore_margin=0.125).tolist() == [[IGNORE_INDEX, 1, 1]]
    assert label_map(scores, classes, ignore_margin=0.2).tolist() == [[IGNORE_INDEX, IGNORE_INDEX, 1]]
    assert label_map(scores, classes).tolist() == [[0, 1, 1]]


@pytest.mark.parametrize("margin", [0.0, 0.5])
def test_without_a_class_all_is_background(margin: float) -> None:
    scores = np.zeros((1, 2, 3), np.float32)
    assert label_map(scores, np.zeros(0, np.int16), ignore_margin=margin).tolist() == [[0, 0, 0], [0, 0, 0]]


@given(st.integers(1, 5), st.integers(0, 2**32 - 1), st.sampled_from([0.0, 0.1, 0.3, 1.0]))
def test_equals_a_loop_over_pixels(channels: int, seed: int, margin: float) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 9, (channels, 3, 4)).astype(np.float32) / 8
    classes = np.sort(rng.choice(20, channels - 1, replace=False))
    found = label_map(scores, classes, ignore_margin=margin)
    for y, x in np.ndindex(3, 4):
        order = sorted(range(channels), key=lambda c: (-scores[c, y, x], c))
        expected = 0 if order[0] == 0 else classes[order[0] - 1] + 1
        if channels > 1 and scores[order[0], y, x] - scores[order[1], y, x] < margin:
            expected = IGNORE_INDEX
        assert found[y, x] == expected


def test_masks_of_variants_lie_apart(tmp_path: Path) -> None:
    paths = {mask_path(tmp_path, variant, "a/b") for variant in VARIANTS}
    assert len(paths) == 3
    assert all(path.name == "b.png" and path.parent.name == "a" for path in paths)
