"""The feature extractor as settings name it: weights from every source, what is frozen, what is refused."""

import copy
import json
import pickle
import re
import struct
from dataclasses import replace
from pathlib import Path

import huggingface_hub.constants
import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
import tyro
from PIL import Image
from tests.networks.golden_weights import golden_state
from torch import nn

from subcam.errors import CheckpointError, SettingsError
from subcam.networks.backbones.build import Backbone, build_backbone, freeze_parameters, set_batch_norm_eval
from subcam.networks.mxnet_params import torch_name
from subcam.networks.settings import NetworkSettings
from subcam.networks.weight_files import load_state, save_model


@pytest.fixture(scope="module")
def weights(shared: Path) -> str:
    return str(shared / "weights" / "mobilenetv2_100_imagenet.safetensors")


def build(**settings: object) -> Backbone:
    torch.manual_seed(0)
    return build_backbone(NetworkSettings(**{"name": "tiny", "weights": "none", **settings}))


def test_settings_can_be_given_on_the_command_line() -> None:
    words = "--name vit_tiny_patch16_224 --weights none --output-stride 16 --neck-channels 512 --mean 0.1 0.2 0.3"
    words += " --std 1 1 1 --model-args depth 3 pad_type same qkv_bias False drop_rate 0.5 --freeze b2 b2_1"
    got = tyro.cli(NetworkSettings, args=[*words.split(), "--no-freeze-batch-norm"])
    assert got == NetworkSettings(
        name="vit_tiny_patch16_224",
        weights="none",
        output_stride=16,
        neck_channels=512,
        mean=(0.1, 0.2, 0.3),
        std=(1.0, 1.0, 1.0),
        model_args={"depth": 3, "pad_type": "same", "qkv_bias": False, "drop_rate": 0.5},
        freeze=("b2", "b2_1"),
        freeze_batch_norm=False,
    )
    assert isinstance(got.model_args["qkv_bias"], bool)
    assert tyro.cli(NetworkSettings, args=[]) == NetworkSettings()


@pytest.mark.parametrize(
    ("settings", "num_features", "stride", "mean"),
    [
        ({}, 128, 4, (0.5, 0.5, 0.5)),
        ({"neck_channels": 32}, 32, 4, (0.5, 0.5, 0.5)),
        ({"name": "mobilenetv2_100"}, 1280, 32, (0.485, 0.456, 0.406)),
        ({"name": "mobilenetv2_100", "output_stride": 16, "neck_channels": 64}, 64, 16, (0.485, 0.456, 0.406)),
        ({"name": "vit_tiny_patch16_224", "model_args": {"depth": 1}}, 192, 16, (0.5, 0.5, 0.5)),
        ({"name": "convnext_atto", "mean": (0.0, 0.1, 0.2)}, 320, 32, (0.0, 0.1, 0.2)),
    ],
)
def test_a_backbone_says_what_it_gives(settings: dict, num_features: int, stride: int, mean: tuple) -> None:
    backbone = build(**settings)
    assert (backbone.num_features, backbone.stride, backbone.mean) == (num_features, stride, mean)
    assert (backbone.settings.mean, backbone.settings.std) == (backbone.mean, backbone.std)
    assert not backbone.training
    height, width = 2 * stride, 3 * stride
    out = backbone(torch.randn(2, 3, height, width))
    assert out.shape == (2, num_features, 2, 3)
    assert backbone(torch.randn(1, 3, height + 1, width - 3)).shape[:2] == (1, num_features)


def test_random_weights_come_from_the_seed() -> None:
    for name in ("tiny", "resnet18"):
        first, second = build(name=name, neck_channels=8), build(name=name, neck_channels=8)
        third = build_backbone(first.settings)
        for key, tensor in first.state_dict().items():
            assert torch.equal(tensor, second.state_dict()[key])
        assert not torch.equal(first.neck.weight, third.neck.weight)


def test_the_neck_is_a_3x3_convolution_with_relu_on_the_bodys_map() -> None:
    backbone = build(neck_channels=16)
    x = torch.randn(1, 3, 40, 48)
    with torch.no_grad():
        body = F.pad(backbone.body(x), (1, 1, 1, 1))
        patches = body.unfold(2, 3, 1).unfold(3, 3, 1)
        expected = torch.einsum("bchwij,ocij->bohw", patches, backbone.neck.weight)
        expected = (expected + backbone.neck.bias.view(1, -1, 1, 1)).clamp(min=0)
        torch.testing.assert_close(backbone(x), expected, rtol=1e-4, atol=1e-5)
    assert build().neck is None


def test_a_backbone_can_be_copied_and_pickled() -> None:
    for backbone in (build(), build(name="resnet18")):
        x = torch.randn(1, 3, 64, 64)
        for other in (copy.deepcopy(backbone), pickle.loads(pickle.dumps(backbone))):
            assert torch.equal(backbone(x), other(x))


