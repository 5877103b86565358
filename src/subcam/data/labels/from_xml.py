"""Image-level labels from XML: CVAT's one file for all images, and an annotation in VOC's form for each image.

In: the file, or the folder, and the folder of images. Out: `SourceLabels`. Only the names are read, not where the
objects lie.
"""

from pathlib import Path
from xml.etree.ElementTree import Element

from subcam.data.files import ImagesByEnd, find_listed, images_below, require_inside
from subcam.data.labels.from_folders_and_tags import SPLIT_NAMES, LabelledImage, SourceLabels, merged
from subcam.data.records import Skipped
from subcam.errors import BadInputError
from subcam.runtime.documents.xml_file import read_xml

_SHAPES = ("tag", "box", "polygon", "polyline", "points", "mask", "ellipse", "cuboid", "skeleton")
"""Elements of CVAT that say, with their label, that something is in an image."""

_FOLDERS = ("Annotations", "annotations", "xmls", "labels")
"""Where the annotation of an image may lie that is not beside it."""


def is_cvat(path: Path) -> bool:
    """Whether an XML file is "CVAT for images 1.1"."""
    return bool(_images(read_xml(path)))


def read_cvat(path: Path) -> list[Element]:
    """The <image> elements of "CVAT for images 1.1", one or more.

    Raises:
        BadInputError: it cannot be read, or is no such export.
    """
    try:
        top = read_xml(path)
    except OSError as error:
        raise BadInputError(f"{path}: expected CVAT's XML, got none ({error.strerror}); check its name") from error
    if not (images := _images(top)):
        raise BadInputError(
            f'{path}: expected "CVAT for images 1.1" with an <image> for each image, got <{top.tag}> with '
            f"{len(top.findall('image'))}; export the task in that format"
        )
    return images


def _images(top: Element) -> list[Element]:
    return top.findall("image") if top.tag == "annotations" else []


def labels_from_cvat(path: Path, *, root: Path) -> SourceLabels:
    """The labels of the shapes and tags of each image, from "CVAT for images 1.1".

    An image without any shape shows none of the classes. Tracks of a video name no images.

    Args:
        path: the XML file.
        root: the folder of the images; each is found by its path there, else by the end of its name.

    Raises:
        BadInputError: the file is no such export, or none of its images is there.
    """
    entries = read_cvat(path)
    by_end = ImagesByEnd(root)
    images: list[LabelledImage] = []
    skipped: list[Skipped] = []
    for number, entry in enumerate(entries):
        written = entry.get("name", "")
        try:
            if not written:
                raise BadInputError(f"{path}: <image> {number} has no name; export the task again")
            found, _ = find_listed(written, (root, root / "images"), by_end=by_end, where=str(path), root=root)
            names = dict.fromkeys(_label(path, shape) for shape in entry if shape.tag in _SHAPES)
            images.append(
                LabelledImage(
                    image=found.relative_to(root).as_posix(),
                    names=tuple(names),
                    split=entry.get("subset", "") if entry.get("subset", "").casefold() in SPLIT_NAMES else "",
                )
            )
        except BadInputError as error:
            skipped.append(Skipped(file=written or str(path), reason=str(error)))
    if not images:
        raise BadInputError(f"{path}: expected images with labels, got none that can be used; {skipped[0].reason}")
    return SourceLabels(
        images=merged(_with_splits_or_none(images)),
        skipped=tuple(skipped),
        understood=f"the labels in CVAT's {path.name}; images without a shape show nothing",
    )


def labels_from_annotations(root: Path) -> SourceLabels:
    """The names of the objects of each image, from an annotation in VOC's form beside it or in a folder Annotations.

    That of `train/a.jpg` and of `images/train/a.jpg` is `train/a.xml` beside it, or the file of its name in a folder
    `Annotations` or `annotations` next to `images` or below `root`. Folders called train, val and the like are splits.

    Raises:
        BadInputError: no image has an annotation.
    """
    below = images_below(root)
    images: list[LabelledImage] = []
    skipped = list(below.skipped(root))
    for path in below.images:
        image = path.relative_to(root)
        try:
            require_inside(root, path, where=image.as_posix())
            annotation = annotation_of(root, image)
            if annotation is None:
                raise BadInputError(
                    f"{path}: expected its annotation {image.stem}.xml beside it or in a folder {_FOLDERS[0]}, got no "
                    "such file: what it shows is unknown"
                )
            require_inside(root, annotation, where=image.as_posix())
            names = tuple(dict.fromkeys(_objects(annotation)))
            split = next((part for part in image.parts[:-1] if part.casefold() in SPLIT_NAMES), "")
            images.append(LabelledImage(image=image.as_posix(), names=names, split=split))
        except BadInputError as error:
            skipped.append(Skipped(file=image.as_posix(), reason=str(error)))
    if not images:
        why = f"; the first: {skipped[0].reason}" if skipped else ""
        raise BadInputError(f"{root}: expected images with an XML annotation each, got none{why}")
    return SourceLabels(
        images=tuple(_with_splits_or_none(images)),
        skipped=tuple(skipped),
        understood="the objects of an XML annotation for each image",
    )


def annotation_of(root: Path, image: Path) -> Path | None:
    """The XML annotation of an image, by its path below `root`; None where there is none."""
    name = image.with_suffix(".xml")
    places = [root / name]
    for folder in _FOLDERS:
        if "images" in image.parts[:-1]:
            at = image.parts.index("images")
            places.append(root.joinpath(*image.parts[:at], folder, *image.parts[at + 1 :]).with_suffix(".xml"))
        places += [root / folder / name, root / folder / name.name]
    return next((place for place in places if place.is_file()), None)


def is_annotation(path: Path) -> bool:
    """Whether an XML file is the annotation of one image in VOC's form."""
    return read_xml(path).tag == "annotation"


def _label(path: Path, shape: Element) -> str:
    name = shape.get("label", "").strip()
    if not name:
        raise BadInputError(f"{path}: a <{shape.tag}> has no label, so what its image shows is unknown; label it")
    return name


def _objects(path: Path) -> list[str]:
    try:
        top = read_xml(path)
    except OSError as error:
        raise BadInputError(f"{path}: cannot be read ({error.strerror}); check its rights") from error
    names = [(entry.findtext("name") or "").strip() for entry in top.findall("object")]
    if top.tag != "annotation" or "" in names:
        raise BadInputError(
            f"{path}: expected <annotation> with a <name> in each <object>, got "
            f"{'one without a name' if '' in names else f'<{top.tag}>'}; export it again"
        )
    return names


def _with_splits_or_none(images: list[LabelledImage]) -> list[LabelledImage]:
    """A split for some images is one for none."""
    if all(image.split for image in images):
        return images
    return [LabelledImage(image=image.image, names=image.names) for image in images]
