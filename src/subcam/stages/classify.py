"""Training {E, H_p} (round 0) and {E, H_p, H_s} (later rounds) by Eq. 3. Labelled images in, a saved network out."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor, nn

from subcam.clustering.subcategories import read_subcategories
from subcam.data.batches.training import TrainingImages
from subcam.data.check import CheckedImages
from subcam.data.decoded_cache import decoded_images
from subcam.data.records import ImageSet
from subcam.errors import CheckpointError, SettingsError
from subcam.methods.compute import MethodLearner
from subcam.methods.protocol import MethodTraining
from subcam.methods.rounds import RoundLosses
from subcam.networks.classifier import ClassificationNetwork, ModelConfig
from subcam.networks.published_weights import PACKAGE
from subcam.networks.settings import NetworkSettings
from subcam.prototypes.crop_labels import PrototypeTargets, PrototypeTrainingImages
from subcam.prototypes.label_files import read_label_grids
from subcam.runtime.devices import Device
from subcam.runtime.run_folder import Stage
from subcam.runtime.seeds import derive_seed
from subcam.stages.settings.classify import ClassifySettings
from subcam.training.loop import Training, train

VERSION = 1
"""Of what this stage computes; raise it when that changes."""


def run(
    stage: Stage,
    *,
    settings: ClassifySettings,
    images: CheckedImages,
    network: NetworkSettings,
    round_index: int,
    seed: int,
    device: Device,
    start_from: Stage | None = None,
    clusters: Stage | None = None,
    prototypes: Stage | None = None,
    prototype_labels: Stage | None = None,
    comparison: MethodTraining | None = None,
) -> None:
    """Train one round and save its network; resume an interrupted training.

    Args:
        stage: where the network is written.
        settings: of the round, as `ClassifySettings.of_round` gives them.
        images: the training images.
        network: the backbone.
        round_index: 0 for plain CAM.
        seed: of the run.
        device: where it is trained.
        start_from: the network to go on from; None starts from the pretrained backbone.
        clusters: the sub-categories to learn (Y_s); None in round 0 and in the lambda = 0 control.
        prototypes: the network whose prototypes `prototype_labels` name.
        prototype_labels: what each position of the training images shows; None to learn from whole images alone.
        comparison: a method's losses in the place of Eq. 3; None for Eq. 3.

    Raises:
        SubcamError: the loss is not finite; the last good checkpoint stays.
    """
    image_set = images.image_set
    subcategory_labels = _subcategory_labels(image_set, clusters, comparison)
    model = _initial_network(
        settings,
        network,
        class_names=image_set.class_names,
        columns=0 if subcategory_labels is None else subcategory_labels.shape[1],
        # Random weights stand in for pretrained ones, so every round that restarts has the same.
        seed=derive_seed(seed, "initialise", 0 if network.weights == "none" else round_index),
        start_from=start_from,
        prototypes=prototypes,
    )
    cells = None if prototype_labels is None else _cells_of_crop(model, settings.augmentation.crop)
    losses = RoundLosses(
        num_classes=image_set.num_classes,
        num_subcategories=model.config.num_subcategories,
        cells=cells,
        subcategory_weight=settings.subcategory_weight,
        prototype_weight=settings.prototype_weight,
    )
    labels = image_set.labels
    if subcategory_labels is not None:
        labels = np.concatenate([labels, subcategory_labels], axis=1)
    labelled = TrainingImages(
        image_set.records,
        labels,
        settings.augmentation,
        fill=model.fill_colour,
        seed=derive_seed(seed, "images", round_index),
        decoded=decoded_images(device.machine),
    )
    crops: TrainingImages | PrototypeTrainingImages = labelled
    if prototype_labels is not None and cells is not None:
        targets = PrototypeTargets(grids=read_label_grids(prototype_labels.path), sizes=images.sizes)
        crops = PrototypeTrainingImages(labelled, targets, cells=cells)
    learner = model if comparison is None else MethodLearner(model, comparison)
    body, heads = model.body_and_heads()
    train(
        Training(
            network=learner,
            body=body,
            heads=heads,
            images=crops,
            loss=losses if comparison is None else _own_losses,
            optimiser=settings.optimiser,
            epochs=settings.epochs,
            batch_size=settings.batch_size,
            schedule_epochs=settings.schedule_epochs,
            least_steps=settings.least_steps,
            frozen_in_bf16=network.frozen_in_bf16,
            seed=derive_seed(seed, "classify", round_index),
        ),
        stage=stage,
        fabric=device.fabric,
        machine=device.machine,
        save=lambda: model.save(stage.path),
    )


def _subcategory_labels(
    image_set: ImageSet, clusters: Stage | None, comparison: MethodTraining | None
) -> UInt8[np.ndarray, "images subcategories"] | None:
    """Y_s, multi-hot; None where H_s is not there. A method's further classifiers get the image's labels."""
    if comparison is not None:
        count = comparison.chosen.method.num_subcategories
        return np.repeat(image_set.labels, count, axis=1) if count else None
    return None if clusters is None else read_subcategories(clusters.path).labels


def _own_losses(model: nn.Module, pixels: Tensor, labels: Tensor) -> dict[str, Tensor]:
    return model(pixels, labels)


def _initial_network(
    settings: ClassifySettings,
    network: NetworkSettings,
    *,
    class_names: tuple[str, ...],
    columns: int,
    seed: int,
    start_from: Stage | None,
    prototypes: Stage | None,
) -> ClassificationNetwork:
    """A network with new heads on the pretrained backbone, or with E and H_p of the round before, or a saved one."""
    if settings.round0_checkpoint and Path(settings.round0_checkpoint).is_dir():
        return _saved(Path(settings.round0_checkpoint), class_names=class_names)
    earlier = None if start_from is None else ClassificationNetwork.load(start_from.path)
    torch.manual_seed(seed)
    own = None if earlier is None else earlier.config.network
    config = ModelConfig(
        # The normalisation belongs to the weights that are gone on with: it may come from their file's head.
        network=network if own is None else replace(network, mean=own.mean, std=own.std),
        class_names=class_names,
        num_subcategories=columns // len(class_names),
        head_dropout=settings.head_dropout,
    )
    # Weights that are replaced at once need not be fetched.
    ready = earlier is not None or (settings.round0_checkpoint and network.weights in ("timm", PACKAGE))
    model = ClassificationNetwork(config, weights="none" if ready else None)
    if settings.round0_checkpoint:
        model.load_reference(settings.round0_checkpoint)
    if earlier is not None:
        model.backbone.load_state_dict(earlier.backbone.state_dict())
        model.parent_head.load_state_dict(earlier.parent_head.state_dict())
    if prototypes is not None:
        source = ClassificationNetwork.load(prototypes.path)
        if source.prototype_classifier is None:
            raise SettingsError(f"the network in {prototypes.path} has no prototypes; expected one that has")
        model = model.with_prototypes(
            source.prototype_classifier.prototypes.detach(), num_objects=source.config.num_objects
        )
    return model


def _saved(folder: Path, *, class_names: tuple[str, ...]) -> ClassificationNetwork:
    """A classifier that was trained before.

    Raises:
        CheckpointError: there is none, or it is of other classes.
    """
    model = ClassificationNetwork.load(folder)
    if model.config.class_names != class_names:
        raise CheckpointError(
            f"{folder}: expected a classifier of {', '.join(class_names)} in this order, got one of"
            f" {', '.join(model.config.class_names)}; choose its classes with --dataset.classes"
        )
    return model


def _cells_of_crop(network: ClassificationNetwork, crop: int) -> tuple[int, int]:
    """Rows and columns of the feature map of a crop."""
    with torch.no_grad():
        height, width = network.feature_map(torch.zeros(1, 3, crop, crop)).shape[2:]
    return height, width
