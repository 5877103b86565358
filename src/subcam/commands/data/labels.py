"""`subcam data labels SOURCE`: a CSV of image-level labels from folders or from what another program wrote."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from subcam.checks.fields import Range, Settings
from subcam.commands.data.examples import first_lines
from subcam.errors import SettingsError
from subcam.runtime.progress import say

if TYPE_CHECKING:
    from subcam.data.labels.from_folders_and_tags import LabelledImage
    from subcam.data.labels.label_csv import EditedLabels
    from subcam.data.records import Skipped

DESCRIPTION = """Write a CSV of image-level labels that `subcam run` reads, from what is there already.

folders: a folder for each class; an image in several has all of their names. coco: an annotation file. label-studio:
an export as JSON. tags: NAME.txt beside each image, or one JSON, JSON-lines or CSV file. yolo: folders images and
labels with data.yaml or classes.txt, or that file. cvat: "CVAT for images 1.1". xml: an annotation in VOC's form for
each image. `subcam run` reads all of these by itself; a CSV is for changing what they say.
"""

Kind = Literal["auto", "folders", "coco", "label-studio", "tags", "yolo", "cvat", "xml"]
_SHOWN = 5
_MOST_NAMES = 40


def labels(words: list[str]) -> None:
    """`subcam data labels SOURCE [--kind KIND] [--images DIR] [--out FILE] [...]`."""
    import tyro

    from subcam.commands.flags import read_flags
    from subcam.data.labels.from_folders_and_tags import Same

    @dataclass(frozen=True, kw_only=True)
    class Arguments(Settings):
        """Where the labels are, and what becomes of them.

        Attributes:
            source: a folder of images, or a file.
            kind: what the source is; "auto" looks.
            images: the folder of images that a file is about; else the file's own folder.
            out: the CSV; else labels.csv in the folder of images.
            overwrite: whether a CSV that is there may be replaced.
            rename: OLD=NEW; several with one NEW are merged.
            drop: names to leave out. An image that has no other stays, as an example of no class.
            only: where given, the only names to keep.
            min_count: names in fewer images are left out.
            keep_unlabelled: whether to keep images without a name that is left.
            same: of the kind folders: which images in several folders are one: of equal bytes, of equal file names, or
                none.
            label_keys: of the kind label-studio, JSON-MIN: the keys under which labels stand, where it is not clear.
            least_score: of the kind tags: from which score (0..1) on a tag is in the image; else only 0 and 1 are read.
            crowd_labels: of the kind coco: whether a class counts that is in an image only as a group ("iscrowd").
        """

        source: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="DIR|FILE")]
        kind: Kind = "auto"
        images: Path | None = None
        out: Path | None = None
        overwrite: bool = False
        rename: Annotated[tuple[str, ...], tyro.conf.arg(metavar="OLD=NEW...")] = ()
        drop: tuple[str, ...] = ()
        only: tuple[str, ...] = ()
        min_count: Annotated[int, Range(0, 1_000_000_000)] = 1
        keep_unlabelled: bool = True
        same: Same = "content"
        label_keys: tuple[str, ...] = ()
        least_score: Annotated[float, Range(0.0, 1.0)] | None = None
        crowd_labels: bool = True

    given = read_flags(Arguments, words, prog="subcam data labels", description=DESCRIPTION)

    from subcam.data.labels.label_csv import edit_labels, write_label_table
    from subcam.data.labels.read import read_labels
    from subcam.data.labels.source_kind import kind_of

    root = given.images or (given.source if given.source.is_dir() else given.source.parent)
    out = given.out or root / "labels.csv"
    kind = kind_of(given.source) if given.kind == "auto" else given.kind
    source_labels = read_labels(
        given.source,
        kind,
        root=root,
        same=given.same,
        label_keys=given.label_keys,
        least_score=given.least_score,
        crowd_labels=given.crowd_labels,
    )
    edited = edit_labels(
        source_labels.images,
        rename=_pairs(given.rename),
        drop=given.drop,
        only=given.only,
        min_count=given.min_count,
    )
    kept = [image for image in edited.images if image.names or given.keep_unlabelled]
    written, unwritable = write_label_table(out, kept, root=root, overwrite=given.overwrite)
    say(f"{out}: {len(written):,} images, {len(edited.counts)} names, read as {kind}: {source_labels.understood}")
    say(f"  for example {_examples(written)}")
    skipped = (*source_labels.skipped, *edited.unknown, *unwritable)
    for line in _summary_lines(edited, dropped=len(edited.images) - len(kept), skipped=skipped):
        say(line)
    hint = "" if out.name == "labels.csv" else f" --dataset.labels {out.name}"
    say(f"see what is wrong with it: subcam data check {out.parent}{hint}")


def _examples(images: "Sequence[LabelledImage]") -> str:
    """Three images with their names, far from each other in the list."""
    places = sorted({0, len(images) // 2, len(images) - 1})
    shown = (f"{images[place].image}: {', '.join(images[place].names[:8]) or 'nothing'}" for place in places)
    return "; ".join(shown)


def _pairs(words: Sequence[str]) -> dict[str, str]:
    pairs = {}
    for word in words:
        old, _, new = (part.strip() for part in word.rpartition("="))
        if not old or not new:
            raise SettingsError(f"expected --rename OLD=NEW, got {word!r}")
        pairs[old] = new
    return pairs


def _summary_lines(edited: "EditedLabels", *, dropped: int, skipped: "Sequence[Skipped]") -> list[str]:
    """What is in the CSV, and what is not, in lines."""
    lines = [_listed({name: str(count) for name, count in edited.counts.items()})]
    if edited.unlabelled > dropped:
        lines.append(f"{edited.unlabelled - dropped:,} images without a name: examples of none of the classes")
    if dropped:
        lines.append(f"left out {dropped:,} images without a name")
    if edited.left_out:
        lines.append(f"left out {len(edited.left_out):,} names:")
        lines.append(_listed({name: f"{count}, {reason}" for name, (count, reason) in edited.left_out.items()}))
    if skipped:
        lines.append(f"left out {len(skipped):,} entries that cannot be used:")
        lines += first_lines([skip.reason for skip in skipped], most=_SHOWN)
    return lines


def _listed(names: dict[str, str]) -> str:
    shown = [f"{name} ({about})" for name, about in list(names.items())[:_MOST_NAMES]]
    return "  " + ", ".join(shown + ([f"and {len(names) - _MOST_NAMES:,} more"] if len(names) > _MOST_NAMES else []))