# What is frozen


def learning(module: nn.Module) -> set[str]:
    return {name for name, parameter in module.named_parameters() if parameter.requires_grad}


def test_prefixes_end_at_dots() -> None:
    module = nn.ModuleDict({name: nn.Linear(1, 1) for name in ("b2", "b2_1", "b3")})
    freeze_parameters(module, ("b2", "b3.bias"))
    assert learning(module) == {"b2_1.weight", "b2_1.bias", "b3.weight"}


def test_prefix_of_nothing_is_an_error() -> None:
    with pytest.raises(SettingsError, match=r"nothing to freeze is called 'b'; the network's parts are b2, b3"):
        freeze_parameters(nn.ModuleDict({name: nn.Linear(1, 1) for name in ("b2", "b3")}), ("b2", "b"))
    with pytest.raises(SettingsError, match="nothing to freeze is called 'conv9'"):
        build(freeze=("conv9",))


def test_settings_freeze_by_the_bodys_names() -> None:
    backbone = build(name="resnet18", freeze=("conv1", "layer1"), freeze_batch_norm=False, neck_channels=8)
    frozen = {name for name, _ in backbone.named_parameters()} - learning(backbone)
    assert frozen == {f"body.{n}" for n, _ in backbone.body.named_parameters() if n.startswith(("conv1.", "layer1."))}
    freeze_parameters(backbone, backbone.settings.freeze)
    assert frozen == {name for name, _ in backbone.named_parameters()} - learning(backbone)


@pytest.mark.parametrize("frozen", [True, False])
def test_frozen_batch_norm_stays_as_it_is_in_training(*, frozen: bool) -> None:
    backbone = build(freeze_batch_norm=frozen).train()
    norms = [layer for layer in backbone.modules() if isinstance(layer, nn.BatchNorm2d)]
    before = copy.deepcopy([layer.state_dict() for layer in norms])
    optimiser = torch.optim.SGD([p for p in backbone.parameters() if p.requires_grad], lr=0.1)
    backbone(torch.randn(2, 3, 64, 64)).square().mean().backward()
    optimiser.step()
    same = [
        torch.equal(tensor, layer.state_dict()[name])
        for old, layer in zip(before, norms, strict=True)
        for name, tensor in old.items()
    ]
    assert same == [frozen] * 5 * 7
    assert backbone.training
    assert [layer.training for layer in norms] == [not frozen] * 7


def test_only_batch_norm_is_held() -> None:
    module = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2), nn.GroupNorm(1, 2), nn.Dropout()).train()
    set_batch_norm_eval(module)
    assert [layer.training for layer in module] == [True, False, True, True]
    assert learning(module) == {"0.weight", "0.bias", "2.weight", "2.bias"}


# Weights from files


@pytest.mark.data
def test_given_weights_know_cats_from_dogs(weights: str, voc_animals: Path, caplog: pytest.LogCaptureFixture) -> None:
    """ImageNet's cats are classes 281-285, its dogs 151-268; of 1000 classes, chance is under one in a hundred."""
    caplog.set_level("INFO", "subcam")
    backbone = build(name="mobilenetv2_100", weights=weights, model_args={"pad_type": "same"})
    assert caplog.messages == [f"{weights}: left out its classifier (classifier.bias, classifier.weight)"]
    assert backbone.mean == backbone.std == (0.5, 0.5, 0.5)
    state = load_state(weights)
    for kind, group in (("cat", range(281, 286)), ("dog", range(151, 269))):
        names = []
        for file in sorted((voc_animals / "Annotations").glob("*.xml")):
            found = set(re.findall(r"<object>.*?<name>(\w+)</name>", file.read_text("utf-8"), flags=re.DOTALL))
            names += [file.stem] if found == {kind} else []
        right = 0
        for name in names[:10]:
            with Image.open(voc_animals / "JPEGImages" / f"{name}.jpg") as image:
                pixels = torch.from_numpy(np.asarray(image.convert("RGB")) / np.float32(255))
            with torch.no_grad():
                features = backbone(((pixels - 0.5) / 0.5).permute(2, 0, 1)[None])
            logits = state["classifier.weight"] @ features.mean((0, 2, 3)) + state["classifier.bias"]
            right += int(logits.argmax()) in group
        assert right >= 7, (kind, right)


@pytest.mark.data
def test_given_weights_are_timms_network(weights: str) -> None:
    backbone = build(name="mobilenetv2_100", weights=weights, model_args={"pad_type": "same"})
    plain = timm.create_model("mobilenetv2_100", pad_type="same").eval()
    plain.load_state_dict(load_state(weights), strict=True)
    x = torch.randn(2, 3, 75, 99)
    with torch.no_grad():
        assert torch.equal(backbone(x), plain.forward_features(x))


