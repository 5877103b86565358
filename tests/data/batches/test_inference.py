"""Whole images in batches of one size: all of them, once, as they are."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from subcam.data.batches.inference import inference_batches, same_size_batches
from subcam.data.images import read_image
from subcam.data.records import Record
from subcam.errors import BadInputError

SIZES = [(8, 6), (6, 8), (8, 6), (8, 6), (6, 8), (5, 5)]


@pytest.fixture
def records(tmp_path: Path) -> list[Record]:
    rng = np.random.default_rng(0)
    found = []
    for index, (height, width) in enumerate(SIZES):
        path = tmp_path / f"{index}.png"
        Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(path)
        found.append(Record(name=str(index), image=path, labels=()))
    return found


def test_batches_hold_one_size_and_every_image_once() -> None:
    assert same_size_batches(range(6), SIZES, batch_size=2) == ((0, 2), (3,), (1, 4), (5,))
    assert same_size_batches(range(6), SIZES, batch_size=9) == ((0, 2, 3), (1, 4), (5,))
    assert same_size_batches([5, 3, 0], SIZES, batch_size=9) == ((5,), (3, 0))
    assert same_size_batches([], SIZES, batch_size=2) == ()


@pytest.mark.parametrize("workers", [0, 1])
def test_images_arrive_as_they_are_read(records: list[Record], workers: int) -> None:
    batches = same_size_batches(range(6), SIZES, batch_size=2)
    found = list(inference_batches(records, batches, workers=workers))
    assert [batch for batch, _ in found] == list(batches)
    for batch, images in found:
        assert images.shape == (len(batch), 3, *SIZES[batch[0]])
        for index, image in zip(batch, images, strict=True):
            assert (image.permute(1, 2, 0).numpy() == read_image(records[index].image)).all()


def test_nothing_left_to_do(records: list[Record]) -> None:
    assert list(inference_batches(records, (), workers=-1)) == []


@pytest.mark.parametrize("workers", [0, 1])
def test_a_image_that_went_bad_is_named_without_a_traceback(records: list[Record], workers: int) -> None:
    records[3].image.write_bytes(b"")
    batches = same_size_batches(range(6), SIZES, batch_size=2)
    with pytest.raises(BadInputError) as caught:
        list(inference_batches(records, batches, workers=workers))
    expected = f"{records[3].image}: expected an image, got an empty file (0 bytes); copy it again"
    assert str(caught.value) == expected
