"""From maps to prototypes to labels of positions, on generated images, by way of files."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric

from subcam.cam.map_files import ResponseMaps, coarsen, maps_path, write_response_maps
from subcam.data.check import CheckedImages
from subcam.data.images import read_image
from subcam.errors import SettingsError
from subcam.networks.classifier import ClassificationNetwork, ModelConfig
from subcam.prototypes.clustering import CONTEXT, UNSURE, Prototypes, assign, directions, sure_positions
from subcam.runtime.devices import MachineSettings
from subcam.runtime.run_folder import RunFolder
from subcam.settings import RunSettings
from subcam.stages import position_labels, prototypes
from subcam.stages.prototypes import LocalInputs, PrototypeSettings

SETTINGS = PrototypeSettings(num_objects=3, num_context=2, object_above=0.6, context_below=0.3, batch_size=5)


@pytest.fixture
def inputs(toy_train: CheckedImages, tiny_run: RunSettings, tmp_path: Path) -> LocalInputs:
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
    return LocalInputs(
        image_set=toy_train.image_set,
        sizes=toy_train.sizes,
        model=tmp_path / "model",
        maps=tmp_path / "maps",
        seed=0,
    )


@pytest.fixture
def find(inputs: LocalInputs, tmp_path: Path, fabric: Fabric, machine: MachineSettings) -> Callable[..., Path]:
    def find(folder: str = "run", settings: PrototypeSettings = SETTINGS) -> Path:
        stage = RunFolder(path=tmp_path / folder).stage("prototypes", settings=settings)
        return prototypes.run(settings, inputs, stage=stage, fabric=fabric, machine=machine)

    return find


def features_of(network: ClassificationNetwork, path: Path) -> np.ndarray:
    image = torch.from_numpy(read_image(path)).permute(2, 0, 1)[None]
    with torch.no_grad():
        return network.eval().feature_map(image)[0].permute(1, 2, 0).numpy()


def test_prototypes_stand_for_the_sure_positions(find: Callable[..., Path], inputs: LocalInputs) -> None:
    """With one cluster a group the prototype is the mean direction of all its positions."""
    settings = replace(SETTINGS, num_subcategories=1, num_context=1)
    network = ClassificationNetwork.load(find(settings=settings))
    assert network.prototype_classifier is not None
    labels = inputs.image_set.labels
    for c in range(inputs.image_set.num_classes):
        groups: tuple[list, list] = ([], [])
        for record in inputs.image_set.records:
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
        assert labels[:, c].any()
        for found, own in zip(network.prototype_classifier.prototypes[c].detach().numpy(), groups, strict=True):
            mean = directions(np.concatenate(own)).mean(0)
            np.testing.assert_allclose(found, mean / np.linalg.norm(mean), atol=2e-3)


def test_all_else_of_the_network_is_kept(find: Callable[..., Path], inputs: LocalInputs) -> None:
    before, after = ClassificationNetwork.load(inputs.model), ClassificationNetwork.load(find())
    assert (after.config.num_objects, after.config.num_context) == (3, 2)
    kept = after.state_dict()
    assert set(kept) - set(before.state_dict()) == {"prototype_classifier.prototypes"}
    for name, value in before.state_dict().items():
        assert torch.equal(value, kept[name]), name


def test_one_seed_gives_one_result_and_a_stage_that_is_done_is_left_alone(find: Callable[..., Path]) -> None:
    first, second = find("first"), find("second")
    weights = first / "model.safetensors"
    assert weights.read_bytes() == (second / "model.safetensors").read_bytes()
    written = weights.stat().st_mtime_ns
    assert find("first") == first
    assert weights.stat().st_mtime_ns == written


def test_labels_name_the_nearest_prototype(
    find: Callable[..., Path], inputs: LocalInputs, tmp_path: Path, fabric: Fabric, machine: MachineSettings
) -> None:
    inputs = replace(inputs, model=find())
    stage = RunFolder(path=tmp_path / "run").stage("labels")
    found = position_labels.run(SETTINGS, inputs, stage=stage, fabric=fabric, machine=machine)
    network = ClassificationNetwork.load(inputs.model)
    assert network.prototype_classifier is not None
    rows = network.prototype_classifier.prototypes.detach().numpy()
    prototypes = Prototypes(objects=rows[:, :3], context=rows[:, 3:])
    seen: set[int] = set()
    for record, grid in zip(inputs.image_set.records, found.grids, strict=True):
        features = features_of(network, record.image)
        ramp = np.broadcast_to((np.arange(grid.shape[1]) + 0.5) / grid.shape[1], grid.shape)
        maps = np.repeat(ramp[None], len(record.labels), axis=0).astype(np.float32)
        classes = np.array(record.labels)
        sure = sure_positions(maps, classes, object_above=0.6, context_below=0.3)
        assert {UNSURE, CONTEXT} < set(sure.flatten().tolist())
        np.testing.assert_array_equal(grid, assign(features, sure, classes, prototypes))
        seen |= set(grid.flatten().tolist())
    assert len(seen) > 8
    again = position_labels.run(SETTINGS, inputs, stage=stage, fabric=fabric, machine=machine)
    for mine, theirs in zip(found.grids, again.grids, strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_labels_need_prototypes(inputs: LocalInputs, tmp_path: Path, fabric: Fabric, machine: MachineSettings) -> None:
    stage = RunFolder(path=tmp_path / "run").stage("labels")
    with pytest.raises(SettingsError, match="has no prototypes"):
        position_labels.run(SETTINGS, inputs, stage=stage, fabric=fabric, machine=machine)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_context": 0}, "num_context 0"),
        ({"most_positions": 0}, "most_positions 0"),
        ({"object_above": 0.1}, "0.3 and 0.1"),
        ({"object_above": 1.5}, "0.3 and 1.5"),
    ],
)
def test_settings_that_cannot_be(change: dict, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        replace(SETTINGS, **change)
