"""Training {E, H_p} (round 0) and {E, H_p, H_s} (later rounds) by Eq. 3. Labelled images in, a saved network out."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import UInt8
from lightning_fabric import Fabric
from torch import Tensor, nn

from subcam.comparisons.equivariance import EquivarianceSettings, EquivariantClassifier
from subcam.comparisons.erasing import ErasingClassifier, ErasingSettings
from subcam.data.augmentation import AugmentationSettings
from subcam.data.decoded_cache import DecodedImages, decoded_images
from subcam.data.records import ImageSet
from subcam.data.training_batches import TrainingImages
from subcam.errors import SettingsError
from subcam.networks.backbones.build import NetworkSettings
from subcam.networks.classifier import ClassificationNetwork, ModelConfig
from subcam.prototypes.classifier import local_loss
from subcam.prototypes.crop_labels import LocalTargets, LocalTrainingImages
from subcam.runtime.devices import MachineSettings
from subcam.runtime.run_folder import Stage
from subcam.runtime.seeds import derive_seed
from subcam.training.loop import Training, train
from subcam.training.losses import joint_loss
from subcam.training.optimiser import OptimiserSettings


@dataclass(frozen=True, kw_only=True)
class ClassifySettings:
    """Settings of classifier training. Numbers of the paper and of its published code are in `recipes.py`.

    Attributes:
        epochs: of round 0, and of the later rounds unless `round_epochs` says otherwise.
        round_epochs: epochs of rounds 1, 2, ...; the last entry holds for all after it.
        schedule_epochs: epochs after which the learning rate reaches its end; 0 means the round's own. The published
            code plans 61 and stops rounds 1-3 at 30, 40 and 50.
        least_steps: epochs are multiplied where they have fewer steps than this, as those of a few dozen images.
        subcategory_weight: lambda of Eq. 3.
        local_weight: weight of the local classifier's loss, where positions are labelled (not in the paper).
        start: whether each round starts from the pretrained weights with new heads ("restart", the published code) or
            goes on with E and H_p of the round before and a new H_s ("continue", Algorithm 1 as it reads).
        round0_checkpoint: a published classifier on ResNet-38 (AffinityNet's or SC-CAM's .pth) to take as round 0
            instead of training it; empty to train.
        head_dropout: share of channels of the feature map dropped in training; 0.5 in the published code.
    """

    epochs: int = 5
    round_epochs: tuple[int, ...] = ()
    schedule_epochs: int = 0
    least_steps: int = 0
    batch_size: int = 16
    subcategory_weight: float = 5.0
    local_weight: float = 0.3
    start: Literal["restart", "continue"] = "restart"
    round0_checkpoint: str = ""
    head_dropout: float = 0.0
    augmentation: AugmentationSettings = field(default_factory=AugmentationSettings)
    optimiser: OptimiserSettings = field(default_factory=OptimiserSettings)

    def __post_init__(self) -> None:
        if min(self.epochs, *self.round_epochs, self.schedule_epochs) < 0 or not 0 <= self.head_dropout <= 1:
            raise SettingsError(
                "expected epochs of 0 or more and head_dropout in 0..1, got "
                f"{(self.epochs, *self.round_epochs, self.schedule_epochs)} and {self.head_dropout}"
            )

    def of_round(self, round_index: int, *, with_subcategories: bool, with_local: bool = False) -> "ClassifySettings":
        """The settings that bear on one round: its own epochs, and no weight of what is not there to be learned.

        What bears on other rounds alone takes its default, so that changing it does not make this round train again.
        """
        epochs = self.epochs
        if round_index and self.round_epochs:
            epochs = self.round_epochs[min(round_index, len(self.round_epochs)) - 1]
        ready = self.round0_checkpoint if round_index == 0 else ""
        return replace(
            self,
            epochs=0 if ready else epochs,
            round0_checkpoint=ready,
            round_epochs=(),
            subcategory_weight=self.subcategory_weight if with_subcategories else 0.0,
            local_weight=self.local_weight if with_local else 0.0,
            start=self.start if round_index else "restart",
        )


@dataclass(frozen=True, kw_only=True)
class ClassifyInputs:
    """What one round of training is given.

    subcategory_labels: Y_s, multi-hot [images, C * K]; None in round 0 and in the lambda = 0 control.
    start_from: folder of the network to go on from; None starts from the pretrained backbone.
    local: labels of positions and the network whose prototypes they name; None to learn from whole images alone.
    comparison: another way to learn from the labels in the place of Eq. 3; None for Eq. 3. Erasing needs
        `subcategory_labels` that are the parents' (K = 1): H_s is its second classifier.
    """

    image_set: ImageSet
    network: NetworkSettings
    round_index: int
    seed: int
    subcategory_labels: UInt8[np.ndarray, "images subcategories"] | None = None
    start_from: Path | None = None
    local: LocalTargets | None = None
    comparison: ErasingSettings | EquivarianceSettings | None = None


def run(
    settings: ClassifySettings, inputs: ClassifyInputs, *, stage: Stage, fabric: Fabric, machine: MachineSettings
) -> Path:
    """Train one round and return the folder of its network; take up a training that was cut off.

    `settings` are those of the round, as `ClassifySettings.of_round` gives them.

    Raises:
        SubcamError: the loss is no finite number; the last good checkpoint stays.
    """
    if stage.done:
        return stage.path
    network = _initial_network(settings, inputs)
    cells = _cells_of_crop(network, settings.augmentation.crop) if inputs.local is not None else None
    num_classes = inputs.image_set.num_classes
    image_columns = num_classes * (1 + network.config.num_subcategories)

    def loss(model: nn.Module, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
        logits = model(images)
        found = joint_loss(
            logits.parent,
            labels[:, :num_classes],
            logits.subcategory,
            labels[:, num_classes:image_columns] if logits.subcategory is not None else None,
            subcategory_weight=settings.subcategory_weight,
        )
        terms = {"loss": found.total, "parent_loss": found.parent, "subcategory_loss": found.subcategory}
        if cells is None:
            return terms
        local = local_loss(logits.local, labels[:, image_columns:].unflatten(1, cells), labels[:, :num_classes])
        return terms | {"loss": found.total + settings.local_weight * local, "local_loss": local}

    learner = _learner(network, inputs.comparison)
    body, heads = network.body_and_heads()
    train(
        Training(
            network=learner,
            body=body,
            heads=heads,
            images=_training_images(
                settings, inputs, fill=network.fill_colour, cells=cells, decoded=decoded_images(machine)
            ),
            loss=loss if learner is network else _own_loss,
            optimiser=settings.optimiser,
            epochs=settings.epochs,
            batch_size=settings.batch_size,
            schedule_epochs=settings.schedule_epochs,
            least_steps=settings.least_steps,
            seed=derive_seed(inputs.seed, "classify", inputs.round_index),
        ),
        stage=stage,
        fabric=fabric,
        machine=machine,
        save=lambda: network.save(stage.path),
    )
    return stage.path


def _learner(network: ClassificationNetwork, comparison: ErasingSettings | EquivarianceSettings | None) -> nn.Module:
    """The network, or what gives the losses of a comparison with it."""
    if isinstance(comparison, ErasingSettings):
        return ErasingClassifier(network, comparison)
    return network if comparison is None else EquivariantClassifier(network, comparison)


def _own_loss(model: nn.Module, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
    return model(images, labels)


def _initial_network(settings: ClassifySettings, inputs: ClassifyInputs) -> ClassificationNetwork:
    """A network with new heads on the pretrained backbone, or with E and H_p of the round before."""
    earlier = None if inputs.start_from is None else ClassificationNetwork.load(inputs.start_from)
    # Random weights stand in for pretrained ones, so every round that restarts has the same.
    draw = 0 if inputs.network.weights == "none" else inputs.round_index
    torch.manual_seed(derive_seed(inputs.seed, "initialise", draw))
    columns = 0 if inputs.subcategory_labels is None else inputs.subcategory_labels.shape[1]
    own = None if earlier is None else earlier.config.network
    config = ModelConfig(
        # The normalisation belongs to the weights that are gone on with: it may come from their file's head.
        network=inputs.network if own is None else replace(inputs.network, mean=own.mean, std=own.std),
        class_names=inputs.image_set.class_names,
        num_subcategories=columns // inputs.image_set.num_classes,
        head_dropout=settings.head_dropout,
    )
    network = ClassificationNetwork(config, weights=None if earlier is None else "none")
    if settings.round0_checkpoint:
        network.load_reference(settings.round0_checkpoint)
    if earlier is not None:
        network.backbone.load_state_dict(earlier.backbone.state_dict())
        network.parent_head.load_state_dict(earlier.parent_head.state_dict())
    if inputs.local is not None:
        found = ClassificationNetwork.load(inputs.local.model)
        if found.local_classifier is None:
            raise SettingsError(f"the network in {inputs.local.model} has no prototypes; expected one that has")
        prototypes = found.local_classifier.prototypes.detach()
        network = network.with_prototypes(prototypes, num_subcategories=found.config.num_local)
    return network


def _cells_of_crop(network: ClassificationNetwork, crop: int) -> tuple[int, int]:
    """Rows and columns of the feature map of a crop."""
    with torch.no_grad():
        height, width = network.feature_map(torch.zeros(1, 3, crop, crop)).shape[2:]
    return height, width


def _training_images(
    settings: ClassifySettings,
    inputs: ClassifyInputs,
    *,
    fill: tuple[int, ...],
    cells: tuple[int, int] | None,
    decoded: DecodedImages | None,
) -> TrainingImages | LocalTrainingImages:
    labels = inputs.image_set.labels
    if inputs.subcategory_labels is not None:
        labels = np.concatenate([labels, inputs.subcategory_labels], axis=1)
    images = TrainingImages(
        inputs.image_set.records,
        labels,
        settings.augmentation,
        fill=fill,
        seed=derive_seed(inputs.seed, "images", inputs.round_index),
        decoded=decoded,
    )
    if inputs.local is None or cells is None:
        return images
    return LocalTrainingImages(images, inputs.local, cells=cells)
