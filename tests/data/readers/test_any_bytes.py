"""Any change of a file's bytes gives the same result, another one, or one error of ours: never a traceback, soon.

A few examples in every run; with `-m thorough` a thousand of each.
"""

import contextlib
import io
import itertools
import json
import resource
import tarfile
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from tests.predict.saved_network import save_tiny_network
from tests.run_files.test_corrections import make_corrected
from tests.test_results import record as run_record
from tests.test_results import written

from subcam import hub
from subcam.cam.map_files import ResponseMaps, read_response_maps, write_response_maps
from subcam.cam.settings import CamSettings, read_maps_file, write_maps_file
from subcam.data.check import check_images
from subcam.data.images import read_image, read_indices, read_origin, voc_palette, write_mask
from subcam.data.labels.brush_code import brush_rle
from subcam.data.labels.from_annotation_tools import labels_from_label_studio
from subcam.data.labels.from_folders_and_tags import labels_from_tag_table
from subcam.data.labels.from_xml import labels_from_annotations, labels_from_cvat
from subcam.data.labels.from_yolo import labels_from_yolo
from subcam.data.labels.layout import reading_of
from subcam.data.labels.masks_from_cvat import masks_from_cvat
from subcam.data.labels.masks_from_label_studio import masks_from_label_studio
from subcam.data.readers.coco import read_coco
from subcam.data.readers.csv_file import read_csv
from subcam.data.readers.folder import read_folder
from subcam.data.readers.shards import read_shards
from subcam.data.readers.voc import read_voc
from subcam.errors import SubcamError
from subcam.export.cvat import export_cvat_masks
from subcam.export.images import find_images
from subcam.export.mask_folder import open_masks
from subcam.metrics.masks_csv import MaskRow, RegionRow, read_masks_csv, write_masks_csv
from subcam.predict.find_model import find_model
from subcam.results import read_run

SECONDS = 2.0
"""Of the processor, which the machine's other work does not change."""

MIB = 200
"""More memory than before, at the most."""

WORDS = [
    b"",
    b"\0",
    b"\xff",
    b"[" * 3000,
    b"9" * 5000,
    b'"\\ud800"',
    b"1e999",
    b"NaN",
    b"-1",
    b"\n",
    b"<!DOCTYPE x [",
    b"../",
]
"""What is put in: what parsers stumble over."""


def png(size: tuple[int, int] = (6, 8)) -> bytes:
    data = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(data, format="PNG")
    return data.getvalue()


def with_image(root: Path) -> None:
    root.mkdir(parents=True, exist_ok=True)
    (root / "a.png").write_bytes(png())


def table(root: Path) -> tuple[Path, Callable[[], object]]:
    with_image(root)
    (root / "labels.csv").write_text('image,labels,split\na.png,"cat; dog",train\n')
    return root / "labels.csv", lambda: read_folder(root)


def wide_table(root: Path) -> tuple[Path, Callable[[], object]]:
    (root / "x.csv").write_text("index;cat;dog\n1;0;1\n2;1.0;\n")
    return root / "x.csv", lambda: read_csv(root / "x.csv", needed=("index",))


def coco(root: Path) -> tuple[Path, Callable[[], object]]:
    with_image(root)
    annotation = {
        "image_id": 1,
        "category_id": 1,
        "iscrowd": 0,
        "segmentation": [[0, 0, 5, 0, 5, 5]],
        "bbox": [0, 0, 5, 5],
    }
    runs = annotation | {"segmentation": {"size": [6, 8], "counts": [3, 4, 41]}}
    image = {"id": 1, "file_name": "a.png", "height": 6, "width": 8}
    content = {"images": [image], "categories": [{"id": 1, "name": "cat"}], "annotations": [annotation, runs]}
    (root / "a.json").write_text(json.dumps(content))
    return root / "a.json", lambda: read_coco(root, split=None, labels="a.json", mask_folder=root / "work")


def voc(root: Path) -> tuple[Path, Callable[[], object]]:
    for place in ("JPEGImages", "Annotations", "ImageSets/Segmentation"):
        (root / place).mkdir(parents=True)
    (root / "JPEGImages/a.png").write_bytes(png())
    (root / "ImageSets/Segmentation/train.txt").write_text("a\n")
    path = root / "Annotations/a.xml"
    path.write_text("<annotation><object><name>cat</name><bndbox/></object></annotation>")
    return path, lambda: read_voc(root, split="train")


def voc_list(root: Path) -> tuple[Path, Callable[[], object]]:
    _, read = voc(root)
    return root / "ImageSets/Segmentation/train.txt", read