def test_words_in_the_file_say_how_it_was_normalised_and_settings_say_more(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    state = build(name="resnet18").body.state_dict()
    save_model(path, state, {"mean": "0.1,0.2, 0.3"})
    backbone = build(name="resnet18", weights=str(path))
    assert (backbone.mean, backbone.std) == ((0.1, 0.2, 0.3), (0.229, 0.224, 0.225))
    assert build(name="resnet18", weights=str(path), mean=(0.0, 0.0, 0.0)).mean == (0.0, 0.0, 0.0)
    again = build_backbone(NetworkSettings(**{**vars(backbone.settings), "weights": "none"}))
    assert again.mean == backbone.mean, "a saved network must keep its normalisation without the file"
    save_model(path, state, {"std": "half"})
    with pytest.raises(CheckpointError, match=r"a\.safetensors: the head says std='half'; expected three numbers"):
        build(name="resnet18", weights=str(path))


@pytest.mark.parametrize("name", ["tiny", "resnet18", "convnext_atto"])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_weights_of_the_same_network_are_taken(tmp_path: Path, name: str, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    trained = build(name=name)
    state = {
        key: tensor + 0.01 if tensor.is_floating_point() else tensor
        for key, tensor in trained.body.state_dict().items()
    }
    save_model(path, state, {}) if suffix == ".safetensors" else torch.save(state, path)
    backbone = build(name=name, weights=str(path))
    for key, tensor in state.items():
        assert torch.equal(backbone.body.state_dict()[key], tensor), key


def test_weights_of_another_network_are_refused_with_a_list(tmp_path: Path) -> None:
    path = tmp_path / "resnet18.pth"
    torch.save(timm.create_model("resnet18").state_dict(), path)
    with pytest.raises(CheckpointError) as caught:
        build(name="mobilenetv2_100", weights=str(path))
    text = str(caught.value)
    assert f"{path} does not fit EfficientNet" in text
    assert re.search(r"the file lacks \(\d+\): conv_stem\.weight, ", text)
    assert re.search(r"no place for \(\d+\): conv1\.weight, layer1\.0\.conv1\.weight, ", text)
    assert "fc.weight" not in text
    torch.save({**build(name="resnet18").body.state_dict(), "conv1.weight": torch.zeros(64, 3, 3, 3)}, path)
    with pytest.raises(CheckpointError, match=r"of another shape \(1\): conv1\.weight \[64, 3, 3, 3\] in the file"):
        build(name="resnet18", weights=str(path))


def test_an_original_authors_file_is_converted(tmp_path: Path) -> None:
    """A vision transformer with the positions of another size: timm's converter resamples them, all else is equal."""
    larger = timm.create_model("vit_tiny_patch16_224", img_size=256, depth=1)
    path = tmp_path / "vit.pth"
    torch.save(larger.state_dict(), path)
    backbone = build(name="vit_tiny_patch16_224", weights=str(path), model_args={"depth": 1})
    own = backbone.body.state_dict()
    assert own["pos_embed"].shape != larger.pos_embed.shape
    assert all(torch.equal(own[name], larger.state_dict()[name]) for name in own if name != "pos_embed")


def write_mxnet(path: Path, params: dict[str, np.ndarray]) -> None:
    """A legacy `.params` file, one array at a time."""
    with path.open("wb") as file:
        file.write(struct.pack("<QQQ", 0x112, 0, len(params)))
        for array in params.values():
            file.write(struct.pack(f"<I{array.ndim}I", array.ndim, *array.shape) + struct.pack("<iii", 1, 0, 0))
            file.write(memoryview(np.ascontiguousarray(array)).cast("B"))
        file.write(struct.pack("<Q", len(params)))
        for name in params:
            file.write(struct.pack("<Q", len(name)) + name.encode())


@pytest.mark.slow
@pytest.mark.thorough
def test_resnet38_from_a_full_size_mxnet_file(tmp_path: Path, golden: Path) -> None:
    """400 MB of formula weights through the file, the reader and the network, against the published network's map."""
    key_map = json.loads((golden / "mxnet_params" / "key_map.json").read_text("utf-8"))
    published = json.loads((golden / "resnet38_keys.json").read_text("utf-8"))["nets"]["psa_cls"]
    state = golden_state(published["state_dict"])
    params = {name: state[torch_name(name)].numpy() for name in key_map["key_map"]}
    params["arg:linear1000_weight"] = np.zeros((1000, 8), np.float32)
    path = tmp_path / "ilsvrc.params"
    write_mxnet(path, params)
    backbone = build(name="resnet38", weights=str(path), freeze=("conv1a", "b2", "b2_1", "b2_2"))
    path.unlink()
    with np.load(golden / "resnet38_forward.npz", allow_pickle=False) as file:
        x, expected = torch.from_numpy(file["input"]), file["psa_cls_conv6_s64"]
    with torch.no_grad():
        got = backbone(x)[0, ::64].numpy()
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-5 * expected.max())
    still = {name for name, parameter in backbone.body.named_parameters() if not parameter.requires_grad}
    assert {name for name in still if "bn" not in name} == set(published["frozen_conv_after_train_call"])
    assert len({name for name in still if "bn" in name}) == published["n_bn_tensors_frozen_after_train_call"]
    assert len(still) == 8 + 74


# What is refused


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"name": "tiny", "weights": "timm"}, SettingsError, "timm has no weights of 'tiny'; give a file"),
        ({"name": "resnet38", "weights": "timm"}, SettingsError, "timm has no weights of 'resnet38'"),
        ({"name": "tiny", "output_stride": 16}, SettingsError, "'tiny' has output stride 4; got output_stride=16"),
        ({"name": "tiny", "model_args": {"a": 1}}, SettingsError, "'tiny' is not a timm model"),
        ({"name": "resnet_38"}, SettingsError, r"no network is called 'resnet_38'.*Did you mean .*resnet38"),
        ({"name": "tiny", "weights": "gone.pth"}, CheckpointError, r"there is no file gone\.pth"),
        ({"name": "resnet18", "weights": "imagenet"}, CheckpointError, "there is no file imagenet"),
        ({"name": "resnet18", "weights": "a.params"}, CheckpointError, r"there is no file a\.params"),
        ({"name": "resnet38", "weights": "a.params"}, CheckpointError, r"there is no file a\.params"),
    ],
)
def test_settings_that_cannot_be(settings: dict, error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        build(**settings)


def test_mxnet_files_are_for_resnet38(golden: Path) -> None:
    with pytest.raises(CheckpointError, match=r"tiny\.params ends in '\.params'; .* for resnet38"):
        build(name="resnet18", weights=str(golden / "mxnet_params" / "tiny.params"))
    with pytest.raises(
        CheckpointError, match=r"tiny\.params does not fit ResNet38; give .*:\n  of another shape \(191\): "
    ):
        build(name="resnet38", weights=str(golden / "mxnet_params" / "tiny.params"))


def test_no_network_is_one_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(CheckpointError, match=r"timm's weights of 'resnet18' could not be fetched .*'none'"):
        build(name="resnet18", weights="timm")


def test_a_model_that_timm_has_no_weights_for() -> None:
    name = next(n for n in timm.list_models("resnet*") if not timm.models.get_pretrained_cfg(n).has_weights)
    with pytest.raises(CheckpointError, match=f"timm's weights of '{name}' could not be fetched"):
        build(name=name, weights="timm")


def test_a_saved_network_is_a_start(tmp_path: Path) -> None:
    """Features of the saved network, whatever was on top of it, with its normalisation."""
    from subcam.networks.classifier import ClassificationNetwork, ModelConfig
    from subcam.networks.segmenter import SegmentationNetwork
    from subcam.networks.settings import SegmentationConfig

    tiny = NetworkSettings(name="tiny", weights="none", mean=(0.1, 0.2, 0.3), freeze_batch_norm=False)
    torch.manual_seed(1)
    saved = ClassificationNetwork(ModelConfig(network=tiny, class_names=("cat", "dog")))
    saved.save(tmp_path / "classifier")
    started = build(weights=str(tmp_path / "classifier"))
    image = torch.rand(1, 3, 32, 48)
    torch.testing.assert_close(started(image), saved.backbone.eval()(image), rtol=0, atol=0)
    assert started.mean == (0.1, 0.2, 0.3)
    assert started.settings.weights == str(tmp_path / "classifier")

    config = SegmentationConfig(network=replace(tiny, weights=str(tmp_path / "classifier")), class_names=("cat",))
    network = SegmentationNetwork(config)
    network.save(tmp_path / "segmentation")
    again = build(weights=str(tmp_path / "segmentation"))
    torch.testing.assert_close(again(image), started(image), rtol=0, atol=0)


def test_a_saved_network_that_does_not_fit(tmp_path: Path) -> None:
    from subcam.networks.segmenter import SegmentationNetwork
    from subcam.networks.settings import SegmentationConfig

    tiny = NetworkSettings(name="tiny", weights="none")
    folder = tmp_path / "segmentation"
    SegmentationNetwork(SegmentationConfig(network=tiny, class_names=("cat",))).save(folder)
    with pytest.raises(CheckpointError, match=r"segmentation holds a tiny; expected mobilenetv2_100"):
        build_backbone(NetworkSettings(name="mobilenetv2_100", weights=str(folder)))
    with pytest.raises(CheckpointError, match="holds no network that subcam saved"):
        build(weights=str(tmp_path))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"caffe_layout": True}))
    with pytest.raises(CheckpointError, match="laid out as DeepLab's"):
        build(weights=str(folder))
