"""Settings of the stage that trains a segmentation network."""

from dataclasses import dataclass, field
from typing import Annotated

from subcam.checks.fields import BatchSize, Epochs, Range, Settings, Steps
from subcam.data.settings import AugmentationSettings
from subcam.training.settings import OptimiserSettings


@dataclass(frozen=True, kw_only=True)
class TrainSettings(Settings):
    """Settings of the segmentation network's training. Numbers of DeepLab-v2 are in `recipes.py`.

    Attributes:
        epochs: passes over the images.
        least_steps: epochs are multiplied where they have fewer steps than this, as those of a few dozen images.
        batch_size: images of a step.
        average_decay: how much an exponential moving average of the weights, which is then what is saved, keeps at each
            step (1 would never learn); 0 for none.
        validate_every: epochs between two scorings on images with masks, where there are some; 0 for none.
        validation_batch: images of one size scored together.
    """

    epochs: Epochs = 10
    least_steps: Steps = 0
    batch_size: BatchSize = 8
    average_decay: Annotated[float, Range(0.0, 0.999999)] = 0.0
    validate_every: Epochs = 1
    validation_batch: BatchSize = 8
    augmentation: AugmentationSettings = field(default_factory=AugmentationSettings)
    optimiser: OptimiserSettings = field(default_factory=OptimiserSettings)
