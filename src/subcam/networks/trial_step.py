"""One step of a training without its numbers: a network, a batch size and a crop in, nothing or the reason why not out.

On torch's meta device only shapes are computed, so that it takes neither time nor memory worth mentioning; yet what
refuses a batch of one image, a crop that is too small or a part that does not fit another does so here too.
"""

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor, nn

from subcam.errors import SettingsError

Network = TypeVar("Network", bound=nn.Module)

MOST_IMAGES_ON_CPU = 2
"""Where a step on the meta device fails: a batch of two behaves as any larger one does."""


def try_step(
    build: Callable[[], Network],
    forward: Callable[[Network, Tensor], Tensor],
    *,
    batch_size: int,
    crop: int,
) -> str:
    """Pass a batch of black images forward and back, in training mode.

    Args:
        build: makes the network with random weights, on the default device.
        forward: from the network and images [batch, 3, crop, crop] to a number, the loss.
        batch_size: images of a step.
        crop: their sides in pixels.

    Returns:
        Why it does not work, in the words of whoever refused it; empty if it works.

    Raises:
        SettingsError: the network cannot be built at all.
    """
    with torch.random.fork_rng(devices=[]):
        if not _why(lambda: _step(_on_meta(build), forward, batch_size, crop, device="meta")):
            return ""
        # The meta device lacks some operations, and the CPU says better what is wrong.
        return _why(lambda: _step(build(), forward, min(batch_size, MOST_IMAGES_ON_CPU), crop, device="cpu"))


def _on_meta(build: Callable[[], Network]) -> Network:
    try:
        with torch.device("meta"):
            return build()
    except (SettingsError, RuntimeError):
        return build().to("meta")  # some choose their layers by numbers


def _step(
    network: Network, forward: Callable[[Network, Tensor], Tensor], batch_size: int, crop: int, *, device: str
) -> None:
    images = torch.zeros(batch_size, 3, crop, crop, dtype=torch.uint8, device=device)
    loss = forward(network.train(), images)
    if loss.requires_grad:  # else nothing of it learns
        loss.backward()


def _why(step: Callable[[], None]) -> str:
    try:
        step()
    except (RuntimeError, ValueError, TypeError) as error:
        return " ".join(str(error).split()) or type(error).__name__
    return ""
