"""Large images pass a network a few at a time: on a CPU, maps that leave its caches cost more than arithmetic."""

from collections.abc import Callable

import torch
from jaxtyping import Shaped
from torch import Tensor

PIXELS_AT_ONCE = 2 * 640 * 480
"""At most, where a batch is passed on a CPU: of MobileNetV2 at 640 x 480 two images take 0.6 of the time of eight."""


def in_parts(
    network: Callable[[Tensor], Tensor], images: Shaped[Tensor, "batch 3 height width"]
) -> Shaped[Tensor, "batch ..."]:
    """What the network gives for the images, of at least one at a time; elsewhere than on a CPU of all at once."""
    if not images.is_cpu:
        return network(images)
    count = max(1, PIXELS_AT_ONCE // (images.shape[2] * images.shape[3]))
    return network(images) if count >= len(images) else torch.cat([network(part) for part in images.split(count)])
