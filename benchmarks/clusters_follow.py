"""What sub-categories follow: how much clusters of images share with what ground-truth masks say of these images.

    python -m benchmarks.clusters_follow RUN [--data DIR] [--record ablate/NAME.json]

Of each class, the clusters of the run's last round are held against properties of the class's object in each image,
as adjusted mutual information over the smaller of both entropies (Vinh et al. 2010): 0 for chance, 1 where one tells
the other. Numbers become thirds; where all images are alike there is nothing to share, and the cell is empty.
Generated images have true sub-types, which are a property too. Masks of the training images are opened for this, and
nothing is chosen by them.
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table
from sklearn.metrics import adjusted_mutual_info_score

from subcam.data.images import read_image, read_mask
from subcam.data.records import ImageSet, Record
from subcam.errors import SubcamError
from subcam.report.gather.clusters import last_clustered, true_subtypes
from subcam.results import open_images, read_run
from subcam.runtime.files import open_arrays
from subcam.runtime.progress import track
from subcam.runtime.run_folder import RECORD

NUMBERS = ("area of the object", "its height over its width", "brightness of the object", "brightness around it")
SUBTYPE = "true sub-type"
KINDS = ("cut off by the image's border", "another class in the image")
LEAST_PIXELS = 50
"""An object smaller than this says nothing."""


def properties(record: Record, images: ImageSet, class_index: int) -> dict[str, float] | None:
    """The properties of a class in an image; None where its mask has none of it to speak of."""
    assert record.mask is not None
    pixels = read_image(record.image)
    mask = read_mask(record.mask, images.mask_values, turn=record.mask_turn)
    shown = mask == class_index + 1
    if shown.sum() < LEAST_PIXELS:
        return None
    rows, columns = np.flatnonzero(shown.any(1)), np.flatnonzero(shown.any(0))
    grey, around = pixels.mean(2), mask == 0
    border = np.concatenate([shown[0], shown[-1], shown[:, 0], shown[:, -1]])
    return {
        NUMBERS[0]: float(shown.mean()),
        NUMBERS[1]: float(np.ptp(rows) + 1) / float(np.ptp(columns) + 1),
        NUMBERS[2]: float(grey[shown].mean()),
        NUMBERS[3]: float(grey[around].mean()) if around.any() else 0.0,
        KINDS[0]: float(border.mean() > 0.02),
        KINDS[1]: float(len(record.labels) > 1),
    }


def shared(clusters: Sequence[int], found: Sequence[Mapping[str, float | str]]) -> dict[str, float]:
    """What clusters share with each property of the same images; NaN where either does not differ."""
    shares = {}
    for name in found[0]:
        values = np.array([of_image[name] for of_image in found])
        if name in NUMBERS:
            values = np.digitize(values, np.quantile(values, (1 / 3, 2 / 3)))
        tells = min(len(set(values.tolist())), len(set(clusters))) > 1
        found_share = adjusted_mutual_info_score(values, clusters, average_method="min") if tells else np.nan
        shares[name] = float(found_share)
    return shares


def table_of(folder: Path, *, data: str = "", record: str = RECORD) -> tuple[Table, dict[str, dict[str, float]]]:
    """A row for each class, and the same numbers by class and property. record: of the run, the file in its folder.

    Raises:
        SubcamError: the run found no sub-categories, or its training images have no masks.
    """
    run = read_run(folder, record=record)
    last = last_clustered(run)
    if last is None or last.clusters is None:
        raise SubcamError(f"{folder}: expected a run that found sub-categories; --route subcategories does")
    with open_arrays(last.clusters.path / "clusters.npz", what="sub-categories") as arrays:
        assignments = arrays["assignments"]
    images = open_images(run, data=data).train.image_set
    subtypes = true_subtypes(images)
    names = (*NUMBERS, *KINDS, *((SUBTYPE,) if subtypes else ()))
    table = Table(title=f"Clusters of round {last.round_index}: adjusted mutual information", title_justify="left")
    for column in ("class", "images", "clusters", *names):
        table.add_column(column)
    by_class: dict[str, dict[str, float]] = {}
    for c, name in enumerate(images.class_names):
        members = [i for i in np.flatnonzero(assignments[:, c] >= 0).tolist() if images.records[i].mask is not None]
        found = [(i, properties(images.records[i], images, c)) for i in track(members, name, len(members))]
        rated: list[tuple[int, dict[str, float | str]]] = []
        for i, of_image in found:
            if of_image is not None:
                subtype = {SUBTYPE: subtypes[images.records[i].name, name]} if subtypes else {}
                rated.append((i, {**of_image, **subtype}))
        if not rated:
            raise SubcamError(f"{folder}: no training image has a mask of {name}")
        clusters = [int(assignments[i, c]) for i, _ in rated]
        by_class[name] = shared(clusters, [of_image for _, of_image in rated])
        cells = map(_cell, by_class[name].values())
        table.add_row(name, str(len(rated)), str(len(set(clusters))), *cells)
    columns = [[of_class[key] for of_class in by_class.values()] for key in names]
    means = [np.nan if np.isnan(column).all() else float(np.nanmean(column)) for column in columns]
    table.add_row("mean", "", "", *map(_cell, means))
    return table, by_class


def _cell(share: float) -> str:
    return "" if np.isnan(share) else f"{share:.2f}"


def main() -> None:
    """Print the table of a run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--data", default="", help="where the run's images are now, if they have moved")
    parser.add_argument("--record", default=RECORD, help="of a variant of an ablation, in the run's folder")
    given = parser.parse_args()
    Console(width=160).print(table_of(given.run, data=given.data, record=given.record)[0])


if __name__ == "__main__":
    main()
