"""Figures 3, 5 and 7 of a run as drawings for files; the page shows the same in galleries of its own."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from matplotlib.figure import Figure

from subcam.cam.map_files import maps_path, read_response_maps
from subcam.data.images import read_image, read_mask
from subcam.report.figures.clusters import Cluster, cluster_figure
from subcam.report.figures.maps import ResponseRow, SegmentationRow, response_figure, segmentation_figure
from subcam.report.gather.clusters import ParentClusters
from subcam.report.gather.images import ImageRecord, final_segmentation, response_threshold
from subcam.report.gather.run import FinishedRun
from subcam.report.page.figures import file_name

_IDENTITY = tuple(range(256))
_ROWS = 6
"""Images in the files of Figures 3 and 7."""


def image_figures(
    run: FinishedRun, images: Sequence[ImageRecord], parents: Sequence[ParentClusters]
) -> Iterator[tuple[str, Figure]]:
    """Figures 3, 5 and 7 for files: name and figure."""
    rows = [row for row in map(_response_row(run), _best_and_worst(images)) if row is not None]
    if rows:
        last = run.rounds[-1].round_index
        yield "figure-3-responses", response_figure(rows, ours_name=f"round {last}" if last else "plain CAM")
    for parent in parents:
        if parent.clusters:
            name = f"figure-5-{parent.class_index + 1:02d}-{file_name(parent.class_name)}"
            yield name, cluster_figure(parent.class_name, _clusters(parent))
    finals = [image for image in images if final_segmentation(image.masks)]
    if finals:
        chosen = _best_and_worst(finals)
        yield "figure-7-segmentation", segmentation_figure(list(map(_segmentation_row, chosen)), run.result.class_names)


def _best_and_worst(images: Sequence[ImageRecord]) -> list[ImageRecord]:
    """Half of greatest gain, half of greatest loss; where no truth is known, the first."""
    told = sorted((p for p in images if p.gain is not None), key=lambda p: -(p.gain or 0.0))
    if len(told) <= _ROWS:
        return told or list(images[:_ROWS])
    return told[: _ROWS // 2] + told[len(told) - _ROWS // 2 :]


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
            found.title: (
                read_response_maps(maps_path(found.maps.path, record.name)).full_size().max(0),
                response_threshold(run, record.split, found),
            )
            for found in run.result.compared
        }
        return ResponseRow(
            image=image,
            plain=maps[0].max(0),
            ours=maps[1].max(0),
            truth=record.read_truth(),
            label="" if record.gain is None else f"{100 * record.gain:+.1f}",
            threshold=response_threshold(run, record.split, run.rounds[-1]),
            compared=others,
        )

    return row


def _segmentation_row(image: ImageRecord) -> SegmentationRow:
    pseudo = next((path for what, path in image.masks.items() if what.startswith("pseudo")), None)
    return SegmentationRow(
        image=read_image(image.image),
        truth=image.read_truth(),
        pseudo=read_mask(pseudo, _IDENTITY) if pseudo else None,
        prediction=read_mask(image.masks[final_segmentation(image.masks)], _IDENTITY),
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
