#!/usr/bin/env bash
# WebDataset's decoder "pil" turns an indexed PNG, as masks of segmentation are, into its colours.
#
# One would expect `decode("pil")` to give the image that PIL opens: for a mask with a palette the numbers of the classes,
# in mode P. What happens: "pil" means "as PIL, converted to RGB"; the palette is applied, and the numbers are gone. With
# PASCAL VOC's palette class 1 becomes (128, 0, 0). "l8" makes grey levels of these colours: class 1 becomes 38. Neither
# is an error, and both have a plausible shape and type.
#
# Who stores masks in shards and decodes them in one go with the images learns from 38 as a class, or meets an index error
# far away. Way out: a handler of one's own for the mask's ending, before "pil" in the list of decoders.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet webdataset==1.0.2 pillow==12.3.0 numpy==2.2.6
cd "$folder"
cat > show.py <<'PYTHON'
import io
import sys
from importlib.metadata import version

import numpy as np
import webdataset as wds
from PIL import Image

print(f"webdataset {version('webdataset')}, pillow {version('pillow')}")
mask = Image.fromarray(np.array([[0, 1], [1, 2]], np.uint8), "P")
mask.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0])
file = io.BytesIO()
mask.save(file, "PNG")
with wds.TarWriter("a.tar") as shard:
    shard.write({"__key__": "a", "mask.png": file.getvalue()})


def decoded(*decoders):
    (sample,) = wds.WebDataset("a.tar", shardshuffle=False).decode(*decoders)
    return sample["mask.png"]


stored = np.asarray(Image.open(file)).tolist()
pil, grey = decoded("pil"), np.asarray(decoded("l8")).tolist()
own = decoded(wds.handle_extension("mask.png", lambda data: np.asarray(Image.open(io.BytesIO(data)))), "pil").tolist()
print(f"stored: classes {stored}")
print(f'decode("pil"): mode {pil.mode}, {np.asarray(pil).tolist()}')
print(f'decode("l8"): {grey}')
print(f"with a handler of one's own: {own}")
as_described = pil.mode == "RGB" and grey == [[0, 38], [38, 75]] and own == stored == [[0, 1], [1, 2]]
print("as described" if as_described else "the behaviour has changed")
sys.exit(not as_described)
PYTHON
"$folder/venv/bin/python" -W ignore show.py
