"""Training a round: it learns, survives a kill without a trace, and says what went wrong."""

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.stages.given import stage_at

from subcam.clustering.subcategories import subcategories_of, write_subcategories
from subcam.data.check import CheckedImages
from subcam.errors import CheckpointError, SettingsError, SubcamError
from subcam.methods import rounds
from subcam.networks.classifier import ClassificationNetwork, ModelConfig
from subcam.prototypes.label_files import write_label_grids
from subcam.results import read_run
from subcam.runtime.devices import Device
from subcam.runtime.machine.settings import MachineSettings
from subcam.runtime.run_folder import RunFolder, Stage
from subcam.settings import RunSettings
from subcam.stages import classify
from subcam.stages.context import compute, key_of
from subcam.stages.settings.classify import ClassifySettings
from subcam.training import loop
from subcam.training.checkpoint import TrainingCheckpoint
from subcam.training.losses import JointLoss, joint_loss

STEPS = 6
"""Two epochs of 24 images in batches of 8."""


@pytest.fixture
def settings(tiny_run: RunSettings) -> ClassifySettings:
    assert tiny_run.classify.head_dropout == 0.5
    return tiny_run.classify


@pytest.fixture
def given(toy_train: CheckedImages, tiny_run: RunSettings, device: Device, tmp_path: Path) -> dict[str, Any]:
    """What a later round is given: parents beside two sub-categories each."""
    labels = toy_train.image_set.labels
    halves = np.arange(len(labels))[:, None] % 2
    subcategories = subcategories_of(
        np.where(labels, halves, -1).astype(np.int16), np.zeros((len(labels), 1), np.float32), num_subcategories=2
    )
    expected = labels[:, :, None] * (halves == np.arange(2))[:, None]
    np.testing.assert_array_equal(subcategories.labels, expected.reshape(len(labels), -1))
    write_subcategories(tmp_path / "clusters", subcategories)
    return {
        "images": toy_train,
        "network": tiny_run.network,
        "round_index": 1,
        "seed": 3,
        "clusters": stage_at(tmp_path / "clusters"),
        "device": device,
    }


@pytest.fixture
def run(settings: ClassifySettings, given: dict[str, Any]) -> Callable:
    """Train into a folder unless that is done, with changes of what the stage is given."""

    def run(folder: Path, settings: ClassifySettings = settings, **changes: Any) -> Stage:
        run_folder = RunFolder(path=folder)
        stage = run_folder.stage("classify", inputs={"settings": settings})
        compute(run_folder, stage, partial(classify.run, stage, settings=settings, **(given | changes)))
        return stage

    return run


def rows(stage: Stage) -> list[dict[str, str]]:
    return list(csv.DictReader((stage.path / "training.csv").open(encoding="utf-8")))


def assert_same_training(first: Stage, second: Stage) -> None:
    mine, theirs = (load_file(stage.path / "model.safetensors") for stage in (first, second))
    assert mine.keys() == theirs.keys()
    for name, tensor in mine.items():
        assert torch.equal(tensor, theirs[name]), name
    assert rows(first)[-1] == rows(second)[-1]


def kill_at_save(patch: pytest.MonkeyPatch, number: int = 1, *, written: bool = True) -> None:
    """Let the training be interrupted at its checkpoint of that number, after or before it is written."""
    saves, really_save = [], TrainingCheckpoint.save

    def save(self: TrainingCheckpoint, *args: Any, **kwargs: Any) -> None:
        saves.append(1)
        if len(saves) < number or written:
            really_save(self, *args, **kwargs)
        if len(saves) == number:
            raise KeyboardInterrupt

    patch.setattr(TrainingCheckpoint, "save", save)


def test_it_learns(run: Callable, settings: ClassifySettings, tmp_path: Path) -> None:
    plain = replace(
        settings,
        epochs=15,
        head_dropout=0.0,
        augmentation=replace(
            settings.augmentation, scale_long_side=(48, 48), brightness=0, contrast=0, saturation=0, hue=0
        ),
    )
    stage = run(tmp_path, plain)
    losses = [float(row["loss"]) for row in rows(stage)]
    parents = [float(row["parent_loss"]) for row in rows(stage)]
    assert losses[-1] < 0.6 * losses[0]
    assert parents[-1] < 0.6 * parents[0]
    assert stage.record["outputs"] == {"epochs": 15, "steps": 45} | {
        name: pytest.approx(float(rows(stage)[-1][name])) for name in ("loss", "parent_loss", "subcategory_loss")
    }
    assert [int(row["step"]) for row in rows(stage)][-1] == 45
    assert not (stage.path / "checkpoint.pt").exists()
    assert list((stage.path / "tensorboard").iterdir())


