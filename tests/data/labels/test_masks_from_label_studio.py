"""Masks that were drawn in Label Studio: as they were exported, to the pixel; what is left out, and what is refused."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.data.readers.made_coco import image
from tests.export.made_masks import NAMES, SIZES, write_made

from subcam.data.images import read_indices, voc_palette
from subcam.data.labels import masks_from_label_studio as module
from subcam.data.labels.brush_code import brush_rle
from subcam.data.labels.masks_from_label_studio import WrittenMasks, masks_from_label_studio
from subcam.errors import BadInputError, RunFolderError, SubcamError
from subcam.export.images import find_images
from subcam.export.label_studio import export_label_studio
from subcam.export.mask_folder import open_masks

HEIGHT, WIDTH = 6, 8
SIZE = {"original_width": WIDTH, "original_height": HEIGHT, "image_rotation": 0}


def box(name: str | None, left: float, top: float, width: float, height: float, **more: Any) -> dict[str, Any]:
    """A rectangle in pixels of an image of 8 x 6."""
    value: dict[str, Any] = {"x": left * 12.5, "y": top * 100 / 6, "width": width * 12.5, "height": height * 100 / 6}
    labels = {} if name is None else {"rectanglelabels": [name]}
    return {"type": "rectanglelabels", "value": value | {"rotation": 0} | labels} | SIZE | more


def brush(name: str, mask: np.ndarray) -> dict[str, Any]:
    value = {"format": "rle", "rle": brush_rle(mask).tolist(), "brushlabels": [name]}
    return {"type": "brushlabels", "value": value} | SIZE


def task(name: str, *results: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"id": 7, "data": {"image": f"/data/upload/1/0a1b2c3d-{name}"}, "annotations": [said(*results)]} | more


def said(*results: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"id": 1, "result": list(results), "was_cancelled": False} | more


def write(folder: Path, *tasks: Any, **given: Any) -> WrittenMasks:
    """Masks of tasks about a.jpg, b.jpg and sub/c.png, in folder/out."""
    for name in ("a.jpg", "b.jpg", "sub/c.png"):
        if not (folder / "images" / name).exists():
            image(folder / "images" / name, (HEIGHT, WIDTH))
    (folder / "tasks.json").write_text(json.dumps(tasks))
    return masks_from_label_studio(folder / "tasks.json", root=folder / "images", out=folder / "out", **given)


def masks(folder: Path) -> dict[str, np.ndarray]:
    found = open_masks(folder / "out")
    return {name: found.read(name, num_classes=len(found.class_names or ())) for name in found.files}


def as_submitted(path: Path) -> Path:
    """The tasks as an export has them after a person accepted each prediction."""
    tasks = json.loads(path.read_text())
    for entry in tasks:
        (prediction,) = entry.pop("predictions")
        entry["annotations"] = [said(*prediction["result"])]
    path.write_text(json.dumps(tasks))
    return path


@pytest.mark.parametrize("given", [{}, {"pieces": True}, {"shape": "polygon", "tolerance": 0.0}], ids=str)
def test_what_was_exported_comes_back(tmp_path: Path, given: dict[str, Any]) -> None:
    """Brushes to the pixel; polygons too where no piece has a hole, which polygons lack."""
    made = write_made(tmp_path, unlabelled=False)
    if given.get("shape"):
        for labels in made.values():
            labels[:] = 0
            labels[3:9, 4:15] = 1
            labels[9:14, 10:12] = 2
            labels[12:15, 0:9] = 3
        for name, labels in made.items():
            Image.fromarray(labels).save(tmp_path / "masks" / f"{name}.png")
    exported = open_masks(tmp_path)
    found = find_images(exported.files, tmp_path / "images")
    path, _ = export_label_studio(exported, tmp_path / "tasks", images=found, **given)
    images, out = tmp_path / "images", tmp_path / "out"
    done = masks_from_label_studio(as_submitted(path), root=images, out=out, class_names=NAMES)
    assert (done.masks, done.skipped, done.several, done.unclear, done.not_drawn) == (3, (), 0, 0, {})
    assert done.counts == dict.fromkeys(NAMES, 3)
    assert open_masks(out).class_names == NAMES
    assert {*masks(tmp_path)} == {*SIZES}
    for name, labels in masks(tmp_path).items():
        np.testing.assert_array_equal(labels, made[name])
    with Image.open(out / f"{next(iter(SIZES))}.png") as opened:
        assert opened.mode == "P"
        assert opened.getpalette() == voc_palette().ravel().tolist()


def test_later_regions_lie_over_earlier_ones_and_background_erases(tmp_path: Path) -> None:
    painted = np.zeros((HEIGHT, WIDTH), bool)
    painted[2, 1:3] = True
    results = [box("dog", 0, 0, 4, 4), brush("cat", painted), box("Background", 2, 2, 6, 1), box("cat", 7, 5, 1, 1)]
    done = write(tmp_path, task("c.png", *results))
    expected = np.zeros((HEIGHT, WIDTH), np.uint8)
    expected[0:4, 0:4] = 2
    expected[2, 1] = 1
    expected[2, 2:4] = 0
    expected[5, 7] = 1
    np.testing.assert_array_equal(masks(tmp_path)["sub/c"], expected)
    assert done.counts == {"cat": 1, "dog": 1}
    assert (tmp_path / "out" / "classes.txt").read_text() == "cat\ndog\n"


def test_what_nobody_said_is_left_out_and_counted(tmp_path: Path) -> None:
    done = write(
        tmp_path,
        task("a.jpg", box("cat", 0, 0, 2, 2)),
        task("b.jpg", annotations=[said(box("cat", 0, 0, 1, 1), was_cancelled=True)]),
        task("b.jpg", annotations=[], predictions=[said(box("cat", 0, 0, 1, 1))]),
        {"id": 3, "data": {"image": "b.jpg"}},
        task("gone.jpg", box("cat", 0, 0, 1, 1)),
        task("c.png", {"type": "choices", "value": {"choices": ["good"]}}),
        task("c.png", box("cat", 0, 0, 1, 1, image_rotation=90)),
        task("a.jpg", annotations=[]),
    )
    assert {*masks(tmp_path)} == {"a"}
    assert done.masks == 1
    reasons = [skip.reason.partition(": ")[2] for skip in done.skipped]
    starts = ["was skipped", "was not annotated", "was not annotated", "no image", "has results, but", "was drawn on"]
    for number, (reason, start) in enumerate(zip(reasons, starts, strict=True), start=1):
        assert reason.startswith(f"task {number}: {start}")


def test_a_task_submitted_with_nothing_is_background(tmp_path: Path) -> None:
    write(tmp_path, task("a.jpg"), task("b.jpg", box("cat", 0, 0, 8, 6)))
    assert [int(mask.max()) for mask in masks(tmp_path).values()] == [0, 1]


@pytest.mark.parametrize(
    "annotations",
    [
        [said(box("cat", 0, 0, 8, 6), id=2), said(box("dog", 0, 0, 8, 6), id=1)],
        [
            said(box("dog", 0, 0, 8, 6), id=2, updated_at="2024-05-01T12:00:00Z"),
            said(box("cat", 0, 0, 8, 6), id=1, updated_at="2024-05-01T13:30:00+01:00"),
        ],
        [
            said(box("cat", 0, 0, 8, 6), created_at="2024-01-01T12:00:00.5Z"),
            said(box("dog", 0, 0, 8, 6), created_at="2024-01-01T12:00:00.25"),
            said(box("dog", 0, 0, 8, 6), created_at="2025-01-01T12:00:00Z", was_cancelled=True),
        ],
        [said(box("dog", 0, 0, 8, 6), created_at=1600000000), said(box("cat", 0, 0, 8, 6), created_at=1600000001)],
    ],
    ids=["ids", "changed", "made", "seconds"],
)
def test_the_newest_that_is_not_cancelled_counts(tmp_path: Path, annotations: list[Any]) -> None:
    done = write(tmp_path, task("a.jpg", annotations=annotations), task("b.jpg", box("dog", 0, 0, 1, 1)))
    assert done.several == 1
    assert (masks(tmp_path)["a"] == 1).all(), "1 is cat"


def test_two_tasks_of_an_image_are_two_annotations_of_it(tmp_path: Path) -> None:
    new = task("a.jpg", annotations=[said(box("cat", 0, 0, 8, 6), updated_at="2024-05-02T12:00:00Z")])
    old = task("a.jpg", annotations=[said(box("dog", 0, 0, 8, 6), updated_at="2024-05-01T12:00:00Z")])
    assert write(tmp_path, new, old).several == 1
    assert (masks(tmp_path)["a"] == 1).all()
    assert (tmp_path / "out" / "classes.txt").read_text() == "cat\n"


def test_regions_without_one_label_are_not_scored(tmp_path: Path) -> None:
    both = box("cat", 2, 0, 1, 1)
    both["value"]["rectanglelabels"] = ["cat", "dog"]
    point = {"type": "keypointlabels", "value": {"x": 1, "y": 2, "width": 1, "keypointlabels": ["cat"]}} | SIZE
    results = [box(None, 0, 0, 1, 1), box("nan", 1, 0, 1, 1), both, box("cat", 3, 0, 1, 1), point, point]
    done = write(tmp_path, task("a.jpg", *results))
    assert masks(tmp_path)["a"][0, :5].tolist() == [255, 255, 255, 1, 0]
    assert done.unclear == 3
    assert done.not_drawn == {"keypointlabels": 2}


def test_entries_of_one_id_are_one_region(tmp_path: Path) -> None:
    """As interfaces with a tag for the shape and one for the labels write it, and with choices for each region."""
    place = box(None, 1, 1, 2, 2)["value"]
    results = [
        {"id": "x", "type": "rectangle", "value": place} | SIZE,
        {"id": "x", "type": "labels", "value": place | {"labels": ["cat"]}} | SIZE,
        {"id": "x", "type": "choices", "value": place | {"choices": ["blurred"]}} | SIZE,
        {"type": "relation", "from_id": "x", "to_id": "x"},
    ]
    done = write(tmp_path, task("a.jpg", *results))
    assert (done.counts, done.unclear, done.not_drawn) == ({"cat": 1}, 0, {})
    assert masks(tmp_path)["a"].sum() == 4


def turned_image(path: Path, orientation: int, size: tuple[int, int]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new("RGB", size[::-1]).save(path, exif=exif)


def test_regions_lie_on_the_upright_image(tmp_path: Path) -> None:
    turned_image(tmp_path / "images" / "a.jpg", 6, (WIDTH, HEIGHT))
    assert write(tmp_path, task("a.jpg", box("cat", 0, 0, 2, 1))).turned == 0
    mask = masks(tmp_path)["a"]
    assert mask.shape == (HEIGHT, WIDTH)
    assert mask[0, :2].all()


def test_regions_on_the_stored_pixels_are_turned_with_them(tmp_path: Path) -> None:
    """Orientation 6: what is stored at the top left is seen at the top right."""
    turned_image(tmp_path / "images" / "a.jpg", 6, (HEIGHT, WIDTH))
    assert write(tmp_path, task("a.jpg", box("cat", 0, 0, 2, 1))).turned == 1
    mask = masks(tmp_path)["a"]
    assert mask.shape == (WIDTH, HEIGHT)
    assert np.argwhere(mask).tolist() == [[0, HEIGHT - 1], [1, HEIGHT - 1]]


def test_the_size_may_be_missing(tmp_path: Path) -> None:
    """Other programs' tasks leave it out; a brush says by itself how many pixels it has."""
    whole = brush("cat", np.ones((HEIGHT, WIDTH), bool))
    write(tmp_path, task("a.jpg", {key: whole[key] for key in ("type", "value")}))
    assert (masks(tmp_path)["a"] == 1).all()


