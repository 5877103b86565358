from pathlib import Path

import pytest
from PIL import Image

from subcam.errors import BadInputError
from subcam.export.images import find_images


def test_names_below_the_folder_and_sizes(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    Image.new("RGB", (6, 4)).save(tmp_path / "sub" / "a.JPG", format="JPEG")
    Image.new("RGB", (6, 4)).save(tmp_path / "b.c.png")
    images = find_images(["sub/a", "b.c"], tmp_path)
    assert images.file_name("sub/a") == "sub/a.JPG"
    assert images.file_name("b.c") == "b.c.png"
    images.check_size("sub/a", tmp_path / "mask.png", (4, 6))
    with pytest.raises(BadInputError, match=r"mask\.png: expected a mask as large as its image, 6 x 4 pixels"):
        images.check_size("sub/a", tmp_path / "mask.png", (6, 4))


def test_sizes_are_those_of_the_upright_image(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (6, 4)).save(tmp_path / "a.jpg", exif=exif)
    find_images(["a"], tmp_path).check_size("a", tmp_path / "mask.png", (6, 4))


def test_without_a_folder_nothing_is_looked_at(tmp_path: Path) -> None:
    images = find_images(["sub/a"], None)
    assert images.file_name("sub/a") == "sub/a.jpg"
    images.check_size("sub/a", tmp_path / "mask.png", (1, 2))


def test_no_image_or_two(tmp_path: Path) -> None:
    for name in ("a.jpg", "a.png", "b.jpg"):
        Image.new("RGB", (2, 2)).save(tmp_path / name)
    said = r"for each of 3 masks, got none for 1, such as c and several for 1, such as a\.jpg, a\.png; give the folder"
    with pytest.raises(BadInputError, match=said):
        find_images(["a", "b", "c"], tmp_path)
    with pytest.raises(BadInputError, match="expected a folder of images, got none"):
        find_images(["a"], tmp_path / "nowhere")


def test_images_lie_anywhere_below_the_folder_but_among_masks(tmp_path: Path) -> None:
    for name in ("images/a.jpg", "masks/a.png", "images/spring/b.jpg", "b.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (2, 2)).save(tmp_path / name)
    found = find_images(["a", "b", "masks/a", "spring/b"], tmp_path)
    assert found.files == {
        "a": "images/a.jpg",
        "b": "b.png",
        "masks/a": "masks/a.png",
        "spring/b": "images/spring/b.jpg",
    }
    Image.new("RGB", (2, 2)).save(tmp_path / "images" / "spring" / "a.jpg")
    with pytest.raises(BadInputError, match=r"several for 1, such as images/a\.jpg, images/spring/a\.jpg"):
        find_images(["a"], tmp_path)
