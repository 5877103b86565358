"""The sub-categories of the last round for Figures 5 and 6: their images, their purity and the classifiers' weights.

In: a finished run and its training images. Out: a record for each cluster, with the images nearest to its centre.
"""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8
from safetensors import safe_open

from subcam.clustering.clusters_csv import CLUSTERS, names_path
from subcam.clustering.feature_files import read_features
from subcam.clustering.subcategories import prepared
from subcam.data.dataset import Dataset
from subcam.data.readers.csv_file import read_csv
from subcam.data.records import ImageSet
from subcam.errors import RunFolderError
from subcam.results import FinishedRun, RoundResult
from subcam.runtime.files import open_arrays
from subcam.runtime.run_folder import Stage

MOST_COMPARED = 1500
"""Images of one class whose silhouette is computed; the time grows with the square of their number."""


@dataclass(frozen=True, kw_only=True)
class ClusterRecord:
    """One sub-category.

    name: given by a person, else its class and number.
    nearest: images nearest to its centre, the nearest first.
    purity: share of the most frequent true sub-type, `subtype`; None where the sub-types are not known.
    silhouette: mean over its images, -1..1: how much nearer they are to each other than to the next cluster.
    companion: the other class that is most over-represented, with its share in the cluster and in the whole class.
    """

    index: int
    name: str
    size: int
    nearest: tuple[Path, ...]
    purity: float | None = None
    subtype: str = ""
    silhouette: float | None = None
    companion: tuple[str, float, float] | None = None


@dataclass(frozen=True, kw_only=True)
class ParentClusters:
    """The clusters of one class, and the purity over all its images."""

    class_index: int
    class_name: str
    clusters: tuple[ClusterRecord, ...]
    purity: float | None


@dataclass(frozen=True, kw_only=True)
class HeadWeights:
    """theta_p and theta_s of the last round; `has_images` says which sub-categories have any images."""

    parent: Float[np.ndarray, "classes dim"]
    subcategory: Float[np.ndarray, "subcategories dim"]
    has_images: np.ndarray


def last_clustered(run: FinishedRun) -> RoundResult | None:
    """The last round with sub-categories whose files still exist."""
    rounds = [entry for entry in run.rounds if entry.clusters and (entry.clusters.path / "clusters.npz").is_file()]
    return rounds[-1] if rounds else None


