"""Response maps of whole images over scales and flips, computed for the classes that are present only."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Integer, Shaped, UInt8
from torch import Tensor

from subcam.cam.response import aggregate_response_maps
from subcam.cam.response import response_maps as class_activation_maps
from subcam.classify.network import ClassificationNetwork
from subcam.data.transforms import scaled_size


class ImageResponse(NamedTuple):
    """One image's maps in 0..1 at its size (present classes in rising order), and the logits of all classes."""

    maps: Float[Tensor, "present height width"]
    subcategory_maps: Float[Tensor, "maps height width"] | None
    logits: Float[Tensor, " classes"]


def resize_images(
    images: UInt8[Tensor, "batch 3 h w"], size: tuple[int, int]
) -> Shaped[Tensor, "batch 3 {size[0]} {size[1]}"]:
    """Bicubic, with antialiasing where it shrinks, as Pillow does it."""
    if images.shape[2:] == size:
        return images
    resized = F.interpolate(images.float(), size=size, mode="bicubic", antialias=True, align_corners=False)
    return resized.round_().clamp_(0, 255)


@torch.inference_mode()
def multiscale_response(
    network: ClassificationNetwork,
    images: UInt8[Tensor, "batch 3 height width"],
    labels: Integer[Tensor, "batch classes"],
    *,
    scales: Sequence[float] = (1.0, 0.5, 1.5, 2.0),
    flip: bool = True,
    subcategories: bool = False,
) -> list[ImageResponse]:
    """Response maps (Eq. 1) of images of one size, over all scales and flips.

    An image and its mirror image pass the network as one batch; only the rows of the classifiers that an image's labels
    name are applied, and only their maps are upsampled.

    Args:
        network: in eval mode, on the images' device.
        images: RGB 0..255.
        labels: multi-hot; a class that is 0 is known to be absent.
        scales: factors on the image's size.
        flip: whether the mirror image counts too.
        subcategories: whether maps of the present classes' sub-categories are wanted as well.
    """
    size = (images.shape[2], images.shape[3])
    parent_weights = network.parent_head.weight
    flips = (False, True) if flip else (False,)
    raw: list[list[Tensor]] = [[] for _ in images]
    raw_subcategories: list[list[Tensor]] = [[] for _ in images]
    present = [row.nonzero().flatten() for row in labels.to(parent_weights.device)]
    logits = None
    for scale in scales:
        scaled = resize_images(images, scaled_size(*size, scale))
        both = torch.cat([scaled, scaled.flip(-1)]) if flip else scaled
        features = network.feature_map(both.contiguous(memory_format=torch.channels_last)).float()
        if scale == 1.0:
            logits = network.classify(features[: len(images)]).parent.float()
        for index, classes in enumerate(present):
            own = features[index :: len(images)]
            raw[index].extend(class_activation_maps(own, parent_weights[classes].float()))
            if subcategories and network.subcategory_head is not None:
                weights = network.subcategory_head.weight.view(len(parent_weights), -1, own.shape[1])[classes]
                raw_subcategories[index].extend(class_activation_maps(own, weights.flatten(0, 1).float()))
    if logits is None:
        logits = network(images).parent.float()
    k = network.config.num_subcategories
    return [
        ImageResponse(
            aggregate_response_maps(raw[index], flips=flips * len(scales), size=size),
            aggregate_response_maps(raw_subcategories[index], flips=flips * len(scales), size=size, group_size=k)
            if raw_subcategories[index]
            else None,
            logits[index],
        )
        for index in range(len(images))
    ]
