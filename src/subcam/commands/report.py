"""`subcam report RUN`: the page, figures and tables of a finished run."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from subcam.errors import SettingsError


@dataclass(frozen=True, kw_only=True)
class ReportArguments:
    """A run's page, figures and tables.

    run: the folder of a finished run.
    out: where to write; `report` in the run's folder if not given.
    images: most pictures in the gallery.
    data: where the run's pictures are now, if they have moved.
    """

    run: Annotated[Path, tyro.conf.Positional]
    out: Path | None = None
    images: int = 200
    data: str = ""

    def __post_init__(self) -> None:
        if self.images < 1:
            raise SettingsError(f"expected --images of 1 or more, got {self.images}")


def report(words: list[str]) -> None:
    """`subcam report RUN [--out DIR] [--images N] [--data DIR]`."""
    given = tyro.cli(ReportArguments, args=words, prog="subcam report", description=__doc__)
    from subcam.progress import say
    from subcam.report.page import write_report

    page = write_report(given.run, out=given.out, images=given.images, data=given.data)
    say(f"{page} ({page.stat().st_size / 1e6:.1f} MB); figures and tables beside it")
