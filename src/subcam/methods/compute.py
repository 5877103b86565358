"""A method at work: its maps of images, and its losses of batches; what others return is looked at before it is used.

Ours are computed as they always were, in batches and without a look, which on a GPU would be a wait.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from jaxtyping import Integer, UInt8
from torch import Tensor, nn

from subcam.cam.multiscale import ImageResponse
from subcam.cam.settings import CamSettings
from subcam.errors import MethodError
from subcam.methods.protocol import ChosenMethod, MethodTraining
from subcam.methods.rounds import PLAIN
from subcam.networks.classifier import ClassificationNetwork
from subcam.runtime.failures import explain

Returned = TypeVar("Returned")

ROUNDING = 1e-4
"""How far above 1 a map may be, and below 0, from rounding alone."""


def responses_of(
    chosen: ChosenMethod | None,
    network: ClassificationNetwork,
    images: UInt8[Tensor, "batch 3 height width"],
    labels: Integer[Tensor, "batch classes"],
    *,
    settings: CamSettings,
    names: Sequence[str],
) -> list[ImageResponse]:
    """A method's response maps of images of one size, refined where it refines.

    Args:
        chosen: the method; None for that of the rounds.
        network: in evaluation mode, on the images' device.
        images: RGB 0..255.
        labels: multi-hot, on the CPU.
        settings: of response maps.
        names: what errors call the images.

    Raises:
        MethodError: somebody else's method raised, or returned something else than maps of these images in 0..1; names
            method and image.
    """
    chosen = chosen or PLAIN
    method, found = chosen.method, []
    step = len(images) if method.batched else 1
    for start in range(0, len(images), step):
        part, own = slice(start, start + step), range(start, min(start + step, len(images)))
        where = _called(chosen, "maps", " and ".join(names[index] for index in own[:3]))
        made = _ask(chosen, where, method.maps, network, images[part], labels[part], settings)
        found += _one_each(made, network, images, labels, own, where=where, ours=chosen.is_ours)
    if method.refine is not None:
        for index, response in enumerate(found):
            where = _called(chosen, "refine", names[index])
            present = labels[index].nonzero()[:, 0].to(images.device)
            refined = _ask(chosen, where, method.refine, network, images[index], response.maps, present)
            if not chosen.is_ours:
                refined = _checked(refined, tuple(response.maps.shape), where=where)
            found[index] = response._replace(maps=refined.to(response.maps))
    return found


def _one_each(
    made: Any, network: ClassificationNetwork, images: Tensor, labels: Tensor, own: range, *, where: str, ours: bool
) -> list[ImageResponse]:
    """What a method returned as one response for each of its images."""
    if ours:
        return list(made)
    if not isinstance(made, Sequence | Tensor) or len(made) != len(own):
        raise MethodError(f"{where}: expected a list of {len(own)}, the maps of each image, got {_in_words(made)}")
    responses, size = [], (images.shape[2], images.shape[3])
    for index, one in zip(own, made, strict=True):
        maps = one.maps if isinstance(one, ImageResponse) else one
        maps = _checked(maps, (int(labels[index].count_nonzero()), *size), where=where).to(images.device)
        with torch.inference_mode():
            logits = network(images[index : index + 1]).parent[0].float()
        responses.append(ImageResponse(maps, None, logits))
    return responses


def _checked(maps: Any, shape: tuple[int, ...], *, where: str) -> Tensor:
    """The maps, where they are as they should be."""
    wanted = f"expected a float tensor of {list(shape)} (present classes, height, width) in 0..1"
    if not isinstance(maps, Tensor) or not maps.is_floating_point() or tuple(maps.shape) != shape:
        raise MethodError(f"{where}: {wanted}, got {_in_words(maps)}")
    maps = maps.detach().float()
    if maps.numel():
        least, most = maps.amin().item(), maps.amax().item()
        if not (least >= -ROUNDING and most <= 1 + ROUNDING):  # not-a-number is neither
            finite = bool(maps.isfinite().all())
            raise MethodError(
                f"{where}: {wanted}, got values of {least:g}..{most:g}"
                + ("; divide each map by its maximum" if finite and least >= -ROUNDING else "")
                + ("" if finite else ", which are not all finite")
            )
    return maps.clamp(0, 1)


class MethodLearner(nn.Module):
    """A network that a method trains: a batch and its labels in, the method's losses out."""

    def __init__(self, network: ClassificationNetwork, training: MethodTraining) -> None:
        super().__init__()
        self.network = network
        self.training_of = training

    def forward(self, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """The losses of a batch.

        Args:
            images: RGB 0..255.
            labels: multi-hot labels of the parents; further columns are not used.

        Raises:
            MethodError: somebody else's method raised, or returned something else than losses; names it.
        """
        chosen = self.training_of.chosen
        losses, own = chosen.method.losses, labels[:, : len(self.network.parent_head.weight)]
        assert losses is not None
        where = _called(chosen, "losses", f"a batch of {len(images)} crops")
        found = _ask(chosen, where, losses, self.network, images, own)
        if not chosen.is_ours:
            _check_losses(found, where=where)
        return found


def _check_losses(found: Any, *, where: str) -> None:
    wanted = 'expected a dict of "loss" and its parts, each a tensor of one finite number'
    if not isinstance(found, dict) or "loss" not in found:
        raise MethodError(f"{where}: {wanted}, got {_in_words(found)}")
    for name, value in found.items():
        if not isinstance(name, str) or not isinstance(value, Tensor) or value.shape != ():
            raise MethodError(f"{where}: {wanted}, got {name!r:.40}: {_in_words(value)}")
        if not torch.isfinite(value):
            raise MethodError(f"{where}: {wanted}, got {name!r:.40}: {value.item()}")
    if not found["loss"].requires_grad:
        raise MethodError(f'{where}: expected a "loss" that depends on the weights, got one without gradient')


def _called(chosen: ChosenMethod, part: str, of: str) -> str:
    reference = f" ({chosen.reference})" if chosen.reference != chosen.method.name else ""
    return f"method {chosen.method.name}{reference}, {part} of {of}"


def _ask(chosen: ChosenMethod, where: str, function: Callable[..., Returned], *given: Any) -> Returned:
    """Call a method's function; what somebody else's raises says where it was, but for a machine that ran out."""
    if chosen.is_ours:
        return function(*given)
    try:
        return function(*given)
    except Exception as error:
        if explain(error) is not None:
            raise
        words = " ".join(str(error).split())
        raise MethodError(f"{where}: it raised {type(error).__name__}: {words:.500}; --debug shows where") from error


def _in_words(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"a tensor of {list(value.shape)}, {str(value.dtype).removeprefix('torch.')}"
    if isinstance(value, list | tuple):
        return f"a {type(value).__name__} of {len(value)}"
    if isinstance(value, dict):
        return f"a dict of {', '.join(map(repr, list(value)[:5])) or 'nothing'}"
    return f"{type(value).__name__}"
