"""Attention consistency, a comparison: response maps of a transformed image shall be the transformed response maps.

The equivariance regularisation of SEAM (Wang et al., "Self-supervised Equivariant Attention Mechanism for Weakly
Supervised Semantic Segmentation", CVPR 2020), for scale and mirror image and without its pixel correlation module. Not
in the paper. Labelled images in, losses out.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Shaped
from torch import Tensor

from subcam.cam.multiscale import whole_patches
from subcam.cam.response import NORMALISATION_EPSILON, response_maps
from subcam.comparisons.settings import EquivarianceSettings
from subcam.data.augmentation import scaled_size
from subcam.networks.classifier import ClassificationNetwork
from subcam.runtime import distributed
from subcam.training.losses import joint_loss


def peak_normalised(maps: Float[Tensor, "batch classes h w"]) -> Float[Tensor, "batch classes h w"]:
    """Each map divided by its maximum plus 1e-5."""
    return maps / (maps.amax((2, 3), keepdim=True) + NORMALISATION_EPSILON)


def equivariance_loss(
    maps: Float[Tensor, "batch classes h w"],
    transformed: Float[Tensor, "batch classes small_h small_w"],
    labels: Shaped[Tensor, "batch classes"],
    *,
    flip: bool,
) -> Float[Tensor, ""]:
    """Mean over present classes and positions of |A(M(I)) - M(A(I))|, with each class's map over its own maximum.

    SEAM takes the mean over absent classes too, whose maps are set to zero; its weight would depend on how many there
    are.

    Args:
        maps: response maps M(I) of the images, 0 or more.
        transformed: M(A(I)), of the resized and perhaps mirrored images.
        labels: multi-hot.
        flip: whether A mirrors.

    Returns:
        In 0..1; 0 where no class is present.
    """
    present = labels.bool()
    weight = distributed.weight_of(present.sum())
    which = present.nonzero(as_tuple=True)  # the one time that the host waits for the device
    if not len(which[0]):
        return maps.new_zeros(())
    size = (transformed.shape[2], transformed.shape[3])
    moved = F.interpolate(peak_normalised(maps), size=size, mode="bilinear", align_corners=False)
    moved = moved.flip(-1) if flip else moved
    return weight * (moved - peak_normalised(transformed))[which].abs().mean()


def equivariance_losses(
    network: ClassificationNetwork,
    images: Shaped[Tensor, "batch 3 h w"],
    labels: Shaped[Tensor, "batch classes"],
    *,
    settings: EquivarianceSettings,
) -> dict[str, Float[Tensor, ""]]:
    """Mean of L_p over both views of a batch, plus weight times the difference of their maps; and both terms.

    The network sees the batch as it is, and resized and perhaps mirrored. Scale and mirroring are drawn from torch's
    generator, which the training seeds at each step; of several processes from the first one's.

    Args:
        network: {E, H_p}.
        images: RGB 0..255.
        labels: multi-hot.
        settings: of attention consistency.
    """
    weights = network.parent_head.weight
    least, most = settings.scale
    drawn, chance = distributed.of_first(torch.rand(2)).tolist()
    flip = chance < settings.flip
    size = scaled_size(images.shape[2], images.shape[3], least + drawn * (most - least))
    size = whole_patches(size, network.backbone.pad_multiple)
    view = F.interpolate(images.float(), size=size, mode="bilinear", antialias=True, align_corners=False)
    features = [network.feature_map(one) for one in (images, view.flip(-1) if flip else view)]
    parents = [joint_loss(network.classify(one).parent, labels, subcategory_weight=0.0) for one in features]
    maps, transformed = (response_maps(one, weights.to(one)) for one in features)
    parent = (parents[0].parent + parents[1].parent) / 2
    difference = equivariance_loss(maps, transformed, labels, flip=flip)
    return {
        "loss": parent + settings.weight * difference,
        "parent_loss": parent,
        "equivariance_loss": difference,
    }
