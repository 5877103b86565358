"""The stage that says how far each pseudo mask can be trusted, without ground truth. Masks in, `masks.csv` out."""

from contextlib import closing
from dataclasses import dataclass

import numpy as np

from subcam.cam.map_files import maps_path, read_response_maps
from subcam.data.check import CheckedImages
from subcam.data.images import read_indices
from subcam.data.readers.class_names import BACKGROUND_NAME
from subcam.data.records import BACKGROUND, IGNORE_INDEX, Record
from subcam.errors import BadInputError
from subcam.metrics.confidence import BY_HAND, RegionConfidence, image_confidence, region_confidences, what_lowers
from subcam.metrics.masks_csv import MASKS_CSV, MaskRow, RegionRow, write_masks_csv
from subcam.refine.alphas import MadeMasks
from subcam.refine.scores_and_masks import label_map, mask_path, scores_with_background
from subcam.refine.variants import CORRECTED
from subcam.refine.walked_maps import read_walked, walked_path
from subcam.runtime import distributed
from subcam.runtime.devices import Device
from subcam.runtime.machine.cores import thread_count
from subcam.runtime.parallel import threaded_map
from subcam.runtime.progress import track
from subcam.runtime.run_folder import Stage

VERSION = 1
"""Of what this stage computes; raise it when that changes."""


def run(
    stage: Stage,
    *,
    images: CheckedImages,
    masks: Stage,
    variant: str,
    maps: Stage | None,
    walked: Stage | None,
    network: Stage | None,
    network_variant: str,
    corrected: Stage | None,
    device: Device,
) -> None:
    """Write the table of all masks, worst first. The first process does it alone; the others wait for it.

    Args:
        stage: where the table is written.
        images: of the masks; of given masks one may have none.
        masks: the stage that wrote them.
        variant: which of its masks.
        maps: the response maps that they were made of; None for given masks.
        walked: what walked; None where nothing did.
        network: masks of a segmentation network, of every image; None where there is none.
        network_variant: which of its masks.
        corrected: the stage of masks among which are those that people corrected: these can be trusted; or None.
        device: how many threads there are.

    Raises:
        BadInputError: a file is damaged or of another size than its mask; names it.
    """
    class_names = images.image_set.class_names
    sources = Sources(
        masks=masks,
        variant=variant,
        maps=maps,
        made=masks.outputs_as(MadeMasks) if maps else None,
        walked=walked,
        network=network,
        network_variant=network_variant,
    )

    by_hand = set(corrected.record["outputs"]["corrected"]) if corrected else set()

    def one(record: Record) -> MaskRow | None:
        if corrected and record.name in by_hand:
            return _trusted(record, read_indices(mask_path(corrected.path, CORRECTED, record.name)), class_names)
        regions = regions_of(record, sources)
        return _row(record, regions, class_names) if regions else None

    if distributed.is_first():
        records, threads = images.image_set.records, thread_count(device.machine.threads)
        with closing(threaded_map(one, records, threads=threads, ahead=2 * threads)) as found:
            rows = [row for row in track(found, stage.name, len(records)) if row]
        write_masks_csv(stage.path / MASKS_CSV, rows, class_names=class_names)
    stage.finish()


@dataclass(frozen=True, kw_only=True)
class Sources:
    """The stages that tell how far masks can be trusted; the fields are the parameters of `run`.

    made: how the masks were made; None for given ones.
    """

    masks: Stage
    variant: str
    maps: Stage | None
    made: MadeMasks | None
    walked: Stage | None
    network: Stage | None
    network_variant: str


def regions_of(record: Record, sources: Sources) -> tuple[RegionConfidence, ...]:
    """The confidence of each region of an image's mask; none where given masks have none of it.

    "stages" compares maps and walk, or maps and mask where nothing walked.

    Raises:
        BadInputError: a file is damaged or of another size than the mask; names the mask.
    """
    path = mask_path(sources.masks.path, sources.variant, record.name)
    if sources.maps is None and not path.is_file():
        return ()
    mask, network = read_indices(path), None
    if sources.network:
        network = read_indices(mask_path(sources.network.path, sources.network_variant, record.name))
    try:
        if sources.maps is None or sources.made is None:
            present = set(np.unique(mask).tolist()) - {BACKGROUND, IGNORE_INDEX}
            classes = np.array(sorted({*record.labels, *(value - 1 for value in present)}), np.int64)
            return region_confidences(mask, classes, network=network)
        responses = read_response_maps(maps_path(sources.maps.path, record.name))
        classes, scores = responses.classes, scores_with_background(responses, alpha=sources.made.crf_alpha)
        before, after = label_map(scores, classes), mask
        if sources.walked and sources.made.walk_alpha is not None:
            stored = read_walked(walked_path(sources.walked.path, record.name))
            scores = stored.scores(sources.made.walk_alpha)
            after = label_map(scores, stored.classes)
        return region_confidences(mask, classes, scores=scores, before=before, after=after, network=network)
    except ValueError as error:
        raise BadInputError(f"{path}: {error}; move the stages it came from away and run again") from error


def _trusted(record: Record, mask: np.ndarray, class_names: tuple[str, ...]) -> MaskRow:
    """The row of a mask that a person corrected."""
    areas = np.bincount(mask.ravel(), minlength=256) / mask.size
    shown = {label for label in np.flatnonzero(areas).tolist() if label not in (BACKGROUND, IGNORE_INDEX)}
    regions = {
        BACKGROUND_NAME if value == BACKGROUND else class_names[value - 1]: RegionRow(
            area=round(float(areas[value]), 4), confidence=1.0
        )
        for value in sorted({BACKGROUND, *shown})
    }
    return MaskRow(image=record.name, confidence=1.0, lowered_by=BY_HAND, regions=regions)


def _row(record: Record, regions: tuple[RegionConfidence, ...], class_names: tuple[str, ...]) -> MaskRow:
    return MaskRow(
        image=record.name,
        confidence=round(image_confidence(regions), 4),
        lowered_by=what_lowers(regions, class_names),
        regions={
            BACKGROUND_NAME if region.value == BACKGROUND else class_names[region.value - 1]: RegionRow(
                area=round(region.area, 4), confidence=round(region.confidence, 4)
            )
            for region in regions
        },
    )
