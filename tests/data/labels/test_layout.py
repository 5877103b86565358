"""Folders as people have them, read by a run as they are: the labels are those that were written, in whatever form."""

import json
from pathlib import Path

import pytest
from PIL import Image

from subcam.audit.dataset import audit_dataset
from subcam.commands.data.check import check
from subcam.commands.data.labels import labels
from subcam.data.dataset import ALL, Splits, image_files, open_dataset, open_splits
from subcam.data.labels.layout import reading_of
from subcam.data.readers.folder import read_folder
from subcam.data.settings import DatasetSettings
from subcam.errors import BadInputError, SettingsError
from subcam.export.images import find_images, images_at
from subcam.preflight import say_images

SHOWN = {"a": ("cat",), "b": ("cat", "dog"), "c": ("dog",), "d": ()}
"""What four images show."""


def images(folder: Path, names: str = "abcd") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        Image.new("RGB", (40, 30), (ord(name) * 7 % 256, 9, 9)).save(folder / f"{name}.jpg")


def understood(root: Path, **settings: str) -> dict[str, tuple[str, ...]]:
    """What each image shows by its own name, as a run reads the folder."""
    splits = splits_of(root, **settings)
    read = splits.read(splits.train)
    names = read.class_names
    return {Path(r.name).name: tuple(names[label] for label in r.labels) for r in read.records}


def splits_of(root: Path, **settings: str) -> Splits:
    return open_splits(DatasetSettings(root=str(root), **settings), work_folder=root / "work")  # type: ignore[arg-type]


def table(root: Path, text: str, name: str = "tags.csv") -> None:
    images(root)
    (root / name).write_text(text)


TABLES = {
    "image,label": "image,label\na.jpg,cat\nb.jpg,cat\nb.jpg,dog\nc.jpg,dog\nd.jpg,\n",
    "filename,tags": 'filename,tags\na.jpg,cat\nb.jpg,"cat, dog"\nc.jpg,dog\nd.jpg,\n',
    "image,labels": "image,labels\na.jpg,cat\nb.jpg,cat;dog\nc.jpg,dog\nd.jpg,\n",
    "pandas": ",filename,cat,dog\n0,a.jpg,1.0,0.0\n1,b.jpg,1.0,1.0\n2,c.jpg,0.0,1.0\n3,d.jpg,0.0,0.0\n",
    "excel": "Filename;Class\na.jpg;cat\nb.jpg;cat, dog\nc.jpg;dog\nd.jpg;\n",
    "ids": "image_id,category\na,cat\nb,cat|dog\nc,dog\nd,\n",
    "scores": "ImageID,LabelName,Confidence\na,cat,1\nb,cat,1\nb,dog,1\nc,dog,1\nd,cat,0\n",
}


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("file", ["tags.csv", "labels.csv"])
def test_a_table_with_the_header_that_people_write(tmp_path: Path, name: str, file: str) -> None:
    table(tmp_path, TABLES[name], file)
    assert understood(tmp_path) == SHOWN


def test_a_table_finds_images_in_folders_by_the_end_of_their_names(tmp_path: Path) -> None:
    images(tmp_path / "photos" / "spring")
    (tmp_path / "train.csv").write_text(TABLES["image,label"])
    assert understood(tmp_path) == SHOWN


def test_numbers_beside_columns_of_classes_are_no_names(tmp_path: Path) -> None:
    table(tmp_path, "image,label,cat,dog\na.jpg,3,1,0\nb.jpg,4,1,1\nc.jpg,5,0,1\nd.jpg,6,0,0\n")
    assert understood(tmp_path) == SHOWN


def test_numbers_that_are_all_there_is_are_names(tmp_path: Path) -> None:
    table(tmp_path, "image,label\na.jpg,3\nb.jpg,1\nc.jpg,0\n")
    assert understood(tmp_path) == {"a": ("3",), "b": ("1",), "c": ("0",)}


def folders(root: Path) -> None:
    for name in ("cat", "dog"):
        images(root / name, "ab" if name == "cat" else "c")
    (root / "dog" / "b.jpg").write_bytes((root / "cat" / "b.jpg").read_bytes())
    (root / "cat" / "b.jpg").rename(root / "cat" / "b.jpeg")


