"""Images and masks as arrays: upright 8-bit RGB, and class indices from indexed PNGs.

In: a path, and for masks what each stored value means. Out: UInt8 arrays. Every file that cannot be used ends in one
`BadInputError` that names it.
"""

import struct
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from subcam.checks.arguments import takes_arrays
from subcam.data.image_file import kind_of, naming, open_image, read_file
from subcam.data.indexed_png import quick_values
from subcam.data.records import FORBIDDEN
from subcam.errors import BadInputError
from subcam.runtime.files import atomic_write

_ORIGIN = "Origin"
"""A mask's PNG text that says what it was made from."""

_ORIENTATION_TAG = 0x0112
_MAKE_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
SWAPS_SIDES = frozenset({5, 6, 7, 8})
"""EXIF orientations by which height and width are exchanged."""

_REDUCTION_GAP = 2
"""JPEG's own down-scaling may be used while at least this many of its pixels remain for each pixel wanted, a side."""


@takes_arrays()
def read_image(path: Path | str, *, data: bytes | None = None) -> UInt8[np.ndarray, "h w 3"]:
    """Read an image as upright 8-bit RGB, 0-255; from `data`, where its file was read already.

    The EXIF orientation is applied. Grey, palette, CMYK and YCCK images become RGB; see-through pixels are laid on
    white; 16-bit grey values are divided by 257 and rounded, 16-bit colour keeps its upper byte. Of several frames
    the first is read. Colour profiles are not applied.

    Raises:
        BadInputError: the file is missing, empty, truncated, not an image, too large or of an unknown kind.
    """
    path = Path(path)
    with open_image(path, data=read_file(path) if data is None else data) as image, naming(path):
        return np.array(upright_rgb(image, path))


def upright_size(image: Image.Image) -> tuple[int, int]:
    """Height and width of an opened image after its EXIF orientation is applied; does not decode a JPEG."""
    sides = (image.height, image.width)
    return sides[::-1] if orientation_of(image) in SWAPS_SIDES else sides


def upright_rgb(image: Image.Image, path: Path, *, at_least: tuple[int, int] | None = None) -> Image.Image:
    """Decode an opened image to upright 8-bit RGB, as `read_image` does.

    at_least: a height and width that are enough. A JPEG that is more than twice as large is then decoded at a half,
        a quarter or an eighth of its size, which is several times faster; the result is never below twice `at_least`.

    Raises:
        BadInputError: the pixels are truncated or damaged, or of a kind that has no meaning as colours.
    """
    with naming(path):
        orientation = orientation_of(image)
        if at_least is not None:
            height, width = at_least[::-1] if orientation in SWAPS_SIDES else at_least
            image.draft(None, (width * _REDUCTION_GAP, height * _REDUCTION_GAP))
        rgb = _as_rgb(image, path)
        return rgb.transpose(_MAKE_UPRIGHT[orientation]) if orientation in _MAKE_UPRIGHT else rgb