def gather_clusters(run: FinishedRun, dataset: Dataset, *, most_images: int) -> tuple[ParentClusters, ...]:
    """The sub-categories of the last round by parent class; empty without any, or if the images have changed since.

    most_images: how many images may be shown of all clusters together. Each shows its 9 nearest, or fewer.
    """
    last = last_clustered(run)
    images = dataset.train.image_set
    if last is None or last.clusters is None or not any(last.clusters.path.glob("part-*.npy")):
        return ()
    with open_arrays(last.clusters.path / "clusters.npz", what="sub-categories") as arrays:
        assignments, centroids = arrays["assignments"], arrays["centroids"]
    features = read_features(last.clusters.path)
    if len(assignments) != len(images) or len(features) != len(images):
        return ()
    subtypes = true_subtypes(images)
    names = _names(last.clusters)
    features = prepared(features, images.labels, normalisation=run.result.settings.discover.normalisation)
    clusters = sum(len(np.unique(column[column >= 0])) for column in assignments.T)
    fits = most_images // max(clusters, 1)
    neighbours = min(9, fits // 3 * 3 or fits)
    centroids = centroids.reshape(len(images.class_names), -1, centroids.shape[-1])
    return tuple(
        _parent(parent, images, assignments[:, parent], centroids[parent], features, subtypes, names, neighbours)
        for parent in range(len(images.class_names))
    )


def head_weights(run: FinishedRun) -> HeadWeights | None:
    """The classifiers' weights of the last round with sub-categories; None without such a round."""
    last = last_clustered(run)
    if (
        last is None
        or last.clusters is None
        or last.model is None
        or not (last.model.path / "model.safetensors").is_file()
    ):
        return None
    with open_arrays(last.clusters.path / "clusters.npz", what="sub-categories") as arrays:
        sizes = arrays["labels"].sum(0)
    with safe_open(last.model.path / "model.safetensors", framework="numpy") as file:
        parent, subcategory = (file.get_tensor(f"{head}_head.weight") for head in ("parent", "subcategory"))
    if len(sizes) != len(subcategory):
        return None
    return HeadWeights(parent=parent, subcategory=subcategory, has_images=sizes > 0)


def _parent(
    parent: int,
    images: ImageSet,
    assignment: np.ndarray,
    centroids: Float[np.ndarray, "k dim"],
    features: Float[np.ndarray, "images dim"],
    subtypes: dict[tuple[str, str], str],
    names: dict[tuple[str, int], str],
    neighbours: int,
) -> ParentClusters:
    class_name = images.class_names[parent]
    everyone = np.flatnonzero(assignment >= 0)
    silhouettes = _silhouettes(features[everyone], assignment[everyone])
    clusters = []
    for index in np.unique(assignment[everyone]).tolist():
        members = everyone[assignment[everyone] == index]
        distance = np.linalg.norm(features[members] - centroids[index], axis=1)
        purity, subtype = _purity([subtypes.get((images.records[m].name, class_name), "") for m in members])
        clusters.append(
            ClusterRecord(
                index=index,
                name=names.get((class_name, index), f"{class_name} {index}"),
                size=len(members),
                nearest=tuple(images.records[m].image for m in members[np.argsort(distance)[:neighbours]]),
                purity=purity,
                subtype=subtype,
                silhouette=silhouettes.get(index),
                companion=_companion(images.labels, members, everyone, parent, images.class_names),
            )
        )
    clusters.sort(key=lambda cluster: -cluster.size)
    known = [(cluster.size, cluster.purity) for cluster in clusters if cluster.purity is not None]
    purity = sum(size * share for size, share in known) / sum(size for size, _ in known) if known else None
    return ParentClusters(class_index=parent, class_name=class_name, clusters=tuple(clusters), purity=purity)


def _purity(subtypes: list[str]) -> tuple[float | None, str]:
    known = Counter(subtype for subtype in subtypes if subtype)
    if not known:
        return None, ""
    subtype, count = known.most_common(1)[0]
    return count / known.total(), subtype


def _silhouettes(features: Float[np.ndarray, "images dim"], assignment: np.ndarray) -> dict[int, float]:
    from sklearn.metrics import silhouette_samples

    step = -(-len(features) // MOST_COMPARED) or 1
    features, assignment = features[::step], assignment[::step]
    if not 1 < len(np.unique(assignment)) < len(assignment):
        return {}
    values = silhouette_samples(features, assignment)
    return {int(index): float(values[assignment == index].mean()) for index in np.unique(assignment)}


def _companion(
    labels: UInt8[np.ndarray, "images classes"],
    members: np.ndarray,
    everyone: np.ndarray,
    parent: int,
    class_names: tuple[str, ...],
) -> tuple[str, float, float] | None:
    inside, whole = labels[members].mean(0), labels[everyone].mean(0)
    excess = np.delete(inside - whole, parent)
    if not excess.size or excess.max() <= 0:
        return None
    other = int(np.delete(np.arange(len(class_names)), parent)[excess.argmax()])
    return class_names[other], float(inside[other]), float(whole[other])


def true_subtypes(images: ImageSet) -> dict[tuple[str, str], str]:
    """(image, class) -> sub-type, for data that has them (the `subtypes.csv` of the generated images)."""
    names = {record.image: record.name for record in images.records}
    for folder in list(next(iter(names)).parents)[:2] if names else ():
        path = folder / "subtypes.csv"
        if path.is_file():
            table = read_csv(path, needed=("image", "class", "subtype"))
            rows = [(folder / row["image"], row["class"], row["subtype"]) for row in table.dicts()]
            return {(names[image], kind): subtype for image, kind, subtype in rows if image in names}
    return {}


def _names(stage: Stage) -> dict[tuple[str, int], str]:
    """(class, index) -> name of the sub-category."""
    path = names_path(stage.path / CLUSTERS)
    if not path.is_file():
        return {}
    try:
        rows = read_csv(path, needed=("parent", "cluster", "name")).dicts()
        return {(row["parent"], int(row["cluster"])): row["name"] for row in rows}
    except ValueError as error:
        raise RunFolderError(f"{path}: expected numbers of clusters, got others ({error}); correct it") from error