def shard(root: Path) -> tuple[Path, Callable[[], object]]:
    with tarfile.open(root / "train.tar", "w") as tar:
        for name, data in {
            "./a.png": png(),
            "./a.json": b'{"labels": ["cat"]}',
            "./b.png": png(),
            "./b.txt": b"dog",
        }.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return root / "train.tar", lambda: check_images(read_shards(root))


def label_studio(root: Path) -> tuple[Path, Callable[[], object]]:
    with_image(root)
    value = {"type": "choices", "from_name": "c", "value": {"choices": ["cat"]}}
    (root / "x.json").write_text(
        json.dumps([{"id": 1, "data": {"image": "a.png"}, "annotations": [{"result": [value]}]}])
    )
    return root / "x.json", lambda: labels_from_label_studio(root / "x.json", root=root)


def drawn_masks(root: Path) -> tuple[Path, Callable[[], object]]:
    """A brush, a polygon, a rectangle and an ellipse; each reading writes into a folder of its own."""
    with_image(root)
    size = {"original_width": 8, "original_height": 6, "image_rotation": 0}
    values: dict[str, dict[str, object]] = {
        "brushlabels": {"format": "rle", "rle": brush_rle(np.eye(6, 8, dtype=bool)).tolist()},
        "polygonlabels": {"points": [[0, 0], [90.5, 0], [50, 80]], "closed": True},
        "rectanglelabels": {"x": 10, "y": 20, "width": 50, "height": 30, "rotation": 15},
        "ellipselabels": {"x": 50, "y": 50, "radiusX": 20, "radiusY": 30, "rotation": 0},
    }
    results = [{"id": kind, "type": kind, "value": value | {kind: ["cat"]}} | size for kind, value in values.items()]
    annotation = {"id": 1, "result": results, "was_cancelled": False, "updated_at": "2024-05-01T12:00:00.5Z"}
    path = root / "tasks.json"
    path.write_text(json.dumps([{"id": 1, "data": {"image": "/data/upload/1/a.png"}, "annotations": [annotation]}]))
    outs = (root.parent / f"{root.name}-masks-{number}" for number in itertools.count())
    return path, lambda: masks_from_label_studio(path, root=root, out=next(outs))


def tags(root: Path) -> tuple[Path, Callable[[], object]]:
    with_image(root)
    (root / "x.jsonl").write_text('{"image": "a.png", "tags": ["cat", "dog"]}\n')
    return root / "x.jsonl", lambda: labels_from_tag_table(root / "x.jsonl", root=root)


def image(root: Path) -> tuple[Path, Callable[[], object]]:
    with_image(root)
    return root / "a.png", lambda: read_image(root / "a.png")


def mask(root: Path) -> tuple[Path, Callable[[], object]]:
    path = root / "m.png"
    write_mask(path, np.ones((6, 8), np.uint8), palette=voc_palette(), origin="x")
    return path, lambda: (read_origin(path), read_indices(path))


def maps(root: Path) -> tuple[Path, Callable[[], object]]:
    path, two = root / "a.npz", np.zeros((1, 2, 2), np.uint8)
    stored = ResponseMaps(
        maps=two,
        classes=np.array([0], np.int16),
        subcategory_maps=two[:, None],
        logits=np.zeros(2, np.float32),
        size=(8, 8),
    )
    write_response_maps(path, stored)
    return path, lambda: read_response_maps(path)


def record(root: Path) -> tuple[Path, Callable[[], object]]:
    written(root, run_record())
    return root / "run.json", lambda: (read_run(root), find_model(root))


def stage_record(root: Path) -> tuple[Path, Callable[[], object]]:
    written(root, run_record())
    return next(root.glob("stages/*/stage.json")), lambda: read_run(root)


def maps_file(root: Path) -> tuple[Path, Callable[[], object]]:
    write_maps_file(root, CamSettings(), 0.2)
    return root / "response_maps.json", lambda: read_maps_file(root)


def config(root: Path) -> tuple[Path, Callable[[], object]]:
    save_tiny_network(root)
    return root / "config.json", lambda: hub.load(root)


def checked(root: Path) -> tuple[Path, Callable[[], object]]:
    _, read = table(root)
    cache = root / "checked-files.json"
    check_images(read(), cache=cache)  # type: ignore[arg-type]
    return cache, lambda: check_images(read(), cache=cache)  # type: ignore[arg-type]


def yolo(root: Path) -> tuple[Path, Callable[[], object]]:
    with_image(root)
    (root / "data.yaml").write_text("names: [cat, 'd: og']\nnc: 2\n")
    (root / "a.txt").write_text("1 0.5 0.5 0.2 0.2\n0 0.1 0.1 0.9 0.1 0.5 0.8\n")
    return root / "a.txt", lambda: labels_from_yolo(root, root=root)


