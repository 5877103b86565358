"""Batch norm over the batch of all processes of a data-parallel training, on any device.

With it the result of a training does not depend on how many processes share its batches. Batch norm that is frozen
stays as it is. Ours on GPUs too: torch's own (`nn.SyncBatchNorm`) needs one, so that the tests could not see what a run
computes there, and its conversion loses the activation that timm joins with batch norm.
"""

from typing import Any

import torch
import torch.distributed
from jaxtyping import Float
from torch import Tensor, nn

from subcam.runtime import distributed


class _SumOverRanks(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:  # noqa: ARG004 - torch hands it in
        total = x.clone()
        torch.distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # noqa: ARG004
        total = gradient.contiguous().clone()
        torch.distributed.all_reduce(total)
        return total


class SynchronisedBatchNorm2d(nn.BatchNorm2d):
    """`nn.BatchNorm2d` whose means and variances are those of all processes' parts of the batch, of equal size.

    after: what a layer that joins batch norm with it (timm) does then, such as its activation.
    """

    def __init__(self, layer: nn.BatchNorm2d) -> None:
        super().__init__(layer.num_features, eps=layer.eps, momentum=layer.momentum, affine=False)
        # The very parameters and statistics: an optimiser holds them already.
        self.affine = layer.affine
        self.weight, self.bias = layer.weight, layer.bias
        self.running_mean, self.running_var = layer.running_mean, layer.running_var
        self.num_batches_tracked = layer.num_batches_tracked
        own = (getattr(layer, name, None) for name in ("drop", "act"))
        self.after = nn.Sequential(*(module for module in own if isinstance(module, nn.Module)))

    def forward(self, x: Float[Tensor, "batch channels h w"]) -> Float[Tensor, "batch channels h w"]:
        """Normalised features; in evaluation mode by the running statistics."""
        if not self.training:
            return self.after(super().forward(x))
        wide = x.float()
        count = wide[:, 0].numel() * distributed.world_size()
        mean = _SumOverRanks.apply(wide.sum((0, 2, 3))) / count
        centred = wide - mean[:, None, None]
        variance = _SumOverRanks.apply(centred.square().sum((0, 2, 3))) / count
        self._track(mean.detach(), variance.detach() * count / max(count - 1, 1))
        normalised = centred * (variance + self.eps).rsqrt()[:, None, None]
        if self.affine:
            normalised = normalised * self.weight[:, None, None] + self.bias[:, None, None]
        return self.after(normalised.to(x.dtype))

    def _track(self, mean: Tensor, variance: Tensor) -> None:
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked.add_(1)
        share = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, share)
        self.running_var.lerp_(variance, share)


def synchronise_batch_norm(network: nn.Module) -> None:
    """Let every batch norm of `network` that learns, in training mode, see all processes' parts of the batch."""
    for parent in list(network.modules()):
        for name, layer in list(parent.named_children()):
            if isinstance(layer, nn.BatchNorm2d) and layer.training and not isinstance(layer, SynchronisedBatchNorm2d):
                setattr(parent, name, SynchronisedBatchNorm2d(layer))
