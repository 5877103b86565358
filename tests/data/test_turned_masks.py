"""Masks of images that EXIF turns: drawn on the stored pixels or on the upright ones, they lie on their image."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from subcam.data.check import check_images
from subcam.data.images import read_image, read_mask, voc_palette, write_mask
from subcam.data.records import ImageSet, Record, mask_values_of


def turned_set(root: Path, orientations: dict[str, int], grids: dict[str, str], size: tuple[int, int]) -> ImageSet:
    """Images of stored (height, width) `size`, red above and blue below, with masks of class 1 on the red: drawn on
    the stored pixels, or on the upright ones, by name."""
    records = []
    for name, orientation in orientations.items():
        stored = np.zeros((*size, 3), np.uint8)
        stored[: size[0] // 2, :, 0] = stored[size[0] // 2 :, :, 2] = 255
        exif = Image.Exif()
        exif[0x0112] = orientation
        path, mask = root / f"{name}.png", root / "masks" / f"{name}.png"
        root.mkdir(exist_ok=True)
        Image.fromarray(stored).save(path, exif=exif)
        drawn = stored if grids[name] == "stored" else read_image(path)
        write_mask(mask, (drawn[..., 0] > 0).astype(np.uint8), palette=voc_palette())
        records.append(Record(name=name, image=path, labels=(0,), mask=mask))
    return ImageSet(class_names=("red",), records=tuple(records), mask_values=mask_values_of(["red"], ["red"]))


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
@pytest.mark.parametrize("grid", ["stored", "upright"])
def test_a_mask_lies_on_its_image_though_exif_turns_it(
    tmp_path: Path, orientation: int, grid: str, caplog: pytest.LogCaptureFixture
) -> None:
    images = turned_set(tmp_path / "a", {"a": orientation}, {"a": grid}, (6, 10))
    checked = check_images(images)
    (record,) = checked.image_set.records
    assert (record.mask_turn, checked.sizes) == (orientation if grid == "stored" else 1, ((10, 6),))
    assert record.mask is not None
    mask = read_mask(record.mask, images.mask_values, size=(10, 6), turn=record.mask_turn)
    assert (mask == (read_image(record.image)[..., 0] > 0)).all()
    assert ("1 masks lie on the stored pixels of images that EXIF turns" in caplog.text) == (grid == "stored")


UNCLEAR = {
    "alone": ({"a": 3}, "upright", (6, 10)),
    "square": ({"a": 6}, "upright", (8, 8)),
    "beside one that is clear": ({"a": 3, "b": 6}, "stored", (6, 10)),
    "beside one that is upright": ({"a": 2, "b": 8}, "upright", (6, 10)),
}


@pytest.mark.parametrize("case", UNCLEAR)
def test_where_sizes_do_not_tell_the_others_do_or_it_is_said(
    tmp_path: Path, case: str, caplog: pytest.LogCaptureFixture
) -> None:
    orientations, grid, size = UNCLEAR[case]
    images = turned_set(tmp_path / "a", orientations, dict.fromkeys(orientations, grid), size)
    for record in check_images(images).image_set.records:
        assert record.mask is not None
        mask = read_mask(record.mask, images.mask_values, turn=record.mask_turn)
        assert (mask == (read_image(record.image)[..., 0] > 0)).all()
    said = (
        "1 masks fit images that EXIF turns or mirrors, turned or not; they are taken for masks of the upright image: a"
    )
    assert (said in caplog.text) == (grid == "upright")


def test_what_turns_a_mask_belongs_to_the_digest(tmp_path: Path) -> None:
    images = turned_set(tmp_path / "a", {"a": 6, "b": 3}, {"a": "stored", "b": "stored"}, (6, 10))
    alone = images.where([False, True])
    both = check_images(images)
    assert check_images(both.image_set.where([False, True])).digest == check_images(alone).digest
    assert [record.mask_turn for record in both.image_set.records] == [6, 3]
    assert (
        check_images(images, cache=tmp_path / "c.json").digest == check_images(images, cache=tmp_path / "c.json").digest
    )
