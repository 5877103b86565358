"""A mistake in somebody's method is found before anything is trained, and the run's chance is left as it was."""

from typing import Any

import pytest
import torch
from torch import Tensor

from subcam.cam.settings import CamSettings
from subcam.errors import MethodError
from subcam.methods.built_in import built_in
from subcam.methods.protocol import ChosenMethod, Method
from subcam.methods.settings import CompareSettings
from subcam.methods.trial import try_method
from subcam.networks.settings import NetworkSettings


def tried(chosen: ChosenMethod, names: tuple[str, ...] = ("a", "b", "c")) -> None:
    network = NetworkSettings(name="tiny", weights="none")
    try_method(chosen, network=network, class_names=names, settings=CamSettings(scales=(1.0,)))


def theirs(**parts: Any) -> ChosenMethod:
    return ChosenMethod(method=Method(name="mine", **parts), reference="m:MINE", source="12ab")


def good(network: Any, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
    assert network.training
    return {"loss": network(images).subcategory.sum()}


@pytest.mark.parametrize("names", [("a",), ("a", "b", "c")])
def test_one_that_works_leaves_chance_alone(names: tuple[str, ...]) -> None:
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    tried(theirs(losses=good, num_subcategories=1), names)
    assert torch.equal(torch.rand(2), expected)


def test_a_mistake_is_that_of_the_run() -> None:
    with pytest.raises(MethodError, match=r"method mine \(m:MINE\), maps of an image of noise: .*\[2, 48, 64\]"):
        tried(theirs(maps=lambda *_: [torch.zeros(1)]))
    with pytest.raises(MethodError, match="losses of a batch of 2 crops: it raised AttributeError"):
        tried(theirs(losses=good))


def test_ours_need_no_trial(capsys: pytest.CaptureFixture[str]) -> None:
    tried(ChosenMethod(method=built_in(CompareSettings())["erasing"], reference="erasing"))
    assert capsys.readouterr().out == ""
