"""Figures 3, 5 and 7 of a run as drawings for files; the page shows the same in galleries of its own."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from matplotlib.figure import Figure

from subcam.cam.map_files import maps_path, read_response_maps
from subcam.data.images import read_image, read_mask
from subcam.report.figures.clusters import Cluster, cluster_figure
from subcam.report.figures.maps import ResponseRow, SegmentationRow, response_figure, segmentation_figure
from subcam.report.gather.clusters import ParentClusters
from subcam.report.gather.images import PictureRecord, final_segmentation
from subcam.report.gather.run import FinishedRun
from subcam.report.page.figures import file_name

_IDENTITY = tuple(range(256))
_ROWS = 6
"""Pictures in the files of Figures 3 and 7."""


def picture_figures(
    run: FinishedRun, pictures: Sequence[PictureRecord], parents: Sequence[ParentClusters]
) -> Iterator[tuple[str, Figure]]:
    """Figures 3, 5 and 7 for files: name and figure."""
    rows = [row for row in map(_response_row(run), _best_and_worst(pictures)) if row is not None]
    if rows:
        last = run.rounds[-1].round_index
        yield "figure-3-responses", response_figure(rows, ours_name=f"round {last}" if last else "plain CAM")
    for parent in parents:
        if parent.clusters:
            name = f"figure-5-{parent.class_index + 1:02d}-{file_name(parent.class_name)}"
            yield name, cluster_figure(parent.class_name, _clusters(parent))
    finals = [picture for picture in pictures if final_segmentation(picture.masks)]
    if finals:
        chosen = _best_and_worst(finals)
        yield "figure-7-segmentation", segmentation_figure(list(map(_segmentation_row, chosen)), run.result.class_names)


def _best_and_worst(pictures: Sequence[PictureRecord]) -> list[PictureRecord]:
    """Half of greatest gain, half of greatest loss; where no truth is known, the first."""
    told = sorted((p for p in pictures if p.gain is not None), key=lambda p: -(p.gain or 0.0))
    if len(told) <= _ROWS:
        return told or list(pictures[:_ROWS])
    return told[: _ROWS // 2] + told[len(told) - _ROWS // 2 :]


def _response_row(run: FinishedRun) -> Callable[[PictureRecord], ResponseRow | None]:
    def row(picture: PictureRecord) -> ResponseRow | None:
        image = read_image(picture.image)
        maps = [
            read_response_maps(path).full_size() if path else np.zeros((0, *image.shape[:2]), np.float32)
            for path in (picture.maps[0], picture.maps[-1])
        ]
        if not all(len(one) for one in maps):
            return None
        others = {
            found.title: (
                read_response_maps(maps_path(found.maps.path, picture.name)).full_size().max(0),
                run.threshold(picture.split, found),
            )
            for found in run.result.compared
        }
        return ResponseRow(
            image=image,
            plain=maps[0].max(0),
            ours=maps[1].max(0),
            truth=picture.read_truth(),
            label="" if picture.gain is None else f"{100 * picture.gain:+.1f}",
            threshold=run.threshold(picture.split, run.rounds[-1]),
            compared=others,
        )

    return row


def _segmentation_row(picture: PictureRecord) -> SegmentationRow:
    pseudo = next((path for what, path in picture.masks.items() if what.startswith("pseudo")), None)
    return SegmentationRow(
        image=read_image(picture.image),
        truth=picture.read_truth(),
        pseudo=read_mask(pseudo, _IDENTITY) if pseudo else None,
        prediction=read_mask(picture.masks[final_segmentation(picture.masks)], _IDENTITY),
    )


def _clusters(parent: ParentClusters) -> list[Cluster]:
    return [
        Cluster(
            name=cluster.name,
            pictures=tuple(read_image(path) for path in cluster.nearest),
            size=cluster.size,
            purity=cluster.purity,
        )
        for cluster in parent.clusters
    ]
