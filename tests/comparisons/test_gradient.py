"""Grad-CAM++ and LayerCAM equal their equations, written out with gradients and loops; Grad-CAM is Eq. 1."""

from functools import partial

import pytest
import torch

from subcam.cam.multiscale import multiscale_response
from subcam.cam.response import response_maps
from subcam.comparisons.gradient import CLASS_NAMES, GradientMethod, gradient_maps, require_package
from subcam.networks.classifier import ClassificationNetwork, ModelConfig
from subcam.networks.settings import NetworkSettings

pytest.importorskip("pytorch_grad_cam", reason="needs the extra 'compare'")

METHODS: tuple[GradientMethod, ...] = ("grad-cam", "grad-cam++", "layer-cam")


def features(height: int = 5, width: int = 7) -> torch.Tensor:
    """Of two images, 0 or more as after a ReLU."""
    return torch.randn(2, 6, height, width, generator=torch.Generator().manual_seed(height)).clamp(min=0)


@pytest.fixture
def weights() -> torch.Tensor:
    return torch.randn(3, 6, generator=torch.Generator().manual_seed(1))


def plain_map(feature: torch.Tensor, weight: torch.Tensor, method: GradientMethod) -> torch.Tensor:
    """One image's map of one class by the methods' papers, from the gradient of the logit behind average pooling."""
    feature = feature.double().requires_grad_()
    logit = feature.mean((1, 2)) @ weight.double()
    (gradient,) = torch.autograd.grad(logit, feature)
    found = torch.zeros(feature.shape[1:], dtype=torch.float64)
    for activation, slope in zip(feature.detach(), gradient, strict=True):
        if method == "layer-cam":
            found += slope.clamp(min=0) * activation
        elif method == "grad-cam":
            found += slope.mean() * activation
        else:
            alpha = slope**2 / (2 * slope**2 + activation.sum() * slope**3)
            found += (alpha * slope.clamp(min=0)).sum() * activation
    return found.clamp(min=0)


@pytest.mark.parametrize("method", METHODS)
def test_equals_the_equations(weights: torch.Tensor, method: GradientMethod) -> None:
    """But for the factor by which every scale counts alike: the number of positions, where no sum takes it in."""
    given = features()
    found = gradient_maps(given, weights, method=method)
    assert found.shape == (2, 3, 5, 7)
    factor = 1 if method == "grad-cam++" else 5 * 7
    for feature, maps in zip(given, found, strict=True):
        for weight, own in zip(weights, maps, strict=True):
            torch.testing.assert_close(own.double(), factor * plain_map(feature, weight, method), rtol=1e-4, atol=1e-5)


def test_grad_cam_of_a_linear_classifier_is_the_class_activation_map(weights: torch.Tensor) -> None:
    for given in (features(), features(11, 3)):
        torch.testing.assert_close(gradient_maps(given, weights, method="grad-cam"), response_maps(given, weights))


def test_layer_cam_of_a_linear_classifier_is_that_of_its_positive_weights(weights: torch.Tensor) -> None:
    given = features()
    expected = response_maps(given, weights.clamp(min=0))
    torch.testing.assert_close(gradient_maps(given, weights, method="layer-cam"), expected)


@pytest.mark.parametrize("method", METHODS)
def test_a_repeated_image_has_the_same_values_at_any_size(weights: torch.Tensor, method: GradientMethod) -> None:
    """So no scale of a sum over scales outweighs the others; the package's 1e-6 alone would break this."""
    small = features()
    large = small.tile(1, 1, 9, 9)
    found = gradient_maps(large, 0.01 * weights, method=method)
    expected = gradient_maps(small, 0.01 * weights, method=method).tile(1, 1, 9, 9)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-6)


def test_nothing_is_left_behind(weights: torch.Tensor) -> None:
    """No gradient, no change of what was given; it works inside inference mode and without classes."""
    with torch.inference_mode():
        given = features()
        before = given.clone()
        theta = torch.nn.Parameter(weights)
        found = gradient_maps(given, theta, method="grad-cam++")
        assert torch.equal(given, before)
        assert gradient_maps(given, weights[:0], method="layer-cam").shape == (2, 0, 5, 7)
    assert theta.grad is None
    assert not found.requires_grad


def test_the_package_has_the_classes() -> None:
    assert all(hasattr(require_package(), name) for name in CLASS_NAMES.values())


@pytest.mark.parametrize("method", METHODS)
def test_scales_and_flips_are_summed_as_for_class_activation_maps(method: GradientMethod) -> None:
    torch.manual_seed(0)
    config = ModelConfig(network=NetworkSettings(name="tiny", weights="none"), class_names=("a", "b"))
    network = ClassificationNetwork(config).eval()
    images = torch.randint(0, 256, (2, 3, 40, 32), dtype=torch.uint8)
    labels = torch.tensor([[1, 1], [0, 1]])
    kind = partial(gradient_maps, method=method)
    found = multiscale_response(network, images, labels, scales=(1.0, 0.5), class_maps=kind)
    plain = multiscale_response(network, images, labels, scales=(1.0, 0.5))
    for own, cam in zip(found, plain, strict=True):
        assert own.maps.shape == cam.maps.shape
        assert torch.equal(own.logits, cam.logits)
        if method == "grad-cam":
            torch.testing.assert_close(own.maps, cam.maps, rtol=1e-4, atol=1e-5)
        else:
            assert (own.maps - cam.maps).abs().max() > 0.01


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("method", METHODS)
def test_on_a_gpu_as_on_the_cpu(weights: torch.Tensor, method: GradientMethod) -> None:
    found = gradient_maps(features().cuda(), weights.cuda(), method=method)
    assert found.is_cuda
    torch.testing.assert_close(found.cpu(), gradient_maps(features(), weights, method=method), rtol=1e-4, atol=1e-5)
