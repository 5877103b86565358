"""Settings of the stage that finds the regions that AffinityNet takes for sure."""

from dataclasses import dataclass, field

from subcam.checks.fields import Exponent, Settings
from subcam.crf.settings import CRFSettings


@dataclass(frozen=True, kw_only=True)
class SureRegionSettings(Settings):
    """Settings of the regions that AffinityNet takes for sure.

    Attributes:
        low_alpha: exponent of the background score (1 - max)^alpha for sure objects; small: much background.
        high_alpha: the same for sure background; large: little background. psa's paper has 24, its code 32.
        crf: the dense CRF.
    """

    low_alpha: Exponent = 4.0
    high_alpha: Exponent = 32.0
    crf: CRFSettings = field(default_factory=CRFSettings)