def test_chance_comes_from_the_seed_alone(run: Callable, tmp_path: Path) -> None:
    torch.manual_seed(1)
    first = run(tmp_path / "first")
    torch.manual_seed(2)
    assert_same_training(first, run(tmp_path / "second"))
    other = run(tmp_path / "other", seed=4)
    assert rows(other)[0]["loss"] != rows(first)[0]["loss"]


def test_a_stage_that_is_done_is_left_alone(run: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = run(tmp_path)
    before = {path: path.stat().st_mtime_ns for path in stage.path.rglob("*")}
    monkeypatch.delattr(classify, "_initial_network")
    run(tmp_path)
    assert before == {path: path.stat().st_mtime_ns for path in stage.path.rglob("*")}


# Prototypes


@pytest.fixture
def labelled(given: dict[str, Any], tmp_path: Path) -> dict[str, Stage]:
    """Positions of the upper half show the first prototype of a class of the image, the lower half context."""
    image_set = given["images"].image_set
    prototypes = torch.randn(image_set.num_classes, 3, 128, generator=torch.Generator().manual_seed(0))
    config = ModelConfig(network=given["network"], class_names=image_set.class_names)
    ClassificationNetwork(config).with_prototypes(prototypes, num_objects=2).save(tmp_path / "prototypes")
    grids = []
    for record in image_set.records:
        grid = np.full((6, 6), -1, np.int16)
        grid[:3], grid[3:] = record.labels[0] * 3, record.labels[0] * 3 + 2
        grids.append(grid)
    write_label_grids(tmp_path / "labels", grids)
    return {"prototypes": stage_at(tmp_path / "prototypes"), "prototype_labels": stage_at(tmp_path / "labels")}


def test_positions_are_learned(
    run: Callable, settings: ClassifySettings, labelled: dict[str, Stage], tmp_path: Path
) -> None:
    stage = run(tmp_path, replace(settings, epochs=12, head_dropout=0.0, prototype_weight=2.0), **labelled)
    losses = [{name: float(value) for name, value in row.items()} for row in rows(stage)]
    assert losses[-1]["prototype_loss"] < 0.6 * losses[0]["prototype_loss"]
    for row in losses:
        expected = row["parent_loss"] + 5.0 * row["subcategory_loss"] + 2.0 * row["prototype_loss"]
        assert row["loss"] == pytest.approx(expected, rel=1e-3)
    network = ClassificationNetwork.load(stage.path)
    assert (network.config.num_objects, network.config.num_context, network.config.num_subcategories) == (2, 1, 2)


def test_training_with_prototypes_that_was_cut_off_ends_with_the_same_weights(
    run: Callable, labelled: dict[str, Stage], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed = run(tmp_path / "undisturbed", **labelled)
    monkeypatch.setattr(loop, "LOG_EVERY", 1)
    monkeypatch.setattr(TrainingCheckpoint, "due", True)
    with monkeypatch.context() as patch:
        kill_at_save(patch, 4)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "killed", **labelled)
    resumed = run(tmp_path / "killed", **labelled)
    mine, theirs = (load_file(stage.path / "model.safetensors") for stage in (undisturbed, resumed))
    for name, tensor in mine.items():
        assert torch.equal(tensor, theirs[name]), name


def test_labels_of_positions_need_prototypes(
    run: Callable, given: dict[str, Any], labelled: dict[str, Stage], tmp_path: Path
) -> None:
    config = ModelConfig(network=given["network"], class_names=given["images"].image_set.class_names)
    ClassificationNetwork(config).save(tmp_path / "plain")
    with pytest.raises(SettingsError, match="has no prototypes"):
        run(tmp_path, **labelled | {"prototypes": stage_at(tmp_path / "plain")})


def test_the_weight_of_prototypes_bears_on_rounds_with_prototypes_alone(settings: ClassifySettings) -> None:
    assert settings.of_round(1, with_subcategories=False).prototype_weight == 0
    of_round = settings.of_round(1, with_subcategories=False, with_prototypes=True)
    assert of_round.prototype_weight == settings.prototype_weight > 0


# Killed and resumed


@pytest.mark.parametrize("written", [True, False], ids=["after a checkpoint", "before it"])
@pytest.mark.parametrize("at_save", [1, 4, STEPS])
def test_a_training_that_was_cut_off_ends_with_the_same_weights(
    run: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_save: int, *, written: bool
) -> None:
    """A checkpoint at every step, dropout and all; where the last one is not written, its step is done again."""
    undisturbed = run(tmp_path / "undisturbed")
    monkeypatch.setattr(loop, "LOG_EVERY", 1)
    monkeypatch.setattr(TrainingCheckpoint, "due", True)
    with monkeypatch.context() as patch:
        kill_at_save(patch, at_save, written=written)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "killed")
    (checkpoint,) = tmp_path.glob("killed/stages/*/checkpoint.pt") if at_save > 1 or written else (None,)
    next_step = torch.load(checkpoint, weights_only=True)["next_step"] if checkpoint else 0
    assert next_step == at_save - (not written)
    torch.manual_seed(12345)  # whatever chance the second process starts from
    stage = run(tmp_path / "killed")
    assert_same_training(undisturbed, stage)
    assert [int(row["step"]) for row in rows(stage)] == list(range(1, STEPS + 1))