LONG = [255, 255, 255, 255, *brush_rle(np.ones((HEIGHT, WIDTH), bool)).tolist()[4:]]
ONE = box("cat", 0, 0, 1, 1)


@pytest.mark.parametrize(
    ("tasks", "said_of_it"),
    [
        ([{"image": "a.jpg", "id": 1, "label": [ONE["value"]]}], r"tasks.json: task 0: .* got JSON-MIN; export it as"),
        ([], "got none that can be used$"),
        (["a.jpg"], "expected Label Studio's export, a list of tasks"),
        ([task("a.jpg", annotations=[])], "none that can be used; the first: .*task 0: was not annotated"),
        ([task("a.jpg", annotations=[said(result=None)])], "none that can be used; .* expected a list of results"),
        ([task("a.jpg")], "expected regions with labels, got none; say the classes with --classes"),
        ([task("a.jpg", ONE | {"original_width": 9})], r"task 0, result 0: original_width.* 8 x 6, got 9 x 6; give"),
        ([task("a.jpg", ONE | {"original_height": [6]})], r"task 0, result 0: original_width.* got 8 x \[6\]"),
        ([task("a.jpg", ONE, box("cat", 0, 0, -1, 1))], r"task 0, result 1: width: expected .* export the tasks again"),
        (
            [
                task(
                    "a.jpg",
                    brush("cat", np.ones((HEIGHT, WIDTH), bool)) | {"value": {"rle": LONG, "brushlabels": ["cat"]}},
                )
            ],
            r"task 0, result 0: rle: expected a brush of 192 values .* got 4,294,967,295",
        ),
        ([task("a.jpg", annotations=[said(ONE, updated_at="May")])], "updated_at: expected a date and time, got 'May'"),
        ([task("a.jpg", annotations=[said(ONE, updated_at=10**400)])], "updated_at: expected a date and time"),
        ([task("a.jpg", box("c\u200bt", 0, 0, 1, 1))], "no class can be called"),
        ([task("a.jpg", *(box(f"{number}", 0, 0, 1, 1) for number in range(255)))], "expected at most 254 classes"),
    ],
)
def test_what_is_refused_leaves_nothing_behind(tmp_path: Path, tasks: list[Any], said_of_it: str) -> None:
    with pytest.raises(BadInputError, match=said_of_it):
        write(tmp_path, *tasks)
    assert {path.name for path in tmp_path.iterdir()} == {"images", "tasks.json"}


