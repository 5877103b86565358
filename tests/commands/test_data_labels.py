"""`subcam data labels` as a user gives it: each source is recognised, and the CSV is one that a run reads."""

import json
from pathlib import Path

import pytest
from tests.data.labels.test_from_annotation_tools import region, task
from tests.data.readers.made_coco import coco_2014, image

from subcam.commands.data.labels import labels
from subcam.data.dataset import open_dataset
from subcam.data.labels.source_kind import kind_of
from subcam.data.settings import DatasetSettings
from subcam.errors import BadInputError, SettingsError


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    root = tmp_path / "mine"
    for seed, name in enumerate(("cat/1.png", "cat/2.png", "dog/1.png", "rare/1.png")):
        image(root / name, seed=seed)
    return root


def test_folders_become_a_data_set(folders: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    labels([str(folders), "--rename", "dog=animal", "cat=animal", "--drop", "rare"])
    said = capsys.readouterr().out
    assert "labels.csv: 4 images, 1 names, read as folders" in said
    assert "animal (3)" in said
    assert "1 images without a name" in said
    assert "rare (1, dropped)" in said
    found = open_dataset(DatasetSettings(root=str(folders)), work_folder=tmp_path / "work")
    assert found.train.image_set.class_names == ("animal",)
    assert len(found.train.image_set) == 4


def test_images_without_a_name_may_be_left_out(folders: Path, capsys: pytest.CaptureFixture[str]) -> None:
    labels([str(folders), "--min-count", "2", "--no-keep-unlabelled", "--out", str(folders / "some.csv")])
    said = capsys.readouterr().out
    assert "left out 2 images without a name" in said
    assert "in fewer than 2 images" in said
    assert "--dataset.labels some.csv" in said
    assert (folders / "some.csv").read_text().splitlines() == ["image,labels", "cat/1.png,cat", "cat/2.png,cat"]


def test_coco_beside_its_images(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = coco_2014(tmp_path / "coco")
    labels([str(root / "annotations" / "instances_val2014.json"), "--images", str(root / "val2014")])
    assert "2 images, 2 names, read as coco" in capsys.readouterr().out
    written = (root / "val2014" / "labels.csv").read_text().splitlines()
    assert written == ["image,labels", "COCO_val2014_5.png,cat", "COCO_val2014_6.png,person;cat"]


def test_what_cannot_be_used_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image(tmp_path / "a.jpg")
    tasks = [task("a.jpg", region("choices", "cat")), *(task(f"gone{number}.jpg") for number in range(7))]
    (tmp_path / "export.json").write_text(json.dumps(tasks))
    labels([str(tmp_path / "export.json")])
    said = capsys.readouterr().out
    assert "read as label-studio" in said
    assert "left out 7 entries that cannot be used:" in said
    assert "no image 'gone4.jpg'" in said
    assert "and 2 more" in said


def test_many_names_are_counted_not_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image(tmp_path / "a.png").with_suffix(".txt").write_text(", ".join(f"tag {number}" for number in range(60)))
    labels([str(tmp_path)])
    said = capsys.readouterr().out
    assert "1 images, 60 names, read as tags" in said
    assert "and 20 more" in said


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        ('{"info": {}, "images": [{}]}', "coco"),
        ('{"info": {}}', "coco"),
        ('[{"id": 1, "annotations": []}]', "label-studio"),
        ('[{"image": "a.jpg", "annotator": 1}]', "label-studio"),
        ('[{"file_name": "a.jpg", "tags": []}]', "tags"),
        ('{"a.jpg": ["cat"]}', "tags"),
    ],
)
def test_what_a_json_file_is(tmp_path: Path, content: str, kind: str) -> None:
    path = tmp_path / "any.json"
    path.write_text(content)
    assert kind_of(path) == kind


def test_a_table_of_tags_and_a_source_that_is_not_there(tmp_path: Path) -> None:
    image(tmp_path / "a.png")
    (tmp_path / "tags.csv").write_text("image,tags\na.png,cat\n")
    labels([str(tmp_path / "tags.csv")])
    assert (tmp_path / "labels.csv").read_text().splitlines() == ["image,labels", "a.png,cat"]
    with pytest.raises(SettingsError, match="expected a folder of images or a file of labels, got none"):
        labels([str(tmp_path / "none")])
    with pytest.raises(SettingsError, match="expected --rename OLD=NEW, got 'cat'"):
        labels([str(tmp_path / "tags.csv"), "--rename", "cat"])


# What a source looks like


