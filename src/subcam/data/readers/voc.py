"""Reads PASCAL VOC's layout (Section 4.1): image-level labels from the annotations, masks where they are there.

In: the folder that holds JPEGImages, Annotations and ImageSets, VOC 2012's own or another set in this layout. Out: an
`ImageSet`. No image is opened here; `subcam.data.check` does that.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from xml.etree.ElementTree import Element

import numpy as np

from subcam.checks.arguments import takes_arrays
from subcam.data.files import files_by_name, image_named, images_below, is_image, mask_named, name_of, relative_path
from subcam.data.images import check_mask_values, read_indices
from subcam.data.readers.class_names import (
    ClassList,
    chosen_classes,
    is_background,
    is_ignored,
    is_missing,
    read_class_list,
)
from subcam.data.readers.colour_masks import indexed_mask, read_colours
from subcam.data.readers.csv_file import read_text
from subcam.data.records import ImageSet, Record, Skipped, mask_values_of, require_name, require_room, suggest
from subcam.data.settings import OnBadInput
from subcam.errors import BadInputError
from subcam.runtime.documents.regular_file import is_there, open_file
from subcam.runtime.documents.xml_file import read_xml

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

VOC_MASK_FOLDERS = ("SegmentationClassAug", "SegmentationClassPNG", "SegmentationClass")
VOC_CLASS_FILES = ("labelmap.txt", "labels.txt", "class_names.txt", "classes.txt")
"""Where a set in VOC's layout may list classes of its own; the first that is there counts."""

_IMAGES, _ANNOTATIONS, _LISTS = "JPEGImages", "Annotations", "ImageSets"
_LIST_FOLDERS = ("Segmentation", "Main")
_LOOKED_AT = 200
"""Annotations that are looked at to tell whose classes a folder of masks has."""

logger = logging.getLogger(__name__)


@takes_arrays()
def read_voc(
    root: Path,
    *,
    split: str | None = "train_aug",
    classes: Sequence[str] | None = None,
    keep_unlabelled: bool = False,
    mask_folder: Path | None = None,
    on_bad_input: OnBadInput = "stop",
) -> ImageSet:
    """Read one split of a folder in PASCAL VOC's layout.

    A class is in an image when an `<object>` of its annotation has that name; objects marked difficult count, as in
    AffinityNet's labels. Where there is no folder Annotations or nothing in it, as in CVAT's, Datumaro's and labelme's
    sets of masks, it is in an image when its mask has a pixel of it. Masks are `SegmentationClassAug` where that folder
    exists, else `SegmentationClassPNG`, else `SegmentationClass`; an image without one has `mask=None`.

    The classes are those of `labelmap.txt`, `labels.txt`, `class_names.txt` or `classes.txt` in the folder; else VOC's
    twenty where the annotations name no other; else `classes`; else those that occur, sorted, which is logged.

    Args:
        root: the folder that holds JPEGImages, Annotations and ImageSets.
        split: `ImageSets/Segmentation/{split}.txt` or `ImageSets/Main/{split}.txt`, one image a line: its name, or
            paths as in `/JPEGImages/name.jpg /SegmentationClassAug/name.png`. None for every image with an annotation.
        classes: the names to learn, in this order; None for all. Other classes' pixels are not scored.
        keep_unlabelled: keep images with none of `classes`, as examples of their absence; else they are left out and
            their number is logged.
        mask_folder: where masks in the colours of a label map are made into indexed PNGs.
        on_bad_input: what to do about an image or annotation that is missing or damaged.

    Raises:
        BadInputError: no such split, an empty one, an unknown class; or a bad image where `on_bad_input` is "stop".
    """
    root = Path(root)
    names = _names_in_split(root, split)
    own_masks = next((root / folder for folder in VOC_MASK_FOLDERS if (root / folder).is_dir()), None)
    annotated = _labels_of(root, names, own_masks)
    known = _known_classes(root, annotated, classes, has_masks=own_masks is not None)
    chosen = chosen_classes(classes, known.names, where=str(root))
    records: list[Record] = []
    skipped: list[Skipped] = []
    unlabelled = 0
    for name in names:
        try:
            record = _read_record(root, name, annotated[name], known, chosen, own_masks)
            if record.mask is not None and known.colours:
                record = replace(record, mask=_in_values(record.mask, known, mask_folder, name))
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
            f"{_split_file(root, split) or root}: expected at least one usable image of {', '.join(chosen)}, got none "
            f"of {len(names)} ({len(skipped)} bad, {unlabelled} without these classes); choose other classes or "
            "another split"
        )
    without_mask = sum(record.mask is None for record in records)
    if own_masks is not None and without_mask:
        logger.info("%s: %d of %d images have no mask in %s", split, without_mask, len(records), own_masks.name)
    if without_mask < len(records):
        require_room(known.names, where=str(root))
    return ImageSet(
        class_names=chosen,
        records=tuple(records),
        mask_values=mask_values_of(known.names, chosen, stored_as=known.values),
        skipped=tuple(skipped),
    )


