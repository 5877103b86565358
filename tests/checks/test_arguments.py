"""Arguments of the pure functions: arrays of all libraries stand for each other; the rest is refused by name."""

from collections.abc import Iterator
from typing import Any

import jaxtyping
import numpy as np
import pytest
import torch
from PIL import Image
from tests.checks.hostile_arguments import complaints_of_all, complaints_of_other_functions

from subcam import (
    aggregate_response_maps,
    background_score,
    confusion_matrix,
    dense_crf,
    dense_crf_torch,
    discover_subcategories,
    read_folder,
    response_maps,
    scores,
    split_shares,
)
from subcam.data import overlay_mask

rng = np.random.default_rng(0)
IMAGE = rng.integers(0, 256, (9, 11, 3), dtype=np.uint8)
SCORES = rng.random((2, 9, 11), dtype=np.float32)
MASK = rng.integers(0, 3, (9, 11), dtype=np.uint8)
FEATURES, LABELS = rng.random((12, 3)), (rng.random((12, 2)) > 0.3).astype(np.uint8)


@pytest.fixture
def as_a_user() -> Iterator[None]:
    """Without the tests' own checks of types, which would answer first."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.mark.filterwarnings("ignore")
def test_every_argument_of_every_pure_function(as_a_user: None) -> None:
    assert complaints_of_all() == []


def test_every_argument_of_the_functions_that_touch_files(as_a_user: None) -> None:
    assert complaints_of_other_functions() == []


def test_a_text_is_no_list_of_names() -> None:
    with pytest.raises(TypeError, match=r"^classes: expected several, in a list or tuple, got str 'cat'$"):
        read_folder("nowhere", classes="cat")  # type: ignore[arg-type]


@pytest.mark.parametrize("image", [IMAGE, torch.from_numpy(IMAGE), Image.fromarray(IMAGE), IMAGE.tolist()], ids=type)
@pytest.mark.parametrize("probabilities", [SCORES, torch.from_numpy(SCORES), list(torch.from_numpy(SCORES))], ids=type)
def test_an_image_and_its_scores_of_any_library(image: Any, probabilities: Any) -> None:
    assert np.array_equal(dense_crf(image, probabilities, iterations=2), dense_crf(IMAGE, SCORES, iterations=2))


def test_what_an_image_of_pil_is() -> None:
    grey = Image.fromarray(IMAGE[..., 0])
    assert np.array_equal(overlay_mask(grey, MASK), overlay_mask(np.repeat(IMAGE[..., :1], 3, axis=2), MASK))
    indexed = Image.fromarray(MASK, "P")
    indexed.putpalette([9, 9, 9, 200, 0, 0, 0, 200, 0])
    assert np.array_equal(overlay_mask(IMAGE, indexed), overlay_mask(IMAGE, MASK))
    assert np.array_equal(overlay_mask(IMAGE, MASK.astype(np.int64)), overlay_mask(IMAGE, MASK))


def test_masks_of_any_kind_are_counted_alike() -> None:
    counts = confusion_matrix(MASK, MASK, num_classes=3)
    assert counts.trace() == MASK.size
    for other in (
        torch.from_numpy(MASK),
        MASK.tolist(),
        MASK.astype(float),
        Image.fromarray(MASK),
        MASK.astype(np.int16),
    ):
        assert np.array_equal(confusion_matrix(other, MASK, num_classes=3), counts)
        assert np.array_equal(confusion_matrix(MASK, other, num_classes=3), counts)
    both = confusion_matrix(MASK > 0, (MASK > 0).astype(np.uint8), num_classes=2)
    assert both.tolist() == [[(MASK == 0).sum(), 0], [0, (MASK > 0).sum()]]
    assert scores(torch.from_numpy(counts)).miou == 1
    with pytest.raises(ValueError, match=r"^prediction: expected whole numbers, got float64; convert it first$"):
        confusion_matrix(MASK + 0.5, MASK, num_classes=3)


def test_features_of_any_library_are_clustered_alike() -> None:
    expected = discover_subcategories(FEATURES, LABELS, num_subcategories=2)
    pairs = (torch.from_numpy(FEATURES), torch.from_numpy(LABELS)), (FEATURES.tolist(), (LABELS > 0).tolist())
    for features, labels in (
        *pairs,
        (FEATURES, LABELS.astype(float)),
        (torch.tensor(FEATURES, requires_grad=True), LABELS),
    ):
        found = discover_subcategories(features, labels, num_subcategories=2)
        assert np.array_equal(found.assignments, expected.assignments)
    with pytest.raises(ValueError, match="features of 1 images are not finite, the first is row 3"):
        discover_subcategories(np.where(np.arange(12)[:, None] == 3, np.nan, FEATURES), LABELS)


def test_numpy_stands_for_torch() -> None:
    features, weights = rng.random((4, 5, 6), dtype=np.float32), rng.random((2, 4), dtype=np.float32)
    expected = response_maps(torch.from_numpy(features), torch.from_numpy(weights))
    assert torch.equal(response_maps(features, weights), expected)
    assert torch.equal(response_maps(features, weights.tolist()), expected)
    assert response_maps(features, weights.astype(np.float64)).dtype == torch.float64
    (marginals,) = dense_crf_torch([IMAGE], [SCORES])
    assert torch.equal(marginals, dense_crf_torch([torch.from_numpy(IMAGE)], [torch.from_numpy(SCORES)])[0])
    bfloat = torch.from_numpy(SCORES).bfloat16()
    assert np.array_equal(dense_crf(IMAGE, bfloat, iterations=1), dense_crf(IMAGE, bfloat.float(), iterations=1))


# Values out of range


def test_negative_maps_are_refused_and_not_turned_into_ones_everywhere() -> None:
    maps = torch.full((2, 3, 4), -1.0)
    with pytest.raises(
        ValueError, match=r"^maps\[0\]: expected finite maps of at least 0, got -1\.\.-1; take their positive"
    ):
        aggregate_response_maps([maps], flips=(False,), size=(6, 8))
    for wrong in (torch.nan, torch.inf):
        with pytest.raises(ValueError, match=r"^maps\[1\]: expected finite maps"):
            aggregate_response_maps([maps.abs(), maps.abs() * wrong], flips=(False, False), size=(6, 8))
    assert aggregate_response_maps([maps.clamp(min=0)], flips=(False,), size=(6, 8)).max() == 0


@pytest.mark.parametrize("values", [1.2, -0.1, float("nan")])
def test_responses_outside_of_0_to_1(values: float) -> None:
    with pytest.raises(ValueError, match=r"^maps: expected responses in 0\.\.1, got"):
        background_score(torch.full((2, 3, 4), values), 4.0)
    with pytest.raises(ValueError, match=r"^response: expected values in 0\.\.1, got"):
        split_shares(np.full((3, 4), values), np.zeros((3, 4, 3)))


def test_scores_above_1_are_refused_and_do_not_swallow_the_image() -> None:
    with pytest.raises(
        ValueError, match=r"expected probabilities of at most 1, got 1\.5\. Divide them by their maximum"
    ):
        dense_crf(IMAGE, np.full_like(SCORES, 1.5))
    with pytest.raises(
        ValueError, match=r"expected probabilities of at most 1 for image 0 of the batch, got 198 above\."
    ):
        dense_crf_torch([torch.from_numpy(IMAGE)], [torch.full((2, 9, 11), 7.0)])
    assert np.isfinite(dense_crf(IMAGE, np.minimum(SCORES, 1) + np.float32(5e-4))).all()
