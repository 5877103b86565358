"""Training the segmentation network: it learns, survives a kill without a trace, and validation only looks."""

import csv
import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tests.stages.given import stage_at
from torch import Tensor

from subcam.data.check import CheckedImages
from subcam.data.images import read_image, read_mask, voc_palette, write_mask
from subcam.data.settings import AugmentationSettings
from subcam.errors import BadInputError, SettingsError
from subcam.metrics.confusion import confusion_matrix
from subcam.networks.segmenter import SegmentationNetwork, for_inference, upsample_logits
from subcam.networks.settings import NetworkSettings, SegmentationConfig
from subcam.runtime.devices import Device
from subcam.runtime.run_folder import RunFolder, Stage
from subcam.stages import segment as segment_module
from subcam.stages.context import compute
from subcam.stages.segment import score_images, segmentation_loss
from subcam.stages.settings.segment import TrainSettings
from subcam.training import loop
from subcam.training.checkpoint import TrainingCheckpoint
from subcam.training.settings import OptimiserSettings

STEPS = 6
"""Two epochs of 24 images in batches of 8."""


@pytest.fixture
def settings() -> TrainSettings:
    return TrainSettings(
        epochs=2,
        batch_size=8,
        average_decay=0.9,
        augmentation=AugmentationSettings(crop=32, scale_long_side=(40, 64)),
        optimiser=OptimiserSettings(learning_rate=3e-3, head_multiplier=1.0),
    )


@pytest.fixture
def given(toy_train: CheckedImages, device: Device) -> dict[str, Any]:
    """Two looks at each image, and eight images to validate on."""
    network = NetworkSettings(name="tiny", weights="none", freeze_batch_norm=False)
    few = np.arange(24) < 8
    return {
        "images": toy_train,
        "config": SegmentationConfig(
            network=network, class_names=toy_train.image_set.class_names, multi_scale_inputs=(0.5,)
        ),
        "masks": None,
        "variant": "",
        "seed": 3,
        "validation": replace(toy_train, image_set=toy_train.image_set.where(few), sizes=toy_train.sizes[:8]),
        "device": device,
    }


@pytest.fixture
def run(settings: TrainSettings, given: dict[str, Any]) -> Callable[..., Stage]:
    """Run the stage in a folder unless it is done, with changes of what it is given."""

    def run(folder: Path, settings: TrainSettings = settings, **changes: Any) -> Stage:
        run_folder = RunFolder(path=folder)
        stage = run_folder.stage("segment", inputs={"settings": settings})
        compute(run_folder, stage, partial(segment_module.run, stage, settings=settings, **(given | changes)))
        return stage

    return run


def rows(stage: Stage) -> list[dict[str, str]]:
    return list(csv.DictReader((stage.path / "training.csv").open(encoding="utf-8")))


def assert_same_weights(first: Stage, second: Stage) -> None:
    mine, theirs = (load_file(stage.path / "model.safetensors") for stage in (first, second))
    assert mine.keys() == theirs.keys()
    for name, tensor in mine.items():
        assert torch.equal(tensor, theirs[name]), name


def test_it_learns_and_says_how_well(
    run: Callable, settings: TrainSettings, given: dict[str, Any], device: Device, tmp_path: Path
) -> None:
    plain = replace(
        settings,
        epochs=12,
        validate_every=6,
        augmentation=AugmentationSettings(
            crop=48, scale_long_side=(48, 48), brightness=0, contrast=0, saturation=0, hue=0
        ),
    )
    stage = run(tmp_path, plain, config=replace(given["config"], multi_scale_inputs=()))
    losses = [float(row["loss"]) for row in rows(stage)]
    assert losses[-1] < 0.35 * losses[0]
    scored = {row["epoch"]: float(row["miou"]) for row in rows(stage) if row["miou"]}
    assert list(scored) == ["6.0", "12.0"]
    assert scored["12.0"] > 0.45
    outputs = stage.record["outputs"]
    assert outputs == {"epochs": 12, "steps": 36, "loss": losses[-1], "miou": scored["12.0"]}
    # what is saved is what was scored last
    network = for_inference(SegmentationNetwork.load(stage.path), device.fabric)
    again = score_images(network, given["validation"], fabric=device.fabric, batch_size=3, machine=device.machine)
    assert again.miou == pytest.approx(outputs["miou"], abs=1e-4)


