"""Where each finding begins: just below a threshold nothing is said, just above it is. No file is read."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from subcam.audit.dataset import _recipe, _too_many
from subcam.audit.duplicates_and_masks import duplicate_findings, overlap_findings
from subcam.audit.files import Facts, file_findings
from subcam.audit.finding import Finding
from subcam.audit.labels import label_findings, pairs_together
from subcam.data.inspection import ImageFacts, inspect_image
from subcam.data.readers.voc import VOC_CLASSES
from subcam.data.records import ImageSet, Record


def record(name: str, *labels: int) -> Record:
    return Record(name=name, image=Path(f"{name}.png"), labels=labels)


def image_set(*labels: tuple[int, ...], classes: int = 2) -> ImageSet:
    names = tuple(f"class {number}" for number in range(classes))
    records = tuple(record(str(number), *each) for number, each in enumerate(labels))
    return ImageSet(class_names=names, records=records, mask_values=())


def facts(height: int, width: int, *, pixels: str = "", sha256: str = "") -> Facts:
    return Facts(
        image=ImageFacts(height=height, width=width, file_size=1, kind="PNG", traits=(), sha256=sha256, pixels=pixels)
    )


def kinds(findings: list[Finding]) -> list[str]:
    return [finding.kind for finding in findings]


def test_classes_that_no_mask_has_room_for() -> None:
    assert kinds(_too_many(image_set((0,), classes=254))) == []
    (finding,) = _too_many(image_set((0,), classes=255))
    assert (finding.severity, finding.title) == ("stop", "255 classes, where a mask has values for 254")


@pytest.mark.parametrize(
    ("height", "width", "kind"),
    [
        (99, 99, "tiny"),
        (25, 99, "tiny"),
        (100, 100, None),
        (25, 100, None),
        (100, 25, None),
        (24, 100, "long"),
        (400, 1601, "long"),
        (1601, 400, "long"),
        (400, 1600, None),
        (300, 1000, None),
        (2000, 2000, None),
        (1545, 2589, "huge"),
    ],
)
def test_sizes_of_single_images(height: int, width: int, kind: str | None) -> None:
    findings = file_findings([record("a")], [facts(height, width)], bad="stop")
    assert kinds(findings) == ([kind] if kind else [])


def of(kind: str, images: ImageSet) -> bool:
    return kind in kinds(label_findings(images, layout="folder"))


def test_few_images_of_a_class() -> None:
    assert of("class-few", image_set(*[(0,)] * 19, *[(1,)] * 40))
    assert not of("class-few", image_set(*[(0,)] * 20, *[(1,)] * 40))


def test_a_class_in_nearly_every_image() -> None:
    assert of("class-everywhere", image_set(*[(0,)] * 95, *[(1,)] * 5))
    assert not of("class-everywhere", image_set(*[(0,)] * 94, *[(1,)] * 6))


def test_classes_that_are_seldom_apart() -> None:
    assert of("classes-together", image_set(*[(0, 1)] * 18, *[(0,)] * 2, *[(1,)] * 40))
    assert not of("classes-together", image_set(*[(0, 1)] * 17, *[(0,)] * 3, *[(1,)] * 40))
    always = np.array([[19, 19], [19, 60]])
    assert pairs_together(always) == ()
    assert len(pairs_together(always, least=19)) == 1


def test_classes_that_are_never_alone() -> None:
    assert of("never-alone", image_set(*[(0, 1)] * 20, *[(1,)] * 40))
    assert not of("never-alone", image_set(*[(0, 1)] * 19, *[(1,)] * 40))
    assert not of("never-alone", image_set(*[(0, 1)] * 20, (0,), *[(1,)] * 40))


@pytest.mark.parametrize(("without", "severity"), [(30, "note"), (31, "warning")])
def test_more_than_half_of_the_images_without_a_label(without: int, severity: str) -> None:
    findings = label_findings(image_set(*[()] * without, *[(0,)] * (60 - without)), layout="folder")
    assert [finding.severity for finding in findings if finding.kind == "unlabelled"] == [severity]


def test_a_split_that_lies_wholly_in_the_training_images_is_meant() -> None:
    train = image_set((0,), (1,))
    assert overlap_findings(train, {"train": replace(train, records=train.records[:1])}) == []
    mixed = replace(train, records=(train.records[0], record("other", 0)))
    assert kinds(overlap_findings(train, {"val": mixed})) == ["overlap"]


def test_four_of_many_duplicates_are_shown() -> None:
    records = [record(str(number), 0) for number in range(6)]
    same = [facts(9, 9, pixels="x", sha256="y")] * 6
    (finding,) = duplicate_findings(records, same, train={each.name for each in records}, held_out=set())
    assert finding.examples[0].images == tuple(each.image for each in records[:4])
    assert finding.examples[0].text == "0 = 1 = 2 = 3 = 4 = 5 (the same file)"


@pytest.mark.parametrize(
    ("layout", "classes", "images", "recipe"),
    [
        ("voc", VOC_CLASSES, 5000, "voc12_paper"),
        ("voc", VOC_CLASSES, 4999, "small"),
        ("voc", VOC_CLASSES[:19], 5000, "small"),
        ("folder", VOC_CLASSES, 5000, "small"),
        ("coco", tuple(map(str, range(80))), 5000, "coco14"),
        ("coco", tuple(map(str, range(79))), 5000, "small"),
        ("coco", tuple(map(str, range(80))), 4999, "small"),
    ],
)
def test_which_recipe_is_proposed(layout: str, classes: tuple[str, ...], images: int, recipe: str) -> None:
    train = ImageSet(class_names=classes, records=tuple(record(str(i), 0) for i in range(images)), mask_values=())
    assert _recipe(layout, train)[0] == recipe


@pytest.mark.parametrize("frames", [1, 2])
def test_frames_palettes_and_each_way_of_turning(tmp_path: Path, frames: int) -> None:
    one, two = (Image.new("RGB", (8, 6), colour).quantize() for colour in ("red", "blue"))
    one.save(tmp_path / "a.gif", save_all=True, append_images=[two][: frames - 1])
    expected = ("palette", "several frames") if frames == 2 else ("palette",)
    assert inspect_image(tmp_path / "a.gif").traits == expected
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        Image.new("RGB", (8, 6)).save(tmp_path / "b.jpg", exif=exif)
        turned = inspect_image(tmp_path / "b.jpg")
        assert turned.traits == (("turned by EXIF",) if orientation > 1 else ())
        assert (turned.height, turned.width) == ((8, 6) if orientation > 4 else (6, 8))
