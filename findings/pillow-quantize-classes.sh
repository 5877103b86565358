#!/usr/bin/env bash
# Pillow's quantize(palette=...) gives another class to colours that are in the palette exactly.
#
# One would expect a mask in colours to become the numbers of its classes when Pillow maps it to the set's own palette:
# each colour is there, so that nothing has to be guessed, least of all without dithering. What happens: colours that
# differ by less than four levels may share one answer. Of the greys 0 to 8, with just these as the palette, 1, 2 and 3
# become 0, and 5, 6 and 7 become 4. Nothing says so.
#
# With Cityscapes' palette each class comes back. In the one that mmsegmentation lists for Mapillary Vistas 2.0 many
# colours differ by one level of blue, and 26 of 124 classes come back as another class. Who tried the code on the
# first set does not expect it on the second, and the two colours look the same. Way out: look colours up exactly.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet pillow==13.0.0 numpy==2.2.6
"$folder/venv/bin/pip" install --quiet --no-deps mmsegmentation==1.2.2  # just for its lists of classes and colours
cd "$folder"
cat > show.py <<'PYTHON'
import ast
import sys
from importlib.metadata import distribution, version

import numpy as np
from PIL import Image

print(f"pillow {version('pillow')}, mmsegmentation {version('mmsegmentation')}")


def listed(file, name):
    """Names and colours of a data set's classes, from the source of mmsegmentation (it is not run)."""
    source = ast.parse(distribution("mmsegmentation").locate_file(f"mmseg/datasets/{file}").read_text())
    (body,) = (node for node in source.body if isinstance(node, ast.ClassDef) and node.name == name)
    found = {n.arg: n.value for n in ast.walk(body) if isinstance(n, ast.keyword) and n.arg in ("classes", "palette")}
    return ast.literal_eval(found["classes"]), np.array(ast.literal_eval(found["palette"]), np.uint8)


def mapped(colours, palette):
    """The numbers that Pillow gives to colours, each a row of eight pixels."""
    image = Image.fromarray(np.repeat(colours[:, None], 8, axis=1))
    table = Image.new("P", (1, 1))
    table.putpalette(palette.ravel().tolist())
    return np.asarray(image.quantize(palette=table, dither=Image.Dither.NONE))[:, 0]


grey = np.repeat(np.arange(9, dtype=np.uint8)[:, None], 3, axis=1)
steps = mapped(grey, grey).tolist()
print(f"palette of the greys 0 to 8, these greys as numbers: {steps}")
wrong = {}
for file, name in (("cityscapes.py", "CityscapesDataset"), ("mapillary.py", "MapillaryDataset_v2")):
    classes, palette = listed(file, name)
    given = mapped(palette, palette)
    exact = np.array([np.flatnonzero((palette == colour).all(1))[0] for colour in palette])  # first of equal colours
    wrong[name] = np.flatnonzero((palette[given] != palette).any(1))
    alone = len(np.unique(palette, axis=0))
    print(f"{name}: {len(classes)} classes in {alone} colours, {len(wrong[name])} classes come back in another colour")
    print(f"  looked up exactly: {(palette[exact] != palette).any(1).sum()}")
for c in wrong["MapillaryDataset_v2"][:5]:
    print(f"  {classes[c]} {tuple(palette[c].tolist())} -> {classes[given[c]]} {tuple(palette[given[c]].tolist())}")
as_described = (
    steps == [0, 0, 0, 0, 4, 4, 4, 4, 8]
    and len(wrong["CityscapesDataset"]) == 0
    and len(wrong["MapillaryDataset_v2"]) == 26
)
print("as described" if as_described else "the behaviour has changed")
sys.exit(not as_described)
PYTHON
"$folder/venv/bin/python" -W ignore show.py
