"""Response maps over scales and flips equal a plain loop over one image, one scale and one flip at a time."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from subcam.cam.multiscale import multiscale_response, resize_images
from subcam.networks.classifier import ClassificationNetwork, ModelConfig
from subcam.networks.settings import NetworkSettings

CLASSES, K = 3, 4
SCALES = (1.0, 0.5, 1.7)


@pytest.fixture(scope="module")
def network() -> ClassificationNetwork:
    """Random weights, and batch norm statistics as if it had been trained."""
    torch.manual_seed(0)
    config = ModelConfig(
        network=NetworkSettings(name="tiny", weights="none", freeze_batch_norm=False),
        class_names=("a", "b", "c"),
        num_subcategories=K,
    )
    network = ClassificationNetwork(config)
    network.train()
    for _ in range(30):
        network(torch.randint(0, 256, (8, 3, 48, 48), dtype=torch.uint8))
    return network.eval()


def made_images(count: int, height: int, width: int) -> torch.Tensor:
    """Blobs of different colours, so that different places look different to the network."""
    coarse = torch.rand(count, 3, 5, 4, generator=torch.Generator().manual_seed(height * width))
    smooth = F.interpolate(coarse, size=(height, width), mode="bicubic", align_corners=False)
    return (smooth * 255).clamp(0, 255).to(torch.uint8)


def plain_response(
    network: ClassificationNetwork, image: torch.Tensor, *, scales: Sequence[float], flip: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """All parents' and all sub-categories' maps of one image."""
    assert network.subcategory_head is not None
    height, width = image.shape[1:]
    mean = torch.tensor(network.backbone.mean).view(1, 3, 1, 1)
    std = torch.tensor(network.backbone.std).view(1, 3, 1, 1)
    sums = []
    for head in (network.parent_head, network.subcategory_head):
        total = torch.zeros(len(head.weight), height, width)
        for scale in scales:
            for mirrored in (False, True) if flip else (False,):
                pixels = image[None].float()
                if scale != 1:
                    size = (round(height * scale), round(width * scale))
                    pixels = F.interpolate(pixels, size=size, mode="bicubic", antialias=True).round().clamp(0, 255)
                if mirrored:
                    pixels = pixels.flip(-1)
                features = network.backbone((pixels / 255 - mean) / std)
                raw = F.conv2d(features, head.weight[:, :, None, None]).clamp(min=0)
                full = F.interpolate(raw, size=(height, width), mode="bilinear", align_corners=False)[0]
                total += full.flip(-1) if mirrored else full
        sums.append(total)
    parents = sums[0] / (sums[0].amax((1, 2), keepdim=True) + 1e-5)
    subcategories = torch.cat([part / (part.max() + 1e-5) for part in sums[1].split(K)])
    return parents, subcategories


@torch.no_grad()
@pytest.mark.parametrize("flip", [True, False])
@pytest.mark.parametrize(("height", "width"), [(40, 56), (37, 53), (9, 64)])
def test_equals_the_plain_loop(network: ClassificationNetwork, height: int, width: int, *, flip: bool) -> None:
    images = made_images(4, height, width)
    labels = torch.tensor([[1, 0, 1], [0, 0, 0], [1, 1, 1], [0, 1, 0]], dtype=torch.uint8)
    found = multiscale_response(network, images, labels, scales=SCALES, flip=flip, subcategories=True)
    assert len(found) == 4
    for image, row, response in zip(images, labels.bool(), found, strict=True):
        parents, subcategories = plain_response(network, image, scales=SCALES, flip=flip)
        torch.testing.assert_close(response.maps, parents[row], atol=1e-4, rtol=0)
        torch.testing.assert_close(response.logits, network(image[None]).parent[0], atol=1e-4, rtol=1e-4)
        assert response.subcategory_maps is not None
        expected = subcategories.view(CLASSES, K, height, width)[row].flatten(0, 1)
        torch.testing.assert_close(response.subcategory_maps, expected, atol=1e-4, rtol=0)
        assert not row.any() or 0.9 < response.maps.max() <= 1


@torch.no_grad()
def test_one_product_for_both_heads_equals_two(network: ClassificationNetwork) -> None:
    images, labels = made_images(2, 37, 53), torch.tensor([[1, 0, 1], [1, 1, 1]], dtype=torch.uint8)

    def einsum(features: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        return torch.einsum("...dhw,cd->...chw", features, weights).relu_()

    one = multiscale_response(network, images, labels, scales=SCALES, subcategories=True)
    two = multiscale_response(network, images, labels, scales=SCALES, subcategories=True, class_maps=einsum)
    for response, expected in zip(one, two, strict=True):
        torch.testing.assert_close(response.maps, expected.maps, atol=1e-6, rtol=0)
        torch.testing.assert_close(response.subcategory_maps, expected.subcategory_maps, atol=1e-6, rtol=0)


@torch.no_grad()
def test_the_company_of_an_image_changes_nothing(network: ClassificationNetwork) -> None:
    images, labels = made_images(3, 33, 45), torch.ones(3, CLASSES, dtype=torch.uint8)
    together = multiscale_response(network, images, labels, scales=SCALES)
    for index in range(3):
        (alone,) = multiscale_response(network, images[index : index + 1], labels[:1], scales=SCALES)
        torch.testing.assert_close(alone.maps, together[index].maps, atol=1e-4, rtol=0)
        torch.testing.assert_close(alone.logits, together[index].logits, atol=1e-4, rtol=1e-4)
        assert alone.subcategory_maps is None


@torch.no_grad()
def test_logits_are_of_scale_1_even_where_no_map_is(network: ClassificationNetwork) -> None:
    images, labels = made_images(2, 32, 40), torch.ones(2, CLASSES, dtype=torch.uint8)
    found = multiscale_response(network, images, labels, scales=(0.5, 2.0))
    expected = network(images).parent
    for index, response in enumerate(found):
        torch.testing.assert_close(response.logits, expected[index], atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_a_round_without_subcategories_has_no_maps_of_them(network: ClassificationNetwork) -> None:
    plain = ClassificationNetwork(
        ModelConfig(network=network.config.network, class_names=network.config.class_names)
    ).eval()
    labels = torch.ones(1, CLASSES, dtype=torch.uint8)
    (found,) = multiscale_response(plain, made_images(1, 32, 32), labels, scales=(1.0,), subcategories=True)
    assert found.subcategory_maps is None
    assert found.maps.shape == (CLASSES, 32, 32)


@torch.no_grad()
def test_a_prototype_classifier_gives_squared_mean_probabilities(network: ClassificationNetwork) -> None:
    """A plain loop over scales and mirror images; the network's heads for whole images do not matter."""
    prototypes = torch.randn(CLASSES, 3, network.backbone.num_features, generator=torch.Generator().manual_seed(2))
    with_prototypes = network.with_prototypes(prototypes, num_objects=2)
    images, labels = made_images(2, 40, 56), torch.tensor([[1, 0, 1], [0, 1, 0]], dtype=torch.uint8)
    responses = multiscale_response(with_prototypes, images, labels, scales=SCALES, subcategories=True)
    assert with_prototypes.prototype_classifier is not None
    for image, row, response in zip(images, labels, responses, strict=True):
        present, total = row.nonzero().flatten(), torch.zeros(int(row.sum()), 2, 40, 56)
        for scale in SCALES:
            for mirrored in (False, True):
                pixels = resize_images(image[None], (round(40 * scale), round(56 * scale)))
                features = with_prototypes.feature_map(pixels.flip(-1) if mirrored else pixels)
                part = with_prototypes.prototype_classifier.probabilities(features, present)[0]
                full = F.interpolate(part, size=(40, 56), mode="bilinear", align_corners=False)
                total += (full.flip(-1) if mirrored else full) / (2 * len(SCALES))
        torch.testing.assert_close(response.maps, total.sum(1) ** 2, atol=1e-4, rtol=0)
        assert response.subcategory_maps is not None
        torch.testing.assert_close(response.subcategory_maps, total.flatten(0, 1) ** 2, atol=1e-4, rtol=0)
        torch.testing.assert_close(response.logits, network(image[None]).parent[0], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("size", [(20, 30), (55, 83), (1, 7)])
def test_images_are_resized_as_pillow_does(size: tuple[int, int]) -> None:
    images = made_images(2, 40, 60)
    found = resize_images(images, size)
    assert torch.equal(found, found.round())
    for image, mine in zip(images, found, strict=True):
        pil_image = Image.fromarray(image.permute(1, 2, 0).numpy())
        theirs = np.asarray(pil_image.resize(size[::-1], Image.Resampling.BICUBIC), np.float32)
        assert np.abs(mine.permute(1, 2, 0).numpy() - theirs).max() <= 1  # Pillow rounds between the two axes too
    assert resize_images(images, (40, 60)) is images
