"""Which folder a run's networks lie in, and what of a file of weights counts in a key; nothing is loaded."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, TypeVar, runtime_checkable

from subcam.errors import CheckpointError
from subcam.run_record import read_record
from subcam.runtime.files import RECORD_FILE, file_digest
from subcam.runtime.run_folder import RECORD, read_stage_record

CONFIG_FILE = "config.json"


WEIGHTS_FILE = "model.safetensors"


@runtime_checkable
class Learned(Protocol):
    """A segmentation network of a run."""

    @property
    def trained_on(self) -> str:
        """What it learned from: "pseudo" or "truth"."""


Candidate = TypeVar("Candidate", bound=Learned)


def preferred(networks: Sequence[Candidate]) -> Candidate | None:
    """Of a run's segmentation networks the one that is meant where none is named; None of none.

    It is the last that learned from pseudo or given masks; one that learned from ground truth only where there is no
    other.
    """
    from_labels = [network for network in networks if network.trained_on != "truth"]
    return next(reversed(from_labels or networks), None)


def segmentation_of_run(folder: Path) -> Path:
    """The folder of a run's segmentation network, the `preferred` one.

    Raises:
        CheckpointError: the run has none.
        RunFolderError: its record is none; see `read_record`.
    """
    network = preferred(read_record(folder / RECORD).segment)
    if network is None:
        raise CheckpointError(
            f"{folder} is a run without a segmentation network; train one by running it again with segmentation, or"
            " give the folder of another"
        )
    return folder / network.model


def classifier_of_run(folder: Path) -> Path:
    """The folder of the classifier of a run's last round.

    Raises:
        CheckpointError: the run has none.
        RunFolderError: its record is none; see `read_record`.
    """
    models = [entry.model for entry in read_record(folder / RECORD).rounds if entry.model and not entry.control]
    if not models:
        raise CheckpointError(f"{folder} is a run without a classifier; give another, or the folder of a saved one")
    return folder / models[-1]


def affinity_of_run(folder: Path) -> Path:
    """The folder of the AffinityNet by whose affinities the maps of a run's last refined round walked.

    Raises:
        CheckpointError: the run has none.
        RunFolderError: its record is none; see `read_record`.
    """
    refined = read_record(folder / RECORD).refined
    path: Path | None = folder / refined[-1].masks if refined else None
    for before in ("walked", "affinity"):
        file = path / RECORD_FILE if path else None
        key = read_stage_record(file).get("inputs", {}).get(before) if file and file.is_file() else None
        found = (folder / "stages").glob(f"*-{key[:10]}") if isinstance(key, str) and key.isalnum() else iter(())
        path = next(found, None)
    if path is None:
        raise CheckpointError(f"{folder} is a run without an AffinityNet; give another, or the folder of a saved one")
    return path


def weights_digest(path: Path) -> str:
    """Digest of a file of weights, or of that in the folder of a saved network, or of a run's last classifier."""
    if path.is_dir() and not (path / WEIGHTS_FILE).is_file() and (path / RECORD).is_file():
        path = classifier_of_run(path)
    file = path / WEIGHTS_FILE if path.is_dir() else path
    return file_digest(file) if file.is_file() else path.as_posix()
