"""A set of images that a person puts together is held against what it promises."""

from pathlib import Path

import pytest

from subcam.data.records import ImageSet, Record, mask_values_of
from subcam.errors import BadInputError

VALUES = (0, 1, 2, *[-1] * 252, 255)


def made(*labels: tuple[int, ...], names: str = "ab", mask_values: tuple[int, ...] = VALUES) -> ImageSet:
    records = (
        Record(name=name, image=Path(f"{name}.png"), labels=own) for name, own in zip(names, labels, strict=True)
    )
    return ImageSet(class_names=("cat", "dog"), records=tuple(records), mask_values=mask_values)


def test_a_set_is_what_it_says() -> None:
    assert made((), (0, 1)).labels.tolist() == [[0, 0], [1, 1]]
    assert made((1,), (0,), mask_values=mask_values_of(["x", "cat", "dog"], ["cat", "dog"])).labels.tolist() == [
        [0, 1],
        [1, 0],
    ]


@pytest.mark.parametrize("labels", [(-1,), (2,), (1, 0), (1, 1), (0, 7)])
def test_labels_are_sorted_indices_of_classes(labels: tuple[int, ...]) -> None:
    """A label of -1 counted from the end."""
    with pytest.raises(BadInputError, match=r"b\.png: expected sorted indices of the 2 classes, got"):
        made((0,), labels)


def test_names_are_there_once() -> None:
    with pytest.raises(BadInputError, match=r"a\.png: there are two records called 'a'"):
        made((0,), (1,), names="aa")


@pytest.mark.parametrize("mask_values", [(0, 1), VALUES[:255], (*VALUES, 0), (3, *VALUES[1:]), (-2, *VALUES[1:])])
def test_each_value_of_a_mask_means_something(mask_values: tuple[int, ...]) -> None:
    with pytest.raises(BadInputError, match=r"expected 256 mask_values of -1, 0\.\.2 or 255"):
        made((0,), (1,), mask_values=mask_values)
