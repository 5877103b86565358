"""Settings of the stage that makes pseudo masks."""

from dataclasses import dataclass, field

from subcam.checks.fields import Exponent, Settings, Share
from subcam.crf.settings import CRFSettings
from subcam.refine.variants import Auto, Variant


@dataclass(frozen=True, kw_only=True)
class MaskSettings(Settings):
    """Settings of pseudo masks.

    Attributes:
        pseudo_mask: which masks the segmentation network is to learn from.
        crf_alpha: exponent of the background score when response maps go straight into the CRF; "auto" for that of the
            threshold that was chosen without masks.
        walk_alpha: exponent of the background score that walked along; one of the walk's alphas; psa: 16. "auto" for
            the one at which as much is object as in the maps above that threshold.
        ignore_margin: a pixel whose two best scores differ by less becomes 255 (not learned from); 0 ignores none.
        crf: the dense CRF.
    """

    pseudo_mask: Variant = "walk-crf"
    crf_alpha: Exponent | Auto = 4.0
    walk_alpha: Exponent | Auto = 16.0
    ignore_margin: Share = 0.0
    crf: CRFSettings = field(default_factory=CRFSettings)
