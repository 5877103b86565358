"""The stage that scores pseudo masks: maps + CRF, maps + random walk, and both (Table 1)."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from subcam.data.images import read_mask
from subcam.data.records import IGNORE_INDEX, ImageSet
from subcam.metrics.confusion import confusion_matrix
from subcam.metrics.scores import scores
from subcam.refine.label_map import VARIANTS, label_map, mask_path
from subcam.refine.walked_maps import read_walked, walked_path
from subcam.runtime import distributed
from subcam.runtime.progress import track
from subcam.runtime.run_folder import Stage
from subcam.stages.evaluate import summary


@dataclass(frozen=True, kw_only=True)
class RefinedInputs:
    """masks: folder of the pseudo masks, in all variants. walked: folder of the walked maps."""

    image_set: ImageSet
    masks: Path
    walked: Path


@dataclass(frozen=True, kw_only=True)
class RefinedScores:
    """Scores of one round's pseudo masks on one split, by variant, as shares in 0..1.

    variants: "crf", "walk", "walk-crf", at the settings' alphas. Pixels to which a pseudo mask gives no label are not
        scored; "ignored" is their share.
    walk_curve: mIoU of the walk alone at each of `alphas`, every pixel labelled; the best of them is chosen with masks.
    """

    images: int
    variants: dict[str, dict[str, Any]]
    alphas: list[float]
    walk_curve: list[float]

    @property
    def best_walk(self) -> tuple[float, float]:
        """The alpha of highest mIoU, found with masks, and that mIoU."""
        index = int(np.nanargmax(self.walk_curve)) if np.isfinite(self.walk_curve).any() else 0
        return self.alphas[index], self.walk_curve[index]


def run(inputs: RefinedInputs, *, stage: Stage) -> RefinedScores:
    """Score the images that have masks."""
    if not stage.done:
        stage.finish(vars(_score(inputs, title=stage.name)) if distributed.is_first() else None)
    return RefinedScores(**stage.record["outputs"])


def _score(inputs: RefinedInputs, *, title: str) -> RefinedScores:
    image_set = inputs.image_set
    num_classes = image_set.num_classes + 1
    identity = tuple(range(256))
    matrices: dict[str, np.ndarray] = {v: np.zeros((num_classes, num_classes), np.int64) for v in VARIANTS}
    ignored: dict[str, int] = dict.fromkeys(VARIANTS, 0)
    pixels = 0
    by_alpha: dict[float, np.ndarray] = {}
    masked = [(record, record.mask) for record in image_set.records if record.mask is not None]
    for record, mask in track(masked, title, len(masked)):
        walked = read_walked(walked_path(inputs.walked, record.name))
        truth = read_mask(mask, image_set.mask_values, size=walked.size)
        pixels += int((truth != IGNORE_INDEX).sum())
        for variant in VARIANTS:
            found = read_mask(mask_path(inputs.masks, variant, record.name), identity, size=walked.size)
            unlabelled = found == IGNORE_INDEX
            ignored[variant] += int((unlabelled & (truth != IGNORE_INDEX)).sum())
            labelled_truth = np.where(unlabelled, np.uint8(IGNORE_INDEX), truth)
            matrices[variant] += confusion_matrix(found, labelled_truth, num_classes=num_classes)
        for alpha in walked.alphas:
            found = label_map(walked.scores(alpha), walked.classes)
            one = confusion_matrix(found, truth, num_classes=num_classes)
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
