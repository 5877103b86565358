"""Settings of the dense CRF (Section 3.3), apart from its kernels: numba takes its time to import."""

import math
from dataclasses import dataclass

from subcam.errors import SettingsError


@dataclass(frozen=True, kw_only=True)
class CRFSettings:
    """The model: a Gaussian over positions and a bilateral Gaussian over positions and colours. Defaults are psa's.

    iterations: of mean field; 0 gives the scores, clipped to [1e-5, 1] and normalised.
    spatial_sigma, bilateral_sigma_xy: pixels.
    bilateral_sigma_rgb: grey levels, 0-255.
    spatial_weight, bilateral_weight: what the two kernels count in the logits.

    Raises:
        SettingsError: a negative number, a sigma of 0, or one that is not finite.
    """

    iterations: int = 10
    spatial_sigma: float = 3.0
    spatial_weight: float = 3.0
    bilateral_sigma_xy: float = 80.0
    bilateral_sigma_rgb: float = 13.0
    bilateral_weight: float = 10.0

    def __post_init__(self) -> None:
        for name in ("spatial_sigma", "bilateral_sigma_xy", "bilateral_sigma_rgb"):
            if not (math.isfinite(sigma := getattr(self, name)) and sigma > 0):
                raise SettingsError(f"dense CRF: expected {name} to be finite and above 0, got {sigma}")
        for name in ("iterations", "spatial_weight", "bilateral_weight"):
            if not (math.isfinite(amount := getattr(self, name)) and amount >= 0):
                raise SettingsError(f"dense CRF: expected {name} to be finite and at least 0, got {amount}")
