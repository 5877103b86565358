"""The scored images of a run: the files of their maps and masks, and the gain of each image over plain CAM.

In: a finished run and its data set. Out: a record for each image. The page shows some of them, chosen by gain and by
loss alike.
"""

import filecmp
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float, Integer, UInt8

from subcam.cam.map_files import maps_path, read_response_maps
from subcam.data.dataset import Dataset
from subcam.data.images import read_indices, read_mask
from subcam.data.records import Record
from subcam.metrics.confusion import confusion_matrix
from subcam.metrics.masks_csv import MASKS_CSV, MaskRow, read_masks_csv
from subcam.metrics.scores import scores
from subcam.refine.scores_and_masks import label_map, mask_path
from subcam.refine.variants import GIVEN, VARIANTS
from subcam.report.gather.names import GIVEN_MASKS, VARIANT_NAMES, masks_name, network_name
from subcam.results import ComparisonResult, FinishedRun, RoundResult
from subcam.runtime.files import below
from subcam.runtime.progress import track

MOST_COMPARED = 3000
"""Images whose gain is computed; of larger sets, as many evenly spaced ones."""

SEGMENTATION = "segmentation trained on "
"""How the name of a mask begins that a network predicted; `names.network_name` follows."""

UNSCORED_THRESHOLD = 0.3
"""Where the page's sliders start if the run was to choose a threshold and had nothing to score."""


@dataclass(frozen=True, kw_only=True)
class ImageRecord:
    """One image.

    truth: file of its ground truth. truth_turn: as `Record.mask_turn`.
    maps: file of its response maps in each round; None where a round has none for it.
    masks: name -> file of a mask: that in the run's folder `masks` (`published`), other pseudo masks, segmentations.
    confidence, doubt: of its mask in 0..1, without ground truth, and what lowers it; None where the run says none.
    disagreement, disagreeing: how far two of its predictions differ, 0..1, and which; None where it has no two.
    plain_iou, last_iou: IoU of this image in round 0 and in the last round, at their fixed thresholds (see
        `image_iou`). None without ground truth; `plain_iou` is also None in a run of one round.
    """

    name: str
    split: str
    image: Path
    truth: Path | None
    mask_values: tuple[int, ...]
    labels: tuple[int, ...]
    maps: tuple[Path | None, ...]
    masks: dict[str, Path]
    truth_turn: int = 1
    confidence: float | None = None
    doubt: str = ""
    disagreement: float | None = None
    disagreeing: tuple[str, str] = ("", "")
    plain_iou: float | None = None
    last_iou: float | None = None

    @property
    def gain(self) -> float | None:
        """IoU of the last round minus that of plain CAM."""
        return None if self.plain_iou is None or self.last_iou is None else self.last_iou - self.plain_iou

    def read_truth(self) -> UInt8[np.ndarray, "h w"] | None:
        """The ground truth as class indices: 0 background, 1..C classes, 255 not scored."""
        return None if self.truth is None else read_mask(self.truth, self.mask_values, turn=self.truth_turn)

    def read_own_mask(self, name: str) -> UInt8[np.ndarray, "h w"]:
        """One of the run's own masks as class indices; 255 where it is undecided."""
        return read_indices(self.masks[name])


@dataclass(frozen=True, kw_only=True)
class Images:
    """The images that the page shows, out of `total`; the gain was computed for `compared` of them."""

    shown: tuple[ImageRecord, ...]
    compared: int
    total: int


def gather_images(run: FinishedRun, dataset: Dataset, *, limit: int) -> Images:
    """Compute the gain of the scored images (without masks: the training images) and choose `limit` to show."""
    image_sets = {split: images.image_set for split, images in dataset.scored.items()} or {"": dataset.train.image_set}
    rated = {row.image: row for row in _confidences(run)}
    records = [
        _record(run, split, record, image_set.mask_values, rated.get(record.name))
        for split, image_set in image_sets.items()
        for record in image_set.records
    ]
    with_maps = [image for image in records if image.maps[0] or image.maps[-1] or (image.masks and not run.mapped)]
    compared = [with_maps[index] for index in evenly_spaced(len(with_maps), MOST_COMPARED)]
    images = [_with_gain(image, run) for image in track(compared, "report: gain of each image", len(compared))]
    return Images(shown=choose(images, limit), compared=len(images), total=len(with_maps))


def _confidences(run: FinishedRun) -> tuple[MaskRow, ...]:
    """How far the masks of this record can be trusted; beside the folder's masks lies what the last record says."""
    stage = run.result.refined[-1].confidence if run.result.refined else None
    path = stage.path / MASKS_CSV if stage else None
    return read_masks_csv(path) if path and path.is_file() else ()


