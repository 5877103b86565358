"""Response maps of two classifiers on the same features, fused by their maximum (ACoL; see `classify.erasing`)."""

from typing import Any

import torch
from jaxtyping import Integer, UInt8
from torch import Tensor

from subcam.cam.multiscale import ImageResponse, multiscale_response
from subcam.networks.classifier import ClassificationNetwork


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
