"""The stage that scores response maps against masks, at the fixed background threshold and at all others."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from subcam.cam.files import maps_path, read_response_maps
from subcam.data.images import read_mask
from subcam.data.records import ImageSet
from subcam.errors import SettingsError
from subcam.evaluate.classification import class_average_precision, mean_average_precision
from subcam.evaluate.scores import Scores
from subcam.evaluate.thresholds import THRESHOLDS, ThresholdSweep
from subcam.progress import track
from subcam.run_folder import Stage


@dataclass(frozen=True, kw_only=True)
class EvaluateSettings:
    """Settings of scoring.

    Attributes:
        background_threshold: a pixel whose strongest response is not above it is background. Fixed before any mask
            is looked at; 0.15 in SC-CAM's code, 0.2 in AffinityNet's.
    """

    background_threshold: float = 0.15

    def __post_init__(self) -> None:
        if not 0 <= self.background_threshold <= 1:
            raise SettingsError(f"expected a background_threshold in 0..1, got {self.background_threshold}")


@dataclass(frozen=True, kw_only=True)
class EvaluateInputs:
    """maps: folder of the stage that wrote the response maps."""

    image_set: ImageSet
    maps: Path


@dataclass(frozen=True, kw_only=True)
class MapScores:
    """Scores of one round's maps on one split, as shares in 0..1.

    fixed_*: at the fixed background threshold. best_*: at the threshold of highest mIoU, which was found with masks.
    mean_average_precision: of the classifier's logits for the whole image.
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


def run(settings: EvaluateSettings, inputs: EvaluateInputs, *, stage: Stage) -> MapScores:
    """Score the images that have masks."""
    if not stage.done:
        stage.finish(vars(_score(settings, inputs, title=stage.name)))
    return MapScores(**stage.record["outputs"])


def _score(settings: EvaluateSettings, inputs: EvaluateInputs, *, title: str) -> MapScores:
    image_set = inputs.image_set
    thresholds = np.union1d(THRESHOLDS, [settings.background_threshold])
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
        fixed_threshold=settings.background_threshold,
        fixed=summary(sweep.at(settings.background_threshold)),
        best_threshold=best.threshold,
        best=summary(best.scores),
        best_used_masks=True,
        mean_average_precision=mean_average_precision(logits, image_set.labels),
        class_average_precision=class_average_precision(logits, image_set.labels).tolist(),
        thresholds=sweep.thresholds.tolist(),
        miou_curve=sweep.curve().tolist(),
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