def boxes(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("0 0.5 0.5 0.25 0.125\n11 0.1 0.2 1e-2 .5\n")


OTHERS = {
    "VOC": (("JPEGImages/a.jpg", "SegmentationClass/a.png", "Annotations/a.xml"), "a data set in PASCAL VOC's layout"),
    "VOC without images": (("Annotations/a.xml", "ImageSets/Main/train.txt"), "a data set in PASCAL VOC's layout"),
    "COCO": (("annotations/instances_train.json", "train/a.jpg"), "a data set with COCO's files"),
    "Roboflow": (("train/_annotations.coco.json", "train/a.jpg"), "a data set with COCO's files"),
    "shards": (("train-0.tar",), "a folder of shards"),
    "YOLO beside": (("a.jpg", "YOLO a.txt"), "expected a list of what YOLO's numbers mean"),
    "YOLO": (("images/train/a.jpg", "YOLO labels/train/a.txt", "data.yaml"), "data.yaml: expected `names`, a list of"),
    "classes and masks": (("cat/a.jpg", "masks/a.png"), "folders of which masks would be classes"),
    "classes and masks of splits": (
        ("train/cat/a.jpg", "train/masks/a.png"),
        "folders of which masks would be classes",
    ),
    "images and labels": (("images/a.jpg", "labels/a.png"), r"a data set of another layout \(images, labels\)"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_a_data_set_of_another_layout_does_not_become_classes(tmp_path: Path, name: str) -> None:
    files, message = OTHERS[name]
    for number, file in enumerate(files):
        path = tmp_path / file.removeprefix("YOLO ")
        if file.startswith("YOLO"):
            boxes(path)
        elif path.suffix in (".jpg", ".png"):
            image(path, seed=number)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    with pytest.raises(BadInputError, match=message):
        labels([str(tmp_path)])
    assert not (tmp_path / "labels.csv").exists()


def test_what_was_understood_is_said_with_examples(folders: Path, capsys: pytest.CaptureFixture[str]) -> None:
    labels([str(folders)])
    said = capsys.readouterr().out
    assert "read as folders: the names of folders" in said
    assert "for example cat/1.png: cat; dog/1.png: dog; rare/1.png: rare" in said


def test_words_for_nothing_become_no_class(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = ["a.png,cat", "b.png,nan", "c.png,None", "d.png,background", "e.png,"]
    for row in rows:
        image(tmp_path / row.partition(",")[0])
    (tmp_path / "tags.csv").write_text("\n".join(["image,label", *rows]))
    labels([str(tmp_path / "tags.csv")])
    assert (
        "'nan' stands for a missing label, so what the image shows is unknown; --drop nan makes"
        in capsys.readouterr().out
    )
    assert (tmp_path / "labels.csv").read_text().split() == ["image,labels", "a.png,cat", "d.png,", "e.png,"]
    words = ["--overwrite", "--drop", "nan", "--rename", "None=empty"]
    labels([str(tmp_path / "tags.csv"), *words])
    assert (tmp_path / "labels.csv").read_text().split()[1:] == [
        "a.png,cat",
        "b.png,",
        "c.png,empty",
        "d.png,",
        "e.png,",
    ]


def test_data_of_a_task_are_no_labels(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tasks = []
    for name, choice in (("a", "cat"), ("b", "dog")):
        image(tmp_path / f"{name}.jpg")
        data = {"image": f"{name}.jpg", "city": "Paris", "width": "640", "id": len(tasks)}
        tasks.append(data | {"choice": choice, "annotator": 1, "annotation_id": 2, "lead_time": 1.5})
    (tmp_path / "min.json").write_text(json.dumps(tasks))
    labels([str(tmp_path / "min.json")])
    assert "read as label-studio: what stands under choice" in capsys.readouterr().out
    assert (tmp_path / "labels.csv").read_text().split() == ["image,labels", "a.jpg,cat", "b.jpg,dog"]
    labels([str(tmp_path / "min.json"), "--label-keys", "city", "--overwrite"])
    assert (tmp_path / "labels.csv").read_text().split() == ["image,labels", "a.jpg,Paris", "b.jpg,Paris"]


@pytest.mark.parametrize("name", ["annotations.xml", "export.zip", "labels.XLSX"])
def test_files_that_are_not_read_are_said_with_what_is(tmp_path: Path, name: str) -> None:
    """CVAT's XML was "no JSON; export the file again"."""
    (tmp_path / name).write_bytes(b"<annotations></annotations>")
    with pytest.raises(BadInputError, match=rf"{name}: expected JSON, JSON lines, CSV or a folder, got "):
        labels([str(tmp_path / name)])
