"""The stage of the random walk: equal to a dense walk of scores pooled by hand, for any image, resumable."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tests.affinity.dense_walk import dense_affinity, dense_walk
from tests.stages.given import images_of, stage_at

from subcam.affinity.network import AffinityConfig, AffinityNetwork
from subcam.cam.map_files import ResponseMaps, maps_path, read_response_maps, write_response_maps
from subcam.data.images import read_image
from subcam.data.records import ImageSet, Record
from subcam.errors import BadInputError, SettingsError
from subcam.refine.walked_maps import WalkedMaps, read_walked, walked_path, write_walked
from subcam.runtime.devices import Device
from subcam.runtime.run_folder import RunFolder, Stage
from subcam.settings import RunSettings
from subcam.stages.context import compute
from subcam.stages.refine import random_walk as random_walk_module
from subcam.stages.settings.random_walk import WalkSettings

SETTINGS = WalkSettings(beta=4.0, log_steps=5, alphas=(1.0, 3.0))

IMAGES = {
    "two-classes": (57, 90, (0, 3)),
    "nobody-labelled-it": (64, 80, ()),
    "eight-cells-across": (40, 64, (2,)),
    "four-cells-down": (32, 96, (2,)),
    "one-pixel-wide": (50, 1, (1,)),
    "one-pixel": (1, 1, (1,)),
}
"""Height, width, labels. psa's rule joins no cells on grids under 5 x 9."""


