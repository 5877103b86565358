"""Settings of the dense CRF (Section 3.3), apart from its kernels: numba takes its time to import."""

from dataclasses import dataclass
from typing import Annotated

from subcam.checks.fields import Range, Settings, Weight

Iterations = Annotated[int, Range(0, 100_000)]
Sigma = Annotated[float, Range(1e-6, 1e6)]


@dataclass(frozen=True, kw_only=True)
class CRFSettings(Settings):
    """The model: a Gaussian over positions and a bilateral Gaussian over positions and colours. Defaults are psa's.

    Attributes:
        iterations: steps of mean field; 0 gives the scores, clipped to [1e-5, 1] and normalised.
        spatial_sigma: pixels over which neighbours are drawn to one class, whatever their colours.
        spatial_weight: what that counts in the logits.
        bilateral_sigma_xy: pixels over which pixels of like colour are drawn to one class.
        bilateral_sigma_rgb: how far colours may differ to be alike, in grey levels of 0-255.
        bilateral_weight: what that counts in the logits.

    Raises:
        SettingsError: a number out of its range.
    """

    iterations: Iterations = 10
    spatial_sigma: Sigma = 3.0
    spatial_weight: Weight = 3.0
    bilateral_sigma_xy: Sigma = 80.0
    bilateral_sigma_rgb: Sigma = 13.0
    bilateral_weight: Weight = 10.0
