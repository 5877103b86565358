"""What AffinityNet learns from: which neighbouring cells belong together (Section 3.3, after [1], psa).

In: class scores after the dense CRF with a low and a high alpha (a weak and a strong background). Out: a label map with
an ignore value where the two do not agree on object or background, then the three kinds of pairs within the radius.
Everything is vectorised, batched, and stays on the device of its input.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Integer, UInt8
from torch import Tensor

from subcam.affinity.grid import RADIUS, Radius
from subcam.affinity.pairs import pair_indices
from subcam.checks.arguments import takes_arrays
from subcam.checks.fields import Share
from subcam.data.records import BACKGROUND, IGNORE_INDEX
from subcam.errors import SettingsError


@dataclass(frozen=True, kw_only=True, eq=False)
class PairLabels:
    """Three disjoint kinds of pairs; a pair that touches an ignored cell is of none.

    background: both cells are background.
    foreground: both cells are of the same object class.
    negative: the cells differ.
    """

    background: Bool[Tensor, "*batch offsets pairs"]
    foreground: Bool[Tensor, "*batch offsets pairs"]
    negative: Bool[Tensor, "*batch offsets pairs"]


@takes_arrays(may_be_empty=("low_alpha", "high_alpha"))
def affinity_label_map(
    low_alpha: Float[Tensor, "*batch cls h w"],
    high_alpha: Float[Tensor, "*batch cls h w"],
    *,
    min_score: Share = 1e-5,
) -> UInt8[Tensor, "*batch h w"]:
    """Label of each cell: 0 sure background, the channel 1 .. cls - 1 of a sure object, 255 unsure.

    Both inputs hold the background in channel 0 and the present classes behind it, in one order, pooled to the grid by
    `pairs.pool_to_grid`. As psa does it: the best channel under the low alpha, where that is no background; 0 where the
    high alpha's best is the background, over any object of the low alpha's; 255 in the rest, and where no score of
    either reaches `min_score` (a crop that leaves the image). The values are channels, not class numbers, since pairs
    ask only whether two cells are equal. The first channel wins a tie.

    Raises:
        SettingsError: the two differ in shape, or have more channels than the map has values.
    """
    if low_alpha.shape != high_alpha.shape:
        raise SettingsError(
            f"affinity_label_map: expected low and high alpha scores of one shape, got {tuple(low_alpha.shape)} and "
            f"{tuple(high_alpha.shape)}. Make both from the same image, crop and classes."
        )
    if low_alpha.shape[-3] > IGNORE_INDEX:
        raise SettingsError(
            f"affinity_label_map: expected at most {IGNORE_INDEX} channels, got {low_alpha.shape[-3]}. "
            "Hand in the classes that are present."
        )
    low_best, low_label = low_alpha.max(dim=-3)
    high_best, high_label = high_alpha.max(dim=-3)
    label = low_label.masked_fill(low_label == BACKGROUND, IGNORE_INDEX)
    label = label.masked_fill(high_label == BACKGROUND, BACKGROUND)
    label = label.masked_fill(torch.maximum(low_best, high_best) < min_score, IGNORE_INDEX)
    return label.to(torch.uint8)


@takes_arrays()
def pair_labels(label: Integer[Tensor, "*batch h w"], *, radius: Radius = RADIUS) -> PairLabels:
    """The kind of each pair of cells nearer than `radius`; pairs by offset, then by source cell (see `pairs`).

    Raises:
        SettingsError: the map is too small to hold a pair.
    """
    height, width = label.shape[-2:]
    sources, targets = pair_indices(height=height, width=width, radius=radius, device=label.device)
    cells = label.flatten(-2)
    source, target = cells[..., sources].unsqueeze(-2), cells[..., targets]
    known = (source != IGNORE_INDEX) & (target != IGNORE_INDEX)
    same = (source == target) & known
    return PairLabels(
        background=same & (source == BACKGROUND),
        foreground=same & (source != BACKGROUND),
        negative=known & ~same,
    )
