"""What would end a run after hours, found before it begins: classes, masks and files that are asked for and not there.

In: settings and the checked images. Out: nothing, or the error. Every network that the run will train takes a step
without numbers (`networks/trial_step.py`). What the first stage finds by itself within seconds, and what only the
weights themselves can tell, is left to the stages.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from subcam.checks.fields import Settings
from subcam.clustering.clusters_csv import read_clusters
from subcam.data.batches.mask_crops import only_masked
from subcam.data.dataset import ALL, Dataset
from subcam.data.records import ImageSet, suggest
from subcam.errors import CheckpointError, SettingsError
from subcam.methods.registry import choose
from subcam.methods.trial import try_method
from subcam.networks.backbones.build import build_backbone, require_weights
from subcam.networks.backbones.vit_attention import check_attention
from subcam.networks.settings import DEEPLAB, DEEPLAB_PLUS, NO_FILE, NetworkSettings, SegmentationConfig
from subcam.networks.trial_step import Network, try_step
from subcam.runtime.progress import say, warn
from subcam.settings import QUICK_LOOK, SAME, MaskKind, RunSettings
from subcam.stages import classify, segment
from subcam.stages.context import PlannedStage
from subcam.stages.refine import affinity
from subcam.stages.settings.affinity import AffinitySettings
from subcam.stages.settings.classify import ClassifySettings
from subcam.stages.settings.segment import TrainSettings

_trained: set[tuple[str, int, int]] = set()
"""Networks, batch sizes and crops that took a step in this process: the variants of an ablation share them."""


def check_settings(settings: RunSettings) -> None:
    """Refuse settings that no images would make right, before any is read.

    Raises:
        SettingsError: an unknown architecture or method, or weights of a network that nobody has any of.
        BadInputError: maps, masks or features of other programs are not there.
        CheckpointError: a file of weights is missing.
        MethodError: somebody else's method cannot be found.
    """
    parts = parts_of(settings)
    settings.require_given()
    choose(settings.compare)
    for setting, file in _weights(settings, parts).items():
        if file not in ("", *NO_FILE) and not Path(file).exists():
            raise CheckpointError(f"--{setting} {file}: there is no such file to read weights from; check the path")
    for setting, network in _starts(settings, parts).items():
        with _of_setting(setting):
            require_weights(network)
    if parts.segment and settings.segment.architecture not in (DEEPLAB, DEEPLAB_PLUS):
        _check_architecture(settings.segment.architecture)


def check_early(settings: RunSettings, dataset: Dataset) -> None:
    """Refuse a run that cannot come to a good end on these images.

    Raises:
        SettingsError: a single class that all training images show, attention asked of a network that has none, or a
            network that cannot be trained on such batches and crops.
        BadInputError: a table of clusters that cannot be used, or a network is to learn from ground truth that is not
            there.
        MethodError: somebody else's method fails on noise.
    """
    train, parts = dataset.train.image_set, parts_of(settings)
    if settings.quick:
        say(QUICK_LOOK)
    if settings.last_round and settings.discover.clusters and (parts.classify or settings.given_features.file):
        read_clusters(Path(settings.discover.clusters), train)
    if settings.until == "segment" and "pseudo" in settings.segment.train_on and "pseudo" not in parts.segment:
        warn("no segmentation network on pseudo masks: --refine.rounds none leaves none to learn from")
    wanted = {"the control": settings.control, "maps of other methods": bool(settings.compare.methods)}
    if any(wanted.values()) and not (parts.classify and settings.ends_after_the_rounds):
        left = " and ".join(name for name, is_wanted in wanted.items() if is_wanted)
        warn(f"left out, as the run begins after its rounds or ends in them: {left}")
    if parts.classify:
        _check_classes(train)
    if "truth" in parts.segment:
        only_masked(train)
    if settings.cam.attention_layers and parts.classify:
        check_attention(settings.network, layers=settings.cam.attention_layers)
    check_training(settings, train)
    for chosen in choose(settings.compare) if parts.classify else ():
        try_method(chosen, network=settings.network, class_names=train.class_names, settings=settings.cam)


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What a run does: whether it trains classifiers and an AffinityNet, and the masks of its segmentation networks."""

    classify: bool
    affinity: bool
    segment: tuple[MaskKind, ...]


