"""Reads PASCAL VOC 2012's layout (Section 4.1): image-level labels from the annotations, masks where they are there.

In: the folder that holds JPEGImages, Annotations and ImageSets. Out: an `ImageSet`. No image is opened here;
`subcam.data.check` does that.
"""

import logging
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from subcam.data.files import image_named, is_image, mask_named
from subcam.data.records import ImageSet, OnBadInput, Record, Skipped, mask_values_of, require_name, suggest
from subcam.errors import BadInputError

VOC_CLASSES = (
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "diningtable",
    "dog",
    "horse",
    "motorbike",
    "person",
    "pottedplant",
    "sheep",
    "sofa",
    "train",
    "tvmonitor",
)
"""The 20 classes in the order of their mask values 1..20."""

VOC_MASK_FOLDERS = ("SegmentationClassAug", "SegmentationClass")

logger = logging.getLogger(__name__)


def read_voc(
    root: Path,
    *,
    split: str = "train_aug",
    classes: Sequence[str] | None = None,
    keep_unlabelled: bool = False,
    on_bad_input: OnBadInput = "stop",
) -> ImageSet:
    """Read one split of a PASCAL VOC 2012 folder.

    A class is in an image when an `<object>` of its annotation has that name; objects marked difficult count, as in
    AffinityNet's labels. Masks are `SegmentationClassAug` where that folder exists, else `SegmentationClass`; an image
    without one has `mask=None`.

    Args:
        root: the folder that holds JPEGImages, Annotations and ImageSets.
        split: `ImageSets/Segmentation/{split}.txt`, one image a line: its name, or paths as in
            `/JPEGImages/name.jpg /SegmentationClassAug/name.png`.
        classes: the names to learn, in this order; None for all 20. Other classes' pixels are not scored.
        keep_unlabelled: keep images with none of `classes`, as examples of their absence; else they are left out and
            their number is logged.
        on_bad_input: what to do about an image or annotation that is missing or damaged.

    Raises:
        BadInputError: no such split, an empty one, an unknown class; or a bad image where `on_bad_input` is "stop".
    """
    root = Path(root)
    class_names = _chosen(classes)
    names = _names_in_split(root, split)
    mask_folder = next((root / folder for folder in VOC_MASK_FOLDERS if (root / folder).is_dir()), None)
    records: list[Record] = []
    skipped: list[Skipped] = []
    unlabelled = 0
    for name in names:
        try:
            record = _read_record(root, name, class_names, mask_folder)
        except BadInputError as error:
            if on_bad_input == "stop":
                raise
            skipped.append(Skipped(file=name, reason=str(error)))
            continue
        if record.labels or keep_unlabelled:
            records.append(record)
        else:
            unlabelled += 1
    if unlabelled:
        logger.info("%s: left out %d of %d images with none of the chosen classes", split, unlabelled, len(names))
    if not records:
        raise BadInputError(
            f"{_split_file(root, split)}: expected at least one usable image of {', '.join(class_names)}, got none "
            f"of {len(names)} ({len(skipped)} bad, {unlabelled} without these classes); choose other classes or "
            "another split"
        )
    without_mask = sum(record.mask is None for record in records)
    if mask_folder is not None and without_mask:
        logger.info("%s: %d of %d images have no mask in %s", split, without_mask, len(records), mask_folder.name)
    return ImageSet(
        class_names=class_names,
        records=tuple(records),
        mask_values=mask_values_of(VOC_CLASSES, class_names),
        skipped=tuple(skipped),
    )


def _chosen(classes: Sequence[str] | None) -> tuple[str, ...]:
    if classes is None:
        return VOC_CLASSES
    if not classes:
        raise BadInputError("expected at least one class, got an empty list; give names or leave it out for all 20")
    for name in classes:
        if name not in VOC_CLASSES:
            raise BadInputError(f"unknown class {name!r}: {suggest(name, VOC_CLASSES)}")
    if len(set(classes)) < len(classes):
        raise BadInputError(f"expected each class once, got {', '.join(classes)}; remove the repeated name")
    return tuple(classes)


def _split_file(root: Path, split: str) -> Path:
    return root / "ImageSets" / "Segmentation" / f"{split}.txt"


def _names_in_split(root: Path, split: str) -> list[str]:
    path = _split_file(root, split)
    if not (root / "JPEGImages").is_dir():
        inner = [path.parent for path in sorted(root.glob("*/JPEGImages")) + sorted(root.glob("*/*/JPEGImages"))]
        hint = f"use {inner[0]}" if inner else "give the folder that holds JPEGImages, Annotations and ImageSets"
        raise BadInputError(f"{root}: expected PASCAL VOC 2012's layout, got no JPEGImages folder; {hint}")
    if not path.is_file():
        there = sorted(path.stem for path in path.parent.glob("*.txt"))
        raise BadInputError(f"{path}: no such split; there are: {', '.join(there) or 'none'}")
    names: dict[str, int] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8-sig").splitlines(), start=1):
        if not line.strip():
            continue
        name = _name_in_line(line, f"{path}:{number}")
        if name in names:
            raise BadInputError(f"{path}:{number}: duplicate name {name!r}, first on line {names[name]}; remove one")
        names[name] = number
    if not names:
        raise BadInputError(f"{path}: expected one image a line, got an empty split; write the list again")
    return list(names)


def _name_in_line(line: str, where: str) -> str:
    words = line.split()
    first = PurePosixPath(words[0])
    if len(words) <= 2 and first.parent.name == "JPEGImages" and is_image(first):
        name = first.stem
    elif len(words) > 1 or "/" in words[0] or "\\" in words[0] or words[0] in (".", ".."):
        raise BadInputError(
            f"{where}: expected one name such as 2007_000032, got {line.strip()!r:.300}; correct the line"
        )
    else:
        name = words[0]
    require_name(name, where=where)
    return name


def _read_record(root: Path, name: str, class_names: tuple[str, ...], mask_folder: Path | None) -> Record:
    image = image_named(root / "JPEGImages", name)
    if image is None:
        missing = root / "JPEGImages" / f"{name}.jpg"
        raise BadInputError(f"{missing}: no such file; restore it or take its name out of the split")
    present = _annotated(root / "Annotations" / f"{name}.xml")
    return Record(
        name=name,
        image=image,
        labels=tuple(index for index, class_name in enumerate(class_names) if class_name in present),
        mask=mask_named(mask_folder, name) if mask_folder else None,
    )


def _annotated(path: Path) -> set[str]:
    try:
        tree = ElementTree.parse(path)
    except FileNotFoundError as error:
        raise BadInputError(f"{path}: no such file; the image-level labels are read from it, restore it") from error
    except (ElementTree.ParseError, OSError, ValueError) as error:
        raise BadInputError(f"{path}: expected an XML annotation, got one that cannot be read ({error})") from error
    names = {(element.text or "").strip() for element in tree.iterfind("object/name")}
    for name in sorted(names):
        if name not in VOC_CLASSES:
            raise BadInputError(f"{path}: unknown class {name!r}: {suggest(name, VOC_CLASSES)}")
    return names
