from pathlib import Path

import pytest
from PIL import Image

from subcam.errors import BadInputError
from subcam.export.images import find_pictures


def test_names_below_the_folder_and_sizes(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    Image.new("RGB", (6, 4)).save(tmp_path / "sub" / "a.JPG", format="JPEG")
    Image.new("RGB", (6, 4)).save(tmp_path / "b.c.png")
    pictures = find_pictures(["sub/a", "b.c"], tmp_path)
    assert pictures.file_name("sub/a") == "sub/a.JPG"
    assert pictures.file_name("b.c") == "b.c.png"
    pictures.check_size("sub/a", tmp_path / "mask.png", (4, 6))
    with pytest.raises(BadInputError, match=r"mask\.png: expected a mask as large as its picture, 6 x 4 pixels"):
        pictures.check_size("sub/a", tmp_path / "mask.png", (6, 4))


def test_sizes_are_those_of_the_upright_picture(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (6, 4)).save(tmp_path / "a.jpg", exif=exif)
    find_pictures(["a"], tmp_path).check_size("a", tmp_path / "mask.png", (6, 4))


def test_without_a_folder_nothing_is_looked_at(tmp_path: Path) -> None:
    pictures = find_pictures(["sub/a"], None)
    assert pictures.file_name("sub/a") == "sub/a.jpg"
    pictures.check_size("sub/a", tmp_path / "mask.png", (1, 2))


def test_no_picture_or_two(tmp_path: Path) -> None:
    for name in ("a.jpg", "a.png", "b.jpg"):
        Image.new("RGB", (2, 2)).save(tmp_path / name)
    with pytest.raises(BadInputError, match="one picture for each of 3 masks, got none or several for 2: a, c"):
        find_pictures(["a", "b", "c"], tmp_path)
    with pytest.raises(BadInputError, match="expected a folder of pictures, got none"):
        find_pictures(["a"], tmp_path / "nowhere")