@pytest.fixture(scope="module")
def given(tiny_run: RunSettings, device: Device, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Images of smooth colour, their response maps, and an AffinityNet with random weights."""
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    records = []
    for name, (height, width, labels) in IMAGES.items():
        blocks = rng.integers(0, 256, (6, 6, 3)).astype(np.uint8)
        Image.fromarray(blocks).resize((width, height), Image.Resampling.BICUBIC).save(folder / f"{name}.png")
        grid = (-(-height // 4), -(-width // 4))
        maps = ResponseMaps(
            maps=rng.integers(0, 256, (len(labels), *grid)).astype(np.uint8),
            classes=np.array(labels, np.int16),
            subcategory_maps=np.zeros((len(labels), 0, *grid), np.uint8),
            logits=np.zeros(4, np.float32),
            size=(height, width),
        )
        write_response_maps(maps_path(folder / "maps", name), maps)
        records.append(Record(name=name, image=folder / f"{name}.png", labels=labels))
    torch.manual_seed(0)
    AffinityNetwork(AffinityConfig(network=tiny_run.network)).save(folder / "model")
    image_set = ImageSet(class_names=("a", "b", "c", "d"), records=tuple(records), mask_values=(0,) * 256)
    return {
        "images": images_of(image_set),
        "maps": stage_at(folder / "maps"),
        "affinity": stage_at(folder / "model"),
        "device": device,
    }


@pytest.fixture
def run(given: dict[str, Any]) -> Callable[..., Stage]:
    """Run the stage in a folder unless it is done, with changes of what it is given."""

    def run(folder: Path, settings: WalkSettings = SETTINGS, **changes: Any) -> Stage:
        run_folder = RunFolder(path=folder)
        stage = run_folder.stage("walk", inputs={"settings": settings})
        compute(run_folder, stage, partial(random_walk_module.run, stage, settings=settings, **(given | changes)))
        return stage

    return run


def pooled_by_hand(full: np.ndarray, alphas: tuple[float, ...], size: tuple[int, int]) -> torch.Tensor:
    """Backgrounds and maps, float64 [alphas + present, h, w]: sums over the pixels of a cell, over 64."""
    strongest = full.max(0) if len(full) else np.zeros(size)
    planes = [*((1 - strongest) ** alpha for alpha in alphas), *full]
    cells = np.zeros((len(planes), -(-size[0] // 8), -(-size[1] // 8)))
    for channel, plane in enumerate(planes):
        for y, x in np.ndindex(size):
            cells[channel, y // 8, x // 8] += plane[y, x] / 64
    return torch.from_numpy(cells)


@torch.no_grad()
@pytest.mark.parametrize("all_pairs", [False, True])
def test_it_walks_the_pooled_scores(run: Callable, given: dict[str, Any], tmp_path: Path, *, all_pairs: bool) -> None:
    settings = WalkSettings(beta=4.0, log_steps=5, alphas=(1.0, 3.0), all_pairs=all_pairs)
    stage = run(tmp_path, settings)
    assert stage.record["outputs"] == {"images": len(IMAGES)}
    network = AffinityNetwork.load(given["affinity"].path).eval()
    for record in given["images"].image_set.records:
        height, width, labels = IMAGES[record.name]
        stored = read_walked(walked_path(stage.path, record.name))
        assert stored.alphas == settings.alphas
        assert stored.size == (height, width)
        assert stored.classes.tolist() == list(labels)
        full = read_response_maps(maps_path(given["maps"].path, record.name)).full_size()
        pooled = pooled_by_hand(full, settings.alphas, (height, width))
        features = network(torch.from_numpy(read_image(record.image)).permute(2, 0, 1)[None])[0]
        matrix = dense_affinity(features, all_pairs=all_pairs)
        expected = dense_walk(matrix, pooled, beta=4, log_steps=5)
        walked = np.concatenate([stored.backgrounds, stored.maps])
        np.testing.assert_allclose(walked, expected, rtol=1e-3, atol=1e-5)
        joined = all_pairs or record.name in ("two-classes", "nobody-labelled-it")
        if joined and expected[0].size > 1 and labels:
            assert np.abs(expected - pooled.numpy()).max() > 0.01, "the walk went nowhere"
        if not joined:
            np.testing.assert_allclose(expected, pooled, atol=1e-12)


def test_a_stage_that_was_cut_off_does_what_is_missing(
    run: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed = run(tmp_path / "undisturbed")
    walks: list[int] = []
    really_walk = random_walk_module.walk

    def counted(*args: torch.Tensor, settings: WalkSettings) -> torch.Tensor:
        if len(walks) == killed_at:
            raise KeyboardInterrupt
        walks.append(1)
        return really_walk(*args, settings=settings)

    monkeypatch.setattr(random_walk_module, "walk", counted)
    killed_at = 4
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "killed")
    assert not list(tmp_path.glob("killed/stages/*/stage.json"))
    (cut_off,) = tmp_path.glob("killed/stages/*walk*")
    written = sum(walked_path(cut_off, name).is_file() for name in IMAGES)
    assert 1 <= written <= 4  # up to three wait to be written
    killed_at = -1
    walks.clear()
    stage = run(tmp_path / "killed")
    assert len(walks) == len(IMAGES) - written
    for name in IMAGES:
        mine, theirs = (walked_path(each.path, name).read_bytes() for each in (stage, undisturbed))
        assert mine == theirs
    walks.clear()
    stage.record_path.unlink()  # cut off between the last image and the record
    assert run(tmp_path / "killed").done
    run(tmp_path / "killed")
    assert walks == []


def test_a_stage_that_is_done_asks_for_no_model(run: Callable, tmp_path: Path) -> None:
    run(tmp_path)
    run(tmp_path, affinity=stage_at(tmp_path / "gone"))


def test_a_network_gone_wrong_names_the_image(run: Callable, given: dict[str, Any], tmp_path: Path) -> None:
    network = AffinityNetwork.load(given["affinity"].path)
    torch.nn.init.constant_(network.head.f9.weight, 3e38)
    network.save(tmp_path / "model")
    with pytest.raises(BadInputError, match=r"two-classes\.png: pixel_affinity: expected finite features"):
        run(tmp_path, affinity=stage_at(tmp_path / "model"))


def test_maps_of_another_image_are_named(run: Callable, given: dict[str, Any], tmp_path: Path) -> None:
    first, second = given["images"].image_set.records[:2]
    other = read_response_maps(maps_path(given["maps"].path, second.name))
    write_response_maps(maps_path(tmp_path / "maps", first.name), other)
    image_set = ImageSet(class_names=("a", "b", "c", "d"), records=(first,), mask_values=(0,) * 256)
    with pytest.raises(BadInputError, match=r"two-classes\.png: random_walk: expected maps of 8 x 12 cells"):
        run(tmp_path, images=images_of(image_set), maps=stage_at(tmp_path / "maps"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"alphas": ()}, r"alphas: expected 1 to 100 entries, each a number from 0\.001 to 1000, got \(\)"),
        ({"alphas": (4.0, -1.0)}, "alphas: expected"),
        ({"beta": 0.0}, "beta: expected a number from"),
        ({"log_steps": 21}, "log_steps: expected a whole number from 0 to 20, got 21"),
        ({"radius": 0}, "radius: expected a whole number from 1 to 32, got 0"),
    ],
)
def test_settings_that_cannot_be(changes: dict, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        WalkSettings(**changes)


# Files


def walked_maps() -> WalkedMaps:
    rng = np.random.default_rng(0)
    return WalkedMaps(
        alphas=(2.0, 0.1),
        backgrounds=rng.random((2, 3, 5)).astype(np.float16),
        maps=rng.random((2, 3, 5)).astype(np.float16),
        classes=np.array([1, 7], np.int16),
        size=(21, 40),
    )


def test_walked_maps_come_back_as_written(tmp_path: Path) -> None:
    walked = walked_maps()
    write_walked(tmp_path / "a" / "b.npz", walked)
    read_back = read_walked(tmp_path / "a" / "b.npz")
    assert (read_back.alphas, read_back.size) == (walked.alphas, walked.size)
    for name in ("backgrounds", "maps", "classes"):
        assert (getattr(read_back, name) == getattr(walked, name)).all()


def test_scores_are_upsampled_from_the_grid() -> None:
    """Away from the border a pixel of a straight slope lies on it: cell centres are at 3.5, 11.5, ... pixels."""
    slope = np.broadcast_to(np.arange(5, dtype=np.float16) / 8, (1, 3, 5))
    walked = WalkedMaps(
        alphas=(2.0, 0.1),
        backgrounds=np.concatenate([slope, 1 - slope]),
        maps=slope,
        classes=np.array([1], np.int16),
        size=(21, 40),
    )
    scores = walked.scores(0.1)
    assert scores.shape == (2, 21, 40)
    expected = ((np.arange(40) - 3.5) / 64).clip(0, 4 / 8)
    np.testing.assert_allclose(scores[1], np.broadcast_to(expected, (21, 40)), atol=1e-6)
    np.testing.assert_allclose(scores[0], 1 - scores[1], atol=1e-6)
    np.testing.assert_allclose(walked.scores(2.0)[0], scores[1], atol=1e-6)


def test_damaged_walked_maps_are_named(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    with pytest.raises(BadInputError, match=rf"{path} holds no walked maps .*; move it away and run again"):
        read_walked(path)
    write_walked(path, walked_maps())
    whole = path.read_bytes()
    for damaged in (whole[: len(whole) // 2], b"", whole[:60] + bytes(20) + whole[80:]):
        path.write_bytes(damaged)
        with pytest.raises(BadInputError, match=rf"{path} holds no walked maps"):
            read_walked(path)


@pytest.mark.parametrize("name", ["backgrounds", "maps"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -0.5])
def test_scores_that_cannot_be_name_the_file(tmp_path: Path, name: str, value: float) -> None:
    walked = walked_maps()
    getattr(walked, name)[1, 2, 3] = value
    write_walked(tmp_path / "x.npz", walked)
    with pytest.raises(BadInputError, match=rf"x\.npz holds no walked maps .*expected finite {name} of at least 0"):
        read_walked(tmp_path / "x.npz")
