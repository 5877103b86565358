"""Our MobileNetV2 against timm's: the same names, the same numbers, at every stride; and timm stays unimported."""

import subprocess
import sys

import pytest
import timm
import torch

from subcam.networks.backbones import mobilenetv2
from subcam.networks.backbones.build import build_backbone
from subcam.networks.backbones.mobilenetv2 import MobileNetV2
from subcam.networks.settings import NetworkSettings


@pytest.mark.parametrize("pad_same", [False, True])
@pytest.mark.parametrize("output_stride", [8, 16, 32])
@pytest.mark.parametrize("size", [(64, 96), (37, 51)])
def test_the_same_numbers_as_timms(output_stride: int, size: tuple[int, int], pad_same: bool) -> None:
    torch.manual_seed(0)
    args = {"pad_type": "same"} if pad_same else {}
    theirs = timm.create_model(mobilenetv2.NAME, num_classes=0, output_stride=output_stride, **args).eval()
    for name, buffer in theirs.named_buffers():
        if name.endswith(("mean", "var")):
            buffer.uniform_(0.2, 1.5)
    ours = MobileNetV2(output_stride=output_stride, pad_same=pad_same).eval()
    assert list(ours.state_dict()) != []
    assert {name: value.shape for name, value in ours.state_dict().items()} == {
        name: value.shape for name, value in theirs.state_dict().items()
    }
    ours.load_state_dict(theirs.state_dict())
    images = torch.randn(2, 3, *size)
    with torch.inference_mode():
        torch.testing.assert_close(ours(images), theirs.forward_features(images))
        maps = theirs.forward_intermediates(images, intermediates_only=True, output_fmt="NCHW")
        for mine, other in zip(ours.intermediate_maps(images), maps, strict=True):
            torch.testing.assert_close(mine, other)


def test_random_weights_are_spread_as_timms() -> None:
    torch.manual_seed(0)
    theirs, ours = timm.create_model(mobilenetv2.NAME, num_classes=0), MobileNetV2()
    state = ours.state_dict()
    for name, value in theirs.state_dict().items():
        if value.numel() > 5000:
            assert float(state[name].std()) == pytest.approx(float(value.std()), rel=0.1), name


def test_a_backbone_of_random_weights_is_ours_and_pretrained_ones_are_timms() -> None:
    ours = build_backbone(NetworkSettings(name=mobilenetv2.NAME, weights="none", output_stride=16))
    assert isinstance(ours.body, MobileNetV2)
    assert (ours.stride, ours.num_features, ours.mean, ours.std) == (16, 1280, mobilenetv2.MEAN, mobilenetv2.STD)
    record = timm.get_pretrained_cfg(mobilenetv2.NAME)
    assert record is not None
    assert (tuple(record.mean), tuple(record.std)) == (mobilenetv2.MEAN, mobilenetv2.STD)
    for model_args, is_ours in (({"pad_type": "same"}, True), ({"drop_rate": 0.1}, False)):
        settings = NetworkSettings(name=mobilenetv2.NAME, weights="none", model_args=model_args)
        assert isinstance(build_backbone(settings).body, MobileNetV2) is is_ours


def test_building_it_imports_no_timm() -> None:
    code = (
        "import sys; from subcam.networks.backbones.build import NetworkSettings, build_backbone;"
        f"build_backbone(NetworkSettings(name='{mobilenetv2.NAME}', weights='none'));"
        "print([name for name in ('timm', 'torchvision', 'lightning_fabric', 'torch._dynamo') if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
