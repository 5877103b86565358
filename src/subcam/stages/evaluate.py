"""The stages that score against ground truth: response maps, pseudo masks (Table 1), a network's masks (Tables 3, 4).

Each has a function that writes the scores into the stage's record and one that reads them back. The first process
scores alone; the others wait for it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NotRequired, TypedDict

import numpy as np

from subcam.cam.map_files import maps_path, read_response_maps
from subcam.cam.threshold import THRESHOLDS, ChosenThreshold, threshold_of_maps
from subcam.data.check import CheckedImages
from subcam.data.images import read_indices, read_mask
from subcam.data.records import IGNORE_INDEX, ImageSet
from subcam.errors import BadInputError
from subcam.metrics.confusion import confusion_matrix
from subcam.metrics.scores import Scores, class_average_precision, mean_average_precision, scores
from subcam.metrics.threshold_sweep import ThresholdSweep
from subcam.refine.scores_and_masks import label_map, mask_path
from subcam.refine.variants import GIVEN, VARIANTS
from subcam.refine.walked_maps import read_walked, walked_path
from subcam.runtime import distributed
from subcam.runtime.documents.plain_values import as_plain, at_key
from subcam.runtime.progress import say, track
from subcam.runtime.run_folder import Stage
from subcam.stages.settings.evaluate import EvaluateSettings

VERSION = 1
"""Of what this stage computes; raise it when that changes."""


class ScoreValues(TypedDict):
    """What is kept of the scores of one confusion matrix, as shares in 0..1; `iou` and `matrix` begin with background.

    ignored: share of the pixels without a label, of masks that may have them.
    """

    miou: float
    f_score: float
    precision: float
    recall: float
    pixel_accuracy: float
    iou: list[float]
    matrix: list[list[int]]
    ignored: NotRequired[float]


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
    fixed: ScoreValues
    best_threshold: float
    best: ScoreValues
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


@dataclass(frozen=True, kw_only=True)
class RefinedScores:
    """Scores of one round's pseudo masks on one split, by variant, as shares in 0..1.

    variants: "crf", "walk", "walk-crf", at the settings' alphas; "crf" alone where nothing walked; "given" of given
        masks. Pixels to which a pseudo mask gives no label are not scored; "ignored" is their share.
    walk_curve: mIoU of the walk alone at each of `alphas`, every pixel labelled; the best of them is chosen with masks.
        Empty where nothing walked.
    """

    images: int
    variants: dict[str, ScoreValues]
    alphas: list[float]
    walk_curve: list[float]

    @property
    def best_walk(self) -> tuple[float, float] | tuple[None, None]:
        """The alpha of highest mIoU, found with masks, and that mIoU; None where nothing walked."""
        if not self.alphas:
            return None, None
        index = int(np.nanargmax(self.walk_curve)) if np.isfinite(self.walk_curve).any() else 0
        return self.alphas[index], self.walk_curve[index]


@dataclass(frozen=True, kw_only=True)
class SegmentationScores:
    """Scores of a network's masks on one split, as shares in 0..1, by variant ("masks", "masks-crf")."""

    images: int
    variants: dict[str, ScoreValues]


def run_maps(stage: Stage, *, settings: EvaluateSettings, images: CheckedImages, maps: Stage) -> None:
    """Score the response maps of the images that have ground truth, at the fixed background threshold and all others.

    Raises:
        SettingsError: the threshold is to be chosen and no image has a label.
    """
    result = _score_maps(settings, images.image_set, maps, title=stage.name) if distributed.is_first() else None
    stage.finish(vars(result) if result else None)
    if result and result.threshold_chosen:
        say(f"{stage.name}: {result.threshold_text}")


def read_maps(stage: Stage) -> MapScores:
    """What `run_maps` wrote; raises `RunFolderError` where it is something else by now, as the others do."""
    return stage.outputs_as(MapScores)


def run_pseudo_masks(stage: Stage, *, images: CheckedImages, masks: Stage, walked: Stage | None) -> None:
    """Score the pseudo masks, in all variants, of the images that have ground truth.

    walked: None where nothing walked, or masks were given.
    """
    first = distributed.is_first()
    stage.finish(vars(_score_pseudo_masks(images.image_set, masks, walked, title=stage.name)) if first else None)


def read_pseudo_masks(stage: Stage) -> RefinedScores:
    """What `run_pseudo_masks` wrote."""
    return stage.outputs_as(RefinedScores)


