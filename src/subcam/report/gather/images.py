"""The scored images of a run: where their maps and masks lie, and what each image gained over plain CAM.

In: a finished run and its data set. Out: one record an image, from which the page shows some; which ones is decided by
gain and loss alike.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float, Integer, UInt8

from subcam.cam.map_files import maps_path, read_response_maps
from subcam.data.dataset import Dataset
from subcam.data.images import read_mask
from subcam.data.records import Record
from subcam.metrics.confusion import confusion_matrix
from subcam.metrics.scores import scores
from subcam.refine.label_map import VARIANTS, label_map, mask_path
from subcam.report.gather.run import FinishedRun
from subcam.results import ComparisonResult, RoundResult
from subcam.runtime.progress import track

MOST_COMPARED = 3000
"""Images whose gain is computed; of larger sets, as many evenly spaced ones."""

FROM_PSEUDO_MASKS = "segmentation learnt from pseudo masks"
FROM_TRUTH = "segmentation learnt from the truth"
UNSCORED_THRESHOLD = 0.3
"""Where the page's sliders start if the run was to choose a threshold and had nothing to score."""

VARIANT_NAMES = {"crf": "CRF", "walk": "random walk", "walk-crf": "random walk + CRF"}


@dataclass(frozen=True, kw_only=True)
class ImageRecord:
    """One image.

    maps: file of its response maps in each round; None where the round has none of it.
    masks: what it is -> file of a mask: pseudo masks, then segmentations.
    plain_iou, last_iou: IoU in this image of round 0 and of the last round, at their fixed thresholds (see
        `image_iou`); None without truth, and the first of them where there is but one round.
    """

    name: str
    split: str
    image: Path
    truth: Path | None
    mask_values: tuple[int, ...]
    labels: tuple[int, ...]
    maps: tuple[Path | None, ...]
    masks: dict[str, Path]
    plain_iou: float | None = None
    last_iou: float | None = None

    @property
    def gain(self) -> float | None:
        """IoU of the last round less that of plain CAM."""
        return None if self.plain_iou is None or self.last_iou is None else self.last_iou - self.plain_iou

    def read_truth(self) -> UInt8[np.ndarray, "h w"] | None:
        """The truth as class indices: 0 background, 1..C classes, 255 not scored."""
        return None if self.truth is None else read_mask(self.truth, self.mask_values)


@dataclass(frozen=True, kw_only=True)
class Images:
    """What the page shows of `total` images; `compared` of them were asked for their gain."""

    shown: tuple[ImageRecord, ...]
    compared: int
    total: int


def gather_images(run: FinishedRun, dataset: Dataset, *, limit: int) -> Images:
    """Compare all scored images (without masks: the training images) and choose `limit` of them to show."""
    found = {split: images.image_set for split, images in dataset.scored.items()} or {"": dataset.train.image_set}
    everything = [
        _record(run, split, record, image_set.mask_values)
        for split, image_set in found.items()
        for record in image_set.records
    ]
    everything = [image for image in everything if image.maps[0] or image.maps[-1]]
    compared = [everything[index] for index in evenly_spaced(len(everything), MOST_COMPARED)]
    told = [_with_gain(image, run) for image in track(compared, "report: gain of each image", len(compared))]
    return Images(shown=choose(told, limit), compared=len(told), total=len(everything))


def choose(images: Sequence[ImageRecord], limit: int) -> tuple[ImageRecord, ...]:
    """`limit` images in their order: a third of the greatest gain, a third of the greatest loss, others evenly."""
    if len(images) <= limit:
        return tuple(images)
    ranked = sorted(
        (index for index, image in enumerate(images) if image.gain is not None),
        key=lambda index: images[index].gain or 0.0,
    )
    third = min(limit // 3, len(ranked) // 2)
    taken = {*ranked[:third], *ranked[len(ranked) - third :]}
    rest = [index for index in range(len(images)) if index not in taken]
    taken.update(rest[place] for place in evenly_spaced(len(rest), limit - len(taken)))
    return tuple(images[index] for index in sorted(taken))


def final_segmentation(masks: Iterable[str]) -> str:
    """Of the names of masks, that of the final segmentation: learnt from pseudo masks, with a CRF if there is one."""
    return ["", *(what for what in masks if what.startswith(FROM_PSEUDO_MASKS))][-1]


def evenly_spaced(count: int, limit: int) -> list[int]:
    """At most `limit` of 0..count-1, at equal distances."""
    return [index * count // limit for index in range(limit)] if count > limit else list(range(count))


def thresholded(
    maps: Float[np.ndarray, "present h w"], classes: Integer[np.ndarray, " present"], threshold: float
) -> UInt8[np.ndarray, "h w"]:
    """The class of the strongest response where that is above the threshold, else background."""
    background = np.full((1, *maps.shape[1:]), threshold, maps.dtype)
    return label_map(np.concatenate([background, maps]), classes)


def image_iou(
    prediction: UInt8[np.ndarray, "h w"], truth: UInt8[np.ndarray, "h w"], *, num_classes: int
) -> float | None:
    """Mean IoU over the object classes in this image's truth; None where it shows none.

    Background is left out: it is large in most images and would hide the rest. The mean of this over images is not
    the mIoU of the tables, which divides only after counting all images.
    """
    found = scores(confusion_matrix(prediction, truth, num_classes=num_classes))
    objects = found.iou[1:][found.present[1:]]
    return float(objects.mean()) if objects.size else None


def response_threshold(run: FinishedRun, split: str, maps: RoundResult | ComparisonResult) -> float:
    """The background threshold at which response maps were scored on a split, given or chosen without masks."""
    if split in maps.scores:
        return maps.scores[split].fixed_threshold
    given = run.result.settings.evaluate.background_threshold
    return given if isinstance(given, float | int) else UNSCORED_THRESHOLD


def _record(run: FinishedRun, split: str, record: Record, mask_values: tuple[int, ...]) -> ImageRecord:
    maps = tuple(_if_there(maps_path(found.maps.path, record.name)) for found in run.rounds)
    masks = {
        f"pseudo mask of round {found.round_index}, {VARIANT_NAMES[variant]}": _if_there(
            mask_path(found.masks.path, variant, record.name)
        )
        for found in reversed(run.result.refined)
        for variant in VARIANTS
    }
    for network in run.result.segmented:
        source = FROM_TRUTH if network.trained_on == "truth" else f"{FROM_PSEUDO_MASKS} of round {network.round_index}"
        for folder, added in (("masks", ""), ("masks-crf", " + CRF")):
            path = _if_there(network.masks.path / folder / f"{record.name}.png")
            masks[f"{source}{added}"] = path
    return ImageRecord(
        name=record.name,
        split=split,
        image=record.image,
        truth=record.mask,
        mask_values=mask_values,
        labels=record.labels,
        maps=maps,
        masks={what: path for what, path in masks.items() if path is not None},
    )


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
        found = thresholded(maps.full_size(), maps.classes, response_threshold(run, image.split, run.rounds[place]))
        return image_iou(found, truth, num_classes=len(run.result.class_names) + 1)

    return replace(image, plain_iou=iou(0) if len(run.rounds) > 1 else None, last_iou=iou(-1))
