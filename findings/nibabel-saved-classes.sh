#!/usr/bin/env bash
# nibabel stretches the classes of a mask over the whole range of bytes when it is saved with its own header.
#
# One would expect a mask that is loaded, corrected and saved with the affine and the header it came with to hold the
# same numbers again. What happens: `get_fdata` gives floats, the header says bytes, and for floats nibabel picks a
# factor that makes use of all 256 values. Classes 0, 1 and 2 are stored as 0, 127 and 255, and class 1 comes back as
# 0.996. There is no warning, and the file still says uint8.
#
# `== 1` then finds no pixel, even in a mask of 0 and 1, where the error is below 0.0000001. `astype(uint8)` hides it
# for some numbers of classes; with 0, 1 and 2 (say, an organ and its tumour) it turns all of class 1 into background
# and keeps class 2: a plausible mask without the organ. Way out: `np.asarray(image.dataobj)`, which keeps integers.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet nibabel==5.4.2 numpy==2.2.6
cd "$folder"
cat > show.py <<'PYTHON'
import sys
from importlib.metadata import version

import nibabel
import numpy as np

print(f"nibabel {version('nibabel')}")


def corrected(classes, read):
    """A mask with one stray pixel, written, loaded, corrected and written again: what should be, and what is there."""
    mask = np.repeat(np.arange(classes, dtype=np.uint8), 100).reshape(classes, 10, 10)
    wrong = mask.copy()
    wrong[0, 5, 5] = 1
    nibabel.save(nibabel.Nifti1Image(wrong, np.eye(4)), "a.nii.gz")
    image = nibabel.load("a.nii.gz")
    pixels = read(image)
    pixels[0, 5, 5] = 0
    nibabel.save(nibabel.Nifti1Image(pixels, image.affine, image.header), "b.nii.gz")
    return mask, nibabel.load("b.nii.gz")


mask, image = corrected(3, lambda image: image.get_fdata())
back = image.get_fdata()
raw = np.unique(image.dataobj.get_unscaled()).tolist()
print(f"classes 0 to 2, saved as {image.get_data_dtype()}, stored as {raw}")
print(f"  read again: {[round(value, 6) for value in np.unique(back).tolist()]}")
print(f"  pixels of class 1: {(mask == 1).sum()} expected, {(back == 1).sum()} by == 1, ", end="")
print(f"{(back.astype(np.uint8) == 1).sum()} by astype(uint8), {(np.rint(back) == 1).sum()} rounded")
lost, equal = {}, {}
for classes in range(2, 9):
    mask, image = corrected(classes, lambda image: image.get_fdata())
    back = image.get_fdata()
    lost[classes] = [c for c in range(classes) if (back.astype(np.uint8)[mask == c] != c).any()]
    equal[classes] = int((back == 1).sum())
    error = np.abs(back - mask).max()
    print(f"  {classes} classes: largest error {error:.1g}, astype loses {lost[classes]}, == 1 finds {equal[classes]}")
mask, image = corrected(3, lambda image: np.asarray(image.dataobj).copy())
kept = (image.get_fdata() == mask).all()
print(f"with np.asarray(image.dataobj): {'exact' if kept else 'not exact'}")
as_described = (
    raw == [0, 127, 255]
    and (lost[2], lost[3], lost[4]) == ([], [1], [])
    and not any(equal.values())
    and kept
)
print("as described" if as_described else "the behaviour has changed")
sys.exit(not as_described)
PYTHON
"$folder/venv/bin/python" -W ignore show.py
