"""Images kept decoded: the same pixels, the same crops, decoded once."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from subcam.data import decoded_cache as module
from subcam.data.batches.inference import inference_batches
from subcam.data.batches.training import TrainingImages
from subcam.data.decoded_cache import DecodedImages
from subcam.data.image_file import open_image, read_file
from subcam.data.images import decodes_reduced, read_image, upright_rgb
from subcam.data.records import Record
from subcam.data.settings import AugmentationSettings


def image(path: Path, *, width: int, height: int, orientation: int = 1) -> Record:
    small = np.random.default_rng(width).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC).save(path, exif=exif)
    return Record(name=path.stem, image=path, labels=(0,))


@pytest.fixture
def records(tmp_path: Path) -> list[Record]:
    return [
        image(tmp_path / "a.jpg", width=80, height=60),
        image(tmp_path / "turned.jpg", width=80, height=60, orientation=6),
        image(tmp_path / "large.jpg", width=400, height=300),
    ]


def test_a_image_is_decoded_once(records: list[Record], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = DecodedImages(folder=tmp_path / "decoded")
    expected = [read_image(record.image) for record in records]
    for record, image in zip(records, expected, strict=True):
        np.testing.assert_array_equal(kept.read(record.image), image)
    monkeypatch.delattr(module, "read_image")
    for record, image in zip(records, expected, strict=True):
        found = kept.read(record.image)
        assert isinstance(found, np.memmap)
        np.testing.assert_array_equal(found, image)


def test_a_changed_image_is_decoded_anew(records: list[Record], tmp_path: Path) -> None:
    kept = DecodedImages(folder=tmp_path / "decoded")
    first = records[0].image
    kept.read(first)
    image(first, width=96, height=60)
    np.testing.assert_array_equal(kept.read(first), read_image(first))


def test_an_image_that_was_changed_under_its_old_time_is_decoded_anew(records: list[Record], tmp_path: Path) -> None:
    """As `cp -p` and archives do; of one size, too."""
    path, kept = tmp_path / "a.bmp", DecodedImages(folder=tmp_path / "decoded")
    for grey in (10, 200, 90):
        Image.new("RGB", (8, 6), (grey, 0, 0)).save(path)
        os.utime(path, ns=(10**18, 10**18))
        assert kept.read(path)[0, 0, 0] == grey


def test_crops_and_batches_are_the_same(records: list[Record], tmp_path: Path) -> None:
    labels = np.zeros((3, 1), np.uint8)
    augmentation = AugmentationSettings(crop=32, scale_long_side=(40, 90))
    kept = DecodedImages(folder=tmp_path / "decoded")
    plain = TrainingImages(records, labels, augmentation, seed=0)
    cached = TrainingImages(records, labels, augmentation, seed=0, decoded=kept)
    for epoch in range(6):
        for index in range(3):
            assert torch.equal(cached[epoch, index][0], plain[epoch, index][0])
    for (_, found), (_, expected) in zip(
        inference_batches(records, [[0], [1]], workers=0, decoded=kept),
        inference_batches(records, [[0], [1]], workers=0),
        strict=True,
    ):
        assert torch.equal(found, expected)


@pytest.mark.parametrize("wanted", [(10, 10), (37, 50), (38, 50), (75, 100), (76, 101), (200, 300)])
def test_it_is_known_beforehand_whether_a_jpeg_is_decoded_reduced(
    records: list[Record], wanted: tuple[int, int]
) -> None:
    path = records[2].image
    with open_image(path, data=read_file(path)) as image:
        decoded = upright_rgb(image, path, at_least=wanted)
    assert decodes_reduced((300, 400), wanted) == (decoded.size != (400, 300))
