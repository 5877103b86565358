"""Images and masks of every kind that people have, against arrays worked out by hand and PNGs packed byte by byte."""

import io
import struct
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from subcam.data import image_file
from subcam.data.images import (
    open_image,
    read_image,
    read_indices,
    read_mask,
    upright_rgb,
    upright_size,
    voc_palette,
    write_mask,
)
from subcam.errors import BadInputError, RunFolderError

IDENTITY = tuple(range(256))


def pack_png(raw_rows: list[bytes], *, width: int, depth: int, colour: int, palette: bytes = b"") -> bytes:
    """A PNG written byte by byte, so that Pillow's writer cannot hide a misunderstanding of its reader."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, len(raw_rows), depth, colour, 0, 0, 0)
    pixels = zlib.compress(b"".join(b"\0" + row for row in raw_rows))
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + (chunk(b"PLTE", palette) if palette else b"")
        + chunk(b"IDAT", pixels)
        + chunk(b"IEND", b"")
    )


@pytest.fixture
def photograph() -> Image.Image:
    """A smooth image, 40 wide and 30 high, that survives JPEG nearly unchanged."""
    rows, columns = np.mgrid[0:30, 0:40]
    return Image.fromarray(np.stack([rows * 8, columns * 6, 240 - rows * 4 - columns * 2], -1).astype(np.uint8))


def save(image: Image.Image, path: Path, **options: Any) -> Path:
    image.save(path, **options)
    return path


def test_rgb_png_is_read_exactly(tmp_path: Path, photograph: Image.Image) -> None:
    np.testing.assert_array_equal(read_image(save(photograph, tmp_path / "a.png")), np.asarray(photograph))


@pytest.mark.parametrize("mode", ["L", "1", "LA", "P", "RGBA", "CMYK", "YCbCr"])
def test_other_kinds_become_rgb(tmp_path: Path, photograph: Image.Image, mode: str) -> None:
    image = photograph.convert(mode)
    path = tmp_path / ("a.tif" if mode in ("CMYK", "YCbCr") else "a.png")
    got = read_image(save(image, path))
    assert got.shape == (30, 40, 3)
    np.testing.assert_array_equal(got, np.asarray(image.convert("RGB")))


def test_cmyk_jpeg_keeps_its_colours(tmp_path: Path, photograph: Image.Image) -> None:
    path = save(photograph.convert("CMYK"), tmp_path / "a.jpg", quality=98)
    difference = np.abs(read_image(path).astype(int) - np.asarray(photograph).astype(int))
    assert difference.mean() < 3
    assert difference.max() < 16


def test_grey_jpeg_has_three_equal_channels(tmp_path: Path, photograph: Image.Image) -> None:
    got = read_image(save(photograph.convert("L"), tmp_path / "a.jpg"))
    np.testing.assert_array_equal(got[..., 0], got[..., 2])
    assert got.shape == (30, 40, 3)


def test_transparent_pixels_lie_on_white(tmp_path: Path) -> None:
    image = Image.fromarray(np.array([[[10, 20, 30, 255], [10, 20, 30, 0], [0, 0, 0, 128]]], np.uint8))
    got = read_image(save(image, tmp_path / "a.png"))
    np.testing.assert_array_equal(got[0, :2], [[10, 20, 30], [255, 255, 255]])
    assert got[0, 2, 0] == pytest.approx(127, abs=1)


def test_16_bit_grey_is_scaled_not_clipped(tmp_path: Path) -> None:
    stored = np.array([0, 128, 129, 257, 300, 32896, 65407, 65535], ">u2")
    path = tmp_path / "a.png"
    path.write_bytes(pack_png([stored.tobytes()], width=8, depth=16, colour=0))
    expected = np.floor(stored.astype(np.float64) / 257 + 0.5)
    np.testing.assert_array_equal(read_image(path)[0], np.repeat(expected[:, None], 3, axis=1))


def test_16_bit_colour_is_scaled_not_clipped(tmp_path: Path) -> None:
    stored = np.array([[0, 257, 65535], [300, 32896, 1000]], ">u2")
    path = tmp_path / "a.png"
    path.write_bytes(pack_png([stored.tobytes()], width=2, depth=16, colour=2))
    assert np.abs(read_image(path)[0] - stored / 257).max() <= 1


@pytest.mark.parametrize("mode", ["F", "I"])
def test_kinds_without_a_range_are_refused(tmp_path: Path, mode: str) -> None:
    path = save(Image.fromarray(np.full((3, 3), 1e6, np.float32)).convert(mode), tmp_path / "a.tif")
    with pytest.raises(BadInputError, match=r"a\.tif: expected 8 or 16 bits"):
        read_image(path)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path: Path, orientation: int) -> None:
    """The table of the EXIF standard: which visible edges the stored row 0 and column 0 are."""
    upright = np.arange(6, dtype=np.uint8).reshape(2, 3) * 40
    stored = {
        1: upright,  # row 0 = top, column 0 = left
        2: upright[:, ::-1],  # top, right
        3: upright[::-1, ::-1],  # bottom, right
        4: upright[::-1],  # bottom, left
        5: upright.T,  # left, top
        6: np.rot90(upright, 1),  # right, top
        7: upright[::-1, ::-1].T,  # right, bottom
        8: np.rot90(upright, -1),  # left, bottom
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = save(Image.fromarray(np.ascontiguousarray(stored)), tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(read_image(path)[..., 0], upright)
    with open_image(path, data=path.read_bytes()) as image:
        assert upright_size(image) == (2, 3)


@pytest.mark.parametrize(
    ("kind", "count", "value"),
    [
        (2, 2, b"6\0\0\0"),  # a text
        (2, 2, b"x\0\0\0"),
        (3, 1, b"\x09\0\0\0"),
        (3, 1, b"\0\0\0\0"),
        (4, 1, b"\xff\xff\xff\xff"),
        (5, 1, b"\x08\0\0\0"),  # a fraction
        (12, 1, b"\x08\0\0\0"),  # floating point
    ],
)
def test_an_orientation_that_is_none_is_passed_over_as_by_other_programs(
    tmp_path: Path, kind: int, count: int, value: bytes
) -> None:
    entry = struct.pack("<HHI", 0x0112, kind, count) + value
    exif = b"Exif\0\0II*\0" + struct.pack("<IH", 8, 1) + entry + bytes(4)
    Image.new("RGB", (12, 8)).save(tmp_path / "a.jpg", exif=exif)
    assert read_image(tmp_path / "a.jpg").shape == (8, 12, 3)


@pytest.mark.parametrize("orientation", [1, 6])
def test_large_jpegs_are_decoded_at_a_fraction(tmp_path: Path, photograph: Image.Image, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    large = photograph.resize((1600, 1200), Image.Resampling.BICUBIC)
    path = save(large, tmp_path / "a.jpg", quality=95, exif=exif)
    whole = read_image(path)
    with open_image(path, data=path.read_bytes()) as image:
        height, width = upright_size(image)
        reduced = upright_rgb(image, path, at_least=(height // 8, width // 8))
    assert (reduced.height, reduced.width) == (height // 4, width // 4)
    expected = np.asarray(Image.fromarray(whole).resize(reduced.size, Image.Resampling.BOX))
    assert np.abs(np.asarray(reduced).astype(int) - expected).mean() < 1.5


BAD_IMAGES = {
    "missing": (None, "no such file"),
    "empty": (b"", r"empty file \(0 bytes\)"),
    "text": (b"<!DOCTYPE html><html>404 not found</html>", "expected an image"),
    "cut_header": (b"\xff\xd8\xff\xe0\x00\x10JFIF", "expected a"),
}


@pytest.mark.parametrize("kind", BAD_IMAGES)
def test_bad_images_name_the_file(tmp_path: Path, kind: str) -> None:
    content, message = BAD_IMAGES[kind]
    path = tmp_path / f"{kind}.jpg"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(BadInputError, match=rf"{kind}\.jpg: .*{message}"):
        read_image(path)


@pytest.mark.parametrize("suffix", ["jpg", "png"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_truncated_images_name_the_file(tmp_path: Path, suffix: str, share: float) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    path = save(Image.fromarray(noise), tmp_path / f"cut.{suffix}")
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(BadInputError, match=rf"cut\.{suffix}: expected a whole image.*cannot be decoded"):
        read_image(path)


def test_a_folder_is_no_image(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="expected a file, got a folder"):
        read_image(tmp_path)


@pytest.mark.parametrize("side", [9_500, 60_000])
def test_decompression_bombs_are_not_decoded(tmp_path: Path, side: int) -> None:
    path = tmp_path / "bomb.png"
    png = bytearray(pack_png([b"\0"], width=1, depth=8, colour=0))
    png[16:24] = struct.pack(">II", side, side)
    png[29:33] = struct.pack(">I", zlib.crc32(png[12:29]))
    path.write_bytes(png)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        with pytest.raises(BadInputError, match=r"bomb\.png: expected at most \d+ pixels.*scale it down"):
            read_image(path)


def test_palette_is_voc_s_own(voc_animals: Path) -> None:
    """The palette stored in VOC's masks is the independent source."""
    with Image.open(next((voc_animals / "SegmentationClassAug").glob("*.png"))) as mask:
        stored = np.array(mask.getpalette()).reshape(-1, 3)
    np.testing.assert_array_equal(voc_palette()[: len(stored)], stored)


