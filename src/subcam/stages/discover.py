"""The stage between two rounds: features, clusters, and a table of who is in which sub-category."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import tyro
from jaxtyping import Float32

from subcam.checks.fields import BatchSize, Count, Range, Settings
from subcam.clustering.choose_k import Choice, Criterion, discover_adaptive_subcategories
from subcam.clustering.clusters_csv import NamedClusters, clusters_digest, read_clusters, write_clusters
from subcam.clustering.features import extract_features, read_given_features, write_features
from subcam.clustering.subcategories import (
    Normalisation,
    discover_subcategories,
    prepared,
    subcategories_of,
    write_subcategories,
)
from subcam.data.check import CheckedImages
from subcam.networks.classifier import ClassificationNetwork
from subcam.runtime import distributed
from subcam.runtime.devices import Device
from subcam.runtime.progress import say
from subcam.runtime.run_folder import Stage, by_content

VERSION = 1
"""Of what this stage computes; raise it when that changes."""


Clusters = Annotated[int, Range(1, 10_000)]


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
    clusters: str = field(default="", metadata=by_content(clusters_digest))
    normalisation: Normalisation = "none"
    restarts: Annotated[int, Range(1, 10_000)] = 10
    max_iterations: Count = 300
    batch_size: BatchSize = 8


def run(
    stage: Stage,
    *,
    settings: DiscoverSettings,
    images: CheckedImages,
    model: Stage,
    seed: int,
    device: Device,
) -> None:
    """Find the sub-categories of every parent class, or take those of a file.

    Writes `clusters.npz` (`read_subcategories`) and, for people to read and edit, `clusters.csv` with
    `clusters-names.csv`. The stage's record says which K each class has and, where it was chosen, what all candidates
    scored.

    Raises:
        BadInputError: the file of clusters cannot be used; names file and line.
    """
    image_set = images.image_set
    # Read first: a mistake in the file must not cost the time of the features.
    given = read_clusters(Path(settings.clusters), image_set) if settings.clusters else None
    features = extract_features(
        ClassificationNetwork.load(model.path),
        image_set.records,
        images.sizes,
        folder=stage.path,
        fabric=device.fabric,
        batch_size=settings.batch_size,
        machine=device.machine,
    )
    if not distributed.is_first():  # clusters are found once; the others wait for them
        stage.finish()
        return
    _find(stage, settings, images, features, given=given, seed=seed)


def _find(
    stage: Stage,
    settings: DiscoverSettings,
    images: CheckedImages,
    features: Float32[np.ndarray, "images dim"],
    *,
    given: NamedClusters | None,
    seed: int,
) -> None:
    """Find the sub-categories, or take the given ones; write them and end the stage."""
    image_set = images.image_set
    features = prepared(features, image_set.labels, normalisation=settings.normalisation)
    choices: tuple[Choice | None, ...] = (None,) * image_set.num_classes
    if given is not None:
        largest = max(1, int(given.assignments.max(initial=-1)) + 1)
        subcategories = subcategories_of(given.assignments, features, num_subcategories=largest)
    elif settings.method == "kmeans":
        subcategories = discover_subcategories(
            features,
            image_set.labels,
            num_subcategories=settings.num_subcategories,
            seed=seed,
            restarts=settings.restarts,
            max_iterations=settings.max_iterations,
        )
    else:
        subcategories, choices = discover_adaptive_subcategories(
            features,
            image_set.labels,
            candidates="finch" if settings.method == "finch" else "both",
            criterion=settings.criterion,
            max_subcategories=settings.max_subcategories,
            min_cluster_size=settings.min_cluster_size,
            seed=seed,
            restarts=settings.restarts,
            max_iterations=settings.max_iterations,
        )
    write_subcategories(stage.path, subcategories)
    write_clusters(
        stage.path, image_set, subcategories, features=features, names=None if given is None else given.names
    )
    counts = dict(zip(image_set.class_names, subcategories.num_clusters.tolist(), strict=True))
    short: dict[str, int] = {}
    if any(choices) or given is not None:
        how = f"from {settings.clusters}" if given is not None else f"chosen by {settings.criterion}"
        say(f"sub-categories by class, {how}: {', '.join(f'{name} {k}' for name, k in counts.items())}")
    else:
        short = {name: k for name, k in counts.items() if k < settings.num_subcategories}
    if short:
        say(f"fewer sub-categories than K = {settings.num_subcategories}, for want of images: {short}")
    stage.finish(
        {
            "k": counts,
            "fewer_than_k": short,
            "choices": {name: _record(c) for name, c in zip(image_set.class_names, choices, strict=True) if c},
            "inertia": subcategories.inertia,
            "sizes": subcategories.sizes,
        }
    )


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


def run_on_features(
    stage: Stage, *, settings: DiscoverSettings, features: GivenFeaturesSettings, images: CheckedImages, seed: int
) -> None:
    """Find the sub-categories of every parent class in given features; writes what `run` does.

    Raises:
        BadInputError: the file of features or that of clusters cannot be used; names it.
    """
    given = read_clusters(Path(settings.clusters), images.image_set) if settings.clusters else None
    if distributed.is_first():
        own = read_given_features(Path(features.file), count=len(images.image_set))
        write_features(stage.path, own)
        _find(stage, settings, images, own, given=given, seed=seed)
    else:
        stage.finish()


def _record(choice: Choice) -> dict[str, Any]:
    """What the record keeps of a choice: all but who is in which cluster, which the tables have."""
    return {"chosen": choice.chosen, "candidates": choice.candidates}