def cvat_shapes(root: Path) -> Path:
    with_image(root)
    path = root / "annotations.xml"
    shapes = (
        '<mask label="cat" rle="1, 3" left="0" top="0" width="2" height="2" z_order="1"/>'
        '<polygon label="dog" points="0,0;7.5,0;4,5"/><box label="cat" xtl="1" ytl="1" xbr="4" ybr="3" rotation="9"/>'
        '<ellipse label="dog" cx="4" cy="3" rx="2" ry="1"/><tag label="cat"/>'
    )
    path.write_text(f'<annotations><image id="0" name="a.png" width="8" height="6">{shapes}</image></annotations>')
    return path


def cvat_labels(root: Path) -> tuple[Path, Callable[[], object]]:
    path = cvat_shapes(root)
    return path, lambda: (reading_of(root), labels_from_cvat(path, root=root))


def cvat_masks(root: Path) -> tuple[Path, Callable[[], object]]:
    path, known = cvat_shapes(root), {root / "a.png": "a"}
    return path, lambda: list(masks_from_cvat(path, root=root, known=known, class_names=("cat", "dog")))


def annotation(root: Path) -> tuple[Path, Callable[[], object]]:
    with_image(root)
    (root / "a.xml").write_text("<annotation><object><name>cat</name></object></annotation>")
    return root / "a.xml", lambda: (reading_of(root), labels_from_annotations(root))


def masks_table(root: Path) -> tuple[Path, Callable[[], object]]:
    path, region = root / "masks.csv", RegionRow(area=0.25, confidence=0.5)
    write_masks_csv(
        path, [MaskRow(image="a", confidence=0.5, lowered_by="x", regions={"cat": region})], class_names=["cat"]
    )
    return path, lambda: read_masks_csv(path)


def corrections(root: Path) -> tuple[Path, Callable[[], object]]:
    """An archive of masks."""
    made = make_corrected(root)
    path = root / "export.zip"
    export_cvat_masks(made.folder, path, images=find_images(made.corrected, root / "images"))
    return path, lambda: made.take(path)


def yolo_names(root: Path) -> tuple[Path, Callable[[], object]]:
    _, read = yolo(root)
    return root / "data.yaml", read


def label_map(root: Path) -> tuple[Path, Callable[[], object]]:
    path, _ = mask(root)
    (root / "labelmap.txt").write_text("background:0,0,0::\ncat:9,8,7::\n")
    return root / "labelmap.txt", lambda: open_masks(root).read(path.stem, num_classes=1)


READERS = (table, wide_table, coco, voc, voc_list, shard, label_studio, tags, image, mask, maps)
READERS += (cvat_labels, cvat_masks, annotation, masks_table, corrections)
READERS += (yolo, yolo_names, label_map, drawn_masks, record, stage_record, maps_file, config, checked)


@pytest.fixture(scope="module", autouse=True)
def timm() -> None:
    """Imported before anything is timed: that takes seconds, once, and a changed name of a network asks for it."""
    import_module("timm")


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def holds(
    folder: Path, make: Callable[[Path], tuple[Path, Callable[[], object]]], data: st.DataObject, count: int
) -> None:
    folder.mkdir(exist_ok=True)
    root = folder / f"{len(list(folder.iterdir()))}"
    root.mkdir()
    path, read = make(root)
    read()
    whole = path.read_bytes()
    for _ in range(count):
        # Of the same range whatever the length, which depends on the folder's name and the time.
        place = data.draw(st.integers(0, 1 << 20)) % max(1, len(whole))
        length = data.draw(st.sampled_from([0, 1, 2, 8, 10**6]))
        put = data.draw(st.one_of(st.sampled_from(WORDS), st.binary(min_size=1, max_size=4)))
        path.write_bytes(whole[:place] + put + whole[place + length :])
        started, before = time.process_time(), peak_mib()
        with contextlib.suppress(SubcamError):
            read()
        assert time.process_time() - started < SECONDS
        assert peak_mib() - before < MIB
    path.write_bytes(whole)
    read()


NO_CHECKS = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large]


@pytest.mark.parametrize("make", READERS, ids=lambda make: make.__name__)
@settings(max_examples=2, deadline=None, suppress_health_check=NO_CHECKS)
@given(data=st.data())
def test_a_change(
    make: Callable[[Path], tuple[Path, Callable[[], object]]], data: st.DataObject, tmp_path: Path
) -> None:
    holds(tmp_path / make.__name__, make, data, 6)


@pytest.mark.thorough
@pytest.mark.parametrize("make", READERS, ids=lambda make: make.__name__)
@settings(max_examples=40, deadline=None, suppress_health_check=NO_CHECKS)
@given(data=st.data())
def test_many_changes(
    make: Callable[[Path], tuple[Path, Callable[[], object]]], data: st.DataObject, tmp_path: Path
) -> None:
    holds(tmp_path / make.__name__, make, data, 25)
