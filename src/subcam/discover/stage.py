"""The stage between two rounds: features, clusters, and a table of who is in which sub-category."""

import csv
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from lightning_fabric import Fabric

from subcam.classify.network import ClassificationNetwork
from subcam.data.records import ImageSet
from subcam.discover.clustering import Normalisation, Subcategories, discover_subcategories
from subcam.discover.features import extract_features
from subcam.errors import SettingsError
from subcam.machine import MachineSettings
from subcam.progress import say
from subcam.run_folder import Stage, atomic_write


@dataclass(frozen=True, kw_only=True)
class DiscoverSettings:
    """Settings of sub-category discovery.

    Attributes:
        num_subcategories: K, the clusters inside each parent class. The paper uses 10.
        normalisation: "none" (the paper) or "l2".
        restarts: K-means runs from different seeds; the one of least inertia counts.
        max_iterations: the limit of one K-means run.
        batch_size: pictures of equal size that pass the network together when features are extracted.
    """

    num_subcategories: int = 10
    normalisation: Normalisation = "none"
    restarts: int = 10
    max_iterations: int = 300
    batch_size: int = 8

    def __post_init__(self) -> None:
        if min(self.num_subcategories, self.restarts, self.max_iterations, self.batch_size) < 1:
            raise SettingsError(
                "expected num_subcategories, restarts, max_iterations and batch_size of 1 or more, got "
                f"{self.num_subcategories}, {self.restarts}, {self.max_iterations} and {self.batch_size}"
            )


@dataclass(frozen=True, kw_only=True)
class DiscoverInputs:
    """model: folder of the network whose features are clustered. sizes: (height, width) of each picture."""

    image_set: ImageSet
    sizes: tuple[tuple[int, int], ...]
    model: Path
    seed: int


def run(
    settings: DiscoverSettings, inputs: DiscoverInputs, *, stage: Stage, fabric: Fabric, machine: MachineSettings
) -> Subcategories:
    """Find the sub-categories of every parent class; writes `clusters.npz` and, for people, `clusters.csv`."""
    arrays = stage.path / "clusters.npz"
    if stage.done:
        return _read(arrays)
    features = extract_features(
        ClassificationNetwork.load(inputs.model),
        inputs.image_set.records,
        inputs.sizes,
        folder=stage.path,
        fabric=fabric,
        batch_size=settings.batch_size,
        workers=machine.workers,
    )
    found = discover_subcategories(
        features,
        inputs.image_set.labels,
        num_subcategories=settings.num_subcategories,
        seed=inputs.seed,
        normalisation=settings.normalisation,
        restarts=settings.restarts,
        max_iterations=settings.max_iterations,
    )
    with atomic_write(arrays) as file:
        np.savez(file, **vars(found))
    _write_table(stage.path / "clusters.csv", inputs.image_set, found)
    short = {
        name: int(k)
        for name, k in zip(inputs.image_set.class_names, found.num_clusters, strict=True)
        if k < settings.num_subcategories
    }
    if short:
        say(f"fewer sub-categories than K = {settings.num_subcategories}, for want of images: {short}")
    stage.finish({"fewer_than_k": short, "inertia": found.inertia, "sizes": found.sizes})
    return found


def _read(path: Path) -> Subcategories:
    with np.load(path, allow_pickle=False) as arrays:
        return Subcategories(**{name: arrays[name] for name in arrays.files})


def _write_table(path: Path, image_set: ImageSet, found: Subcategories) -> None:
    """One row for each image and parent: image, class, cluster."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["image", "class", "subcategory"])
    for record, row in zip(image_set.records, found.assignments, strict=True):
        writer.writerows([record.name, image_set.class_names[c], row[c]] for c in record.labels)
    with atomic_write(path, "w") as file:
        file.write(text.getvalue())
