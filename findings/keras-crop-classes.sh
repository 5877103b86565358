#!/usr/bin/env bash
# Keras' RandomCrop and CenterCrop invent classes in the mask of an image that is smaller than the crop.
#
# One would expect layers that take `segmentation_masks` beside the images to leave the numbers of classes alone, as
# Keras' Resizing and RandomRotation do. What happens: an image smaller than the crop is enlarged, as the documentation
# says, and its mask with it, both with interpolation between pixels. Between class 0 and class 15 the mask then holds
# 2.8, 8.7 or 12.2. A mask cropped without enlarging comes back as floats too, so the type does not give it away.
#
# In a set of images of many sizes it concerns just the small ones. After a cast to integers the rims of their objects
# are other classes, each of them valid. CenterCrop does so outside training as well, where scores are computed. Way
# out: bring image and mask to at least the size of the crop first, with Resizing.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet keras==3.15.1 jax==0.10.2 numpy==2.2.6
cd "$folder"
cat > show.py <<'PYTHON'
import os
import sys
from importlib.metadata import version

os.environ["KERAS_BACKEND"] = "jax"
os.environ["JAX_PLATFORMS"] = "cpu"
import numpy as np
from keras import layers

print(f"keras {version('keras')}, jax {version('jax')}")
image = np.zeros((1, 40, 60, 3), np.float32)
mask = np.zeros((1, 40, 60, 1), np.uint8)
mask[:, 10:30, 15:45] = 15


def numbers(layer, training):
    """The numbers in the mask that a layer gives, and those after a cast to integers."""
    given = layer({"images": image, "segmentation_masks": mask}, training=training)["segmentation_masks"]
    given = np.asarray(given)
    integers = given.astype(int)
    shown = f"{given.dtype} {[round(float(n), 1) for n in np.unique(given)]}"
    return shown, np.unique(integers).tolist(), f"{(~np.isin(integers, [0, 15])).mean():.1%}"


def enlarged(data, training):
    """The way out: enlarged by Resizing, then cropped."""
    return layers.RandomCrop(64, 64, seed=0)(layers.Resizing(80, 120)(data), training=training)


print("an image of 40 x 60 pixels whose mask has classes 0 and 15:")
results = {}
for name, layer, training in (
    ("RandomCrop to 32 x 32", layers.RandomCrop(32, 32, seed=0), True),
    ("RandomCrop to 64 x 64", layers.RandomCrop(64, 64, seed=0), True),
    ("CenterCrop to 32 x 32", layers.CenterCrop(32, 32), False),
    ("CenterCrop to 64 x 64", layers.CenterCrop(64, 64), False),
    ("Resizing to 64 x 64", layers.Resizing(64, 64), True),
    ("Resizing to 80 x 120, RandomCrop to 64 x 64", enlarged, True),
    ("RandomRotation", layers.RandomRotation(0.1, seed=0), True),
):
    given, integers, share = numbers(layer, training)
    results[name] = integers
    print(f"  {name}: {given}; as integers {integers}, pixels of a new class {share}")
wrong = ("RandomCrop to 64 x 64", "CenterCrop to 64 x 64")
as_described = all((results[name] != [0, 15]) == (name in wrong) for name in results)
print("as described" if as_described else "the behaviour has changed")
sys.exit(not as_described)
PYTHON
"$folder/venv/bin/python" -W ignore show.py