def test_palette_by_hand() -> None:
    palette = voc_palette()
    assert palette.shape == (256, 3)
    # aeroplane, bicycle, boat, cow, person and the border, from VOC's development kit
    for index, colour in (
        (1, (128, 0, 0)),
        (2, (0, 128, 0)),
        (4, (0, 0, 128)),
        (10, (64, 128, 0)),
        (15, (192, 128, 128)),
    ):
        assert tuple(palette[index]) == colour
    assert tuple(palette[255]) == (224, 224, 192)
    assert len(np.unique(palette, axis=0)) == 256


@pytest.fixture
def indices() -> np.ndarray:
    rng = np.random.default_rng(3)
    return rng.choice(np.array([0, 1, 2, 20, 255], np.uint8), (13, 17))


def test_masks_round_trip(tmp_path: Path, indices: np.ndarray) -> None:
    path = tmp_path / "below" / "mask.png"
    write_mask(path, indices, palette=voc_palette())
    np.testing.assert_array_equal(read_mask(path, IDENTITY, size=(13, 17)), indices)
    with Image.open(path) as image:
        assert image.mode == "P"
        np.testing.assert_array_equal(np.asarray(image.convert("RGB")), voc_palette()[indices])
    assert [file.name for file in path.parent.iterdir()] == ["mask.png"]


