"""`subcam data check DIR`: what is wrong with a data set, on the terminal, as JSON and as a page."""

import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from subcam.checks.fields import Settings, Threads
from subcam.commands.data.examples import first_lines
from subcam.errors import SettingsError

if TYPE_CHECKING:
    from rich.table import Table

    from subcam.audit.dataset import Audit
    from subcam.audit.finding import Finding
    from subcam.data.settings import DatasetSettings

DESCRIPTION = """Find what is wrong with a data set before hours are spent on it.

Every image and mask that a run would use is read once. The exit status is 2 if a run with these settings would stop.
Flags are those of `subcam run`, with or without `dataset.` before them.
"""

_PREFIX = "--dataset."
_SHOWN = 3
_LONGEST = 400


def check(words: list[str]) -> None:
    """`subcam data check DIR [--out DIR] [settings of the data set]`."""
    import tyro

    from subcam.commands.flags import read_flags
    from subcam.data.settings import DatasetSettings

    @dataclass(frozen=True, kw_only=True)
    class Arguments(Settings):
        """What to check.

        Attributes:
            folder: of the images, what `subcam run` calls --data.
            out: a folder for a page with images of the worst cases and for audit.json; else only the terminal.
                Masks that are drawn from a COCO file are kept there too.
            workers: threads that decode images; 0 takes one a core, at most 8.
        """

        folder: Annotated[tyro.conf.Positional[Path | None], tyro.conf.arg(metavar="DIR")] = None
        out: Path | None = None
        workers: Threads = 0
        dataset: Annotated[DatasetSettings, tyro.conf.arg(name="")] = field(default_factory=DatasetSettings)

    plain = [f"--{word.removeprefix(_PREFIX)}" if word.startswith(_PREFIX) else word for word in words]
    given = read_flags(Arguments, plain, prog="subcam data check", description=DESCRIPTION)
    if given.folder and given.dataset.root:
        raise SettingsError(f"expected one folder, got {given.folder} and --data {given.dataset.root}; leave one out")
    settings = replace(given.dataset, root=str(given.folder or "") or given.dataset.root)
    with tempfile.TemporaryDirectory(prefix="subcam-") as temporary:
        _check(settings, given.out, work_folder=given.out or Path(temporary), workers=given.workers or None)


def _check(settings: "DatasetSettings", out: Path | None, *, work_folder: Path, workers: int | None) -> None:
    from subcam.audit.dataset import audit_dataset, require_usable
    from subcam.report.audit_page import proposed_command, verdict, what, write_audit
    from subcam.runtime.progress import say, show

    audit = audit_dataset(settings, work_folder=work_folder, workers=workers)
    chosen = _as_words(settings)
    say(what(audit))
    show(class_table(audit))
    for finding in audit.findings:
        for line in _lines(finding):
            say(line)
    say(f"\n{verdict(audit)}")
    if out is not None:
        say(f"all of it to look at: {write_audit(audit, out, settings=chosen)}")
    else:
        say("with --out DIR: a page with images of the worst cases, and every file's name in audit.json")
    require_usable(audit)
    say(f"\nrecipe {audit.recipe}: {audit.reason}\n  {proposed_command(audit, chosen)}")
    say(
        "for the paper's recipes alone, which cluster the images of each class: "
        f"--discover.num-subcategories {audit.subcategories} would suit the class of median size"
    )


def class_table(audit: "Audit") -> "Table":
    """Images of each class as a table for the terminal."""
    from subcam.runtime.progress import text_table

    held_out = [split.name for split in audit.splits[1:]]
    rows = []
    for row in audit.classes:
        area = "-" if row.area is None else f"{row.area:.1%}"
        rows.append((row.name, f"{row.images:,}", f"{row.share:.1%}", f"{row.alone:,}", *map(str, row.scored), area))
    return text_table(("class", "training images", "share", "alone", *held_out, "of a mask"), rows)


def _lines(finding: "Finding") -> list[str]:
    marks = {"stop": "STOPS A RUN", "warning": "warning", "note": "note"}
    lines = [f"\n{marks[finding.severity]}: {finding.title}"]
    texts = [example.text for example in finding.examples]
    texts = [text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..." for text in texts]
    return [*lines, *first_lines(texts, most=_SHOWN), f"  {finding.advice}"]


def _as_words(settings: "DatasetSettings") -> tuple[str, ...]:
    """The settings that differ from the defaults, as `subcam run` takes them."""
    from subcam.data.settings import DatasetSettings

    words: list[str] = []
    for name, default in vars(DatasetSettings()).items():
        value = getattr(settings, name)
        if name in ("root", "toy") or value == default:
            continue
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--dataset.{'' if value else 'no-'}{flag}")
        else:
            words += [f"--dataset.{flag}", *(value if isinstance(value, tuple) else (str(value),))]
    return tuple(words)