def _labels_of(root: Path, names: Sequence[str], own_masks: Path | None) -> dict[str, "frozenset[str] | BadInputError"]:
    """The classes of each image by its annotation; by its mask where there are none."""
    if own_masks is None or any((root / _ANNOTATIONS).rglob("*.xml")):
        return {name: _annotated(root / _ANNOTATIONS / f"{name}.xml") for name in names}
    known = _listed(root)
    if known is None:
        raise BadInputError(
            f"{root}: expected the folder {_ANNOTATIONS}, or a list of the classes in the masks "
            f"({', '.join(VOC_CLASS_FILES)}), got neither; add one of them"
        )
    logger.warning("%s: no folder %s: an image has the classes of its mask", root, _ANNOTATIONS)
    return {name: _in_mask(own_masks, name, known) for name in names}


def _in_mask(folder: Path, name: str, known: ClassList) -> "frozenset[str] | BadInputError":
    """The classes that a mask has pixels of, or why it says nothing."""
    path = mask_named(folder, name)
    if path is None:
        return BadInputError(
            f"{folder / f'{name}.png'}: no such file; an image's classes are read from its mask, restore it"
        )
    try:
        values = np.unique(read_colours(path, dict(known.colours)) if known.colours else read_indices(path)).tolist()
        check_mask_values(path, values, mask_values_of(known.names, known.names, stored_as=known.values))
    except BadInputError as error:
        return error
    return frozenset(class_name for class_name, value in zip(known.names, known.values, strict=True) if value in values)


def voc_splits(root: Path) -> tuple[str, ...]:
    """The splits that a folder lists, sorted; `ImageSets/Main` counts where `ImageSets/Segmentation` has none.

    Lists of one class, which say of each image whether it has it, are none.
    """
    for folder in _LIST_FOLDERS:
        paths = sorted((root / _LISTS / folder).glob("*.txt"))
        splits = tuple(path.stem for path in paths if "_" not in path.stem or not _is_of_one_class(_first_line(path)))
        if splits:
            return splits
    return ()


def _first_line(path: Path) -> str:
    with open_file(path) as file:
        first = next((line for line in file if line.strip()), b"")
    return first.decode("utf-8-sig", errors="replace")


def _is_of_one_class(line: str) -> bool:
    """Whether a line is of a list such as `cat_train.txt`: a name, and whether the image has the class."""
    words = line.split()
    return len(words) == 2 and words[1] in ("-1", "0", "1")


def voc_classes(root: Path) -> ClassList | None:
    """The classes of the masks in a folder of VOC's layout: those it lists, else VOC's; None where it has others.

    Raises:
        BadInputError: its list of classes cannot be understood.
    """
    listed = _listed(root)
    if listed is not None:
        return listed
    paths = sorted((root / _ANNOTATIONS).glob("*.xml"))[:_LOOKED_AT]
    occurring = _occurring(_annotated(path) for path in paths)
    return ClassList.numbered(VOC_CLASSES) if occurring <= set(VOC_CLASSES) else None


def _listed(root: Path) -> ClassList | None:
    path = next((root / name for name in VOC_CLASS_FILES if is_there(root / name)), None)
    return None if path is None else read_class_list(path)


def _known_classes(
    root: Path,
    annotated: Mapping[str, "frozenset[str] | BadInputError"],
    classes: Sequence[str] | None,
    *,
    has_masks: bool,
) -> ClassList:
    """All classes that may occur, with their values in masks."""
    listed = _listed(root)
    if listed is not None:
        return listed
    of_voc = ClassList.numbered(VOC_CLASSES)
    occurring = _occurring(annotated.values())
    if occurring | set(classes or ()) <= set(VOC_CLASSES):
        return of_voc
    everywhere = _occurring(_annotated(path) for path in sorted((root / _ANNOTATIONS).rglob("*.xml"))) | occurring
    if everywhere <= set(VOC_CLASSES):
        return of_voc
    if classes and not set(classes) <= set(VOC_CLASSES):
        return ClassList.numbered(classes)
    if classes or (has_masks and everywhere & set(VOC_CLASSES)):
        return of_voc  # whose numbers the masks have cannot be told: the name that is not VOC's may be a mistake
    known = ClassList.numbered(sorted(everywhere))
    logger.warning(
        "%s: no list of classes (%s): they are those that occur, sorted, with these values in masks: %s",
        root,
        ", ".join(VOC_CLASS_FILES),
        known,
    )
    return known


def _split_file(root: Path, split: str | None) -> Path | None:
    if split is None:
        return None
    paths = [root / _LISTS / folder / f"{split}.txt" for folder in _LIST_FOLDERS]
    return next(filter(is_there, paths), paths[0])


