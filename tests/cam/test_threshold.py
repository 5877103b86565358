"""A background threshold without masks: hand cases, a slow version pixel by pixel, invariances, known objects."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter

from subcam.cam.map_files import ResponseMaps, maps_path, write_response_maps
from subcam.cam.threshold import (
    THRESHOLDS,
    SplitShares,
    alpha_of_threshold,
    cell_colours,
    choose_threshold,
    explained_share,
    split_shares,
    threshold_of_alpha,
    threshold_of_maps,
)
from subcam.data.readers.toy import draw_toy
from subcam.data.records import Record
from subcam.data.settings import ToySettings
from subcam.errors import SettingsError
from subcam.metrics.threshold_sweep import ThresholdSweep


def made_image(seed: int, *, edge: float = 0.5, size: int = 40) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A response that falls off from a centre, colours that change where it is `edge`, and the object's mask."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size] - size * rng.uniform(0.35, 0.65, 2)[:, None, None]
    response = np.exp(-(x**2 + y**2) / (2 * (0.2 * size) ** 2)).astype(np.float32)
    mask = response > edge
    colours = np.where(mask[..., None], rng.uniform(0, 255, 3), rng.uniform(0, 255, 3))
    return response, (colours + rng.normal(scale=20, size=(size, size, 3))).astype(np.float32), mask


def slow_share(values: np.ndarray, front: np.ndarray) -> float:
    """1 - (variance inside the groups) / (variance), pixel by pixel."""
    if front.all() or not front.any():
        return 0.0
    inside = sum(((values[group] - values[group].mean(0)) ** 2).sum() for group in (front, ~front))
    return float(1 - inside / ((values - values.mean(0)) ** 2).sum())


def test_four_pixels_by_hand() -> None:
    """Responses 0, 0, 0.5, 1 (mean 3/8, sum of squares 11/16). Above 0.4: (0, 0 | 0.5, 1), inside 1/8."""
    response = np.array([[0.0], [0.0], [0.5], [1.0]])
    level = np.searchsorted([0.0, 0.4, 0.5, 1.0], response[:, 0], side="left")
    share = explained_share(response, level, num_thresholds=4)
    np.testing.assert_allclose(share, [1 - 0.125 / 0.6875, 1 - 0.125 / 0.6875, 1 - (1 / 6) / 0.6875, 0])


@pytest.mark.parametrize("seed", range(4))
def test_shares_are_those_of_the_slow_version(seed: int) -> None:
    response, colours, _ = made_image(seed)
    found = split_shares(response, colours)
    for i in range(0, 101, 7):
        front = response.ravel() > THRESHOLDS[i]
        assert found.response[i] == pytest.approx(slow_share(response.reshape(-1, 1).astype(float), front), abs=1e-9)
        assert found.colour[i] == pytest.approx(slow_share(colours.reshape(-1, 3).astype(float), front), abs=1e-9)


def test_a_pixel_at_the_threshold_is_background() -> None:
    response = np.array([[0.25, 0.5, 0.75]])
    shares = split_shares(response, np.array([[[0.0] * 3, [0.0] * 3, [9.0] * 3]]), thresholds=np.array([0.25, 0.5]))
    assert shares.colour[1] == pytest.approx(1)
    assert shares.colour[0] == pytest.approx(0.25)


def test_moving_scaling_and_turning_colours_changes_nothing() -> None:
    response, colours, _ = made_image(0)
    rotation = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    first = split_shares(response, colours)
    for changed in (colours / 255, colours + 40, colours @ rotation, colours[::-1]):
        flipped = changed is not colours and changed.base is colours
        again = split_shares(response[::-1] if flipped else response, changed)
        np.testing.assert_allclose(again.colour, first.colour, atol=1e-6)
        np.testing.assert_allclose(again.response, first.response, atol=1e-6)


@pytest.mark.parametrize("edge", [0.25, 0.4, 0.55, 0.7])
def test_the_threshold_is_where_the_colours_change(edge: float) -> None:
    shares = [split_shares(*made_image(seed, edge=edge)[:2]) for seed in range(6)]
    assert choose_threshold(shares, num_classes=1).threshold == pytest.approx(edge, abs=0.06)


def test_flat_images_leave_it_to_the_responses() -> None:
    """Two levels of response, 0.2 and 0.8: every threshold from one to just below the other splits them."""
    response = np.full((10, 10), 0.2)
    response[3:7, 3:7] = 0.8
    grey = np.full((10, 10, 3), 128.0)
    found = choose_threshold([split_shares(response, grey)], num_classes=1)
    assert found.threshold == 0.2
    assert found.scores[20:80] == pytest.approx(np.ones(60))
    coloured = [*made_image(0, edge=0.6)[:2]]
    flat = split_shares(np.full((4, 4), 0.3), np.full((4, 4, 3), 7.0))
    both = choose_threshold([split_shares(*coloured), flat], num_classes=1)
    assert both.threshold == choose_threshold([split_shares(*coloured)], num_classes=1).threshold


def test_the_score_is_the_product_of_the_means() -> None:
    shares = [
        SplitShares(classes=(0,), response=np.array([0.2, 0.4]), colour=np.array([0.1, 0.3])),
        SplitShares(classes=(0, 1), response=np.array([0.6, 0.2]), colour=np.array([0.5, 0.1])),
    ]
    found = choose_threshold(shares, num_classes=3, thresholds=np.array([0.3, 0.6]))
    np.testing.assert_allclose(found.scores, [0.4 * 0.3**2, 0.3 * 0.2**2])
    assert (found.threshold, found.images) == (0.3, 2)
    assert found.by_class == (0.3, 0.3, 0.3)
    with pytest.raises(ValueError, match="images: expected one or more, got none"):
        choose_threshold([], num_classes=3)


def test_a_class_with_many_images_has_its_own_threshold_and_one_with_few_the_common_one() -> None:
    edges = {0: (0.3, 40), 1: (0.6, 40), 2: (0.8, 1)}
    shares = [
        split_shares(*made_image(seed, edge=edge)[:2], classes=(c,))
        for c, (edge, count) in edges.items()
        for seed in range(count)
    ]
    found = choose_threshold(shares, num_classes=4)
    assert found.by_class[0] == pytest.approx(0.3, abs=0.07)
    assert found.by_class[1] == pytest.approx(0.6, abs=0.07)
    assert abs(found.by_class[2] - found.threshold) < 0.1
    assert found.by_class[3] == found.threshold


def test_the_colours_of_a_cell_are_the_mean_of_its_pixels() -> None:
    image = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    expected = image.reshape(3, 2, 4, 2, 3).mean((1, 3))
    np.testing.assert_allclose(cell_colours(image, grid=(3, 4)), expected, rtol=1e-6)
    assert cell_colours(image[:5, :7], grid=(3, 4)).shape == (3, 4, 3)


@pytest.fixture
def stored(tmp_path: Path) -> Callable[..., list[Record]]:
    """Images and their maps as files; the last image has no class."""

    def write(count: int, *, edge: float = 0.5) -> list[Record]:
        records = []
        for index in range(count + 1):
            response, colours, _ = made_image(index, edge=edge)
            image = tmp_path / f"{index}.png"
            Image.fromarray(colours.clip(0, 255).astype(np.uint8)).save(image)
            maps = (255 * response[None]).round().astype(np.uint8)[: index < count]
            found = ResponseMaps(
                maps=maps,
                classes=np.zeros(len(maps), np.int16),
                subcategory_maps=np.zeros((len(maps), 0, *maps.shape[1:]), np.uint8),
                logits=np.zeros(1, np.float32),
                size=response.shape,
            )
            write_response_maps(maps_path(tmp_path, str(index)), found)
            # A mask that does not exist: opening it would be an error.
            labels = (0,) if index < count else ()
            records.append(Record(name=str(index), image=image, labels=labels, mask=tmp_path / "none.png"))
        return records

    return write


def test_stored_maps_and_images_give_the_threshold_without_their_masks(
    stored: Callable[..., list[Record]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = stored(6, edge=0.6)
    found = threshold_of_maps(records, tmp_path, num_classes=1)
    assert found.threshold == pytest.approx(0.6, abs=0.05)
    assert found.images == 6
    assert threshold_of_maps(records[::-1], tmp_path, num_classes=1).threshold == found.threshold
    monkeypatch.setattr("subcam.cam.threshold.MOST_IMAGES", 3)
    fewer = threshold_of_maps(records, tmp_path, num_classes=1)
    assert fewer.images == 3
    np.testing.assert_array_equal(fewer.scores, threshold_of_maps(records[:6:2], tmp_path, num_classes=1).scores)


@pytest.mark.parametrize("power", [0.5, 1.0, 2.0])
def test_on_generated_images_it_is_within_two_points_of_the_best_that_masks_choose(power: float) -> None:
    """Maps are blurred masks to a power, which moves the best threshold."""
    sweep, shares = ThresholdSweep(5), []
    for index in range(40):
        image, mask, objects = draw_toy(np.random.default_rng(index), ToySettings(second_object=0.0))
        (kind, _), *_ = objects
        blurred = gaussian_filter((mask > 0).astype(np.float32), 4)
        response = (blurred / blurred.max()) ** power
        sweep.add(response[None], np.array([kind]), mask)
        shares.append(split_shares(response, image.astype(np.float32), classes=(kind,)))
    best = sweep.best()
    assert best.threshold == pytest.approx(0.5**power, abs=0.15)
    assert sweep.at(choose_threshold(shares, num_classes=4).threshold).miou > best.scores.miou - 0.02


def test_images_without_a_class_cannot_be_split(stored: Callable[..., list[Record]], tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"no image has a label; give a number in the place of auto"):
        threshold_of_maps(stored(0), tmp_path, num_classes=1)


@pytest.mark.parametrize("threshold", [0.15, 0.36, 0.5, 0.8])
def test_alpha_puts_the_background_at_the_threshold(threshold: float) -> None:
    assert (1 - threshold) ** alpha_of_threshold(threshold) == pytest.approx(threshold)


def test_alpha_of_a_half_is_one_and_of_an_end_is_none() -> None:
    assert alpha_of_threshold(0.5) == 1
    for end in (0.0, 1.0):
        with pytest.raises(ValueError, match="between 0 and 1"):
            alpha_of_threshold(end)


@pytest.mark.parametrize("threshold", [1e-6, 0.094, 0.15, 0.5, 0.8, 1 - 1e-6])
def test_a_threshold_has_an_alpha_and_an_alpha_a_threshold(threshold: float) -> None:
    assert threshold_of_alpha(alpha_of_threshold(threshold)) == pytest.approx(threshold, rel=1e-9)


@pytest.mark.parametrize("alpha", [0.0, -1.0, np.inf, np.nan])
def test_an_exponent_without_a_threshold_is_refused(alpha: float) -> None:
    with pytest.raises(ValueError, match="an exponent above 0"):
        threshold_of_alpha(alpha)


def test_a_class_beyond_their_number_is_refused() -> None:
    shares = [split_shares(np.linspace(0, 1, 16).reshape(4, 4), np.ones((4, 4, 3)), classes=[1, 7])]
    assert len(choose_threshold(shares, num_classes=8).by_class) == 8
    with pytest.raises(ValueError, match="expected classes below num_classes = 7, got 7"):
        choose_threshold(shares, num_classes=7)