def label_studio(root: Path) -> None:
    images(root / "images")
    tasks = [
        {
            "id": place,
            "data": {"image": f"/data/upload/1/0a1b2c3d-{name}.jpg"},
            "annotations": [{"result": [{"type": "choices", "value": {"choices": list(shown)}}] if shown else []}],
        }
        for place, (name, shown) in enumerate(SHOWN.items())
    ]
    (root / "project-1-at-2024.json").write_text(json.dumps(tasks))


def cvat(root: Path) -> None:
    images(root / "images")
    shapes = {name: "".join(f'<box label="{one}" xtl="1"/>' for one in shown) for name, shown in SHOWN.items()}
    entries = "".join(f'<image id="0" name="{name}.jpg">{shapes[name]}</image>' for name in SHOWN)
    (root / "annotations.xml").write_text(f"<annotations><version>1.1</version>{entries}</annotations>")


def yolo(root: Path) -> None:
    images(root / "images" / "train")
    (root / "labels" / "train").mkdir(parents=True)
    for name, shown in SHOWN.items():
        lines = [f"{['cat', 'dog'].index(one)} 0.5 0.5 0.2 0.2\n" for one in shown]
        (root / "labels" / "train" / f"{name}.txt").write_text("".join(lines))
    (root / "data.yaml").write_text("names: [cat, dog]\nnc: 2\n")
    (root / "notes.json").write_text('{"categories": [], "info": {}}')


def annotations(root: Path) -> None:
    images(root / "images")
    (root / "annotations").mkdir()
    for name, shown in SHOWN.items():
        objects = "".join(f"<object><name>{one}</name></object>" for one in shown)
        (root / "annotations" / f"{name}.xml").write_text(f"<annotation>{objects}</annotation>")


def texts(root: Path) -> None:
    images(root)
    for name, shown in SHOWN.items():
        (root / f"{name}.txt").write_text(", ".join(shown))


def coco(root: Path) -> None:
    images(root / "images", "abc")
    content = {
        "images": [{"id": place, "file_name": f"{name}.jpg"} for place, name in enumerate("abc")],
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
        "annotations": [
            {"id": place, "image_id": "abc".index(name), "category_id": ("cat", "dog").index(one) + 1, "bbox": [1] * 4}
            for place, (name, one) in enumerate((name, one) for name in "abc" for one in SHOWN[name])
        ],
    }
    (root / "result.json").write_text(json.dumps(content))


MADE = {
    "folders": folders,
    "label-studio": label_studio,
    "cvat": cvat,
    "yolo": yolo,
    "xml": annotations,
    "tags": texts,
    "coco": coco,
}


