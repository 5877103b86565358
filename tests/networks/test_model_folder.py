"""A saved network comes back as what it is, or the error says what the folder holds instead."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from torch import nn

from subcam.errors import CheckpointError
from subcam.networks.model_folder import AFFINITY, CLASSIFICATION, SEGMENTATION, load_network, save_network


@dataclass(frozen=True, kw_only=True)
class Width:
    width: int


def build(config: Mapping[str, Any]) -> nn.Linear:
    return nn.Linear(config["width"], 2)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    save_network(tmp_path, nn.Linear(3, 2), Width(width=3), SEGMENTATION)
    return tmp_path


def change(folder: Path, **values: object) -> None:
    path = folder / "config.json"
    config = json.loads(path.read_text()) | values
    path.write_text(json.dumps({name: value for name, value in config.items() if value is not None}))


def test_both_files_say_what_they_are_and_the_weights_come_back(saved: Path) -> None:
    network = nn.Linear(3, 2)
    save_network(saved, network, Width(width=3), SEGMENTATION)
    assert json.loads((saved / "config.json").read_text()) == {
        "format": "subcam-segmentation",
        "version": 1,
        "width": 3,
    }
    with safe_open(saved / "model.safetensors", framework="pt") as file:
        assert file.metadata() == {"format": "subcam-segmentation"}
    torch.manual_seed(5)
    found = load_network(saved, SEGMENTATION, build)
    assert torch.equal(found.weight, network.weight)
    assert torch.equal(found.bias, network.bias)


def test_a_folder_of_another_kind_is_called_by_its_name(saved: Path) -> None:
    with pytest.raises(CheckpointError, match=r"holds a segmentation network; expected a classifier, give its folder"):
        load_network(saved, CLASSIFICATION, build)
    change(saved, format="somebody-elses")
    with pytest.raises(CheckpointError, match=r"holds 'somebody-elses'; expected an AffinityNet"):
        load_network(saved, AFFINITY, build)


def test_a_folder_from_before_formats_were_in_the_config_is_read(saved: Path) -> None:
    """Only the head of its weights says what it is."""
    change(saved, format=None, version=None)
    assert load_network(saved, SEGMENTATION, build).in_features == 3
    with pytest.raises(CheckpointError, match="holds a segmentation network; expected a classifier"):
        load_network(saved, CLASSIFICATION, build)


def test_a_newer_version_is_refused(saved: Path) -> None:
    change(saved, version=2)
    with pytest.raises(CheckpointError, match=r"config\.json is of version 2, and this subcam reads version 1; use"):
        load_network(saved, SEGMENTATION, build)


@pytest.mark.parametrize("text", ["{}", "[]", '{"width": "wide"}'])
def test_a_config_that_makes_no_sense_is_named(saved: Path, text: str) -> None:
    (saved / "config.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"config\.json is not a segmentation network's config of this version"):
        load_network(saved, SEGMENTATION, build)


def test_what_is_missing_is_named(saved: Path) -> None:
    (saved / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"there is no file .*model\.safetensors"):
        load_network(saved, SEGMENTATION, build)
    (saved / "config.json").unlink()
    with pytest.raises(CheckpointError, match=r"holds no saved segmentation network: config\.json is missing"):
        load_network(saved, SEGMENTATION, build)


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_no_numbers_are_named(saved: Path, number: float) -> None:
    """A network of them segments every image, into one class."""
    network = nn.Linear(3, 2)
    with torch.no_grad():
        network.bias[1] = number
    save_network(saved, network, Width(width=3), SEGMENTATION)
    with pytest.raises(CheckpointError, match=r"model\.safetensors: expected finite numbers, got others in bias"):
        load_network(saved, SEGMENTATION, build)
