"""The stage that trains AffinityNet on the regions that the CRF is sure of."""

from dataclasses import replace

import torch
from torch import Tensor, nn

from subcam.affinity.labels import pair_labels
from subcam.affinity.loss import affinity_loss, pair_affinity
from subcam.affinity.network import AffinityConfig, AffinityNetwork
from subcam.affinity.training_data import AffinityImages
from subcam.data.check import CheckedImages
from subcam.data.decoded_cache import decoded_images
from subcam.networks.settings import NetworkSettings
from subcam.runtime.devices import Device
from subcam.runtime.run_folder import Stage
from subcam.runtime.seeds import derive_seed
from subcam.stages.settings.affinity import AffinitySettings
from subcam.training.loop import Training, train

VERSION = 1
"""Of what this stage computes; raise it when that changes."""


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
            frozen_in_bf16=network.frozen_in_bf16,
            batch_size=settings.batch_size,
            seed=derive_seed(seed, "affinity"),
        ),
        stage=stage,
        fabric=device.fabric,
        machine=device.machine,
        save=lambda: learner.save(stage.path),
    )
