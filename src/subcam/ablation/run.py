"""The loop of an ablation: a run for each variant in one folder, stages shared, and their scores after each.

In: variants. Out: the records of their runs, `ablate.json`, `ablate.csv` and `ablate.md`.
"""

import gc
import shlex
import time
import traceback
from collections.abc import Sequence
from pathlib import Path

import torch

from subcam import pipeline
from subcam.ablation.grid import OnFailure
from subcam.ablation.variants import (
    Failed,
    Finished,
    Variant,
    label_of,
    record_name,
    scores_of,
    summarise,
    summary_csv,
    summary_tables,
)
from subcam.data.dataset import Dataset, open_dataset
from subcam.errors import RunFolderError, SubcamError
from subcam.report.gather.ablation import ABLATION
from subcam.report.tables.formats import markdown_table, terminal_table
from subcam.report.tables.tables import BEST_NOTE
from subcam.results import read_run
from subcam.runtime import distributed
from subcam.runtime.files import atomic_write, is_disk_full, write_json
from subcam.runtime.progress import about, close, duration, say, show, warn
from subcam.runtime.run_folder import RunFolder, fingerprint

FOLDER = "ablate"
"""Where in the run folder the records of the variants lie."""

READING_NOTE = (
    "Mean ± standard deviation over n seeds (n - 1 in its denominator). Whoever picks a row because its score is the"
    " highest has picked it by looking at the masks: such a score needs a star too."
)


def run_variants(
    variants: Sequence[Variant], out: Path, *, recipe: str = "", on_failure: OnFailure = "continue"
) -> list[Failed]:
    """Run what is left of the variants, write `ablate.json`, `.csv` and `.md` after each, and print the tables.

    Returns the variants that failed.

    Raises:
        BadInputError, SettingsError: images that cannot be used; before anything runs.
        RunFolderError: the folder is in use or full.
        Exception: whatever a variant raised, where `on_failure` is "stop".
    """
    finished: list[Finished] = []
    failed: list[Failed] = []
    # This lock is against a second ablation; each run locks the folder itself against other runs.
    with RunFolder(path=out / FOLDER).lock():
        prepared = prepare(variants, out)
        left = sum(not path.is_file() for _, _, path in prepared)
        say(f"{len(variants)} variants, {len(variants) - left} of them done before")
        started, computed = time.monotonic(), 0
        for place, (variant, dataset, path) in enumerate(prepared, start=1):
            title = f"variant {place} of {len(variants)}: {variant.label}"
            if path.is_file():
                say(f"{title}: done before ({path})")
                finished.append(_read(path, variant))
                continue
            say(f"{title}{_time_left(time.monotonic() - started, computed, left - computed)}")
            try:
                record = path.relative_to(out).as_posix()
                pipeline.run(variant.settings, out, dataset=dataset, recipe=recipe, record=record)
                finished.append(_read(path, variant))
            except Exception as error:
                # What would end every other variant too ends the ablation.
                # Of several processes the others may be elsewhere in the failed variant.
                if (
                    on_failure == "stop"
                    or distributed.world_size() > 1
                    or isinstance(error, RunFolderError)
                    or is_disk_full(error)
                ):
                    say(f"stopped at {variant.label}; the same command resumes")
                    raise
                trace = "" if isinstance(error, SubcamError) else traceback.format_exc()
                text = str(error) if isinstance(error, SubcamError) else f"{type(error).__name__}: {error}"
                failed.append(Failed(grid=variant.grid, seed=variant.seed, error=text, traceback=trace))
                warn(f"failed: {variant.label}: {text}")
            computed += 1
            _write(out, finished, failed)
            _free_memory()
        _write(out, finished, failed)
    _print(finished, failed)
    say(duration(time.monotonic() - started))
    last = finished[-1].name if finished else "NAME"
    close(
        f"tables: {out / 'ablate.md'}",
        f"every score: {out / ABLATION}",
        f"next: subcam report {shlex.quote(str(out))} --record {shlex.quote(f'{FOLDER}/{last}.json')}",
    )
    return failed


def prepare(variants: Sequence[Variant], out: Path) -> list[tuple[Variant, Dataset, Path]]:
    """Each variant with its images, which are read once for all that share them, and where its record lies."""
    opened: dict[str, Dataset] = {}
    prepared = []
    for variant in variants:
        settings = variant.settings.dataset
        key = fingerprint(settings)
        if key not in opened:
            with distributed.first_goes_ahead():
                opened[key] = open_dataset(settings, work_folder=out)
        prepared.append((variant, opened[key], out / FOLDER / f"{record_name(variant, opened[key])}.json"))
    return prepared


def _read(path: Path, variant: Variant) -> Finished:
    run = read_run(path.parent.parent, record=path.relative_to(path.parent.parent).as_posix())
    return Finished(
        name=path.stem,
        settings=run.settings,
        grid=variant.grid,
        seed=variant.seed,
        scores=scores_of(run.result),
        seconds=run.result.seconds,
    )


def _time_left(seconds: float, computed: int, variants_left: int) -> str:
    if not computed:
        return ""
    return f" ({about(seconds / computed * variants_left)} left for {variants_left})"


def _free_memory() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _write(out: Path, finished: Sequence[Finished], failed: Sequence[Failed]) -> None:
    """`ablate.json` with every score as a share; `ablate.csv` and `ablate.md` with the summary in per cent.

    Of several processes the first writes.
    """
    if not distributed.is_first():
        return
    summary = summarise(finished)
    write_json(
        out / ABLATION,
        {"runs": finished, "failed": failed, "summary": summary, "notes": [READING_NOTE, BEST_NOTE]},
    )
    with atomic_write(out / "ablate.csv", "w") as file:
        file.write(summary_csv(summary))
    parts = [*map(markdown_table, summary_tables(summary)), READING_NOTE, "", BEST_NOTE]
    parts += ["", *(f"Failed: {label_of(entry.grid, entry.seed)}: {entry.error}" for entry in failed)] if failed else []
    with atomic_write(out / "ablate.md", "w") as file:
        file.write("\n".join(parts) + "\n")


def _print(finished: Sequence[Finished], failed: Sequence[Failed]) -> None:
    """The tables and notes for the terminal of the first process."""
    if not distributed.is_first():
        return
    for table in summary_tables(summarise(finished)):
        show(terminal_table(table))
    say(f"{READING_NOTE}\n{BEST_NOTE}")
    for entry in failed:
        say(f"failed: {label_of(entry.grid, entry.seed)}: {entry.error}")