def _names_in_split(root: Path, split: str | None) -> tuple[str, ...]:
    if not (root / _IMAGES).is_dir():
        inner = [path.parent for path in sorted(root.glob(f"*/{_IMAGES}")) + sorted(root.glob(f"*/*/{_IMAGES}"))]
        hint = f"use {inner[0]}" if inner else "give the folder that holds JPEGImages, Annotations and ImageSets"
        raise BadInputError(f"{root}: expected PASCAL VOC's layout, got no {_IMAGES} folder; {hint}")
    path = _split_file(root, split)
    if path is None:
        annotations = root / _ANNOTATIONS
        names = tuple(name_of(found.relative_to(annotations)) for found in sorted(annotations.rglob("*.xml")))
        if not annotations.is_dir():
            names = tuple(files_by_name(root / _IMAGES, images_below(root / _IMAGES).images))
        if not names:
            raise BadInputError(f"{annotations}: expected an XML file for each image, got none; export them again")
        return names
    if not is_there(path):
        there = ", ".join(voc_splits(root))
        raise BadInputError(f"{path}: no such split; there are: {there or 'none'}")
    return read_names(path)


def read_names(path: Path) -> tuple[str, ...]:
    """Names of images, one a line, as in VOC's splits; a line may also hold paths, as in AffinityNet's lists.

    A name is a path below the folder of images, and may hold spaces; the suffix of an image does not belong to it.

    Raises:
        BadInputError: the file is missing or empty, a name leads out of the folder, or occurs twice; names the line.
    """
    names: dict[str, int] = {}
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        name = _name_in_line(line, where)
        if name in names:
            raise BadInputError(f"{where}: duplicate name {name!r}, first on line {names[name]}; remove one")
        names[name] = number
    if not names:
        raise BadInputError(f"{path}: expected one image a line, got an empty list; write it again")
    return tuple(names)


def _name_in_line(line: str, where: str) -> str:
    words = line.split()
    if _is_of_one_class(line):
        raise BadInputError(
            f"{where}: expected one name such as 2007_000032, got {line.strip()!r:.300}, as in the list of one class; "
            "give the list of all images"
        )
    # A name may hold spaces; only after the path of an image does a space begin the path of its mask.
    written = words[0] if is_image(PurePosixPath(words[0])) else line.strip()
    parts = written.replace("\\", "/").split("/")
    for folder in (_IMAGES, *VOC_MASK_FOLDERS):
        if folder in parts[:-1]:
            parts = parts[parts.index(folder) + 1 :]
    path = relative_path("/".join(parts), root="the folder of images", where=where)
    name = name_of(path) if is_image(path) else path.as_posix()
    require_name(name, where=where)
    return name


def _read_record(
    root: Path,
    name: str,
    present: "frozenset[str] | BadInputError",
    known: ClassList,
    chosen: tuple[str, ...],
    mask_folder: Path | None,
) -> Record:
    image = image_named(root / _IMAGES, name)
    if image is None:
        missing = root / _IMAGES / f"{name}.jpg"
        raise BadInputError(f"{missing}: no such file; restore it or take its name out of the split")
    if isinstance(present, BadInputError):
        raise present
    for class_name in sorted(present - set(known.names)):
        if is_missing(class_name):
            raise BadInputError(
                f"{root / _ANNOTATIONS / f'{name}.xml'}: expected the name of each object, got {class_name!r}, which "
                "stands for a missing one; name it, or take the image out of the split"
            )
        raise BadInputError(
            f"{root / _ANNOTATIONS / f'{name}.xml'}: unknown class {class_name!r}: {suggest(class_name, known.names)} "
            "If you have classes of your own, list them in labels.txt, one a line in the order of their values in "
            "masks, or give --dataset.classes"
        )
    return Record(
        name=name,
        image=image,
        labels=tuple(index for index, class_name in enumerate(chosen) if class_name in present),
        mask=mask_named(mask_folder, name) if mask_folder else None,
    )


def _in_values(mask: Path, known: ClassList, folder: Path | None, name: str) -> Path:
    """A mask in the colours of the label map as an indexed PNG."""
    if folder is None:
        raise BadInputError(
            f"{mask}: expected the colours of PASCAL VOC's colour map, got a label map with others; give a mask_folder "
            "in which its masks are made into indexed PNGs"
        )
    return indexed_mask(mask, dict(known.colours), folder=folder / "voc-masks", name=name)


def _occurring(annotated: "Iterable[frozenset[str] | BadInputError]") -> set[str]:
    named = set().union(*(names for names in annotated if not isinstance(names, BadInputError)))
    return {name for name in named if not is_missing(name)}


def _is_called(element: Element, name: str) -> bool:
    """Whether an element has this name, in whatever namespace."""
    return element.tag.rpartition("}")[2].casefold() == name


def _annotated(path: Path) -> "frozenset[str] | BadInputError":
    """The classes that an annotation names, or why it says nothing."""
    try:
        tree = read_xml(path)
    except FileNotFoundError:
        return BadInputError(f"{path}: no such file; the image-level labels are read from it, restore it")
    except OSError as error:
        return BadInputError(f"{path}: cannot be read ({error.strerror}); check its rights")
    except BadInputError as error:
        return error
    if not _is_called(tree, "annotation"):
        return BadInputError(f"{path}: expected an <annotation> in PASCAL VOC's format, got <{tree.tag}>; export it so")
    objects = [element for element in tree if _is_called(element, "object")]
    named = ([child for child in element if _is_called(child, "name")] for element in objects)
    names = {"".join(parts[0].itertext()).strip() if parts else "" for parts in named}
    return frozenset(name for name in names if not is_background(name) and not is_ignored(name))
