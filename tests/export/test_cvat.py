"""CVAT files parsed back: XML with the standard library, archives with zipfile and Pillow."""

import io
import zipfile
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage
from tests.export.made_masks import NAMES, SIZES, write_made
from tests.export.test_regions import covered

from subcam.data.images import voc_palette, write_mask
from subcam.errors import BadInputError
from subcam.export.cvat import class_colours, export_cvat_images, export_cvat_masks
from subcam.export.images import find_images
from subcam.export.mask_folder import open_masks


@pytest.fixture
def made(tmp_path: Path) -> dict[str, np.ndarray]:
    return write_made(tmp_path)


def export(tmp_path: Path, **given) -> ElementTree.Element:
    masks = open_masks(tmp_path)
    images = find_images(masks.files, tmp_path / "images")
    path = export_cvat_images(masks, tmp_path / "out" / "annotations.xml", images=images, **given)
    return ElementTree.parse(path).getroot()


def mask_of(element: ElementTree.Element, size: tuple[int, int]) -> np.ndarray:
    """A <mask> by its documented fields: runs row by row inside the box, outside first."""
    left, top, width, height = (int(element.get(key)) for key in ("left", "top", "width", "height"))
    flat: list[bool] = []
    for index, run in enumerate(element.get("rle").split(", ")):
        flat += [bool(index % 2)] * int(run)
    found = np.zeros(size, bool)
    found[top : top + height, left : left + width] = np.array(flat).reshape(height, width)
    return found


def test_the_decoder_reads_the_documents_own_example() -> None:
    rle = "3, 5, 7, 7, 5, 9, 3, 11, 2, 11, 2, 12, 1, 12, 1, 26, 1, 12, 1, 12, 2, 11, 3, 9, 5, 7, 7, 5, 3"
    element = ElementTree.Element("mask", rle=rle, left="1", top="2", width="13", height="15")
    rows = mask_of(element, (20, 20))[2:17, 1:14]
    assert rows[0].tolist() == [False] * 3 + [True] * 5 + [False] * 5
    assert rows[7].all()


@pytest.mark.parametrize("pieces", [False, True])
def test_masks_give_the_label_maps_back(tmp_path: Path, made, pieces: bool) -> None:
    root = export(tmp_path, pieces=pieces, task="a <task> & more")
    assert root.findtext("version") == "1.1"
    task = root.find("meta/task")
    assert (task.findtext("name"), task.findtext("size"), task.findtext("mode")) == (
        "a <task> & more",
        "3",
        "annotation",
    )
    assert [label.findtext("name") for label in task.iterfind("labels/label")] == list(NAMES)
    assert {label.findtext("type") for label in task.iterfind("labels/label")} == {"mask"}
    images = root.findall("image")
    assert [(image.get("id"), image.get("name")) for image in images] == [
        (str(index), f"{name}.jpg") for index, name in enumerate(SIZES)
    ]
    for image in images:
        labels = made[image.get("name").removesuffix(".jpg")]
        assert (int(image.get("height")), int(image.get("width"))) == labels.shape
        back = np.zeros_like(labels)
        for element in image:
            assert element.tag == "mask"
            assert element.get("source") == "auto"
            inside = mask_of(element, labels.shape)
            assert not pieces or ndimage.label(inside)[1] == 1
            back[inside] = NAMES.index(element.get("label")) + 1
        assert (back == np.where(labels == 255, 0, labels)).all()


def test_polygons_cover_the_pieces(tmp_path: Path, made) -> None:
    for image in export(tmp_path, shape="polygon", tolerance=0.0).iterfind("image"):
        labels = made[image.get("name").removesuffix(".jpg")]
        filled = np.zeros((4, *labels.shape), bool)
        for element in image:
            assert element.tag == "polygon"
            ring = np.array([point.split(",") for point in element.get("points").split(";")], float)
            filled[NAMES.index(element.get("label")) + 1] |= covered(ring, labels.shape)
        for value in (1, 2, 3):
            numbered, count = ndimage.label(labels == value)
            pieces = [ndimage.binary_fill_holes(numbered == index + 1) for index in range(count)]
            assert (filled[value] == np.any(pieces, axis=0)).all()


