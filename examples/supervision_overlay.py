"""Draw a folder of predictions with supervision: each connected piece with its mask, its box and its class's name.

    uv pip install supervision
    python examples/supervision_overlay.py predictions --out drawn

`predictions` is what `subcam predict` wrote.
"""

import argparse
import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import supervision as sv
from PIL import Image
from scipy.ndimage import label

from subcam.data.images import read_image, read_indices
from subcam.export.mask_folder import open_masks

BACKGROUND, UNLABELLED = 0, 255


def detections_of(mask: np.ndarray, names: Sequence[str], *, least_area: int = 1) -> sv.Detections:
    """The connected pieces of a mask as supervision's detections, class by class.

    Args:
        mask: [height, width], 0 background, i + 1 class i, 255 no label.
        names: of the classes.
        least_area: pieces of fewer pixels are left out.
    """
    pieces, values = [], []
    for value in np.unique(mask[(mask != BACKGROUND) & (mask != UNLABELLED)]):
        numbered, count = label(mask == value)
        for number in range(1, count + 1):
            piece = numbered == number
            if piece.sum() >= least_area:
                pieces.append(piece)
                values.append(int(value))
    if not pieces:
        return sv.Detections.empty()
    masks = np.stack(pieces)
    return sv.Detections(
        xyxy=sv.mask_to_xyxy(masks).astype(np.float32),
        mask=masks,
        class_id=np.array(values) - 1,
        data={"class_name": np.array([names[value - 1] for value in values])},
    )


def draw(image: np.ndarray, detections: sv.Detections) -> np.ndarray:
    """A copy of the image (RGB, 0..255) with masks, boxes and names over it."""
    scene = image[..., ::-1].copy()  # supervision draws in BGR, as OpenCV does
    by_class = sv.ColorLookup.CLASS
    for annotator in (sv.MaskAnnotator(color_lookup=by_class), sv.BoxAnnotator(color_lookup=by_class)):
        scene = annotator.annotate(scene=scene, detections=detections)
    scene = sv.LabelAnnotator(color_lookup=by_class).annotate(scene=scene, detections=detections)
    return scene[..., ::-1].copy()


def draw_folder(predictions: Path, out: Path, *, least_area: int = 1) -> list[Path]:
    """Draw every image of a folder of predictions; returns the files, which have the images' names."""
    masks = open_masks(predictions)
    with (predictions / "predictions.csv").open(encoding="utf-8", newline="") as file:
        images = {predictions / row["mask"]: row["image"] for row in csv.DictReader(file)}
    written = []
    for name, path in masks.files.items():
        found = detections_of(read_indices(path), masks.class_names or (), least_area=least_area)
        target = out / f"{name}.jpg"
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw(read_image(Path(images[path])), found)).save(target)
        written.append(target)
    return written


def main() -> None:
    """Read the command line, draw."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("predictions", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--least-area", type=int, default=50, help="pieces of fewer pixels are left out")
    given = parser.parse_args()
    print(f"{len(draw_folder(given.predictions, given.out, least_area=given.least_area))} images in {given.out}")


if __name__ == "__main__":
    main()
