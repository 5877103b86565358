"""Reads COCO's layout: image-level labels from the annotated objects, masks drawn from their outlines when asked for.

In: a folder with `annotations/instances_*.json` and folders of images, or images and one JSON file of that form.
Out: an `ImageSet`. No image is opened here; `subcam.data.check` does that.
"""

import logging
from collections.abc import Sequence
from pathlib import Path

from subcam.data.files import find_file, name_of, relative_path
from subcam.data.readers.coco_file import CocoFile, CocoImage, read_coco_file
from subcam.data.readers.coco_masks import write_coco_masks
from subcam.data.records import (
    MOST_CLASSES,
    ImageSet,
    OnBadInput,
    Record,
    Skipped,
    mask_values_of,
    suggest,
)
from subcam.errors import BadInputError
from subcam.runtime.files import below, file_digest, write_json
from subcam.runtime.progress import bar
from subcam.runtime.run_folder import fingerprint

ANNOTATIONS = "annotations"
_PREFIX, _SUFFIX = "instances_", ".json"
_ROBOFLOW = "_annotations.coco.json"
_COMPLETE = "complete.json"
_MASK_RULES = 1
"""Raised when the same annotations give other masks, so that no older ones are taken."""

logger = logging.getLogger(__name__)


def coco_files(root: Path, *, labels: str = "") -> dict[str | None, Path]:
    """The annotation files of a folder by split; under None a file that has no splits. Empty where there are none.

    labels: a JSON file in `root` that is taken alone; else `annotations/instances_SPLIT.json`, else
        `SPLIT/_annotations.coco.json`, as Roboflow writes.
    """
    if labels.lower().endswith(_SUFFIX):
        return {None: root / labels}
    official = sorted((root / ANNOTATIONS).glob(f"{_PREFIX}*{_SUFFIX}"))
    if official:
        return {path.name[len(_PREFIX) : -len(_SUFFIX)]: path for path in official}
    return {path.parent.name: path for path in sorted(root.glob(f"*/{_ROBOFLOW}"))}


def read_coco(
    root: Path,
    *,
    split: str | None = "train2014",
    labels: str = "",
    classes: Sequence[str] | None = None,
    keep_unlabelled: bool = False,
    crowd_labels: bool = True,
    mask_folder: Path | None = None,
    on_bad_input: OnBadInput = "stop",
) -> ImageSet:
    """Read one split of a folder in COCO's layout.

    A class is in an image if one of its annotations is of that category; boxes count. Images are looked for in
    `root/SPLIT`, `root/images/SPLIT`, the folder of the JSON file, `root/images` and `root`. An image's name is
    SPLIT/its file name without suffix, so that images of two splits never share one.

    Args:
        root: the folder.
        split: one of `coco_files`; None for a JSON file that stands alone.
        labels: that JSON file's path in `root`.
        classes: the names to learn, in this order; None for all categories in the order of their ids. Other classes'
            pixels are not scored.
        keep_unlabelled: keep images with none of `classes`, as examples of their absence; else they are left out and
            their number is logged, as in published numbers on COCO (82,081 of 82,783 images of train2014).
        crowd_labels: whether a class counts that is in an image only as a group ("iscrowd").
        mask_folder: where masks are drawn, once for each annotation file (`coco_masks` says how); None for no masks.
        on_bad_input: what to do about an image or annotation that is missing or damaged.

    Raises:
        BadInputError: no such split, no COCO file, an unknown class, nothing usable; or a bad entry where
            `on_bad_input` is "stop".
        RunFolderError: masks cannot be written.
    """
    root = Path(root)
    path = _annotation_file(root, split, labels)
    masks = _mask_place(mask_folder, path, split) if mask_folder is not None else None
    drawn = masks is None or (masks / _COMPLETE).is_file()
    file = read_coco_file(path, outlines=not drawn)
    known = tuple(file.categories.values())
    chosen = _chosen(path, known, classes)
    if masks is not None and not _can_draw(file):
        masks = None
    strays = [str(problem) for problem in file.strays]
    if strays and on_bad_input == "stop":
        raise file.strays[0]
    bad = {image: str(problem) for image, problem in file.problems.items()}
    if masks is not None and not drawn:
        bad |= _draw(file, masks, split, stop=on_bad_input == "stop")
    records: list[Record] = []
    skipped = [Skipped(file=str(path), reason=reason) for reason in strays]
    bases = _image_folders(root, split, path)
    first: dict[str, str] = {}
    unlabelled = 0
    for image in file.images:
        try:
            if image.id in bad:
                raise BadInputError(bad[image.id])
            record = _read_record(file, image, bases, split, chosen, crowd_labels=crowd_labels, masks=masks)
            if record.labels or keep_unlabelled:
                other = first.setdefault(record.name, image.file_name)
                if other != image.file_name or (records and record.name == records[-1].name):
                    raise BadInputError(f"{path}: {image.file_name!r} and {other!r} are one name; rename one of them")
                records.append(record)
            else:
                unlabelled += 1
        except BadInputError as error:
            if on_bad_input == "stop":
                raise
            skipped.append(Skipped(file=image.file_name, reason=str(error)))
    if unlabelled:
        logger.info("%s: left out %d of %d images with none of the classes", path, unlabelled, len(file.images))
    if not records:
        why = f"; the first: {skipped[0].reason}" if skipped else ""
        raise BadInputError(
            f"{path}: expected at least one usable image, got none of {len(file.images)} ({len(skipped)} bad, "
            f"{unlabelled} without the classes){why}"
        )
    return ImageSet(
        class_names=chosen,
        records=tuple(records),
        mask_values=mask_values_of(known, chosen),
        skipped=tuple(skipped),
    )


