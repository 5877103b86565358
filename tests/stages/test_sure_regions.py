"""The stage of sure regions: the dense CRF's marginals at two alphas, stored in a byte each, and what it refuses."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import jaxtyping
import numpy as np
import pytest
import torch
from tests.refine.made_maps import first_images, made_maps, write_made_maps
from tests.stages.given import images_of, stage_at

from subcam.affinity.marginals import CRFMarginals, as_bytes, marginals_path, read_marginals, write_marginals
from subcam.cam.map_files import maps_path, read_response_maps, write_response_maps
from subcam.crf.dense_crf import SPATIAL, dense_crf
from subcam.crf.settings import CRFSettings
from subcam.data.check import CheckedImages
from subcam.data.images import read_image
from subcam.data.records import ImageSet, Record
from subcam.errors import BadInputError
from subcam.refine.scores_and_masks import crf_of, scores_with_background
from subcam.runtime.devices import Device
from subcam.runtime.run_folder import RunFolder, Stage
from subcam.stages.context import compute
from subcam.stages.refine import sure_regions
from subcam.stages.settings.sure_regions import SureRegionSettings


@pytest.fixture(scope="module")
def images(toy_train: CheckedImages) -> ImageSet:
    """Five images, the second of which nobody labelled."""
    image_set = first_images(toy_train, 5)
    first, second, *others = image_set.records
    return replace(image_set, records=(first, replace(second, labels=()), *others))


@pytest.fixture(scope="module")
def maps(images: ImageSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_made_maps(tmp_path_factory.mktemp("maps"), images)


@pytest.fixture
def run(device: Device, images: ImageSet, maps: Path) -> Callable:
    """Run the stage in a folder unless it is done, with changes of what it is given."""

    def run(folder: Path, **changes: Any) -> Stage:
        given = {"settings": SureRegionSettings(), "images": images_of(images), "maps": stage_at(maps)} | changes
        run_folder = RunFolder(path=folder)
        stage = run_folder.stage("crf", inputs={"settings": given["settings"]})
        compute(run_folder, stage, partial(sure_regions.run, stage, **given, device=device))
        return stage

    return run


def test_marginals_are_those_of_the_dense_crf(run: Callable, images: ImageSet, maps: Path, tmp_path: Path) -> None:
    settings = SureRegionSettings(low_alpha=2.0, high_alpha=20.0, crf=CRFSettings(iterations=3))
    stage = run(tmp_path, settings=settings)
    assert len(SPATIAL) == 0
    assert stage.record["outputs"] == {"images": len(images), "low_alpha": 2.0, "high_alpha": 20.0}
    for record in images.records:
        stored = read_marginals(marginals_path(stage.path, record.name))
        responses = read_response_maps(maps_path(maps, record.name)).full_size()
        strongest = responses.max(0) if len(responses) else np.zeros((48, 48), np.float32)
        for alpha, marginals in ((2.0, stored.low_alpha), (20.0, stored.high_alpha)):
            scores = np.concatenate([(1 - strongest[None]) ** np.float32(alpha), responses])
            expected = dense_crf(read_image(record.image), scores, iterations=3)
            assert marginals.shape == (1 + len(record.labels), 48, 48)
            assert np.abs(marginals - 255.0 * expected).max() <= 0.51


def test_a_small_alpha_leaves_more_background(run: Callable, images: ImageSet, tmp_path: Path) -> None:
    stage = run(tmp_path)
    for record in images.records:
        stored = read_marginals(marginals_path(stage.path, record.name))
        low, high = (int(marginals[0].astype(int).sum()) for marginals in (stored.low_alpha, stored.high_alpha))
        assert low > high if record.labels else low == high == 255 * 48 * 48


def test_a_stage_that_was_cut_off_does_what_is_missing(
    run: Callable, images: ImageSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed = run(tmp_path / "undisturbed")
    calls: list[str] = []

    def interrupted(record: Record, *args: object) -> list[np.ndarray]:
        if len(calls) == 2:
            raise KeyboardInterrupt
        return counted(record, *args)

    def counted(record: Record, *args: object) -> list[np.ndarray]:
        calls.append(record.name)
        return crf_of(record, *args)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(sure_regions, "crf_of", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "killed")
    assert not list(tmp_path.glob("killed/stages/*/stage.json"))
    done = set(calls)
    calls.clear()
    monkeypatch.setattr(sure_regions, "crf_of", counted)
    stage = run(tmp_path / "killed")
    assert sorted(calls) == sorted({record.name for record in images.records} - done)
    for record in images.records:
        mine, theirs = (marginals_path(each.path, record.name).read_bytes() for each in (stage, undisturbed))
        assert mine == theirs
    calls.clear()
    run(tmp_path / "killed")
    assert calls == []


@pytest.mark.parametrize(("value", "message"), [(np.nan, "1 not finite"), (-0.25, "1 negative")])
def test_scores_that_cannot_be_name_the_image(images: ImageSet, value: float, message: str) -> None:
    record = images.records[0]
    scores = np.full((2, 48, 48), 0.5, np.float32)
    scores[1, 7, 9] = value
    with pytest.raises(BadInputError, match=rf"{record.image}: dense CRF: .*{message} .*row 7, column 9"):
        crf_of(record, [scores], CRFSettings())


@pytest.fixture
def unchecked() -> Iterator[None]:
    """Calls as a user makes them, without the shape checks of the tests."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.mark.usefixtures("unchecked")
