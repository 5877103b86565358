"""The method of docs/own-method.md: run as the page says, and equal to what the page says that it is."""

import shutil
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from documents import ROOT, python_blocks
from torch import Tensor

from subcam import cli
from subcam.cam.settings import CamSettings
from subcam.methods.registry import choose
from subcam.methods.settings import CompareSettings
from subcam.networks.classifier import ClassificationNetwork, ModelConfig
from subcam.networks.settings import NetworkSettings

PAGE = ROOT / "docs" / "own-method.md"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the page's code in the file that the page names."""
    (block,) = python_blocks(PAGE)
    assert len(block.text.splitlines()) <= 60
    (tmp_path / "score_cam.py").write_text(block.text, "utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "score_cam", raising=False)
    return tmp_path


@pytest.mark.usefixtures("here")
def test_its_maps_are_those_of_a_slow_version() -> None:
    torch.manual_seed(0)
    config = ModelConfig(network=NetworkSettings(name="tiny", weights="none"), class_names=("a", "b", "c"))
    network = ClassificationNetwork(config).eval()
    image = torch.randint(0, 256, (3, 40, 56), dtype=torch.uint8)
    (chosen,) = choose(CompareSettings(methods=("score_cam:SCORE_CAM",)))
    labels = torch.tensor([[1, 0, 1], [0, 0, 0]])
    found, none = chosen.method.maps(network, torch.stack([image, image]), labels, CamSettings())
    assert isinstance(found, Tensor)
    assert isinstance(none, Tensor)
    assert none.shape == (0, 40, 56)
    empty = torch.tensor(network.fill_colour, dtype=torch.float32)[:, None, None]
    maps, gains = [], []
    with torch.no_grad():
        baseline = network(empty.expand(1, 3, 40, 56)).parent[0]
        for channel in network.feature_map(image[None])[0].relu():
            full = F.interpolate(channel[None, None], size=(40, 56), mode="bilinear")[0, 0]
            mask = full / (full.max() + 1e-5)
            maps.append(mask)
            gains.append(network(((1 - mask) * empty + mask * image)[None]).parent[0] - baseline)
    for row, label in enumerate((0, 2)):
        powers = [torch.exp(gain[label]) for gain in gains]
        summed = sum(power / sum(powers) * mask for power, mask in zip(powers, maps, strict=True))
        torch.testing.assert_close(found[row], summed / summed.max(), atol=1e-4, rtol=1e-3)
    assert not torch.allclose(found[0], found[1], atol=1e-3)


def test_the_command_of_the_page_compares_it_with_plain_cam(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (words,) = (line.split() for line in PAGE.read_text("utf-8").splitlines() if line.startswith("subcam ablate"))
    start = words.index("--seeds")
    assert words[start : start + 4] == ["--seeds", "0", "1", "2"]
    del words[start + 2 : start + 4]  # one says as much
    small = "--dataset.toy.train-images 8 --dataset.toy.val-images 1 --dataset.toy.size 40 --classify.epochs 1"
    small += " --classify.batch-size 4 --classify.augmentation.crop 40 --cam.scales 1"
    small += " --machine.workers 0 --machine.threads 1 --machine.accelerator cpu"
    assert cli.main([*words[1:], *small.split()]) == 0
    assert "Score-CAM" in capsys.readouterr().out
    rows = (here / "runs" / "score-cam" / "ablate.csv").read_text("utf-8").splitlines()
    assert sum("Score-CAM" in row and row.endswith(",1") for row in rows) == 2
    shutil.rmtree(here / "runs")
