#!/usr/bin/env bash
# supervision writes a mask without holes as a polygon in COCO's file, and pycocotools draws that polygon smaller.
#
# One would expect the pixels of a mask to come back when the file that `DetectionDataset.as_coco` wrote is drawn by
# COCO's own package. What happens: the corners of the polygon are the numbers of the outermost pixels, as OpenCV's
# contours give them, while in COCO's files a number is an edge between pixels. A solid block of 5 x 7 pixels (area 35,
# as the file itself says) is drawn as 4 x 6: its last row and column are gone. A line one pixel wide has no polygon at
# all: its annotation holds an empty list, on which pycocotools raises an IndexError. supervision itself reads the block
# back whole, so that nobody sees it there.
#
# Who trains or scores on such files loses a rim of every object, and all that is thin; for small objects that is a third
# of them. Masks with a hole or in several pieces are written as run-length codes and come back exactly (as groups, with
# iscrowd 1). Way out: write run-length codes with pycocotools.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet supervision==0.31.2 pycocotools==2.0.11 numpy==2.2.6
cd "$folder"
cat > show.py <<'PYTHON'
import json
import sys
from importlib.metadata import version

import numpy as np
import supervision as sv
from PIL import Image
from pycocotools import mask as coco_mask

print(f"supervision {version('supervision')}, pycocotools {version('pycocotools')}")
Image.new("RGB", (24, 20)).save("a.jpg")


def written(mask):
    """The one annotation of the file that supervision writes for a mask."""
    boxes = sv.mask_to_xyxy(mask[None]).astype(np.float32)
    found = sv.Detections(xyxy=boxes, mask=mask[None], class_id=np.array([0]))
    sv.DetectionDataset(["thing"], ["a.jpg"], {"a.jpg": found}).as_coco(annotations_path="a.json")
    (annotation,) = json.load(open("a.json"))["annotations"]
    return annotation


block, line = np.zeros((20, 24), bool), np.zeros((20, 24), bool)
block[4:9, 5:12] = True
line[6, 3:15] = True
annotation = written(block)
codes = coco_mask.frPyObjects(annotation["segmentation"], 20, 24)
drawn = coco_mask.decode(coco_mask.merge(codes)).astype(bool)
empty = written(line)["segmentation"]
print(f"a block of 5 x 7 pixels, area {annotation['area']:g} in the file: {annotation['segmentation']}")
print(f"  drawn by pycocotools: {drawn.sum()} of {block.sum()} pixels, rows {drawn.any(1).sum()}, columns {drawn.any(0).sum()}")
print(f"a line of 12 pixels: segmentation {empty}")
same = (drawn.sum(), drawn.any(1).sum(), drawn.any(0).sum(), empty) == (24, 4, 6, [])
print("as described" if same else "the behaviour has changed")
sys.exit(not same)
PYTHON
"$folder/venv/bin/python" -W ignore show.py
