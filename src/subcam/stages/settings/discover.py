"""Settings of the stage that finds sub-categories, and of features of another program."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

from subcam.checks.fields import BatchSize, Count, Range, Settings
from subcam.clustering.options import Criterion, Normalisation
from subcam.runtime.run_folder import by_content

Clusters = Annotated[int, Range(1, 10_000)]


def _clusters_digest(path: Path) -> str:
    from subcam.clustering.clusters_csv import clusters_digest  # with what clusters are made of

    return clusters_digest(path)


@dataclass(frozen=True, kw_only=True)
class DiscoverSettings(Settings):
    """Settings of sub-category discovery.

    Attributes:
        num_subcategories: K, the clusters inside each parent class, for the method "kmeans". The paper uses 10.
        method: K-means at one K ("kmeans", the paper); or a K for each class, chosen by the criterion: among FINCH's
            partitions ("finch"), or among these and K-means at each K ("auto").
        criterion: what a K is chosen by: "silhouette", or "stability" over random halves of the images (slower).
        max_subcategories: largest K that is chosen.
        min_cluster_size: where K is chosen, clusters of fewer images are merged into the nearest.
        clusters: a `clusters.csv` that a stage wrote and a person edited; its clusters are taken, in every round,
            instead of finding any. Empty to find them.
        normalisation: features as they are ("none", the paper) or of length 1 ("l2").
        restarts: K-means runs from different seeds; the one of least inertia counts.
        max_iterations: the limit of one K-means run.
        batch_size: images of equal size that pass the network together when features are extracted.
    """

    num_subcategories: Clusters = 10
    method: Literal["kmeans", "finch", "auto"] = "kmeans"
    criterion: Criterion = "silhouette"
    max_subcategories: Clusters = 10
    min_cluster_size: Count = 5
    clusters: str = field(default="", metadata=by_content(_clusters_digest))
    normalisation: Normalisation = "none"
    restarts: Annotated[int, Range(1, 10_000)] = 10
    max_iterations: Count = 300
    batch_size: BatchSize = 8


@dataclass(frozen=True, kw_only=True)
class GivenFeaturesSettings(Settings):
    """Features of another program, in the place of a classifier's.

    Attributes:
        file: an .npy of a row for each training image, in the order of the data set (of its CSV, list or COCO file).
            Sub-categories are then found in these. Empty to take those of the classifier of the round before.
    """

    file: Annotated[str, tyro.conf.arg(name="features", prefix_name=False, metavar="FILE")] = field(
        default="", metadata=by_content()
    )
