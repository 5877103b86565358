"""Makes a CSV of image-level labels from labels of any source: names merged and left out, then written to be read back.

In: `LabelledImage`s. Out: a file that `subcam.data.readers.folder` reads, and what was left out, by name and by
image.
"""

import csv
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from subcam.data.labels.from_folders_and_tags import LabelledImage
from subcam.data.readers.class_names import is_background, is_missing
from subcam.data.records import Skipped, suggest
from subcam.errors import BadInputError
from subcam.runtime.files import atomic_write

_SEPARATORS = ",;|"


@dataclass(frozen=True, kw_only=True)
class EditedLabels:
    """Labels after names were merged and left out.

    images: the same images; one may have lost all of its names.
    counts: images of each name that is left, the most frequent first.
    left_out: images of each name that is not, the most frequent first, with the reason.
    unknown: images of which a label is missing; they are none of `images`.
    """

    images: tuple[LabelledImage, ...]
    counts: dict[str, int]
    left_out: dict[str, tuple[int, str]]
    unknown: tuple[Skipped, ...] = ()

    @property
    def unlabelled(self) -> int:
        """Images without any name."""
        return sum(not image.names for image in self.images)


def edit_labels(
    images: Sequence[LabelledImage],
    *,
    rename: Mapping[str, str] | None = None,
    drop: Sequence[str] = (),
    only: Sequence[str] = (),
    min_count: int = 1,
) -> EditedLabels:
    """Rename or merge names, then leave names out.

    Background is no name. A word for nothing written ("nan", "none") is none either: what such an image shows is
    unknown, and it is left out, unless `rename`, `drop` or `only` says what the word means.

    Args:
        images: what a source has.
        rename: old name to new; several with one new name are merged.
        drop: names to leave out, after renaming.
        only: where given, the names to keep, after renaming.
        min_count: names in fewer images are left out, after all else.

    Raises:
        BadInputError: a name in `rename`, `drop` or `only` that no image has, or nothing is left.
    """
    rename = rename or {}
    before = {name for image in images for name in image.names}
    _require_known(rename, before)
    said = {*rename, *rename.values(), *drop, *only}
    missing = {name for name in before if is_missing(name) and name not in said}
    unknown = tuple(_without_label(image, name) for image in images for name in image.names if name in missing)
    renamed = [
        replace(image, names=tuple(name for name in names if name in said or not is_background(name)))
        for image in images
        if missing.isdisjoint(image.names)
        for names in [dict.fromkeys(rename.get(name, name) for name in image.names)]
    ]
    counts = Counter(name for image in renamed for name in image.names)
    _require_known([*drop, *only], counts)
    dropped, kept_alone = frozenset(drop), frozenset(only)
    left_out: dict[str, tuple[int, str]] = {}
    for name, count in counts.most_common():
        if name in dropped:
            left_out[name] = (count, "dropped")
        elif only and name not in kept_alone:
            left_out[name] = (count, "not among those to keep")
        elif count < min_count:
            left_out[name] = (count, f"in fewer than {min_count} images")
    kept = {name: count for name, count in counts.most_common() if name not in left_out}
    if not kept:
        raise BadInputError(
            f"expected names to be left, got none of {len(counts)}: keep more of them, or lower the least count"
        )
    return EditedLabels(
        images=tuple(replace(image, names=tuple(name for name in image.names if name in kept)) for image in renamed),
        counts=kept,
        left_out=left_out,
        unknown=unknown,
    )


def _without_label(image: LabelledImage, name: str) -> Skipped:
    reason = (
        f"{image.image}: {name!r} stands for a missing label, so what the image shows is unknown; --drop {name} makes "
        f"it an example of none of the classes, --rename '{name}=NAME' gives it a class"
    )
    return Skipped(file=image.image, reason=reason)


def write_label_table(
    path: Path, images: Sequence[LabelledImage], *, root: Path, overwrite: bool = False
) -> tuple[tuple[LabelledImage, ...], tuple[Skipped, ...]]:
    """Write `image,labels`, and `split` if there are any, atomically; returns the rows that were written, and the rest.

    Left out are images whose path a CSV cannot hold, and the second of two that differ in their suffix alone.

    Args:
        path: the CSV; in `root` or above it, as its paths are relative to its own folder.
        images: by their path below `root`.
        root: the folder of the images.
        overwrite: whether a file that is there may be replaced.

    Raises:
        BadInputError: the file is there, lies elsewhere, or a name cannot be told from others in a CSV.
        RunFolderError: the disk is full or the folder cannot be written.
    """
    if path.exists() and not overwrite:
        raise BadInputError(f"{path} is there already; give --overwrite to replace it, or another --out")
    folder = path.absolute().parent
    if not root.absolute().is_relative_to(folder):
        raise BadInputError(f"{path}: expected a place in {root} or above it, as its paths begin there; move it")
    _require_distinct(path, images)
    below = root.absolute().relative_to(folder)
    rows: dict[str, LabelledImage] = {}
    skipped = []
    for labelled in images:
        image = (below / labelled.image).as_posix()
        try:
            name = _require_writable(image)
            if name in rows:
                raise BadInputError(f"{image}: {rows[name].image} has the same name but for its suffix; rename one")
            rows[name] = replace(labelled, image=image)
        except BadInputError as error:
            skipped.append(Skipped(file=labelled.image, reason=str(error)))
    if not rows:
        raise BadInputError(f"{path}: expected images to write, got none; the first: {skipped[0].reason}")
    splits = any(labelled.split for labelled in rows.values())
    with atomic_write(path) as file:
        text = io.TextIOWrapper(file, encoding="utf-8", newline="")
        writer = csv.writer(text)
        writer.writerow(["image", "labels", *(["split"] if splits else [])])
        for labelled in rows.values():
            writer.writerow([labelled.image, ";".join(labelled.names), *([labelled.split] if splits else [])])
        text.detach()
    return tuple(rows.values()), tuple(skipped)


def _require_known(names: Sequence[str] | Mapping[str, str], known: Mapping[str, int] | set[str]) -> None:
    for name in names:
        if name not in known:
            raise BadInputError(f"no image has the name {name!r}: {suggest(name, known)}")


def _require_distinct(path: Path, images: Sequence[LabelledImage]) -> None:
    """Names that the CSV's reader would cut, or take for two spellings of one."""
    spelling: dict[str, str] = {}
    for name in dict.fromkeys(name for image in images for name in image.names):
        if any(sign in name for sign in _SEPARATORS) or name != name.strip() or not name.isprintable():
            raise BadInputError(
                f"{path}: expected names without {' '.join(_SEPARATORS)}, got {name!r}; give --rename "
                f"'{name}={' '.join(name.translate(dict.fromkeys(map(ord, _SEPARATORS), ' ')).split())}'"
            )
        other = spelling.setdefault(name.casefold(), name)
        if other != name:
            raise BadInputError(f"{path}: {name!r} and {other!r} differ only in case; give --rename '{name}={other}'")


def _require_writable(image: str) -> str:
    """The name that the reader will give an image; raises if the CSV would not hold its path as it is."""
    if image != image.strip() or "\\" in image or not image.isprintable():
        raise BadInputError(f"{image!r}: a CSV cannot hold this path as it is; rename the file")
    path = PurePosixPath(image)
    return (path.relative_to("images") if path.is_relative_to("images") else path).with_suffix("").as_posix()
