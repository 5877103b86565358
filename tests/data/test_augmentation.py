"""Augmentation: against a slow way that resizes the whole image, against torchvision, and its own laws."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision.transforms import v2

from subcam.data.augmentation import (
    Augmentation,
    apply_augmentation,
    augment,
    draw_augmentation,
    jitter_colours,
    long_side_size,
    scaled_size,
)
from subcam.data.settings import AugmentationSettings
from subcam.errors import SettingsError

FILL = (124, 116, 104)
PLAIN = AugmentationSettings(crop=64, brightness=0, contrast=0, saturation=0, hue=0)


@pytest.fixture(scope="module")
def image() -> Image.Image:
    """An image with fine and coarse structure, 150 wide and 100 high."""
    rng = np.random.default_rng(5)
    coarse = Image.fromarray(rng.integers(0, 256, (10, 15, 3), dtype=np.uint8)).resize((150, 100))
    noise = rng.integers(-20, 21, (100, 150, 3))
    return Image.fromarray((np.asarray(coarse).astype(int) + noise).clip(0, 255).astype(np.uint8))


def slowly(image: Image.Image, drawn: Augmentation, fill: tuple[int, ...]) -> np.ndarray:
    """Resize the whole image, put it on a large canvas, cut the crop out of it, then flip what is not filling."""
    resampling = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}[drawn.resampling]
    whole = np.asarray(image.resize(drawn.scaled[::-1], resampling))
    top, left, height, width = drawn.taken
    part = whole[top : top + height, left : left + width]
    part = part[:, ::-1] if drawn.flip else part
    part = np.asarray(jitter_colours(Image.fromarray(np.ascontiguousarray(part)), drawn.jitter))
    crop = np.empty((drawn.crop, drawn.crop, 3), np.uint8)
    crop[:] = fill
    row, column = drawn.placed
    crop[row : row + height, column : column + width] = part
    return crop.transpose(2, 0, 1)


@pytest.mark.parametrize("resampling", ["bilinear", "bicubic"])
@pytest.mark.parametrize("scale", [(20, 60), (40, 120), (120, 300)])
def test_equal_to_resizing_the_whole_first(image: Image.Image, scale: tuple[int, int], resampling: Any) -> None:
    chosen = replace(PLAIN, scale_long_side=scale, resampling=resampling)
    for seed in range(20):
        drawn = draw_augmentation(np.random.default_rng(seed), (100, 150), chosen)
        got = apply_augmentation(image, drawn, fill=FILL).numpy()
        difference = np.abs(got.astype(int) - slowly(image, drawn, FILL))
        # Pillow keeps a region's corners as 32-bit floats, so that ties of its two roundings fall to either side;
        # a region that is off by 0.03 pixels already has a mean above 0.25
        assert difference.max() <= 2
        assert difference.mean() < 0.1


def test_equal_to_the_slow_way_with_jitter(image: Image.Image) -> None:
    chosen = AugmentationSettings(crop=64, scale_long_side=(40, 200))
    for seed in range(20):
        drawn = draw_augmentation(np.random.default_rng(seed), (100, 150), chosen)
        difference = np.abs(
            apply_augmentation(image, drawn, fill=FILL).numpy().astype(int) - slowly(image, drawn, FILL)
        )
        # one level of difference before the hue's 8-bit turn can be several after it, in few pixels
        assert difference.mean() < 0.02


@pytest.mark.parametrize("seed", range(8))
def test_jitter_is_torchvision_s(image: Image.Image, seed: int) -> None:
    """The same factors in the same order, taken out of torchvision's own draw."""
    torch.manual_seed(seed)
    theirs = v2.ColorJitter(0.3, 0.3, 0.3, 0.1)
    drawn = theirs.make_params([image])
    names = ("brightness", "contrast", "saturation", "hue")
    ours = tuple((names[place], drawn[f"{names[place]}_factor"]) for place in drawn["fn_idx"].tolist())
    expected = np.asarray(theirs.transform(image, drawn))
    np.testing.assert_array_equal(np.asarray(jitter_colours(image, ours)), expected)
    assert (expected != np.asarray(image)).any()


def test_draws_follow_the_settings() -> None:
    chosen = AugmentationSettings(crop=100, scale_long_side=(80, 120), flip=0.25)
    rng = np.random.default_rng(0)
    drawn = [draw_augmentation(rng, (300, 200), chosen) for _ in range(4000)]
    long_sides = np.array([draw.scaled[0] for draw in drawn])
    counts = np.bincount(long_sides, minlength=121)[80:]
    assert len(counts) == 41
    assert counts.min() > 50  # about 98 each: both ends are drawn, and none more often
    assert counts.max() < 150
    assert np.mean([draw.flip for draw in drawn]) == pytest.approx(0.25, abs=0.03)
    factors = {name: np.array([dict(draw.jitter)[name] for draw in drawn]) for name in ("brightness", "hue")}
    assert factors["brightness"].min() == pytest.approx(0.7, abs=0.01)
    assert factors["brightness"].max() == pytest.approx(1.3, abs=0.01)
    assert factors["brightness"].mean() == pytest.approx(1, abs=0.02)
    assert np.abs(factors["hue"]).max() == pytest.approx(0.1, abs=0.005)
    orders = {tuple(name for name, _ in draw.jitter) for draw in drawn}
    assert len(orders) == 24


