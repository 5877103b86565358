"""The stage that labels positions: which prototype each sure position of each training picture is nearest to."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int16
from lightning_fabric import Fabric

from subcam.classify.network import ClassificationNetwork
from subcam.discover.local import Prototypes, assign
from subcam.discover.prototype_stage import LocalInputs, LocalSettings, positions
from subcam.errors import SettingsError
from subcam.machine import MachineSettings
from subcam.run_folder import Stage, atomic_write, open_arrays

LABELS_FILE = "local-labels.npz"


@dataclass(frozen=True, kw_only=True)
class LocalLabels:
    """One grid a training picture, in the order of the records: a prototype a position, -1 where that is not sure."""

    grids: tuple[Int16[np.ndarray, "_ _"], ...]


def run(
    settings: LocalSettings, inputs: LocalInputs, *, stage: Stage, fabric: Fabric, machine: MachineSettings
) -> LocalLabels:
    """Label the positions of every training picture by a network with a local classifier.

    Raises:
        SettingsError: the network has none.
    """
    path = stage.path / LABELS_FILE
    if stage.done:
        return _read(path)
    network = ClassificationNetwork.load(inputs.model)
    if network.local_classifier is None:
        raise SettingsError(f"the network in {inputs.model} has no prototypes; run the stage of prototypes first")
    k = network.config.num_local
    rows = network.local_classifier.prototypes.detach().numpy()
    prototypes = Prototypes(objects=rows[:, :k], context=rows[:, k:])
    grids: dict[int, np.ndarray] = {}
    for index, features, sure in positions(settings, inputs, network, title=stage.name, fabric=fabric, machine=machine):
        classes = np.array(inputs.image_set.records[index].labels, np.int64)
        grids[index] = assign(features, sure, classes, prototypes)
    found = LocalLabels(grids=tuple(grids[index] for index in range(len(grids))))
    with atomic_write(path) as file:
        np.savez_compressed(
            file,
            labels=np.concatenate([grid.ravel() for grid in found.grids]),
            shapes=np.array([grid.shape for grid in found.grids], np.int32),
        )
    labels = np.concatenate([grid.ravel() for grid in found.grids])
    stage.finish({"labelled_share": float((labels >= 0).mean())})
    return found


def _read(path: Path) -> LocalLabels:
    with open_arrays(path, what="local labels") as arrays:
        shapes, labels = arrays["shapes"], arrays["labels"]
    ends = shapes.prod(1).cumsum()
    return LocalLabels(
        grids=tuple(part.reshape(shape) for part, shape in zip(np.split(labels, ends[:-1]), shapes, strict=True))
    )
