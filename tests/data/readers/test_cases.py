"""The cases of `shared/cases`, each a small set in the form of another program, and members of its kinds made here."""

from pathlib import Path

import pytest

from subcam.data.dataset import open_dataset
from subcam.data.images import read_mask
from subcam.data.labels.from_annotation_tools import labels_from_coco, labels_from_label_studio
from subcam.data.records import ImageSet
from subcam.data.settings import DatasetSettings

pytestmark = pytest.mark.data

BASE = {"p1": {"dog"}, "p2": {"cat"}, "p3": {"dog"}, "p4": {"cat"}}
COCO = (
    *("base", "half", "float_size", "category_id_text", "roboflow_root", "roboflow_same_name", "labelstudio_windows"),
)


@pytest.fixture
def cases(shared: Path) -> Path:
    if not (shared / "cases").is_dir():
        pytest.skip(f"needs {shared / 'cases'}")
    return shared / "cases"


def named(found: ImageSet) -> dict[str, set[str]]:
    """What is in each image, under the last characters of its name, without the digits of an upload."""
    return {
        record.name.rpartition("-")[2]: {found.class_names[index] for index in record.labels}
        for record in found.records
    }


def test_no_case_of_coco_is_left_out(cases: Path) -> None:
    assert {path.name for path in (cases / "coco").iterdir()} == set(COCO)
    assert {path.name for path in cases.iterdir() if path.is_dir()} == {"coco", "label-studio", "voc"}


@pytest.mark.parametrize("name", COCO)
def test_coco_in_a_run(cases: Path, name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    settings = DatasetSettings(root=str(cases / "coco" / name), labels="annotations.json")
    found = open_dataset(settings, work_folder=tmp_path)
    assert found.train.image_set.class_names == ("cat", "dog")
    assert named(found.train.image_set) == BASE
    assert set(found.train.sizes) == {(40, 48)}
    for record in found.train.image_set.records:
        assert record.mask is not None
        mask = read_mask(record.mask, found.train.image_set.mask_values)
        assert (mask[10, 10], mask[30, 30], (mask > 0).sum()) == (record.labels[0] + 1, 0, 400)
    assert ("which only heads other categories" in caplog.text) == name.startswith("roboflow")


@pytest.mark.parametrize("name", COCO)
def test_coco_as_a_source_of_labels(cases: Path, name: str) -> None:
    root = cases / "coco" / name
    found = labels_from_coco(root / "annotations.json", root=root)
    assert {Path(image.image).stem.rpartition("-")[2]: set(image.names) for image in found.images} == BASE
    assert found.skipped == ()


def test_label_studio_s_skipped_tasks(cases: Path) -> None:
    folder = cases / "label-studio"
    found = labels_from_label_studio(folder / "skipped.json", root=folder / "pics")
    assert {image.image: image.names for image in found.images} == {
        "p1.jpg": ("cat",),
        "p4.jpg": (),
        "p5.jpg": ("cat", "dog"),
    }
    assert [skip.file[-6:] for skip in found.skipped] == ["p2.jpg", "p3.jpg"]
    assert [word in skip.reason for word, skip in zip(("skipped", "not annotated"), found.skipped, strict=True)]


@pytest.mark.parametrize(
    ("name", "classes", "values"), [("png", ("cat", "dog"), (8, 12)), ("own_classes", ("apple", "pear"), (1, 2))]
)
def test_voc(cases: Path, name: str, classes: tuple[str, str], values: tuple[int, int], tmp_path: Path) -> None:
    settings = DatasetSettings(root=str(cases / "voc" / name))
    found = open_dataset(settings, work_folder=tmp_path)
    images = found.train.image_set
    assert list(found.scored) == ["train", "val"]
    every = {f"2007_00000{n}": {classes[n % 2]} for n in range(8)}
    assert named(images) | named(found.scored["val"].image_set) == every
    assert [images.mask_values[value] for value in values] == [images.class_names.index(name) + 1 for name in classes]
    chosen = open_dataset(DatasetSettings(root=str(cases / "voc" / name), classes=classes), work_folder=tmp_path)
    assert chosen.train.image_set.class_names == classes
