"""Features of a backbone at several strides, for heads that need more than its last map (AffinityNet, Section 3.3)."""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from subcam.errors import SettingsError
from subcam.networks.backbones.build import Backbone
from subcam.networks.backbones.mobilenetv2 import MobileNetV2
from subcam.networks.backbones.resnet38 import ResNet38
from subcam.networks.backbones.tiny import TinyNetwork

FINEST_STRIDE = 4
MOST_FEATURES = 4
PROBE_SIDE = 224


@dataclass(frozen=True, kw_only=True)
class PyramidPlan:
    """Which of a network's intermediate features are used, with their channels and strides, fine to coarse."""

    indices: tuple[int, ...]
    channels: tuple[int, ...]
    strides: tuple[int, ...]


def plan_pyramid(backbone: Backbone) -> PyramidPlan:
    """The last features of stride 4 and more, at most four.

    One empty image is passed through the network to see them.

    Raises:
        SettingsError: the network does not give its intermediate features.
    """
    training = backbone.training
    probe = torch.zeros(1, 3, PROBE_SIDE, PROBE_SIDE, device=next(backbone.parameters()).device)
    with torch.inference_mode():
        features = _all_features(backbone.eval(), probe)
    backbone.train(training)
    strides = [round(PROBE_SIDE / feature.shape[-1]) for feature in features]
    indices = [index for index, stride in enumerate(strides) if stride >= FINEST_STRIDE][-MOST_FEATURES:]
    return PyramidPlan(
        indices=tuple(indices),
        channels=tuple(features[index].shape[1] for index in indices),
        strides=tuple(strides[index] for index in indices),
    )


def feature_pyramid(
    backbone: Backbone, plan: PyramidPlan, x: Float[Tensor, "batch 3 height width"]
) -> list[Float[Tensor, "batch _ _ _"]]:
    """The planned features of normalised images, in one pass; gradients flow through each."""
    features = _all_features(backbone, x)
    return [features[index] for index in plan.indices]


def _all_features(backbone: Backbone, x: Tensor) -> list[Tensor]:
    body: Any = backbone.body
    if isinstance(body, ResNet38 | TinyNetwork | MobileNetV2):
        return list(body.intermediate_maps(x))
    if not hasattr(body, "forward_intermediates"):
        raise SettingsError(
            f"'{backbone.settings.name}' does not give intermediate features; choose resnet38 or a timm model that does"
            " (resnet, efficientnet, mobilenet, convnext, vit, swin)"
        )
    from subcam.networks.backbones.timm_models import normed_intermediates  # timm takes seconds to import

    return normed_intermediates(body, x)
