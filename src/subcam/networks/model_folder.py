"""A network as a folder: `config.json` says what to build, `model.safetensors` holds its weights."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from torch import Tensor, nn

from subcam.checks.fields import shortly
from subcam.errors import CheckpointError, SubcamError
from subcam.networks.networks_of_run import (
    CONFIG_FILE,
    WEIGHTS_FILE,
    affinity_of_run,
    classifier_of_run,
    segmentation_of_run,
)
from subcam.networks.weight_files import load_into, load_state, read_metadata, save_model
from subcam.runtime.documents.plain_values import as_plain
from subcam.runtime.files import read_json, write_json
from subcam.runtime.run_folder import RECORD

BODY = "backbone.body."
"""What stands before the names of a feature extractor's weights in every saved network."""

Network = TypeVar("Network", bound=nn.Module)


@dataclass(frozen=True, kw_only=True)
class ModelFormat:
    """What a saved folder holds.

    name: stands under "format" in both files. version: is raised when older code could not read the folder.
    title: what a person calls it, with its article.
    """

    name: str
    version: int
    title: str


CLASSIFICATION = ModelFormat(name="subcam-classification", version=1, title="a classifier")
AFFINITY = ModelFormat(name="subcam-affinity", version=1, title="an AffinityNet")
SEGMENTATION = ModelFormat(name="subcam-segmentation", version=1, title="a segmentation network")
FORMATS = {known.name: known for known in (CLASSIFICATION, AFFINITY, SEGMENTATION)}


def save_network(folder: Path | str, network: nn.Module, config: Any, kind: ModelFormat) -> None:
    """Write the weights of `network`, then its config (a dataclass) with format and version, each file atomically.

    Raises:
        RunFolderError: the disk is full or the folder cannot be written.
    """
    folder = Path(folder)
    save_model(folder / WEIGHTS_FILE, network.state_dict(), {"format": kind.name})
    write_json(folder / CONFIG_FILE, {"format": kind.name, "version": kind.version, **as_plain(config)})


def load_network(
    folder: Path | str,
    expected: ModelFormat,
    build: Callable[[Mapping[str, Any]], Network],
    *,
    renamed: Mapping[str, str] | None = None,
) -> Network:
    """Read what `save_network` wrote.

    Args:
        folder: where it lies, or that of a run that trained one.
        expected: what it must hold.
        build: makes the network, its weights not yet in place, from the config's values.
        renamed: fields of the config and modules of the network by the names that older versions gave them.

    Raises:
        CheckpointError: a file is missing or does not fit, or the folder holds another kind of network or a newer
            version; names it.
        RunFolderError: a file is no JSON, or a run's record is none.
    """
    folder, now = Path(folder), renamed or {}
    if not (folder / CONFIG_FILE).is_file() and (folder / RECORD).is_file():
        of_run = {SEGMENTATION: segmentation_of_run, CLASSIFICATION: classifier_of_run, AFFINITY: affinity_of_run}
        folder = of_run[expected](folder)
    path, weights = folder / CONFIG_FILE, folder / WEIGHTS_FILE
    if not path.is_file():
        kind = expected.title.partition(" ")[2]
        raise CheckpointError(f"{folder} holds no saved {kind}: {CONFIG_FILE} is missing")
    config = read_json(path)
    if not isinstance(config, dict):
        raise CheckpointError(
            f"{path} is not {expected.title}'s config of this version (no object); copy the folder again"
        )
    _check_format(config, path, weights, expected)
    try:
        network = build({now.get(key, key): value for key, value in config.items() if key not in ("format", "version")})
    except (KeyError, TypeError, ValueError, AttributeError, MemoryError, RuntimeError, SubcamError) as error:
        # The last ones: values that are right alone and ask for too much, or for what this timm cannot build.
        reason = f"{type(error).__name__}: {error}"
        raise CheckpointError(
            f"{path} is not {expected.title}'s config of this version ({reason}); copy the folder again"
        ) from error
    state = {}
    for name, value in load_state(weights).items():
        module, dot, rest = name.partition(".")
        state[f"{now.get(module, module)}{dot}{rest}"] = value
    broken = [name for name, value in state.items() if value.is_floating_point() and not value.isfinite().all()]
    if broken:
        raise CheckpointError(
            f"{weights}: expected finite numbers, got others in {broken[0]}; copy the folder again, or train it again"
        )
    load_into(network, state, source=str(weights))
    return network


@dataclass(frozen=True, kw_only=True)
class SavedBackbone:
    """The feature extractor of a saved network: its settings as plain values, and its weights under their own names."""

    settings: Mapping[str, Any]
    state: dict[str, Tensor]


def read_backbone(folder: Path) -> SavedBackbone:
    """The feature extractor out of any saved network, for another one to start from.

    Raises:
        CheckpointError: the folder holds no saved network, or one whose feature extractor cannot be taken alone.
    """
    path, weights = folder / CONFIG_FILE, folder / WEIGHTS_FILE
    config = read_json(path) if path.is_file() else {}
    settings = config.get("network") if isinstance(config, dict) else None
    if not isinstance(settings, dict) or config.get("format", CLASSIFICATION.name) not in [*FORMATS]:
        raise CheckpointError(f"{folder} holds no network that subcam saved; give a file of weights or such a folder")
    if config.get("caffe_layout"):
        raise CheckpointError(f"{folder} holds a ResNet laid out as DeepLab's published one; start from its own file")
    parts = ((name.partition(BODY)[2], tensor) for name, tensor in load_state(weights).items() if BODY in name)
    return SavedBackbone(settings=settings, state=dict(parts))


def _check_format(config: Mapping[str, Any], path: Path, weights: Path, expected: ModelFormat) -> None:
    # Folders from before there was a "format" in config.json say it in the head of their weights alone.
    head = read_metadata(weights) if weights.is_file() else {}
    name = config.get("format", head.get("format", expected.name))
    if name != expected.name:
        title = FORMATS[name].title if name in [*FORMATS] else shortly(name)
        raise CheckpointError(f"{path.parent} holds {title}; expected {expected.title}, give its folder")
    version = config.get("version", 1)
    if version != expected.version:
        raise CheckpointError(
            f"{path} is of version {shortly(version)}, and this subcam reads version {expected.version}; use the subcam"
            " that wrote it, or a newer one"
        )
