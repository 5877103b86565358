"""Every file is decoded once: what is found, what is remembered, and that each bad input of the list is met."""

import json
import logging
import os
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from subcam.data import check as check_module
from subcam.data import inspection
from subcam.data.check import check_images
from subcam.data.images import voc_palette, write_mask
from subcam.data.readers.folder import read_folder
from subcam.data.readers.shards import read_shards, write_shards
from subcam.data.readers.voc import read_voc
from subcam.data.records import ImageSet
from subcam.errors import BadInputError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Images a, b and c with masks, of 40 x 30 pixels."""
    folder = tmp_path / "set"
    rng = np.random.default_rng(0)
    for name in "abc":
        pixels = rng.integers(0, 256, (30, 40, 3), dtype=np.uint8)
        path = folder / "images" / f"{name}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
        write_mask(folder / "masks" / f"{name}.png", np.ones((30, 40), np.uint8), palette=voc_palette())
    (folder / "labels.csv").write_text("image,labels\na.jpg,cat\nb.jpg,cat;dog\nc.jpg,dog\n")
    return folder


def spoil_bytes(path: Path, share: float) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])


def test_a_name_that_promises_another_kind_is_said_once(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in "bc":
        Image.open(root / "images" / f"{name}.jpg").save(root / "images" / f"{name}.jpg", format="PNG")
    with caplog.at_level(logging.WARNING):
        assert len(check_images(read_folder(root)).image_set) == 3
    said = [record.getMessage() for record in caplog.records]
    assert said == ["2 images are not of the kind that their names say, such as b.jpg (a PNG that is called .jpg)"]


def test_an_image_that_was_changed_under_its_old_time_is_checked_anew(tmp_path: Path) -> None:
    """As `cp -p` and archives do; of one size, too."""
    path = tmp_path / "a.bmp"
    (tmp_path / "labels.csv").write_text("image,labels\na.bmp,cat\n")
    digests = set()
    for grey in (10, 200, 90):
        Image.new("RGB", (8, 6), (grey, 0, 0)).save(path)
        os.utime(path, ns=(10**18, 10**18))
        digests.add(check_images(read_folder(tmp_path), cache=tmp_path / "cache.json").digest)
    assert len(digests) == 3


def image_of(root: Path) -> Path:
    return root / "images" / "b.jpg"


def rotate_with_exif(root: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (40, 30)).save(image_of(root), exif=exif)


def replace_mask(root: Path, indices: np.ndarray) -> None:
    write_mask(root / "masks" / "b.png", indices, palette=voc_palette())


def rotate_with_exif_and_mask(root: Path) -> None:
    rotate_with_exif(root)
    replace_mask(root, np.ones((40, 30), np.uint8))


def misspell_a_class(root: Path) -> None:
    (root / "classes.txt").write_text("cat\ndog\n")
    rewrite_labels(root, "image,labels\na.jpg,cat\nb.jpg,dgo\nc.jpg,dog\n")


def rewrite_labels(root: Path, text: str, encoding: str = "utf-8") -> None:
    (root / "labels.csv").write_text(text, encoding=encoding)


# what is done to the folder, and the error it must end in
BAD = {
    "missing image": (lambda r: image_of(r).unlink(), r"labels\.csv:3: 'b\.jpg' is no file"),
    "zero-byte image": (lambda r: spoil_bytes(image_of(r), 0), r"b\.jpg: .*empty file \(0 bytes\); copy it again"),
    "truncated JPEG": (lambda r: spoil_bytes(image_of(r), 0.5), r"b\.jpg: expected a whole image.*copy it again"),
    "text as image": (lambda r: image_of(r).write_text("<html>"), r"b\.jpg: expected an image .*got something else"),
    "zero-byte mask": (lambda r: spoil_bytes(r / "masks/b.png", 0), r"masks/b\.png: .*empty file"),
    "truncated mask": (lambda r: spoil_bytes(r / "masks/b.png", 0.6), r"masks/b\.png: expected a whole image"),
    "mask of another size": (
        lambda r: replace_mask(r, np.ones((30, 41), np.uint8)),
        r"masks/b\.png: expected a mask as large as its image, 40 x 30 pixels.*, got 41 x 30",
    ),
    "mask with its sides swapped": (
        lambda r: replace_mask(r, np.zeros((40, 30), np.uint8)),
        r"masks/b\.png: .*40 x 30.*got 30 x 40 .*the sides are swapped",
    ),
    "mask with a class too many": (
        lambda r: replace_mask(r, np.full((30, 40), 3, np.uint8)),
        r"masks/b\.png: .*got 3; renumber the mask or name the missing classes",
    ),
    "mask in colours": (
        lambda r: Image.new("RGB", (40, 30), (255, 0, 0)).save(r / "masks/b.png"),
        r"masks/b\.png: .*colour \(255, 0, 0\).*must be an indexed PNG",
    ),
    "unknown class name": (misspell_a_class, r"labels\.csv:3: unknown class name 'dgo': did you mean 'dog'"),
    "duplicate name": (
        lambda r: rewrite_labels(r, "image,labels\na.jpg,cat\na.jpg,dog\nc.jpg,dog\n"),
        r"labels\.csv:3: duplicate name 'a', first on line 2",
    ),
    "name with ../": (
        lambda r: rewrite_labels(r, "image,labels\na.jpg,cat\n../set/images/b.jpg,dog\nc.jpg,dog\n"),
        r"labels\.csv:3: expected a path inside .*without '\.\.'",
    ),
}

# what looks odd but must be used
GOOD = {
    "grey": lambda r: Image.new("L", (40, 30), 7).save(image_of(r)),
    "CMYK": lambda r: Image.new("CMYK", (40, 30), (1, 2, 3, 4)).save(image_of(r)),
    "16-bit": lambda r: Image.fromarray(np.full((30, 40), 40000, np.uint16)).save(image_of(r), format="PNG"),
    "EXIF-rotated, with its mask": rotate_with_exif_and_mask,
    "Windows encoding": lambda r: rewrite_labels(r, "image,labels\na.jpg,Kälbchen\nb.jpg,dog\nc.jpg,dog\n", "cp1252"),
    "no mask": lambda r: (r / "masks/b.png").unlink(),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_input_stops_with_one_clear_error(root: Path, kind: str) -> None:
    spoil, message = BAD[kind]
    spoil(root)
    with pytest.raises(BadInputError, match=message):
        check_images(read_folder(root), on_bad_input="stop")


@pytest.mark.parametrize("kind", BAD)
def test_bad_input_is_skipped_counted_and_named(root: Path, kind: str) -> None:
    spoil, message = BAD[kind]
    spoil(root)
    checked = check_images(read_folder(root, on_bad_input="skip"), on_bad_input="skip")
    assert [record.name for record in checked.image_set.records] == ["a", "c"]
    assert checked.sizes == ((30, 40), (30, 40))
    (skipped,) = checked.image_set.skipped
    assert re.search(message, skipped.reason)
    assert skipped.file


@pytest.mark.parametrize("on_bad_input", ["stop", "skip"])
@pytest.mark.parametrize("kind", GOOD)
def test_odd_input_is_used(root: Path, kind: str, on_bad_input: check_module.OnBadInput) -> None:
    GOOD[kind](root)
    checked = check_images(read_folder(root, on_bad_input=on_bad_input), on_bad_input=on_bad_input)
    assert [record.name for record in checked.image_set.records] == ["a", "b", "c"]
    assert checked.image_set.skipped == ()


@pytest.mark.parametrize("on_bad_input", ["stop", "skip"])
def test_an_empty_split_is_an_error_in_any_case(root: Path, on_bad_input: check_module.OnBadInput) -> None:
    rewrite_labels(root, "image,labels,split\na.jpg,cat,train\n")
    with pytest.raises(BadInputError, match="expected rows of split 'val', got none; there are: train"):
        read_folder(root, split="val", on_bad_input=on_bad_input)
    rewrite_labels(root, "image,labels\n")
    with pytest.raises(BadInputError, match="expected one row an image below the header, got none"):
        read_folder(root, on_bad_input=on_bad_input)


def test_the_first_error_in_order_is_raised(root: Path) -> None:
    for name in "bc":
        (root / "images" / f"{name}.jpg").write_bytes(b"")
    for _ in range(5):
        with pytest.raises(BadInputError, match=r"b\.jpg"):
            check_images(read_folder(root), workers=3)


def test_nothing_usable(root: Path) -> None:
    for name in "abc":
        (root / "images" / f"{name}.jpg").write_bytes(b"")
    with pytest.raises(BadInputError, match=r"got none of 3; the first: .*a\.jpg: .*empty file"):
        check_images(read_folder(root), on_bad_input="skip")


def test_progress_counts_to_the_end(root: Path) -> None:
    seen: list[tuple[int, int]] = []
    check_images(read_folder(root), on_progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 3), (2, 3), (3, 3)]


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that are read, in order."""
    names: list[str] = []
    original = inspection.read_file

    def counted(path: Path) -> bytes:
        names.append(path.name)
        return original(path)

    monkeypatch.setattr(inspection, "read_file", counted)
    return names