def run_segmentation(stage: Stage, *, images: CheckedImages, masks: Stage, variants: tuple[str, ...]) -> None:
    """Score a network's masks of the images that have ground truth.

    Args:
        stage: where the scores are written.
        images: those to score.
        masks: the stage that wrote the network's masks.
        variants: the folders in it that are scored.

    Raises:
        BadInputError: a mask is missing or does not fit its image or the classes; names it.
    """
    outputs = None
    if distributed.is_first():
        matrices = _count(images.image_set, masks, variants, title=stage.name)
        outputs = {
            "images": sum(record.mask is not None for record in images.image_set.records),
            "variants": {name: summary(scores(matrix)) for name, matrix in matrices.items()},
        }
    stage.finish(outputs)


def read_segmentation(stage: Stage) -> SegmentationScores:
    """What `run_segmentation` wrote."""
    return stage.outputs_as(SegmentationScores)


def map_scores_from(plain: dict[str, Any], key: str, classes: int) -> dict[str, MapScores]:
    """Scores of response maps by split from plain values, as a run's record has them.

    key: where in the record the entry lies that has them. classes: of the run.

    Raises:
        TypeError: they are no scores of so many classes; says at which key.
    """
    by_split: dict[str, MapScores] = at_key(f"{key}.scores", dict[str, MapScores], plain, lenient=True)
    for split, found in by_split.items():
        where = f"{key}.scores.{split}"
        for name, values in (("fixed", found.fixed), ("best", found.best)):
            _check_values(values, f"{where}.{name}", classes)
        _check_length(found.class_average_precision, f"{where}.class_average_precision", classes)
        _check_length(found.miou_curve, f"{where}.miou_curve", len(found.thresholds))
    return by_split


def refined_scores_from(plain: dict[str, Any], key: str, classes: int, *, counts: str) -> dict[str, RefinedScores]:
    """Scores of pseudo masks by split, likewise; `counts`: the variant that must be among them."""
    by_split: dict[str, RefinedScores] = at_key(f"{key}.scores", dict[str, RefinedScores], plain, lenient=True)
    for split, found in by_split.items():
        if counts not in found.variants:
            raise TypeError(f"{key}.scores.{split}.variants: expected the key {counts!r}")
        for variant, values in found.variants.items():
            _check_values(values, f"{key}.scores.{split}.variants.{variant}", classes)
        _check_length(found.walk_curve, f"{key}.scores.{split}.walk_curve", len(found.alphas))
    return by_split


def segmentation_scores_from(plain: dict[str, Any], key: str, classes: int) -> dict[str, dict[str, ScoreValues]]:
    """Scores of a network's masks by split and output, likewise; raises as `map_scores_from`."""
    kind = dict[str, dict[str, ScoreValues]]
    by_split: dict[str, dict[str, ScoreValues]] = at_key(f"{key}.scores", kind, plain, lenient=True)
    for split, outputs in by_split.items():
        for name, values in outputs.items():
            _check_values(values, f"{key}.scores.{split}.{name}", classes)
    return by_split


def _check_values(values: ScoreValues, key: str, classes: int) -> None:
    _check_length(values["iou"], f"{key}.iou", classes + 1)
    _check_length(values["matrix"], f"{key}.matrix", classes + 1)
    for place, row in enumerate(values["matrix"]):
        _check_length(row, f"{key}.matrix[{place}]", classes + 1)


def _check_length(entries: Sequence[Any], key: str, expected: int) -> None:
    if len(entries) != expected:
        raise TypeError(f"{key}: expected {expected} entries, got {len(entries)}")


