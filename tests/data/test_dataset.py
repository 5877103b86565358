"""What a run makes of `--data`: which images it trains on, which it scores, and what it says where it cannot."""

import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.data.readers.made_coco import annotation, coco_2014, write_annotations

from subcam.data.check import CheckedImages
from subcam.data.dataset import ALL, Dataset, open_dataset, open_splits, union
from subcam.data.images import read_indices, voc_palette, write_mask
from subcam.data.readers.shards import write_shards
from subcam.data.readers.toy import CLASSES
from subcam.data.records import ImageSet, Record, mask_values_of
from subcam.data.settings import DatasetSettings, ToySettings
from subcam.errors import BadInputError, SettingsError

TOY = ToySettings(train_images=6, val_images=3, size=16)


def image(path: Path, size: tuple[int, int] = (9, 12)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(zlib.crc32(path.name.encode()))
    Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)).save(path)


def mask(path: Path, value: int, size: tuple[int, int] = (9, 12)) -> None:
    indices = np.zeros(size, np.uint8)
    indices[2:5, 3:7] = value
    write_mask(path, indices, palette=voc_palette())


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    """Six images with a column `split`; only those of val have masks."""
    root = tmp_path / "plain"
    rows = ["image,labels,split"]
    for index, (split, label) in enumerate(
        [("train", "cat"), ("train", "dog"), ("train", "cat;dog"), ("val", "cat"), ("val", "dog"), ("all", "cat")]
    ):
        image(root / "images" / f"{index}.png")
        rows.append(f"{index}.png,{label},{split}")
        if split == "val":
            mask(root / "masks" / f"{index}.png", 1)
    (root / "labels.csv").write_text("\n".join(rows))
    return root


def without_splits(root: Path) -> None:
    lines = (root / "labels.csv").read_text().splitlines()
    (root / "labels.csv").write_text("\n".join(line.rpartition(",")[0] for line in lines))


def voc(root: Path, splits: dict[str, list[str]]) -> Path:
    for name in {name for names in splits.values() for name in names}:
        image(root / "JPEGImages" / f"{name}.jpg")
        mask(root / "SegmentationClass" / f"{name}.png", 8)
        (root / "Annotations").mkdir(exist_ok=True)
        (root / "Annotations" / f"{name}.xml").write_text("<annotation><object><name>cat</name></object></annotation>")
    for split, names in splits.items():
        path = root / "ImageSets" / "Segmentation" / f"{split}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(names))
    return root


def names(images: CheckedImages) -> list[str]:
    return [record.name for record in images.image_set.records]


# Which images


def test_the_generated_set(tmp_path: Path) -> None:
    settings = DatasetSettings(root="toy", toy=TOY)
    found = open_dataset(settings, work_folder=tmp_path)
    assert names(found.train) == [f"train-{index:05d}" for index in range(6)]
    assert list(found.scored) == ["val"]
    assert len(names(found.scored["val"])) == 3
    assert found.train.image_set.class_names == CLASSES
    again = open_dataset(settings, work_folder=tmp_path / "elsewhere")
    assert again.train.digest == found.train.digest


def test_a_generated_set_of_other_settings_lies_beside_the_first(tmp_path: Path) -> None:
    first = open_dataset(DatasetSettings(root="toy", toy=TOY), work_folder=tmp_path)
    before = [record.image.read_bytes() for record in first.train.image_set.records]
    other = open_dataset(DatasetSettings(root="toy", toy=replace(TOY, seed=1)), work_folder=tmp_path)
    assert other.train.digest != first.train.digest
    assert [record.image.read_bytes() for record in first.train.image_set.records] == before


