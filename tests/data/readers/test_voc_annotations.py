"""Which classes an annotation of VOC's layout names, however a program writes it, and what is no annotation."""

from pathlib import Path

import pytest
from PIL import Image

from subcam.audit.dataset import audit_dataset
from subcam.data.readers.voc import read_voc, voc_splits
from subcam.data.settings import DatasetSettings
from subcam.errors import BadInputError


def made(root: Path, annotation: str) -> Path:
    for place in ("JPEGImages", "Annotations", "ImageSets/Segmentation"):
        (root / place).mkdir(parents=True)
    for name, text in (("a", annotation), ("b", "<annotation><object><name>dog</name></object></annotation>")):
        Image.new("RGB", (6, 4)).save(root / "JPEGImages" / f"{name}.png")
        (root / "Annotations" / f"{name}.xml").write_text(text)
    (root / "ImageSets/Segmentation/train.txt").write_text("a\nb\n")
    return root


@pytest.mark.parametrize(
    "annotation",
    [
        "<annotation><object><name>cat</name><part><name>dog</name></part></object></annotation>",
        '<annotation xmlns="http://example.org"><object><name>cat</name></object></annotation>',
        '<v:annotation xmlns:v="http://example.org"><v:object><v:name>cat</v:name></v:object></v:annotation>',
        "<Annotation><Object><Name>\n cat\n</Name></Object></Annotation>",
        "<annotation><object><name>c<!-- a remark -->at</name></object></annotation>",
        "<annotation><object><name><![CDATA[cat]]></name></object></annotation>",
    ],
)
def test_forms_of_one_annotation(tmp_path: Path, annotation: str) -> None:
    found = read_voc(made(tmp_path, annotation), split="train", classes=["cat", "dog"])
    assert found.labels.tolist() == [[1, 0], [0, 1]]


@pytest.mark.parametrize(
    ("annotation", "message"),
    [
        ("<annotations><image><object><name>cat</name></object></image></annotations>", "got <annotations>; export"),
        ("<html><body>404</body></html>", "expected an <annotation> in PASCAL VOC's format, got <html>"),
        ("<annotation><object></object></annotation>", "expected the name of each object, got ''"),
        ("<annotation><object><name/></object></annotation>", "expected the name of each object, got ''"),
        ("<annotation><object><label>cat</label></object></annotation>", "expected the name of each object, got ''"),
    ],
)
def test_what_names_no_class_is_not_an_image_without_any(tmp_path: Path, annotation: str, message: str) -> None:
    root = made(tmp_path, annotation)
    with pytest.raises(BadInputError, match=rf"a\.xml: .*{message}"):
        read_voc(root, split="train")
    assert [skip.file for skip in read_voc(root, split="train", on_bad_input="skip").skipped] == ["a"]


def test_an_annotation_without_objects_is_an_image_without_any(tmp_path: Path) -> None:
    found = read_voc(made(tmp_path, "<annotation/>"), split="train", keep_unlabelled=True)
    assert [record.labels for record in found.records] == [(), (11,)]


@pytest.mark.parametrize("count", [255, 300])
def test_more_classes_than_values_can_be_read_where_there_are_no_masks(tmp_path: Path, count: int) -> None:
    root = made(
        tmp_path, "<annotation><object><name>class 299</name></object></annotation>".replace("299", str(count - 1))
    )
    (root / "Annotations" / "b.xml").write_text("<annotation><object><name>class 0</name></object></annotation>")
    (root / "labels.txt").write_text("".join(f"class {number}\n" for number in range(count)))
    found = read_voc(root, split="train")
    assert [record.labels for record in found.records] == [(count - 1,), (0,)]
    assert found.mask_values[254:] == (254, 255)
    audit = audit_dataset(DatasetSettings(root=str(root)), work_folder=tmp_path / "work")
    assert any(f"{count} classes" in finding.title for finding in audit.of("stop"))


def test_a_list_of_one_class_in_the_place_of_a_split_is_not_passed_over(tmp_path: Path) -> None:
    root = made(tmp_path, "<annotation><object><name>cat</name></object></annotation>")
    (root / "ImageSets/Segmentation/train.txt").write_text("a 1\nb -1\n")
    (root / "ImageSets/Segmentation/cat_train.txt").write_text("a 1\nb -1\n")
    assert voc_splits(root) == ("train",)
    with pytest.raises(BadInputError, match=r"train\.txt:1: expected one name"):
        read_voc(root, split="train")
