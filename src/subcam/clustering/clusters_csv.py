"""Sub-categories as two tables that a person can edit: who is in which cluster, and what the clusters are called.

`clusters.csv` has a row for each image and parent class in it: image, parent, cluster, name, distance to the
cluster's centre, rank (1 is nearest). `clusters-names.csv` beside it has a row for each cluster: parent, cluster, name,
size, merged_into. A person changes `name`, writes into `merged_into` the number of another cluster of that parent, or
moves an image by its `cluster`; the other columns are there to be read. Clusters are numbered 0..K-1 within a parent.
"""

import csv
import io
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int16

from subcam.checks.arguments import takes_arrays
from subcam.clustering.subcategories import Subcategories, distances_to_centres, ranks_in_clusters
from subcam.data.readers.csv_file import read_csv
from subcam.data.records import ImageSet, suggest
from subcam.errors import BadInputError
from subcam.runtime.files import atomic_write, file_digest
from subcam.runtime.run_folder import fingerprint

CLUSTERS = "clusters.csv"
_COLUMNS = ("image", "parent", "cluster", "name", "distance", "rank")
_NAME_COLUMNS = ("parent", "cluster", "name", "size", "merged_into")
_SPREADSHEET = "a spreadsheet may have changed it: open the file anew with all columns as text"


@dataclass(frozen=True, kw_only=True)
class NamedClusters:
    """Clusters as they were read, merged and numbered anew.

    assignments: cluster 0..k-1 of image i within parent c; -1 where the image lacks the parent.
    names: by parent, the names of its k clusters; none is without images.
    """

    assignments: Int16[np.ndarray, "images classes"]
    names: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, kw_only=True)
class _NamedCluster:
    """A cluster as a row has it, and the row's line."""

    line: int
    name: str
    merged_into: int | None


def names_path(clusters: Path) -> Path:
    """The table of names that belongs to a table of clusters: `clusters-names.csv` beside `clusters.csv`."""
    return clusters.with_name(f"{clusters.stem}-names{clusters.suffix}")


def clusters_digest(clusters: Path) -> str:
    """Fingerprint of the bytes of a table of clusters and of its names, wherever they lie.

    Raises:
        BadInputError: it cannot be read.
    """
    names = names_path(clusters)
    return fingerprint(file_digest(clusters), file_digest(names) if names.is_file() else "no names")


@takes_arrays()
def write_clusters(
    folder: Path,
    image_set: ImageSet,
    subcategories: Subcategories,
    *,
    features: Float[np.ndarray, "images dim"],
    names: Sequence[Sequence[str]] | None = None,
) -> None:
    """Write `clusters.csv` and `clusters-names.csv` into `folder`.

    Args:
        folder: a stage's folder, or any other.
        image_set: the images that were clustered.
        subcategories: their clusters.
        features: what was clustered, one row an image, normalised as it was then.
        names: by parent, the names of its clusters; `cat 0`, `cat 1`, ... if not given.
    """
    classes = image_set.class_names
    names = names or [[f"{c} {k}" for k in range(n)] for c, n in zip(classes, subcategories.num_clusters, strict=True)]
    distances = distances_to_centres(features, subcategories)
    ranks = ranks_in_clusters(distances, subcategories.assignments)
    rows: list[Sequence[object]] = [_COLUMNS]
    for index, record in enumerate(image_set.records):
        for c in record.labels:
            k = int(subcategories.assignments[index, c])
            distance = f"{distances[index, c]:.6g}"
            rows.append((record.name, classes[c], k, names[c][k], distance, ranks[index, c]))
    _write(folder / CLUSTERS, rows)
    rows = [_NAME_COLUMNS]
    for c, own in enumerate(names):
        rows.extend((classes[c], k, name, subcategories.sizes[c, k], "") for k, name in enumerate(own))
    _write(names_path(folder / CLUSTERS), rows)


@takes_arrays()
def read_clusters(path: Path, image_set: ImageSet) -> NamedClusters:
    """Read a table of clusters, and the names and merges beside it, as a person or a spreadsheet left them.

    UTF-8 with or without a mark, UTF-16 or Windows-1252; commas, semicolons or tabs; any ends of lines. Without a
    table of names the names are those of `clusters.csv`. Clusters that are left without images are dropped, and the
    others numbered anew in their order.

    Args:
        path: `clusters.csv`.
        image_set: the training images; each has a row for each of its parents.

    Raises:
        BadInputError: names the file and line: an unknown, repeated or missing image, parent or cluster, a parent that
            the image does not have, or merges that go round in a circle.
    """
    parents = {_composed(name): c for c, name in enumerate(image_set.class_names)}
    images = {_composed(record.name): index for index, record in enumerate(image_set.records)}
    known = _read_names(names_path(path), parents) if names_path(path).is_file() else None
    seen: dict[tuple[int, int], int] = {}
    clusters: dict[int, dict[int, _NamedCluster]] = known or {c: {} for c in parents.values()}
    assignments = np.full((len(image_set), len(parents)), -1, np.int16)
    for line, row in _rows(path, ("image", "parent", "cluster")):
        where = f"{path}:{line}"
        if row["image"] not in images:
            raise BadInputError(
                f"{where}: unknown image {row['image']!r}: {suggest(row['image'], images)} (expected a training "
                f"image; {_SPREADSHEET})"
            )
        index, c = images[row["image"]], _parent(row["parent"], parents, where)
        if c not in image_set.records[index].labels:
            raise BadInputError(
                f"{where}: {row['image']!r} has no label {row['parent']!r}; remove the row or correct the parent"
            )
        k = _number(row["cluster"], where, column="cluster")
        if seen.setdefault((index, c), line) != line:
            raise BadInputError(
                f"{where}: {row['image']!r} has a cluster of {row['parent']!r} on line {seen[index, c]} already; "
                "remove one of them"
            )
        if known is None:
            name = row.get("name") or f"{row['parent']} {k}"
            clusters[c].setdefault(k, _NamedCluster(line=line, name=name, merged_into=None))
        elif k not in clusters[c]:
            raise BadInputError(
                f"{where}: cluster {k} of {row['parent']!r} is not in {names_path(path).name}, which has "
                f"{', '.join(map(str, clusters[c])) or 'none'}; add it there or correct the number"
            )
        assignments[index, c] = k
    _refuse_missing(path, image_set, seen)
    return _merged(assignments, clusters, names_path(path), image_set.class_names)


