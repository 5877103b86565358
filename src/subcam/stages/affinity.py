"""The stage that trains AffinityNet on the regions that the CRF is sure of."""

from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from subcam.affinity.labels import pair_labels
from subcam.affinity.loss import affinity_loss, pair_affinity
from subcam.affinity.network import AffinityConfig, AffinityNetwork
from subcam.affinity.pairs import RADIUS, STRIDE, training_region
from subcam.affinity.training_data import AffinityImages
from subcam.data.augmentation import AugmentationSettings
from subcam.data.decoded_cache import decoded_images
from subcam.data.records import ImageSet
from subcam.errors import SettingsError
from subcam.networks.backbones.build import NetworkSettings
from subcam.runtime.devices import MachineSettings
from subcam.runtime.run_folder import Stage
from subcam.runtime.seeds import derive_seed
from subcam.training.loop import Training, train
from subcam.training.optimiser import OptimiserSettings


@dataclass(frozen=True, kw_only=True)
class AffinitySettings:
    """Settings of AffinityNet's training.

    Attributes:
        least_steps: epochs are multiplied where they have fewer steps than this, as those of a few dozen images.
        radius: cells at stride 8 within which pairs are learned; psa: 5.
        checkpoint: a published AffinityNet on ResNet-38 (.pth) to take instead of training one; empty to train.
    """

    epochs: int = 3
    least_steps: int = 0
    batch_size: int = 16
    radius: int = RADIUS
    checkpoint: str = ""
    augmentation: AugmentationSettings = field(default_factory=AugmentationSettings)
    optimiser: OptimiserSettings = field(default_factory=OptimiserSettings)

    def __post_init__(self) -> None:
        if self.augmentation.crop % STRIDE:
            raise SettingsError(f"AffinityNet's crop must be a multiple of {STRIDE}, got {self.augmentation.crop}")
        if self.epochs < 0:
            raise SettingsError(f"expected epochs of 0 or more for AffinityNet, got {self.epochs}")
        side = self.augmentation.crop // STRIDE
        training_region(height=side, width=side, radius=self.radius)


@dataclass(frozen=True, kw_only=True)
class AffinityInputs:
    """marginals: folder of the stage that wrote the CRF marginals."""

    image_set: ImageSet
    network: NetworkSettings
    marginals: Path
    seed: int


def run(
    settings: AffinitySettings, inputs: AffinityInputs, *, stage: Stage, fabric: Fabric, machine: MachineSettings
) -> Path:
    """Train AffinityNet and return its folder; take up a training that was cut off."""
    if stage.done:
        return stage.path
    torch.manual_seed(derive_seed(inputs.seed, "initialise affinity"))
    network = AffinityNetwork(AffinityConfig(network=replace(inputs.network, neck_channels=0)))
    if settings.checkpoint:
        network.load_reference(settings.checkpoint)

    def loss(model: nn.Module, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
        affinity = pair_affinity(model(images), radius=settings.radius)
        found = affinity_loss(affinity, pair_labels(labels, radius=settings.radius))
        return {
            "loss": found.total,
            "background_loss": found.background,
            "foreground_loss": found.foreground,
            "negative_loss": found.negative,
        }

    train(
        Training(
            network=network,
            body=network.backbone.body,
            heads=[network.head],
            images=AffinityImages(
                inputs.image_set.records,
                inputs.marginals,
                settings.augmentation,
                seed=derive_seed(inputs.seed, "affinity images"),
                fill=network.fill_colour,
                decoded=decoded_images(machine),
            ),
            loss=loss,
            optimiser=settings.optimiser,
            epochs=0 if settings.checkpoint else settings.epochs,
            least_steps=settings.least_steps,
            batch_size=settings.batch_size,
            seed=derive_seed(inputs.seed, "affinity"),
        ),
        stage=stage,
        fabric=fabric,
        machine=machine,
        save=lambda: network.save(stage.path),
    )
    return stage.path