def decodes_reduced(size: tuple[int, int], at_least: tuple[int, int]) -> bool:
    """Whether `upright_rgb` would decode a JPEG of this upright (height, width) at a half of it or less."""
    return all(side // (_REDUCTION_GAP * least) >= 2 for side, least in zip(size, at_least, strict=True))


def read_indices(path: Path, *, data: bytes | None = None, beside_list: bool = False) -> UInt8[np.ndarray, "h w"]:
    """Read the stored values of a mask, 0-255, without giving them a meaning.

    Palette PNGs give their indices and grey ones their stored values, at any bit depth. Colour is read only where it
    is exactly PASCAL VOC's colour map. An EXIF orientation is not applied.

    beside_list: whether other colours could be said in a `labelmap.txt`, which the error then names.

    Raises:
        BadInputError: not an indexed mask (colour outside VOC's map, JPEG, half-transparent), or a damaged file.
    """
    data = read_file(path) if data is None else data
    values = quick_values(data)
    if values is not None:
        return values
    with open_image(path, data=data) as image, naming(path):
        if kind_of(image) == "JPEG":
            raise BadInputError(
                f"{path}: expected an indexed PNG, got a JPEG, whose compression changes the class indices; "
                "export the mask again as PNG"
            )
        image.load()
        if image.mode in ("P", "L", "1"):
            values = np.asarray(image).astype(np.uint8)
            # Pillow stretches grey of 2 and 4 bits to 0..255, palettes and single bits it leaves as they are
            return values // _grey_stretch(data) if image.mode == "L" else values
        if image.mode.startswith("I"):
            wide = np.asarray(image)
            if wide.min() < 0 or wide.max() > 255:
                raise BadInputError(
                    f"{path}: expected class indices 0-255, got values {wide.min()} to {wide.max()} in a 16-bit mask; "
                    "save it as an 8-bit indexed PNG"
                )
            return wide.astype(np.uint8)
        return _indices_of_voc_colours(image, path, beside_list=beside_list)


def read_mask(
    path: Path | str, mask_values: tuple[int, ...], *, size: tuple[int, int] | None = None, turn: int = 1
) -> UInt8[np.ndarray, "h w"]:
    """Read a mask as class indices: 0 background, 1..C classes, 255 not scored.

    mask_values: 256 entries, what each stored value means (`ImageSet.mask_values`).
    size: height and width the mask must have, those of its upright image.
    turn: the EXIF orientation by which it is turned first (`Record.mask_turn`).

    Raises:
        BadInputError: see `read_indices`; also a mask of another size, or with a value that has no meaning.
    """
    path = Path(path)
    indices = turned(read_indices(path), turn)
    check_mask_size(path, indices.shape, size)
    meanings = np.asarray(mask_values, np.int16)[indices]
    if (meanings == FORBIDDEN).any():
        check_mask_values(path, np.unique(indices).tolist(), mask_values)
    return meanings.astype(np.uint8)


def turned(indices: UInt8[np.ndarray, "h w"], turn: int) -> UInt8[np.ndarray, "upright_h upright_w"]:
    """A mask that was drawn on the stored pixels of an image of EXIF orientation `turn`, for the upright image."""
    return np.asarray(Image.fromarray(indices).transpose(_MAKE_UPRIGHT[turn])) if turn in _MAKE_UPRIGHT else indices


def check_mask_size(path: Path, got: tuple[int, ...], expected: tuple[int, int] | None) -> None:
    """Raise `BadInputError` unless the mask's (height, width) is the expected one; None expects nothing."""
    if expected is None or tuple(got) == tuple(expected):
        return
    turned = (
        " (the sides are swapped: it may lie on an image that is turned in another way)"
        if tuple(got) == tuple(expected)[::-1]
        else ""
    )
    raise BadInputError(
        f"{path}: expected a mask as large as its image, {expected[1]} x {expected[0]} pixels (width x height), "
        f"got {got[1]} x {got[0]}{turned}; export the mask again at the image's size, without smoothing"
    )


def check_mask_values(path: Path, present: list[int], mask_values: tuple[int, ...]) -> None:
    """Raise `BadInputError` if a stored value that occurs in the mask has no meaning in `mask_values`."""
    unknown = [value for value in present if mask_values[value] == FORBIDDEN]
    if unknown:
        allowed = [value for value, meaning in enumerate(mask_values) if meaning != FORBIDDEN]
        raise BadInputError(
            f"{path}: expected the values 0 (background), 1..{sum(1 for v in allowed if 0 < v < 255)} (classes, in "
            f"their order) and 255 (not scored), got {', '.join(map(str, unknown[:8]))}; "
            "renumber the mask or name the missing classes"
        )


def write_mask(
    path: Path | str,
    indices: UInt8[np.ndarray, "h w"],
    *,
    palette: UInt8[np.ndarray, "256 3"],
    durable: bool = True,
    origin: str = "",
) -> None:
    """Write class indices as an indexed PNG, atomically.

    Args:
        path: where to.
        indices: the class of each pixel.
        palette: the RGB colour shown for each index.
        durable: whether to wait for the disk (`atomic_write`).
        origin: what it was made from, as a text in the file, which `read_origin` gives back; "" for none.

    Raises:
        RunFolderError: the disk is full or the folder cannot be written.
    """
    from PIL.PngImagePlugin import PngInfo  # who only reads masks needs none of it

    image = Image.fromarray(np.ascontiguousarray(indices))
    image.putpalette(palette.tobytes())
    texts = PngInfo()
    if origin:
        texts.add_text(_ORIGIN, origin)
    with atomic_write(Path(path), "wb", durable=durable) as file:
        image.save(file, format="PNG", pnginfo=texts)


def read_origin(path: Path) -> str:
    """What a mask says that it was made from; "" where it says nothing or cannot be read."""
    try:
        with open_image(path, data=read_file(path)) as image:
            origin = image.info.get(_ORIGIN, "")
    except BadInputError:
        return ""
    return origin if isinstance(origin, str) else ""


def voc_palette() -> UInt8[np.ndarray, "256 3"]:
    """PASCAL VOC's colour map: the bits of an index, three at a time, fill R, G and B from the highest bit down."""
    index = np.arange(256)
    colours = np.zeros((256, 3), np.int64)
    for place in range(8):
        for channel in range(3):
            colours[:, channel] |= ((index >> (3 * place + channel)) & 1) << (7 - place)
    return colours.astype(np.uint8)


def orientation_of(image: Image.Image) -> int:
    """The EXIF orientation of an opened image; 1 (upright) where it has none, or one that is no number in 1..8."""
    value = image.getexif().get(_ORIENTATION_TAG, 1)
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _as_rgb(image: Image.Image, path: Path) -> Image.Image:
    image.load()
    if image.mode == "RGB":
        return image
    if image.mode.startswith("I"):
        wide = np.asarray(image).astype(np.int64)
        if wide.min() < 0 or wide.max() > 65535:
            raise BadInputError(
                f"{path}: expected 8 or 16 bits a channel, got 32-bit values {wide.min()} to {wide.max()}; "
                "save it as an 8-bit PNG or JPEG"
            )
        return Image.fromarray(((wide + 128) // 257).astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        raise BadInputError(f"{path}: expected 8 or 16 bits a channel, got floating point; save it as an 8-bit PNG")
    if "A" in image.mode.upper() or (image.mode == "P" and "transparency" in image.info):
        seen = image.convert("RGBA")
        paper = Image.new("RGB", seen.size, (255, 255, 255))
        paper.paste(seen, mask=seen.getchannel("A"))
        return paper
    return image.convert("RGB")


def _grey_stretch(data: bytes) -> int:
    """By how much Pillow multiplied the stored grey values: 255 / (2**depth - 1) for PNGs of 2 and 4 bits."""
    if data[:8] != b"\x89PNG\r\n\x1a\n":
        return 1
    (depth,) = struct.unpack_from("B", data, 24)
    return 255 // (2**depth - 1) if depth in (2, 4) else 1


def _indices_of_voc_colours(image: Image.Image, path: Path, *, beside_list: bool) -> UInt8[np.ndarray, "h w"]:
    advice = "it must be an indexed PNG (palette or grey) whose values are class indices; export it again as such"
    if image.mode not in ("RGB", "RGBA"):
        raise BadInputError(f"{path}: expected a mask, got an image of kind {image.mode}; {advice}")
    pixels = np.asarray(image).astype(np.int64)
    if image.mode == "RGBA" and (pixels[..., 3] != 255).any():
        raise BadInputError(f"{path}: expected a mask, got colours with transparency; {advice}")
    codes = pixels[..., :3] @ np.array([65536, 256, 1])
    palette = voc_palette().astype(np.int64) @ np.array([65536, 256, 1])
    order = np.argsort(palette)
    place = np.searchsorted(palette[order], codes).clip(max=255)
    if (palette[order][place] != codes).any():
        wrong = int(codes[palette[order][place] != codes][0])
        say_colours = (
            ", or say the colours in a labelmap.txt beside the masks "
            f"(a line a class: NAME:{wrong >> 16},{wrong >> 8 & 255},{wrong & 255}::)"
        )
        raise BadInputError(
            f"{path}: expected a mask, got RGB with the colour ({wrong >> 16}, {wrong >> 8 & 255}, {wrong & 255}), "
            f"which is not in PASCAL VOC's colour map; {advice}{say_colours * beside_list}"
        )
    return order[place].astype(np.uint8)
