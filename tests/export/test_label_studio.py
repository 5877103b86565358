"""Label Studio tasks by their documented fields, and brush masks read back by a decoder that reads bit by bit."""

import json
from pathlib import Path
from urllib.parse import unquote
from xml.etree import ElementTree

import jsonschema
import numpy as np
import pytest
from scipy import ndimage
from tests.export.made_masks import NAMES, SIZES, made_labels, write_made
from tests.export.test_regions import covered

from subcam.data.labels.brush_code import brush_rle
from subcam.export.images import find_images
from subcam.export.label_studio import LOCAL_FILES, export_label_studio
from subcam.export.mask_folder import open_masks


def result_schema(kind: str, value: dict) -> dict:
    """One entry of `predictions[].result` as labelstud.io/guide/predictions and the pages of the two tags have it."""
    integer = {"type": "integer", "minimum": 1}
    labels = {"type": "array", "items": {"enum": list(NAMES)}, "minItems": 1, "maxItems": 1}
    return {
        "type": "object",
        "required": [
            "id",
            "type",
            "from_name",
            "to_name",
            "original_width",
            "original_height",
            "image_rotation",
            "value",
        ],
        "properties": {
            "id": {"type": "string", "minLength": 1},
            "type": {"const": kind},
            "from_name": {"type": "string"},
            "to_name": {"type": "string"},
            "original_width": integer,
            "original_height": integer,
            "image_rotation": {"const": 0},
            "value": {"type": "object", "required": [*value, kind], "properties": {**value, kind: labels}},
        },
    }


BRUSH = {
    "format": {"const": "rle"},
    "rle": {"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 255}, "minItems": 8},
}
PERCENT = {"type": "number", "minimum": 0, "maximum": 100}
POLYGON = {
    "points": {
        "type": "array",
        "minItems": 3,
        "items": {"type": "array", "items": PERCENT, "minItems": 2, "maxItems": 2},
    },
    "closed": {"const": True},
}


def tasks_schema(result: dict) -> dict:
    prediction = {
        "type": "object",
        "required": ["model_version", "result"],
        "properties": {"model_version": {"type": "string"}, "result": {"type": "array", "items": result}},
    }
    task = {
        "type": "object",
        "required": ["data", "predictions"],
        "properties": {
            "data": {"type": "object", "required": ["image"], "properties": {"image": {"type": "string"}}},
            "predictions": {"type": "array", "items": prediction, "minItems": 1, "maxItems": 1},
        },
    }
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "type": "array", "items": task}


def decode(rle: list[int], size: tuple[int, int]) -> np.ndarray:
    """Read rle-pack's bits as its own decoder does: also single values, which our encoder never writes."""
    bits = "".join(f"{byte:08b}" for byte in rle)
    place = 0

    def read(count: int) -> int:
        nonlocal place
        place += count
        assert place <= len(bits)
        return int(bits[place - count : place], 2)

    number, word = read(32), read(5) + 1
    sizes = [read(4) + 1 for _ in range(4)]
    values: list[int] = []
    while len(values) < number:
        is_run = read(1)
        length = read(sizes[read(2)]) + 1
        values += [read(word)] * length if is_run else [read(word) for _ in range(length)]
    assert len(values) == number == 4 * size[0] * size[1]
    assert bits[place:] in "0" * 7, "nothing but the filling of the last byte is left"
    colours = np.array(values).reshape(*size, 4)
    assert (colours == colours[..., :1]).all(), "all four channels say the same"
    assert set(np.unique(colours)) <= {0, 255}
    return colours[..., 0] > 0


@pytest.fixture
def made(tmp_path: Path) -> dict[str, np.ndarray]:
    return write_made(tmp_path)


def export(tmp_path: Path, **given) -> tuple[list[dict], ElementTree.Element]:
    masks = open_masks(tmp_path)
    images = find_images(masks.files, tmp_path / "images")
    tasks, interface = export_label_studio(masks, tmp_path / "out", images=images, **given)
    return json.loads(tasks.read_text()), ElementTree.parse(interface).getroot()


def name_of(task: dict) -> str:
    return Path(unquote(task["data"]["image"]).removeprefix(LOCAL_FILES)).stem


