#!/usr/bin/env bash
# Pillow writes an indexed PNG with as few bits as its palette has colours, and 255 ("ignore") becomes a class.
#
# One would expect a mask in mode P to be stored as it is, or to be refused: its pixels are bytes, and in segmentation
# 255 often means "no class here". What happens: the writer of PNG counts the colours of the palette, not the numbers
# in use. With up to 16 colours it writes 1, 2 or 4 bits for each pixel and drops the others. In a mask of four classes
# with four colours, 255 comes back as 3, the last class. No error, no warning, and `bits=8` does not help. TIFF and
# BMP keep 255.
#
# From 17 colours on all eight bits are written, so PASCAL VOC's 21 classes are safe: the same code is right for one
# data set and wrong for a smaller one. Pixels to be ignored then are ground truth of a real class, to learn from and
# to be scored on. Way out: a palette of 256 colours, whatever the number of classes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet pillow==13.0.0 numpy==2.2.6
cd "$folder"
cat > show.py <<'PYTHON'
import io
import sys
from importlib.metadata import version

import numpy as np
from PIL import Image

print(f"pillow {version('pillow')}")
mask = np.zeros((40, 60), np.uint8)
mask[:, 15:30], mask[:, 30:45], mask[:, 45:] = 1, 2, 3
mask[18:22] = 255  # four rows to be ignored
depth = {}


def stored(mask, colours, form, **options):
    """The mask as it comes back from a file, written with a palette of so many colours."""
    image = Image.fromarray(mask)
    image.putpalette((list(range(256)) * 3)[: 3 * colours])
    file = io.BytesIO()
    image.save(file, form, **options)
    if form == "PNG":
        depth[colours] = file.getvalue()[24]  # bits a pixel, as PNG's header says
    return np.asarray(Image.open(file))


def counts(mask):
    numbers, pixels = np.unique(mask, return_counts=True)
    return dict(zip(numbers.tolist(), pixels.tolist()))


print(f"a mask of four classes, pixels of each number: {counts(mask)}")
found = {}
for form, options in (("PNG", {}), ("PNG", {"bits": 8}), ("TIFF", {}), ("BMP", {})):
    back = stored(mask, 4, form, **options)
    found[form, *options] = counts(back)
    print(f"  as {form}{', bits=8' if options else ''}, with a palette of 4 colours: {counts(back)}")
ignored = {n: int(stored(mask, n, "PNG")[18, 0]) for n in (2, 4, 5, 16, 17, 21, 256)}
print(f"255 comes back from PNG, by colours of the palette, as: {ignored}")
print(f"bits a pixel in the file, by colours of the palette: {depth}")
lost = {0: 540, 1: 540, 2: 540, 3: 780}
as_described = (
    found["PNG",] == found["PNG", "bits"] == lost
    and found["TIFF",] == found["BMP",] == counts(mask)
    and ignored == {2: 1, 4: 3, 5: 15, 16: 15, 17: 255, 21: 255, 256: 255}
)
print("as described" if as_described else "the behaviour has changed")
sys.exit(not as_described)
PYTHON
"$folder/venv/bin/python" -W ignore show.py
