"""E, H_p and H_s together: maps and logits agree, and a saved network comes back the same or not at all."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from lightning_fabric import Fabric
from safetensors.torch import save_file

from subcam.errors import CheckpointError
from subcam.networks.classifier import ClassificationNetwork, ModelConfig, for_inference
from subcam.networks.settings import NetworkSettings

CONFIG = ModelConfig(
    network=NetworkSettings(name="tiny", weights="none", neck_channels=32, freeze_batch_norm=False),
    class_names=("cat", "dög", "a cow"),
    num_subcategories=4,
    head_dropout=0.5,
)
BODY_FEATURES = 128


@pytest.fixture
def network() -> ClassificationNetwork:
    torch.manual_seed(0)
    return ClassificationNetwork(CONFIG).eval()


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randint(0, 256, (2, 3, 40, 56), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)


def test_a_map_averaged_over_space_is_its_logit(network: ClassificationNetwork, images: torch.Tensor) -> None:
    """Eq. 1 holds exactly: heads are linear and without bias, and the pooling is a plain mean."""
    assert network.subcategory_head is not None
    with torch.no_grad():
        features = network.feature_map(images)
        logits = network(images)
        for head, logit in (
            (network.parent_head, logits.parent),
            (network.subcategory_head, logits.subcategory),
        ):
            maps = torch.einsum("bdhw,cd->bchw", features, head.weight)
            torch.testing.assert_close(maps.mean((2, 3)), logit)
    assert logits.parent.shape == (2, 3)
    assert logits.subcategory.shape == (2, 12)


def test_round_0_has_no_subcategories(images: torch.Tensor) -> None:
    network = ClassificationNetwork(replace(CONFIG, num_subcategories=0)).eval()
    assert network(images).subcategory is None
    assert len(network.body_and_heads()[1]) == 2  # neck and H_p


def test_prototypes_are_saved_with_the_network(
    network: ClassificationNetwork, images: torch.Tensor, tmp_path: Path
) -> None:
    assert network(images).prototypes is None
    prototypes = torch.randn(3, 5, 32, generator=torch.Generator().manual_seed(2))
    network.with_prototypes(prototypes, num_objects=4).save(tmp_path)
    loaded = ClassificationNetwork.load(tmp_path).eval()
    assert (loaded.config.num_objects, loaded.config.num_context) == (4, 1)
    with torch.no_grad():
        logits, plain = loaded(images), network(images)
        torch.testing.assert_close(logits.parent, plain.parent, rtol=0, atol=0)
        torch.testing.assert_close(logits.subcategory, plain.subcategory, rtol=0, atol=0)
        assert loaded.prototype_classifier is not None
        torch.testing.assert_close(logits.prototypes, loaded.prototype_classifier(loaded.feature_map(images)))
    assert torch.equal(loaded.prototype_classifier.prototypes, prototypes)
    assert len(loaded.body_and_heads()[1]) == 4  # neck, H_p, H_s and the prototype classifier learn at the heads' rate


@pytest.mark.parametrize("with_prototypes", [False, True])
def test_a_network_that_0_1_0_saved_is_read(
    network: ClassificationNetwork, tmp_path: Path, with_prototypes: bool
) -> None:
    """It called prototypes local."""
    saved = network.with_prototypes(torch.ones(3, 5, 32), num_objects=4) if with_prototypes else network
    saved.save(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text("utf-8"))
    config["num_local"] = config.pop("num_objects")
    (tmp_path / "config.json").write_text(json.dumps(config), "utf-8")
    state = {
        name.replace("prototype_classifier.", "local_classifier."): value for name, value in saved.state_dict().items()
    }
    save_file(state, tmp_path / "model.safetensors", metadata={"format": config["format"]})
    loaded = ClassificationNetwork.load(tmp_path)
    own = saved.state_dict()
    assert loaded.config == saved.config
    assert loaded.state_dict().keys() == own.keys()
    assert all(torch.equal(value, own[name]) for name, value in loaded.state_dict().items())


def test_prototypes_may_be_replaced_by_others(network: ClassificationNetwork) -> None:
    first = network.with_prototypes(torch.ones(3, 5, 32), num_objects=4)
    second = first.with_prototypes(torch.full((3, 2, 32), 2.0), num_objects=1)
    assert second.prototype_classifier is not None
    assert torch.equal(second.prototype_classifier.prototypes, torch.full((3, 2, 32), 2.0))


def test_images_are_normalised_inside(network: ClassificationNetwork, images: torch.Tensor) -> None:
    own = NetworkSettings(name="tiny", weights="none", mean=(0.1, 0.2, 0.3), std=(0.5, 0.25, 1.0))
    network = ClassificationNetwork(replace(CONFIG, network=own)).eval()
    by_hand = torch.empty(images.shape)
    for channel, (mean, std) in enumerate([(0.1, 0.5), (0.2, 0.25), (0.3, 1.0)]):
        by_hand[:, channel] = (images[:, channel] / 255 - mean) / std
    with torch.no_grad():
        expected = network.backbone(by_hand)
        torch.testing.assert_close(network.feature_map(images), expected)
        torch.testing.assert_close(network.feature_map(images.float()), expected)
    assert network.fill_colour == (26, 51, 76)


def test_dropout_takes_whole_channels_in_training_alone(network: ClassificationNetwork) -> None:
    features = torch.ones(64, 32, 2, 2)
    expected = network.parent_head(torch.ones(64, 32))
    torch.testing.assert_close(network.classify(features).parent, expected)
    network.train()
    network.parent_head.weight.data = torch.eye(3, 32)  # logit c is channel c after dropout
    found = network.classify(features).parent
    assert set(found.unique().tolist()) == {0.0, 2.0}
    assert 0.3 < (found == 0).float().mean() < 0.7


def test_a_saved_network_gives_the_same_outputs(
    network: ClassificationNetwork, images: torch.Tensor, tmp_path: Path, fabric: Fabric
) -> None:
    network.save(tmp_path)
    torch.manual_seed(99)
    loaded = ClassificationNetwork.load(tmp_path)
    assert loaded.config == network.config
    ready = for_inference(loaded, fabric)
    assert not ready.training
    with torch.no_grad():
        for mine, theirs in zip(ready(images), network(images), strict=True):
            torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)
        for name, tensor in network.state_dict().items():
            assert torch.equal(tensor, loaded.state_dict()[name]), name


def test_the_normalisation_of_a_file_of_weights_stays_with_the_network(tmp_path: Path) -> None:
    body = ClassificationNetwork(CONFIG).backbone.body.state_dict()
    save_file(body, tmp_path / "body.safetensors", {"mean": "0.1,0.2,0.3", "std": "0.4,0.5,0.6"})
    given = NetworkSettings(name="tiny", weights=str(tmp_path / "body.safetensors"))
    ClassificationNetwork(replace(CONFIG, network=given)).save(tmp_path / "saved")
    (tmp_path / "body.safetensors").unlink()  # a saved network needs nothing else
    loaded = ClassificationNetwork.load(tmp_path / "saved")
    assert loaded.backbone.mean == (0.1, 0.2, 0.3)
    assert loaded.backbone.std == (0.4, 0.5, 0.6)


def change_config(folder: Path, **changes: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_network_of_another_architecture_is_refused(network: ClassificationNetwork, tmp_path: Path) -> None:
    network.save(tmp_path)
    settings = json.loads((tmp_path / "config.json").read_text())["network"]
    change_config(tmp_path, network=settings | {"name": "resnet18", "neck_channels": 0})
    with pytest.raises(CheckpointError, match=r"model\.safetensors does not fit(?s:.)*lacks.*body\.conv1\.weight"):
        ClassificationNetwork.load(tmp_path)


def test_a_network_of_other_classes_is_refused(network: ClassificationNetwork, tmp_path: Path) -> None:
    network.save(tmp_path)
    change_config(tmp_path, class_names=["cat", "dog"])
    with pytest.raises(CheckpointError, match=r"parent_head\.weight \[3, 32\] in the file, \[2, 32\] in the network"):
        ClassificationNetwork.load(tmp_path)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"network": {"name": "tiny", "hue": 1}}, "hue"),
        ({"network": []}, "config"),
        ({"class_names": 3}, r"class_names: expected 0 to 65534 entries, each text .*, got 3"),
        ({"head_dropout": 10**12}, "head_dropout: expected a number from 0 to 1, got 1000000000000"),
    ],
)
def test_a_config_that_makes_no_sense_is_named(
    network: ClassificationNetwork, tmp_path: Path, changes: dict, named: str
) -> None:
    network.save(tmp_path)
    change_config(tmp_path, **changes)
    with pytest.raises(CheckpointError, match=named):
        ClassificationNetwork.load(tmp_path)


def test_what_is_missing_is_named(network: ClassificationNetwork, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"holds no saved classifier: config\.json is missing"):
        ClassificationNetwork.load(tmp_path)
    network.save(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"no file .*model\.safetensors"):
        ClassificationNetwork.load(tmp_path)


# Published classifiers. The small network stands in for ResNet-38: names of the heads are what matters.


@pytest.fixture
def reference(tmp_path: Path) -> Path:
    """A checkpoint as SC-CAM writes them, of the small network: body, fc8_20 and fc8_200 as 1x1 convolutions."""
    torch.manual_seed(7)
    body = ClassificationNetwork(CONFIG).backbone.body.state_dict()
    parents, subcategories = (torch.randn(rows, BODY_FEATURES, 1, 1) for rows in (3, 12))
    torch.save(body | {"fc8_20.weight": parents, "fc8_200.weight": subcategories}, tmp_path / "reference.pth")
    return tmp_path / "reference.pth"


def without_neck(num_subcategories: int = 4) -> ClassificationNetwork:
    plain = NetworkSettings(name="tiny", weights="none")
    return ClassificationNetwork(replace(CONFIG, network=plain, num_subcategories=num_subcategories))


def test_a_published_classifier_brings_body_and_heads(reference: Path) -> None:
    network = without_neck()
    network.load_reference(str(reference))
    state = torch.load(reference, weights_only=True)
    found = network.state_dict()
    assert torch.equal(found["parent_head.weight"], state["fc8_20.weight"].flatten(1))
    assert torch.equal(found["subcategory_head.weight"], state["fc8_200.weight"].flatten(1))
    assert torch.equal(found["backbone.body.convs.3.weight"], state["convs.3.weight"])
    first_round = without_neck(num_subcategories=0)
    first_round.load_reference(str(reference))
    assert torch.equal(first_round.parent_head.weight, network.parent_head.weight)


@pytest.mark.parametrize(
    ("name", "tensor", "message"),
    [
        ("fc8_20.weight", torch.zeros(20, BODY_FEATURES, 1, 1), r"parent classifier.*\n.*\n?.*\[20, 128\] in the file"),
        ("fc8_200.weight", torch.zeros(12, 64, 1, 1), r"sub-?category classifier.*\n.*\n?.*\[12, 64\] in the file"),
        ("convs.3.weight", torch.zeros(5, 5, 3, 3), r"convs\.3\.weight \[5, 5, 3, 3\] in the file"),
        ("bn7.weight", torch.zeros(4096), r"no place for \(1\): bn7\.weight"),
        ("fc8_20.weight", None, r"parent classifier.*(?s:.)*lacks \(1\): weight"),
        ("convs.3.weight", None, r"the file lacks \(1\): convs\.3\.weight"),
    ],
)
def test_a_published_classifier_that_does_not_fit(
    reference: Path, name: str, tensor: torch.Tensor | None, message: str
) -> None:
    state = torch.load(reference, weights_only=True)
    state.pop(name, None)
    if tensor is not None:
        state[name] = tensor
    torch.save(state, reference)
    with pytest.raises(CheckpointError, match=message) as caught:
        without_neck().load_reference(str(reference))
    assert str(reference) in str(caught.value)
