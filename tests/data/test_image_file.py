"""HEIF, as telephones write it: read where its package is installed, else named with what to install."""

import io
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from subcam.data.images import read_image
from subcam.data.inspection import inspect_image
from subcam.errors import BadInputError


def as_heif(colour: tuple[int, int, int], *, orientation: int = 1) -> bytes:
    """A 64 x 48 image of one colour."""
    heif = pytest.importorskip("pillow_heif")
    heif.register_heif_opener()
    image = Image.new("RGB", (64, 48), colour)
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = io.BytesIO()
    image.save(file, "HEIF", exif=exif, quality=90)
    return file.getvalue()


@pytest.mark.parametrize("name", ["a.heic", "a.HEIF", "a.jpg"])
def test_heif_is_read_by_what_it_holds(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(as_heif((200, 20, 40)))
    pixels = read_image(path)
    assert pixels.shape == (48, 64, 3)
    assert np.abs(pixels.astype(int) - (200, 20, 40)).max() < 12
    assert inspect_image(path).kind == "HEIF"


def test_heif_turns_itself_and_its_exif_does_not_turn_it_again(tmp_path: Path) -> None:
    (tmp_path / "a.heic").write_bytes(as_heif((200, 20, 40), orientation=6))
    facts = inspect_image(tmp_path / "a.heic")
    assert read_image(tmp_path / "a.heic").shape == (facts.height, facts.width, 3) == (48, 64, 3)
    assert facts.orientation == 1


def test_a_jpeg_that_is_called_heic_needs_no_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    Image.new("RGB", (8, 6)).save(tmp_path / "a.heic", "JPEG")
    assert read_image(tmp_path / "a.heic").shape == (6, 8, 3)


def test_without_the_package_the_error_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.heic").write_bytes(as_heif((0, 0, 0)))
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(BadInputError, match=r"a\.heic: .*got HEIF.*pip install pillow-heif"):
        read_image(tmp_path / "a.heic")


@pytest.mark.parametrize("end", [0, 16, 40, 200])
def test_a_cut_heif_is_one_error(tmp_path: Path, end: int) -> None:
    (tmp_path / "a.heic").write_bytes(as_heif((0, 0, 0))[:end])
    with pytest.raises(BadInputError, match=r"a\.heic: expected"):
        read_image(tmp_path / "a.heic")


@pytest.mark.parametrize(("kind", "suffix"), [("AVIF", ".avif"), ("JPEG2000", ".jpx"), ("JPEG", ".jfif")])
def test_kinds_of_few_programs_are_read(tmp_path: Path, kind: str, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    Image.new("RGB", (64, 48), (200, 20, 40)).save(path, kind)
    assert np.abs(read_image(path).astype(int) - (200, 20, 40)).max() < 12
