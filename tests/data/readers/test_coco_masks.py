"""Masks from outlines, held against pycocotools' own and against pixels drawn one by one."""

import json
from array import array
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from tests.data.readers import made_coco

from subcam.data.images import read_indices
from subcam.data.readers.coco_file import CocoImage, Segment, read_coco_file
from subcam.data.readers.coco_masks import label_map, runs_of, write_coco_masks
from subcam.errors import BadInputError

SIZE = (24, 31)
VALUES = {1: 1, 17: 2, 18: 3}


def polygon_segment(category: int, *polygons: list[float]) -> Segment:
    return Segment(category=category, kind="object", polygons=tuple(array("d", polygon) for polygon in polygons))


def rectangle(category: int, left: int, top: int, right: int, bottom: int) -> Segment:
    return polygon_segment(category, made_coco.box_polygon(left, top, right, bottom))


def test_the_smaller_object_lies_on_the_larger_in_any_order() -> None:
    large, small, other = rectangle(1, 0, 0, 20, 20), rectangle(17, 5, 5, 10, 10), rectangle(18, 15, 15, 30, 22)
    expected = np.zeros(SIZE, np.uint8)
    expected[0:20, 0:20] = 1
    expected[15:22, 15:30] = 3
    expected[5:10, 5:10] = 2
    for order in ([large, small, other], [small, other, large], [other, large, small]):
        np.testing.assert_array_equal(label_map(order, size=SIZE, values=VALUES), expected)


def test_groups_and_boxes_are_not_scored_and_lie_below() -> None:
    runs = array("Q", [0, SIZE[0] * SIZE[1]])
    crowd = Segment(category=1, kind="crowd", counts=runs, size=SIZE)
    box = Segment(category=1, kind="box", box=(2.5, 3.0, 4.0, 2.2))
    cat = rectangle(17, 5, 5, 10, 10)
    mask = label_map([cat, crowd], size=SIZE, values=VALUES)
    assert (mask[5:10, 5:10] == 2).all()
    assert (mask == 255).sum() == mask.size - 25
    mask = label_map([cat, box], size=SIZE, values=VALUES)
    expected = np.zeros(SIZE, np.uint8)
    expected[3:6, 2:7] = 255
    expected[5:10, 5:10] = 2
    np.testing.assert_array_equal(mask, expected)
    outside = Segment(category=1, kind="box", box=(-90.0, -9.0, 3.0, 2.0))
    assert not label_map([outside], size=SIZE, values=VALUES).any()


def test_polygons_that_are_none_cover_nothing() -> None:
    assert not label_map([polygon_segment(1, [1, 2, 3, 4]), polygon_segment(1)], size=SIZE, values=VALUES).any()


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 10_000), polygons=st.integers(1, 5))
def test_polygons_are_those_of_pycocotools(seed: int, polygons: int) -> None:
    rng = np.random.default_rng(seed)
    outlines = [rng.uniform(-3, 35, 2 * rng.integers(3, 9)).round(2).tolist() for _ in range(polygons)]
    found = label_map([polygon_segment(1, *outlines)], size=SIZE, values=VALUES)
    expected = coco_mask.decode(coco_mask.frPyObjects(outlines, *SIZE)).any(axis=2)
    np.testing.assert_array_equal(found, expected)


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 10_000), share=st.sampled_from([0.0, 0.02, 0.5, 1.0]))
def test_runs_are_those_of_pycocotools(seed: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    region = np.asfortranarray(rng.random(SIZE) < share)
    code = coco_mask.encode(region.astype(np.uint8))
    text = code["counts"].decode()
    plain = [0] if region[0, 0] else []
    flat = region.T.ravel().tolist()
    for index, inside in enumerate(flat):
        if index and inside == flat[index - 1]:
            plain[-1] += 1
        else:
            plain.append(1)
    assert runs_of(text).tolist() == plain
    for counts in (text, array("Q", plain)):
        segment = Segment(category=1, kind="object", counts=counts, size=SIZE)
        np.testing.assert_array_equal(label_map([segment], size=SIZE, values=VALUES), region.astype(np.uint8))


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ("", "runs of 0 pixels together"),
        ("zzz", "expected runs in COCO's characters, got 'z'"),
        ("o", "expected whole runs of 0 or more pixels"),
        ("ooooooooooooooo0", "expected whole runs"),
        (array("Q", [3, 4]), "runs of 7 pixels together"),
        (array("Q", [2**64 - 1, 745]), "together"),
    ],
)
def test_damaged_runs(counts: Any, message: str) -> None:
    segment = Segment(category=1, kind="object", counts=counts, size=SIZE)
    with pytest.raises(BadInputError, match=message):
        label_map([segment], size=SIZE, values=VALUES)


