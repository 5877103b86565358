"""Response maps of other methods, to stand beside those of the rounds in Table 1: which there are and what each needs.

Settings in; for each method its title, the settings of its training and the function that makes its maps out.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

from subcam.cam.multiscale import ImageResponse, multiscale_response
from subcam.checks.fields import Settings
from subcam.comparisons.equivariance import EquivarianceSettings
from subcam.comparisons.erasing import ErasingSettings, fused_response
from subcam.comparisons.gradient import gradient_maps, require_package
from subcam.errors import SettingsError

Comparison = Literal["grad-cam++", "layer-cam", "erasing", "equivariance"]

TITLES: dict[Comparison, str] = {
    "grad-cam++": "Grad-CAM++",
    "layer-cam": "LayerCAM",
    "erasing": "erasing",
    "equivariance": "equivariance",
}
"""What tables call them."""

RESPONSES: dict[Comparison, Callable[..., list[ImageResponse]]] = {
    "grad-cam++": partial(multiscale_response, class_maps=partial(gradient_maps, method="grad-cam++")),
    "layer-cam": partial(multiscale_response, class_maps=partial(gradient_maps, method="layer-cam")),
    "erasing": fused_response,
    "equivariance": multiscale_response,
}
"""What makes their maps; arguments are those of `multiscale_response`."""


@dataclass(frozen=True, kw_only=True)
class CompareSettings(Settings):
    """Response maps of other methods, to stand beside those of the rounds in Table 1; nothing else uses them.

    Attributes:
        methods: which; "grad-cam++" and "layer-cam" take the network of round 0 and need the extra `compare`;
            "erasing" and "equivariance" train a network of their own, as long as round 0 and on the same crops.
    """

    methods: tuple[Comparison, ...] = ()
    erasing: ErasingSettings = field(default_factory=ErasingSettings)
    equivariance: EquivarianceSettings = field(default_factory=EquivarianceSettings)

    def check_together(self) -> None:
        """Each method comes once."""
        if len(set(self.methods)) < len(self.methods):
            raise SettingsError(f"expected each of methods once, got {' '.join(self.methods)}")

    def training(self, method: Comparison) -> ErasingSettings | EquivarianceSettings | None:
        """How the method trains a network; None where it takes that of round 0."""
        trained: dict[Comparison, ErasingSettings | EquivarianceSettings] = {
            "erasing": self.erasing,
            "equivariance": self.equivariance,
        }
        return trained.get(method)

    def check_packages(self) -> None:
        """Find out, before anything is trained, whether what the methods need is installed.

        Raises:
            SettingsError: it is not; says how to get it.
        """
        if any(self.training(method) is None for method in self.methods):
            require_package()
