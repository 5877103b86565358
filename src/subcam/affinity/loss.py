"""AffinityNet on top of a backbone: features in, pair affinities and their loss out (Section 3.3, after [1], psa).

The head turns backbone features of several depths into one feature map, whose L1 distances are the affinities. The loss
weighs the three kinds of pairs of `affinity_labels`. Whoever trains it may build any backbone below.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from subcam.affinity.grid import RADIUS, STRIDE, training_region
from subcam.affinity.labels import PairLabels
from subcam.affinity.pairs import pair_offsets, shifted
from subcam.checks.arguments import takes_arrays
from subcam.errors import SettingsError
from subcam.runtime import distributed

RESNET38_CHANNELS = (512, 1024, 4096)
LOG_FLOOR = 1e-5


class AffinityHead(nn.Module):
    """One feature map out of several: a 1x1 convolution and ELU on each, and again on all joined.

    With ResNet-38's conv4, conv5 and conv6 (512, 1024, 4096 channels at stride 8) it is AffinityNet's, and its
    parameters bear the names of psa's checkpoints: `f8_3`, `f8_4`, `f8_5`, `f9`, without biases. Further features go on
    with `f8_6`. They start as psa's do: `f8_*` normal (Kaiming), `f9` uniform (Xavier, gain 4).

    The loss reaches the backbone through every input: psa's code stops no gradient at the head (it trains 35 of the 43
    convolutions below it, all but those of conv1a, b2, b2_1 and b2_2), nor does this. Detach the features to train the
    head alone.

    Args:
        channels: channels of each feature, in the order they will come.
        strides: pixels from one cell to the next in each of them; by default all lie on the grid.
        widths: channels that each is brought to; by default an eighth, but 16 to 256, which gives psa's 64, 128, 256.
        stride: pixels from one cell to the next on the grid of the result.
    """

    def __init__(
        self,
        channels: Sequence[int] = RESNET38_CHANNELS,
        *,
        strides: Sequence[int] | None = None,
        widths: Sequence[int] | None = None,
        stride: int = STRIDE,
    ) -> None:
        super().__init__()
        self.strides = tuple(strides) if strides is not None else (stride,) * len(channels)
        widths = tuple(widths) if widths is not None else tuple(max(16, min(count // 8, 256)) for count in channels)
        if not channels or not len(channels) == len(self.strides) == len(widths):
            raise SettingsError(
                "AffinityHead: expected as many strides and widths as channels, at least one; "
                f"got {len(channels)} channels, {len(self.strides)} strides, {len(widths)} widths."
            )
        self.channels, self.stride, self.dim = tuple(channels), stride, sum(widths)
        self.reducer_names = tuple(f"f8_{number}" for number in range(3, 3 + len(channels)))
        for name, count, width in zip(self.reducer_names, channels, widths, strict=True):
            reducer = nn.Conv2d(count, width, 1, bias=False)
            nn.init.kaiming_normal_(reducer.weight)
            self.add_module(name, reducer)
        self.f9 = nn.Conv2d(self.dim, self.dim, 1, bias=False)
        nn.init.xavier_uniform_(self.f9.weight, gain=4)

    def forward(
        self, features: Sequence[Float[Tensor, "batch _ _ _"]], *, grid: tuple[int, int] | None = None
    ) -> Float[Tensor, "batch dim h w"]:
        """The feature map for `pair_affinity` and `random_walk.pixel_affinity`.

        Args:
            features: one for each of `channels`. Those of another size than the grid are resized to it (bilinear,
                align_corners=False; after their 1x1 convolution, which changes nothing but the cost).
            grid: rows and columns of the result; by default the size of the first feature at the result's stride.

        Raises:
            SettingsError: features of other counts than announced, or no feature at the result's stride and no `grid`.
        """
        got = tuple(feature.shape[1] for feature in features)
        if got != self.channels:
            raise SettingsError(f"AffinityHead: expected features of {self.channels} channels, got {got}.")
        if grid is None:
            if self.stride not in self.strides:
                raise SettingsError(
                    f"AffinityHead: no feature has stride {self.stride} (they have {self.strides}), so hand in `grid`, "
                    f"the image's rows and columns divided by {self.stride}, rounded up."
                )
            height, width = features[self.strides.index(self.stride)].shape[2:]
            grid = (height, width)
        reduced = []
        for name, feature in zip(self.reducer_names, features, strict=True):
            values = self.get_submodule(name)(feature)
            if tuple(values.shape[2:]) != grid:
                values = F.interpolate(values, size=grid, mode="bilinear", align_corners=False)
            reduced.append(F.elu(values))
        return F.elu(self.f9(torch.cat(reduced, dim=1)))


def pair_affinity(
    features: Float[Tensor, "batch dim h w"], *, radius: int = RADIUS
) -> Float[Tensor, "batch offsets pairs"]:
    """exp(-mean_c |f_c(target) - f_c(source)|), differentiable; pairs by offset, then by source cell (see `pairs`).

    The gradient is computed anew from the features, so that no difference of any pair is kept: memory is that of a few
    feature maps, not of one for each offset. Half precision is computed, and returned, in float32.

    Raises:
        SettingsError: the grid is too small to hold a pair.
    """
    if features.dtype in (torch.float16, torch.bfloat16):
        features = features.float()
    return _PairAffinity.apply(features, radius)


class _PairAffinity(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, features: Tensor, radius: int) -> Tensor:
        height, width = features.shape[2:]
        region = training_region(height=height, width=width, radius=radius)
        source = features[:, :, *region]
        distances = [
            (features[:, :, *shifted(region, offset)] - source).abs_().mean(1).flatten(1)
            for offset in pair_offsets(radius)
        ]
        affinity = torch.stack(distances, dim=1).neg_().exp_()
        ctx.save_for_backward(features, affinity)
        ctx.radius, ctx.region = radius, region
        return affinity

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        features, affinity = ctx.saved_tensors
        source = features[:, :, *ctx.region]
        slope = (-gradient * affinity / features.shape[1]).unflatten(2, source.shape[2:])
        result = torch.zeros_like(features)
        for o, offset in enumerate(pair_offsets(ctx.radius)):
            target_region = shifted(ctx.region, offset)
            step = (features[:, :, *target_region] - source).sign_().mul_(slope[:, o, None])
            result[:, :, *target_region] += step
            result[:, :, *ctx.region] -= step
        return result, None


@dataclass(frozen=True, kw_only=True, eq=False)
class AffinityLoss:
    """The loss to minimise and its three parts, each a mean over the batch's pairs of that kind, before weighting."""

    total: Float[Tensor, ""]
    background: Float[Tensor, ""]
    foreground: Float[Tensor, ""]
    negative: Float[Tensor, ""]


