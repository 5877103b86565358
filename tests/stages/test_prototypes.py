"""From maps to prototypes to labels of positions, on generated images, by way of files."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.stages.given import stage_at

from subcam.cam.map_files import ResponseMaps, maps_path, write_response_maps
from subcam.cam.map_grid import coarsen
from subcam.data.check import CheckedImages
from subcam.data.images import read_image
from subcam.errors import SettingsError
from subcam.networks.classifier import ClassificationNetwork, ModelConfig
from subcam.prototypes.classifier import UNLABELLED
from subcam.prototypes.clustering import CONTEXT, Prototypes, assign, confident_positions, directions
from subcam.prototypes.label_files import LABELS_FILE, read_label_grids
from subcam.refine.alphas import AlphasOfMaps
from subcam.runtime.devices import Device
from subcam.runtime.run_folder import RunFolder, Stage
from subcam.settings import RunSettings
from subcam.stages.context import compute
from subcam.stages.prototypes import run, run_labels
from subcam.stages.refine import alphas
from subcam.stages.settings.prototypes import PrototypeSettings

SETTINGS = PrototypeSettings(num_objects=3, num_context=2, object_above=0.6, context_below=0.3, batch_size=5)


@pytest.fixture
def given(toy_train: CheckedImages, tiny_run: RunSettings, device: Device, tmp_path: Path) -> dict[str, Any]:
    """A random network, and maps that rise from the left edge to the right."""
    torch.manual_seed(0)
    ClassificationNetwork(
        ModelConfig(network=tiny_run.network, class_names=toy_train.image_set.class_names, num_subcategories=2)
    ).save(tmp_path / "model")
    for record, (height, width) in zip(toy_train.image_set.records, toy_train.sizes, strict=True):
        ramp = torch.linspace(0, 1, width).expand(len(record.labels), height, width)
        write_response_maps(
            maps_path(tmp_path / "maps", record.name),
            ResponseMaps(
                maps=coarsen(ramp, 4),
                classes=np.array(record.labels, np.int16),
                subcategory_maps=np.zeros((len(record.labels), 0, -(-height // 4), -(-width // 4)), np.uint8),
                logits=np.zeros(toy_train.image_set.num_classes, np.float32),
                size=(height, width),
            ),
        )
    return {
        "images": toy_train,
        "model": stage_at(tmp_path / "model"),
        "maps": stage_at(tmp_path / "maps"),
        "device": device,
    }


@pytest.fixture
def find(given: dict[str, Any], tmp_path: Path) -> Callable[..., Stage]:
    """Find prototypes in a folder unless that is done."""

    def find(folder: str = "run", settings: PrototypeSettings = SETTINGS, limits: Stage | None = None) -> Stage:
        run_folder = RunFolder(path=tmp_path / folder)
        stage = run_folder.stage("prototypes", inputs={"settings": settings})
        compute(run_folder, stage, partial(run, stage, settings=settings, seed=0, limits=limits, **given))
        return stage

    return find


@pytest.fixture
def label(given: dict[str, Any], tmp_path: Path) -> Callable[..., Stage]:
    """Label the positions by the prototypes of a network unless that is done."""

    def label(
        model: Stage, folder: str = "run", settings: PrototypeSettings = SETTINGS, limits: Stage | None = None
    ) -> Stage:
        run_folder = RunFolder(path=tmp_path / folder)
        stage = run_folder.stage("labels")
        work = partial(run_labels, stage, settings=settings, limits=limits, **given | {"model": model})
        compute(run_folder, stage, work)
        return stage

    return label


def features_of(network: ClassificationNetwork, path: Path) -> np.ndarray:
    image = torch.from_numpy(read_image(path)).permute(2, 0, 1)[None]
    with torch.no_grad():
        return network.eval().feature_map(image)[0].permute(1, 2, 0).numpy()


def test_prototypes_stand_for_the_confident_positions(find: Callable[..., Stage], given: dict[str, Any]) -> None:
    """With one cluster a group the prototype is the mean direction of all its positions."""
    settings = replace(SETTINGS, num_objects=1, num_context=1)
    network = ClassificationNetwork.load(find(settings=settings).path)
    assert network.prototype_classifier is not None
    image_set = given["images"].image_set
    for c in range(image_set.num_classes):
        groups: tuple[list, list] = ([], [])
        for record in image_set.records:
            if c not in record.labels:
                continue
            features = features_of(network, record.image)
            cells = features.shape[1]
            # Means of a ramp over equal cells are the cells' centres.
            ramp = np.broadcast_to((np.arange(cells) + 0.5) / cells, features.shape[:2])
            # Of equal responses the first class's counts.
            if record.labels[0] == c:
                groups[0].append(features[ramp > 0.6])
            groups[1].append(features[ramp < 0.3])
        assert image_set.labels[:, c].any()
        for prototype, own in zip(network.prototype_classifier.prototypes[c].detach().numpy(), groups, strict=True):
            mean = directions(np.concatenate(own)).mean(0)
            np.testing.assert_allclose(prototype, mean / np.linalg.norm(mean), atol=2e-3)


def test_all_else_of_the_network_is_kept(find: Callable[..., Stage], given: dict[str, Any]) -> None:
    before, after = (ClassificationNetwork.load(stage.path) for stage in (given["model"], find()))
    assert (after.config.num_objects, after.config.num_context) == (3, 2)
    kept = after.state_dict()
    assert set(kept) - set(before.state_dict()) == {"prototype_classifier.prototypes"}
    for name, value in before.state_dict().items():
        assert torch.equal(value, kept[name]), name


def test_one_seed_gives_one_result_and_a_stage_that_is_done_is_left_alone(find: Callable[..., Stage]) -> None:
    first, second = find("first"), find("second")
    weights = first.path / "model.safetensors"
    assert weights.read_bytes() == (second.path / "model.safetensors").read_bytes()
    written = weights.stat().st_mtime_ns
    assert find("first").path == first.path
    assert weights.stat().st_mtime_ns == written


def test_labels_name_the_nearest_prototype(
    find: Callable[..., Stage], label: Callable[..., Stage], given: dict[str, Any]
) -> None:
    model = find()
    stage = label(model)
    grids = read_label_grids(stage.path)
    network = ClassificationNetwork.load(model.path)
    assert network.prototype_classifier is not None
    rows = network.prototype_classifier.prototypes.detach().numpy()
    prototypes = Prototypes(objects=rows[:, :3], context=rows[:, 3:])
    seen: set[int] = set()
    for record, grid in zip(given["images"].image_set.records, grids, strict=True):
        features = features_of(network, record.image)
        ramp = np.broadcast_to((np.arange(grid.shape[1]) + 0.5) / grid.shape[1], grid.shape)
        maps = np.repeat(ramp[None], len(record.labels), axis=0).astype(np.float32)
        classes = np.array(record.labels)
        shown = confident_positions(maps, classes, object_above=0.6, context_below=0.3)
        assert {UNLABELLED, CONTEXT} < set(shown.flatten().tolist())
        np.testing.assert_array_equal(grid, assign(features, shown, classes, prototypes))
        seen |= set(grid.flatten().tolist())
    assert len(seen) > 8
    written = (stage.path / LABELS_FILE).stat().st_mtime_ns
    again = label(model)
    assert (again.path / LABELS_FILE).stat().st_mtime_ns == written
    for first, second in zip(grids, read_label_grids(again.path), strict=True):
        np.testing.assert_array_equal(first, second)


def test_limits_that_are_chosen_are_those_that_count(
    find: Callable[..., Stage], label: Callable[..., Stage], given: dict[str, Any], tmp_path: Path
) -> None:
    limits = stage_at(tmp_path / "limits")
    alphas.run_limits(limits, images=given["images"], maps=given["maps"])
    chosen = limits.outputs_as(AlphasOfMaps)
    assert (chosen.object_above, chosen.context_below) != (0.6, 0.3)
    auto = replace(SETTINGS, object_above="auto", context_below="auto")
    told = replace(SETTINGS, object_above=chosen.object_above, context_below=chosen.context_below)
    ways = {"chosen": (auto, limits), "told": (told, None), "other": (SETTINGS, None)}
    written = {}
    for folder, (settings, stage) in ways.items():
        found = find(folder, settings, stage)
        labels = label(found, folder, settings, stage)
        written[folder] = [(found.path / "model.safetensors").read_bytes(), (labels.path / LABELS_FILE).read_bytes()]
        used = found.record["outputs"]
        assert (used["object_above"], used["context_below"]) == (
            (0.6, 0.3) if folder == "other" else (chosen.object_above, chosen.context_below)
        )
    assert written["chosen"] == written["told"]
    assert written["chosen"][0] != written["other"][0]
    assert written["chosen"][1] != written["other"][1]


def test_labels_need_prototypes(label: Callable[..., Stage], given: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match="has no prototypes"):
        label(given["model"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_context": 0}, "num_context: expected .* got 0"),
        ({"most_positions": 0}, "most_positions: expected .* got 0"),
        ({"object_above": 0.1}, "0.3 and 0.1"),
        ({"object_above": "auto"}, 'both as "auto", got 0.3 and auto'),
        ({"context_below": "auto"}, 'both as "auto", got auto and 0.6'),
        ({"object_above": 1.5}, "object_above: expected a number from 0 to 1 or one of auto, got 1.5"),
    ],
)
def test_settings_that_cannot_be(change: dict, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        replace(SETTINGS, **change)
