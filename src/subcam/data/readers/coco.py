"""Reads COCO's layout: image-level labels from the annotated objects, masks drawn from their outlines when asked for.

In: a folder with `annotations/instances_*.json` and folders of images, or images and one JSON file of that form.
Out: an `ImageSet`. No image is opened here; `subcam.data.check` does that.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from subcam.checks.arguments import takes_arrays
from subcam.data.files import ImagesByEnd, find_listed, name_of
from subcam.data.readers.class_names import chosen_classes
from subcam.data.readers.coco_file import CocoFile, CocoImage, Segment, read_coco_file
from subcam.data.readers.coco_masks import write_coco_masks
from subcam.data.records import MOST_CLASSES, ImageSet, Record, Skipped, mask_values_of, require_name
from subcam.data.settings import OnBadInput
from subcam.errors import BadInputError
from subcam.runtime.files import below, file_digest, write_json
from subcam.runtime.progress import bar
from subcam.runtime.run_folder import fingerprint

ANNOTATIONS = "annotations"
_PREFIX, _SUFFIX = "instances_", ".json"
_ROBOFLOW = "_annotations.coco.json"
_COMPLETE = "complete.json"
_MASK_RULES = 2
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


@takes_arrays()
def read_coco(
    root: Path,
    *,
    split: str | None = "train2014",
    labels: str = "",
    classes: Sequence[str] | None = None,
    keep_unlabelled: bool = False,
    crowd_labels: bool = True,
    crowd_masks: bool = False,
    mask_folder: Path | None = None,
    on_bad_input: OnBadInput = "stop",
) -> ImageSet:
    """Read one split of a folder in COCO's layout.

    A class is in an image if one of its annotations is of that category; boxes count. A category that only heads
    others is no class, nor is one called background. Images are looked for in `root/SPLIT`, `root/images/SPLIT`, the
    folder of the JSON file, `root/images` and `root`, else by the end of their name anywhere in `root`. An image's name
    is SPLIT/its file name without suffix, so that images of two splits never share one.

    Args:
        root: the folder.
        split: one of `coco_files`; None for a JSON file that stands alone.
        labels: that JSON file's path in `root`.
        classes: the names to learn, in this order; None for all categories in the order of their ids. Other classes'
            pixels are not scored.
        keep_unlabelled: keep images with none of `classes`, as examples of their absence; else they are left out and
            their number is logged, as in published numbers on COCO (82,081 of 82,783 images of train2014). An image
            without any annotation is one of them, for COCO's annotations are of all objects of its categories.
        crowd_labels: whether a class counts that is in an image only as a group ("iscrowd").
        crowd_masks: draw groups as objects of their class; else their pixels are not scored.
        mask_folder: where masks are drawn, once for each annotation file (`coco_masks` says how); None for no masks.
        on_bad_input: what to do about an image or annotation that is missing or damaged.

    Raises:
        BadInputError: no such split, no COCO file, an unknown class, nothing usable; or a bad entry where
            `on_bad_input` is "stop".
        RunFolderError: masks cannot be written.
    """
    root = Path(root)
    path = _annotation_file(root, split, labels)
    masks = _mask_place(mask_folder, path, split, crowd_masks) if mask_folder is not None else None
    drawn = masks is None or (masks / _COMPLETE).is_file()
    file = read_coco_file(path, outlines=not drawn)
    known = tuple(file.categories.values())
    chosen = chosen_classes(classes, known, where=str(path))
    if masks is not None and not _can_draw(file, crowd_masks=crowd_masks):
        masks = None
    numbers = {class_name: index for index, class_name in enumerate(chosen)}
    strays = [str(problem) for problem in file.strays]
    if strays and on_bad_input == "stop":
        raise file.strays[0]
    places = place_images(file, _image_folders(root, split, path), root=root, split=split)
    problems = {number: place for number, place in places.items() if isinstance(place, BadInputError)}
    if problems and on_bad_input == "stop":
        raise next(iter(problems.values()))
    if masks is not None and not drawn:
        problems |= _draw(file, places, masks, crowd_masks=crowd_masks, stop=on_bad_input == "stop")
    records: list[Record] = []
    skipped = [Skipped(file=str(path), reason=reason) for reason in strays]
    unlabelled = bare = 0
    for image in file.images:
        place = problems.get(image.id, places[image.id])
        if isinstance(place, BadInputError):
            skipped.append(Skipped(file=image.file_name, reason=str(place)))
            continue
        present = file.names_in(image.id, crowd_labels=crowd_labels)
        record = Record(
            name=place.name,
            image=place.image,
            labels=tuple(sorted(numbers[class_name] for class_name in present if class_name in numbers)),
            mask=below(masks, place.name, ".png") if masks is not None else None,
        )
        if record.labels or keep_unlabelled:
            records.append(record)
        else:
            unlabelled += 1
            bare += image.id not in file.present and image.id not in file.crowds
    if unlabelled:
        logger.info("%s: left out %d of %d images with none of the classes", path, unlabelled, len(file.images))
    if bare:
        logger.warning(
            "%s: left out %d of %d images that have no annotation: COCO's rule is that they show none of the"
            " categories, and published numbers leave them out. A CSV may list them without labels (data labels)",
            path,
            bare,
            len(file.images),
        )
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


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where the image of an entry lies, and the name of its record."""

    image: Path
    name: str


