"""What somebody's method returns is taken where it is right, and else refused with the names of method and image."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from subcam.cam.multiscale import multiscale_response
from subcam.cam.settings import CamSettings
from subcam.errors import MethodError
from subcam.methods.compute import MethodLearner, responses_of
from subcam.methods.protocol import ChosenMethod, Method, MethodTraining
from subcam.networks.classifier import ClassificationNetwork, ModelConfig
from subcam.networks.settings import NetworkSettings

IMAGES = torch.randint(0, 256, (3, 3, 24, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([[1, 0, 1], [0, 1, 0], [0, 0, 0]], dtype=torch.uint8)
NAMES = ["a/1", "b", "c"]
CAM = CamSettings(scales=(1.0, 0.5), flip=False)


@pytest.fixture
def network() -> ClassificationNetwork:
    torch.manual_seed(0)
    settings = NetworkSettings(name="tiny", weights="none", freeze_batch_norm=False)
    return ClassificationNetwork(ModelConfig(network=settings, class_names=("a", "b", "c"))).eval()


def theirs(**parts: Any) -> ChosenMethod:
    return ChosenMethod(method=Method(name="mine", **parts), reference="my.module:MINE", source="12ab")


def responses(network: ClassificationNetwork, method: ChosenMethod | None) -> list[Any]:
    return responses_of(method, network, IMAGES, LABELS, settings=CAM, names=NAMES)


def half(network: ClassificationNetwork, images: Tensor, labels: Tensor, settings: CamSettings) -> list[Tensor]:
    return [torch.full((int(own.sum()), *images.shape[2:]), 0.5) for own in labels]


def test_no_method_is_plain_cam(network: ClassificationNetwork) -> None:
    expected = multiscale_response(network, IMAGES, LABELS, scales=CAM.scales, flip=False)
    for one, other in zip(responses(network, None), expected, strict=True):
        assert torch.equal(one.maps, other.maps)
        assert torch.equal(one.logits, other.logits)


@pytest.mark.parametrize("batched", [False, True])
def test_maps_of_somebody_with_the_logits_of_the_network(network: ClassificationNetwork, batched: bool) -> None:
    asked: list[tuple[int, ...]] = []

    def maps(given: ClassificationNetwork, images: Tensor, labels: Tensor, settings: CamSettings) -> list[Tensor]:
        assert (given, settings, torch.is_grad_enabled()) == (network, CAM, True)
        asked.append(tuple(labels.sum(1).tolist()))
        return half(given, images, labels, settings)

    found = responses(network, theirs(maps=maps, batched=batched))
    assert asked == ([(2, 1, 0)] if batched else [(2,), (1,), (0,)])
    assert [tuple(one.maps.shape) for one in found] == [(2, 24, 32), (1, 24, 32), (0, 24, 32)]
    assert all(bool((one.maps == 0.5).all()) for one in found)
    with torch.no_grad():
        expected = network(IMAGES).parent
    torch.testing.assert_close(torch.stack([one.logits for one in found]), expected)


def test_values_beside_the_range_by_rounding_alone_are_taken_into_it(network: ClassificationNetwork) -> None:
    def maps(given: Any, images: Tensor, labels: Tensor, settings: Any) -> list[Tensor]:
        return [torch.full((int(labels.sum()), 24, 32), 1 + 5e-5, dtype=torch.float64).requires_grad_()]

    (one, *_) = responses(network, theirs(maps=maps))
    assert one.maps.max() == 1
    assert (one.maps.dtype, one.maps.requires_grad) == (torch.float32, False)


def test_maps_are_refined_image_by_image(network: ClassificationNetwork) -> None:
    asked = []

    def refine(given: ClassificationNetwork, image: Tensor, maps: Tensor, classes: Tensor) -> Tensor:
        asked.append((tuple(image.shape), classes.tolist()))
        return maps**2

    plain, refined = responses(network, theirs()), responses(network, theirs(refine=refine))
    assert asked == [((3, 24, 32), [0, 2]), ((3, 24, 32), [1]), ((3, 24, 32), [])]
    for one, other in zip(plain, refined, strict=True):
        torch.testing.assert_close(other.maps, one.maps**2)
        assert torch.equal(one.logits, other.logits)


WANTED = "expected a float tensor of [2, 24, 32] (present classes, height, width) in 0..1"


def returns(value: Any) -> Callable[..., Any]:
    return lambda *_: value


def raises(*_: Any) -> Any:
    raise RuntimeError("of\nsomebody")


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (raises, "it raised RuntimeError: of somebody; --debug shows where"),
        (returns(None), "expected a list of 1, the maps of each image, got NoneType"),
        (returns([]), "expected a list of 1, the maps of each image, got a list of 0"),
        (returns([np.zeros((2, 24, 32))]), f"{WANTED}, got ndarray"),
        (returns([torch.zeros(3, 24, 32)]), f"{WANTED}, got a tensor of [3, 24, 32], float32"),
        (returns([torch.zeros(2, 24, 32, dtype=torch.uint8)]), f"{WANTED}, got a tensor of [2, 24, 32], uint8"),
        (returns(torch.zeros(2, 24, 32)), "expected a list of 1, the maps of each image, got a tensor of [2, 24, 32]"),
        (returns([torch.full((2, 24, 32), -0.5)]), f"{WANTED}, got values of -0.5..-0.5"),
        (returns([torch.full((2, 24, 32), 7.0)]), f"{WANTED}, got values of 7..7; divide each map by its maximum"),
        (returns([torch.full((2, 24, 32), torch.nan)]), f"{WANTED}, got values of nan..nan, which are not all finite"),
        (returns([torch.full((2, 24, 32), torch.inf)]), f"{WANTED}, got values of inf..inf, which are not all finite"),
    ],
)
def test_maps_that_are_none(network: ClassificationNetwork, made: Callable[..., Any], message: str) -> None:
    with pytest.raises(MethodError) as error:
        responses(network, theirs(maps=made))
    assert str(error.value).startswith(f"method mine (my.module:MINE), maps of a/1: {message}")


@pytest.mark.parametrize(
    ("refined", "message"),
    [
        (raises, "it raised RuntimeError: of somebody"),
        (returns(None), f"{WANTED}, got NoneType"),
        (returns(torch.zeros(2, 24, 31)), f"{WANTED}, got a tensor of [2, 24, 31]"),
        (returns(torch.full((2, 24, 32), 2.0)), f"{WANTED}, got values of 2..2"),
    ],
)
def test_refined_maps_that_are_none(network: ClassificationNetwork, refined: Callable[..., Any], message: str) -> None:
    with pytest.raises(MethodError) as error:
        responses(network, theirs(refine=refined))
    assert str(error.value).startswith(f"method mine (my.module:MINE), refine of a/1: {message}")


def test_the_image_at_fault_is_named(network: ClassificationNetwork) -> None:
    def maps(given: Any, images: Tensor, labels: Tensor, settings: Any) -> list[Tensor]:
        return half(given, images, labels, settings) if labels.sum() != 1 else [torch.zeros(0)]

    with pytest.raises(MethodError, match=r"maps of b: expected a float tensor of \[1, 24, 32\]"):
        responses(network, theirs(maps=maps))
    with pytest.raises(MethodError, match="maps of a/1 and b and c: expected a list of 3"):
        responses(network, theirs(maps=returns([]), batched=True))


def test_a_machine_that_ran_out_is_no_mistake_of_the_method(network: ClassificationNetwork) -> None:
    def no_memory(*_: Any) -> Any:
        raise MemoryError

    with pytest.raises(MemoryError):
        responses(network, theirs(maps=no_memory))


def learner(network: ClassificationNetwork, losses: Callable[..., Any]) -> MethodLearner:
    return MethodLearner(network.train(), MethodTraining(chosen=theirs(losses=losses)))


def test_losses_are_those_of_the_parents_labels(network: ClassificationNetwork) -> None:
    given = []

    def losses(own: ClassificationNetwork, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
        given.append((own, tuple(images.shape), labels))
        return {"loss": own(images).parent.square().mean()}

    wide = torch.cat([LABELS, LABELS], 1)
    loss = learner(network, losses)(IMAGES, wide)["loss"]
    assert given[0][:2] == (network, (3, 3, 24, 32))
    assert torch.equal(given[0][2], LABELS)
    loss.backward()
    assert network.parent_head.weight.grad is not None


ONE = torch.ones((), requires_grad=True)
LOSSES = 'expected a dict of "loss" and its parts, each a tensor of one finite number'


@pytest.mark.parametrize(
    ("losses", "message"),
    [
        (raises, "it raised RuntimeError: of somebody"),
        (returns(ONE), f"{LOSSES}, got a tensor of [], float32"),
        (returns({"lose": ONE}), f"{LOSSES}, got a dict of 'lose'"),
        (returns({}), f"{LOSSES}, got a dict of nothing"),
        (returns({"loss": ONE.expand(3)}), f"{LOSSES}, got 'loss': a tensor of [3], float32"),
        (returns({"loss": 1.0}), f"{LOSSES}, got 'loss': float"),
        (returns({"loss": ONE, 3: ONE}), f"{LOSSES}, got 3: a tensor of [], float32"),
        (returns({"loss": ONE, "part": ONE * torch.nan}), f"{LOSSES}, got 'part': nan"),
        (returns({"loss": torch.ones(())}), 'expected a "loss" that depends on the weights, got one without gradient'),
    ],
)
def test_losses_that_are_none(network: ClassificationNetwork, losses: Callable[..., Any], message: str) -> None:
    with pytest.raises(MethodError) as error:
        learner(network, losses)(IMAGES, LABELS)
    assert str(error.value).startswith(f"method mine (my.module:MINE), losses of a batch of 3 crops: {message}")
