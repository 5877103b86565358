"""The stage that segments a data set: masks with and without CRF, resumable."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tests.predict.saved_network import save_tiny_network
from tests.stages.given import images_of, stage_at

from subcam.crf.dense_crf import dense_crf
from subcam.data.check import CheckedImages
from subcam.data.images import read_image, voc_palette
from subcam.data.records import Record
from subcam.errors import BadInputError
from subcam.networks.segmenter import SegmentationNetwork
from subcam.predict.settings import InferenceSettings
from subcam.predict.tiles import segment_probabilities
from subcam.refine.scores_and_masks import crf_of
from subcam.runtime.devices import Device
from subcam.runtime.run_folder import RunFolder, Stage
from subcam.stages import predict as predict_module
from subcam.stages.context import compute
from subcam.stages.predict import CRF_MASKS, KNOWN_MASKS, MASKS, variants

SETTINGS = InferenceSettings(batch_size=2, flip=True, crf=True)


@pytest.fixture(scope="module")
def given(toy_train: CheckedImages, device: Device, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    image_set = toy_train.image_set
    model = save_tiny_network(tmp_path_factory.mktemp("model"), classes=image_set.class_names)
    images = images_of(replace(image_set, records=image_set.records[:5]), toy_train.sizes[:5])
    return {"images": images, "model": stage_at(model), "device": device}


@pytest.fixture
def run(given: dict[str, Any]) -> Callable[..., Stage]:
    """Run the stage in a folder unless it is done, with changes of what it is given."""

    def run(folder: Path, settings: InferenceSettings = SETTINGS, **changes: Any) -> Stage:
        run_folder = RunFolder(path=folder)
        stage = run_folder.stage("predict", inputs={"settings": settings})
        compute(run_folder, stage, partial(predict_module.run, stage, settings=settings, **(given | changes)))
        return stage

    return run


def test_masks_are_the_best_of_the_probabilities(run: Callable, given: dict[str, Any], tmp_path: Path) -> None:
    stage = run(tmp_path)
    assert stage.record["outputs"] == {"images": 5, "variants": [MASKS, CRF_MASKS]}
    network = SegmentationNetwork.load(given["model"].path).eval()
    differing, seen = 0, set()
    for record in given["images"].image_set.records:
        image = read_image(record.image)
        (probabilities,) = segment_probabilities(
            network, torch.from_numpy(image).permute(2, 0, 1)[None], settings=SETTINGS
        ).numpy()
        with_crf = dense_crf(
            image,
            probabilities,
            spatial_sigma=1,
            bilateral_sigma_xy=67,
            bilateral_sigma_rgb=3,
            bilateral_weight=4,
        )
        masks = {}
        for variant, expected in ((MASKS, probabilities), (CRF_MASKS, with_crf)):
            with Image.open(stage.path / variant / f"{record.name}.png") as mask:
                assert (mask.mode, mask.size) == ("P", image.shape[1::-1])
                masks[variant] = np.asarray(mask)
                assert (np.asarray(mask.convert("RGB")) == voc_palette()[masks[variant]]).all()
            assert (masks[variant] == expected.argmax(0)).mean() > 0.999
        differing += int((masks[MASKS] != masks[CRF_MASKS]).sum())
        seen |= set(masks[MASKS].ravel().tolist())
    assert differing > 0
    assert len(seen) > 1


def test_without_the_crf_there_is_one_mask_an_image(run: Callable, given: dict[str, Any], tmp_path: Path) -> None:
    stage = run(tmp_path, replace(SETTINGS, crf=False))
    expected = {stage.path / MASKS / f"{record.name}.png" for record in given["images"].image_set.records}
    assert set(stage.path.rglob("*.png")) == expected
    assert variants(replace(SETTINGS, crf=False)) == (MASKS,)


def test_a_stage_that_was_cut_off_does_what_is_missing(
    run: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed = run(tmp_path / "undisturbed")
    calls: list[str] = []

    def counted(record: Record, *args: object) -> list[np.ndarray]:
        if len(calls) == killed_at:
            raise KeyboardInterrupt
        calls.append(record.name)
        return crf_of(record, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(predict_module, "crf_of", counted)
    killed_at = 3
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "killed")
    killed_at = -1
    calls.clear()
    stage = run(tmp_path / "killed")
    assert 0 < len(calls) < 5
    names = {path.relative_to(stage.path) for path in stage.path.rglob("*.png")}
    assert len(names) == 10
    for name in names:
        assert (stage.path / name).read_bytes() == (undisturbed.path / name).read_bytes()
    calls.clear()
    run(tmp_path / "killed")
    assert calls == []


def test_an_image_that_went_bad_is_named(run: Callable, given: dict[str, Any], tmp_path: Path) -> None:
    record = replace(given["images"].image_set.records[0], image=tmp_path / "gone.png")
    only = images_of(replace(given["images"].image_set, records=(record,)), given["images"].sizes[:1])
    with pytest.raises(BadInputError, match=r"gone\.png: no such file"):
        run(tmp_path, images=only)


@pytest.mark.parametrize("crf", [False, True])
def test_with_known_labels_only_the_classes_of_the_image_occur(
    run: Callable, given: dict[str, Any], tmp_path: Path, crf: bool
) -> None:
    stage = run(tmp_path, replace(SETTINGS, crf=crf, known_labels=True))
    network = SegmentationNetwork.load(given["model"].path).eval()
    for record in given["images"].image_set.records:
        known = np.asarray(Image.open(stage.path / KNOWN_MASKS / f"{record.name}.png"))
        allowed = [0, *(label + 1 for label in record.labels)]
        assert set(known.ravel().tolist()) <= set(allowed)
        image = torch.from_numpy(read_image(record.image)).permute(2, 0, 1)[None]
        probabilities = segment_probabilities(network, image, settings=SETTINGS)[0].numpy()
        if not crf:
            assert (known == np.array(allowed)[probabilities[allowed].argmax(0)]).mean() > 0.999
