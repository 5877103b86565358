"""What `MachineSettings` says of speed changes no result: the same stages with the same files in them."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from subcam import pipeline
from subcam.affinity.network import AffinityNetwork
from subcam.data.settings import AugmentationSettings
from subcam.networks.fast.compiled import Compiled
from subcam.settings import RefineSettings, RunSettings, SegmentSettings
from subcam.stages.settings.affinity import AffinitySettings
from subcam.stages.settings.pseudo_masks import MaskSettings
from subcam.stages.settings.segment import TrainSettings


@pytest.fixture
def whole(tiny_run: RunSettings) -> RunSettings:
    """From images to the masks of a segmentation network, as short as it can be."""
    varied = AugmentationSettings(crop=80, scale_long_side=(72, 104))
    toy = replace(tiny_run.dataset.toy, train_images=16, val_images=4)
    return replace(
        tiny_run,
        dataset=replace(tiny_run.dataset, toy=toy),
        refine=RefineSettings(
            rounds="last",
            affinity=AffinitySettings(epochs=1, batch_size=8, augmentation=varied),
            masks=MaskSettings(pseudo_mask="walk"),
        ),
        segment=SegmentSettings(train=TrainSettings(epochs=1, augmentation=replace(varied, crop=48))),
    )


def results(folder: Path) -> dict[Path, bytes]:
    kinds = (".npz", ".npy", ".png", ".safetensors")
    return {
        path.relative_to(folder): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.suffix in kinds
    }


def test_decoded_images_and_compiled_networks_change_no_file(
    whole: RunSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled: list[torch.nn.Module] = []

    def as_it_is(function: torch.nn.Module, dynamic: bool) -> Callable[..., Any]:
        assert dynamic
        compiled.append(function)
        return function

    monkeypatch.setattr(torch, "compile", as_it_is)
    pipeline.run(whole, tmp_path / "plain")
    assert compiled == []
    machine = replace(whole.machine, compile=True, decoded_cache=str(tmp_path / "decoded"))
    pipeline.run(replace(whole, machine=machine), tmp_path / "fast")
    plain, fast = results(tmp_path / "plain"), results(tmp_path / "fast")
    assert len(plain) > 50
    assert plain == fast
    # features of round 1, response maps of both rounds, AffinityNet, the segmentation network
    assert len(compiled) >= 5
    assert any(isinstance(network, AffinityNetwork) for network in compiled)
    images = {path.relative_to(tmp_path / "fast") for path in (tmp_path / "fast").glob("toy-*/images/*")}
    assert len(list((tmp_path / "decoded").rglob("*.npy"))) == len(images) == 20


def test_what_cannot_be_compiled_runs_and_says_why(
    whole: RunSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(function: torch.nn.Module, dynamic: bool) -> Compiled:
        raise RuntimeError("no C++ compiler")

    monkeypatch.setattr(torch, "compile", fail)
    settings = replace(whole, rounds=0, refine=RefineSettings(), segment=SegmentSettings(train_on=()))
    settings = replace(settings, machine=replace(settings.machine, compile=True))
    result = pipeline.run(settings, tmp_path)
    assert result.rounds[0].scores["val"].images == 4
    assert "the network tiny runs without torch.compile (RuntimeError: no C++ compiler)" in capsys.readouterr().out
