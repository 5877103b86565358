"""Settings of the methods for comparison that train a network of their own."""

from dataclasses import dataclass

from subcam.checks.fields import Scale, Settings, Share, Weight
from subcam.errors import SettingsError


@dataclass(frozen=True, kw_only=True)
class ErasingSettings(Settings):
    """Settings of adversarial erasing.

    Attributes:
        threshold: features are erased where the response of a present class, over its maximum, is above it. ACoL: 0.6.
        weight: weight of the second classifier's loss. ACoL: 1.
    """

    threshold: Share = 0.6
    weight: Weight = 1.0


@dataclass(frozen=True, kw_only=True)
class EquivarianceSettings(Settings):
    """Settings of attention consistency.

    Attributes:
        weight: weight of the difference between the maps. SEAM: 1.
        scale: least and greatest factor on the image's size, drawn uniformly for each step. SEAM: always 0.3, of
            crops of 448 pixels.
        flip: chance of the mirror image.
    """

    weight: Weight = 1.0
    scale: tuple[Scale, Scale] = (0.5, 0.9)
    flip: Share = 0.5

    def check_together(self) -> None:
        """The least factor comes first."""
        if self.scale[0] > self.scale[1]:
            raise SettingsError(f"expected the least factor of scale first, got {list(self.scale)}")