def test_what_was_decoded_is_remembered(root: Path, tmp_path: Path, decoded: list[str]) -> None:
    cache = tmp_path / "cache.json"
    first = check_images(read_folder(root), cache=cache)
    assert sorted(decoded) == ["a.jpg", "a.png", "b.jpg", "b.png", "c.jpg", "c.png"]
    decoded.clear()
    assert check_images(read_folder(root), cache=cache) == first
    assert decoded == []

    # the same size and content, only touched: decoded again, and no other result
    os.utime(image_of(root), ns=(1, 1))
    assert check_images(read_folder(root), cache=cache) == first
    assert decoded == ["b.jpg"]

    Image.new("RGB", (40, 30)).save(image_of(root))
    assert check_images(read_folder(root), cache=cache).digest != first.digest


def test_remembered_masks_are_still_compared(root: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache.json"
    check_images(read_folder(root), cache=cache)
    image_set = read_folder(root)
    fewer = replace(image_set, mask_values=(0, -1, *image_set.mask_values[2:]))
    with pytest.raises(BadInputError, match=r"a\.png: .*got 1; renumber"):
        check_images(fewer, cache=cache)
    rotate_with_exif(root)
    turned = check_images(image_set, cache=cache).image_set
    assert [record.mask_turn for record in turned.records] == [1, 6, 1]
    replace_mask(root, np.zeros((20, 30), np.uint8))
    with pytest.raises(BadInputError, match=r"b\.png: .*30 x 40"):
        check_images(image_set, cache=cache)


def test_images_in_a_tar_are_remembered_until_the_tar_changes(
    toy_folder: Path, tmp_path: Path, decoded: list[str]
) -> None:
    write_shards(tmp_path, read_folder(toy_folder, split="val"), split="val")
    images, cache = read_shards(tmp_path), tmp_path / "checked.json"
    first = check_images(images, cache=cache)
    assert len(decoded) == 2 * len(images)
    decoded.clear()
    assert check_images(images, cache=cache) == first
    assert decoded == []
    os.utime(tmp_path / "val-000000.tar", ns=(1, 1))
    assert check_images(images, cache=cache) == first
    assert len(decoded) == 2 * len(images)


def test_what_was_decoded_before_an_error_is_kept(root: Path, tmp_path: Path, decoded: list[str]) -> None:
    cache = tmp_path / "cache.json"
    good = (root / "images" / "c.jpg").read_bytes()
    (root / "images" / "c.jpg").write_bytes(b"")
    with pytest.raises(BadInputError):
        check_images(read_folder(root), cache=cache, workers=1)
    (root / "images" / "c.jpg").write_bytes(good)
    decoded.clear()
    check_images(read_folder(root), cache=cache)
    assert decoded == ["c.jpg"]


DAMAGED = ("", "{", "[]", '{"format": 2}', '{"format": 2, "files": {"x": {}}}', '{"format": 1, "files": {}}')


@pytest.mark.parametrize("content", DAMAGED)
def test_a_damaged_cache_costs_only_time(root: Path, tmp_path: Path, content: str) -> None:
    cache = tmp_path / "cache.json"
    cache.write_text(content)
    first = check_images(read_folder(root), cache=cache)
    assert first == check_images(read_folder(root))
    assert len(json.loads(cache.read_text())["files"]) == 6


def digest(image_set: ImageSet) -> str:
    return check_images(image_set).digest


def test_the_digest_depends_on_all_that_matters_and_on_nothing_else(root: Path, tmp_path: Path) -> None:
    image_set = read_folder(root)
    first = digest(image_set)
    assert len(first) == 64
    moved = tmp_path / "moved"
    root.rename(moved)
    assert digest(read_folder(moved)) == first
    assert check_images(read_folder(moved), workers=1).digest == first

    records = read_folder(moved).records
    image_set = replace(image_set, records=records)
    variants = [
        replace(image_set, class_names=("cat", "cow")),
        replace(image_set, mask_values=(0, 2, 1, *image_set.mask_values[3:])),
        replace(image_set, records=records[::-1]),
        replace(image_set, records=records[:2]),
        replace(image_set, records=(replace(records[0], name="x"), *records[1:])),
        replace(image_set, records=(replace(records[0], labels=(1,)), *records[1:])),
        replace(image_set, records=(replace(records[0], mask=None), *records[1:])),
        replace(image_set, records=(replace(records[0], image=records[1].image), *records[1:])),
    ]
    digests = {digest(variant) for variant in variants}
    assert len(digests | {first}) == len(variants) + 1
    replace_mask(moved, np.full((30, 40), 2, np.uint8))
    assert digest(image_set) not in digests | {first}


def test_masks_of_only_0_and_255_are_noticed(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    check_images(read_folder(root))
    assert "no mask has a pixel of any class" not in caplog.text
    for name in "abc":
        mask = np.where(np.arange(1200).reshape(30, 40) % 2, 255, 0).astype(np.uint8)
        write_mask(root / "masks" / f"{name}.png", mask, palette=voc_palette())
    with caplog.at_level(logging.WARNING):
        check_images(read_folder(root))
    assert "no mask has a pixel of any class" in caplog.text


@pytest.mark.data
def test_photographs_are_all_good(voc_animals: Path) -> None:
    checked = check_images(read_voc(voc_animals, split="val"))
    assert len(checked.image_set) == len(checked.sizes) == 245
    for record, size in zip(checked.image_set.records[:20], checked.sizes, strict=False):
        with Image.open(record.image) as image:
            assert size == (image.height, image.width)
    assert {max(size) for size in checked.sizes} == {320}
