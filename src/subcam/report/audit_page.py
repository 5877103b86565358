"""The page of a data set's audit: one HTML file that loads nothing, with thumbnails of the worst cases.

In: an `Audit`. Out: `index.html` and `audit.json` in a folder.
"""

import shlex
from pathlib import Path
from typing import Any

from subcam.audit.dataset import Audit
from subcam.audit.finding import Example, Finding, counted
from subcam.data.images import read_image, read_indices, turned
from subcam.data.overlay import overlay_mask
from subcam.errors import BadInputError
from subcam.report.figures.thumbnails import thumbnail
from subcam.report.page.template import render
from subcam.runtime.files import atomic_write, write_json
from subcam.runtime.progress import duration
from subcam.runtime.run_folder import RunFolder

PAGE, RECORD = "index.html", "audit.json"
SHOWN = 12
"""Most examples of a finding with thumbnails; the others are listed by name."""

LISTED = 200
MOST_CLASSES = 24
"""With more classes than this, the table of pairs is left out: it would not fit on a screen."""

_SIDE = 220
_WORDS = {"stop": "stops a run", "warning": "worth fixing", "note": "for information"}


def write_audit(audit: Audit, out: Path, *, settings: tuple[str, ...] = ()) -> Path:
    """Write an audit's page and its JSON into a folder; returns the page's path.

    settings: words of the command line that the audit was made with, for the command that the page proposes.

    Raises:
        RunFolderError: the disk is full, the folder cannot be written, or another process writes into it.
    """
    page = audit_html(audit, settings=settings)
    with RunFolder(path=out).lock(leave=False):
        write_json(out / RECORD, audit)
        with atomic_write(out / PAGE, "w") as file:
            file.write(page)
    return out / PAGE


def audit_html(audit: Audit, *, settings: tuple[str, ...] = ()) -> str:
    """The whole page as one text."""
    most = max([row.images for row in audit.classes], default=0) or 1
    return render(
        "audit.html",
        audit=audit,
        title=audit.root.absolute().name,
        what=what(audit),
        verdict=verdict(audit),
        tiles=_tiles(audit),
        findings=[_finding(finding) for finding in audit.findings],
        held_out=[split.name for split in audit.splits[1:]],
        rows=[(row, f"{100 * row.images / most:.1f}") for row in audit.classes],
        pairs=_pairs(audit),
        sizes=_size_rows(audit),
        command=proposed_command(audit, settings),
    )


def what(audit: Audit) -> str:
    """One line on how the folder was read, and the splits."""
    splits = "; ".join(
        f"{counted(split.images, 'training image' if split.learned else 'image')} "
        f"{f'({split.name})' if split.learned else f'of {split.name}'}, {counted(split.masks, 'mask')}"
        for split in audit.splits
    )
    return f"{audit.understood}. {splits}. Every file was read once, in {duration(audit.seconds)}."


def verdict(audit: Audit) -> str:
    """Whether the data set can be used, in a sentence."""
    stops, warnings = len(audit.of("stop")), len(audit.of("warning"))
    if stops:
        more = f", {warnings} more should be" if warnings else ""
        return f"A run would stop: {counted(stops, 'problem')} must be fixed first{more}."
    if warnings:
        return f"A run would work. Worth fixing before spending hours on it: {counted(warnings, 'problem')}."
    return "Nothing here would harm a run."


def proposed_command(audit: Audit, settings: tuple[str, ...] = ()) -> str:
    """The command that trains on this data set."""
    name = audit.root.absolute().name
    words = ["subcam", "run", audit.recipe, "--data", str(audit.root), *settings, "--out", f"runs/{name}"]
    return shlex.join(words)


def _tiles(audit: Audit) -> list[dict[str, str]]:
    def tile(name: str, value: int, note: str) -> dict[str, str]:
        return {"name": name, "value": f"{value:,}", "note": note}

    counts = [row.images for row in audit.classes]
    return [
        tile("Training images", audit.splits[0].images, f"split {audit.splits[0].name}"),
        tile("Classes", len(counts), f"of {min(counts):,} to {max(counts):,} images"),
        tile("Stops a run", len(audit.of("stop")), "must be fixed"),
        tile("Worth fixing", len(audit.of("warning")), "these worsen the result"),
    ]


def _finding(finding: Finding) -> dict[str, Any]:
    shown = [example for example in finding.examples if example.images][:SHOWN]
    rest = [example.text for example in finding.examples if example not in shown]
    return {
        "kind": finding.kind,
        "severity": finding.severity,
        "word": _WORDS[finding.severity],
        "title": finding.title[:1].upper() + finding.title[1:],
        "advice": finding.advice,
        "shown": [{"text": example.text, "images": _images(example)} for example in shown],
        "listed": rest[:LISTED],
        "left": max(0, len(rest) - LISTED),
    }


def _images(example: Example) -> list[str]:
    """Thumbnails of an example's images, then of the first with its mask; none of a file that cannot be read."""
    uris = [_thumbnail(path) for path in example.images]
    if example.mask is not None:
        uris.append(_masked(example.images[0], example.mask, example.mask_turn))
    return [uri for uri in uris if uri]


def _thumbnail(path: Path) -> str:
    try:
        return thumbnail(read_image(path), _SIDE)
    except BadInputError:  # another finding reports it
        return ""


def _masked(image: Path, mask: Path, turn: int) -> str:
    pixels, indices = read_image(image), turned(read_indices(mask), turn)
    return thumbnail(overlay_mask(pixels, indices), _SIDE) if indices.shape == pixels.shape[:2] else ""


def _pairs(audit: Audit) -> list[tuple[str, list[tuple[str, float]]]]:
    """For each class the share of its images that show each other class, as text and as 0..1."""
    names = [row.name for row in audit.classes]
    if not 2 <= len(names) <= MOST_CLASSES:
        return []
    return [
        (
            name,
            [
                ("", 0.0)
                if column == row or not both[row]
                else (f"{100 * both[column] / both[row]:.0f}", both[column] / both[row])
                for column in range(len(names))
            ],
        )
        for row, (name, both) in enumerate(zip(names, audit.together, strict=True))
    ]


def _size_rows(audit: Audit) -> list[tuple[str, str]]:
    sizes = audit.sizes
    if sizes is None:
        return []
    return [
        ("width", "{0:,} to {2:,} pixels, median {1:,}".format(*sizes.width)),
        ("height", "{0:,} to {2:,} pixels, median {1:,}".format(*sizes.height)),
        (
            "file",
            "{0:,.0f} to {2:,.0f} kB, median {1:,.0f}".format(*(size / 1000 for size in sizes.file_size)),
        ),
        ("kind", ", ".join(f"{number:,} {kind}" for kind, number in sizes.kinds.items())),
    ]
