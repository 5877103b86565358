"""Labels from COCO's and Label Studio's files, in the forms that these tools write."""

import json
from pathlib import Path
from typing import Any

import pytest
from tests.data.readers.made_coco import annotation, coco_2014, image, write_annotations

from subcam.data.labels.from_annotation_tools import labels_from_coco, labels_from_label_studio
from subcam.data.labels.from_folders_and_tags import SourceLabels
from subcam.data.readers.coco import read_coco
from subcam.errors import BadInputError


def named(found: SourceLabels) -> dict[str, tuple[str, ...]]:
    return {entry.image: entry.names for entry in found.images}


def test_coco_gives_what_its_reader_gives(tmp_path: Path) -> None:
    root = coco_2014(tmp_path)
    path = root / "annotations" / "instances_train2014.json"
    for crowd in (True, False):
        images = read_coco(root, keep_unlabelled=True, crowd_labels=crowd)
        expected = {
            record.image.name: tuple(images.class_names[label] for label in record.labels) for record in images.records
        }
        assert named(labels_from_coco(path, root=root / "train2014", crowd_labels=crowd)) == expected


def test_coco_entries_that_cannot_be_used(tmp_path: Path) -> None:
    image(tmp_path / "a.png")
    files = {1: "a.png", 2: "gone.png", 3: "../a.png", 4: "bad.png"}
    path = write_annotations(tmp_path / "all.json", files, [annotation(1, 17), annotation(4, 99), annotation(9, 17)])
    found = labels_from_coco(path, root=tmp_path)
    assert named(found) == {"a.png": ("cat",)}
    assert [skip.file for skip in found.skipped] == [str(path), "gone.png", "../a.png", "bad.png"]
    with pytest.raises(BadInputError, match=r"expected images with labels, got none that can be used; the first"):
        labels_from_coco(path, root=tmp_path / "elsewhere")


def task(image: str, *results: dict[str, Any], **more: Any) -> dict[str, Any]:
    annotations = [{"result": list(results), "was_cancelled": False}]
    return {"id": 1, "data": {"image": image}, "annotations": annotations, "predictions": [{"result": results}]} | more


def region(kind: str, *names: str) -> dict[str, Any]:
    return {"type": kind, "value": {"x": 1, "y": 2, kind: list(names)}, "from_name": "label", "to_name": "image"}


def test_label_studio_s_full_form(tmp_path: Path) -> None:
    for name in ("cat.jpg", "0a1b2c3d-real.jpg", "sub/box.png", "other/box.png", "brush é.png", "none.jpg"):
        image(tmp_path / name)
    cancelled = {"result": [region("choices", "dog")], "was_cancelled": True}
    second = {"result": [region("choices", "tree")], "was_cancelled": False}
    tasks = [
        task("/data/upload/3/1f2e3d4c-cat.jpg", region("choices", "cat", "indoor")),
        task("/data/upload/3/0a1b2c3d-real.jpg", region("rectanglelabels", "dog"), region("rectanglelabels", "dog")),
        task("/data/local-files/?d=project/sub/box.png", region("polygonlabels", "cat"), region("rectangle")),
        task("s3://bucket/brush%20%C3%A9.png", region("brushlabels", "tree")),
        task("https://host/none.jpg?token=1", annotations=[cancelled]),
        task("none.jpg", annotations=[second, {"result": [{"type": "taxonomy", "value": {"taxonomy": [["a", "b"]]}}]}]),
    ]
    path = tmp_path / "export.json"
    path.write_text(json.dumps(tasks))
    found = labels_from_label_studio(path, root=tmp_path)
    assert named(found) == {
        "cat.jpg": ("cat", "indoor"),
        "0a1b2c3d-real.jpg": ("dog",),
        "sub/box.png": ("cat",),
        "brush é.png": ("tree",),
        "none.jpg": ("tree", "b"),
    }
    assert found.skipped == ()


def test_label_studio_s_short_form(tmp_path: Path) -> None:
    tasks = []
    values: list[Any] = ["cat", {"choices": ["cat", "dog"]}, [{"x": 1, "rectanglelabels": ["dog"]}], None]
    for number, value in enumerate(values):
        image(tmp_path / f"{number}.jpg")
        address = f"/data/upload/1/0000000{number}-{number}.jpg"
        entry = {"image": address, "id": number, "annotator": 1, "lead_time": 2.5}
        tasks.append(entry | ({"choice": value} if value is not None else {}) | {"created_at": "2026-01-01T00:00:00Z"})
    path = tmp_path / "min.json"
    path.write_text(json.dumps(tasks))
    found = labels_from_label_studio(path, root=tmp_path)
    assert list(named(found).values()) == [("cat",), ("cat", "dog"), ("dog",), ()]


UNKNOWN = {
    "cancelled": ({"annotations": [{"result": [region("choices", "dog")], "was_cancelled": True}]}, "was skipped"),
    "not opened": ({"annotations": []}, "was not annotated"),
    "an older export's": ({"annotations": None, "completions": []}, "was not annotated"),
    "no list of results": ({"annotations": [{"result": None}]}, "expected a list of results, got None"),
    "a box without a label": (
        {"annotations": [{"result": [{"type": "rectangle", "value": {"x": 1, "y": 2}}]}]},
        "has regions without a label",
    ),
}


@pytest.mark.parametrize("case", UNKNOWN)
def test_what_nobody_said_is_not_absent(tmp_path: Path, case: str) -> None:
    more, reason = UNKNOWN[case]
    for name in ("a.jpg", "b.jpg", "c.jpg"):
        image(tmp_path / name)
    tasks = [task("a.jpg", region("choices", "cat")), task("b.jpg", **more), task("c.jpg")]
    path = tmp_path / "export.json"
    path.write_text(json.dumps(tasks))
    found = labels_from_label_studio(path, root=tmp_path)
    assert named(found) == {"a.jpg": ("cat",), "c.jpg": ()}
    (skip,) = found.skipped
    assert (skip.file, reason in skip.reason) == ("b.jpg", True)
    # another task may say it
    path.write_text(json.dumps([*tasks, task("b.jpg", region("choices", "dog"))]))
    known = labels_from_label_studio(path, root=tmp_path)
    assert (named(known)["b.jpg"], known.skipped) == (("dog",), ())


def test_label_studio_tasks_that_cannot_be_used(tmp_path: Path) -> None:
    for name in ("a/1.jpg", "b/1.jpg", "good.jpg"):
        image(tmp_path / "mine" / name)
    image(tmp_path / "secret.jpg")
    tasks = [task("good.jpg"), task("1.jpg"), task("../secret.jpg"), task("gone.jpg"), {"id": 4, "data": {"text": "x"}}]
    path = tmp_path / "export.json"
    path.write_text(json.dumps(tasks))
    found = labels_from_label_studio(path, root=tmp_path / "mine")
    assert named(found) == {"good.jpg": ()}
    for skip, part in zip(
        found.skipped,
        ("may be a/1.jpg or b/1.jpg", "no image 'secret.jpg'", "no image 'gone.jpg'", "expected the address"),
        strict=True,
    ):
        assert part in skip.reason
    path.write_text('{"images": [1]}')
    with pytest.raises(BadInputError, match="expected Label Studio's export, a list of tasks, got 'images'"):
        labels_from_label_studio(path, root=tmp_path)
