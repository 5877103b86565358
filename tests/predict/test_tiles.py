"""Probabilities over scales and flips, and tiles: against a slow version in NumPy, and tiles against no tiles."""

import itertools
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates
from tests.predict.saved_network import save_tiny_network
from torch import Tensor, nn
from torchvision.transforms.v2 import functional as tv

from subcam.errors import SettingsError
from subcam.networks.segmenter import SegmentationNetwork, upsample_logits
from subcam.predict.settings import DEEPLAB_CRF, InferenceSettings
from subcam.predict.tiles import probability_bands, segment_labels, segment_probabilities, tile_spans, tile_windows

STRIDE = 8


class CellNetwork(nn.Module):
    """Means of 8 x 8 pixels and a 3 x 3 convolution: a pixel's logits depend on pixels at most 20 away."""

    stride = STRIDE

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.seen: list[tuple[int, ...]] = []

    def forward(self, images: Tensor) -> Tensor:
        self.seen.append(tuple(images.shape))
        height, width = images.shape[2:]
        padded = nn.functional.pad(images.float(), (0, -width % STRIDE, 0, -height % STRIDE))
        return self.conv(nn.functional.avg_pool2d(padded, STRIDE) / 40)


@pytest.fixture
def network() -> CellNetwork:
    return CellNetwork().eval().requires_grad_(False)


