"""Training crops: mask and image have one geometry, chance comes from the key, and bad masks are named."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from subcam.data.augmentation import Augmentation, draw_augmentation
from subcam.data.batches.mask_crops import SegmentationImages, augment_mask, only_masked, with_masks
from subcam.data.check import CheckedImages
from subcam.data.images import voc_palette, write_mask
from subcam.data.records import ImageSet, Record
from subcam.data.settings import AugmentationSettings
from subcam.errors import BadInputError

SETTINGS = AugmentationSettings(
    crop=48, scale_long_side=(30, 90), flip=0.5, brightness=0, contrast=0, saturation=0, hue=0
)


def slow_mask(mask: np.ndarray, drawn: Augmentation) -> np.ndarray:
    """Pixel by pixel: where does its centre lie in the mask?"""
    out = np.full((drawn.crop, drawn.crop), 255, np.uint8)
    top, left, height, width = drawn.taken
    for y in range(height):
        for x in range(width):
            seen = width - 1 - x if drawn.flip else x
            row = int((top + y + 0.5) * mask.shape[0] / drawn.scaled[0])
            column = int((left + seen + 0.5) * mask.shape[1] / drawn.scaled[1])
            out[drawn.placed[0] + y, drawn.placed[1] + x] = mask[row, column]
    return out


@pytest.mark.parametrize("seed", range(6))
def test_masks_are_cut_as_the_docstring_says(seed: int) -> None:
    rng = np.random.default_rng(seed)
    mask = rng.integers(0, 5, (37, 52)).astype(np.uint8)
    drawn = draw_augmentation(rng, (37, 52), SETTINGS)
    found = augment_mask(mask, drawn)
    assert found.shape == (48, 48)
    assert np.array_equal(found, slow_mask(mask, drawn))


def two_halves(folder: Path, *, height: int = 60, width: int = 80) -> ImageSet:
    """An image whose colour is its mask: four rectangles, so that a shift or a missing flip shows."""
    labels = np.zeros((height, width), np.uint8)
    labels[: height // 2, : width // 3] = 1
    labels[height // 3 :, width // 2 :] = 2
    labels[:10, -20:] = 255
    colours = np.array([[0, 0, 0], [250, 0, 0], [0, 250, 0]] + [[0, 0, 250]] * 253, np.uint8)
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(colours[labels]).save(folder / "image.png")
    write_mask(folder / "mask.png", labels, palette=voc_palette())
    record = Record(name="image", image=folder / "image.png", labels=(0, 1))
    return with_masks(
        ImageSet(class_names=("a", "b"), records=(record,), mask_values=()), lambda _: folder / "mask.png"
    )


def test_mask_and_image_have_one_geometry(tmp_path: Path) -> None:
    """The colour of each pixel that is not at a border says the label that the mask must have there."""
    images = SegmentationImages(two_halves(tmp_path), SETTINGS, seed=5, fill=(0, 0, 250))
    for epoch in range(12):
        crop, mask = images[epoch, 0]
        assert crop.dtype == mask.dtype == torch.uint8
        pure = (crop > 240).sum(0) == 1
        named = torch.where(pure, crop.argmax(0) + 1, 0)
        expected = torch.where(named == 3, 255, named)
        certain = (pure | (crop.sum(0) == 0)) & ((crop > 240) | (crop < 5)).all(0)
        assert certain.float().mean() > 0.8
        assert (mask[certain] == expected[certain]).float().mean() > 0.995


def test_outside_the_image_nothing_is_learned(tmp_path: Path) -> None:
    small = replace(SETTINGS, scale_long_side=(20, 20))
    images = SegmentationImages(two_halves(tmp_path), small, seed=5, fill=(9, 9, 9))
    crop, mask = images[0, 0]
    outside = (crop == 9).all(0)
    assert outside.sum() == 48 * 48 - 15 * 20
    assert (mask[outside] == 255).all()


def test_chance_is_settled_by_seed_epoch_and_index(toy_train: CheckedImages) -> None:
    images = SegmentationImages(toy_train.image_set, SETTINGS, seed=5, fill=(0, 0, 0))
    again = SegmentationImages(toy_train.image_set, SETTINGS, seed=5, fill=(0, 0, 0))
    other = SegmentationImages(toy_train.image_set, SETTINGS, seed=6, fill=(0, 0, 0))
    assert len(images) == 24
    np.random.seed(0)  # noqa: NPY002 - nothing global may matter
    for part, theirs in zip(images[3, 7], again[3, 7], strict=True):
        assert torch.equal(part, theirs)
    assert not torch.equal(images[3, 7][0], images[4, 7][0])
    assert not torch.equal(images[3, 7][0], other[3, 7][0])


def test_true_masks_are_read_through_the_sets_own_values(tmp_path: Path) -> None:
    """A stored 2 that means "not scored" is ignored, a stored 1 that means class 2 is 2."""
    given = two_halves(tmp_path)
    values = [-1] * 256
    values[0], values[1], values[2], values[255] = 0, 2, 255, 255
    whole = AugmentationSettings(
        crop=80, scale_long_side=(80, 80), flip=0, brightness=0, contrast=0, saturation=0, hue=0
    )
    _, mask = SegmentationImages(replace(given, mask_values=tuple(values)), whole, seed=0, fill=(0, 0, 0))[0, 0]
    assert set(mask.unique().tolist()) == {0, 2, 255}


def test_a_mask_of_another_size_or_value_is_named(tmp_path: Path) -> None:
    given = two_halves(tmp_path)
    write_mask(tmp_path / "mask.png", np.full((60, 80), 3, np.uint8), palette=voc_palette())
    images = SegmentationImages(given, SETTINGS, seed=0, fill=(0, 0, 0))
    with pytest.raises(BadInputError, match=r"mask\.png: expected the values 0 \(background\), 1\.\.2 .*got 3"):
        images[0, 0]
    write_mask(tmp_path / "mask.png", np.zeros((60, 81), np.uint8), palette=voc_palette())
    with pytest.raises(
        BadInputError, match=r"mask\.png: expected a mask as large as its image, 80 x 60 .* got 81 x 60"
    ):
        images[0, 0]
    (tmp_path / "mask.png").unlink()
    with pytest.raises(BadInputError, match=r"mask\.png: no such file"):
        images[0, 0]


def test_images_without_masks_are_left_out_or_refused(tmp_path: Path) -> None:
    given = two_halves(tmp_path)
    without = replace(given.records[0], name="other", mask=None)
    both = replace(given, records=(*given.records, without))
    assert only_masked(both) == given
    with pytest.raises(BadInputError, match=r"image\.png: expected a mask to learn from, got none"):
        SegmentationImages(both, SETTINGS, seed=0, fill=(0, 0, 0))
    with pytest.raises(BadInputError, match="expected ground-truth masks of the training images, got none of 1"):
        only_masked(replace(given, records=(without,)))