def test_maps_of_another_image_name_the_image(run: Callable, images: ImageSet, tmp_path: Path) -> None:
    record = images.records[0]
    other = replace(made_maps(record, images), size=(48, 50))
    write_response_maps(maps_path(tmp_path / "maps", record.name), other)
    only = images_of(replace(images, records=(record,)))
    with pytest.raises(BadInputError, match=rf"{record.image}: score_sets\[0\]: expected shape .* w = 48 as in image"):
        run(tmp_path, images=only, maps=stage_at(tmp_path / "maps"))


def test_an_image_too_large_for_the_memory_is_named(images: ImageSet, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(needed: int, purpose: str) -> None:
        raise MemoryError(f"{purpose}: expected {needed} bytes")

    monkeypatch.setattr(import_module("subcam.crf.dense_crf"), "require_memory", full)
    with pytest.raises(BadInputError, match=rf"{images.records[0].image}: dense CRF of 48 x 48 pixels, 2 classes"):
        crf_of(images.records[0], [np.full((2, 48, 48), 0.5, np.float32)], CRFSettings())


def test_scores_are_the_background_and_the_maps_unnormalised(maps: Path, images: ImageSet) -> None:
    responses = read_response_maps(maps_path(maps, images.records[0].name))
    scores = scores_with_background(responses, alpha=4.0)
    full = responses.full_size()
    assert scores.dtype == np.float32
    assert (scores[1:] == full).all()
    np.testing.assert_allclose(scores[0], (1 - full.max(0)) ** 4, rtol=1e-6)


def test_marginals_for_masks_are_not_rounded(images: ImageSet, maps: Path) -> None:
    record = images.records[0]
    scores = scores_with_background(read_response_maps(maps_path(maps, record.name)), alpha=2.0)
    (marginals,) = crf_of(record, [scores], CRFSettings(iterations=2))
    assert (marginals == dense_crf(read_image(record.image), scores, iterations=2)).all()
    assert np.abs(255 * marginals - np.rint(255 * marginals)).max() > 0.1


def test_marginals_come_back_as_written(tmp_path: Path) -> None:
    values = np.linspace(0, 1, 256, dtype=np.float32).reshape(2, 8, 16)
    marginals = CRFMarginals(low_alpha=as_bytes(values), high_alpha=as_bytes(1 - values))
    assert marginals.low_alpha.ravel().tolist() == list(range(256))
    write_marginals(tmp_path / "a" / "b.npz", marginals)
    read_back = read_marginals(tmp_path / "a" / "b.npz")
    assert (read_back.low_alpha == marginals.low_alpha).all()
    assert (read_back.high_alpha == marginals.high_alpha).all()


@pytest.mark.parametrize("damage", ["missing", "cut off", "empty", "other format", "bytes turned"])
def test_damaged_marginals_are_named(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "x.npz"
    noise = np.random.default_rng(0).integers(0, 256, (2, 40, 40)).astype(np.uint8)
    write_marginals(path, CRFMarginals(low_alpha=noise, high_alpha=noise))
    whole = path.read_bytes()
    middle = len(whole) // 4
    turned = whole[:middle] + bytes(255 - byte for byte in whole[middle : middle + 400]) + whole[middle + 400 :]
    contents = {
        "cut off": whole[: len(whole) // 2],
        "empty": b"",
        "other format": b"no archive",
        "bytes turned": turned,
    }
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(contents[damage])
    with pytest.raises(BadInputError, match=rf"{path} holds no CRF marginals .*; move it away and run again"):
        read_marginals(path)


def test_on_a_device_the_crf_gives_the_same_but_for_rounding(
    run: Callable, images: ImageSet, device: Device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The CPU stands in for a GPU: what is asked is whether the stage goes by way of `dense_crf_torch`."""
    assert replace(device, machine=replace(device.machine, crf="device")).of_crf is None  # there is no GPU
    expected = run(tmp_path / "cpu")
    monkeypatch.setattr(Device, "of_crf", torch.device("cpu"))
    called: list[int] = []
    module = import_module("subcam.crf.dense_crf_torch")
    really = module.dense_crf_torch

    def counted(of_images: list, *args: Any, **kwargs: Any) -> list:
        called.append(len(of_images))
        return really(of_images, *args, **kwargs)

    monkeypatch.setattr(module, "dense_crf_torch", counted)
    found = run(tmp_path / "device")
    assert called == [1] * len(images)
    for record in images.records:
        one, other = (read_marginals(marginals_path(stage.path, record.name)) for stage in (expected, found))
        for name in ("low_alpha", "high_alpha"):
            difference = getattr(one, name).astype(int) - getattr(other, name).astype(int)
            assert np.abs(difference).max() <= 1