def test_images_that_would_have_one_mask(tmp_path: Path) -> None:
    image(tmp_path / "images" / "a.png", (HEIGHT, WIDTH))
    with pytest.raises(BadInputError, match=r"a\.png and .*a\.jpg would have one mask, a\.png; rename one"):
        write(tmp_path, task("a.jpg", ONE), task("a.png", ONE))


def test_classes_may_be_given_in_their_order(tmp_path: Path) -> None:
    done = write(tmp_path, task("a.jpg", ONE), class_names=("dog", "cat"))
    assert done.counts == {"dog": 0, "cat": 1}
    assert masks(tmp_path)["a"].max() == 2
    for names, message in (
        (("dog", "cow"), "label 'cat' is none of the classes: known are: cow, dog"),
        (("cat", "cat"), "--classes: expected each class once"),
        (("cat", "background"), "--classes: expected 'background' on the first line or nowhere"),
    ):
        with pytest.raises(BadInputError, match=message):
            masks_from_label_studio(
                tmp_path / "tasks.json", root=tmp_path / "images", out=tmp_path / "other", class_names=names
            )


@pytest.mark.parametrize("kind", ["file", "folder", "link"])
def test_what_is_there_is_not_written_over(tmp_path: Path, kind: str) -> None:
    out, other = tmp_path / "out", tmp_path / "other"
    other.mkdir()
    if kind == "file":
        out.write_text("mine")
    elif kind == "folder":
        out.mkdir()
        (out / "mine.png").write_text("mine")
    else:
        out.symlink_to(other)
    with pytest.raises(RunFolderError, match="expected a new or empty folder for the masks, got one in use"):
        write(tmp_path, task("a.jpg", ONE))
    assert not list(other.iterdir())


