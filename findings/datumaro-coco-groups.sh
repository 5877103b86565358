#!/usr/bin/env bash
# Datumaro writes every mask into COCO's file as a group of objects (iscrowd 1), which COCO's scoring leaves out.
#
# One would expect a mask that belongs to one object to be written as one (iscrowd 0), as a run-length code or not: the
# flag says whether an outline stands for several objects. What happens: Datumaro ties the flag to the form. A polygon is
# written with 0, a mask with 1, whatever it shows. The pixels are exact.
#
# Readers that go by COCO's rules then do not learn from these objects, and pycocotools counts no object to be found:
# a perfect result scores -1 ("nothing to score"), and mean scores over other classes look right without them. CVAT
# exports its brush masks through Datumaro. Way out: set iscrowd to 0 in the file, or read groups as objects.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet datumaro==1.13.12 pycocotools==2.0.11 numpy==2.2.6
cd "$folder"
cat > show.py <<'PYTHON'
import contextlib
import io
import json
import sys
from importlib.metadata import version

import datumaro as dm
import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

print(f"datumaro {version('datumaro')}, pycocotools {version('pycocotools')}")
mask = np.zeros((40, 60), bool)
mask[5:25, 10:40] = True
image = dm.Image.from_numpy(np.zeros((40, 60, 3), np.uint8))
item = dm.DatasetItem(id="a", media=image, annotations=[dm.Mask(mask, label=0)])
dm.Dataset.from_iterable([item], categories=["cat"]).export("out", "coco_instances", save_media=True)
file = "out/annotations/instances_default.json"
(annotation,) = json.load(open(file))["annotations"]
with contextlib.redirect_stdout(io.StringIO()):
    truth = COCO(file)
    exact = (truth.annToMask(annotation) == mask).all()
    same = {"image_id": annotation["image_id"], "category_id": annotation["category_id"], "score": 1.0}
    result = truth.loadRes([same | {"segmentation": truth.annToRLE(annotation)}])
    scoring = COCOeval(truth, result, "segm")
    scoring.evaluate()
    scoring.accumulate()
    scoring.summarize()
print(f"one object of {mask.sum()} pixels: iscrowd {annotation['iscrowd']}, pixels exact: {exact}")
print(f"average precision of exactly this mask: {scoring.stats[0]:g}")
as_described = annotation["iscrowd"] == 1 and exact and scoring.stats[0] == -1
print("as described" if as_described else "the behaviour has changed")
sys.exit(not as_described)
PYTHON
"$folder/venv/bin/python" -W ignore show.py
