"""How well the confidence of a run's masks ranks them: Spearman's correlation with their true IoU.

Usage: python -m benchmarks.confidence RUN [--data DIR]

The run must have pseudo masks and ground truth. Of an image the truth is the mean IoU over background and the classes
that its mask or its ground truth shows; of a region the IoU of the class. The parts of the confidence were chosen on
images of `train`, so that only `val` counts. A network that segmented only the scored images is no part of the run's
own confidence ("both"); it stands here for what it would add.
"""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.choices import stage_of
from subcam.data.dataset import Dataset
from subcam.data.images import read_indices, read_mask
from subcam.data.records import IGNORE_INDEX, ImageSet, Record
from subcam.errors import SubcamError
from subcam.metrics.confidence import RegionConfidence, image_confidence
from subcam.metrics.confusion import confusion_matrix
from subcam.refine.alphas import MadeMasks
from subcam.refine.scores_and_masks import mask_path
from subcam.results import FinishedRun, open_images, read_run
from subcam.runtime.run_folder import Stage
from subcam.stages.confidence import Sources, regions_of

PARTS: dict[str, tuple[str, ...]] = {
    "scores are decided": ("decided",),
    "stages agree": ("stages",),
    "both": ("decided", "stages"),
    "the network agrees": ("network",),
    "all three": ("decided", "stages", "network"),
}
"""What is compared, and the fields of `RegionConfidence` that it is the mean of."""


def ranks(values: Sequence[float]) -> np.ndarray:
    """The place of each value among all, equal ones sharing the mean of theirs."""
    array = np.asarray(values, float)
    _, inverse, counts = np.unique(array, return_inverse=True, return_counts=True)
    return np.asarray((np.cumsum(counts) - (counts - 1) / 2)[inverse])


def spearman(one: Sequence[float], other: Sequence[float]) -> float:
    """Spearman's rank correlation: Pearson's of the ranks, in -1..1."""
    return float(np.corrcoef(ranks(one), ranks(other))[0, 1])


def sources_of(run: FinishedRun) -> Sources:
    """The stages that the run's confidence came from, with a network that it may have left out."""
    refined = run.result.refined[-1] if run.result.refined else None
    if refined is None or "maps" not in refined.masks.inputs:
        raise SubcamError(f"{run.result.out}: expected a run with pseudo masks, got one without; refine its maps first")
    inputs = refined.masks.inputs

    def stage(key: object) -> Stage | None:
        return stage_of(run.result.out, key) if key else None

    network = next((one.masks for one in run.result.segmented if one.trained_on != "truth"), None)
    known = network is not None and (network.path / "masks-known").is_dir()
    return Sources(
        masks=refined.masks,
        variant=refined.variant,
        maps=stage(inputs["maps"]),
        made=refined.masks.outputs_as(MadeMasks),
        walked=stage(inputs["walked"]),
        network=network,
        network_variant="masks-known" if known else "masks",
    )


def true_iou(record: Record, images: ImageSet, sources: Sources) -> dict[int, float]:
    """IoU of background, of each labelled class and of each that the ground truth shows, by value."""
    assert record.mask is not None
    mask = read_indices(mask_path(sources.masks.path, sources.variant, record.name))
    truth = read_mask(record.mask, images.mask_values, size=(mask.shape[0], mask.shape[1]), turn=record.mask_turn)
    truth = np.where(mask == IGNORE_INDEX, np.uint8(IGNORE_INDEX), truth)
    matrix = confusion_matrix(np.where(truth == IGNORE_INDEX, 0, mask), truth, num_classes=images.num_classes + 1)
    hits = np.diagonal(matrix)
    union = matrix.sum(0) + matrix.sum(1) - hits
    counted = union > 0
    return {int(value): float(hits[value] / union[value]) for value in np.flatnonzero(counted)}


def table_of(run: FinishedRun, data: Dataset) -> Table:
    """The correlations by split: of images, and of the regions of classes."""
    sources = sources_of(run)
    table = Table(title="Spearman's correlation of confidence and true IoU", title_justify="left")
    for column in ("split", "confidence from", "images", "rho", "regions", "rho of regions"):
        table.add_column(column)
    for split, checked in data.scored.items():
        images = checked.image_set
        found = []
        for record in images.records:
            seen = (
                sources.network is not None
                and mask_path(sources.network.path, sources.network_variant, record.name).is_file()
            )
            if record.mask is not None:
                regions = regions_of(record, sources if seen else replace(sources, network=None))
                found.append((regions, true_iou(record, images, sources)))
        for title, parts in PARTS.items():
            rated = [([_only(region, parts) for region in regions], ious) for regions, ious in found]
            rated = [
                (regions, ious)
                for regions, ious in rated
                if all(getattr(regions[0], part) is not None for part in parts)
            ]
            if len(rated) < 2:
                continue
            truth = [float(np.mean(list(ious.values()))) for _, ious in rated]
            pairs = [
                (region.confidence, ious[region.value])
                for regions, ious in rated
                for region in regions[1:]
                if region.value in ious
            ]
            table.add_row(
                split,
                title,
                str(len(rated)),
                f"{spearman([image_confidence(regions) for regions, _ in rated], truth):.3f}",
                str(len(pairs)),
                f"{spearman(*zip(*pairs, strict=True)):.3f}",
            )
    return table


def _only(region: RegionConfidence, parts: Sequence[str]) -> RegionConfidence:
    return replace(region, **{part: None for part in ("decided", "stages", "network") if part not in parts})


def main() -> None:
    """Print the table of one run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--data", default="", help="where the run's images are now, if they have moved")
    given = parser.parse_args()
    run = read_run(given.run)
    Console().print(table_of(run, open_images(run, data=given.data)))


if __name__ == "__main__":
    main()
