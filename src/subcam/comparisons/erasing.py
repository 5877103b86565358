"""Adversarial erasing, a comparison: a second classifier learns from what the first one's response maps leave.

ACoL (Zhang et al., "Adversarial Complementary Learning for Weakly Supervised Object Localization", CVPR 2018) with one
linear layer for each classifier, so that Eq. 1 holds for both, and for images of several classes. Not in the paper,
which names erasing as related work. Labelled images in, losses out.
"""

from typing import Any

import torch
from jaxtyping import Float, Integer, Shaped, UInt8
from torch import Tensor

from subcam.cam.multiscale import ImageResponse, multiscale_response
from subcam.cam.response import NORMALISATION_EPSILON, response_maps
from subcam.comparisons.settings import ErasingSettings
from subcam.networks.classifier import ClassificationNetwork
from subcam.training.losses import joint_loss


def erased(
    features: Float[Tensor, "batch dim h w"],
    weights: Float[Tensor, "classes dim"],
    labels: Shaped[Tensor, "batch classes"],
    *,
    threshold: float,
) -> Float[Tensor, "batch dim h w"]:
    """Features with zeros where M_c(x, y) / max M_c > threshold for a class c that is present.

    No gradient flows through the choice of what is erased.

    Args:
        features: f = E(I).
        weights: theta of the first classifier, whose response maps M (Eq. 1) decide.
        labels: multi-hot.
        threshold: in 0..1; at 1 nothing is erased.
    """
    with torch.no_grad():
        maps = response_maps(features, weights.to(features))
        share = maps / (maps.amax((2, 3), keepdim=True) + NORMALISATION_EPSILON)
        kept = ~((share > threshold) & labels.bool()[:, :, None, None]).any(1, keepdim=True)
    return features * kept


def erasing_losses(
    network: ClassificationNetwork,
    images: Shaped[Tensor, "batch 3 h w"],
    labels: Shaped[Tensor, "batch classes"],
    *,
    settings: ErasingSettings,
) -> dict[str, Float[Tensor, ""]]:
    """L_p(H_p(f), Y) + weight L_p(H_s(erased f), Y), and both terms.

    Args:
        network: {E, H_p} and, as the second classifier, its H_s with one sub-category a parent.
        images: RGB 0..255.
        labels: multi-hot.
        settings: of erasing.

    Raises:
        ValueError: the network has another number of sub-categories.
    """
    if network.config.num_subcategories != 1:
        raise ValueError(f"expected one sub-category a parent, got {network.config.num_subcategories}")
    features = network.feature_map(images)
    rest = erased(features, network.parent_head.weight, labels, threshold=settings.threshold)
    first, second = network.classify(features).parent, network.classify(rest).subcategory
    joint = joint_loss(first, labels, second, labels, subcategory_weight=settings.weight)
    return {"loss": joint.total, "parent_loss": joint.parent, "erased_loss": joint.subcategory}


def fused_response(
    network: ClassificationNetwork,
    images: UInt8[Tensor, "batch 3 height width"],
    labels: Integer[Tensor, "batch classes"],
    **options: Any,
) -> list[ImageResponse]:
    """At each pixel the greater of both classifiers' maps, each normalised by its own maximum.

    Args:
        network: with an H_s of one sub-category a parent, which is the second classifier.
        images: RGB 0..255.
        labels: multi-hot; a class that is 0 is known to be absent.
        options: the other arguments of `multiscale_response`.

    Raises:
        ValueError: the network has no second classifier.
    """
    if network.config.num_subcategories != 1:
        raise ValueError(f"expected one sub-category a parent, got {network.config.num_subcategories}")
    both = multiscale_response(network, images, labels, **{**options, "subcategories": True})
    return [response._replace(maps=_greater(response), subcategory_maps=None) for response in both]


def _greater(response: ImageResponse) -> Tensor:
    if response.subcategory_maps is None:  # no class is present
        return response.maps
    return torch.maximum(response.maps, response.subcategory_maps)