def made_images(count: int, height: int, width: int) -> Tensor:
    """Patches of colour, so that neighbouring cells differ."""
    rng = np.random.default_rng(5)
    small = rng.integers(0, 256, (count, 3, -(-height // 12), -(-width // 12)), dtype=np.uint8)
    return torch.from_numpy(small.repeat(12, 2).repeat(12, 3)[:, :, :height, :width].copy())


def slow_probabilities(network: nn.Module, image: Tensor, scales: tuple[float, ...], flip: bool) -> np.ndarray:
    """One image, one look at a time; cells are put on pixels by SciPy, sizes are changed by torchvision."""
    height, width = image.shape[1:]
    looks = []
    for scale in scales:
        size = [round(height * scale), round(width * scale)]
        for mirrored in (False, True) if flip else (False,):
            look = tv.resize(image[None].float(), size, antialias=True)
            look = look.flip(-1) if mirrored else look
            logits = network(look)[0].numpy()
            rows, columns = (((np.arange(side) + 0.5) / STRIDE - 0.5) for side in size)
            places = np.meshgrid(rows, columns, indexing="ij")
            full = np.stack([map_coordinates(channel, places, order=1, mode="nearest") for channel in logits])
            full = full[..., ::-1].copy() if mirrored else full
            back = tv.resize(torch.from_numpy(full), [height, width], antialias=True).double().numpy()
            exponentials = np.exp(back - back.max(0))
            looks.append(exponentials / exponentials.sum(0))
    return np.mean(looks, axis=0)


@pytest.mark.parametrize("scales", [(1.0,), (0.5, 1.0, 1.75)])
@pytest.mark.parametrize("flip", [False, True])
def test_equal_to_one_look_at_a_time(network: CellNetwork, scales: tuple[float, ...], flip: bool) -> None:
    images = made_images(2, 45, 67)
    found = segment_probabilities(network, images, settings=InferenceSettings(scales=scales, flip=flip))
    assert found.dtype == torch.float32
    expected = np.stack([slow_probabilities(network, image, scales, flip) for image in images])
    np.testing.assert_allclose(found.numpy(), expected, atol=2e-5)
    np.testing.assert_allclose(found.sum(1).numpy(), 1, atol=1e-5)
    labels = segment_labels(network, images, settings=InferenceSettings(scales=scales, flip=flip))
    assert labels.dtype == torch.uint8
    assert (labels == found.argmax(1)).all()
    assert len(labels.unique()) > 1


def test_with_flips_a_mirrored_image_has_the_mirrored_answer(network: CellNetwork) -> None:
    images = made_images(1, 45, 67)
    for flip, same in ((True, True), (False, False)):
        settings = InferenceSettings(flip=flip, scales=(1.0, 0.75))
        plain, mirrored = (
            segment_probabilities(network, each, settings=settings) for each in (images, images.flip(-1))
        )
        assert torch.allclose(plain, mirrored.flip(-1), atol=1e-6) == same


@pytest.mark.parametrize("size", [(300, 404), (200, 500), (510, 150)])
@pytest.mark.parametrize("scales", [(1.0,), (0.5, 1.0)])
def test_tiles_leave_no_seam(network: CellNetwork, size: tuple[int, int], scales: tuple[float, ...]) -> None:
    images = made_images(2, *size)
    reach = 20 / min(scales)
    tiled = InferenceSettings(scales=scales, flip=False, tile=384, overlap=math.ceil(4 * reach))
    whole = segment_probabilities(network, images, settings=replace(tiled, tile=0, overlap=0))
    network.seen.clear()
    found = segment_probabilities(network, images, settings=tiled)
    assert len(network.seen) > len(scales), "it was not tiled"
    assert max(max(shape[2:]) for shape in network.seen) <= tiled.tile
    np.testing.assert_allclose(found.numpy(), whole.numpy(), atol=1e-5)
    np.testing.assert_array_equal(segment_labels(network, images, settings=tiled), whole.argmax(1))
    cut = segment_probabilities(network, images, settings=replace(tiled, tile=128, overlap=0))
    assert (cut - whole).abs().max() > 0.01, "without an overlap there are seams, else this shows nothing"


def test_tiles_with_flips_blend_smoothly(network: CellNetwork) -> None:
    """Mirrored tiles have their cells elsewhere than the mirrored image; the difference is small and has no edge."""
    images = made_images(1, 300, 401)
    settings = InferenceSettings(flip=True, tile=192, overlap=96)
    whole = segment_probabilities(network, images, settings=replace(settings, tile=0))
    assert (segment_probabilities(network, images, settings=settings) - whole).abs().mean() < 0.02


def test_a_large_image_is_never_held_as_a_whole(network: CellNetwork) -> None:
    images = made_images(1, 1000, 200)
    settings = InferenceSettings(tile=128, overlap=64)
    rows = [(top, len(band[0, 0])) for top, band in probability_bands(network, images, settings=settings)]
    assert max(count for _, count in rows) <= 128
    assert [top for top, _ in rows] == np.cumsum([0, *(count for _, count in rows)])[:-1].tolist()
    assert sum(count for _, count in rows) == 1000


@pytest.mark.parametrize("length", [100, 129, 160, 161, 200, 255, 257, 1000])
@pytest.mark.parametrize("overlap", [0, 32, 50, 64])
def test_tiles_cover_a_side(length: int, overlap: int) -> None:
    spans = tile_spans(length, 128, overlap=overlap, multiple=32)
    assert spans[0][0] == 0
    assert spans[-1][1] == length
    assert all(start % 32 == 0 and end - start <= 128 for start, end in spans)
    for (start, end), (after, after_end) in itertools.pairwise(spans):
        assert start < after < after_end
        assert end - after >= overlap
        assert end < after_end
    total = np.zeros(length)
    for (start, end), window in zip(spans, tile_windows(spans), strict=True):
        assert window.min() >= 0
        total[start:end] += window.numpy()
    np.testing.assert_allclose(total, 1, atol=1e-6)


def test_windows_pass_over_in_the_middle_of_what_tiles_share() -> None:
    first, second = (window.numpy() for window in tile_windows([(0, 12), (4, 16)]))
    rise = [0.5 - 0.5 * math.cos(math.pi * step) for step in (0.125, 0.375, 0.625, 0.875)]
    np.testing.assert_allclose(second, [0, 0, *rise, 1, 1, 1, 1, 1, 1], atol=1e-7)
    np.testing.assert_allclose(first, second[::-1], atol=1e-7)


def test_the_real_network(tmp_path: Path) -> None:
    network = SegmentationNetwork.load(save_tiny_network(tmp_path)).eval()
    images = made_images(2, 61, 83)
    with torch.inference_mode():
        logits = upsample_logits(network(images), (61, 83), stride=network.stride)
    found = segment_probabilities(network, images)
    np.testing.assert_allclose(found.numpy(), logits.softmax(1).numpy(), atol=1e-5)
    tiled = segment_probabilities(network, images, settings=InferenceSettings(tile=48, overlap=16, scales=(0.5, 1.25)))
    np.testing.assert_allclose(tiled.sum(1).numpy(), 1, atol=1e-5)
    assert segment_labels(network, made_images(1, 1, 1)).shape == (1, 1, 1)


def test_settings_that_cannot_be(network: CellNetwork) -> None:
    for wrong, said in (
        ({"scales": ()}, "1 to 100 entries"),
        ({"scales": (1.0, -1.0)}, r"from 0\.01"),
        ({"scales": (math.inf,)}, "to 100, got"),
        ({"batch_size": 0}, "batch_size: expected"),
        ({"tile": 100, "overlap": 51}, "at most half of the tile"),
        ({"tile": -1, "overlap": 0}, "tile: expected a whole number from 0"),
    ):
        with pytest.raises(SettingsError, match=said):
            InferenceSettings(**wrong)
    with pytest.raises(SettingsError, match="at least 32 pixels larger than their overlap"):
        segment_labels(network, made_images(1, 90, 90), settings=InferenceSettings(tile=48, overlap=24))
    assert InferenceSettings().crf_settings is DEEPLAB_CRF
