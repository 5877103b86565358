"""Labels of a crop's cells are those of the places that its pixels come from."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from subcam.data.augmentation import apply_augmentation, draw_augmentation
from subcam.data.batches.training import TrainingImages
from subcam.data.check import CheckedImages
from subcam.data.settings import AugmentationSettings
from subcam.errors import SettingsError
from subcam.prototypes.crop_labels import PrototypeTargets, PrototypeTrainingImages, targets_of_crop

GRID = np.arange(12, dtype=np.int16).reshape(3, 4)
SIZE = (96, 128)
PLAIN = AugmentationSettings(crop=64, flip=0, brightness=0, contrast=0, saturation=0, hue=0)


@pytest.mark.parametrize("flip", [0.0, 1.0])
def test_cells_show_what_their_pixels_show(flip: float) -> None:
    """The image is its own label map: a colour a cell, fill 255; cells whose surroundings are of one colour count."""
    painted = np.kron(GRID, np.ones((32, 32))).astype(np.uint8)
    image = Image.fromarray(np.repeat(painted[:, :, None], 3, axis=2))
    settings = replace(PLAIN, scale_long_side=(48, 192), flip=flip)
    rng = np.random.default_rng(0)
    compared = set()
    for _ in range(60):
        drawn = draw_augmentation(rng, SIZE, settings)
        shown = targets_of_crop(GRID, drawn, cells=(8, 4))
        pixels = apply_augmentation(image, drawn, fill=(255, 255, 255))[0].numpy()
        for row in range(8):
            for column in range(4):
                y, x = row * 8 + 4, column * 16 + 8
                around = np.unique(pixels[y - 3 : y + 3, x - 3 : x + 3])
                if len(around) == 1:
                    expected = -1 if around[0] == 255 else around[0]
                    assert shown[row, column] == expected
                    compared.add(int(expected))
    assert compared == {-1, *range(12)}


def test_a_whole_image_keeps_its_grid() -> None:
    settings = replace(PLAIN, crop=128, scale_long_side=(128, 128))
    drawn = replace(draw_augmentation(np.random.default_rng(0), (128, 128), settings), placed=(0, 0))
    square = np.arange(16, dtype=np.int16).reshape(4, 4)
    np.testing.assert_array_equal(targets_of_crop(square, drawn, cells=(4, 4)), square)
    mirrored = targets_of_crop(square, replace(drawn, flip=True), cells=(4, 4))
    np.testing.assert_array_equal(mirrored, square[:, ::-1])


@pytest.fixture
def images(toy_train: CheckedImages) -> TrainingImages:
    return TrainingImages(toy_train.image_set.records, toy_train.image_set.labels, PLAIN, seed=5)


def targets(checked: CheckedImages) -> PrototypeTargets:
    rng = np.random.default_rng(0)
    grids = tuple(rng.integers(-1, 300, (6, 6)).astype(np.int16) for _ in checked.sizes)
    return PrototypeTargets(grids=grids, sizes=checked.sizes)


def test_an_image_comes_with_its_labels_and_those_of_its_cells(
    images: TrainingImages, toy_train: CheckedImages
) -> None:
    crops = PrototypeTrainingImages(images, targets(toy_train), cells=(8, 8))
    assert (len(crops), crops.seed) == (len(images), 5)
    for key in ((0, 3), (2, 0)):
        crop, labels = crops[key]
        expected_crop, expected = images[key]
        assert torch.equal(crop, expected_crop)
        assert labels[: len(expected)].tolist() == expected.tolist()
        drawn = draw_augmentation(np.random.default_rng((5, *key)), toy_train.sizes[key[1]], PLAIN)
        cells = targets_of_crop(crops.targets.grids[key[1]], drawn, cells=(8, 8))
        assert labels[len(expected) :].tolist() == cells.flatten().tolist()


def test_each_image_needs_its_grid(images: TrainingImages, toy_train: CheckedImages) -> None:
    some = targets(toy_train)
    with pytest.raises(SettingsError, match="expected one grid of prototype labels an image, got 3 for 24 images"):
        PrototypeTrainingImages(images, replace(some, grids=some.grids[:3]), cells=(8, 8))
