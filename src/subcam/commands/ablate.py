"""`subcam ablate RECIPE`: a run for each point of a grid of settings and each seed, in one folder, stages shared."""

import csv
import gc
import io
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from subcam.errors import RunFolderError, SubcamError
from subcam.run_folder import RunFolder, Stage, atomic_write, fingerprint, is_disk_full, read_json, write_json

if TYPE_CHECKING:
    from subcam.ablate import Failed, Finished, Variant
    from subcam.data.dataset import Dataset, DatasetSettings

FOLDER = "ablate"
"""Where in the run folder the records of the variants lie."""

OnFailure = Literal["continue", "stop"]

READING_NOTE = (
    "Mean ± standard deviation over n seeds (n - 1 in its denominator). Whoever picks a row because its score is the"
    " highest has picked it by looking at the masks: such a score needs a star too."
)


def ablate(words: list[str]) -> None:
    """`subcam ablate RECIPE --grid NAME=VALUE,... [--seeds N ...] [settings]`."""
    from subcam.recipes import RECIPES

    if not words or words[0] not in RECIPES:
        got = words[0] if words else "nothing"
        raise SubcamError(f"expected a recipe after 'ablate', got {got}; there are: {', '.join(RECIPES)}")
    import tyro

    from subcam.ablate import expand
    from subcam.grid import read_grid
    from subcam.settings import RunSettings

    @dataclass(frozen=True, kw_only=True)
    class Arguments:
        """An ablation.

        out: the folder of all variants. The same command again goes on from what is in it.
        grid: NAME=VALUE,VALUE,... for each setting that takes several values in turn, e.g.
            discover.num_subcategories=1,5,10; entries of one value are separated by spaces.
        seeds: every point of the grid is run with each of them; the recipe's own if none is given.
        on_failure: what to do when a variant fails: go on with the next, or stop.
        dry_run: only say which variants there are and what of them is there. Pictures are read, nothing is trained.
        """

        settings: Annotated[RunSettings, tyro.conf.arg(name="")]
        out: Path
        grid: tuple[str, ...] = ()
        seeds: tuple[int, ...] = ()
        on_failure: OnFailure = "continue"
        dry_run: bool = False

    recipe = words[0]
    given = tyro.cli(
        Arguments,
        args=words[1:],
        prog=f"subcam ablate {recipe}",
        description="Runs over a grid of settings and seeds.",
        default=Arguments(settings=RECIPES[recipe](), out=Path("runs") / f"ablate-{recipe}"),
    )
    grid = read_grid(given.grid, given.settings)
    variants = expand(given.settings, grid, seeds=given.seeds or (given.settings.seed,))
    if given.dry_run:
        _say_what_is_there(variants, given.out)
        return
    failed = run_variants(variants, given.out, recipe=recipe, on_failure=given.on_failure)
    if failed:
        raise SubcamError(
            f"{len(failed)} of {len(variants)} variants failed, as said above and in {given.out / 'ablate.json'}; "
            "the same command tries them again and leaves the others as they are"
        )


def run_variants(
    variants: "Sequence[Variant]", out: Path, *, recipe: str = "", on_failure: OnFailure = "continue"
) -> "list[Failed]":
    """Run what is left of the variants, write `ablate.json`, `.csv` and `.md` after each, and print the tables.

    Returns the variants that failed.

    Raises:
        RunFolderError: the folder is in use or full.
        Exception: whatever a variant raised, where `on_failure` is "stop".
    """
    from subcam import pipeline
    from subcam.ablate import Failed, Finished, record_name, scores_of
    from subcam.progress import say

    finished: list[Finished] = []
    failed: list[Failed] = []
    opened: dict[str, Dataset] = {}
    started, computed = time.monotonic(), 0
    # This lock is against a second ablation; each run locks the folder itself against other runs.
    with RunFolder(path=out / FOLDER).lock():
        for place, variant in enumerate(variants):
            left = _time_left(time.monotonic() - started, computed, len(variants) - place)
            say(f"variant {place + 1} of {len(variants)}: {variant.label}{left}")
            try:
                dataset = _open(variant.settings.dataset, out, opened)
                name = record_name(variant, dataset)
                path = out / FOLDER / f"{name}.json"
                if path.is_file():
                    say(f"done before ({path})")
                else:
                    computed += 1
                    pipeline.run(
                        variant.settings, out, dataset=dataset, recipe=recipe, record=path.relative_to(out).as_posix()
                    )
                record = read_json(path)
                finished.append(
                    Finished(
                        name=name,
                        settings=record["settings"],
                        grid=variant.grid,
                        seed=variant.seed,
                        scores=scores_of(record),
                        seconds=record["seconds_this_time"],
                    )
                )
            except Exception as error:
                # What would end every other variant too ends the ablation.
                if on_failure == "stop" or isinstance(error, RunFolderError) or is_disk_full(error):
                    say(f"stopped at {variant.label}; the same command goes on from here")
                    raise
                trace = "" if isinstance(error, SubcamError) else traceback.format_exc()
                text = str(error) if isinstance(error, SubcamError) else f"{type(error).__name__}: {error}"
                failed.append(Failed(grid=variant.grid, seed=variant.seed, error=text, traceback=trace))
                say(f"failed: {variant.label}: {text}")
            _write(out, finished, failed)
            _free_memory()
    _print(finished, failed)
    say(f"{time.monotonic() - started:.0f} s; tables in {out / 'ablate.md'}, every score in {out / 'ablate.json'}")
    return failed