# Killed and resumed


@pytest.mark.parametrize("written", [True, False], ids=["after a checkpoint", "before it"])
@pytest.mark.parametrize("at_save", [1, 4, STEPS])
def test_a_training_that_was_cut_off_ends_with_the_same_weights(
    run: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_save: int, *, written: bool
) -> None:
    """Average, validation, several scales and all; where the last checkpoint is not written, its step is done again."""
    undisturbed = run(tmp_path / "undisturbed")
    monkeypatch.setattr(loop, "LOG_EVERY", 1)
    monkeypatch.setattr(TrainingCheckpoint, "due", True)
    saves, really_save = [], TrainingCheckpoint.save

    def save(self: TrainingCheckpoint, **arguments: Any) -> None:
        saves.append(1)
        if len(saves) < at_save or written:
            really_save(self, **arguments)
        if len(saves) == at_save:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(TrainingCheckpoint, "save", save)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "killed")
    torch.manual_seed(12345)  # whatever chance the second process starts from
    stage = run(tmp_path / "killed")
    assert_same_weights(undisturbed, stage)
    assert [int(row["step"]) for row in rows(stage)] == list(range(1, STEPS + 1))
    assert [row for row in rows(stage) if row["miou"]] == rows(undisturbed)
    assert not (stage.path / "checkpoint.pt").exists()


def test_validation_only_looks(run: Callable, settings: TrainSettings, tmp_path: Path) -> None:
    """The same weights whether there is validation or none, and whatever it finds: the last are saved, not the best."""
    with_it = run(tmp_path / "with")
    assert all(row["miou"] for row in rows(with_it))
    without = run(tmp_path / "without", validation=None)
    assert "miou" not in rows(without)[0]
    assert_same_weights(with_it, without)
    assert_same_weights(with_it, run(tmp_path / "never", replace(settings, validate_every=0)))