def _read_names(path: Path, parents: Mapping[str, int]) -> dict[int, dict[int, _NamedCluster]]:
    clusters: dict[int, dict[int, _NamedCluster]] = {c: {} for c in parents.values()}
    for line, row in _rows(path, ("parent", "cluster")):
        where = f"{path}:{line}"
        own = clusters[_parent(row["parent"], parents, where)]
        k = _number(row["cluster"], where, column="cluster")
        if k in own:
            raise BadInputError(
                f"{where}: cluster {k} of {row['parent']!r} stands on line {own[k].line} already; remove one of them"
            )
        target = row.get("merged_into", "").strip()
        own[k] = _NamedCluster(
            line=line,
            name=row.get("name") or f"{row['parent']} {k}",
            merged_into=_number(target, where, column="merged_into") if target else None,
        )
    return clusters


def _merged(
    assignments: Int16[np.ndarray, "images classes"],
    clusters: Mapping[int, Mapping[int, _NamedCluster]],
    path: Path,
    class_names: Sequence[str],
) -> NamedClusters:
    """Follow the merges, drop what is empty, number anew. `path` is what errors call the table of names."""
    renumbered = np.full_like(assignments, -1)
    names = []
    for c, own in clusters.items():
        ends = {k: _end_of(k, own, path, class_names[c]) for k in own}
        used = sorted({ends[int(k)] for k in assignments[assignments[:, c] >= 0, c]})
        names.append(tuple(own[k].name for k in used))
        for k, end in ends.items():
            if end in used:
                renumbered[assignments[:, c] == k, c] = used.index(end)
    return NamedClusters(assignments=renumbered, names=tuple(names))


def _end_of(k: int, own: Mapping[int, _NamedCluster], path: Path, parent: str) -> int:
    """The cluster in which cluster k ends up."""
    passed = [k]
    while (target := own[k].merged_into) is not None:
        where = f"{path}:{own[k].line}"
        if target not in own:
            raise BadInputError(
                f"{where}: expected in merged_into another cluster of {parent!r} ({', '.join(map(str, own))}), "
                f"got {target}; correct it"
            )
        if target in passed:
            circle = " into ".join(map(str, [*passed[passed.index(target) :], target]))
            raise BadInputError(f"{where}: clusters of {parent!r} are merged in a circle, {circle}; empty one of them")
        passed.append(target)
        k = target
    return k


def _refuse_missing(path: Path, image_set: ImageSet, seen: Mapping[tuple[int, int], int]) -> None:
    missing = [
        f"{record.name!r} ({image_set.class_names[c]})"
        for index, record in enumerate(image_set.records)
        for c in record.labels
        if (index, c) not in seen
    ]
    if missing:
        raise BadInputError(
            f"{path}: expected a row for each training image and each of its parents, {len(missing)} are missing: "
            f"{', '.join(missing[:5])}{', ...' if len(missing) > 5 else ''}; add them"
        )


def _parent(name: str, parents: Mapping[str, int], where: str) -> int:
    if name not in parents:
        raise BadInputError(f"{where}: unknown parent {name!r}: {suggest(name, parents)}")
    return parents[name]


def _number(text: str, where: str, *, column: str) -> int:
    digits = text.strip().removesuffix(".0")  # pandas writes a column with gaps as fractions
    if not (digits.isascii() and digits.isdigit()) or int(digits) > np.iinfo(np.int16).max:
        raise BadInputError(
            f"{where}: expected in column {column!r} the number of a cluster (0, 1, 2, ...), got {text!r}; correct it"
        )
    return int(digits)


def _composed(text: str) -> str:
    return unicodedata.normalize("NFC", text)


def _rows(path: Path, needed: Sequence[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """Each row below the header with the line on which it begins, as cells by column."""
    file = read_csv(path, needed=needed)
    for row in file.rows:
        file.require_width(row, file.columns)
        yield row.line, dict(zip(file.columns, row.cells[: len(file.columns)], strict=True))


def _write(path: Path, rows: Sequence[Sequence[object]]) -> None:
    text = io.StringIO()
    # with these ends of lines (RFC 4180) a name that holds a lone carriage return is quoted too
    csv.writer(text, lineterminator="\r\n").writerows(rows)
    with atomic_write(path) as file:
        file.write(text.getvalue().encode())
