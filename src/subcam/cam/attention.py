"""Attention-guided response maps: maps spread over positions that attend to each other. Maps in, maps out."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from subcam.networks.backbones.vit_attention import LayerAttention

MOST_WEIGHTS = 1 << 26
"""Attention weights of all heads that may be in memory at once (256 MiB), where a device has no fused kernel."""


def guide_by_attention(
    maps: Float[Tensor, "batch maps h w"], layers: Sequence[LayerAttention], *, steps: int = 1
) -> Float[Tensor, "batch maps h w"]:
    """A^p M: each position takes the mean of the map over all positions, weighted by its attention to them.

    A is the mean over layers and heads of softmax(q k^T scale) between patches: without the class token and other
    prefix tokens, so its rows sum to 1. MCTformer (Xu et al., CVPR 2022) refines class maps with the patch-to-patch
    part of such a mean, over all layers. A^p is p steps of a walk with probabilities A, as AffinityNet (Ahn and Kwak,
    CVPR 2018) walks with learned ones.

    Attention that a position spends on everything alike adds the map's mean everywhere, background too. So the result
    is lowered by what its least value lies above that of M, and stays within the least and the greatest value of M.

    A itself, positions by positions, is not needed: A M is what the layer's attention gives with M as its values.

    Args:
        maps: non-negative, on the network's grid.
        layers: queries and keys of the same images, patches last and row by row.
        steps: p.
    """
    height, width = maps.shape[2:]
    values = maps.flatten(2).mT
    for _ in range(steps):
        values = torch.stack([_attend(layer, values) for layer in layers]).mean(0)
    lifted = values.amin(1) - maps.flatten(2).amin(2)
    return (values - lifted[:, None]).mT.unflatten(2, (height, width))


def _attend(
    layer: LayerAttention, values: Float[Tensor, "batch positions maps"]
) -> Float[Tensor, "batch positions maps"]:
    """softmax(q k^T scale) values between patches, the mean over heads."""
    positions, dim = values.shape[1], layer.queries.shape[3]
    queries, keys = (tokens[:, :, -positions:].float() for tokens in (layer.queries, layer.keys))
    batch, heads = queries.shape[:2]
    # Fused kernels, which never write the weights down, want values as wide as the keys.
    parts = F.pad(values.float(), (0, -values.shape[2] % dim)).split(dim, dim=2)
    rows = max(1, MOST_WEIGHTS // (batch * heads * positions))
    out = [
        torch.cat(
            [
                F.scaled_dot_product_attention(
                    some, keys, part[:, None].expand(-1, heads, -1, -1), scale=layer.scale
                ).mean(1)
                for some in queries.split(rows, dim=2)
            ],
            dim=1,
        )
        for part in parts
    ]
    return torch.cat(out, dim=2)[:, :, : values.shape[2]].to(values.dtype)
