"""Image-level labels from what labelling tools write: COCO's JSON and Label Studio's.

In: the file and the folder of images. Out: `SourceLabels`. Only the names are read, not where the objects lie.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from subcam.data.files import ImagesByEnd, looks_like_image, path_in
from subcam.data.labels.from_folders_and_tags import LabelledImage, SourceLabels, merged
from subcam.data.labels.label_studio_tasks import (
    address_of,
    entries,
    is_drawn,
    is_full,
    names_of_region,
    results_of,
    submitted,
    tasks_of,
    texts,
)
from subcam.data.readers.coco import place_images
from subcam.data.readers.coco_file import read_coco_file
from subcam.data.records import Skipped
from subcam.errors import BadInputError

_OF_THE_EXPORT = frozenset({"id", "annotator", "annotation_id", "created_at", "updated_at", "lead_time", "history"})
"""Keys of JSON-MIN that are neither a task's data nor what was said of it."""


def labels_from_coco(path: Path, *, root: Path, crowd_labels: bool = True) -> SourceLabels:
    """Labels from the categories of each image's annotations.

    Args:
        path: the JSON file.
        root: the folder that `file_name` is relative to.
        crowd_labels: whether a category counts that is in an image only as a group ("iscrowd").

    Raises:
        BadInputError: the file is none of COCO's, or none of its images is there.
    """
    file = read_coco_file(path)
    images: list[LabelledImage] = []
    skipped = [Skipped(file=str(path), reason=str(problem)) for problem in file.strays]
    places = place_images(file, (root, root / "images"), root=root)
    for entry in file.images:
        try:
            place = places[entry.id]
            if isinstance(place, BadInputError):
                raise place
            names = file.names_in(entry.id, crowd_labels=crowd_labels)
            images.append(LabelledImage(image=place.image.relative_to(root).as_posix(), names=names))
        except BadInputError as error:
            skipped.append(Skipped(file=entry.file_name, reason=str(error)))
    return _something(path, images, skipped, understood="the categories of each image's annotations")


def labels_from_label_studio(path: Path, *, root: Path, label_keys: Sequence[str] = ()) -> SourceLabels:
    """Labels from an export of Label Studio (JSON or JSON-MIN): choices, and the labels of boxes, polygons and brushes.

    What several people said of an image is put together; cancelled annotations and predictions do not count. A task
    that was skipped, or that nobody opened, says nothing of its image, and neither does one whose regions have no
    label: it is left out. One that was submitted without any region says that nothing is there. A task's image is found
    by the end of its address: `/data/upload/1/0a1b2c3d-cat.jpg` is cat.jpg, wherever it lies in `root`, and of several
    the one whose folders agree most.

    Args:
        path: the JSON file.
        root: the folder of the images.
        label_keys: of JSON-MIN, the keys under which labels stand; none takes those that stand after the task's id, as
            those before it are its data, and those whose values are regions or choices.

    Raises:
        BadInputError: the file is no such export, or none of its images is there.
    """
    by_end = ImagesByEnd(root)
    images: list[LabelledImage] = []
    unknown: list[tuple[str, Skipped]] = []
    keys: dict[str, None] = {}
    for where, task in tasks_of(path):
        image, address = "", where
        try:
            address = address_of(task, where)
            image = by_end.find(address, where=where).relative_to(root).as_posix()
            images.append(LabelledImage(image=image, names=tuple(dict.fromkeys(_names(task, where, label_keys)))))
            keys |= dict.fromkeys(_label_keys(task, label_keys))
        except BadInputError as error:
            unknown.append((image, Skipped(file=address, reason=str(error))))
    known = {labelled.image for labelled in images}  # another task may say what an image shows
    skipped = [skip for image, skip in unknown if image not in known]
    how = f"what stands under {', '.join(keys)}" if keys else "the annotations of each task"
    return _something(path, list(merged(images)), skipped, understood=how)


def _label_keys(task: Mapping[str, Any], given: Sequence[str]) -> list[str]:
    """The keys of a task in JSON-MIN under which labels stand; none of one in the full form.

    In JSON-MIN the data of a task come first, then its id, then what was said of it.
    """
    if is_full(task):
        return []
    if given:
        return [key for key in task if key in given]
    keys = list(task)
    first = keys.index("id") if "id" in keys else -1
    return [
        key
        for place, key in enumerate(keys)
        if key not in _OF_THE_EXPORT
        and (place > first or not isinstance(task[key], str))
        and any(True for _ in _names_in_short(task[key]))
    ]


def _names(task: Mapping[str, Any], where: str, label_keys: Sequence[str]) -> list[str]:
    """The names that a task's annotations give, in the full form or in JSON-MIN.

    Raises:
        BadInputError: nobody said what the image shows.
    """
    if not is_full(task):
        return [name for key in _label_keys(task, label_keys) for name in _names_in_short(task[key])]
    names: list[str] = []
    for annotation in submitted(task, where):
        results = results_of(annotation, where)
        of_this = [name for region in results for name in names_of_region(region)]
        if not of_this and any(is_drawn(region) for region in results):
            raise BadInputError(f"{where}: has regions without a label, so what its image shows is unknown; label them")
        names += of_this
    return names


def _names_in_short(value: Any) -> Iterator[str]:
    """JSON-MIN: "choice": "cat", or {"choices": [...]}, or a list of regions each with its labels."""
    if isinstance(value, dict):
        yield from texts(value.get("choices"))
    elif isinstance(value, str):
        if not looks_like_image(path_in(value)) and "/" not in value:
            yield from texts(value)
    else:
        for region in entries(value):
            for key, names in region.items():
                if key == "choices" or key.endswith("labels"):
                    yield from texts(names)


def _something(path: Path, images: list[LabelledImage], skipped: list[Skipped], *, understood: str) -> SourceLabels:
    if not images:
        why = f"; the first: {skipped[0].reason}" if skipped else ""
        raise BadInputError(f"{path}: expected images with labels, got none that can be used{why}")
    return SourceLabels(images=tuple(images), skipped=tuple(skipped), understood=understood)
