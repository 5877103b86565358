#!/usr/bin/env bash
# torchmetrics' MeanIoU is not the mIoU of segmentation's benchmarks: it averages over images, and may rank networks the
# other way round.
#
# One would expect "mean intersection over union" of all batches to be what PASCAL VOC, COCO-Stuff and papers report under
# that name: pixels are counted over the whole set, one IoU for each class, the mean over classes. What happens: for each
# class it takes the IoU of each image that shows or is said to show it, and the mean of these. An image in which a class
# has three pixels then counts as much as one that it fills. `JaccardIndex` of the same package does count over the set.
#
# Below, network A finds the object in three images where it is small and misses it in the one it fills; B does the
# reverse. MeanIoU prefers A, by pixels of the whole set B is far ahead. Who trains with MeanIoU and compares with a
# paper's table compares two numbers of different kinds, each plausible. Way out: JaccardIndex, or a confusion matrix.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torchmetrics==1.9.0 torch==2.15.0 numpy==2.2.6
cd "$folder"
cat > show.py <<'PYTHON'
import sys
from importlib.metadata import version

import numpy as np
import torch
from torchmetrics.classification import MulticlassJaccardIndex
from torchmetrics.segmentation import MeanIoU

print(f"torchmetrics {version('torchmetrics')}, torch {version('torch')}")
small, large = torch.zeros(10, 10, dtype=torch.long), torch.ones(10, 10, dtype=torch.long)
small[0, :3] = large[0, 0] = 1
large[9] = 0
nothing = torch.zeros_like(small)
truth = torch.stack([small, small, small, large])
networks = {"A": torch.stack([small, small, small, nothing]), "B": torch.stack([nothing, nothing, nothing, large])}


def of_whole_set(found):
    """The benchmarks' mIoU, from counts of all pixels."""
    counts = np.zeros((2, 2), int)
    np.add.at(counts, (truth.numpy().ravel(), found.numpy().ravel()), 1)
    return float(np.mean(np.diag(counts) / (counts.sum(0) + counts.sum(1) - np.diag(counts))))


def by_torchmetrics(metric, found):
    for image, own in zip(found, truth):  # one batch an image; all in one batch give the same
        metric.update(image[None], own[None])
    return float(metric.compute())


rows = {
    name: (
        by_torchmetrics(MeanIoU(num_classes=2, input_format="index"), found),
        by_torchmetrics(MulticlassJaccardIndex(num_classes=2), found),
        of_whole_set(found),
    )
    for name, found in networks.items()
}
for name, (mean_iou, jaccard, expected) in rows.items():
    print(f"network {name}: MeanIoU {mean_iou:.3f}; JaccardIndex {jaccard:.3f}; pixels of the whole set {expected:.3f}")
(a_mean, a_jaccard, a_set), (b_mean, b_jaccard, b_set) = rows["A"], rows["B"]
as_described = a_mean > b_mean and a_set < b_set and abs(a_jaccard - a_set) + abs(b_jaccard - b_set) < 1e-6
print("as described" if as_described else "the behaviour has changed")
sys.exit(not as_described)
PYTHON
"$folder/venv/bin/python" -W ignore show.py
