"""Labels of any other program by the kind of their source: as they are, or as the rows that a table of labels has.

In: a folder or a file, and its kind. Out: `SourceLabels`, or a `LabelTable`, from which a run makes its images.
"""

from collections.abc import Sequence
from pathlib import Path

from subcam.data.labels.from_annotation_tools import labels_from_coco, labels_from_label_studio
from subcam.data.labels.from_folders_and_tags import (
    Same,
    SourceLabels,
    labels_from_folders,
    labels_from_tag_files,
    labels_from_tag_table,
)
from subcam.data.labels.from_xml import labels_from_annotations, labels_from_cvat
from subcam.data.labels.from_yolo import labels_from_yolo
from subcam.data.labels.source_kind import SourceKind
from subcam.data.readers.class_names import is_background
from subcam.data.readers.label_table import LabelRow, LabelTable
from subcam.errors import BadInputError


def read_labels(
    source: Path,
    kind: SourceKind,
    *,
    root: Path,
    same: Same = "content",
    besides: Sequence[str] = (),
    label_keys: Sequence[str] = (),
    least_score: float | None = None,
    crowd_labels: bool = True,
) -> SourceLabels:
    """The labels of a source.

    Args:
        source: a folder or a file.
        kind: what it is.
        root: the folder of the images.
        same: of folders: which images in several are one.
        besides: of folders: those that are no classes.
        label_keys: of Label Studio's JSON-MIN: the keys under which labels stand.
        least_score: of tags: from which score on one is in the image.
        crowd_labels: of COCO: whether a class counts that is in an image only as a group.

    Raises:
        BadInputError: the source cannot be read, or nothing in it can be used.
    """
    if kind == "folders":
        return labels_from_folders(source, same=same, besides=besides)
    if kind == "coco":
        return labels_from_coco(source, root=root, crowd_labels=crowd_labels)
    if kind == "label-studio":
        return labels_from_label_studio(source, root=root, label_keys=label_keys)
    if kind == "cvat":
        return labels_from_cvat(source, root=root)
    if kind == "xml":
        return labels_from_annotations(source)
    if kind == "yolo":
        return labels_from_yolo(source, root=root)
    if source.is_dir():
        return labels_from_tag_files(source)
    return labels_from_tag_table(source, root=root, least_score=least_score)


def as_table(labels: SourceLabels, *, path: Path) -> LabelTable:
    """Labels as rows; what cannot be used is a row with its error, and a split that not every image has is none.

    path: where the labels stand, for errors.
    """
    splits = bool(labels.images) and all(image.split for image in labels.images)
    rows = [
        LabelRow(
            line=0,
            image=image.image,
            names=tuple(name for name in image.names if not is_background(name)),
            split=image.split if splits else None,
        )
        for image in labels.images
    ]
    rows += [LabelRow(line=0, image=skip.file, problem=BadInputError(skip.reason)) for skip in labels.skipped]
    return LabelTable(path=path, columns=("image", "labels", *(["split"] if splits else [])), rows=tuple(rows))
