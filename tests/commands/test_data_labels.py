"""`subcam data labels` as a user gives it: each source is recognised, and the CSV is one that a run reads."""

import json
from pathlib import Path

import pytest
from tests.data.readers.made_coco import coco_2014, image
from tests.labels.test_from_annotation_tools import region, task

from subcam.commands.data_labels import kind_of, labels
from subcam.data.dataset import DatasetSettings, open_dataset
from subcam.errors import SettingsError


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