def test_images_are_counted_in_the_order_of_their_names(tmp_path: Path, made) -> None:
    masks = open_masks(tmp_path).only(list(reversed(SIZES)))
    path = export_cvat_images(masks, tmp_path / "a.xml", images=find_images(masks.files, None))
    found = [(image.get("id"), image.get("name")) for image in ElementTree.parse(path).getroot().iterfind("image")]
    assert found == [(str(2 - index), f"{name}.jpg") for index, name in enumerate(reversed(SIZES))]


def test_the_archive_of_masks(tmp_path: Path, made) -> None:
    masks = open_masks(tmp_path)
    images = find_images(masks.files, tmp_path / "images")
    path = export_cvat_masks(masks, tmp_path / "a.zip", images=images)
    assert export_cvat_masks(masks, tmp_path / "b.zip", images=images).read_bytes() == path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        content = {name: archive.read(name) for name in archive.namelist()}
    assert content.pop("ImageSets/Segmentation/default.txt").decode().split() == list(SIZES)
    lines = [line for line in content.pop("labelmap.txt").decode().splitlines() if not line.startswith("#")]
    colours = {tuple(map(int, line.split(":")[1].split(","))): line.split(":")[0] for line in lines}
    assert list(colours.values()) == ["background", *NAMES]
    assert set(content) == {f"Segmentation{kind}/{name}.png" for kind in ("Class", "Object") for name in SIZES}
    for name, labels in made.items():
        classes, objects = (
            np.asarray(Image.open(io.BytesIO(content[f"Segmentation{kind}/{name}.png"])))
            for kind in ("Class", "Object")
        )
        for colour, label in colours.items():
            expected = np.isin(labels, (0, 255)) if label == "background" else labels == NAMES.index(label) + 1
            assert ((classes == colour).all(2) == expected).all()
        numbers = objects.astype(int) @ [1, 256, 65536]
        assert ((numbers == 0) == np.isin(labels, (0, 255))).all()
        pieces = sum(ndimage.label(labels == value)[1] for value in (1, 2, 3))
        assert len(np.unique(numbers)) == pieces + 1


def test_more_pieces_than_the_archive_can_number(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """CVAT knows the 256 colours of VOC's map: the smallest pieces of a class are one object, and that is said."""
    labels = np.zeros((40, 60), np.uint8)
    labels[::2, ::2] = 1  # 600 single pixels
    labels[::2, 30::2] = 2
    labels[4:10, 4:10] = 1  # and a piece of 36
    write_mask(tmp_path / "masks" / "a.png", labels, palette=voc_palette())
    masks = open_masks(tmp_path, class_names=("cat", "dog"))
    path = export_cvat_masks(masks, tmp_path / "a.zip", images=find_images(masks.files, None))
    with zipfile.ZipFile(path) as archive:
        classes, objects = (
            np.asarray(Image.open(io.BytesIO(archive.read(f"Segmentation{kind}/a.png"))))
            for kind in ("Class", "Object")
        )
    assert (classes == voc_palette()[labels]).all()  # no pixel is lost
    known = voc_palette().tolist()
    numbers = np.array([known.index(colour) for colour in objects.reshape(-1, 3).tolist()]).reshape(labels.shape)
    assert numbers.max() == 254
    for number in range(1, 255):
        assert len(np.unique(labels[numbers == number])) == 1
    big = numbers[6, 6]
    assert ((numbers == big).sum() >= 36, ndimage.label(numbers == big)[1]) == (True, 1)
    assert "1 images have more than 254 pieces, which this format cannot number" in caplog.text


def test_colours_of_classes_and_of_many_objects() -> None:
    assert (class_colours(np.arange(256)[None])[0] == voc_palette()).all()
    many = class_colours(np.arange(5000)[None])[0]
    assert len(np.unique(many, axis=0)) == 5000


def test_a_name_that_the_label_map_cannot_hold(tmp_path: Path, made) -> None:
    masks = open_masks(tmp_path, class_names=("a", "b:c", "d"))
    with pytest.raises(BadInputError, match="no class name with ':', got 'b:c'"):
        export_cvat_masks(masks, tmp_path / "a.zip", images=find_images(masks.files, None))
