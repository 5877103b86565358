"""The stage between two rounds: features, clusters, and a table of who is in which sub-category."""

from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from subcam.clustering.choose_k import Choice, discover_adaptive_subcategories
from subcam.clustering.clusters_csv import NamedClusters, read_clusters, write_clusters
from subcam.clustering.feature_files import read_given_features, write_features
from subcam.clustering.features import extract_features
from subcam.clustering.subcategories import discover_subcategories, prepared, subcategories_of, write_subcategories
from subcam.data.check import CheckedImages
from subcam.networks.classifier import ClassificationNetwork
from subcam.runtime import distributed
from subcam.runtime.devices import Device
from subcam.runtime.progress import say, warn
from subcam.runtime.run_folder import Stage
from subcam.stages.settings.discover import DiscoverSettings, GivenFeaturesSettings

VERSION = 1
"""Of what this stage computes; raise it when that changes."""


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
        warn(f"fewer sub-categories than K = {settings.num_subcategories}, for want of images: {short}")
    stage.finish(
        {
            "k": counts,
            "fewer_than_k": short,
            "choices": {name: _record(c) for name, c in zip(image_set.class_names, choices, strict=True) if c},
            "inertia": subcategories.inertia,
            "sizes": subcategories.sizes,
        }
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
