"""Class activation maps (Eq. 1) and their aggregation over scales and flips. Raw network maps in, maps in 0..1 out."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, Integer
from torch import Tensor

from subcam.checks.arguments import takes_arrays
from subcam.checks.fields import Count, Exponent, Pixels

NORMALISATION_EPSILON = 1e-5
"""Added to a map's maximum before dividing by it, as in AffinityNet's code; a map of zeros stays zero."""


@takes_arrays(may_be_empty=("features", "weights"))
def response_maps(
    features: Float[Tensor, "*batch dim h w"], weights: Float[Tensor, "cls dim"]
) -> Float[Tensor, "*batch cls h w"]:
    """Positive part of M^c(x, y) = theta_c . f(x, y), the class activation map of each class (Eq. 1).

    Args:
        features: f = E(I).
        weights: theta, the rows of the classifier that follows global average pooling.
    """
    # On one core einsum takes 1.6 times as long for the same product of features laid channels last, 9 times of others.
    dtype = torch.promote_types(features.dtype, weights.dtype)
    return torch.matmul(weights.to(dtype), features.to(dtype).flatten(-2)).unflatten(-1, features.shape[-2:]).relu_()


@takes_arrays(may_be_empty=("maps[]", "labels"))
def aggregate_response_maps(
    maps: Sequence[Float[Tensor, "cls _ _"]],
    *,
    flips: Sequence[bool],
    size: tuple[Pixels, Pixels],
    labels: Float[Tensor, " cls"] | Integer[Tensor, " cls"] | None = None,
    group_size: Count = 1,
    normalise: bool = True,
) -> Float[Tensor, "cls height width"]:
    """Sum one image's maps over scales and flips at full size, and normalise each class by its maximum (Eq. 1).

    Each map is upsampled bilinearly (align_corners False), flipped back where it came from a flipped image, and added;
    the sum of each class is divided by its maximum plus 1e-5. Classes that the labels say are absent are zero, and are
    not computed.

    Args:
        maps: non-negative maps of one image, one entry a scale and flip, any spatial size.
        flips: whether each entry was computed on the horizontally flipped image.
        size: height and width of the image.
        labels: multi-hot image-level labels, or None to keep every class.
        group_size: how many successive maps share one maximum: K for sub-category maps, which the published code
            normalises jointly within a parent.
        normalise: divide by the maximum; otherwise by the number of maps, so that probabilities stay probabilities.

    Returns:
        Maps in 0..1.

    Raises:
        ValueError: maps and flips differ in number, maps cannot be split into groups, or are negative or not
            finite (the positive part of Eq. 1 is that of `response_maps`; divided by a negative maximum, all would be
            above 1).
    """
    if len(maps) != len(flips):
        raise ValueError(f"expected as many flips as maps, got {len(maps)} maps and {len(flips)} flips")
    for position, one in enumerate(maps):  # on a GPU each look is a wait
        if one.numel() and not (one.amin() >= 0 and one.amax() < torch.inf):
            raise ValueError(
                f"maps[{position}]: expected finite maps of at least 0, got {one.amin():g}..{one.amax():g};"
                " take their positive part, as response_maps does"
            )
    if maps[0].shape[0] % group_size:
        raise ValueError(f"{maps[0].shape[0]} maps cannot be split into groups of {group_size}")
    return aggregated(maps, flips=flips, size=size, labels=labels, group_size=group_size, normalise=normalise)


def aggregated(
    maps: Sequence[Float[Tensor, "cls _ _"]],
    *,
    flips: Sequence[bool],
    size: tuple[int, int],
    labels: Float[Tensor, " cls"] | Integer[Tensor, " cls"] | None = None,
    group_size: int = 1,
    normalise: bool = True,
) -> Float[Tensor, "cls height width"]:
    """`aggregate_response_maps` of maps that are known to be right: nothing is looked at, and so no GPU waited for."""
    num_maps = maps[0].shape[0]
    present = torch.arange(num_maps) if labels is None else labels.cpu().nonzero().flatten()
    total = maps[0].new_zeros((len(present), *size))
    if len(present):
        for scaled, flipped in zip(maps, flips, strict=True):
            kept = scaled if labels is None else scaled[present.to(scaled.device)]
            full = F.interpolate(kept[None], size=size, mode="bilinear", align_corners=False)[0]
            total += full.flip(-1) if flipped else full
        groups = total.view(-1, group_size, *size)
        peak = groups.amax((1, 2, 3), keepdim=True) + NORMALISATION_EPSILON
        total = (groups / peak).view_as(total) if normalise else total / len(maps)
    if labels is None:
        return total
    absent_too = maps[0].new_zeros((num_maps, *size))
    absent_too[present.to(total.device)] = total
    return absent_too


@takes_arrays(may_be_empty=("maps",))
def background_score(maps: Float[Tensor, "cls h w"], alpha: Exponent) -> Float[Tensor, "h w"]:
    """(1 - max over classes)^alpha: how likely a pixel shows no class. Large alpha: little background.

    Args:
        maps: response maps in 0..1; with no class at all the score is 1 everywhere.
        alpha: AffinityNet uses 4 (low) and 16, 24 or 32 (high).

    Raises:
        ValueError: a response outside of 0..1.
    """
    if maps.numel() and not (maps.amin() >= 0 and maps.amax() <= 1):
        raise ValueError(f"maps: expected responses in 0..1, got {maps.amin():g}..{maps.amax():g}")
    return likely_background(maps, alpha)


def likely_background(maps: Float[Tensor, "cls h w"], alpha: float) -> Float[Tensor, "h w"]:
    """`background_score` of maps that are known to be right."""
    if not maps.shape[0]:
        return maps.new_ones(maps.shape[1:])
    return (1 - maps.amax(0)) ** alpha