def _score_maps(settings: EvaluateSettings, image_set: ImageSet, maps: Stage, *, title: str) -> MapScores:
    choice: ChosenThreshold | None = None
    if isinstance(settings.background_threshold, str):
        choice = threshold_of_maps(image_set.records, maps.path, num_classes=image_set.num_classes)
        threshold = choice.threshold
    else:
        threshold = settings.background_threshold
    by_class = choice.by_class if choice and settings.background_threshold == "by-class" else ()
    thresholds = np.union1d(THRESHOLDS, [threshold])
    sweep = ThresholdSweep(image_set.num_classes + 1, thresholds)
    logits = np.zeros((len(image_set), image_set.num_classes), np.float32)
    masked = 0
    for row, record in enumerate(track(image_set.records, title, len(image_set))):
        stored = read_response_maps(maps_path(maps.path, record.name))
        logits[row] = stored.logits
        if record.mask is not None:
            truth = read_mask(record.mask, image_set.mask_values, size=stored.size, turn=record.mask_turn)
            sweep.add(stored.full_size(), stored.classes, truth)
            masked += 1
    best = sweep.best()
    judged = not np.isnan(logits).any()  # maps of another program come without logits
    return MapScores(
        images=masked,
        fixed_threshold=threshold,
        fixed=summary(sweep.at_classes(by_class) if by_class else sweep.at(threshold)),
        best_threshold=best.threshold,
        best=summary(best.scores),
        best_used_masks=True,
        mean_average_precision=mean_average_precision(logits, image_set.labels) if judged else math.nan,
        class_average_precision=(
            class_average_precision(logits, image_set.labels).tolist() if judged else [math.nan] * image_set.num_classes
        ),
        thresholds=sweep.thresholds.tolist(),
        miou_curve=sweep.curve().tolist(),
        class_thresholds=list(by_class),
        choice=as_plain(choice) if choice else {},
    )


def _score_pseudo_masks(image_set: ImageSet, masks: Stage, walked: Stage | None, *, title: str) -> RefinedScores:
    variants = VARIANTS if walked else [name for name in (*VARIANTS, GIVEN) if (masks.path / name).is_dir()]
    num_classes = image_set.num_classes + 1
    identity = tuple(range(256))
    matrices: dict[str, np.ndarray] = {v: np.zeros((num_classes, num_classes), np.int64) for v in variants}
    ignored: dict[str, int] = dict.fromkeys(variants, 0)
    pixels = 0
    by_alpha: dict[float, np.ndarray] = {}
    masked = [(record, record.mask) for record in image_set.records if record.mask is not None]
    for record, mask in track(masked, title, len(masked)):
        after_walk = read_walked(walked_path(walked.path, record.name)) if walked else None
        size = after_walk.size if after_walk else None
        truth = read_mask(mask, image_set.mask_values, size=size, turn=record.mask_turn)
        pixels += int((truth != IGNORE_INDEX).sum())
        for variant in variants:
            labels = read_mask(mask_path(masks.path, variant, record.name), identity, size=(len(truth), truth.shape[1]))
            unlabelled = labels == IGNORE_INDEX
            ignored[variant] += int((unlabelled & (truth != IGNORE_INDEX)).sum())
            labelled_truth = np.where(unlabelled, np.uint8(IGNORE_INDEX), truth)
            matrices[variant] += confusion_matrix(labels, labelled_truth, num_classes=num_classes)
        if after_walk is None:
            continue
        for alpha in after_walk.alphas:
            labels = label_map(after_walk.scores(alpha), after_walk.classes)
            one = confusion_matrix(labels, truth, num_classes=num_classes)
            by_alpha[alpha] = by_alpha.get(alpha, 0) + one
    return RefinedScores(
        images=len(masked),
        variants={
            variant: summary(scores(matrix)) | {"ignored": ignored[variant] / max(pixels, 1)}
            for variant, matrix in matrices.items()
        },
        alphas=list(by_alpha),
        walk_curve=[scores(matrix).miou for matrix in by_alpha.values()],
    )


def _count(image_set: ImageSet, masks: Stage, variants: tuple[str, ...], *, title: str) -> dict[str, np.ndarray]:
    """The confusion matrix of each variant, summed over the data set."""
    num_classes = image_set.num_classes + 1
    matrices = {variant: np.zeros((num_classes, num_classes), np.int64) for variant in variants}
    masked = [(record, record.mask) for record in image_set.records if record.mask is not None]
    for record, mask in track(masked, title, len(masked)):
        for variant, matrix in matrices.items():
            path = mask_path(masks.path, variant, record.name)
            labels = read_indices(path)
            size = (labels.shape[0], labels.shape[1])
            truth = read_mask(mask, image_set.mask_values, size=size, turn=record.mask_turn)
            try:
                matrix += confusion_matrix(labels, truth, num_classes=num_classes)
            except ValueError as error:
                raise BadInputError(f"{path}: {error}; predict it again") from error
    return matrices


def summary(result: Scores) -> ScoreValues:
    """The scores that are kept of one confusion matrix, and the matrix."""
    return {
        "miou": result.miou,
        "f_score": result.f_score,
        "precision": result.mean_precision,
        "recall": result.mean_accuracy,
        "pixel_accuracy": result.pixel_accuracy,
        "iou": result.iou.tolist(),
        "matrix": result.matrix.tolist(),
    }