def test_write_mask_into_a_file_as_folder(tmp_path: Path, indices: np.ndarray) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(RunFolderError, match="cannot write"):
        write_mask(tmp_path / "file" / "mask.png", indices, palette=voc_palette())


def test_mask_values_are_mapped(tmp_path: Path) -> None:
    write_mask(tmp_path / "m.png", np.array([[0, 8, 12, 15, 255]], np.uint8), palette=voc_palette())
    mapping = [255] * 256
    mapping[0], mapping[8], mapping[15] = 0, 2, 1
    np.testing.assert_array_equal(read_mask(tmp_path / "m.png", tuple(mapping)), [[0, 2, 255, 1, 255]])


def test_grey_masks_are_indices(tmp_path: Path, indices: np.ndarray) -> None:
    path = save(Image.fromarray(indices), tmp_path / "m.png")
    np.testing.assert_array_equal(read_indices(path), indices)


@pytest.mark.parametrize(
    ("colour", "depth"), [*((0, depth) for depth in (1, 2, 4, 8, 16)), *((3, depth) for depth in (1, 2, 4, 8))]
)
def test_masks_of_any_bit_depth(tmp_path: Path, depth: int, colour: int) -> None:
    """Grey (colour 0) and palette (3) masks give what is stored, which Pillow alone does not do for small depths."""
    values = np.arange(16) % min(2**depth, 16)
    bits = "".join(f"{value:0{depth}b}" for value in values)
    row = int(bits, 2).to_bytes(len(bits) // 8, "big")
    palette = voc_palette()[: 2**depth].tobytes() if colour == 3 else b""
    (tmp_path / "m.png").write_bytes(pack_png([row], width=16, depth=depth, colour=colour, palette=palette))
    np.testing.assert_array_equal(read_indices(tmp_path / "m.png")[0], values)


def test_rgb_mask_in_voc_s_colours_is_read(tmp_path: Path, indices: np.ndarray) -> None:
    path = save(Image.fromarray(voc_palette()[indices]), tmp_path / "m.png")
    np.testing.assert_array_equal(read_indices(path), indices)
    opaque = np.dstack([voc_palette()[indices], np.full(indices.shape, 255, np.uint8)])
    np.testing.assert_array_equal(read_indices(save(Image.fromarray(opaque), tmp_path / "o.png")), indices)


def test_rgb_mask_in_other_colours_is_refused(tmp_path: Path) -> None:
    image = Image.fromarray(np.array([[[0, 0, 0], [1, 2, 3]]], np.uint8))
    with pytest.raises(BadInputError, match=r"RGB with the colour \(1, 2, 3\).*must be an indexed PNG"):
        read_indices(save(image, tmp_path / "m.png"))


def test_jpeg_mask_is_refused(tmp_path: Path, indices: np.ndarray) -> None:
    with pytest.raises(BadInputError, match="got a JPEG, whose compression changes the class indices"):
        read_indices(save(Image.fromarray(indices), tmp_path / "m.jpg"))


def test_mask_with_half_transparent_colours_is_refused(tmp_path: Path) -> None:
    image = Image.fromarray(np.array([[[0, 0, 0, 128]]], np.uint8))
    with pytest.raises(BadInputError, match=r"transparency.*must be an indexed PNG"):
        read_indices(save(image, tmp_path / "m.png"))


def test_16_bit_mask_with_large_values_is_refused(tmp_path: Path) -> None:
    row = np.array([0, 256], ">u2").tobytes()
    (tmp_path / "m.png").write_bytes(pack_png([row], width=2, depth=16, colour=0))
    with pytest.raises(BadInputError, match=r"class indices 0-255, got values 0 to 256"):
        read_indices(tmp_path / "m.png")


def test_mask_of_another_size_names_both(tmp_path: Path, indices: np.ndarray) -> None:
    write_mask(tmp_path / "m.png", indices, palette=voc_palette())
    with pytest.raises(BadInputError, match=r"m\.png: .* 20 x 10 pixels .*got 17 x 13; export"):
        read_mask(tmp_path / "m.png", IDENTITY, size=(10, 20))
    with pytest.raises(BadInputError, match=r"got 17 x 13 \(the sides are swapped: "):
        read_mask(tmp_path / "m.png", IDENTITY, size=(17, 13))


def test_mask_values_without_meaning_are_named(tmp_path: Path) -> None:
    write_mask(tmp_path / "m.png", np.array([[0, 1, 3, 7, 255]], np.uint8), palette=voc_palette())
    mapping = [-1] * 256
    mapping[0], mapping[1], mapping[2], mapping[255] = 0, 1, 2, 255
    with pytest.raises(BadInputError, match=r"1\.\.2 \(classes.*got 3, 7; renumber"):
        read_mask(tmp_path / "m.png", tuple(mapping))


def test_errors_from_the_caller_are_not_taken_for_bad_images(tmp_path: Path, photograph: Image.Image) -> None:
    buffer = io.BytesIO()
    photograph.save(buffer, "PNG")
    with pytest.raises(ZeroDivisionError), open_image(tmp_path / "a.png", data=buffer.getvalue()):
        _ = 1 / 0


def test_memory_that_runs_out_names_the_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of thousands, the large one is to be found."""
    path = tmp_path / "large.png"
    Image.new("RGB", (8, 8)).save(path)

    def too_large(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", too_large)
    with pytest.raises(MemoryError, match=r"while .*large\.png was decoded"):
        read_image(path)


def test_too_many_open_files_is_not_the_image_s_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"x")

    def refuse(self: Path) -> bytes:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(image_file, "read_bytes", refuse)
    with pytest.raises(OSError, match="Too many open files"):
        read_image(path)
