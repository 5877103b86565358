"""What a run writes when it has ended, for people and for later commands, beside its stages."""

from pathlib import Path

from subcam.data.dataset import Dataset
from subcam.results import RECORD, RunResult, write_record
from subcam.run_files.config_file import CONFIG_FILE, write_config


def write_run_files(result: RunResult, dataset: Dataset, *, record: str = RECORD) -> None:
    """Write the configuration that does the run again, then the record of the run, which names all else.

    Args:
        result: of the run; `result.out` is its folder.
        dataset: its images.
        record: the file in the folder that lists what was run. Of another name than the usual it is that of one run
            among several in the folder, and its configuration lies beside it under its name.

    Raises:
        RunFolderError: the disk is full or the folder cannot be written.
    """
    path = result.out / record
    write_config(config_path(path), result.settings, recipe=result.recipe)
    write_record(result, dataset, path)


def config_path(record: Path) -> Path:
    """Where the configuration of the run of this record lies."""
    return record.with_name(CONFIG_FILE) if record.name == RECORD else record.with_suffix(".toml")
