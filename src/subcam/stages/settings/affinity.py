"""Settings of the stage that trains AffinityNet."""

from dataclasses import dataclass, field

from subcam.affinity.grid import RADIUS, STRIDE, Radius, training_region
from subcam.checks.fields import BatchSize, Epochs, Settings, Steps
from subcam.data.settings import AugmentationSettings
from subcam.errors import SettingsError
from subcam.runtime.run_folder import by_content
from subcam.training.settings import OptimiserSettings


@dataclass(frozen=True, kw_only=True)
class AffinitySettings(Settings):
    """Settings of AffinityNet's training.

    Attributes:
        epochs: passes over the images.
        least_steps: epochs are multiplied where they have fewer steps than this, as those of a few dozen images.
        batch_size: images of a step.
        radius: cells at stride 8 within which pairs are learned; psa: 5.
        checkpoint: a published AffinityNet on ResNet-38 (.pth) to take instead of training one; empty to train.
    """

    epochs: Epochs = 3
    least_steps: Steps = 0
    batch_size: BatchSize = 16
    radius: Radius = RADIUS
    checkpoint: str = field(default="", metadata=by_content())
    augmentation: AugmentationSettings = field(default_factory=AugmentationSettings)
    optimiser: OptimiserSettings = field(default_factory=OptimiserSettings)

    def check_together(self) -> None:
        """The crop must be whole cells, and have room for a pair."""
        if self.augmentation.crop % STRIDE:
            raise SettingsError(f"AffinityNet's crop must be a multiple of {STRIDE}, got {self.augmentation.crop}")
        side = self.augmentation.crop // STRIDE
        training_region(height=side, width=side, radius=self.radius)
