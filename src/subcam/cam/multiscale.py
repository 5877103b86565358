"""Response maps of whole images over scales and flips, computed for the classes that are present only."""

from collections.abc import Callable, Sequence
from typing import Annotated, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Integer, Shaped, UInt8
from torch import Tensor

from subcam.cam.attention import guide_by_attention
from subcam.cam.response import aggregated as aggregated_maps
from subcam.cam.response import response_maps as class_activation_maps
from subcam.checks.arguments import takes_arrays
from subcam.checks.fields import Range, Scale
from subcam.data.augmentation import scaled_size
from subcam.networks.backbones.vit_attention import LayerAttention, heard_attention
from subcam.networks.classifier import ClassificationNetwork
from subcam.networks.fast.parts import in_parts
from subcam.runtime.devices import to_device


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


def whole_patches(size: tuple[int, int], multiple: int) -> tuple[int, int]:
    """The sides' nearest multiples of `multiple`, at least one of it: an image that a network need not pad."""
    height, width = (max(1, round(side / multiple)) * multiple for side in size)
    return height, width


@takes_arrays()
@torch.inference_mode()
def multiscale_response(
    network: ClassificationNetwork,
    images: UInt8[Tensor, "batch 3 height width"],
    labels: Integer[Tensor, "batch classes"],
    *,
    scales: Sequence[Scale] = (1.0, 0.5, 1.5, 2.0),
    flip: bool = True,
    subcategories: bool = False,
    class_maps: Callable[[Tensor, Tensor], Tensor] = class_activation_maps,
    attention_layers: Annotated[int, Range(0, 1000)] = 0,
    attention_steps: Annotated[int, Range(1, 1000)] = 1,
) -> list[ImageResponse]:
    """Response maps of images of one size, over all scales and flips.

    They are class activation maps (Eq. 1), or, of a network with a prototype classifier, the mean over scales and flips
    of the probability that a position shows the class. That is squared, which changes no order and brings its
    background threshold near that of class activation maps, for which the CRF's and the random walk's alphas are made.

    An image and its mirror image pass the network as one batch; only the rows of the classifiers that an image's labels
    name are applied, and only their maps are upsampled. For a network that pads images to whole patches they are
    resized to whole patches instead, so that no cell of a map reaches over the edge.

    Args:
        network: in eval mode, on the images' device.
        images: RGB 0..255.
        labels: multi-hot; a class that is 0 is known to be absent.
        scales: factors on the image's size.
        flip: whether the mirror image counts too.
        subcategories: whether maps of the present classes' sub-categories are wanted as well.
        class_maps: what makes a class's map from features and the rows of H_p (`cam.gradient` has others than Eq. 1).
        attention_layers: last layers of a vision transformer whose attention guides the maps before they are enlarged
            (see `cam.attention`); 0 leaves them.
        attention_steps: how often it is applied.

    Raises:
        SettingsError: the network has no attention that could guide maps, or fewer layers of it.
    """
    size = (images.shape[2], images.shape[3])
    flips = (False, True) if flip else (False,)
    raw: list[list[Tensor]] = [[] for _ in images]
    raw_subcategories: list[list[Tensor]] = [[] for _ in images]
    # Found on the host, where they mostly are, and sent at once: on a device each image would be waited for.
    shown = labels.cpu()
    present = to_device(shown.nonzero()[:, 1], network.parent_head.weight.device).split(shown.count_nonzero(1).tolist())
    logits = None

    def scaled_images(scale: float) -> Tensor:
        return resize_images(images, whole_patches(scaled_size(*size, scale), network.backbone.pad_multiple))

    for scale in scales:
        scaled = scaled_images(scale)
        both = torch.cat([scaled, scaled.flip(-1)]) if flip else scaled
        with heard_attention(network.backbone, layers=attention_layers) as attention:
            both = both.contiguous(memory_format=torch.channels_last)
            features = network.feature_map(both) if attention_layers else in_parts(network.feature_map, both)
        if scale == 1.0:
            logits = network.classify(features[: len(images)]).parent.float()
        for index, classes in enumerate(present):
            own = features[index :: len(images)]
            parents, parts = _maps_of_present(network, own, classes, subcategories=subcategories, class_maps=class_maps)
            if attention and len(classes):
                layers = [_of_images(layer, slice(index, None, len(images))) for layer in attention]
                parents, parts = _guided(parents, parts, layers, steps=attention_steps)
            raw[index].extend(parents)
            raw_subcategories[index].extend(parts)
    if logits is None:
        logits = network(scaled_images(1.0)).parent.float()
    k = network.config.num_objects or network.config.num_subcategories

    def over_scales(maps: list[Tensor], *, group_size: int) -> Tensor:
        probable = network.prototype_classifier is not None
        summed = aggregated_maps(
            maps, flips=flips * len(scales), size=size, group_size=group_size, normalise=not probable
        )
        return summed.square() if probable else summed

    return [
        ImageResponse(
            over_scales(raw[index], group_size=1),
            over_scales(raw_subcategories[index], group_size=k) if raw_subcategories[index] else None,
            logits[index],
        )
        for index in range(len(images))
    ]


def _maps_of_present(
    network: ClassificationNetwork,
    features: Tensor,
    classes: Tensor,
    *,
    subcategories: bool,
    class_maps: Callable[[Tensor, Tensor], Tensor],
) -> tuple[Tensor, list[Tensor]]:
    """One image's maps at one scale, and those of its sub-categories: flips x classes (x k).

    The latter are an empty list where they are not wanted or there are none.
    """
    if network.prototype_classifier is not None:
        probabilities = network.prototype_classifier.probabilities(features, classes)
        return probabilities.sum(2), list(probabilities.flatten(1, 2)) if subcategories else []
    weights = network.parent_head.weight.float()
    present = weights[classes]
    if not subcategories or network.subcategory_head is None:
        return class_maps(features, present), []
    own = network.subcategory_head.weight.float().view(len(weights), -1, features.shape[1])[classes].flatten(0, 1)
    if class_maps is not class_activation_maps:
        return class_maps(features, present), list(class_activation_maps(features, own))
    # One product of both heads' rows takes 0.7 of the time of two: the features are packed once.
    together = class_activation_maps(features, torch.cat([present, own]))
    return together[:, : len(present)], list(together[:, len(present) :])


def _of_images(layer: LayerAttention, chosen: slice) -> LayerAttention:
    return layer._replace(queries=layer.queries[chosen], keys=layer.keys[chosen])


def _guided(
    parents: Tensor, parts: list[Tensor], layers: list[LayerAttention], *, steps: int
) -> tuple[Tensor, list[Tensor]]:
    """The maps of `_maps_of_present`, all in one pass of the attention."""
    together = torch.cat([parents, torch.stack(parts)], dim=1) if parts else parents
    guided = guide_by_attention(together, layers, steps=steps)
    count = parents.shape[1]
    return guided[:, :count], list(guided[:, count:]) if parts else []
