"""`subcam data corrections EXPORT --run RUN`: drafts that people corrected come back, and the command that retrains."""

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from subcam.audit.finding import counted
from subcam.checks.fields import Settings
from subcam.commands.data.examples import first_lines
from subcam.run_record import record_in
from subcam.runtime.progress import say, warn

if TYPE_CHECKING:
    from subcam.results import FinishedRun
    from subcam.run_files.corrections import TakenCorrections

DESCRIPTION = """Take the masks that people corrected in Label Studio or CVAT back into a run.

EXPORT is Label Studio's JSON, CVAT's XML ("CVAT for images 1.1") or its zip, CVAT's "Segmentation mask 1.1", or a
folder of masks. Images are found by their names, whatever an upload made of them. The masks go into RUN/corrections.
The command that is printed trains the segmentation network again: on them in the place of the run's own masks.
"""

_SHOWN = 5


def corrections(words: list[str]) -> None:
    """`subcam data corrections EXPORT --run RUN [--out DIR] [--data DIR]`."""
    import tyro

    from subcam.commands.flags import read_flags

    @dataclass(frozen=True, kw_only=True)
    class Arguments(Settings):
        """Where the export is, and which run its drafts came from.

        Attributes:
            export: what the labelling tool exported.
            run: the run's folder.
            out: the folder of corrected masks; else corrections in the run's folder. Masks in it stay, or are replaced
                by newer ones of the same images.
            data: where the run's images are now, if they have moved.
        """

        export: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="EXPORT")]
        run: Path
        out: Path | None = None
        data: str = ""

    given = read_flags(Arguments, words, prog="subcam data corrections", description=DESCRIPTION)
    record_in(given.run)  # a wrong path is said before the imports that take seconds

    from subcam.data.dataset import union
    from subcam.refine.scores_and_masks import mask_path
    from subcam.results import open_images, read_run
    from subcam.run_files.corrections import take_corrections
    from subcam.stages.settings.given import CORRECTIONS_FOLDER

    run = read_run(given.run)
    images = union(*open_images(run, data=given.data).all)
    out = given.out or given.run / CORRECTIONS_FOLDER
    drafts = {}
    if run.result.refined:
        final = run.result.refined[-1].final
        paths = {record.name: mask_path(*final, record.name) for record in images.image_set.records}
        drafts = {name: path for name, path in paths.items() if path.is_file()}
    taken = take_corrections(given.export, out, images=images, drafts=drafts)
    for line in _summary_lines(taken, out):
        say(line)
    if doubts := _doubts(taken, out):
        warn("\n".join(doubts))
    if taken.names:
        say(f"next: {shlex.join(_next_command(run, given.run, out, data=given.data))}")


def _next_command(run: "FinishedRun", folder: Path, out: Path, *, data: str) -> list[str]:
    """What trains the run's network again."""
    from subcam.run_files.config_file import CONFIG_FILE

    settings = run.result.settings
    words = ["subcam", "run", "--config", str(folder / CONFIG_FILE), "--corrections", str(out), "--out", str(folder)]
    words += ["--data", data] if data else []
    if settings.until != "segment":
        words += ["--until", "segment"]
    if "pseudo" not in settings.segment.train_on:
        words += ["--segment.train-on", "pseudo", *settings.segment.train_on]
    return words


def _summary_lines(taken: "TakenCorrections", out: Path) -> list[str]:
    """What came back and what did not, in lines."""
    classes = ", ".join(f"{name} ({count})" for name, count in taken.counts.items() if count)
    lines = [
        f"{out}: {len(taken.names):,} corrected masks; classes, with the masks that show them: {classes or 'none'}"
    ]
    if taken.waiting:
        lines.append(f"{counted(taken.waiting, 'task')} without an annotation yet: the drafts stay")
    if taken.unchanged:
        lines.append(
            f"left out {len(taken.unchanged):,} masks that equal their drafts, as nothing says that a person saw them"
        )
    if taken.not_drawn:
        kinds = ", ".join(f"{kind} ({count})" for kind, count in taken.not_drawn.items())
        lines.append(f"left out {sum(taken.not_drawn.values()):,} shapes of kinds that are not drawn: {kinds}")
    if taken.skipped:
        lines.append(f"left out {len(taken.skipped):,} tasks, as what their images show is unknown:")
        lines += first_lines([skip.reason for skip in taken.skipped], most=_SHOWN)
    return lines


def _doubts(taken: "TakenCorrections", out: Path) -> list[str]:
    """What a person may not have meant, in lines."""
    if not taken.lacking:
        return []
    lacking = [f"{name}: no {' or '.join(absent)}" for name, absent in taken.lacking.items()]
    return [
        f"{counted(len(lacking), 'corrected mask')} with less than the image's labels say. Where that was not meant, "
        f"draw what is missing and export again, or take the mask out of {out}; "
        "where it was, take the class out of the image's labels:",
        *first_lines(lacking, most=_SHOWN),
    ]