def parts_of(settings: RunSettings) -> Parts:
    """What a run does by where it begins and ends."""
    given_masks = bool(settings.given_masks.folder)
    refines = settings.refine.rounds != "none" and not given_masks and settings.until in ("refine", "segment")
    networks = settings.segment.train_on if settings.until == "segment" else ()
    return Parts(
        classify=not (
            given_masks or settings.given_maps.folder or (settings.given_features.file and settings.until == "discover")
        ),
        affinity=(refines or settings.refines_methods) and settings.refine.random_walk,
        segment=tuple(masks for masks in networks if masks == "truth" or refines or given_masks),
    )


def check_training(settings: RunSettings, train: ImageSet) -> None:
    """Take a step without numbers with every network that the run will train, on batches and crops as it will.

    Raises:
        SettingsError: one cannot be trained so, or not be built; names the settings.
    """
    classify, affinity, segment, parts = (
        settings.classify,
        settings.refine.affinity,
        settings.segment,
        parts_of(settings),
    )
    if parts.classify and (classify.epochs or any(classify.round_epochs)):
        _try_classifier(settings, train)
    if parts.affinity and affinity.epochs and not affinity.checkpoint:
        _try_affinity_network(settings, train)
    for masks in parts.segment if segment.train.epochs else ():
        _try_segmenter(settings, only_masked(train) if masks == "truth" else train)


def _try_classifier(settings: RunSettings, train: ImageSet) -> None:
    from subcam.networks.classifier import ClassificationNetwork, ModelConfig

    config = ModelConfig(
        network=settings.network,
        class_names=train.class_names,
        num_subcategories=settings.discover.num_subcategories if settings.route == "subcategories" else 0,
        head_dropout=settings.classify.head_dropout,
    )

    def loss(network: ClassificationNetwork, images: Tensor) -> Tensor:
        logits = network(images)
        return logits.parent.sum() + (0 if logits.subcategory is None else logits.subcategory.sum())

    batch = _batch(settings.classify, len(train))
    reason = _try_once(config, lambda: ClassificationNetwork(config, weights="none"), loss, **batch)
    _refuse(reason, f"--network.name {settings.network.name}", "classify", settings.classify, len(train))


def _try_affinity_network(settings: RunSettings, train: ImageSet) -> None:
    from subcam.affinity.network import AffinityConfig, AffinityNetwork

    config, own = AffinityConfig(network=replace(settings.network, neck_channels=0)), settings.refine.affinity
    reason = _try_once(
        config,
        lambda: AffinityNetwork(config, weights="none"),
        lambda network, images: network(images).sum(),
        **_batch(own, len(train)),
    )
    _refuse(reason, f"AffinityNet on --network.name {settings.network.name}", "refine.affinity", own, len(train))


def _try_segmenter(settings: RunSettings, train: ImageSet) -> None:
    from subcam.networks.segmenter import SegmentationNetwork

    own = settings.segment.train
    config = settings.segment.config(run_network=settings.network, class_names=train.class_names)

    def loss(network: SegmentationNetwork, images: Tensor) -> Tensor:
        return torch.stack([logits.sum() for logits in network.logits_by_scale(images)]).sum()

    batch = _batch(own, len(train))
    reason = _try_once(config, lambda: SegmentationNetwork(config, weights="none"), loss, **batch)
    what = f"--segment.architecture {config.architecture} on {config.network.name}"
    _refuse(reason, what, "segment.train", own, len(train))


def _try_once(
    config: Settings,
    build: Callable[[], Network],
    forward: Callable[[Network, Tensor], Tensor],
    *,
    batch_size: int,
    crop: int,
) -> str:
    """`try_step`, unless this network took it before."""
    key = (repr(config), batch_size, crop)
    reason = "" if key in _trained else try_step(build, forward, batch_size=batch_size, crop=crop)
    if not reason:
        _trained.add(key)
    return reason


Trained = ClassifySettings | AffinitySettings | TrainSettings


def _batch(settings: Trained, num_images: int) -> dict[str, int]:
    """The images of a step and their sides, as the training will have them."""
    return {"batch_size": min(settings.batch_size, num_images), "crop": settings.augmentation.crop}


def _refuse(reason: str, what: str, group: str, settings: Trained, num_images: int) -> None:
    if not reason:
        return
    batch = _batch(settings, num_images)["batch_size"]
    few = f", of {num_images} images" if num_images < settings.batch_size else ""
    raise SettingsError(
        f"{what} cannot be trained in batches of {batch} (--{group}.batch-size {settings.batch_size}{few}) on crops of"
        f" {settings.augmentation.crop} pixels (--{group}.augmentation.crop): {reason}; take larger batches or crops,"
        " or another network"
    )


