"""Pre-annotations for CVAT: "CVAT for images 1.1" (XML with masks or polygons) and "Segmentation mask 1.1" (zip).

The fields are those of docs.cvat.ai, "XML annotation format" and "Segmentation Mask". A person makes a task of the same
images and uploads the file as its annotations.
"""

import io
import logging
import zipfile
from collections.abc import Sequence
from pathlib import Path
from xml.sax.saxutils import escape, quoteattr

import numpy as np
from jaxtyping import Integer, UInt8
from PIL import Image

from subcam.checks.arguments import takes_arrays
from subcam.data.images import voc_palette
from subcam.data.readers.class_names import BACKGROUND_NAME
from subcam.data.records import first_of
from subcam.errors import BadInputError
from subcam.export.images import Images
from subcam.export.mask_folder import MaskFolder
from subcam.export.regions import Region, Shape, outlines, regions_of, run_lengths
from subcam.runtime.files import atomic_write

MOST_OBJECTS = 254
"""Colours of PASCAL VOC's colour map besides background and what is not labelled."""

logger = logging.getLogger(__name__)

EARLIEST = (1980, 1, 1, 0, 0, 0)
"""The time of every file in an archive, so that equal masks give equal archives; zip knows no earlier one."""


@takes_arrays()
def export_cvat_images(
    masks: MaskFolder,
    path: Path,
    *,
    images: Images,
    shape: Shape = "mask",
    pieces: bool = False,
    least_area: int = 1,
    tolerance: float = 1.0,
    task: str = "subcam",
) -> Path:
    """Write "CVAT for images 1.1": one XML file, replaced if it is there. Returns `path`.

    Args:
        masks: label maps.
        path: the XML file.
        images: their file names, which must be those of the task; sizes are checked where there is a folder of them.
        shape: masks, or polygons (then each connected piece is one).
        pieces: one mask for each connected piece, else one for each class.
        least_area: regions of fewer pixels are left out.
        tolerance: how far a polygon may leave the edges of pixels, in pixels.
        task: the task's name.

    Raises:
        BadInputError: a mask is damaged, not of its image's size or has an unknown value.
    """
    class_names = masks.known_class_names()
    with atomic_write(path, "w") as file:
        file.write(_head(class_names, shape=shape, size=len(masks.files), task=task))
        # CVAT counts images in the order of their names.
        order = {name: place for place, name in enumerate(sorted(masks.files, key=images.file_name))}
        for name, labels in masks.labels(num_classes=len(class_names), title="CVAT"):
            images.check_size(name, masks.files[name], labels.shape)
            height, width = labels.shape
            file_name = quoteattr(images.file_name(name))
            file.write(f'  <image id="{order[name]}" name={file_name} width="{width}" height="{height}">\n')
            for region in regions_of(labels, pieces=pieces or shape == "polygon", least_area=least_area):
                label = quoteattr(class_names[region.value - 1])
                for element in _elements(region, label, shape=shape, tolerance=tolerance):
                    file.write(f"    {element}\n")
            file.write("  </image>\n")
        file.write("</annotations>\n")
    return path


def _head(class_names: tuple[str, ...], *, shape: Shape, size: int, task: str) -> str:
    labels = "".join(
        "        <label>\n"
        f"          <name>{escape(name)}</name>\n"
        f"          <color>#{bytes(colour.tolist()).hex()}</color>\n"
        f"          <type>{shape}</type>\n"
        "          <attributes></attributes>\n"
        "        </label>\n"
        for name, colour in zip(class_names, voc_palette()[1 : len(class_names) + 1], strict=True)
    )
    return (
        '<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n  <version>1.1</version>\n  <meta>\n    <task>\n'
        f"      <name>{escape(task)}</name>\n      <size>{size}</size>\n      <mode>annotation</mode>\n"
        f"      <overlap>0</overlap>\n      <labels>\n{labels}      </labels>\n    </task>\n  </meta>\n"
    )


def _elements(region: Region, label: str, *, shape: Shape, tolerance: float) -> list[str]:
    common = f'label={label} source="auto" occluded="0"'
    if shape == "mask":
        left, top, width, height = region.box
        box = f'left="{left}" top="{top}" width="{width}" height="{height}"'
        rle = ", ".join(map(str, run_lengths(region.mask)))
        return [f'<mask {common} rle="{rle}" {box} z_order="0"></mask>']
    return [
        f'<polygon {common} points="{";".join(f"{x:.2f},{y:.2f}" for x, y in ring)}" z_order="0"></polygon>'
        for ring in outlines(region, tolerance=tolerance)
    ]