def place_images(
    file: CocoFile, folders: Sequence[Path], *, root: Path, split: str | None = None
) -> dict[int | str, Place | BadInputError]:
    """Where the image of each entry lies, by its id; or why the entry cannot be used.

    Two entries of one image are both of no use: neither has all of its annotations. Of two images that differ in
    their suffix alone the second is refused. Where the image of an annotation cannot be told, what an image without
    any shows is unknown.

    Args:
        file: what names the images, and what is wrong with its entries.
        folders: where to look for them, in this order.
        root: below which they are looked for by the end of their name.
        split: of the images, which their names begin with.
    """
    by_end = ImagesByEnd(root)
    found: dict[int | str, Place | BadInputError] = {}
    of_image: dict[Path, list[CocoImage]] = {}
    of_name: dict[str, CocoImage] = {}
    by_itself: set[int | str] = set()
    for entry in file.images:
        if entry.id in file.problems:
            found[entry.id] = file.problems[entry.id]
            continue
        try:
            if file.unplaced and entry.id not in file.present and entry.id not in file.crowds:
                raise BadInputError(
                    f"{file.path}: {entry.file_name}: no annotation is known to be of it, and {file.unplaced} "
                    "annotations do not say of which image they are: what it shows is unknown; correct them"
                )
            image, path = find_listed(entry.file_name, folders, by_end=by_end, where=str(file.path))
            name = name_of(path)
            name = name if split is None or path.parts[0] == split else f"{split}/{name}"
            require_name(name, where=str(file.path))
            first = of_name.setdefault(name, entry)
            if first is not entry and _image_of(found, first.id) != image:
                raise BadInputError(
                    f"{file.path}: {entry.file_name!r} and {first.file_name!r} are one name; rename one of them"
                )
            of_image.setdefault(image, []).append(entry)
            found[entry.id] = Place(image=image, name=name)
            if path == PurePosixPath(entry.file_name.replace("\\", "/")):
                by_itself.add(entry.id)
        except BadInputError as error:
            found[entry.id] = error
    for image, entries in of_image.items():
        # what names the image as it is called goes before what was found by the end of its name
        own = [entry.id for entry in entries if entry.id in by_itself]
        ids = " and ".join(str(entry.id) for entry in entries)
        for entry in entries if len(entries) > 1 else []:
            if own != [entry.id]:
                found[entry.id] = BadInputError(
                    f"{file.path}: {entry.file_name!r} is {image}, the image of several entries, with the ids {ids}; "
                    "give each image one entry that has all of its annotations, or write its folder into file_name"
                )
    return found


def _image_of(found: dict[int | str, Place | BadInputError], number: int | str) -> Path | None:
    """The image of an entry that was found."""
    place = found[number]
    return place.image if isinstance(place, Place) else None


def _annotation_file(root: Path, split: str | None, labels: str) -> Path:
    files = coco_files(root, labels=labels)
    if split not in files:
        known = ", ".join(name for name in files if name) or "none"
        raise BadInputError(
            f"{root / ANNOTATIONS / f'{_PREFIX}{split or str()}{_SUFFIX}'}: no such split; there are: {known}; "
            "or name a COCO file in the folder with --dataset.labels FILE.json"
        )
    return files[split]


def _can_draw(file: CocoFile, *, crowd_masks: bool) -> bool:
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
    groups = file.outlines["crowd"]
    if groups and not crowd_masks:
        logger.warning(
            "%s: %d of %d outlines are groups (iscrowd 1), whose pixels are not scored; CVAT and Datumaro write every "
            "brush mask so: --dataset.crowd-masks scores them",
            file.path,
            groups,
            sum(file.outlines.values()),
        )
    return file.outlined


def _mask_place(folder: Path, path: Path, split: str | None, crowd_masks: bool) -> Path:
    """The folder of a file's masks, named by its bytes: other annotations never share masks."""
    rules = [_MASK_RULES, *(["groups as objects"] if crowd_masks else [])]
    key = fingerprint("coco masks", rules, split, file_digest(path))
    return folder / f"coco-masks-{key[:10]}"


def _draw(
    file: CocoFile,
    places: Mapping[int | str, Place | BadInputError],
    masks: Path,
    *,
    crowd_masks: bool,
    stop: bool,
) -> dict[int | str, BadInputError]:
    """Draw what is missing; returns what was wrong, by image."""
    values = {number: value for value, number in enumerate(file.categories, start=1)} | file.without_class
    jobs: list[tuple[Path, CocoImage, Sequence[Segment]]] = []
    for image in file.images:
        place = places[image.id]
        if isinstance(place, Place):
            segments = file.segments.get(image.id, [])
            if crowd_masks:
                segments = [replace(each, kind="object") if each.kind == "crowd" else each for each in segments]
            jobs.append((below(masks, place.name, ".png"), image, segments))
    wrong: dict[int | str, BadInputError] = {}
    with bar(f"drawing masks of {file.path.name}", len(jobs)) as progress:
        for (_, image, _), problem in zip(jobs, write_coco_masks(jobs, values=values), strict=True):
            progress.advance()
            if problem is not None:
                wrong[image.id] = BadInputError(f"{file.path}: {problem}")
                if stop:
                    raise wrong[image.id] from problem
    if not wrong and len(jobs) == len(file.images):
        write_json(masks / _COMPLETE, {"masks": len(jobs), "annotations": str(file.path)})
    return wrong


def _image_folders(root: Path, split: str | None, path: Path) -> list[Path]:
    """Where images may lie, only what is there, each once."""
    own = [root / split, root / "images" / split] if split else []
    folders = dict.fromkeys([*own, path.parent, root / "images", root])
    return [folder for folder in folders if folder.is_dir()]
