"""Masks in the colours of a label map, as CVAT writes them, made into indexed PNGs.

In: RGB or palette PNGs, and the colour of each class. Out: PNGs with 0 background, i + 1 class i, 255 not scored. What
is made is named by the content of what it was made of, so that a changed mask is made anew.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from subcam.data.image_file import naming, open_image, read_file
from subcam.data.images import read_indices, voc_palette, write_mask
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


def read_stored(path: Path, colours: Mapping[Colour, int]) -> UInt8[np.ndarray, "h w"]:
    """The values of a mask of a folder whose list of classes may say colours.

    An indexed or grey mask holds the values themselves, unless its palette has the colours of the list, whose values
    then count. A mask in RGB is in the colours of the list, or in PASCAL VOC's where it says none.

    Args:
        path: the mask.
        colours: as in `indexed_mask`; empty where no list says any.

    Raises:
        BadInputError: as `read_indices` and `indexed_mask`.
    """
    data = read_file(path)
    if colours:
        with open_image(path, data=data) as image, naming(path):
            by_colour = image.mode in ("RGB", "RGBA") or (
                image.mode == "P" and set(_found(np.unique(_coded(image)))) <= _values(colours).keys()
            )
        if by_colour:
            return _indices(path, data, colours)
    return read_indices(path, data=data, beside_list=True)


def _values(colours: Mapping[Colour, int]) -> dict[Colour, int]:
    """The value of each colour that may occur."""
    palette = voc_palette()
    return {_colour(palette[index]): index for index in (BACKGROUND, IGNORE_INDEX)} | dict(colours)


def _colour(rgb: UInt8[np.ndarray, "3"]) -> Colour:
    red, green, blue = rgb.tolist()
    return red, green, blue


def _found(codes: np.ndarray) -> list[Colour]:
    return [(int(code) >> 16, int(code) >> 8 & 255, int(code) & 255) for code in codes]


def _coded(image: Image.Image) -> np.ndarray:
    return np.asarray(image.convert("RGB")).astype(np.int64) @ np.array([65536, 256, 1])


def _indices(path: Path, data: bytes, colours: Mapping[Colour, int]) -> UInt8[np.ndarray, "h w"]:
    values = _values(colours)
    with open_image(path, data=data) as image, naming(path):
        if image.format == "JPEG":
            raise BadInputError(
                f"{path}: expected a PNG, got a JPEG, whose compression changes colours; export it again"
            )
        if image.mode == "RGBA" and (np.asarray(image)[..., 3] != 255).any():
            raise BadInputError(f"{path}: expected a mask, got colours with transparency; export it without")
        coded = _coded(image)
    codes, places = np.unique(coded, return_inverse=True)
    unknown = next((colour for colour in _found(codes) if colour not in values), None)
    if unknown is not None:
        raise BadInputError(
            f"{path}: expected the colours of the list of classes, got {unknown}; add it there (in labelmap.txt a line"
            f" NAME:{','.join(map(str, unknown))}::), or mend the mask"
        )
    table = np.array([values[colour] for colour in _found(codes)], np.uint8)
    return table[places.reshape(coded.shape)]
