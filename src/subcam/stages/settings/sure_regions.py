"""Settings of the stage that finds the regions that AffinityNet takes for sure."""

from dataclasses import dataclass, field

from subcam.checks.fields import Exponent, Settings
from subcam.crf.settings import CRFSettings
from subcam.refine.variants import AUTO, Auto


@dataclass(frozen=True, kw_only=True)
class SureRegionSettings(Settings):
    """Settings of the regions that AffinityNet takes for sure.

    Attributes:
        low_alpha: exponent of the background score (1 - max)^alpha for sure objects; small: much background. "auto"
            for psa's 4 in proportion: psa cuts its maps at 0.2, and these are cut at a threshold chosen without masks.
        high_alpha: the same for sure background; large: little background. psa's paper has 24, its code 32; "auto" for
            24 in proportion.
        crf: the dense CRF.
    """

    low_alpha: Exponent | Auto = 4.0
    high_alpha: Exponent | Auto = 32.0
    crf: CRFSettings = field(default_factory=CRFSettings)

    @property
    def chooses(self) -> bool:
        """Whether an alpha is chosen without masks."""
        return AUTO in (self.low_alpha, self.high_alpha)
