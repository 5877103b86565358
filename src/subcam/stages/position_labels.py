"""The stage that labels positions: which prototype each sure position of each training image is nearest to."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int16
from lightning_fabric import Fabric

from subcam.errors import SettingsError
from subcam.networks.classifier import ClassificationNetwork
from subcam.prototypes.clustering import Prototypes, assign
from subcam.runtime import distributed
from subcam.runtime.devices import MachineSettings
from subcam.runtime.files import atomic_write, open_arrays
from subcam.runtime.run_folder import Stage
from subcam.stages.prototypes import LocalInputs, LocalSettings, positions

LABELS_FILE = "local-labels.npz"


@dataclass(frozen=True, kw_only=True)
class LocalLabels:
    """One grid a training image, in the order of the records: a prototype a position, -1 where that is not sure."""

    grids: tuple[Int16[np.ndarray, "_ _"], ...]


def run(
    settings: LocalSettings, inputs: LocalInputs, *, stage: Stage, fabric: Fabric, machine: MachineSettings
) -> LocalLabels:
    """Label the positions of every training image by a network with a local classifier.

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
    found = _gathered(grids)
    if not distributed.is_first():
        stage.finish()
        return _read(path)
    labels = np.concatenate([grid.ravel() for grid in found.grids])
    with atomic_write(path) as file:
        np.savez_compressed(file, labels=labels, shapes=np.array([grid.shape for grid in found.grids], np.int32))
    stage.finish({"labelled_share": float((labels >= 0).mean())})
    return found


def _gathered(grids: dict[int, np.ndarray]) -> LocalLabels:
    """The grids of all processes in the order of the records, in the first process."""
    rows = [(index, *grid.shape) for index, grid in grids.items()]
    shapes = np.concatenate(
        distributed.gathered(np.array(rows, np.int32).reshape(-1, 3)) or [np.zeros((0, 3), np.int32)]
    )
    flat = [grid.ravel() for grid in grids.values()]
    labels = np.concatenate(
        distributed.gathered(np.concatenate([*flat, np.zeros(0, np.int16)])) or [np.zeros(0, np.int16)]
    )
    parts = _split(labels, shapes[:, 1:])
    return LocalLabels(grids=tuple(parts[place] for place in np.argsort(shapes[:, 0])))


def _read(path: Path) -> LocalLabels:
    with open_arrays(path, what="local labels") as arrays:
        shapes, labels = arrays["shapes"], arrays["labels"]
    return LocalLabels(grids=_split(labels, shapes))


def _split(labels: np.ndarray, shapes: np.ndarray) -> tuple[np.ndarray, ...]:
    ends = shapes.prod(1).cumsum()
    return tuple(labels[end - shape.prod() : end].reshape(shape) for end, shape in zip(ends, shapes, strict=True))
