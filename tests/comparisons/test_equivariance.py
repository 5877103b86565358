"""Attention consistency: nothing to learn where maps move with the image; the loss by hand and by loops."""

import pytest
import torch
import torch.nn.functional as F

from subcam.comparisons.equivariance import equivariance_loss, equivariance_losses, peak_normalised
from subcam.comparisons.settings import EquivarianceSettings
from subcam.errors import SettingsError
from subcam.networks.classifier import ClassificationNetwork, ModelConfig
from subcam.networks.settings import NetworkSettings


@pytest.fixture
def network() -> ClassificationNetwork:
    torch.manual_seed(0)
    settings = NetworkSettings(name="tiny", weights="none", freeze_batch_norm=False)
    return ClassificationNetwork(ModelConfig(network=settings, class_names=("a", "b", "c"))).eval()


def some_maps(*size: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*size, generator=torch.Generator().manual_seed(seed))


def test_by_hand() -> None:
    """Over their maxima the maps are 1, 1/2 and 1/4, 1: mirrored 1/2, 1, so the differences are 1/4 and 0."""
    maps, transformed = torch.tensor([[[[4.0, 2.0]]]]), torch.tensor([[[[1.0, 4.0]]]])
    present = torch.ones(1, 1)
    assert equivariance_loss(maps, transformed, present, flip=True).item() == pytest.approx(0.125, abs=1e-4)
    assert equivariance_loss(maps, transformed, present, flip=False).item() == pytest.approx(0.625, abs=1e-4)
    assert equivariance_loss(maps, transformed, torch.zeros(1, 1), flip=True) == 0


def test_equals_loops() -> None:
    maps, transformed = some_maps(3, 4, 6, 8), some_maps(3, 4, 3, 5, seed=1)
    labels = torch.tensor([[1, 0, 0, 1], [0, 0, 0, 0], [0, 1, 0, 0]], dtype=torch.uint8)
    differences = []
    for i in range(3):
        for c in range(4):
            if labels[i, c]:
                small = F.interpolate(maps[i : i + 1, c : c + 1] / maps[i, c].max(), size=(3, 5), mode="bilinear")[0, 0]
                other = transformed[i, c] / transformed[i, c].max()
                differences += [abs(float(small[y, 4 - x] - other[y, x])) for y in range(3) for x in range(5)]
    found = equivariance_loss(maps, transformed, labels, flip=True)
    assert found.item() == pytest.approx(sum(differences) / len(differences), rel=1e-4)


def test_maps_that_move_with_the_image_cost_nothing() -> None:
    """At any strength: only where the strongest response lies, and how it falls off, counts."""
    maps, labels = some_maps(2, 3, 6, 8), torch.ones(2, 3)
    moved = F.interpolate(maps / maps.amax((2, 3), keepdim=True), size=(4, 4), mode="bilinear")
    moved = moved / moved.amax((2, 3), keepdim=True)
    same = equivariance_loss(maps, maps.flip(-1) * 7, labels, flip=True)
    assert same.item() == pytest.approx(0, abs=1e-4)
    assert equivariance_loss(moved, moved, labels, flip=False) == 0
    assert equivariance_loss(maps, maps, labels, flip=True) > 0.1


def test_its_gradient_is_the_numerical_one() -> None:
    maps, transformed = some_maps(1, 2, 4, 4).double(), some_maps(1, 2, 2, 2, seed=1).double()
    labels = torch.tensor([[1, 0]])
    given = maps.clone().requires_grad_(), transformed.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda a, b: equivariance_loss(a, b, labels, flip=True), given)
    equivariance_loss(*given, labels, flip=True).backward()
    for tensor in given:
        assert tensor.grad is not None
        assert tensor.grad[:, 0].abs().sum() > 0
        assert tensor.grad[:, 1].abs().sum() == 0


def test_peaks_are_one_and_nothing_stays_nothing() -> None:
    maps = torch.cat([some_maps(1, 1, 3, 3), torch.zeros(1, 1, 3, 3)], 1)
    found = peak_normalised(maps)
    assert found[0, 0].max().item() == pytest.approx(1, abs=1e-4)
    assert found[0, 1].abs().max() == 0


@pytest.mark.parametrize("flip", [0.0, 1.0])
def test_losses_equal_the_equations(network: ClassificationNetwork, flip: float) -> None:
    settings = EquivarianceSettings(weight=0.5, scale=(0.5, 0.5), flip=flip)
    images = torch.randint(0, 256, (2, 3, 32, 48), dtype=torch.uint8)
    labels = torch.tensor([[1, 0, 0], [0, 1, 1]], dtype=torch.uint8)
    found = equivariance_losses(network, images, labels, settings=settings)
    view = F.interpolate(images.float(), size=(16, 24), mode="bilinear", antialias=True)
    views = [images, view.flip(-1) if flip else view]
    losses, maps = [], []
    for one in views:
        features = network.feature_map(one)
        losses.append(F.binary_cross_entropy_with_logits(network.parent_head(features.mean((2, 3))), labels.float()))
        maps.append(F.conv2d(features, network.parent_head.weight[:, :, None, None]).clamp(min=0))
    difference = equivariance_loss(maps[0], maps[1], labels, flip=bool(flip))
    torch.testing.assert_close(found["parent_loss"], (losses[0] + losses[1]) / 2)
    torch.testing.assert_close(found["equivariance_loss"], difference)
    torch.testing.assert_close(found["loss"], (losses[0] + losses[1]) / 2 + 0.5 * difference)


def test_the_view_is_drawn_anew_and_from_the_seed_alone(network: ClassificationNetwork) -> None:
    settings = EquivarianceSettings()
    images = torch.randint(0, 256, (2, 3, 32, 48), dtype=torch.uint8)
    labels = torch.ones(2, 3, dtype=torch.uint8)
    found = []
    for seed in (1, 2, 1):
        torch.manual_seed(seed)
        found.append(equivariance_losses(network, images, labels, settings=settings)["equivariance_loss"].item())
    assert found[0] == found[2] != found[1]


def test_descent_makes_maps_consistent(network: ClassificationNetwork) -> None:
    settings = EquivarianceSettings(weight=10.0)
    images = torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8)
    labels = torch.eye(3, dtype=torch.uint8)[[0, 1, 2, 0]]
    optimiser = torch.optim.Adam(network.train().parameters(), lr=1e-3)
    losses = []
    for step in range(12):
        torch.manual_seed(step % 3)
        terms = equivariance_losses(network, images, labels, settings=settings)
        optimiser.zero_grad()
        terms["loss"].backward()
        optimiser.step()
        losses.append(terms["equivariance_loss"].item())
    assert sum(losses[-3:]) < 0.9 * sum(losses[:3])


@pytest.mark.parametrize("wrong", [{"weight": -1.0}, {"scale": (0.9, 0.5)}, {"scale": (0.0, 0.5)}, {"flip": 1.5}])
def test_wrong_settings_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(SettingsError, match=rf"{next(iter(wrong))}\b"):
        EquivarianceSettings(**wrong)  # type: ignore[arg-type]
