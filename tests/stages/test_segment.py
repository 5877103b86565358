"""Training the segmentation network: it learns, survives a kill without a trace, and validation only looks."""

import csv
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from safetensors.torch import load_file
from torch import Tensor

from subcam.data.augmentation import AugmentationSettings
from subcam.data.check import CheckedImages
from subcam.data.images import read_image, read_mask, voc_palette, write_mask
from subcam.data.mask_crops import with_masks
from subcam.errors import BadInputError, SettingsError
from subcam.metrics.confusion import confusion_matrix
from subcam.networks.backbones.build import NetworkSettings
from subcam.networks.segmenter import SegmentationConfig, SegmentationNetwork, for_inference, upsample_logits
from subcam.runtime.devices import MachineSettings
from subcam.runtime.run_folder import RunFolder, Stage
from subcam.stages import segment as segment_module
from subcam.stages.segment import TrainInputs, TrainSettings, score_images, segmentation_loss
from subcam.training import loop
from subcam.training.checkpoint import TrainingCheckpoint
from subcam.training.optimiser import OptimiserSettings

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
def inputs(toy_train: CheckedImages) -> TrainInputs:
    """Two looks at each image, and eight images to validate on."""
    network = NetworkSettings(name="tiny", weights="none", freeze_batch_norm=False)
    few = np.arange(24) < 8
    return TrainInputs(
        image_set=toy_train.image_set,
        config=SegmentationConfig(
            network=network, class_names=toy_train.image_set.class_names, multi_scale_inputs=(0.5,)
        ),
        seed=3,
        validation=replace(toy_train, image_set=toy_train.image_set.where(few), sizes=toy_train.sizes[:8]),
    )


@pytest.fixture
def run(settings: TrainSettings, inputs: TrainInputs, fabric: Fabric, machine: MachineSettings) -> Callable[..., Stage]:
    def run(folder: Path, settings: TrainSettings = settings, inputs: TrainInputs = inputs) -> Stage:
        stage = RunFolder(path=folder).stage("segment", settings=settings)
        segment_module.run(settings, inputs, stage=stage, fabric=fabric, machine=machine)
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
    run: Callable,
    settings: TrainSettings,
    inputs: TrainInputs,
    fabric: Fabric,
    machine: MachineSettings,
    tmp_path: Path,
) -> None:
    plain = replace(
        settings,
        epochs=12,
        validate_every=6,
        augmentation=AugmentationSettings(
            crop=48, scale_long_side=(48, 48), brightness=0, contrast=0, saturation=0, hue=0
        ),
    )
    one_look = replace(inputs, config=replace(inputs.config, multi_scale_inputs=()))
    stage = run(tmp_path, plain, one_look)
    losses = [float(row["loss"]) for row in rows(stage)]
    assert losses[-1] < 0.35 * losses[0]
    scored = {row["epoch"]: float(row["miou"]) for row in rows(stage) if row["miou"]}
    assert list(scored) == ["6.0", "12.0"]
    assert scored["12.0"] > 0.45
    outputs = stage.record["outputs"]
    assert outputs == {"epochs": 12, "steps": 36, "loss": losses[-1], "miou": scored["12.0"]}
    # what is saved is what was scored last
    assert one_look.validation is not None
    network = for_inference(SegmentationNetwork.load(stage.path), fabric)
    again = score_images(network, one_look.validation, fabric=fabric, batch_size=3, machine=machine)
    assert again.miou == pytest.approx(outputs["miou"], abs=1e-4)


# Killed and taken up


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


def test_validation_only_looks(run: Callable, settings: TrainSettings, inputs: TrainInputs, tmp_path: Path) -> None:
    """The same weights whether there is validation or none, and whatever it finds: the last are saved, not the best."""
    with_it = run(tmp_path / "with")
    assert all(row["miou"] for row in rows(with_it))
    without = run(tmp_path / "without", inputs=replace(inputs, validation=None))
    assert "miou" not in rows(without)[0]
    assert_same_weights(with_it, without)
    assert_same_weights(with_it, run(tmp_path / "never", replace(settings, validate_every=0)))


def test_a_stage_that_is_done_is_left_alone(run: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = run(tmp_path)
    before = {path: path.stat().st_mtime_ns for path in stage.path.rglob("*")}
    monkeypatch.delattr(segment_module, "SegmentationNetwork")
    run(tmp_path)
    assert before == {path: path.stat().st_mtime_ns for path in stage.path.rglob("*")}


def test_pseudo_masks_are_learned_in_place_of_true_ones(
    run: Callable, settings: TrainSettings, inputs: TrainInputs, tmp_path: Path
) -> None:
    """Masks that say class 2 everywhere: the network says so too, whatever the images show."""
    for record in inputs.image_set.records:
        path = tmp_path / "masks" / f"{record.name}.png"
        write_mask(path, np.full((48, 48), 3, np.uint8), palette=voc_palette())
    pseudo = with_masks(inputs.image_set, lambda record: tmp_path / "masks" / f"{record.name}.png")
    stage = run(tmp_path, replace(settings, epochs=6), replace(inputs, image_set=pseudo, validation=None))
    network = SegmentationNetwork.load(stage.path).eval()
    image = torch.from_numpy(read_image(pseudo.records[0].image)).permute(2, 0, 1)[None]
    assert (network(image).argmax(1) == 3).all()


def test_a_image_without_a_mask_is_named_before_anything_is_trained(
    run: Callable, inputs: TrainInputs, tmp_path: Path
) -> None:
    first, *others = inputs.image_set.records
    broken = replace(inputs.image_set, records=(replace(first, mask=None), *others))
    with pytest.raises(BadInputError, match=rf"{first.image}: expected a mask to learn from, got none"):
        run(tmp_path, inputs=replace(inputs, image_set=broken))


@pytest.mark.parametrize("changes", [{"epochs": -1}, {"validate_every": -1}, {"average_decay": 1.0}])
def test_settings_that_cannot_be(changes: dict) -> None:
    with pytest.raises(SettingsError, match="expected epochs and validate_every of 0 or more and average_decay in"):
        TrainSettings(**changes)


# The loss


def slow_loss(logits: np.ndarray, labels: np.ndarray) -> float:
    """-log softmax of the labelled class at each pixel that counts, one by one."""
    found = []
    for index, label in np.ndenumerate(labels):
        if label != 255:
            values = logits[index[0], :, index[1], index[2]].astype(np.float64)
            found.append(math.log(np.exp(values).sum()) - values[label])
    return sum(found) / len(found)


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
    found = segmentation_loss([logits], labels, stride=4)
    assert found.item() == pytest.approx(slow_loss(full, labels.numpy()), rel=1e-5)


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
def test_scores_are_those_of_whole_images_one_by_one(
    inputs: TrainInputs, fabric: Fabric, machine: MachineSettings
) -> None:
    torch.manual_seed(0)
    network = SegmentationNetwork(inputs.config).eval()
    images = inputs.validation
    assert images is not None
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
        found = score_images(
            network, replace(images, image_set=without), fabric=fabric, batch_size=batch_size, machine=machine
        )
        assert np.abs(found.matrix - expected).sum() <= 4  # a pixel on the border may round the other way
