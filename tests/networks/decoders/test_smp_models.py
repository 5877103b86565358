"""Architectures of segmentation-models-pytorch: their grids, encoders by name, weights from files, refusals."""

import re
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

from subcam.errors import CheckpointError, SettingsError
from subcam.networks.decoders.smp_models import SmpModel, smp_architectures
from subcam.networks.settings import NetworkSettings

SMALL = "mobilenetv3_small_050"
"""timm's; segmentation-models-pytorch knows it under a prefix."""


def settings(name: str = SMALL, **changes: object) -> NetworkSettings:
    return NetworkSettings(**{"name": name, "weights": "none", "freeze_batch_norm": False, **changes})  # type: ignore[arg-type]


def test_the_architectures_of_the_issue_are_there() -> None:
    assert {"unet", "deeplabv3plus", "segformer", "fpn", "upernet"} <= set(smp_architectures())


@pytest.mark.parametrize(
    ("architecture", "name", "stride", "multiple"),
    [("unet", SMALL, 1, 32), ("deeplabv3plus", SMALL, 4, 16), ("segformer", "mit_b0", 4, 32)],
)
@torch.no_grad()
def test_logits_lie_on_the_grid_that_is_told(architecture: str, name: str, stride: int, multiple: int) -> None:
    """A decoder's last upsampling is left out: what it would only interpolate is not computed."""
    model = SmpModel(architecture, settings(name), 4).eval()
    assert (model.grid.stride, model.grid.pad_multiple) == (stride, multiple)
    size = (3 * multiple, 5 * multiple)
    assert model(torch.rand(1, 3, *size)).shape == (1, 4, size[0] // stride, size[1] // stride)


@torch.no_grad()
def test_a_image_smaller_than_the_pyramid_allows_is_padded() -> None:
    model = SmpModel("pan", settings("resnet18"), 2).eval()
    assert model.grid.least_side > model.grid.pad_multiple
    padded = model.grid.pad(torch.rand(1, 3, 9, 300))
    assert padded.shape == (1, 3, model.grid.least_side, 304)
    model(padded)
    with pytest.raises(RuntimeError, match="Output size is too small"):
        model(torch.rand(1, 3, model.grid.pad_multiple, 304))


def test_output_stride_and_further_arguments_reach_the_architecture() -> None:
    model = SmpModel("deeplabv3", settings("resnet18", output_stride=16, model_args={"decoder_channels": 32}), 2)
    assert model.grid.stride == 16
    assert model.model.segmentation_head[0].in_channels == 32


def test_body_and_heads_are_the_whole_model_and_frozen_batch_norm_is_the_encoders() -> None:
    model = SmpModel("deeplabv3plus", settings(freeze_batch_norm=True), 3).train()
    body, heads = model.body_and_heads()
    parts = [p for module in (body, *heads) for p in module.parameters()]
    assert {id(p) for p in parts} == {id(p) for p in model.parameters()}
    assert len(parts) == len(list(model.parameters()))
    norms = {True: [], False: []}  # type: ignore[var-annotated]
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            norms[module.training].append(module)
    assert {id(n) for n in norms[False]} == {id(n) for n in body.modules() if isinstance(n, torch.nn.BatchNorm2d)}
    assert norms[True]


@pytest.mark.parametrize(("name", "renamed"), [(SMALL, False), ("convnext_atto", True)])
def test_a_file_of_timms_weights_goes_into_the_encoder(name: str, renamed: bool, tmp_path: Path) -> None:
    """Also where timm's feature extractor writes stages_0 for stages.0; its head is left out, its mean is kept."""
    state = timm.create_model(name).state_dict()
    save_file(state, tmp_path / "encoder.safetensors", {"mean": "0.1,0.2,0.3"})
    model = SmpModel("fpn", settings(name, weights=str(tmp_path / "encoder.safetensors")), 2)
    found = model.model.encoder.model.state_dict()
    assert any(key.startswith("stages_0") for key in found) == renamed
    for key, tensor in found.items():
        source = re.sub(r"^stages_(\d)", r"stages.\1", re.sub(r"^stem_(\d)", r"stem.\1", key))
        assert torch.equal(tensor, state[source]), key
    assert model.settings.mean == (0.1, 0.2, 0.3)
    del state[next(iter(state))]
    save_file(state, tmp_path / "encoder.safetensors")
    with pytest.raises(CheckpointError, match=r"(?s)encoder\.safetensors does not fit.*lacks \(1\)"):
        SmpModel("fpn", settings(name, weights=str(tmp_path / "encoder.safetensors")), 2)


def test_what_cannot_be_is_said() -> None:
    with pytest.raises(SettingsError, match=r"no encoder is called 'resnet19'; expected a timm model.*'resnet1"):
        SmpModel("unet", settings("resnet19"), 2)
    with pytest.raises(SettingsError, match=r"'unet' uses all strides of its encoder; got output_stride=8"):
        SmpModel("unet", settings("resnet18", output_stride=8), 2)
    with pytest.raises(SettingsError, match=r"'dpt' cannot be built on 'resnet18' \(.*Choose another encoder or arch"):
        SmpModel("dpt", settings("resnet18"), 2)
    with pytest.raises(SettingsError, match=r"'fpn' has no argument 'colour'; it has: encoder_name,.*decoder_dropout"):
        SmpModel("fpn", settings("resnet18", model_args={"colour": "red"}), 2)
    with pytest.raises(SettingsError, match=r"'fpn' cannot be built on 'tu-mobilenetv3_small_050' with colour=red"):
        SmpModel("fpn", settings(model_args={"colour": "red"}), 2)