def test_every_position_of_the_crop_is_drawn() -> None:
    chosen = replace(PLAIN, crop=4, scale_long_side=(6, 6))
    rng = np.random.default_rng(0)
    drawn = [draw_augmentation(rng, (6, 2), chosen) for _ in range(300)]
    assert {draw.taken for draw in drawn} == {(top, 0, 4, 2) for top in range(3)}
    assert {draw.placed for draw in drawn} == {(0, left) for left in range(3)}


def test_filling_is_neither_jittered_nor_elsewhere(image: Image.Image) -> None:
    chosen = AugmentationSettings(crop=64, scale_long_side=(32, 32))
    for seed in range(10):
        drawn = draw_augmentation(np.random.default_rng(seed), (100, 150), chosen)
        crop = apply_augmentation(image, drawn, fill=FILL).numpy()
        filled = (crop == np.array(FILL)[:, None, None]).all(0)
        inside = np.zeros((64, 64), bool)
        top, left = drawn.placed
        inside[top : top + drawn.scaled[0], left : left + drawn.scaled[1]] = True
        assert filled[~inside].all()
        assert filled[inside].mean() < 0.05


def test_flip_mirrors_the_part(image: Image.Image) -> None:
    drawn = replace(draw_augmentation(np.random.default_rng(1), (100, 150), replace(PLAIN, scale_long_side=(150, 150))))
    straight = apply_augmentation(image, replace(drawn, flip=False), fill=FILL)
    flipped = apply_augmentation(image, replace(drawn, flip=True), fill=FILL)
    assert torch.equal(straight, flipped.flip(-1))
    assert not torch.equal(straight, flipped)


def test_nothing_to_vary_gives_the_image(image: Image.Image) -> None:
    square = image.crop((0, 0, 64, 64))
    chosen = replace(PLAIN, scale_long_side=(64, 64), flip=0)
    got = augment(square, np.random.default_rng(0), chosen)
    np.testing.assert_array_equal(got.permute(1, 2, 0).numpy(), np.asarray(square))
    from_array = augment(np.asarray(square), np.random.default_rng(0), chosen)
    assert torch.equal(got, from_array)
    assert got.is_contiguous()


def test_augment_depends_on_the_generator_alone(image: Image.Image) -> None:
    chosen = AugmentationSettings(crop=32)
    first, second, other = (augment(image, np.random.default_rng(seed), chosen) for seed in (7, 7, 8))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


@given(
    height=st.integers(1, 3000),
    width=st.integers(1, 3000),
    low=st.integers(1, 700),
    more=st.integers(0, 300),
    crop=st.integers(1, 512),
    seed=st.integers(0, 2**32),
)
@settings(max_examples=300, deadline=None)
def test_a_part_lies_in_image_and_crop(height: int, width: int, low: int, more: int, crop: int, seed: int) -> None:
    chosen = AugmentationSettings(crop=crop, scale_long_side=(low, low + more))
    drawn = draw_augmentation(np.random.default_rng(seed), (height, width), chosen)
    assert low <= max(drawn.scaled) <= low + more
    assert min(drawn.scaled) >= 1
    top, left, part_height, part_width = drawn.taken
    assert part_height == min(crop, drawn.scaled[0])
    assert part_width == min(crop, drawn.scaled[1])
    assert 0 <= top <= drawn.scaled[0] - part_height
    assert 0 <= left <= drawn.scaled[1] - part_width
    assert 0 <= drawn.placed[0] <= crop - part_height
    assert 0 <= drawn.placed[1] <= crop - part_width


@given(height=st.integers(1, 60), width=st.integers(1, 60), long_side=st.integers(1, 99), seed=st.integers(0, 99))
@settings(max_examples=300, deadline=None)
def test_any_image_can_be_cropped(height: int, width: int, long_side: int, seed: int) -> None:
    chosen = replace(PLAIN, crop=16, scale_long_side=(long_side, long_side))
    image = np.full((height, width, 3), 200, np.uint8)
    crop = augment(image, np.random.default_rng(seed), chosen, fill=(7, 7, 7))
    assert set(crop.unique().tolist()) <= {7, 200}


def test_scaled_size_of_the_golden_maps(golden: Path) -> None:
    with np.load(golden / "cam.npz") as stored:
        for case in "ABC":
            height, width = stored[f"{case}_size"].tolist()
            got = [scaled_size(height, width, scale) for scale in stored["scales"].tolist()]
            assert got == [tuple(size) for size in stored[f"{case}_scaled_sizes"].tolist()]


def test_scaled_size_by_hand() -> None:
    assert scaled_size(75, 101, 1.5) == (112, 152)  # 112.5 and 151.5 go to the even neighbour
    assert scaled_size(1, 1, 0.25) == (1, 1)


@pytest.mark.parametrize(
    ("size", "expected"), [((100, 150), (200, 300)), ((150, 100), (300, 200)), ((7, 7), (300, 300))]
)
def test_long_side_size_by_hand(size: tuple[int, int], expected: tuple[int, int]) -> None:
    assert long_side_size(*size, 300) == expected


@pytest.mark.parametrize(
    "wrong",
    [
        {"crop": 0},
        {"scale_long_side": (0, 10)},
        {"scale_long_side": (20, 10)},
        {"flip": 1.5},
        {"hue": 0.6},
        {"contrast": -0.1},
    ],
)
def test_settings_without_sense_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match="expected"):
        AugmentationSettings(**wrong)