def test_an_empty_folder_is_filled_and_of_two_writers_one_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "out").mkdir()
    write(tmp_path, task("a.jpg", ONE))
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.png", "classes.txt"]
    monkeypatch.setattr(module, "_require_empty", lambda out: None)  # the other came between the look and the rename
    with pytest.raises(RunFolderError, match="another process has written into it"):
        write(tmp_path, task("b.jpg", ONE))
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.png", "classes.txt"]
    assert {path.name for path in tmp_path.iterdir()} == {"images", "tasks.json", "out"}
    assert read_indices(tmp_path / "out" / "a.png").sum() == 1


def test_every_error_is_ours(tmp_path: Path) -> None:
    """Each value of a good task in turn is of another type."""
    good = task("a.jpg", ONE, brush("dog", np.ones((HEIGHT, WIDTH), bool)))

    def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        pairs = value.items() if isinstance(value, dict) else enumerate(value[:1]) if isinstance(value, list) else ()
        return [path, *(place for key, part in pairs for place in places(part, (*path, key)))]

    refused = 0
    changes = [(path, put) for path in places(good)[1:] for put in (None, 1.5, "x", [], {}, [[]], True)]
    for number, (path, put) in enumerate(changes):
        changed = json.loads(json.dumps(good))
        part = changed
        for key in path[:-1]:
            part = part[key]
        part[path[-1]] = put
        try:
            write(tmp_path / f"{number}", changed)
        except SubcamError:
            refused += 1
    assert 50 < refused < len(changes)
