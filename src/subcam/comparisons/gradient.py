"""Grad-CAM++ and LayerCAM in the place of class activation maps (Eq. 1), by the classes of the package `grad-cam`.

In: a feature map and rows of the classifier behind global average pooling. Out: raw maps, which `cam.multiscale` sums
over scales and flips and normalises like any other. The package is an extra: `uv pip install grad-cam`.
"""

from typing import TYPE_CHECKING, Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from subcam.errors import SettingsError

if TYPE_CHECKING:
    from types import ModuleType

GradientMethod = Literal["grad-cam", "grad-cam++", "layer-cam"]

CLASS_NAMES: dict[GradientMethod, str] = {
    "grad-cam": "GradCAM",
    "grad-cam++": "GradCAMPlusPlus",
    "layer-cam": "LayerCAM",
}
"""What the package calls them."""


def gradient_maps(
    features: Float[Tensor, "batch dim h w"], weights: Float[Tensor, "cls dim"], *, method: GradientMethod
) -> Float[Tensor, "batch cls h w"]:
    """Positive part of what the package makes of the gradient of each class's logit by the last feature map.

    The package adds 1e-6 to a denominator of squared gradients, which vanish in large images: they go with one over
    the number n of positions. So it is given features divided by n and a classifier that sums over positions. Logits
    are the same and gradients are theta, at any scale; Grad-CAM++ does not depend on that choice but for the 1e-6. The
    other two do not sum over positions, and are therefore multiplied by n, so that no scale outweighs the others.
    Grad-CAM is then Eq. 1 itself.

    Args:
        features: f = E(I).
        weights: theta, the rows of H_p, which has no bias.
        method: "grad-cam" (Selvaraju et al., ICCV 2017), "grad-cam++" (Chattopadhay et al., WACV 2018) or "layer-cam"
            (Jiang et al., IEEE TIP 2021).

    Raises:
        SettingsError: the package is not installed; says how to get it.
    """
    if not len(weights):
        return features.new_zeros((len(features), 0, *features.shape[2:]))
    positions = features.shape[2] * features.shape[3]
    # Tensors of inference mode take no part in gradients; copies of them do.
    with torch.inference_mode(mode=False), torch.enable_grad():
        classifier = _SumClassifier(weights.detach().clone())
        rows = (features.detach() / positions).clone().repeat_interleave(len(weights), 0).requires_grad_()
        with getattr(require_package(), CLASS_NAMES[method])(classifier, [classifier.layer]) as cam:
            logits = cam.activations_and_grads(rows)
            own = torch.arange(len(weights), device=logits.device).repeat(len(features))
            logits.gather(1, own[:, None]).sum().backward()
            (activations,), (gradients,) = cam.activations_and_grads.activations, cam.activations_and_grads.gradients
            raw: Any = cam.get_cam_image(rows, classifier.layer, [], activations.numpy(), gradients.numpy(), False)
    maps = torch.from_numpy(raw).to(features).unflatten(0, (len(features), len(weights))).relu_()
    return maps if method == "grad-cam++" else maps * positions


def require_package() -> "ModuleType":
    """The package `pytorch_grad_cam`, imported.

    Raises:
        SettingsError: it is not installed; says how to get it.
    """
    try:
        import pytorch_grad_cam
    except ImportError as error:
        raise SettingsError(
            f"Grad-CAM++ and LayerCAM need the package grad-cam, which cannot be imported ({error}); install it with"
            " uv pip install grad-cam, or leave grad-cam++ and layer-cam out of --compare.methods"
        ) from error
    return pytorch_grad_cam


class _SumClassifier(nn.Module):
    """A layer that changes nothing, whose output the package looks at; a sum over positions; a linear classifier."""

    def __init__(self, weights: Tensor) -> None:
        super().__init__()
        self.layer = nn.Identity()
        self.weight = nn.Parameter(weights, requires_grad=False)

    def forward(self, features: Tensor) -> Tensor:
        return self.layer(features).sum((2, 3)) @ self.weight.T
