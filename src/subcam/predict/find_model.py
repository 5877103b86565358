"""The folder of the segmentation network that a path means."""

from pathlib import Path

from subcam.checks.arguments import takes_arrays
from subcam.errors import CheckpointError
from subcam.networks.networks_of_run import CONFIG_FILE, WEIGHTS_FILE, segmentation_of_run
from subcam.runtime.run_folder import RECORD


@takes_arrays()
def find_model(path: Path) -> Path:
    """The folder of the saved segmentation network that `path` means: itself, or one of a run.

    Of a run's networks it is the last that learned from pseudo masks; one that learned from ground
    truth only where there is no other.

    Raises:
        CheckpointError: there is neither a saved network nor a run that has one.
    """
    if path.name in (CONFIG_FILE, WEIGHTS_FILE):
        path = path.parent
    if (path / CONFIG_FILE).is_file():
        return path
    if not (path / RECORD).is_file():
        raise CheckpointError(
            f"{path}: expected the folder of a saved network ({CONFIG_FILE} and {WEIGHTS_FILE}) or of a run (run.json),"
            " got neither; check the path"
        )
    return segmentation_of_run(path)
