"""Ours: the methods that need no plug-in, by name."""

from functools import partial

from subcam.cam.multiscale import multiscale_response
from subcam.comparisons.equivariance import equivariance_losses
from subcam.comparisons.erasing import erasing_losses, fused_response
from subcam.comparisons.gradient import GradientMethod, gradient_maps, require_package
from subcam.methods.protocol import Method, over_scales
from subcam.methods.settings import CompareSettings


def built_in(settings: CompareSettings) -> dict[str, Method]:
    """Each by its name, with its settings; those of the rounds are in `methods/rounds.py`."""
    methods = (
        _from_gradients("grad-cam++", "Grad-CAM++"),
        _from_gradients("layer-cam", "LayerCAM"),
        Method(
            name="erasing",
            maps=over_scales(fused_response),
            losses=partial(erasing_losses, settings=settings.erasing),
            num_subcategories=1,
            batched=True,
            options=settings.erasing,
        ),
        Method(
            name="equivariance",
            losses=partial(equivariance_losses, settings=settings.equivariance),
            batched=True,
            options=settings.equivariance,
        ),
    )
    return {method.name: method for method in methods}


def _from_gradients(name: GradientMethod, title: str) -> Method:
    respond = partial(multiscale_response, class_maps=partial(gradient_maps, method=name))
    return Method(name=name, title=title, maps=over_scales(respond), batched=True, needs=require_package)


TITLES: dict[str, str] = {name: method.title for name, method in built_in(CompareSettings()).items()}
"""What tables call them."""
