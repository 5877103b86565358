"""The stage that scores response maps against masks, at the fixed background threshold and at all others."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from subcam.cam.map_files import maps_path, read_response_maps
from subcam.cam.threshold import ChosenThreshold, threshold_of_maps
from subcam.data.images import read_mask
from subcam.data.records import ImageSet
from subcam.errors import SettingsError
from subcam.metrics.classification import class_average_precision, mean_average_precision
from subcam.metrics.scores import Scores
from subcam.metrics.threshold_sweep import THRESHOLDS, ThresholdSweep
from subcam.runtime import distributed
from subcam.runtime.files import as_plain
from subcam.runtime.progress import say, track
from subcam.runtime.run_folder import Stage

Choice = Literal["auto", "by-class"]
CHOICES: tuple[Choice, ...] = get_args(Choice)


@dataclass(frozen=True, kw_only=True)
class EvaluateSettings:
    """Settings of scoring.

    Attributes:
        background_threshold: a pixel whose strongest response is not above it is background. A number, fixed before
            any mask is looked at (0.15 in SC-CAM's code, 0.2 in AffinityNet's); or chosen for the scored images from
            their response maps and colours, without masks: one for all classes ("auto"), or one for each ("by-class").
    """

    background_threshold: float | Choice = 0.15

    def __post_init__(self) -> None:
        given = self.background_threshold
        if given not in CHOICES if isinstance(given, str) else not 0 <= given <= 1:
            raise SettingsError(f"expected a background_threshold in 0..1, {' or '.join(CHOICES)}, got {given}")


@dataclass(frozen=True, kw_only=True)
class EvaluateInputs:
    """maps: folder of the stage that wrote the response maps."""

    image_set: ImageSet
    maps: Path


@dataclass(frozen=True, kw_only=True)
class MapScores:
    """Scores of one round's maps on one split, as shares in 0..1.

    fixed_*: at the background threshold that was given, or chosen without masks (`threshold_chosen`). best_*: at the
        threshold of highest mIoU, which was found with masks.
    mean_average_precision: of the classifier's logits for the whole image.
    class_thresholds: those that "fixed" scores, where each class has its own; then `fixed_threshold` is the one for all
        classes, which shows where one number is needed.
    choice: what the threshold was chosen by, a `ChosenThreshold` as plain values; empty if it was given.
    """

    images: int
    fixed_threshold: float
    fixed: dict[str, Any]
    best_threshold: float
    best: dict[str, Any]
    best_used_masks: bool
    mean_average_precision: float
    class_average_precision: list[float]
    thresholds: list[float]
    miou_curve: list[float]
    class_thresholds: list[float] = field(default_factory=list)
    choice: dict[str, Any] = field(default_factory=dict)

    @property
    def threshold_chosen(self) -> bool:
        """Whether the fixed threshold was chosen without masks rather than given."""
        return bool(self.choice)

    @property
    def threshold_text(self) -> str:
        """The fixed threshold and where it comes from, for a person."""
        if self.class_thresholds:
            low, high = min(self.class_thresholds), max(self.class_thresholds)
            return f"thresholds {low:g} to {high:g} by class, chosen without masks"
        return f"threshold {self.fixed_threshold:g}, {'chosen without masks' if self.threshold_chosen else 'given'}"


def run(settings: EvaluateSettings, inputs: EvaluateInputs, *, stage: Stage) -> MapScores:
    """Score the images that have masks.

    Raises:
        SettingsError: the threshold is to be chosen and no image has a label.
    """
    if not stage.done:
        # By the first process alone; the others wait for it.
        found = _score(settings, inputs, title=stage.name) if distributed.is_first() else None
        stage.finish(vars(found) if found else None)
        if found and found.threshold_chosen:
            say(f"{stage.name}: {found.threshold_text}")
    return MapScores(**stage.record["outputs"])


def _score(settings: EvaluateSettings, inputs: EvaluateInputs, *, title: str) -> MapScores:
    image_set = inputs.image_set
    choice: ChosenThreshold | None = None
    if isinstance(settings.background_threshold, str):
        choice = threshold_of_maps(image_set.records, inputs.maps, num_classes=image_set.num_classes)
        threshold = choice.threshold
    else:
        threshold = settings.background_threshold
    by_class = choice.by_class if choice and settings.background_threshold == "by-class" else ()
    thresholds = np.union1d(THRESHOLDS, [threshold])
    sweep = ThresholdSweep(image_set.num_classes + 1, thresholds)
    logits = np.zeros((len(image_set), image_set.num_classes), np.float32)
    masked = 0
    for row, record in enumerate(track(image_set.records, title, len(image_set))):
        maps = read_response_maps(maps_path(inputs.maps, record.name))
        logits[row] = maps.logits
        if record.mask is not None:
            truth = read_mask(record.mask, image_set.mask_values, size=maps.size)
            sweep.add(maps.full_size(), maps.classes, truth)
            masked += 1
    best = sweep.best()
    return MapScores(
        images=masked,
        fixed_threshold=threshold,
        fixed=summary(sweep.at_classes(by_class) if by_class else sweep.at(threshold)),
        best_threshold=best.threshold,
        best=summary(best.scores),
        best_used_masks=True,
        mean_average_precision=mean_average_precision(logits, image_set.labels),
        class_average_precision=class_average_precision(logits, image_set.labels).tolist(),
        thresholds=sweep.thresholds.tolist(),
        miou_curve=sweep.curve().tolist(),
        class_thresholds=list(by_class),
        choice=as_plain(choice) if choice else {},
    )


def summary(found: Scores) -> dict[str, Any]:
    """The scores that are kept of one confusion matrix, and the matrix."""
    return {
        "miou": found.miou,
        "f_score": found.f_score,
        "precision": found.mean_precision,
        "recall": found.mean_accuracy,
        "pixel_accuracy": found.pixel_accuracy,
        "iou": found.iou.tolist(),
        "matrix": found.matrix.tolist(),
    }