def _check_classes(train: ImageSet) -> None:
    counts = dict(zip(train.class_names, train.labels.sum(0).tolist(), strict=True))
    if empty := [name for name, count in counts.items() if not count]:
        warn(f"no training image shows {', '.join(empty)}: nothing will be learned of that")
    if len(counts) == 1 and len(train) in counts.values():
        (name,) = counts
        raise SettingsError(
            f"expected images without {name!r} as well, got {name!r} in all {len(train)}: from these nothing can be"
            " learned about what tells it; add images without it, with an empty cell in the column of labels, or in a"
            " folder called background"
        )


def _weights(settings: RunSettings, parts: Parts) -> dict[str, str]:
    """The settings that may name a file of weights, but for that of the network itself, which is read at once."""
    affinity, segment = settings.refine.affinity, settings.segment
    return {
        "classify.round0-checkpoint": settings.classify.round0_checkpoint if parts.classify else "",
        "refine.affinity.checkpoint": affinity.checkpoint if parts.affinity else "",
        "segment.network.weights": segment.network.weights if parts.segment else "",
    }


def _starts(settings: RunSettings, parts: Parts) -> dict[str, NetworkSettings]:
    """The networks that start from their weights, by the setting that names these; of a library's, its own checks."""
    network, own = settings.network, settings.segment
    classify = parts.classify and not settings.classify.round0_checkpoint
    affinity = parts.affinity and not settings.refine.affinity.checkpoint
    deeplab = parts.segment and own.architecture in (DEEPLAB, DEEPLAB_PLUS)
    starts = {"network.weights": network} if classify or affinity or (deeplab and own.network.name == SAME) else {}
    return starts | ({"segment.network.weights": own.network} if deeplab and own.network.name != SAME else {})


@contextmanager
def _of_setting(setting: str) -> Iterator[None]:
    """Let errors of weights begin with the setting that named these."""
    try:
        yield
    except (CheckpointError, SettingsError) as error:
        raise type(error)(f"--{setting}: {error}") from error


def _check_architecture(name: str) -> None:
    from subcam.networks.decoders.smp_models import smp_architectures

    known = (DEEPLAB, *smp_architectures())
    if name not in known:
        raise SettingsError(f"--segment.architecture {name}: there is none of that name; {suggest(name, known)}")


def check_weights(settings: RunSettings, planned: Sequence[PlannedStage]) -> None:
    """Build, with their weights, the networks that stages which are not done start from: what has to be fetched is.

    Raises:
        CheckpointError, SettingsError: weights cannot be had, read or fitted; names the setting.
    """
    from subcam.networks.segmenter import SegmentationNetwork

    starts = (_start(one) for one in planned if not one.stage.done)
    for start in {repr(start): start for start in starts if start is not None}.values():
        of_run = isinstance(start, NetworkSettings) or settings.segment.network.name == SAME
        with _of_setting(f"{'' if of_run else 'segment.'}network.weights"), torch.random.fork_rng(devices=[]):
            build_backbone(start) if isinstance(start, NetworkSettings) else SegmentationNetwork(start)


def _start(planned: PlannedStage) -> NetworkSettings | SegmentationConfig | None:
    """The network with weights from elsewhere that a stage starts from; None where it starts from none."""
    given = planned.given
    if planned.work is segment.run:
        config = given["config"]
        return None if config.network.weights == "none" else config
    if planned.work is classify.run:
        ready = given.get("start_from") is not None or given["settings"].round0_checkpoint
    elif planned.work is affinity.run:
        ready = given["settings"].checkpoint
    else:
        return None
    return None if ready or given["network"].weights == "none" else given["network"]


def say_images(dataset: Dataset) -> None:
    """Say how many images a run has, by class and split, and which were left out."""
    train = dataset.train.image_set
    if dataset.understood:
        say(dataset.understood)
    counts = ", ".join(f"{name} {n}" for name, n in zip(train.class_names, train.labels.sum(0), strict=True))
    say(f"{len(train)} training images ({counts})")
    for split, images in dataset.scored.items():
        say(f"{len(images.image_set)} images of {split} to score")
    if dataset.without_truth:
        of = "" if dataset.without_truth == (ALL,) else f" of {', '.join(dataset.without_truth)}"
        say(f"no ground-truth masks{of}, and none are needed: they would only add scores")
    skipped = dict.fromkeys(skip for images in dataset.all for skip in images.image_set.skipped)
    if skipped:
        lines = [f"left out {len(skipped)} files that cannot be used:", *(f"  {skip.reason}" for skip in skipped)]
        warn("\n".join(lines))
