"""The stage that trains AffinityNet on the regions that the CRF is sure of."""

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from subcam.affinity.labels import pair_labels
from subcam.affinity.loss import affinity_loss, pair_affinity
from subcam.affinity.network import AffinityConfig, AffinityNetwork
from subcam.affinity.pairs import RADIUS, STRIDE, Radius, training_region
from subcam.affinity.training_data import AffinityImages
from subcam.checks.fields import BatchSize, Epochs, Settings, Steps
from subcam.data.augmentation import AugmentationSettings
from subcam.data.check import CheckedImages
from subcam.data.decoded_cache import decoded_images
from subcam.errors import SettingsError
from subcam.networks.backbones.build import NetworkSettings
from subcam.runtime.devices import Device
from subcam.runtime.run_folder import Stage, by_content
from subcam.runtime.seeds import derive_seed
from subcam.training.loop import Training, train
from subcam.training.optimiser import OptimiserSettings

VERSION = 1
"""Of what this stage computes; raise it when that changes."""


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


def run(
    stage: Stage,
    *,
    settings: AffinitySettings,
    images: CheckedImages,
    sure_regions: Stage,
    network: NetworkSettings,
    seed: int,
    device: Device,
) -> None:
    """Train AffinityNet; resume an interrupted training."""
    torch.manual_seed(derive_seed(seed, "initialise affinity"))
    learner = AffinityNetwork(AffinityConfig(network=replace(network, neck_channels=0)))
    if settings.checkpoint:
        learner.load_reference(settings.checkpoint)

    def loss(model: nn.Module, pixels: Tensor, labels: Tensor) -> dict[str, Tensor]:
        affinity = pair_affinity(model(pixels), radius=settings.radius)
        terms = affinity_loss(affinity, pair_labels(labels, radius=settings.radius))
        return {
            "loss": terms.total,
            "background_loss": terms.background,
            "foreground_loss": terms.foreground,
            "negative_loss": terms.negative,
        }

    train(
        Training(
            network=learner,
            body=learner.backbone.body,
            heads=[learner.head],
            images=AffinityImages(
                images.image_set.records,
                sure_regions.path,
                settings.augmentation,
                seed=derive_seed(seed, "affinity images"),
                fill=learner.fill_colour,
                decoded=decoded_images(device.machine),
            ),
            loss=loss,
            optimiser=settings.optimiser,
            epochs=0 if settings.checkpoint else settings.epochs,
            least_steps=settings.least_steps,
            batch_size=settings.batch_size,
            seed=derive_seed(seed, "affinity"),
        ),
        stage=stage,
        fabric=device.fabric,
        machine=device.machine,
        save=lambda: learner.save(stage.path),
    )