@takes_arrays()
def export_cvat_masks(masks: MaskFolder, path: Path, *, images: Images, least_area: int = 1) -> Path:
    """Write "Segmentation mask 1.1": a zip with labelmap.txt, SegmentationClass, SegmentationObject and ImageSets.

    Each connected piece of a class is an object, but for the smallest where an image has more than 254: an object's
    number is a colour of PASCAL VOC's colour map, which has no more. Those become one object for each class, with a
    line that says how many. Unlabelled pixels become background. Returns `path`, which is replaced if it is there;
    equal masks give equal bytes.

    Raises:
        BadInputError: a mask is damaged, not of its image's size or has an unknown value; a class name has a ":".
    """
    class_names = masks.known_class_names()
    unfit = next((name for name in class_names if ":" in name), None)
    if unfit is not None:
        raise BadInputError(f"CVAT's label map holds no class name with ':', got {unfit!r}; rename it with --classes")
    merged: list[str] = []
    with atomic_write(path, "wb") as file, zipfile.ZipFile(file, "w") as archive:

        def add(name: str, data: bytes) -> None:
            archive.writestr(zipfile.ZipInfo(name, EARLIEST), data, compress_type=zipfile.ZIP_DEFLATED)

        add("labelmap.txt", _label_map(class_names).encode())
        add("ImageSets/Segmentation/default.txt", "".join(f"{name}\n" for name in masks.files).encode())
        for name, labels in masks.labels(num_classes=len(class_names), title="CVAT"):
            images.check_size(name, masks.files[name], labels.shape)
            classes, objects = np.zeros_like(labels), np.zeros(labels.shape, np.int64)
            pieces = list(regions_of(labels, pieces=True, least_area=least_area))
            numbers = _numbers_of(pieces)
            merged += [name] if len(pieces) > len(set(numbers)) else []
            for number, region in zip(numbers, pieces, strict=True):
                inside = region.full((labels.shape[0], labels.shape[1]))
                classes[inside], objects[inside] = region.value, number
            add(f"SegmentationClass/{name}.png", _png(class_colours(classes)))
            add(f"SegmentationObject/{name}.png", _png(class_colours(objects)))
    if merged:
        logger.warning(
            "%d images have more than %d pieces, which this format cannot number: their smallest pieces are one object "
            "for each class (%s); --least-area leaves small ones out, and the format cvat keeps all",
            len(merged),
            MOST_OBJECTS,
            first_of(merged),
        )
    return path


def _numbers_of(pieces: Sequence[Region]) -> list[int]:
    """The object that each piece is: 1, 2, ...; where these are too many, the smallest share one for each class."""
    if len(pieces) <= MOST_OBJECTS:
        return list(range(1, len(pieces) + 1))
    shared = {value: number for number, value in enumerate(sorted({piece.value for piece in pieces}), start=1)}
    largest = sorted(range(len(pieces)), key=lambda place: -pieces[place].area)[: MOST_OBJECTS - len(shared)]
    own = {place: number for number, place in enumerate(sorted(largest), start=len(shared) + 1)}
    return [own.get(place, shared[piece.value]) for place, piece in enumerate(pieces)]


def _label_map(class_names: tuple[str, ...]) -> str:
    lines = ["# label:color_rgb:parts:actions"]
    colours = voc_palette()[: len(class_names) + 1].tolist()
    for name, (red, green, blue) in zip((BACKGROUND_NAME, *class_names), colours, strict=True):
        lines.append(f"{name}:{red},{green},{blue}::")
    return "\n".join(lines) + "\n"


def class_colours(indices: Integer[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w 3"]:
    """Numbers 0..2^24 - 1 as RGB by VOC's rule: three bits at a time, into R, G and B from their highest bits down."""
    wide = indices.astype(np.int64)[..., None] >> np.arange(3)
    colours = sum((wide >> 3 * place & 1) << (7 - place) for place in range(8))
    return np.asarray(colours, np.uint8)


def _png(colours: UInt8[np.ndarray, "h w 3"]) -> bytes:
    content = io.BytesIO()
    Image.fromarray(colours).save(content, format="PNG")
    return content.getvalue()