def _open(settings: "DatasetSettings", out: Path, opened: "dict[str, Dataset]") -> "Dataset":
    """The pictures of these settings, read once for all variants."""
    from subcam.data.dataset import open_dataset

    key = fingerprint(settings)
    if key not in opened:
        opened[key] = open_dataset(settings, work_folder=out)
    return opened[key]


def _time_left(seconds: float, computed: int, variants_left: int) -> str:
    if not computed:
        return ""
    return f" (about {seconds / computed * variants_left / 60:.0f} min left for {variants_left})"


def _free_memory() -> None:
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _write(out: Path, finished: "Sequence[Finished]", failed: "Sequence[Failed]") -> None:
    """`ablate.json` with every score as a share; `ablate.csv` and `ablate.md` with the summary in per cent."""
    from subcam.ablate import label_of, summarise, summary_tables
    from subcam.grid import shown
    from subcam.report.tables import BEST_NOTE, markdown_table

    summary = summarise(finished)
    write_json(
        out / "ablate.json",
        {"runs": finished, "failed": failed, "summary": summary, "notes": [READING_NOTE, BEST_NOTE]},
    )
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*(summary[0].grid if summary else ()), "split", "what", "mIoU", "std", "n"])
    for entry in summary:
        std = "" if entry.std is None else f"{100 * entry.std:.2f}"
        values = map(shown, entry.grid.values())
        writer.writerow([*values, entry.split, entry.what, f"{100 * entry.mean:.2f}", std, entry.n])
    with atomic_write(out / "ablate.csv", "w") as file:
        file.write(text.getvalue())
    parts = [*map(markdown_table, summary_tables(summary)), READING_NOTE, "", BEST_NOTE]
    parts += ["", *(f"Failed: {label_of(entry.grid, entry.seed)}: {entry.error}" for entry in failed)] if failed else []
    with atomic_write(out / "ablate.md", "w") as file:
        file.write("\n".join(parts) + "\n")


def _print(finished: "Sequence[Finished]", failed: "Sequence[Failed]") -> None:
    """The tables and notes for the terminal."""
    from rich import box
    from rich.table import Table

    from subcam.ablate import label_of, summarise, summary_tables
    from subcam.progress import console, say
    from subcam.report.tables import BEST_NOTE

    for table in summary_tables(summarise(finished)):
        terminal = Table(title=table.title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
        for column in table.columns:
            terminal.add_column(column, justify="right", overflow="fold")
        for row in table.rows:
            terminal.add_row(*row)
        console.print(terminal)
    say(f"{READING_NOTE}\n{BEST_NOTE}")
    for entry in failed:
        say(f"failed: {label_of(entry.grid, entry.seed)}: {entry.error}")


@dataclass(frozen=True, kw_only=True)
class _Looking(RunFolder):
    """A run folder that is only looked at: it collects the stages that are there and ends at the first that is not."""

    there: list[str] = field(default_factory=list)

    def stage(self, name: str, *, settings: Any = None, inputs: tuple[str, ...] = ()) -> Stage:
        found = super().stage(name, settings=settings, inputs=inputs)
        if not found.done:
            raise _NotThereError(found.path.name)
        self.there.append(found.path.name)
        return found


class _NotThereError(Exception):
    """Names the folder of the first stage that is not there."""


def _say_what_is_there(variants: "Sequence[Variant]", out: Path) -> None:
    """The table of a dry run: of each variant, whether it is done, else how many stages are, and the next one."""
    from rich import box
    from rich.table import Table

    from subcam.ablate import record_name
    from subcam.progress import console, say

    opened: dict[str, Dataset] = {}
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for column in ("variant", "state", "next stage"):
        table.add_column(column, overflow="fold")
    done = 0
    for variant in variants:
        try:
            dataset = _open(variant.settings.dataset, out, opened)
            if (out / FOLDER / f"{record_name(variant, dataset)}.json").is_file():
                done += 1
                table.add_row(variant.label, "done", "")
                continue
            there, following = _stages_there(variant, out, dataset)
            table.add_row(variant.label, f"{there} stages there", following)
        except SubcamError as error:
            table.add_row(variant.label, "cannot run", str(error))
    console.print(table)
    say(f"{len(variants)} variants, {done} of them done. A stage that several name as their next is computed once.")


def _stages_there(variant: "Variant", out: Path, dataset: "Dataset") -> tuple[int, str]:
    """How many stages of a variant are there, and the folder of the first that is not."""
    from subcam.machine import build_fabric
    from subcam.pipeline import algorithm_1
    from subcam.progress import console
    from subcam.steps import Stages

    settings, folder = variant.settings, _Looking(path=out)
    fabric = build_fabric(settings.machine, precision=settings.machine.precision)
    stages = Stages(settings=settings, folder=folder, dataset=dataset, fabric=fabric, inference=fabric)
    console.quiet = True  # that a stage was done before is what is asked here, not news
    try:
        rounds = algorithm_1(stages, rounds=settings.rounds)
        if settings.control:
            algorithm_1(stages, rounds=settings.rounds, control_of=rounds[0])
        for found in rounds:
            if settings.refine.refines(found.round_index, last=settings.rounds):
                stages.refine(found)
    except _NotThereError as missing:
        return len(folder.there), str(missing)
    finally:
        console.quiet = False
    return len(folder.there), "the record only"