def test_a_damaged_checkpoint_is_named_and_kept(run: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        kill_at_save(patch)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path)
    (path,) = tmp_path.glob("stages/*/checkpoint.pt")
    whole = path.read_bytes()
    for damaged in (whole[: len(whole) // 2], b"", b"no checkpoint at all"):
        path.write_bytes(damaged)
        with pytest.raises(CheckpointError, match=rf"{path} cannot be resumed from .*; move it away to train anew"):
            run(tmp_path)
        assert path.read_bytes() == damaged
    path.rename(tmp_path / "away")
    run(tmp_path)


def test_a_loss_that_is_not_finite_stops_and_keeps_the_checkpoint(
    run: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed = run(tmp_path / "undisturbed")
    calls: list[int] = []

    def explodes(*args: Any, **kwargs: Any) -> JointLoss:
        calls.append(1)
        losses = joint_loss(*args, **kwargs)
        return losses if len(calls) < 5 else JointLoss(losses.total * torch.inf, losses.parent, losses.subcategory)

    message = r"the loss is nan at step 6 in .*; the last good checkpoint is kept\. Try a lower learning rate"
    with monkeypatch.context() as patch:
        patch.setattr(rounds, "joint_loss", explodes)
        with pytest.raises(SubcamError, match=message):
            run(tmp_path / "exploded")
    (path,) = tmp_path.glob("exploded/stages/*/checkpoint.pt")
    state = torch.load(path, weights_only=True)
    assert state["next_step"] == 3
    assert all(tensor.isfinite().all() for tensor in state["network"].values())
    assert_same_training(undisturbed, run(tmp_path / "exploded"))


def test_gradient_clipping_bounds_the_whole_gradient(run: Callable, settings: ClassifySettings, tmp_path: Path) -> None:
    """One step of plain SGD moves all weights together by at most rate times the bound."""
    one_step = replace(
        settings,
        epochs=1,
        batch_size=24,
        optimiser=replace(
            settings.optimiser, name="sgd", momentum=0, learning_rate=1.0, weight_decay=0, gradient_clip=0.01
        ),
    )
    untrained = run(tmp_path, replace(one_step, epochs=0))
    before = dict(ClassificationNetwork.load(untrained.path).named_parameters())
    after = load_file(run(tmp_path, one_step).path / "model.safetensors")
    moved = torch.stack([(after[name] - tensor).norm() for name, tensor in before.items()]).norm()
    assert moved.item() == pytest.approx(0.01, rel=1e-3)


# What a round starts from


def test_continue_takes_body_parents_and_normalisation_of_the_round_before(
    run: Callable, settings: ClassifySettings, given: dict[str, Any], tmp_path: Path
) -> None:
    """The first round's weights come from a file whose head says how images are normalised."""
    network = ClassificationNetwork(ModelConfig(network=given["network"], class_names=("a",)))
    save_file(
        network.backbone.body.state_dict(), tmp_path / "body.safetensors", {"mean": "0.1,0.2,0.3", "std": "1,1,2"}
    )
    own = replace(given["network"], weights=str(tmp_path / "body.safetensors"), freeze_batch_norm=True)
    first = run(tmp_path / "first", round_index=0, network=own, clusters=None)
    standing_still = replace(settings, epochs=0)
    second = run(tmp_path / "second", standing_still, round_index=1, network=own, start_from=first)
    before, after = (load_file(stage.path / "model.safetensors") for stage in (first, second))
    for name, tensor in before.items():
        assert torch.equal(tensor, after[name]), name
    assert after["subcategory_head.weight"].shape == (8, 128)
    config = json.loads((second.path / "config.json").read_text())
    assert config["network"]["mean"] == [0.1, 0.2, 0.3]
    assert config["network"]["std"] == [1.0, 1.0, 2.0]


def test_a_published_classifier_can_be_round_0(
    run: Callable, settings: ClassifySettings, given: dict[str, Any], tmp_path: Path
) -> None:
    body = ClassificationNetwork(ModelConfig(network=given["network"], class_names=("a",))).backbone.body.state_dict()
    torch.save(body | {"fc8.weight": torch.randn(4, 128, 1, 1)}, tmp_path / "published.pth")
    with_it = replace(settings, round0_checkpoint=str(tmp_path / "published.pth"))
    stage = run(tmp_path, with_it.of_round(0, with_subcategories=False), round_index=0, clusters=None)
    state = torch.load(tmp_path / "published.pth", weights_only=True)
    weights = load_file(stage.path / "model.safetensors")
    assert torch.equal(weights["parent_head.weight"], state["fc8.weight"].flatten(1))
    assert torch.equal(weights["backbone.body.convs.0.weight"], state["convs.0.weight"])
    assert stage.record["outputs"] == {"epochs": 0, "steps": 0}


def ready(settings: ClassifySettings, checkpoint: Path) -> ClassifySettings:
    return replace(settings, round0_checkpoint=str(checkpoint)).of_round(0, with_subcategories=False)


def test_a_timm_classifier_of_the_classes_can_be_round_0(
    run: Callable, settings: ClassifySettings, given: dict[str, Any], tmp_path: Path
) -> None:
    """As `torch.save(model.state_dict())` of a model with its own classifier has it; another head is no classifier."""
    body = ClassificationNetwork(ModelConfig(network=given["network"], class_names=("a",))).backbone.body.state_dict()
    head = torch.randn(4, 128)
    torch.save(body | {"classifier.weight": head, "classifier.bias": torch.ones(4)}, tmp_path / "own.pth")
    stage = run(tmp_path, ready(settings, tmp_path / "own.pth"), round_index=0, clusters=None)
    weights = load_file(stage.path / "model.safetensors")
    assert torch.equal(weights["parent_head.weight"], head)
    assert torch.equal(weights["backbone.body.convs.0.weight"], body["convs.0.weight"])
    torch.save(body | {"classifier.weight": torch.randn(1000, 128)}, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match="parent classifier"):
        run(tmp_path, ready(settings, tmp_path / "other.pth"), round_index=0, clusters=None)


def test_a_saved_classifier_and_that_of_a_run_can_be_round_0(
    run: Callable, settings: ClassifySettings, given: dict[str, Any], refined_run: Path, tmp_path: Path
) -> None:
    own = read_run(refined_run).result.last.classifier.path
    for folder in (own, refined_run):
        stage = run(tmp_path / folder.name, ready(settings, folder), round_index=0, clusters=None)
        expected, weights = (load_file(where / "model.safetensors") for where in (own, stage.path))
        assert all(torch.equal(weights[name], tensor) for name, tensor in expected.items())
    assert key_of(ready(settings, own)) == key_of(ready(settings, refined_run))
    images = replace(given["images"], image_set=replace(given["images"].image_set, class_names=("a", "b", "c", "d")))
    with pytest.raises(CheckpointError, match="expected a classifier of a, b, c, d in this order, got one of ringtail"):
        run(tmp_path / "other", ready(settings, own), round_index=0, clusters=None, images=images)


def test_settings_of_a_round() -> None:
    settings = ClassifySettings(
        epochs=7, round_epochs=(30, 40), subcategory_weight=5.0, start="continue", round0_checkpoint="published.pth"
    )
    rounds = [settings.of_round(index, with_subcategories=index > 0) for index in range(4)]
    assert [one.epochs for one in rounds] == [0, 30, 40, 40]
    assert [one.subcategory_weight for one in rounds] == [0, 5, 5, 5]
    assert [one.start for one in rounds] == ["restart", "continue", "continue", "continue"]
    assert [one.round0_checkpoint for one in rounds] == ["published.pth", "", "", ""]
    assert settings.of_round(1, with_subcategories=False).subcategory_weight == 0
    # what bears on other rounds alone makes no round train again
    other_rounds = replace(settings, subcategory_weight=1.0, round_epochs=(1,))
    assert other_rounds.of_round(0, with_subcategories=False) == rounds[0]
    other_start = replace(settings, epochs=3, round0_checkpoint="")
    assert other_start.of_round(2, with_subcategories=True) == rounds[2]


@pytest.mark.parametrize("changes", [{"epochs": -1}, {"round_epochs": (3, -1)}, {"head_dropout": 1.5}])
def test_settings_that_cannot_be(changes: dict) -> None:
    with pytest.raises(SettingsError, match=rf"^{next(iter(changes))}: expected "):
        ClassifySettings(**changes)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_training_on_the_gpu_is_taken_up(
    run: Callable, machine: MachineSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The optimiser's state comes back to where its parameters are."""
    on_gpu = Device.open(replace(machine, accelerator="cuda"), precision="32-true")
    with monkeypatch.context() as patch:
        kill_at_save(patch)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path, device=on_gpu)
    assert run(tmp_path, device=on_gpu).done