@takes_arrays(may_be_empty=("affinity",))
def affinity_loss(affinity: Float[Tensor, "*batch offsets pairs"], labels: PairLabels) -> AffinityLoss:
    """Cross-entropy of pair affinities: total = background / 4 + foreground / 4 + negative / 2, as in psa.

    background, foreground: mean of -ln(a + 1e-5) over the pairs of the kind; negative: mean of -ln(1 - a + 1e-5).
    Means run over the whole batch; a kind without a pair is 0.

    Raises:
        ValueError: affinities and labels are of different pairs.
    """
    if affinity.shape != labels.background.shape:
        raise ValueError(
            f"affinity: expected one affinity a pair of the labels, {list(labels.background.shape)}, got "
            f"{list(affinity.shape)}"
        )
    together = -torch.log(affinity + LOG_FLOOR)
    # 1 - a first: it is exact near 1, where 1 + 1e-5 - a would lose a thousandth of the floor to float32.
    apart = -torch.log((1 - affinity) + LOG_FLOOR)
    background = _mean_where(labels.background, together)
    foreground = _mean_where(labels.foreground, together)
    negative = _mean_where(labels.negative, apart)
    return AffinityLoss(
        total=background / 4 + foreground / 4 + negative / 2,
        background=background,
        foreground=foreground,
        negative=negative,
    )


def _mean_where(chosen: Tensor, values: Tensor) -> Tensor:
    count = chosen.sum()
    return distributed.weight_of(count) * (values * chosen).sum() / (count + LOG_FLOOR)
