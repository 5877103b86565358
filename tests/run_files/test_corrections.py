"""Corrected drafts come back to the pixel, under the names of the run's images, whatever an upload made of these."""

import json
import re
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image
from tests.export.made_masks import NAMES, made_labels
from tests.stages.given import images_of

from subcam.data.check import CheckedImages
from subcam.data.images import read_indices, voc_palette, write_mask
from subcam.data.labels.brush_code import brush_rle
from subcam.data.records import ImageSet, Record
from subcam.errors import BadInputError
from subcam.export.cvat import export_cvat_images, export_cvat_masks
from subcam.export.images import find_images
from subcam.export.label_studio import export_label_studio
from subcam.export.mask_folder import MaskFolder, open_masks
from subcam.run_files.corrections import TakenCorrections, take_corrections

SIZES = {"sub dir/a (1) [x]": (9, 12), "other/a (1) [x]": (11, 8), "Ünï+&%20?": (7, 7), "plain": (6, 10)}


@dataclass(frozen=True)
class Made:
    """Images below `root`, drafts of them, and masks that somebody made of the drafts; they come back to `root/out`."""

    root: Path
    images: CheckedImages
    drafts: dict[str, Path]
    corrected: dict[str, np.ndarray]

    @property
    def folder(self) -> MaskFolder:
        """The corrected masks, as an export takes them."""
        return open_masks(self.root / "corrected", class_names=NAMES)

    def take(self, export: Path) -> TakenCorrections:
        return take_corrections(export, self.root / "out", images=self.images, drafts=self.drafts)

    def back(self) -> dict[str, np.ndarray]:
        masks = open_masks(self.root / "out")
        assert masks.class_names == NAMES
        return {name: read_indices(path) for name, path in masks.files.items()}


@pytest.fixture
def made(tmp_path: Path) -> Made:
    return make_corrected(tmp_path)


def make_corrected(tmp_path: Path) -> Made:
    records, drafts, corrected = [], {}, {}
    for seed, (name, size) in enumerate(SIZES.items()):
        path = tmp_path / "images" / f"{name}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size[::-1]).save(path)
        records.append(Record(name=name, image=path, labels=(0,)))
        corrected[name] = np.where((labels := made_labels(size, seed)) == 255, 0, labels).astype(np.uint8)
        drafts[name] = tmp_path / "drafts" / f"{name}.png"
        write_mask(drafts[name], np.roll(corrected[name], 1, 1), palette=voc_palette())
        write_mask(tmp_path / "corrected" / f"{name}.png", corrected[name], palette=voc_palette())
    image_set = ImageSet(class_names=NAMES, records=tuple(records), mask_values=())
    return Made(tmp_path, images_of(image_set, list(SIZES.values())), drafts, corrected)


