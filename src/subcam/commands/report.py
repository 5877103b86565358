"""`subcam report RUN`: the page, figures and tables of a finished run."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from subcam.checks.fields import Count, Settings
from subcam.commands.flags import read_flags
from subcam.run_record import record_in


@dataclass(frozen=True, kw_only=True)
class ReportArguments(Settings):
    """A run's page, figures and tables.

    Attributes:
        run: the folder of a finished run.
        out: the folder to write to; by default `report` in the run's folder.
        images: most images in the gallery.
        data: the folder of the run's images, if they have moved.
        record: which run, if the folder has several: a file in it, such as `ablate/NAME.json`. By default `run.json`,
            or in the folder of an ablation the variant that ended last.
    """

    run: Annotated[Path, tyro.conf.Positional]
    out: Path | None = None
    images: Count = 200
    data: str = ""
    record: str = ""


def report(words: list[str]) -> None:
    """`subcam report RUN [--out DIR] [--images N] [--data DIR]`."""
    given = read_flags(ReportArguments, words, prog="subcam report", description=__doc__)
    record = given.record or _latest_record(given.run)
    record_in(given.run, record)  # a wrong path is said before the imports that take seconds

    from subcam.report.page.page import write_report
    from subcam.runtime.progress import say

    page = write_report(given.run, out=given.out, images=given.images, data=given.data, record=record)
    say(f"{page} ({page.stat().st_size / 1e6:.1f} MB); figures and tables beside it")


def _latest_record(folder: Path) -> str:
    """`run.json`; in the folder of an ablation, the record of the variant that ended last."""
    variants = sorted((folder / "ablate").glob("*.json"), key=lambda path: path.stat().st_mtime_ns)
    if variants and not (folder / "run.json").is_file():
        return variants[-1].relative_to(folder).as_posix()
    return "run.json"
