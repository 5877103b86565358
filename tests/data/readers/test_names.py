"""No name in a list or archive leads out of the folder, whatever the reader: one table, each reader, each name."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from tests.mistakes import write_tar

from subcam.data.images import read_image
from subcam.data.labels.from_annotation_tools import labels_from_coco, labels_from_label_studio
from subcam.data.labels.from_folders_and_tags import labels_from_tag_table
from subcam.data.readers.coco import read_coco
from subcam.data.readers.folder import read_folder
from subcam.data.readers.shards import read_shards
from subcam.data.readers.voc import read_voc
from subcam.data.records import ImageSet, Record
from subcam.errors import BadInputError

OBJECT = "<annotation><object><name>cat</name></object></annotation>"


def folder(root: Path, name: str) -> ImageSet:
    (root / "labels.csv").write_text(f'image,labels\n"{name}.png",cat\n')
    return read_folder(root)


def coco(root: Path, name: str) -> ImageSet:
    (root / "a.json").write_text(json.dumps(_coco(name)))
    return read_coco(root, split=None, labels="a.json")


def _coco(name: str) -> dict[str, list[dict[str, object]]]:
    return {
        "images": [{"id": 1, "file_name": f"{name}.png"}],
        "categories": [{"id": 1, "name": "cat"}],
        "annotations": [{"image_id": 1, "category_id": 1}],
    }


def voc(root: Path, name: str) -> ImageSet:
    for place in ("JPEGImages", "Annotations", "ImageSets/Segmentation"):
        (root / place).mkdir(parents=True, exist_ok=True)
    (root / "ImageSets/Segmentation/train.txt").write_text(f"{name}\n")
    (root / "JPEGImages" / "good.png").write_bytes((root / "good.png").read_bytes())
    (root / "Annotations" / "good.xml").write_text(OBJECT)
    return read_voc(root, split="train")


def voc_of_paths(root: Path, name: str) -> ImageSet:
    return voc(root, f"/JPEGImages/{name}.png /SegmentationClassAug/{name}.png")


def shards(root: Path, name: str) -> ImageSet:
    image = (root / "good.png").read_bytes()
    write_tar(root / "train.tar", {f"{name}.png": image, f"{name}.txt": b"cat"})
    return read_shards(root)


def coco_labels(root: Path, name: str) -> object:
    (root / "a.json").write_text(json.dumps(_coco(name)))
    return labels_from_coco(root / "a.json", root=root)


def label_studio(root: Path, name: str) -> object:
    task = {"data": {"image": f"{name}.png"}, "annotations": [{"result": []}]}
    (root / "a.json").write_text(json.dumps([task]))
    return labels_from_label_studio(root / "a.json", root=root)


def tags(root: Path, name: str) -> object:
    (root / "a.json").write_text(json.dumps({f"{name}.png": ["cat"]}))
    return labels_from_tag_table(root / "a.json", root=root)


READERS: dict[str, Callable[[Path, str], object]] = {
    reader.__name__: reader for reader in (folder, coco, voc, voc_of_paths, shards, coco_labels, label_studio, tags)
}
NAMES = ["../secret", "OUT/secret", "in/../../secret", "link/secret", "a\tb", "a\x7fb", "x" * 300, "y/" * 600 + "a"]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder with one image, beside which lies another one; a link in it leads there."""
    path = tmp_path / "root"
    (path / "in").mkdir(parents=True)
    for file in (path / "good.png", tmp_path / "secret.png"):
        Image.new("RGB", (8, 8)).save(file)
    (path / "link").symlink_to(tmp_path)
    return path


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("reader", READERS.values(), ids=READERS)
def test_what_leads_out_is_refused(reader: Callable[[Path, str], object], name: str, root: Path) -> None:
    name = name.replace("OUT", str(root.parent))
    if reader is shards and name == "link/secret":
        # A member of the archive, no link on the disk.
        assert shards(root, name).records[0].image == root / "train.tar" / "link" / "secret.png"
        return
    with pytest.raises(BadInputError, match=re.escape(str(root))):
        reader(root, name)


@pytest.mark.parametrize("reader", [reader for reader in READERS.values() if reader is not voc_of_paths])
def test_a_good_name_is_read(reader: Callable[[Path, str], object], root: Path) -> None:
    """As is ./NAME, which plain `tar` and `find` write."""
    for name in ("good", "./good") if reader is not voc else ("good",):
        found = reader(root, name)
        if isinstance(found, ImageSet):
            assert [record.name for record in found.records] == ["good"]
            assert read_image(found.records[0].image).shape == (8, 8, 3)


@pytest.mark.parametrize("name", ["../a", "/a", "", "a\n", "a" * 252])
def test_no_record_is_made_of_such_a_name(name: str) -> None:
    with pytest.raises(BadInputError, match="outputs cannot be named"):
        Record(name=name, image=Path("a.jpg"), labels=())
