"""What a run writes beside its stages, for people and for later commands, at its beginning and when it has ended."""

import shlex
import sys
from pathlib import Path

from subcam._version import __version__
from subcam.data.dataset import Dataset
from subcam.data.readers.class_names import LEGEND_FILE, legend
from subcam.metrics.masks_csv import MASKS_CSV
from subcam.networks.networks_of_run import CONFIG_FILE as MODEL_CONFIG
from subcam.networks.networks_of_run import WEIGHTS_FILE, preferred
from subcam.refine.scores_and_masks import mask_path
from subcam.refine.variants import GIVEN
from subcam.results import RunResult, write_record
from subcam.run_files.config_file import CONFIG_FILE, write_config
from subcam.run_files.shown import show
from subcam.runtime.run_folder import RECORD
from subcam.settings import RunSettings

MASKS_FOLDER, MODEL_FOLDER, LOG_FILE = "masks", "model", "run.log"


def write_run_files(result: RunResult, dataset: Dataset, *, record: str = RECORD) -> None:
    """Show the final masks and the network, write the configuration, then the record of the run, which names all else.

    Args:
        result: of the run; `result.out` is its folder.
        dataset: its images.
        record: the file in the folder that lists what was run. Of another name than the usual it is that of one run
            among several in the folder: its configuration lies beside it under its name, and nothing is shown.

    Raises:
        RunFolderError: the disk is full or the folder cannot be written.
    """
    path = result.out / record
    if record == RECORD:
        show_masks(result, dataset)
        show_model(result)
    write_configuration(result.settings, path, recipe=result.recipe)
    write_record(result, dataset, path)


def show_masks(result: RunResult, dataset: Dataset) -> None:
    """The folder `masks`: the masks that a network is to learn from, of all images; a legend; `masks.csv`."""
    folder = result.out / MASKS_FOLDER
    if not result.refined:
        show(folder, {})
        return
    last = result.refined[-1]
    names = {record.name for images in dataset.all for record in images.image_set.records}
    files = {f"{name}.png": mask_path(*last.final, name) for name in sorted(names)}
    if last.variant == GIVEN:  # of some images there may be none
        files = {name: path for name, path in files.items() if path.is_file()}
    if last.confidence:
        files[MASKS_CSV] = last.confidence.path / MASKS_CSV
    show(folder, files, {LEGEND_FILE: legend(result.class_names)})


def show_model(result: RunResult) -> None:
    """The folder `model`: the segmentation network that `subcam predict` takes of the run."""
    best = preferred(result.segmented)
    files = {name: best.model.path / name for name in (MODEL_CONFIG, WEIGHTS_FILE)} if best else {}
    show(result.out / MODEL_FOLDER, files)


def write_configuration(settings: RunSettings, record: Path, *, recipe: str) -> None:
    """Write the configuration of the run that `record` is of, or will be when the run has ended.

    Raises:
        RunFolderError: the disk is full or the folder cannot be written.
    """
    write_config(config_path(record), settings, recipe=recipe)


def config_path(record: Path) -> Path:
    """Where the configuration of the run of this record lies."""
    return record.with_name(CONFIG_FILE) if record.name == RECORD else record.with_suffix(".toml")


def called() -> str:
    """How this process was called, as the log of a run has it."""
    command, *words = sys.argv
    return f"subcam {__version__}: {shlex.join([Path(command).name, *words])}"