def test_a_stage_that_is_done_is_left_alone(run: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = run(tmp_path)
    before = {path: path.stat().st_mtime_ns for path in stage.path.rglob("*")}
    monkeypatch.delattr(segment_module, "SegmentationNetwork")
    run(tmp_path)
    assert before == {path: path.stat().st_mtime_ns for path in stage.path.rglob("*")}


def test_pseudo_masks_are_learned_in_place_of_ground_truth(
    run: Callable, settings: TrainSettings, toy_train: CheckedImages, tmp_path: Path
) -> None:
    """Masks that say class 2 everywhere: the network says so too, whatever the images show."""
    records = toy_train.image_set.records
    for record in records:
        path = tmp_path / "pseudo" / "walk-crf" / f"{record.name}.png"
        write_mask(path, np.full((48, 48), 3, np.uint8), palette=voc_palette())
    stage = run(
        tmp_path,
        replace(settings, epochs=6),
        masks=stage_at(tmp_path / "pseudo"),
        variant="walk-crf",
        validation=None,
    )
    network = SegmentationNetwork.load(stage.path).eval()
    image = torch.from_numpy(read_image(records[0].image)).permute(2, 0, 1)[None]
    assert (network(image).argmax(1) == 3).all()


def without_ground_truth(images: CheckedImages, count: int) -> CheckedImages:
    """The same images, the first `count` of them without ground truth."""
    records = images.image_set.records
    bare = (*(replace(record, mask=None) for record in records[:count]), *records[count:])
    return replace(images, image_set=replace(images.image_set, records=bare))


def test_an_image_without_ground_truth_is_left_out(run: Callable, toy_train: CheckedImages, tmp_path: Path) -> None:
    some = run(tmp_path / "some", images=without_ground_truth(toy_train, 8))
    rest = replace(toy_train, image_set=toy_train.image_set.where(np.arange(24) >= 8), sizes=toy_train.sizes[8:])
    assert some.record["outputs"]["steps"] == 4
    assert_same_weights(some, run(tmp_path / "rest", images=rest))


def test_no_ground_truth_at_all_is_refused_before_anything_is_trained(
    run: Callable, toy_train: CheckedImages, tmp_path: Path
) -> None:
    with pytest.raises(BadInputError, match="expected ground-truth masks of the training images, got none of 24"):
        run(tmp_path, images=without_ground_truth(toy_train, 24))
    assert not (tmp_path / "stages").exists()


def test_a_pseudo_mask_that_is_missing_is_named(run: Callable, toy_train: CheckedImages, tmp_path: Path) -> None:
    for record in toy_train.image_set.records[1:]:
        path = tmp_path / "pseudo" / "crf" / f"{record.name}.png"
        write_mask(path, np.zeros((48, 48), np.uint8), palette=voc_palette())
    missing = tmp_path / "pseudo" / "crf" / f"{toy_train.image_set.records[0].name}.png"
    with pytest.raises(BadInputError, match=rf"{missing}: no such file"):
        run(tmp_path, masks=stage_at(tmp_path / "pseudo"), variant="crf")


@pytest.mark.parametrize("changes", [{"epochs": -1}, {"validate_every": -1}, {"average_decay": 1.0}])
def test_settings_that_cannot_be(changes: dict) -> None:
    with pytest.raises(SettingsError, match=rf"^{next(iter(changes))}: expected a "):
        TrainSettings(**changes)


# The loss


def slow_loss(logits: np.ndarray, labels: np.ndarray) -> float:
    """-log softmax of the labelled class at each pixel that counts, one by one."""
    losses = []
    for index, label in np.ndenumerate(labels):
        if label != 255:
            values = logits[index[0], :, index[1], index[2]].astype(np.float64)
            losses.append(math.log(np.exp(values).sum()) - values[label])
    return sum(losses) / len(losses)


@pytest.fixture
def labelled() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(2, 3, 3, 4, generator=generator)
    labels = torch.randint(0, 3, (2, 10, 13), generator=generator, dtype=torch.uint8)
    labels[:, :4, :5] = 255
    return logits, labels


def test_each_pixel_counts_at_full_size(labelled: tuple[Tensor, Tensor]) -> None:
    logits, labels = labelled
    full = upsample_logits(logits, (10, 13), stride=4).numpy()
    loss = segmentation_loss([logits], labels, stride=4)
    assert loss.item() == pytest.approx(slow_loss(full, labels.numpy()), rel=1e-5)


def test_several_scales_and_their_greatest_are_summed(labelled: tuple[Tensor, Tensor]) -> None:
    logits, labels = labelled
    other = logits.flip(0)
    expected = sum(
        slow_loss(upsample_logits(each, (10, 13), stride=4).numpy(), labels.numpy())
        for each in (logits, other, torch.maximum(logits, other))
    )
    assert segmentation_loss([logits, other], labels, stride=4).item() == pytest.approx(expected, rel=1e-5)


def test_masks_without_a_label_teach_nothing(labelled: tuple[Tensor, Tensor]) -> None:
    logits, labels = labelled
    logits.requires_grad_()
    loss = segmentation_loss([logits], torch.full_like(labels, 255), stride=4)
    loss.backward()
    assert loss.item() == 0
    assert logits.grad is not None
    assert not logits.grad.any()


# Scores


@torch.no_grad()
def test_scores_are_those_of_whole_images_one_by_one(given: dict[str, Any], device: Device) -> None:
    torch.manual_seed(0)
    network = SegmentationNetwork(given["config"]).eval()
    images = given["validation"]
    records = images.image_set.records
    without = replace(images.image_set, records=(replace(records[0], mask=None), *records[1:]))
    expected = 0
    for record in records[1:]:
        assert record.mask is not None
        image = torch.from_numpy(read_image(record.image)).permute(2, 0, 1)[None]
        prediction = upsample_logits(network(image), (48, 48), stride=4).argmax(1)[0].numpy()
        truth = read_mask(record.mask, images.image_set.mask_values)
        expected = expected + confusion_matrix(prediction, truth, num_classes=5)
    for batch_size in (1, 3):
        result = score_images(
            network,
            replace(images, image_set=without),
            fabric=device.fabric,
            batch_size=batch_size,
            machine=device.machine,
        )
        assert np.abs(result.matrix - expected).sum() <= 4  # a pixel on the border may round the other way
