"""Pre-annotations for Label Studio: tasks with predictions as brush masks or polygons, and the labelling interface.

The fields are those of labelstud.io/guide/predictions and labelstud.io/tags/brushlabels. A person imports the tasks
into a project that has the written interface, and corrects what is wrong instead of drawing it.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote
from xml.etree import ElementTree

import numpy as np

from subcam.checks.arguments import takes_arrays
from subcam.data.images import voc_palette
from subcam.data.labels.brush_code import brush_rle
from subcam.data.labels.label_studio_tasks import NAME_KEY
from subcam.export.images import Images
from subcam.export.json_list import JsonList
from subcam.export.mask_folder import MaskFolder
from subcam.export.regions import Region, Shape, outlines, regions_of
from subcam.metrics.masks_csv import MaskRow
from subcam.runtime.files import atomic_write
from subcam.runtime.run_folder import RunFolder

TASKS_FILE, INTERFACE_FILE = "tasks.json", "interface.xml"
LOCAL_FILES = "/data/local-files/?d="
"""How Label Studio's server calls images that lie on its own disk."""

FROM_NAME, TO_NAME = "label", "image"


@takes_arrays()
def export_label_studio(
    masks: MaskFolder,
    out: Path,
    *,
    images: Images,
    url_prefix: str = LOCAL_FILES,
    model_version: str = "subcam",
    shape: Shape = "mask",
    pieces: bool = False,
    least_area: int = 1,
    tolerance: float = 1.0,
    confidences: Mapping[str, MaskRow] | None = None,
) -> tuple[Path, Path]:
    """Write `tasks.json` and `interface.xml` into the folder `out`, each replaced as a whole if it is there.

    Args:
        masks: label maps.
        out: the folder.
        images: their file names; sizes are checked where there is a folder of images.
        url_prefix: what stands before an image's path to make the URL under which Label Studio finds it.
        model_version: under which name the predictions are shown.
        shape: brush masks, or polygons (then each connected piece is one).
        pieces: one mask for each connected piece, else one for each class.
        least_area: regions of fewer pixels are left out.
        tolerance: how far a polygon may leave the edges of pixels, in pixels.
        confidences: of the masks by name, which become scores of predictions and regions; a mask without one has none.

    Raises:
        BadInputError: a mask is damaged, not of its image's size or has an unknown value.
        RunFolderError: another process writes into the folder, or it cannot be written.
    """
    class_names = masks.known_class_names()
    tasks_path, interface_path = out / TASKS_FILE, out / INTERFACE_FILE
    with RunFolder(path=out).lock(leave=False):
        with atomic_write(interface_path, "w") as file:
            file.write(interface_xml(class_names, shape=shape))
        with atomic_write(tasks_path, "w") as file:
            tasks = JsonList(file)
            for name, labels in masks.labels(num_classes=len(class_names), title="Label Studio"):
                images.check_size(name, masks.files[name], labels.shape)
                results: list[dict[str, Any]] = []
                row = (confidences or {}).get(name)
                for region in regions_of(labels, pieces=pieces or shape == "polygon", least_area=least_area):
                    values = (
                        [_brush(region, labels.shape)]
                        if shape == "mask"
                        else _polygons(region, labels.shape, tolerance)
                    )
                    kind = "brushlabels" if shape == "mask" else "polygonlabels"
                    sure = row.regions.get(class_names[region.value - 1]) if row else None
                    for value in values:
                        results.append(
                            {
                                "id": f"region{len(results) + 1}",
                                "type": kind,
                                "from_name": FROM_NAME,
                                "to_name": TO_NAME,
                                "original_width": labels.shape[1],
                                "original_height": labels.shape[0],
                                "image_rotation": 0,
                                "value": value | {kind: [class_names[region.value - 1]]},
                                **({"score": sure.confidence} if sure else {}),
                            }
                        )
                image = url_prefix + quote(images.file_name(name))
                prediction = {"model_version": model_version, **({"score": row.confidence} if row else {})}
                tasks.add(
                    {
                        "data": {TO_NAME: image},
                        "meta": {NAME_KEY: name},
                        "predictions": [prediction | {"result": results}],
                    }
                )
            tasks.close()
            file.write("\n")
    return tasks_path, interface_path


def interface_xml(class_names: tuple[str, ...], *, shape: Shape = "mask") -> str:
    """The labelling interface that the tasks belong to: one label a class, in VOC's colours."""
    view = ElementTree.Element("View")
    ElementTree.SubElement(view, "Image", name=TO_NAME, value=f"${TO_NAME}", zoom="true")
    kind = "BrushLabels" if shape == "mask" else "PolygonLabels"
    labels = ElementTree.SubElement(view, kind, name=FROM_NAME, toName=TO_NAME)
    for name, colour in zip(class_names, voc_palette()[1 : len(class_names) + 1], strict=True):
        ElementTree.SubElement(labels, "Label", value=name, background="#" + bytes(colour.tolist()).hex())
    ElementTree.indent(view)
    return ElementTree.tostring(view, encoding="unicode") + "\n"


def _brush(region: Region, size: tuple[int, ...]) -> dict[str, Any]:
    return {"format": "rle", "rle": brush_rle(region.full((size[0], size[1]))).tolist()}


def _polygons(region: Region, size: tuple[int, ...], tolerance: float) -> list[dict[str, Any]]:
    """Points in per cent of width and height."""
    per_cent = 100 / np.array([size[1], size[0]])
    return [
        {"points": (ring * per_cent).round(4).tolist(), "closed": True}
        for ring in outlines(region, tolerance=tolerance)
    ]
