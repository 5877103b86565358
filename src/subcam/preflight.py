"""What would end a run after hours, found before it begins: classes, masks and files that are asked for and not there.

In: settings and the checked images. Out: nothing, or the error. What the first stage finds by itself within seconds,
and what only building a network can tell (weights that do not fit), is left to the stages.
"""

from pathlib import Path

from subcam.clustering.clusters_csv import read_clusters
from subcam.data.dataset import Dataset
from subcam.data.mask_crops import only_masked
from subcam.data.records import ImageSet, suggest
from subcam.errors import CheckpointError, SettingsError
from subcam.networks.backbones.vit_attention import check_attention
from subcam.networks.segmenter import DEEPLAB
from subcam.runtime.progress import say
from subcam.settings import RunSettings

NO_FILE = ("", "none", "timm")
"""What stands for weights that are no file."""


def check_early(settings: RunSettings, dataset: Dataset) -> None:
    """Refuse a run that cannot come to a good end.

    Raises:
        SettingsError: a single class that all training images show, an unknown architecture, or attention
            asked of a network that has none.
        BadInputError: a table of clusters that cannot be used, or a network is to learn from ground truth that is not
            there.
        CheckpointError: a file of weights is missing.
    """
    train = dataset.train.image_set
    if settings.rounds and settings.discover.clusters:
        read_clusters(Path(settings.discover.clusters), train)
    for setting, file in _weights(settings).items():
        if file not in NO_FILE and not Path(file).exists():
            raise CheckpointError(f"--{setting} {file}: there is no such file to read weights from; check the path")
    if "pseudo" in settings.segment.train_on and settings.refine.rounds == "none":
        say("no segmentation network on pseudo masks: --refine.rounds none leaves none to learn from")
    _check_classes(train)
    if "truth" in settings.segment.train_on:
        only_masked(train)
    if settings.segment.train_on and settings.segment.architecture != DEEPLAB:
        _check_architecture(settings.segment.architecture)
    if settings.cam.attention_layers:
        check_attention(settings.network, layers=settings.cam.attention_layers)


def _check_classes(train: ImageSet) -> None:
    counts = dict(zip(train.class_names, train.labels.sum(0).tolist(), strict=True))
    if empty := [name for name, count in counts.items() if not count]:
        say(f"no training image shows {', '.join(empty)}: nothing will be learned of that")
    if len(counts) == 1 and len(train) in counts.values():
        (name,) = counts
        raise SettingsError(
            f"expected images without {name!r} as well, got {name!r} in all {len(train)}: from these nothing can be"
            " learned about what tells it; add images without it, with an empty cell in the column of labels"
        )


def _weights(settings: RunSettings) -> dict[str, str]:
    """The settings that may name a file of weights, but for that of the network itself, which is read at once."""
    affinity, segment = settings.refine.affinity, settings.segment
    return {
        "classify.round0-checkpoint": settings.classify.round0_checkpoint,
        "refine.affinity.checkpoint": affinity.checkpoint if settings.refine.rounds != "none" else "",
        "segment.network.weights": segment.network.weights if segment.train_on else "",
    }


def _check_architecture(name: str) -> None:
    from subcam.networks.decoders.smp_models import smp_architectures

    known = (DEEPLAB, *smp_architectures())
    if name not in known:
        raise SettingsError(f"--segment.architecture {name}: there is none of that name; {suggest(name, known)}")


def say_images(dataset: Dataset) -> None:
    """Say how many images a run has, by class and split, and which were left out."""
    train = dataset.train.image_set
    counts = ", ".join(f"{name} {n}" for name, n in zip(train.class_names, train.labels.sum(0), strict=True))
    say(f"{len(train)} training images ({counts})")
    for split, images in dataset.scored.items():
        say(f"{len(images.image_set)} images of {split} to score")
    skipped = dict.fromkeys(skip for images in dataset.all for skip in images.image_set.skipped)
    if skipped:
        say(f"left out {len(skipped)} files that cannot be used:")
        for skip in skipped:
            say(f"  {skip.reason}")
