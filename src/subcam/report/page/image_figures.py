"""Figures 3, 5 and 7 of a run as drawings for files; the page shows the same in its galleries."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from matplotlib.figure import Figure

from subcam.cam.map_files import maps_path, read_response_maps
from subcam.data.images import read_image
from subcam.report.figures.clusters import Cluster, cluster_figure
from subcam.report.figures.maps import ResponseRow, SegmentationRow, response_figure, segmentation_figure
from subcam.report.gather.clusters import ParentClusters
from subcam.report.gather.images import SEGMENTATION, ImageRecord, final_segmentation, response_threshold
from subcam.report.gather.names import round_name
from subcam.report.page.figures import file_name
from subcam.report.page.numbers import signed
from subcam.results import FinishedRun

_ROWS = 6
"""Images in the files of Figures 3 and 7."""


def image_figures(
    run: FinishedRun, images: Sequence[ImageRecord], parents: Sequence[ParentClusters]
) -> Iterator[tuple[str, Figure]]:
    """Figures 3, 5 and 7 for files: name and figure."""
    chosen = _best_and_worst(images) if run.mapped else []
    rows = [row for row in map(_response_row(run), chosen) if row is not None]
    if rows:
        yield "figure-3-responses", response_figure(rows, ours_name=round_name(run.mapped[-1]))
    for parent in parents:
        if parent.clusters:
            name = f"figure-5-{parent.class_index + 1:02d}-{file_name(parent.class_name)}"
            yield name, cluster_figure(parent.class_name, _clusters(parent))
    finals = [image for image in images if final_segmentation(image.masks)]
    if finals:
        chosen = _best_and_worst(finals)
        yield "figure-7-segmentation", segmentation_figure(list(map(_segmentation_row, chosen)), run.result.class_names)


def _best_and_worst(images: Sequence[ImageRecord]) -> list[ImageRecord]:
    """Half with the greatest gain, half with the greatest loss; without ground truth, the first images."""
    by_gain = sorted((one for one in images if one.gain is not None), key=lambda one: -(one.gain or 0.0))
    if len(by_gain) <= _ROWS:
        return by_gain or list(images[:_ROWS])
    return by_gain[: _ROWS // 2] + by_gain[len(by_gain) - _ROWS // 2 :]


def _response_row(run: FinishedRun) -> Callable[[ImageRecord], ResponseRow | None]:
    def row(record: ImageRecord) -> ResponseRow | None:
        image = read_image(record.image)
        maps = [
            read_response_maps(path).full_size() if path else np.zeros((0, *image.shape[:2]), np.float32)
            for path in (record.maps[0], record.maps[-1])
        ]
        if not all(len(one) for one in maps):
            return None
        others = {
            entry.title: (
                read_response_maps(maps_path(entry.maps.path, record.name)).full_size().max(0),
                response_threshold(run, record.split, entry),
            )
            for entry in run.result.compared
        }
        return ResponseRow(
            image=image,
            plain=maps[0].max(0),
            ours=maps[1].max(0),
            truth=record.read_truth(),
            label="" if record.gain is None else signed(record.gain),
            threshold=response_threshold(run, record.split, run.mapped[-1]),
            compared=others,
        )

    return row


def _segmentation_row(image: ImageRecord) -> SegmentationRow:
    pseudo = next((name for name in image.masks if not name.startswith(SEGMENTATION)), None)
    return SegmentationRow(
        image=read_image(image.image),
        truth=image.read_truth(),
        pseudo=image.read_own_mask(pseudo) if pseudo else None,
        prediction=image.read_own_mask(final_segmentation(image.masks)),
    )


def _clusters(parent: ParentClusters) -> list[Cluster]:
    return [
        Cluster(
            name=cluster.name,
            images=tuple(read_image(path) for path in cluster.nearest),
            size=cluster.size,
            purity=cluster.purity,
        )
        for cluster in parent.clusters
    ]
