"""Crops and label maps of AffinityNet: the maps move as the image does, and follow rules written out plainly."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tests.refine.made_maps import first_images

from subcam.affinity.marginals import CRFMarginals, marginals_path, write_marginals
from subcam.affinity.training_data import AffinityImages, apply_geometry
from subcam.data.augmentation import Augmentation, apply_augmentation, draw_augmentation
from subcam.data.check import CheckedImages
from subcam.data.images import read_image
from subcam.data.records import IGNORE_INDEX, ImageSet
from subcam.data.settings import AugmentationSettings

PLAIN = {"brightness": 0.0, "contrast": 0.0, "saturation": 0.0, "hue": 0.0}


def coarse_maps(rng: np.random.Generator, channels: int, height: int, width: int) -> np.ndarray:
    blocks = rng.integers(0, 256, (channels, 5, 6)).astype(np.uint8)
    resized = [Image.fromarray(block).resize((width, height), Image.Resampling.NEAREST) for block in blocks]
    return np.stack([np.asarray(one) for one in resized])


@pytest.mark.parametrize("seed", range(12))
def test_maps_move_as_the_image_does(seed: int) -> None:
    """The maps as the colours of an image: the same bytes, whether it is scaled up, down, cut, placed or flipped."""
    rng = np.random.default_rng(seed)
    height, width = rng.integers(20, 90, 2).tolist()
    settings = AugmentationSettings(crop=56, scale_long_side=(30, 120), resampling="bilinear", **PLAIN)
    drawn = draw_augmentation(rng, (height, width), settings)
    maps = coarse_maps(rng, 3, height, width)
    crop = apply_augmentation(Image.fromarray(np.ascontiguousarray(maps.transpose(1, 2, 0))), drawn, fill=(0, 0, 0))
    found = apply_geometry(maps, drawn)
    assert found.dtype == np.float32
    assert (found == crop.numpy() / np.float32(255)).all()


def by_definition(maps: np.ndarray, drawn: Augmentation) -> np.ndarray:
    """Each pixel of the crop as a mean of the map under a triangle, as wide as a pixel of the coarser of the two."""
    out = np.zeros((len(maps), drawn.crop, drawn.crop))
    top, left, height, width = drawn.taken

    def weights(position: int, size: int, scaled: int) -> np.ndarray:
        step = size / scaled
        centre, reach = (position + 0.5) * step, max(step, 1.0)
        triangle = np.maximum(0, 1 - np.abs(np.arange(size) + 0.5 - centre) / reach)
        return triangle / triangle.sum()

    for y in range(height):
        rows = weights(top + y, maps.shape[1], drawn.scaled[0])
        for x in range(width):
            columns = weights(left + x, maps.shape[2], drawn.scaled[1])
            across = width - 1 - x if drawn.flip else x
            out[:, drawn.placed[0] + y, drawn.placed[1] + across] = (maps * rows[:, None] * columns).sum((1, 2)) / 255
    return out


@pytest.mark.parametrize(
    ("scaled", "taken", "placed", "flip"),
    [
        ((33, 41), (3, 9, 24, 24), (0, 0), False),
        ((33, 41), (3, 9, 24, 24), (0, 0), True),
        ((62, 77), (30, 50, 24, 24), (0, 0), True),
        ((13, 16), (0, 0, 13, 16), (11, 2), True),
        ((16, 50), (0, 26, 16, 24), (5, 0), False),
        ((1, 3), (0, 0, 1, 3), (23, 7), False),
    ],
)
def test_maps_are_moved_by_definition(
    scaled: tuple[int, int], taken: tuple[int, int, int, int], placed: tuple[int, int], *, flip: bool
) -> None:
    maps = coarse_maps(np.random.default_rng(0), 2, 33, 41)
    drawn = Augmentation(crop=24, scaled=scaled, taken=taken, placed=placed, flip=flip, jitter=(), resampling="bicubic")
    # Pillow rounds to bytes after each of its two passes.
    np.testing.assert_allclose(apply_geometry(maps, drawn), by_definition(maps, drawn), rtol=0, atol=1.2 / 255)


# The data set


@pytest.fixture(scope="module")
def image_set(toy_train: CheckedImages) -> ImageSet:
    return first_images(toy_train, 3)


@pytest.fixture(scope="module")
def marginals(image_set: ImageSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """For each of the images a background and as many classes as it has, in blocks of changing order."""
    folder = tmp_path_factory.mktemp("marginals")
    rng = np.random.default_rng(1)
    for record in image_set.records:
        low, high = (coarse_maps(rng, 1 + len(record.labels), 48, 48) for _ in range(2))
        write_marginals(marginals_path(folder, record.name), CRFMarginals(low_alpha=low, high_alpha=high))
    return folder


@pytest.fixture
def images(image_set: ImageSet, marginals: Path) -> Callable[..., AffinityImages]:
    def images(*, seed: int = 5, **changes: Any) -> AffinityImages:
        augmentation = replace(AugmentationSettings(crop=80, scale_long_side=(40, 100)), **changes)
        return AffinityImages(image_set.records, marginals, augmentation, seed=seed, fill=(9, 8, 7))

    return images


def label_of_cell(low: np.ndarray, high: np.ndarray) -> int:
    """The rule of affinity labels for one cell's mean scores, [channels] each."""
    if max(low.max(), high.max()) < 1e-5:
        return IGNORE_INDEX
    if high.argmax() == 0:
        return 0
    return int(low.argmax()) or IGNORE_INDEX