def _annotation_file(root: Path, split: str | None, labels: str) -> Path:
    files = coco_files(root, labels=labels)
    if split not in files:
        known = ", ".join(name for name in files if name) or "none"
        raise BadInputError(
            f"{root / ANNOTATIONS / f'{_PREFIX}{split or str()}{_SUFFIX}'}: no such split; there are: {known}; "
            "or name a COCO file in the folder with --dataset.labels FILE.json"
        )
    return files[split]


def _chosen(path: Path, known: tuple[str, ...], classes: Sequence[str] | None) -> tuple[str, ...]:
    chosen = known if classes is None else tuple(classes)
    for name in chosen:
        if name not in known:
            raise BadInputError(f"{path}: unknown category {name!r}: {suggest(name, known)}")
    if not chosen or len(set(chosen)) < len(chosen):
        raise BadInputError(f"{path}: expected each class once, got {', '.join(chosen) or 'none'}; correct the list")
    return chosen


def _can_draw(file: CocoFile) -> bool:
    if len(file.categories) > MOST_CLASSES:
        logger.warning(
            "%s: an 8-bit mask has room for %d categories, not for %d: there are no masks and nothing is scored",
            file.path,
            MOST_CLASSES,
            len(file.categories),
        )
        return False
    if not file.outlined:
        logger.warning("%s: no annotation has an outline: there are no masks and nothing is scored", file.path)
    return file.outlined


def _mask_place(folder: Path, path: Path, split: str | None) -> Path:
    """The folder of a file's masks, named by its bytes: other annotations never share masks."""
    key = fingerprint("coco masks", _MASK_RULES, split, file_digest(path))
    return folder / f"coco-masks-{key[:10]}"


def _draw(file: CocoFile, masks: Path, split: str | None, *, stop: bool) -> dict[int | str, str]:
    """Draw what is missing; returns what was wrong, by image."""
    values = {number: value for value, number in enumerate(file.categories, start=1)}
    good = []
    wrong: dict[int | str, str] = {}
    for image in file.images:
        try:
            name = _name_of(image, split, file.path)
            if image.id not in file.problems:
                good.append((below(masks, name, ".png"), image, file.segments.get(image.id, [])))
        except BadInputError as error:
            wrong[image.id] = str(error)
    with bar(f"drawing masks of {split or file.path.name}", len(good)) as progress:
        for (_, image, _), problem in zip(good, write_coco_masks(good, values=values), strict=True):
            progress.advance()
            if problem is not None:
                wrong[image.id] = f"{file.path}: {problem}"
                if stop:
                    raise BadInputError(wrong[image.id]) from problem
    if not wrong and not file.problems:
        write_json(masks / _COMPLETE, {"masks": len(good), "annotations": str(file.path)})
    return wrong


def _read_record(
    file: CocoFile,
    entry: CocoImage,
    bases: Sequence[Path],
    split: str | None,
    chosen: tuple[str, ...],
    *,
    crowd_labels: bool,
    masks: Path | None,
) -> Record:
    name = _name_of(entry, split, file.path)
    image = find_file(entry.file_name, bases, where=str(file.path))
    numbers = file.present.get(entry.id, set()) | (file.crowds.get(entry.id, set()) if crowd_labels else set())
    present = {file.categories[number] for number in numbers}
    return Record(
        name=name,
        image=image,
        labels=tuple(index for index, class_name in enumerate(chosen) if class_name in present),
        mask=below(masks, name, ".png") if masks is not None else None,
    )


def _name_of(image: CocoImage, split: str | None, where: Path) -> str:
    path = relative_path(image.file_name, root="the folder of images", where=str(where))
    below = name_of(path)
    return below if split is None or path.parts[0] == split else f"{split}/{below}"


def _image_folders(root: Path, split: str | None, path: Path) -> list[Path]:
    """Where images may lie, only what is there, each once."""
    own = [root / split, root / "images" / split] if split else []
    folders = dict.fromkeys([*own, path.parent, root / "images", root])
    return [folder for folder in folders if folder.is_dir()]
