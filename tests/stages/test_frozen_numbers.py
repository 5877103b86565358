"""That frozen layers may compute in bf16 reaches each training, and the copy that is trained."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.stages.given import stage_at
from tests.training.one_number import OneNumber, training_of
from torch import nn

from subcam.data.check import CheckedImages
from subcam.networks.fast.convolution import FusedConvolution, computes_in
from subcam.networks.settings import SegmentationConfig
from subcam.runtime.devices import Device
from subcam.runtime.run_folder import RunFolder
from subcam.settings import RunSettings
from subcam.stages import classify, segment
from subcam.stages.refine import affinity
from subcam.training.loop import Training, train


@pytest.mark.parametrize("frozen_in_bf16", [True, False])
def test_every_training_is_told(
    tiny_run: RunSettings,
    toy_train: CheckedImages,
    device: Device,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    frozen_in_bf16: bool,
) -> None:
    told: list[bool] = []

    def note(training: Training, **_: Any) -> None:
        told.append(training.frozen_in_bf16)

    for module in (affinity, classify, segment):
        monkeypatch.setattr(module, "train", note)
    network = replace(tiny_run.network, frozen_in_bf16=frozen_in_bf16)
    stage = stage_at(tmp_path)
    shared = {"images": toy_train, "seed": 1, "device": device}
    classify.run(stage, settings=tiny_run.classify, network=network, round_index=0, **shared)
    affinity.run(stage, settings=tiny_run.refine.affinity, network=network, sure_regions=stage, **shared)
    config = SegmentationConfig(network=network, class_names=toy_train.image_set.class_names)
    segment.run(
        stage, settings=tiny_run.segment.train, config=config, masks=None, variant="", validation=None, **shared
    )
    assert told == [frozen_in_bf16] * 3


class OneConvolution(OneNumber):
    """As there, with a frozen convolution and its batch norm in front."""

    def __init__(self) -> None:
        super().__init__()
        self.frozen = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3).eval()).requires_grad_(requires_grad=False)
        self.frozen.train = lambda mode=True: self.frozen  # type: ignore[method-assign]

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.body.weight.sum() + self.head.weight.sum() + 0 * self.frozen(images.float()).sum()


@pytest.mark.skipif(not computes_in(torch.bfloat16), reason="needs a processor with bf16")
@pytest.mark.parametrize("frozen_in_bf16", [True, False])
def test_the_training_computes_in_it(
    device: Device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, frozen_in_bf16: bool
) -> None:
    numbers: set[torch.dtype] = set()
    forward = FusedConvolution.forward

    def noting(self: FusedConvolution, x: torch.Tensor) -> torch.Tensor:
        result = forward(self, x)
        if torch.is_grad_enabled() and x.shape[0] > 1:
            numbers.add(result.dtype)
        return result

    monkeypatch.setattr(FusedConvolution, "forward", noting)
    training = replace(training_of(OneConvolution()), frozen_in_bf16=frozen_in_bf16)
    stage = RunFolder(path=tmp_path).stage("train")
    train(training, stage=stage, fabric=device.fabric, machine=device.machine, save=lambda: None)
    assert numbers == {torch.bfloat16 if frozen_in_bf16 else torch.float32}