def test_label_map_by_hand(images: Callable, image_set: ImageSet, marginals: Path) -> None:
    """At the image's own size: the marginals lie on a field of zeros where the image lies on the crop."""
    data = images(scale_long_side=(48, 48), **PLAIN)
    assert len(data) == len(image_set)
    kinds = set()
    for index, record in enumerate(image_set.records):
        crop, found = data[4, index]
        drawn = draw_augmentation(np.random.default_rng((5, 4, index)), (48, 48), data.augmentation)
        top, left = drawn.placed
        pixels = read_image(record.image)
        pixels = pixels[:, ::-1] if drawn.flip else pixels
        assert (crop.permute(1, 2, 0).numpy()[top : top + 48, left : left + 48] == pixels).all()
        assert crop[:, 0 if top else 79, 0].tolist() == [9, 8, 7]
        fields = []
        with np.load(marginals_path(marginals, record.name)) as stored:
            for name in ("low_alpha", "high_alpha"):
                field = np.zeros((1 + len(record.labels), 80, 80))
                field[:, top : top + 48, left : left + 48] = stored[name][:, :, :: -1 if drawn.flip else 1] / 255
                fields.append(field)
        for y, x in np.ndindex(10, 10):
            cells = [field[:, 8 * y : 8 * y + 8, 8 * x : 8 * x + 8].mean((1, 2)) for field in fields]
            assert found[y, x] == label_of_cell(*cells)
            kinds.add(int(found[y, x]))
    assert kinds >= {0, 1, IGNORE_INDEX}


def test_cells_beside_the_image_are_ignored(images: Callable) -> None:
    data = images()
    outside = 0
    for epoch, index in np.ndindex(8, 3):
        label = data[epoch, index][1].numpy()
        drawn = draw_augmentation(np.random.default_rng((5, epoch, index)), (48, 48), data.augmentation)
        seen = np.zeros((80, 80), bool)
        top, left = drawn.placed
        seen[top : top + drawn.taken[2], left : left + drawn.taken[3]] = True
        beside = ~seen.reshape(10, 8, 10, 8).any((1, 3))
        assert (label[beside] == IGNORE_INDEX).all()
        outside += beside.sum()
    assert outside > 100, "no crop left its image: nothing was tested"


def test_chance_comes_from_seed_epoch_and_index(images: Callable) -> None:
    def equal(one: tuple[torch.Tensor, torch.Tensor], other: tuple[torch.Tensor, torch.Tensor]) -> bool:
        return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))

    data = images()
    first = data[2, 1]
    assert [tuple(part.shape) for part in first] == [(3, 80, 80), (10, 10)]
    assert [part.dtype for part in first] == [torch.uint8, torch.uint8]
    np.random.default_rng().random()
    torch.rand(1)
    assert equal(images()[2, 1], first)
    assert not equal(data[3, 1], first)
    assert not equal(images(seed=6)[2, 1], first)
