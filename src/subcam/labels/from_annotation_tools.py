"""Image-level labels from what labelling tools write: COCO's JSON and Label Studio's.

In: the file and the folder of images. Out: `SourceLabels`. Only the names are read, not where the objects lie.
"""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from subcam.data.files import images_below, looks_like_image
from subcam.data.readers.coco_file import read_coco_file
from subcam.data.readers.json_stream import json_entries
from subcam.data.records import Skipped
from subcam.errors import BadInputError
from subcam.labels.from_folders_and_tags import (
    LabelledImage,
    SourceLabels,
    find_image,
    merged,
)

_UPLOADED = re.compile(r"[0-9a-f]{8}-(.+)")
"""Label Studio puts eight digits before the name of an image that was uploaded to it."""


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
    for entry in file.images:
        try:
            if entry.id in file.problems:
                raise file.problems[entry.id]
            present = file.present.get(entry.id, set()) | (file.crowds.get(entry.id, set()) if crowd_labels else set())
            names = tuple(name for number, name in file.categories.items() if number in present)
            image = find_image(root, entry.file_name, str(path))
            images.append(LabelledImage(image=image, names=names))
        except BadInputError as error:
            skipped.append(Skipped(file=entry.file_name, reason=str(error)))
    return _something(path, images, skipped)


def labels_from_label_studio(path: Path, *, root: Path) -> SourceLabels:
    """Labels from an export of Label Studio (JSON or JSON-MIN): choices, and the labels of boxes, polygons and brushes.

    What several people said of an image is put together; cancelled annotations and predictions do not count. A task's
    image is found by the end of its address: `/data/upload/1/0a1b2c3d-cat.jpg` is cat.jpg, wherever it lies in
    `root`, and of several the one whose folders agree most.

    Args:
        path: the JSON file.
        root: the folder of the images.

    Raises:
        BadInputError: the file is no such export, or none of its images is there.
    """
    by_file_name = _by_file_name(root)
    images: list[LabelledImage] = []
    skipped: list[Skipped] = []
    for number, (key, task) in enumerate(json_entries(path)):
        where = f"{path}: task {number}"
        if key or not isinstance(task, dict):
            raise BadInputError(f"{path}: expected Label Studio's export, a list of tasks, got {key or task!r:.40}")
        address = _address(task.get("data", task))
        try:
            if address is None:
                raise BadInputError(f"{where}: expected the address of an image, got {str(task)[:60]}")
            image = _find_by_end(by_file_name, address, root, where)
            images.append(LabelledImage(image=image, names=tuple(dict.fromkeys(_names(task)))))
        except BadInputError as error:
            skipped.append(Skipped(file=address or where, reason=str(error)))
    return _something(path, list(merged(images)), skipped)


def _names(task: Mapping[str, Any]) -> Iterator[str]:
    """The names that a task's annotations give, in the full form or in JSON-MIN."""
    if "annotations" not in task and "completions" not in task:
        for key, value in task.items():
            if key not in ("id", "annotator", "annotation_id", "created_at", "updated_at", "lead_time"):
                yield from _names_in_short(value)
        return
    for annotation in _entries(task.get("annotations", task.get("completions"))):
        if not annotation.get("was_cancelled"):
            for region in _entries(annotation.get("result")):
                value = region.get("value")
                # a region's names stand under its type: choices, rectanglelabels, polygonlabels, brushlabels, ...
                if isinstance(value, dict):
                    yield from _texts(value.get(str(region.get("type"))))


def _names_in_short(value: Any) -> Iterator[str]:
    """JSON-MIN: "choice": "cat", or {"choices": [...]}, or a list of regions each with its labels."""
    if isinstance(value, dict):
        yield from _texts(value.get("choices"))
    elif isinstance(value, str):
        if not looks_like_image(PurePosixPath(urlsplit(value).path)) and "/" not in value:
            yield from _texts(value)
    else:
        for region in _entries(value):
            for key, names in region.items():
                if key == "choices" or key.endswith("labels"):
                    yield from _texts(names)


def _entries(value: Any) -> list[dict[str, Any]]:
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []


def _texts(value: Any) -> Iterator[str]:
    """Names in a text, a list, or the paths of a taxonomy, of which the last word counts."""
    if isinstance(value, str) and value.strip():
        yield value.strip()
    elif isinstance(value, list):
        for entry in value:
            yield from _texts(entry[-1] if isinstance(entry, list) and entry else entry)


def _address(data: Any) -> str | None:
    """The text of a task that is an image's address: under "image" if there is one, else the first with a suffix."""
    if not isinstance(data, dict):
        return None
    texts = {key: value for key, value in data.items() if isinstance(value, str)}
    if "image" in texts:
        return texts["image"]
    return next((text for text in texts.values() if looks_like_image(_path_in(text))), None)


def _path_in(address: str) -> PurePosixPath:
    """The path that an address names: that of `?d=` for local files, else its own."""
    parts = urlsplit(address)
    local = parse_qs(parts.query).get("d")
    return PurePosixPath((local[0] if local else unquote(parts.path)).replace("\\", "/"))


def _by_file_name(root: Path) -> dict[str, list[PurePosixPath]]:
    paths: dict[str, list[PurePosixPath]] = defaultdict(list)
    for path in images_below(root).images:
        paths[path.name].append(PurePosixPath(path.relative_to(root).as_posix()))
    return paths


def _find_by_end(by_file_name: dict[str, list[PurePosixPath]], address: str, root: Path, where: str) -> str:
    """The image below `root` whose path agrees with the address's end in most folders, checked to lie in `root`."""
    path = _path_in(address)
    uploaded = _UPLOADED.fullmatch(path.name)
    candidates = by_file_name.get(path.name) or (by_file_name.get(uploaded[1]) if uploaded else None) or []
    if not candidates:
        raise BadInputError(f"{where}: no image {path.name!r} in {root}; give the folder of images with --images")

    def agreement(candidate: PurePosixPath) -> int:
        mine, theirs = candidate.parts[-2::-1], path.parts[-2::-1]
        return max(count for count in range(len(mine) + 1) if mine[:count] == theirs[:count])

    best = max(map(agreement, candidates))
    chosen = [candidate for candidate in candidates if agreement(candidate) == best]
    if len(chosen) > 1:
        raise BadInputError(
            f"{where}: {path.name!r} may be {' or '.join(map(str, chosen))}; rename one, or give a narrower folder"
        )
    return find_image(root, chosen[0].as_posix(), where)


def _something(path: Path, images: list[LabelledImage], skipped: list[Skipped]) -> SourceLabels:
    if not images:
        why = f"; the first: {skipped[0].reason}" if skipped else ""
        raise BadInputError(f"{path}: expected images with labels, got none that can be used{why}")
    return SourceLabels(images=tuple(images), skipped=tuple(skipped))