def choose(images: Sequence[ImageRecord], limit: int) -> tuple[ImageRecord, ...]:
    """`limit` images in their order: a third with the greatest gain, a third with the greatest loss, others evenly.

    Without ground truth, two thirds are those whose masks can be trusted least.
    """
    if len(images) <= limit:
        return tuple(images)
    ranked = sorted(
        (index for index, image in enumerate(images) if image.gain is not None),
        key=lambda index: images[index].gain or 0.0,
    )
    third = min(limit // 3, len(ranked) // 2)
    chosen = {*ranked[:third], *ranked[len(ranked) - third :]}
    if not ranked:
        rated = [(image.confidence, index) for index, image in enumerate(images) if image.confidence is not None]
        chosen = {index for _, index in sorted(rated)[: 2 * limit // 3]}
    rest = [index for index in range(len(images)) if index not in chosen]
    chosen.update(rest[place] for place in evenly_spaced(len(rest), limit - len(chosen)))
    return tuple(images[index] for index in sorted(chosen))


def final_segmentation(masks: Iterable[str]) -> str:
    """The name of the final segmentation: not trained on ground truth, after a CRF if there is one; "" without any."""
    starts = (f"{SEGMENTATION}pseudo masks", f"{SEGMENTATION}{GIVEN_MASKS}")
    return ["", *(name for name in masks if name.startswith(starts))][-1]


def evenly_spaced(count: int, limit: int) -> list[int]:
    """At most `limit` of 0..count-1, at equal distances."""
    return [index * count // limit for index in range(limit)] if count > limit else list(range(count))


def thresholded(
    maps: Float[np.ndarray, "present h w"], classes: Integer[np.ndarray, " present"], threshold: float
) -> UInt8[np.ndarray, "h w"]:
    """The class of the strongest response where it exceeds the threshold, else background."""
    if len(maps) == 1:  # as of most images: nothing to choose among
        return np.where(maps[0] > threshold, np.uint8(classes[0] + 1), np.uint8(0))
    background = np.full((1, *maps.shape[1:]), threshold, maps.dtype)
    return label_map(np.concatenate([background, maps]), classes)


def image_iou(
    prediction: UInt8[np.ndarray, "h w"], truth: UInt8[np.ndarray, "h w"], *, num_classes: int
) -> float | None:
    """Mean IoU over the object classes in this image's ground truth; None where it has none.

    Background is left out: it covers most of many images and would dominate the mean. Averaged over images, this is
    not the mIoU of the tables, which divides only after counting all images.
    """
    of_classes = scores(confusion_matrix(prediction, truth, num_classes=num_classes))
    objects = of_classes.iou[1:][of_classes.present[1:]]
    return float(objects.mean()) if objects.size else None


def response_threshold(run: FinishedRun, split: str, maps: RoundResult | ComparisonResult) -> float:
    """The background threshold at which response maps were scored on a split, given or chosen without masks."""
    if split in maps.scores:
        return maps.scores[split].fixed_threshold
    given = run.result.settings.evaluate.background_threshold
    return given if isinstance(given, float | int) else UNSCORED_THRESHOLD


def _record(
    run: FinishedRun, split: str, record: Record, mask_values: tuple[int, ...], rated: MaskRow | None
) -> ImageRecord:
    maps = tuple(_if_there(maps_path(entry.responses.path, record.name)) for entry in run.mapped)
    all_refined = [(masks_name(refined), refined) for refined in reversed(run.result.refined)]
    all_refined += [(f"pseudo masks of {one.title}", one.refined) for one in run.result.compared if one.refined]
    masks = {published(run): _published_file(run, record.name)} if run.result.refined else {}
    masks |= {
        mask_name(name, variant): _if_there(mask_path(refined.masks.path, variant, record.name))
        for name, refined in all_refined
        for variant in (*VARIANTS, GIVEN)
        if mask_name(name, variant) not in masks
    }
    for network in run.result.segmented:
        for folder, kind in (("masks", "plain"), ("masks-crf", "crf")):
            path = _if_there(below(network.masks.path, f"{folder}/{record.name}", ".png"))
            masks[SEGMENTATION + network_name(network, kind)] = path
    return ImageRecord(
        name=record.name,
        split=split,
        image=record.image,
        truth=record.mask,
        truth_turn=record.mask_turn,
        mask_values=mask_values,
        labels=record.labels,
        maps=maps or (None,),
        confidence=rated.confidence if rated else None,
        doubt=rated.lowered_by if rated else "",
        masks={name: path for name, path in masks.items() if path is not None},
    )


def published(run: FinishedRun) -> str:
    """The name of the masks in the run's folder `masks`, which confidence ranks and which are exported; or ""."""
    if not run.result.refined:
        return ""
    last = run.result.refined[-1]
    return mask_name(masks_name(last), last.final[1])


def mask_name(masks: str, variant: str) -> str:
    """The name of one image's mask among `ImageRecord.masks`: which pseudo masks, after what."""
    return f"{masks.replace('masks', 'mask', 1)}, {VARIANT_NAMES[variant]}"


def _published_file(run: FinishedRun, name: str) -> Path | None:
    """The file in the folder `masks`; that of the stage where the folder shows those of another run, or none."""
    of_stage = mask_path(*run.result.refined[-1].final, name)
    shown = run.result.out / "masks" / f"{name}.png"
    return shown if shown.is_file() and of_stage.is_file() and filecmp.cmp(shown, of_stage) else _if_there(of_stage)


def _if_there(path: Path) -> Path | None:
    return path if path.is_file() else None


def _with_gain(image: ImageRecord, run: FinishedRun) -> ImageRecord:
    truth = image.read_truth()
    if truth is None:
        return image

    def iou(place: int) -> float | None:
        path = image.maps[place]
        if path is None:
            return None
        maps = read_response_maps(path)
        threshold = response_threshold(run, image.split, run.mapped[place])
        prediction = thresholded(maps.full_size(), maps.classes, threshold)
        return image_iou(prediction, truth, num_classes=len(run.result.class_names) + 1)

    return replace(image, plain_iou=iou(0) if len(run.mapped) > 1 else None, last_iou=iou(-1))
