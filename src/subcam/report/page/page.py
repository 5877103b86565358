"""The page of a run: one HTML file that loads nothing, with its figures and tables as files beside it.

In: a run's folder. Out: `report/index.html`, `report/figures/*.png` and `.svg`, `report/tables/*`.
"""

from dataclasses import replace
from pathlib import Path

from subcam.data.dataset import Dataset
from subcam.report.figures.files import save_figure
from subcam.report.gather.clusters import gather_clusters
from subcam.report.gather.disagreement import with_disagreement
from subcam.report.gather.images import gather_images
from subcam.report.page.content import page_html
from subcam.report.page.figures import cost_bars, number_figures
from subcam.report.page.image_figures import image_figures
from subcam.report.page.packing import pack_images, thumbnails
from subcam.report.page.words import with_words
from subcam.report.tables.formats import write_table
from subcam.report.tables.tables import class_tables, tables_of
from subcam.results import RECORD, FinishedRun, open_images, read_run
from subcam.runtime.files import atomic_write, below
from subcam.runtime.run_folder import RunFolder

MEGABYTE = 1_000_000
IMAGES_BUDGET = 10 * MEGABYTE
MOST_CLUSTER_IMAGES = 720
"""Bytes of images and maps, and number of images of sub-categories (4 kB each): a page stays below 15 MB."""

_CLUSTER_SIDE = 104


def write_report(
    run_folder: Path,
    *,
    out: Path | None = None,
    images: int = 200,
    data: str = "",
    dataset: Dataset | None = None,
    record: str = RECORD,
) -> Path:
    """Write the page, figures and tables of a run; returns the path of the page.

    Args:
        run_folder: the folder of a finished run.
        out: the folder to write to; by default `report` in the run's folder.
        images: most images in the gallery.
        data: the folder of the images, if they have moved.
        dataset: the images, if they are open already.
        record: the file in the run's folder that lists what was run.

    Raises:
        SubcamError: the run is not finished, images are missing, or the folder cannot be written, perhaps because
            another process writes a report there.
    """
    run = read_run(run_folder, record=record)
    dataset = dataset or open_images(run, data=data)
    out = out or below(run_folder, "report/index", ".html").parent  # not through a link to another place
    with RunFolder(path=out).lock(leave=False):
        return _write(run, dataset, out, images)


def _write(run: FinishedRun, dataset: Dataset, out: Path, images: int) -> Path:
    gathered = gather_images(run, dataset, limit=images)
    gathered = replace(gathered, shown=tuple(with_disagreement(image, run) for image in gathered.shown))
    parents = gather_clusters(run, dataset, most_images=MOST_CLUSTER_IMAGES)
    tables = sorted([*tables_of(run.result), *class_tables(run.result)], key=lambda table: table.name)
    figures = tuple(number_figures(run))
    cost = cost_bars(run)
    drawings = {}
    for figure in (*figures, *([cost] if cost else [])):
        _, drawing = save_figure(figure.figure, out / "figures", figure.name)
        drawings[figure.name] = drawing.read_text("utf-8")
    for name, drawn in image_figures(run, gathered.shown, parents):
        save_figure(drawn, out / "figures", name)
    for table in tables:
        write_table(table, out / "tables")
    nearest = (path for parent in parents for cluster in parent.clusters for path in cluster.nearest)
    page = page_html(
        run,
        tables=tables,
        images=gathered,
        packed=pack_images(gathered.shown, budget=IMAGES_BUDGET),
        parents=parents,
        thumbnails=thumbnails(nearest, _CLUSTER_SIDE),
        figures=figures,
        cost=cost,
        drawings=drawings,
        out=out,
    )
    path = out / "index.html"
    with atomic_write(path, "w") as file:
        file.write(with_words(page))
    return path