def same(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert found.keys() == expected.keys()
    for name, mask in expected.items():
        np.testing.assert_array_equal(found[name], mask, err_msg=name)


def submitted(made: Made, *, change: Callable[[dict], None] = lambda task: None) -> Path:
    """Label Studio's export of tasks whose drafts were submitted as they are in `corrected`."""
    images = find_images(made.corrected, made.root / "images")
    tasks_path, _ = export_label_studio(made.folder, made.root / "tasks", images=images)
    tasks = json.loads(tasks_path.read_text("utf-8"))
    for task in tasks:
        task["annotations"] = [{"id": 1, "result": task.pop("predictions")[0]["result"], "was_cancelled": False}]
        change(task)
    path = made.root / "export.json"
    path.write_text(json.dumps(tasks))
    return path


def test_brushes_of_label_studio(made: Made) -> None:
    taken = made.take(submitted(made))
    assert sorted(taken.names) == sorted(SIZES)
    assert taken.counts == {
        name: sum(value in mask for mask in made.corrected.values()) for value, name in enumerate(NAMES, 1)
    }
    same(made.back(), made.corrected)


def as_uploaded(name: str) -> str:
    """Label Studio's address of an uploaded image: no folder, a prefix, _ for spaces, much left out (1.23.2)."""
    kept = re.sub(r"[^-\w.]", "", Path(name).name.replace(" ", "_"))
    return f"/data/upload/7/0a1b2c3d-{quote(kept)}.jpg"


@pytest.mark.parametrize("meta", [True, False])
def test_uploads_are_renamed(meta: bool, made: Made) -> None:
    """Of two images that an upload calls alike only what the task says besides tells which is meant."""

    def rename(task: dict) -> None:
        task["data"]["image"] = as_uploaded(task["meta"]["subcam"])
        if not meta:
            del task["meta"]

    path = submitted(made, change=rename)
    if meta:
        made.take(path)
        same(made.back(), made.corrected)
        return
    with pytest.raises(
        BadInputError, match=r"expected tasks of the run's 4 images, got 2 of others: .*may be .*rename one"
    ):
        made.take(path)
    tasks = [task for task in json.loads(path.read_text()) if "a_1" not in task["data"]["image"]]
    path.write_text(json.dumps(tasks))
    made.take(path)
    same(made.back(), {name: mask for name, mask in made.corrected.items() if "a (1)" not in name})


def test_what_nobody_said_is_left_out_and_a_draft_that_was_submitted_counts(made: Made) -> None:
    """Cancelled and untouched tasks stay drafts."""

    def change(task: dict) -> None:
        name = task["meta"]["subcam"]
        if name == "plain":
            task["annotations"][0]["was_cancelled"] = True
        if "Ün" in name:
            task["annotations"] = []
        if name.startswith("sub"):
            values = [value for value in range(1, 4) if (read_indices(made.drafts[name]) == value).any()]
            task["annotations"][0]["result"] = [
                brush(value, read_indices(made.drafts[name]) == value) for value in values
            ]

    taken = made.take(submitted(made, change=change))
    assert sorted(taken.names) == ["other/a (1) [x]", "sub dir/a (1) [x]"]
    assert ["was skipped" in skip.reason for skip in taken.skipped] == [True]
    assert taken.waiting == 1
    np.testing.assert_array_equal(made.back()["sub dir/a (1) [x]"], read_indices(made.drafts["sub dir/a (1) [x]"]))


def brush(value: int, mask: np.ndarray) -> dict:
    size = {"original_width": mask.shape[1], "original_height": mask.shape[0]}
    rle = {"format": "rle", "rle": brush_rle(mask).tolist(), "brushlabels": [NAMES[value - 1]]}
    return {"type": "brushlabels", "value": rle} | size


def test_newer_masks_replace_older_ones_and_others_stay(made: Made) -> None:
    made.take(submitted(made))
    again = np.full(SIZES["plain"], 2, np.uint8)

    def change(task: dict) -> None:
        mine = task["meta"]["subcam"] == "plain"
        task["annotations"] = [{"id": 2, "result": [brush(2, again == 2)]}] if mine else []

    assert made.take(submitted(made, change=change)).names == ("plain",)
    same(made.back(), made.corrected | {"plain": again})


@pytest.mark.parametrize("kind", ["xml", "zip of xml", "masks", "folder"])
def test_exports_of_cvat_and_folders(kind: str, made: Made) -> None:
    """A mask that is its draft is left out, as nothing says that somebody looked at it."""
    write_mask(made.drafts["plain"], made.corrected["plain"], palette=voc_palette())
    images = find_images(made.corrected, made.root / "images")
    path = made.root / ("export.xml" if kind == "xml" else "export.zip")
    if kind == "folder":
        path = made.root / "corrected"
        (path / "classes.txt").write_text("\n".join(NAMES))
    elif kind == "masks":
        export_cvat_masks(made.folder, path, images=images)
    else:
        xml = export_cvat_images(made.folder, made.root / "annotations.xml", images=images)
        if kind == "xml":
            path = xml
        else:
            with zipfile.ZipFile(path, "w") as archive:
                archive.writestr("images/", "")
                archive.write(xml, "annotations.xml")
    taken = made.take(path)
    assert taken.unchanged == ("plain",)
    same(made.back(), {name: mask for name, mask in made.corrected.items() if name != "plain"})


def cvat(made: Made, shapes: str, *, name: str = "plain.jpg", size: str = 'width="10" height="6"') -> Path:
    path = made.root / "export.xml"
    path.write_text(f'<annotations><image id="0" name="{name}" {size}>{shapes}</image></annotations>')
    return path


def test_shapes_of_cvat(made: Made) -> None:
    """By z-order, then as they come; turned boxes about their centre; what has no area is counted."""
    shapes = (
        '<box label="cat" z_order="1" xtl="0" ytl="0" xbr="4" ybr="2"/>'
        '<polygon label="dog" z_order="0" points="0,0;10,0;10,6;0,6"/>'
        '<box label="background" z_order="2" xtl="5" ytl="2" xbr="9" ybr="4" rotation="90"/>'
        '<ellipse label="cat" z_order="3" cx="2" cy="5" rx="1.1" ry="0.9"/>'
        '<points label="cat" points="1,1"/><tag label="dog"/>'
    )
    taken = made.take(cvat(made, shapes))
    expected = np.full((6, 10), 2, np.uint8)
    expected[:2, :4] = 1
    expected[1:5, 6:8] = 0
    expected[4:6, 1:3] = 1
    np.testing.assert_array_equal(made.back()["plain"], expected)
    assert taken.not_drawn == {"points": 1}


@pytest.mark.parametrize(
    ("shapes", "given", "said"),
    [
        ("", {"name": "x.jpg"}, r"expected the run's 4 images, got 1 others: .*no image 'x\.jpg'"),
        ("", {"size": 'width="6" height="10"'}, r"plain\.jpg: expected the size of .*10 x 6, got 6 x 10"),
        ("", {"size": 'width="6"'}, "height: expected a whole number, got ''"),
        ('<box label="cow" xtl="0" ytl="0" xbr="4" ybr="2"/>', {}, "label 'cow' is no class of the run"),
        ('<box label="cat" xtl="0" ytl="0" xbr="4"/>', {}, "ybr: expected a number, got ''"),
        ('<box label="cat" xtl="0" ytl="inf" xbr="4" ybr="2"/>', {}, "ytl: expected a number, got 'inf'"),
        ('<polygon label="cat" points="0,0;1,1"/>', {}, "points: expected 3 to"),
        ('<polygon label="cat" points="0,0;1,1;x,2"/>', {}, "points: expected a number, got 'x'"),
        ('<mask label="cat" rle="1, 2" left="0" top="0" width="2" height="2"/>', {}, "2 runs of 3 at"),
        ('<mask label="cat" rle="4" left="9" top="0" width="2" height="2"/>', {}, "inside the image"),
        ('<mask label="cat" rle="-1, 5" left="0" top="0" width="2" height="2"/>', {}, "2 runs of 4 at"),
        ('<ellipse label="cat" cx="2" cy="5" rx="-1" ry="0.9"/>', {}, "ellipse: radiusX: expected a number"),
    ],
)
def test_damaged_exports_of_cvat(shapes: str, given: dict, said: str, made: Made) -> None:
    with pytest.raises(BadInputError, match=said):
        made.take(cvat(made, shapes, **given))
    assert not list((made.root / "out").glob("*.png"))


def test_exports_that_are_none(made: Made, tmp_path: Path) -> None:
    for name, content, said in (
        ("a.json", b"{}", "a.json"),
        ("a.xml", b"<a/>", "expected .CVAT for images 1.1."),
        ("a.xml", b"<", "expected an XML file"),
        ("a.txt", b"", "expected a folder of masks"),
        ("none.json", None, "none.json"),
    ):
        path = tmp_path / name
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(BadInputError, match=said):
            made.take(path)


def test_an_archive_that_leads_out(made: Made) -> None:
    path = made.root / "export.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("../annotations.xml", "<annotations/>")
    with pytest.raises(BadInputError, match=r"folder \('\.\./annotations\.xml'\), .*; export it again"):
        made.take(path)


@pytest.mark.parametrize(("place", "put"), [(60, bytes(30)), (0, b"")])
def test_a_damaged_archive(place: int, put: bytes, made: Made) -> None:
    """In a file's bytes, and where all places are off by one."""
    path = made.root / "export.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("annotations.xml", b"<annotations>" + bytes(range(256)) * 40)
    whole = path.read_bytes()
    path.write_bytes(whole[:place] + put + whole[place + max(1, len(put)) :])
    with pytest.raises(BadInputError, match=r"export\.zip: is damaged \(.*; export it again"):
        made.take(path)


def test_masks_of_other_images_or_classes(made: Made) -> None:
    write_mask(made.root / "corrected" / "stranger.png", made.corrected["plain"], palette=voc_palette())
    with pytest.raises(BadInputError, match=r"masks of the run's 4 images, got 1 of others: stranger"):
        made.take(made.root / "corrected")
    (made.root / "corrected" / "stranger.png").unlink()
    (made.root / "corrected" / "classes.txt").write_text("cat\ncow\npot")
    with pytest.raises(BadInputError, match=r"expected classes of the run, cat, dog, .*got cow, pot"):
        made.take(made.root / "corrected")
    (made.root / "out").mkdir(exist_ok=True)
    (made.root / "out" / "classes.txt").write_text("dog\ncat")
    with pytest.raises(BadInputError, match=r"classes\.txt: expected the run's classes"):
        made.take(submitted(made))


def test_a_label_that_is_no_class_of_the_run(made: Made) -> None:
    def change(task: dict) -> None:
        for result in task["annotations"][0]["result"]:
            result["value"]["brushlabels"] = ["horse"]

    with pytest.raises(BadInputError, match="label 'horse' is none of"):
        made.take(submitted(made, change=change))


def test_the_xml_that_is_written_is_the_one_that_is_read(made: Made) -> None:
    """The masks' runs are those of our own export, which datumaro reads too (`tests/interop`)."""
    xml = export_cvat_images(made.folder, made.root / "a.xml", images=find_images(made.corrected, made.root / "images"))
    assert {entry.attrib["name"] for entry in ElementTree.parse(xml).iter("image")} == {f"{name}.jpg" for name in SIZES}