def test_runs_of_another_size() -> None:
    segment = Segment(category=1, kind="object", counts=array("Q", [0, 600]), size=(20, 30))
    with pytest.raises(BadInputError, match=r"expected runs for 31 x 24 pixels .* got a size of \(20, 30\)"):
        label_map([segment], size=SIZE, values=VALUES)


def test_a_file_s_masks_are_those_of_pycocotools(tmp_path: Path) -> None:
    """Random outlines of each kind; painted from the largest area to the smallest by annToMask and a plain loop."""
    rng = np.random.default_rng(3)
    size = (made_coco.HEIGHT, made_coco.WIDTH)
    annotations = []
    for number in range(60):
        outline: Any = [rng.uniform(0, 30, 2 * rng.integers(3, 8)).round(2).tolist() for _ in range(rng.integers(1, 3))]
        if number % 3 == 1:
            region = np.zeros(size, np.uint8, order="F")
            region[rng.integers(0, 10) : rng.integers(10, 20), rng.integers(0, 15) : rng.integers(15, 30)] = 1
            code = coco_mask.encode(region)
            outline = {"counts": code["counts"].decode(), "size": list(size)}
        entry = made_coco.annotation(int(rng.integers(4)), int(rng.choice([1, 17, 18])), outline, id=number)
        annotations.append(entry | {"area": 0, "iscrowd": int(number % 3 == 1 and number % 2)})
    path = made_coco.write_annotations(tmp_path / "all.json", {i: f"{i}.png" for i in range(4)}, annotations)
    file = read_coco_file(path, outlines=True)
    jobs = [(tmp_path / f"{image.id}.png", image, file.segments[image.id]) for image in file.images]
    assert list(write_coco_masks(jobs, values=VALUES, workers=2)) == [None] * 4
    (tmp_path / "theirs.json").write_text(json.dumps(json.loads(path.read_text())))
    theirs = COCO(tmp_path / "theirs.json")
    crowds = 0
    for image in range(4):
        regions = [(entry, theirs.annToMask(entry).astype(bool)) for entry in theirs.imgToAnns[image]]
        expected = np.zeros(size, np.uint8)
        for entry, region in regions:
            if entry["iscrowd"]:
                expected[region] = 255
                crowds += 1
        for entry, region in sorted(regions, key=lambda each: -int(each[1].sum())):
            if not entry["iscrowd"]:
                for row, column in zip(*np.nonzero(region), strict=True):
                    expected[row, column] = VALUES[entry["category_id"]]
        np.testing.assert_array_equal(read_indices(tmp_path / f"{image}.png"), expected)
    assert crowds


def test_masks_that_are_there_are_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "1.png"
    image = CocoImage(id=1, file_name="1.jpg", height=SIZE[0], width=SIZE[1])
    job = (path, image, [rectangle(1, 0, 0, 5, 5)])
    assert list(write_coco_masks([job], values=VALUES)) == [None]
    before = path.stat().st_mtime_ns
    assert list(write_coco_masks([job], values={1: 9})) == [None]
    assert path.stat().st_mtime_ns == before


@pytest.mark.parametrize(("height", "width"), [(0, 0), (99_999, 99_999)])
def test_a_image_without_a_usable_size_has_no_mask(tmp_path: Path, height: int, width: int) -> None:
    image = CocoImage(id=1, file_name="1.jpg", height=height, width=width)
    (problem,) = write_coco_masks([(tmp_path / "1.png", image, [])], values=VALUES)
    assert "1.jpg: expected its height and width in the COCO file" in str(problem)
    assert not (tmp_path / "1.png").exists()
