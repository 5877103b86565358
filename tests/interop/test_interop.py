"""Other programs read what subcam writes, and subcam what they write, pixel for pixel.

Their packages live in an environment of their own, which `SUBCAM_INTEROP` names by its Python:

    uv venv build/interop && VIRTUAL_ENV=build/interop uv pip install -r tests/interop/requirements.txt
    SUBCAM_INTEROP=build/interop/bin/python pytest tests/interop
"""

import json
import os
import shutil
import subprocess
import zipfile
from pathlib import Path

import numpy as np
import pytest
from tests.export.made_masks import NAMES, SIZES, write_made

from subcam.data.images import read_mask
from subcam.data.labels.brush_code import mask_of_brush
from subcam.data.labels.from_annotation_tools import labels_from_label_studio
from subcam.data.labels.masks_from_label_studio import masks_from_label_studio
from subcam.data.readers.coco import read_coco
from subcam.data.readers.shards import read_shards, write_shards
from subcam.data.readers.voc import read_voc
from subcam.data.records import ImageSet, Record
from subcam.export import (
    evaluate,
    export_coco_panoptic,
    export_coco_rle,
    export_cvat_images,
    export_cvat_masks,
    export_label_studio,
    open_masks,
)
from subcam.export.images import find_images

PYTHON = os.environ.get("SUBCAM_INTEROP", "")
PROGRAM = Path(__file__).parent / "other_programs.py"

pytestmark = pytest.mark.skipif(not PYTHON, reason="needs the environment of tests/interop (SUBCAM_INTEROP)")

PACKAGES = (
    *("pycocotools", "pycocotools, results", "supervision", "label-studio-sdk", "cvat-sdk", "webdataset"),
    *("datumaro, COCO", "datumaro, panoptic", "datumaro, CVAT's XML", "datumaro, CVAT's masks"),
)


@pytest.fixture(scope="module")
def truth(tmp_path_factory: pytest.TempPathFactory) -> dict[str, np.ndarray]:
    """Label maps with holes, single pixels, pieces that touch by a corner, lines of one pixel; all classes in each."""
    made = write_made(tmp_path_factory.mktemp("made"), unlabelled=False)
    for labels in made.values():
        labels[5, :] = 1
        labels[:, 7] = 2
        labels[10:13, 10:13] = 3
        labels[11, 11] = 0
    return made


