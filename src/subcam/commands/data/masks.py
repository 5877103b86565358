"""`subcam data masks EXPORT.json --images DIR --out DIR`: masks that people drew in Label Studio, as ground truth."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from subcam.checks.fields import Settings
from subcam.commands.data.examples import first_lines
from subcam.runtime.progress import say

if TYPE_CHECKING:
    from subcam.data.labels.masks_from_label_studio import WrittenMasks

DESCRIPTION = """Write masks that people drew in Label Studio as indexed PNGs, from its export as JSON.

Brushes come back to the pixel; polygons, rectangles and ellipses are drawn. Later regions lie over earlier ones, 0 is
background, and classes.txt names the classes 1, 2, ... Tasks that nobody annotated are left out.
"""

_SHOWN = 5


def masks(words: list[str]) -> None:
    """`subcam data masks EXPORT.json --out DIR [--images DIR] [--classes NAME...]`."""
    import tyro

    from subcam.commands.flags import read_flags

    @dataclass(frozen=True, kw_only=True)
    class Arguments(Settings):
        """Where the tasks are, and where their masks go.

        Attributes:
            source: Label Studio's export as JSON, with all annotations.
            images: the folder of the images; else the file's own.
            out: the folder of the masks, which must be new or empty.
            classes: the classes of the values 1, 2, ...; else those that occur, sorted.
        """

        source: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="FILE")]
        images: Path | None = None
        out: Path
        classes: tuple[str, ...] = ()

    given = read_flags(Arguments, words, prog="subcam data masks", description=DESCRIPTION)

    from subcam.data.labels.masks_from_label_studio import masks_from_label_studio

    written = masks_from_label_studio(
        given.source, root=given.images or given.source.parent, out=given.out, class_names=given.classes or None
    )
    for line in _summary_lines(written, given.out):
        say(line)


def _summary_lines(written: "WrittenMasks", out: Path) -> list[str]:
    """What was written and what was left out, in lines."""
    names = ", ".join(f"{value} {name} ({count})" for value, (name, count) in enumerate(written.counts.items(), 1))
    lines = [f"{out}: {written.masks:,} masks; classes, with the masks that show them: {names}"]
    if written.several:
        lines.append(f"{written.several:,} images have several annotations: the newest was taken")
    if written.turned:
        lines.append(f"{written.turned:,} masks were drawn on stored pixels that EXIF turns: they are turned with them")
    if written.unclear:
        lines.append(f"{written.unclear:,} regions without one label: their pixels are 255, not scored")
    if written.not_drawn:
        kinds = ", ".join(f"{kind} ({count})" for kind, count in written.not_drawn.items())
        lines.append(f"left out {sum(written.not_drawn.values()):,} regions of kinds that are not drawn: {kinds}")
    if written.skipped:
        lines.append(f"left out {len(written.skipped):,} tasks, as what their images show is unknown:")
        lines += first_lines([skip.reason for skip in written.skipped], most=_SHOWN)
    return [*lines, f"score masks against them: subcam evaluate --predictions DIR --truth {out}"]