def test_splits_of_a_plain_folder(plain: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    found = open_dataset(DatasetSettings(root=str(plain)), work_folder=tmp_path)
    assert names(found.train) == ["0", "1", "2"]
    assert {split: names(images) for split, images in found.scored.items()} == {"val": ["3", "4"]}
    assert found.without_truth == ("all",)
    assert capsys.readouterr().out == ""


def test_a_split_that_is_called_all_is_that_split(plain: Path, tmp_path: Path) -> None:
    mask(plain / "masks" / "5.png", 1)
    settings = DatasetSettings(root=str(plain), scored_splits=(ALL,))
    assert names(open_dataset(settings, work_folder=tmp_path).scored[ALL]) == ["5"]


def test_a_folder_without_splits_trains_on_and_scores_all(plain: Path, tmp_path: Path) -> None:
    without_splits(plain)
    found = open_dataset(DatasetSettings(root=str(plain)), work_folder=tmp_path)
    assert names(found.train) == list("012345")
    assert found.scored == {ALL: found.train}


def test_a_folder_without_masks_is_not_scored(plain: Path, tmp_path: Path) -> None:
    without_splits(plain)
    (plain / "masks").rename(tmp_path / "away")
    found = open_dataset(DatasetSettings(root=str(plain)), work_folder=tmp_path)
    assert len(names(found.train)) == 6
    assert found.scored == {}


def test_the_training_split_can_be_scored_too(plain: Path, tmp_path: Path) -> None:
    settings = DatasetSettings(root=str(plain), train_split="val", scored_splits=("val",))
    found = open_dataset(settings, work_folder=tmp_path)
    assert names(found.train) == names(found.scored["val"]) == ["3", "4"]


@pytest.mark.parametrize(
    ("there", "train", "scored"),
    [
        (["train_aug", "train", "val"], "train_aug", ["train", "val"]),
        (["train", "val"], "train", ["train", "val"]),
        (["train_aug", "val"], "train_aug", ["val"]),
    ],
)
def test_splits_of_a_voc_folder(tmp_path: Path, there: list[str], train: str, scored: list[str]) -> None:
    root = voc(tmp_path / "voc", {split: [f"{split}_1", f"{split}_2"] for split in there})
    found = open_dataset(DatasetSettings(root=str(root), classes=("dog", "cat")), work_folder=tmp_path)
    assert names(found.train) == [f"{train}_1", f"{train}_2"]
    assert list(found.scored) == scored
    assert found.train.image_set.class_names == ("dog", "cat")
    assert [record.labels for record in found.train.image_set.records] == [(1,), (1,)]


def test_the_real_photographs(voc_animals: Path, tmp_path: Path) -> None:
    """The training images of VOC alone; decoding all 1,216 belongs to no test."""
    settings = DatasetSettings(root=str(voc_animals), train_split="train", scored_splits=("train",), classes=("sheep",))
    found = open_dataset(settings, work_folder=tmp_path)
    assert found.scored == {"train": found.train}
    assert 30 < len(names(found.train)) < 60


# What goes wrong


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"root": ""}, "no images were named; give --data DIR"),
        ({"root": "nowhere"}, "nowhere is no folder; --data takes a folder"),
    ],
)
def test_there_must_be_a_folder(tmp_path: Path, changes: dict, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        open_dataset(DatasetSettings(**changes), work_folder=tmp_path)


def test_splits_must_be_there(plain: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=r"expected rows of split 'test', got none; there are: train, val, all"):
        open_dataset(DatasetSettings(root=str(plain), train_split="test"), work_folder=tmp_path)
    without_splits(plain)
    with pytest.raises(SettingsError, match="has no column 'split'; add it or leave the splits' names out"):
        open_dataset(DatasetSettings(root=str(plain), scored_splits=("val",)), work_folder=tmp_path)
    root = voc(tmp_path / "voc", {"val": ["a"]})
    with pytest.raises(BadInputError, match=r"train_aug\.txt: no such split; there are: val"):
        open_dataset(DatasetSettings(root=str(root)), work_folder=tmp_path)


def test_a_bad_image_stops_or_is_left_out_and_named(plain: Path, tmp_path: Path) -> None:
    (plain / "images" / "1.png").write_bytes(b"not an image")
    settings = DatasetSettings(root=str(plain))
    with pytest.raises(BadInputError, match=r"1\.png: expected an image"):
        open_dataset(settings, work_folder=tmp_path)
    found = open_dataset(replace(settings, on_bad_input="skip"), work_folder=tmp_path)
    assert names(found.train) == ["0", "2"]
    assert [Path(skipped.file).name for skipped in found.train.image_set.skipped] == ["1.png"]


def test_more_classes_than_a_mask_holds_stop_before_an_image_is_read(plain: Path, tmp_path: Path) -> None:
    def write(count: int) -> DatasetSettings:
        rows = [f"{index % 6}.png,{';'.join(f'c{n}' for n in range(index, count, 6))}" for index in range(6)]
        (plain / "labels.csv").write_text("\n".join(["image,labels", *rows]))
        return DatasetSettings(root=str(plain))

    for path in (plain / "masks").iterdir():
        path.unlink()
    assert open_dataset(write(254), work_folder=tmp_path).train.image_set.num_classes == 254
    (plain / "images" / "0.png").write_bytes(b"")
    with pytest.raises(BadInputError, match=r"plain: expected at most 254 classes, .* got 255; merge some, or choose"):
        open_dataset(write(255), work_folder=tmp_path)
    names = tuple(map(str, range(300)))
    images = ImageSet(class_names=names, records=(), mask_values=mask_values_of(names, names))
    with pytest.raises(BadInputError, match="the training images: expected at most 254 classes"):
        Dataset(train=CheckedImages(image_set=images, sizes=(), digest=""), scored={})


def test_masks_without_a_class_score_nothing(plain: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """0 and 255 are background and not scored: a number would be that of the background alone."""
    for path in (plain / "masks").iterdir():
        write_mask(path, np.where(read_indices(path) > 0, 255, 0).astype(np.uint8), palette=voc_palette())
    assert open_dataset(DatasetSettings(root=str(plain)), work_folder=tmp_path).scored == {}
    assert "no mask of val has a pixel of any class: nothing is scored there" in capsys.readouterr().out
    with pytest.raises(BadInputError, match="expected masks to score on val, got none with a pixel of any class"):
        open_dataset(DatasetSettings(root=str(plain), scored_splits=("val",)), work_folder=tmp_path)
    with pytest.raises(SettingsError, match="two_valued_masks is for one class, got 2"):
        open_dataset(DatasetSettings(root=str(plain), two_valued_masks=True), work_folder=tmp_path)
    table = (plain / "labels.csv").read_text().replace("dog", "cat")
    (plain / "labels.csv").write_text(table)
    found = open_dataset(DatasetSettings(root=str(plain), two_valued_masks=True), work_folder=tmp_path)
    assert found.scored["val"].classes_in_masks == {0}


def shards(root: Path, splits: dict[str, list[str]]) -> Path:
    for split, stems in splits.items():
        for stem in stems:
            image(root / "from" / f"{stem}.png")
        images = tuple(Record(name=stem, image=root / "from" / f"{stem}.png", labels=(0,)) for stem in stems)
        write_shards(
            root,
            ImageSet(class_names=("cat",), records=images, mask_values=mask_values_of(["cat"], ["cat"])),
            split=split,
        )
    return root


def test_a_folder_of_shards(tmp_path: Path) -> None:
    root = shards(tmp_path / "shards", {"train": ["a", "b"], "train_aug": ["a", "b", "c"], "val": ["d"]})
    settings = DatasetSettings(root=str(root))
    splits = open_splits(settings, work_folder=tmp_path)
    assert (splits.layout, splits.train, splits.scored) == ("shards", "train_aug", ("train", "val"))
    found = open_dataset(settings, work_folder=tmp_path)
    assert names(found.train) == ["a", "b", "c"]
    assert found.scored == {}
    (root / "train_aug-000000.tar").rename(root / "train_old-000000.tar")
    with pytest.raises(SettingsError, match="several splits to train on; choose one of train, train_old"):
        open_dataset(settings, work_folder=tmp_path)
    assert names(open_dataset(replace(settings, train_split="train"), work_folder=tmp_path).train) == ["a", "b"]
    only = DatasetSettings(root=str(shards(tmp_path / "only", {"mine": ["a"]})))
    assert open_splits(only, work_folder=tmp_path).scored == ("mine",)


# Several splits as one set


def test_a_union_has_each_image_once(plain: Path, tmp_path: Path) -> None:
    (plain / "images" / "4.png").unlink()
    settings = DatasetSettings(root=str(plain), on_bad_input="skip")
    found = open_dataset(settings, work_folder=tmp_path)
    val, train = found.scored["val"], found.train
    both = union(val, train, val)
    assert names(both) == ["3", "0", "1", "2"]
    assert both.sizes == ((9, 12),) * 4
    assert both.image_set.class_names == train.image_set.class_names
    assert [Path(skipped.file).name for skipped in both.image_set.skipped] == ["4.png"]
    assert names(union(train)) == names(train)


def test_the_digest_of_a_union_changes_with_its_parts(plain: Path, tmp_path: Path) -> None:
    def digest() -> str:
        found = open_dataset(DatasetSettings(root=str(plain)), work_folder=tmp_path)
        return union(found.scored["val"], found.train).digest

    before = digest()
    assert digest() == before
    image(plain / "images" / "0.png", (9, 13))
    assert digest() != before


def test_of_several_years_the_one_of_the_training_images_is_scored(tmp_path: Path) -> None:
    root = coco_2014(tmp_path / "coco")
    write_annotations(root / "annotations" / "instances_val2017.json", {5: "5.png"}, [annotation(5, 17)])
    splits = open_splits(DatasetSettings(root=str(root)), work_folder=tmp_path / "work")
    assert (splits.train, splits.scored) == ("train2014", ("val2014",))