@pytest.mark.parametrize("pieces", [False, True])
def test_brush_masks_follow_the_documents_and_give_the_masks_back(tmp_path: Path, made, pieces: bool) -> None:
    tasks, _ = export(tmp_path, pieces=pieces, model_version="mine 3", url_prefix="https://host/p/")
    jsonschema.validate(tasks, tasks_schema(result_schema("brushlabels", BRUSH)))
    assert [task["data"]["image"] for task in tasks] == [f"https://host/p/{name}.jpg" for name in SIZES]
    for task in tasks:
        labels = made[name_of(task)]
        back = np.zeros_like(labels)
        (prediction,) = task["predictions"]
        assert prediction["model_version"] == "mine 3"
        results = prediction["result"]
        assert len({result["id"] for result in results}) == len(results)
        for result in results:
            assert (result["original_height"], result["original_width"]) == labels.shape
            inside = decode(result["value"]["rle"], labels.shape)
            assert not pieces or ndimage.label(inside)[1] == 1
            back[inside] = NAMES.index(result["value"]["brushlabels"][0]) + 1
        assert (back == np.where(labels == 255, 0, labels)).all()


def test_polygons_follow_the_documents_and_cover_the_pieces(tmp_path: Path, made) -> None:
    tasks, _ = export(tmp_path, shape="polygon", tolerance=0.0)
    jsonschema.validate(tasks, tasks_schema(result_schema("polygonlabels", POLYGON)))
    for task in tasks:
        labels = made[name_of(task)]
        results = task["predictions"][0]["result"]
        back = {name: np.zeros(labels.shape, bool) for name in NAMES}
        for result in results:
            ring = np.array(result["value"]["points"]) * [labels.shape[1] / 100, labels.shape[0] / 100]
            back[result["value"]["polygonlabels"][0]] |= covered(ring, labels.shape)
        pieces = [ndimage.label(labels == value) for value in (1, 2, 3)]
        assert len(results) == sum(count for _, count in pieces)
        for name, (numbered, count) in zip(NAMES, pieces, strict=True):
            filled = [ndimage.binary_fill_holes(numbered == index + 1) for index in range(count)]
            assert (back[name] == np.any(filled, axis=0)).all()
    coarse, _ = export(tmp_path, shape="polygon", tolerance=2.0)

    def points(found: list[dict]) -> int:
        return sum(len(result["value"]["points"]) for task in found for result in task["predictions"][0]["result"])

    assert points(coarse) < points(tasks)


@pytest.mark.parametrize(("shape", "tag"), [("mask", "BrushLabels"), ("polygon", "PolygonLabels")])
def test_the_interface_is_the_one_the_tasks_name(tmp_path: Path, made, shape: str, tag: str) -> None:
    tasks, view = export(tmp_path, shape=shape)
    image, labels = view
    assert (view.tag, image.tag, labels.tag) == ("View", "Image", tag)
    assert image.get("value") == "$image"
    assert [label.get("value") for label in labels] == list(NAMES)
    assert labels[0].get("background") == "#800000", "VOC's colour of class 1"
    for result in tasks[0]["predictions"][0]["result"]:
        assert result["from_name"] == labels.get("name")
        assert result["to_name"] == labels.get("toName") == image.get("name")


def test_a_code_by_hand() -> None:
    """One pixel outside, one inside: 8 values, runs of four 0 and four 255, each in the smallest size."""
    head = f"{8:032b}" + f"{7:05b}" + "".join(f"{bits - 1:04b}" for bits in (3, 4, 8, 16))
    runs = "1" + "00" + f"{3:03b}" + f"{0:08b}" + "1" + "00" + f"{3:03b}" + f"{255:08b}"
    bits = head + runs
    bits += "0" * (-len(bits) % 8)
    expected = [int(bits[place : place + 8], 2) for place in range(0, len(bits), 8)]
    assert brush_rle(np.array([[False, True]])).tolist() == expected


@pytest.mark.parametrize(
    "mask",
    [
        np.ones((1, 1), bool),
        np.zeros((300, 301), bool),  # longer than the largest size of run holds, several times
        np.ones((128, 128), bool),  # exactly 65536 values
        np.tile([[True, False]], (40, 30)),
        made_labels((60, 70), 5) == 1,
    ],
    ids=["one", "long", "exact", "stripes", "blobs"],
)
def test_codes_of_any_length_of_run(mask: np.ndarray) -> None:
    assert (decode(brush_rle(mask).tolist(), mask.shape) == mask).all()


@pytest.mark.parametrize("length", [2, 3, 4, 5, 64, 65, 16384, 16385])
def test_runs_at_the_edges_of_the_sizes(length: int) -> None:
    mask = np.zeros((1, length + 2), bool)
    mask[0, 1:-1] = True
    assert (decode(brush_rle(mask).tolist(), mask.shape) == mask).all()