@pytest.fixture(scope="module")
def folder(truth: dict[str, np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What subcam wrote, what the others read in it, and what they wrote."""
    folder = tmp_path_factory.mktemp("interop")
    write_made(folder, unlabelled=False)
    from subcam.data.images import voc_palette, write_mask

    for name, labels in truth.items():
        write_mask(folder / "masks" / f"{name}.png", labels, palette=voc_palette(), durable=False)
    np.savez(folder / "truth.npz", **truth)
    (folder / "classes.json").write_text(json.dumps(NAMES))
    ours = folder / "ours"
    masks = open_masks(folder / "masks")
    images = find_images(masks.files, folder / "images")
    export_coco_rle(masks, ours / "coco", images=images)
    export_coco_panoptic(masks, ours / "panoptic", images=images)
    export_label_studio(masks, ours / "label-studio", images=images)
    export_cvat_images(masks, ours / "cvat.xml", images=images)
    export_cvat_masks(masks, ours / "cvat.zip", images=images)
    zipfile.ZipFile(ours / "cvat.zip").extractall(ours / "cvat-masks")
    # Datumaro reads COCO's files by the names that COCO gives them, and nothing without its image.
    shutil.copytree(folder / "images", ours / "images")
    for kind, source in (("coco", "coco/annotations.json"), ("panoptic", "panoptic/panoptic.json")):
        place = ours / f"datumaro-{kind}" / "annotations"
        place.mkdir(parents=True)
        name = "instances" if kind == "coco" else "panoptic"
        shutil.copy(ours / source, place / f"{name}_default.json")
        shutil.copytree(folder / "images", ours / f"datumaro-{kind}" / "images" / "default")
    shutil.copytree(ours / "panoptic" / "panoptic", ours / "datumaro-panoptic" / "annotations" / "panoptic_default")
    records = tuple(
        Record(
            name=name,
            image=folder / "images" / f"{name}.jpg",
            labels=tuple(value - 1 for value in sorted(set(labels.ravel().tolist()) - {0})),
            mask=folder / "masks" / f"{name}.png",
        )
        for name, labels in truth.items()
    )
    image_set = ImageSet(class_names=NAMES, records=records, mask_values=(0, 1, 2, 3, *[255] * 252))
    write_shards(ours / "shards", image_set, split="train")
    done = subprocess.run([PYTHON, "-W", "ignore", PROGRAM, folder], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


@pytest.fixture(scope="module")
def read(folder: Path) -> dict[str, np.ndarray]:
    with np.load(folder / "read.npz") as arrays:
        return {key: arrays[key] for key in arrays.files}


# What subcam writes


@pytest.mark.parametrize("name", SIZES)
@pytest.mark.parametrize("package", PACKAGES)
def test_they_read_the_masks_that_were_written(
    read: dict[str, np.ndarray], truth: dict[str, np.ndarray], package: str, name: str
) -> None:
    np.testing.assert_array_equal(read[f"{package}|{name}"], truth[name])


# What subcam reads


def masks_of(image_set: ImageSet) -> dict[str, np.ndarray]:
    """Masks by the last part of the image's name; label i + 1 is class i."""
    return {
        record.name.rpartition("/")[2]: read_mask(record.mask, image_set.mask_values)
        for record in image_set.records
        if record.mask is not None
    }


def test_coco_with_compressed_rle(folder: Path, truth: dict[str, np.ndarray], tmp_path: Path) -> None:
    shutil.copytree(folder / "images", tmp_path / "images")
    shutil.copy(folder / "theirs" / "pycocotools.json", tmp_path / "all.json")
    found = read_coco(tmp_path, split=None, labels="all.json", mask_folder=tmp_path / "masks")
    assert found.class_names == NAMES
    same(masks_of(found), truth)


def test_datumaro_s_coco_marks_all_masks_as_groups(folder: Path, truth: dict[str, np.ndarray], tmp_path: Path) -> None:
    root, file = folder / "theirs" / "datumaro-coco", "annotations/instances_default.json"
    written = json.loads((root / file).read_text())
    assert {entry["iscrowd"] for entry in written["annotations"]} == {1}
    as_objects = read_coco(root, split=None, labels=file, crowd_masks=True, mask_folder=tmp_path / "objects")
    same(masks_of(as_objects), truth)
    as_groups = read_coco(root, split=None, labels=file, mask_folder=tmp_path / "groups")
    same(masks_of(as_groups), {name: np.where(labels == 0, 0, 255) for name, labels in truth.items()})


def test_datumaro_s_voc(folder: Path, truth: dict[str, np.ndarray]) -> None:
    """It has masks in colours, a label map without colours, and no labels of images."""
    found = read_voc(folder / "theirs" / "datumaro-voc", split="train")
    assert found.class_names == NAMES
    same(masks_of(found), truth)
    result = evaluate(predictions=folder / "masks", truth=folder / "theirs" / "datumaro-voc")
    assert result.class_names == ("background", *NAMES)
    assert result.images == len(SIZES)
    assert result.scores.iou.tolist() == [1, 1, 1, 1]


def test_supervision_s_coco_is_drawn_as_pycocotools_draws_it(
    folder: Path, read: dict[str, np.ndarray], truth: dict[str, np.ndarray], tmp_path: Path
) -> None:
    shutil.copytree(folder / "images", tmp_path / "images")
    shutil.copy(folder / "theirs" / "supervision" / "annotations.json", tmp_path / "all.json")
    found = read_coco(tmp_path, split=None, labels="all.json", crowd_masks=True, mask_folder=tmp_path / "masks")
    drawn = {name: read[f"drawn|supervision|{name}"] for name in SIZES}
    same(masks_of(found), drawn)
    same(drawn, truth)


def test_webdataset_s_shards(folder: Path, truth: dict[str, np.ndarray]) -> None:
    found = read_shards(folder / "theirs")
    order = [found.class_names.index(name) + 1 for name in NAMES]
    assert sorted(order) == [1, 2, 3]
    same(masks_of(found), truth)
    assert {record.name for record in found.records} == set(SIZES)


def test_label_studio_s_brush_gives_labels(folder: Path, tmp_path: Path) -> None:
    found = labels_from_label_studio(folder / "theirs" / "label-studio.json", root=folder / "images")
    assert {Path(image.image).stem: set(image.names) for image in found.images} == {name: set(NAMES) for name in SIZES}


def test_label_studio_s_brush_comes_back(folder: Path, truth: dict[str, np.ndarray], tmp_path: Path) -> None:
    path = folder / "theirs" / "label-studio.json"
    done = masks_from_label_studio(path, root=folder / "images", out=tmp_path / "out", class_names=NAMES)
    assert (done.masks, done.skipped) == (len(truth), ())
    found = open_masks(tmp_path / "out")
    assert found.class_names == NAMES
    same({name: found.read(name, num_classes=3) for name in found.files}, truth)


def test_label_studio_s_decoder_and_ours_agree(
    folder: Path, read: dict[str, np.ndarray], truth: dict[str, np.ndarray]
) -> None:
    """On soft edges and colours, of which their decoder keeps how far each pixel is seen."""
    for name, labels in truth.items():
        rle = json.loads((folder / "theirs" / "soft-brushes.json").read_text())[name]
        alpha = read[f"drawn|label-studio-sdk, soft|{name}"]
        assert len(np.unique(alpha)) > 100
        np.testing.assert_array_equal(mask_of_brush(rle, labels.shape), alpha > 127)


def same(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert set(found) == set(expected)
    for name, labels in expected.items():
        np.testing.assert_array_equal(found[name], labels, err_msg=name)


def test_the_environment_is_pinned() -> None:
    lines = (Path(__file__).parent / "requirements.txt").read_text().splitlines()
    pins = dict(line.split(" ;")[0].split("==") for line in lines if line and not line.startswith("#"))
    assert {"datumaro", "label-studio-sdk", "supervision", "pycocotools", "webdataset", "cvat-sdk"} <= set(pins)
