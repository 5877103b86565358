"""Training AffinityNet on generated images: it learns, survives a kill, and takes published weights as they are."""

import csv
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tests.refine.made_maps import first_images, write_made_maps
from tests.stages.given import images_of, stage_at

from subcam.affinity.network import AffinityNetwork
from subcam.data.check import CheckedImages
from subcam.data.settings import AugmentationSettings
from subcam.errors import CheckpointError, SettingsError
from subcam.runtime.devices import Device
from subcam.runtime.run_folder import RunFolder, Stage
from subcam.settings import RunSettings
from subcam.stages.context import compute
from subcam.stages.refine import affinity, sure_regions
from subcam.stages.settings.affinity import AffinitySettings
from subcam.stages.settings.sure_regions import SureRegionSettings
from subcam.training.checkpoint import TrainingCheckpoint
from subcam.training.settings import OptimiserSettings

SETTINGS = AffinitySettings(
    epochs=2,
    batch_size=4,
    augmentation=AugmentationSettings(crop=72, scale_long_side=(72, 88)),
    optimiser=OptimiserSettings(learning_rate=2e-3, head_multiplier=2.0),
)


@pytest.fixture(scope="module")
def given(
    toy_train: CheckedImages, tiny_run: RunSettings, device: Device, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    """Eight images with marginals of maps made from their masks."""
    folder = tmp_path_factory.mktemp("sure")
    images = images_of(first_images(toy_train, 8))
    stage = RunFolder(path=folder).stage("crf")
    sure_regions.run(
        stage,
        settings=SureRegionSettings(low_alpha=2.0, high_alpha=8.0),
        images=images,
        maps=stage_at(write_made_maps(folder / "maps", images.image_set)),
        device=device,
    )
    return {"images": images, "sure_regions": stage, "network": tiny_run.network, "seed": 3, "device": device}


@pytest.fixture
def run(given: dict[str, Any]) -> Callable[..., Stage]:
    """Run the stage in a folder unless it is done, with changes of what it is given."""

    def run(folder: Path, settings: AffinitySettings = SETTINGS, **changes: Any) -> Stage:
        run_folder = RunFolder(path=folder)
        stage = run_folder.stage("affinity", inputs={"settings": settings})
        compute(run_folder, stage, partial(affinity.run, stage, settings=settings, **(given | changes)))
        return stage

    return run


def rows(stage: Stage) -> list[dict[str, float]]:
    with (stage.path / "training.csv").open(encoding="utf-8") as file:
        return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]


def assert_same_weights(first: Stage, second: Stage) -> None:
    mine, theirs = (load_file(stage.path / "model.safetensors") for stage in (first, second))
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in mine.items())


def test_it_learns(run: Callable, tmp_path: Path) -> None:
    still = replace(SETTINGS.augmentation, scale_long_side=(72, 72), brightness=0, contrast=0, saturation=0, hue=0)
    stage = run(tmp_path, replace(SETTINGS, epochs=12, batch_size=8, augmentation=still))
    logged = rows(stage)
    assert logged[-1]["loss"] < 0.6 * logged[0]["loss"]
    for row in logged:
        parts = [row[f"{kind}_loss"] for kind in ("background", "foreground", "negative")]
        assert min(parts) > 0, "a kind of pairs was missing: nothing was learned about it"
        assert row["loss"] == pytest.approx(parts[0] / 4 + parts[1] / 4 + parts[2] / 2, rel=1e-5)
    assert stage.record["outputs"]["steps"] == 12
    assert AffinityNetwork.load(stage.path).config.network.name == "tiny"


@pytest.mark.parametrize("at_save", [1, 3])
def test_a_training_that_was_cut_off_ends_with_the_same_weights(
    run: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_save: int
) -> None:
    undisturbed = run(tmp_path / "undisturbed")
    saves, really_save = [], TrainingCheckpoint.save

    def killed(self: TrainingCheckpoint, *args: Any, **kwargs: Any) -> None:
        really_save(self, *args, **kwargs)
        saves.append(1)
        if len(saves) == at_save:
            raise KeyboardInterrupt

    monkeypatch.setattr("subcam.training.loop.LOG_EVERY", 1)
    monkeypatch.setattr(TrainingCheckpoint, "due", True)
    with monkeypatch.context() as patch:
        patch.setattr(TrainingCheckpoint, "save", killed)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "killed")
    (checkpoint,) = tmp_path.glob("killed/stages/*/checkpoint.pt")
    assert torch.load(checkpoint, weights_only=True)["next_step"] == at_save
    torch.manual_seed(12345)  # whatever chance the second process starts from
    stage = run(tmp_path / "killed")
    assert_same_weights(undisturbed, stage)
    assert [row["step"] for row in rows(stage)] == [1, 2, 3, 4]


def test_chance_comes_from_the_seed_alone(run: Callable, tmp_path: Path) -> None:
    torch.manual_seed(1)
    first = run(tmp_path / "first")
    torch.manual_seed(2)
    assert_same_weights(first, run(tmp_path / "second"))
    other = run(tmp_path / "other", seed=4)
    assert rows(other)[0]["loss"] != rows(first)[0]["loss"]


def test_a_stage_that_is_done_is_left_alone(run: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    still = replace(SETTINGS, epochs=0)
    run(tmp_path, still)
    monkeypatch.delattr(affinity, "AffinityNetwork")
    run(tmp_path, still)


def test_the_classifiers_neck_is_left_out(run: Callable, given: dict[str, Any], tmp_path: Path) -> None:
    """It would never see a gradient: the features come from the body."""
    with_neck = replace(given["network"], neck_channels=8)
    stage = run(tmp_path, replace(SETTINGS, epochs=0), network=with_neck)
    assert not [name for name in load_file(stage.path / "model.safetensors") if "neck" in name]


def test_published_weights_are_taken_and_not_trained(
    run: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Loading itself is in `test_affinity_network`; the marginals are not even read."""
    asked: list[str] = []

    def load_reference(self: AffinityNetwork, path: str) -> None:
        asked.append(path)
        torch.nn.init.constant_(self.head.f9.weight, 0.25)

    monkeypatch.setattr(AffinityNetwork, "load_reference", load_reference)
    stage = run(tmp_path, replace(SETTINGS, checkpoint="aff.pth"))
    assert asked == ["aff.pth"]
    assert stage.record["outputs"] == {"epochs": 0, "steps": 0}
    assert (load_file(stage.path / "model.safetensors")["head.f9.weight"] == 0.25).all()


def test_published_weights_of_another_network_are_an_error(run: Callable, tmp_path: Path) -> None:
    torch.save({"conv1a.weight": torch.zeros(64, 3, 3, 3)}, tmp_path / "aff.pth")
    with pytest.raises(CheckpointError, match=r"aff\.pth does not fit TinyNetwork"):
        run(tmp_path, replace(SETTINGS, checkpoint=str(tmp_path / "aff.pth")))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"augmentation": AugmentationSettings(crop=84)}, "crop must be a multiple of 8, got 84"),
        ({"augmentation": AugmentationSettings(crop=64)}, "radius 5 need a grid of at least 5 x 9 cells; got 8 x 8"),
        ({"epochs": -1}, "epochs: expected a whole number from 0 to 1000000, got -1"),
    ],
)
def test_settings_that_cannot_be(changes: dict, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        AffinitySettings(**changes)


def test_a_smaller_radius_allows_a_smaller_crop() -> None:
    assert AffinitySettings(augmentation=AugmentationSettings(crop=56), radius=4).radius == 4
