"""Masks in the colours of a label map, as CVAT writes them, made into indexed PNGs.

In: RGB or palette PNGs, and the colour of each class. Out: PNGs with 0 background, i + 1 class i, 255 not scored. What
is made is named by the content of what it was made of, so that a changed mask is made anew.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from subcam.data.image_file import naming, open_image, read_file
from subcam.data.images import voc_palette, write_mask
from subcam.data.records import BACKGROUND, IGNORE_INDEX
from subcam.errors import BadInputError
from subcam.runtime.files import below
from subcam.runtime.run_folder import fingerprint

Colour = tuple[int, int, int]


def indexed_mask(path: Path, colours: Mapping[Colour, int], *, folder: Path, name: str) -> Path:
    """The indexed PNG of a mask in colours, made in `folder` unless it is there.

    Args:
        path: the mask.
        colours: the value of each colour; black is background and VOC's colour of 255 is not scored, if not named.
        folder: where made masks are kept.
        name: of the mask's record.

    Raises:
        BadInputError: not an image, or one with another colour; names it.
        RunFolderError: the disk is full or the folder cannot be written.
    """
    data = read_file(path)
    key = fingerprint("colours", sorted(colours.items()), hashlib.sha256(data).hexdigest())
    made = below(folder, f"{name}-{key[:16]}", ".png")
    if not made.is_file():
        write_mask(made, _indices(path, data, colours), palette=voc_palette(), durable=False)
    return made


def read_colours(path: Path, colours: Mapping[Colour, int]) -> UInt8[np.ndarray, "h w"]:
    """The values of a mask in colours; arguments and errors as `indexed_mask`."""
    return _indices(path, read_file(path), colours)


def _indices(path: Path, data: bytes, colours: Mapping[Colour, int]) -> UInt8[np.ndarray, "h w"]:
    palette = voc_palette()
    values = {tuple(palette[index].tolist()): index for index in (BACKGROUND, IGNORE_INDEX)} | dict(colours)
    with open_image(path, data=data) as image, naming(path):
        if image.format == "JPEG":
            raise BadInputError(
                f"{path}: expected a PNG, got a JPEG, whose compression changes colours; export it again"
            )
        pixels = np.asarray(image.convert("RGB")).astype(np.int64)
    codes, places = np.unique(pixels @ np.array([65536, 256, 1]), return_inverse=True)
    found = [(int(code) >> 16, int(code) >> 8 & 255, int(code) & 255) for code in codes]
    unknown = next((colour for colour in found if colour not in values), None)
    if unknown is not None:
        raise BadInputError(
            f"{path}: expected the colours of labelmap.txt, got {unknown}; add it there, or mend the mask"
        )
    table = np.array([values[colour] for colour in found], np.uint8)
    return table[places.reshape(pixels.shape[:2])]