@pytest.mark.parametrize("layout", MADE)
def test_what_other_programs_leave_is_read_as_it_is(
    tmp_path: Path, layout: str, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "mine"
    root.mkdir()
    MADE[layout](root)
    without_empty = layout in ("folders", "coco")
    assert understood(root) == {name: shown for name, shown in SHOWN.items() if shown or not without_empty}
    settings = DatasetSettings(root=str(root))
    dataset = open_dataset(settings, work_folder=tmp_path / "work")
    files = image_files(settings, work_folder=tmp_path / "work")
    assert files == {record.name: record.image for record in dataset.train.image_set.records}
    assert images_at(files, root) == find_images(files, root)
    say_images(dataset)
    assert f"mine: read as layout {layout}: " in capsys.readouterr().out
    assert len(dataset.train.image_set) == (3 if without_empty else 4)
    check([str(root), "--out", str(tmp_path / "audit"), "--workers", "1"])
    said = capsys.readouterr().out
    assert f"mine: read as layout {layout}: " in said
    assert "STOPS A RUN" not in said
    assert f"read as layout {layout}: " in (tmp_path / "audit" / "index.html").read_text()


@pytest.mark.parametrize("layout", [name for name in MADE if name != "coco"])
def test_a_run_reads_what_the_csv_of_data_labels_says(tmp_path: Path, layout: str) -> None:
    MADE[layout](tmp_path)
    direct = splits_of(tmp_path)
    source = reading_of(tmp_path).source
    labels([str(source), "--images", str(tmp_path)])
    by_csv = splits_of(tmp_path)
    assert (direct.layout, by_csv.layout) == (layout, "folder")
    assert direct.read(direct.train).records == by_csv.read(by_csv.train).records
    assert direct.read(direct.train) == read_folder(tmp_path)


def test_splits_and_masks_are_those_of_a_csv(tmp_path: Path) -> None:
    images(tmp_path / "train" / "cat", "ab")
    images(tmp_path / "train" / "dog", "cd")
    images(tmp_path / "valid" / "cat", "e")
    (tmp_path / "masks" / "valid" / "cat").mkdir(parents=True)
    Image.new("L", (40, 30), 1).save(tmp_path / "masks" / "valid" / "cat" / "e.png")
    (tmp_path / "masks").rename(tmp_path / "kept")
    assert splits_of(tmp_path, layout="folders").train is None  # a folder more that is no split: all are classes
    (tmp_path / "kept").rename(tmp_path / "masks")
    splits = splits_of(tmp_path)
    assert (splits.layout, splits.train, splits.scored) == ("folders", "train", ("valid",))
    assert [record.mask is None for record in splits.read("valid").records] == [False]


@pytest.mark.parametrize("skip", [False, True])
def test_what_cannot_be_used_stops_a_run_or_is_named(tmp_path: Path, skip: bool) -> None:
    folders(tmp_path)
    (tmp_path / "cat" / "x.psd").write_bytes(b"8BPS")
    settings = DatasetSettings(root=str(tmp_path), on_bad_input="skip" if skip else "stop")
    if skip:
        (left_out,) = open_splits(settings, work_folder=tmp_path).read(None).skipped
        assert left_out.file == "cat/x.psd"
        return
    with pytest.raises(BadInputError, match=r"x\.psd: expected.*1 of 4 entries.*--dataset.on-bad-input skip"):
        open_splits(settings, work_folder=tmp_path)


def test_a_folder_called_background_holds_images_of_no_class(tmp_path: Path) -> None:
    """As the advice of `data check` on a class that is in every image says."""
    images(tmp_path / "cat", "ab")
    everywhere = audit_dataset(DatasetSettings(root=str(tmp_path)), work_folder=tmp_path, workers=1)
    (finding,) = [finding for finding in everywhere.findings if finding.kind == "class-everywhere"]
    assert "in a folder called background" in finding.advice
    images(tmp_path / "background", "cd")
    assert understood(tmp_path) == {"a": ("cat",), "b": ("cat",), "c": (), "d": ()}
    mended = audit_dataset(DatasetSettings(root=str(tmp_path)), work_folder=tmp_path, workers=1)
    assert not [finding for finding in mended.findings if finding.kind == "class-everywhere"]


def test_two_plausible_readings_are_asked_about(tmp_path: Path) -> None:
    folders(tmp_path)
    images(tmp_path)
    (tmp_path / "tags.csv").write_text(TABLES["image,label"])
    with pytest.raises(SettingsError, match=r"2 ways.*--dataset.layout folder --dataset.labels tags.csv.*folders\)"):
        splits_of(tmp_path)
    by_table = splits_of(tmp_path, layout="folder", labels="tags.csv")
    assert (by_table.layout, by_table.train, by_table.scored) == ("folder", None, (ALL,))
    assert splits_of(tmp_path, labels="tags.csv").layout == "folder"
    for name in "abcd":
        (tmp_path / f"{name}.jpg").unlink()
    assert splits_of(tmp_path, layout="folders").layout == "folders"


def test_no_labels_at_all_says_what_would_be_some(tmp_path: Path) -> None:
    images(tmp_path)
    (tmp_path / "prices.csv").write_text("product,price\ncat,3\n")
    (tmp_path / "settings.json").write_text('{"a": 1}')
    with pytest.raises(BadInputError, match=r"got 4 images and no labels .*are prices.csv, settings.json\); sort"):
        splits_of(tmp_path)
    label_studio(tmp_path / "mine")
    advice = "--data .*mine --dataset.labels project-1-at-2024.json; or sort .*folder for each class.*image,labels"
    with pytest.raises(BadInputError, match=advice):
        splits_of(tmp_path / "mine" / "images")
    assert understood(tmp_path / "mine", labels="project-1-at-2024.json") == SHOWN


def test_a_file_in_place_of_the_folder_is_told_how_to_be_given(tmp_path: Path) -> None:
    label_studio(tmp_path)
    with pytest.raises(SettingsError, match=r"--data .* --dataset.labels project-1-at-2024.json"):
        splits_of(tmp_path / "project-1-at-2024.json")
    assert understood(tmp_path, labels="project-1-at-2024.json") == SHOWN
