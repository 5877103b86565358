"""Folders of masks side by side: which images, which classes, which pixels."""

from pathlib import Path

import numpy as np
import pytest

from subcam.data.images import voc_palette, write_mask
from subcam.data.readers.class_names import write_legend
from subcam.errors import BadInputError, SettingsError
from subcam.export.compare import agreeing, compare, open_folders
from subcam.export.mask_folder import evaluate

CLASSES = ("cat", "dog")


def write(folder: Path, masks: dict[str, object], classes: tuple[str, ...] | None = CLASSES) -> Path:
    for name, values in masks.items():
        write_mask(folder / f"{name}.png", np.array(values, np.uint8), palette=voc_palette(), durable=False)
    if classes:
        write_legend(folder, classes)
    return folder


@pytest.fixture
def three(tmp_path: Path) -> tuple[Path, Path, Path]:
    """Truth in an order of its own with a further class; the second folder in another order than the first."""
    truth = write(
        tmp_path / "truth",
        {"a": [[0, 2, 2, 3]], "b/c": [[0, 0, 3, 255]], "d": [[0, 2, 3, 1]]},
        ("owl", "cat", "dog"),
    )
    first = write(tmp_path / "one", {"a": [[0, 1, 1, 1]], "b/c": [[0, 0, 2, 2]], "d": [[1, 1, 0, 0]]})
    second = write(tmp_path / "two", {"a": [[0, 2, 2, 1]], "b/c": [[0, 0, 0, 1]]}, ("dog", "cat"))
    return truth, first, second


def test_each_is_scored_as_by_evaluate_on_the_images_that_all_have(three: tuple[Path, ...]) -> None:
    truth, *folders = three
    paired = compare(folders, truth=truth, resamples=10)
    assert paired.labels == ("one", "two")
    assert paired.class_names == ("background", *CLASSES)
    assert paired.images == ("a", "b/c")
    for folder, miou in zip(folders, paired.miou, strict=True):
        alone = evaluate(predictions=folder, truth=truth, names=["a", "b/c"])
        assert miou == pytest.approx(alone.scores.miou, abs=1e-15)
    assert paired.images_that_differ(1, most=9) == [
        ("b/c", 1.0, pytest.approx((2 / 3 + 0) / 2)),
        ("a", pytest.approx((1 + 2 / 3 + 0) / 3), 1.0),
    ]


def test_a_pixel_without_a_label_in_one_is_scored_in_none(tmp_path: Path) -> None:
    truth = write(tmp_path / "truth", {"a": [[0, 1, 1, 2]]})
    one = write(tmp_path / "one", {"a": [[0, 1, 255, 2]]})
    two = write(tmp_path / "two", {"a": [[0, 1, 2, 2]]})
    paired = compare([one, two], truth=truth, resamples=10)
    assert paired.miou.tolist() == [1.0, 1.0]
    assert paired.counts[:, 0, 1].tolist() == [[1, 1, 1], [1, 1, 1]]


def test_names_of_classes_come_from_whoever_says_them(tmp_path: Path) -> None:
    truth = write(tmp_path / "truth", {"a": [[0, 1, 2]]}, None)
    one = write(tmp_path / "x" / "masks", {"a": [[0, 1, 2]]}, None)
    two = write(tmp_path / "y" / "masks", {"a": [[0, 2, 1]]}, None)
    with pytest.raises(SettingsError, match="nothing says what the values of the masks mean; name the classes"):
        compare([one, two], truth=truth)
    paired = compare([one, two], truth=truth, classes=CLASSES, resamples=10)
    assert paired.labels == ("x/masks", "y/masks")
    assert paired.iou.tolist() == [[1, 1, 1], [1, 0, 0]]
    write_legend(two, ("dog", "cat"))
    assert compare([one, two], truth=truth, resamples=10).class_names == ("background", "dog", "cat")


def test_what_cannot_be_compared(three: tuple[Path, ...], tmp_path: Path) -> None:
    truth, first, second = three
    with pytest.raises(SettingsError, match="expected two folders or more to compare, got 1"):
        compare([first], truth=truth)
    with pytest.raises(BadInputError, match=r"two: expected a mask of d, got none; take it off the list"):
        compare([first, second], truth=truth, names=["a", "d"])
    other = write(tmp_path / "other", {"z": [[0]]})
    with pytest.raises(BadInputError, match="got none; the first of each: a, a, z"):
        compare([first, other], truth=truth)
    birds = write(tmp_path / "birds", {"a": [[0, 1, 1, 1]]}, ("cat", "bird"))
    with pytest.raises(SettingsError, match=r"same classes, got others in .*one than in .*birds: bird, dog"):
        compare([first, birds], truth=truth)
    with pytest.raises(SettingsError, match="no class of the masks is one of the ground truth's: 'cat', "):
        compare([first, second], truth=write(tmp_path / "fish", {"a": [[0, 1, 1, 1]]}, ("cod",)))
    small = write(tmp_path / "small", {"a": [[0, 1]]})
    with pytest.raises(BadInputError, match=r"small/a.png: expected a mask as large as its .* 4 x 1 .* got 2 x 1"):
        compare([first, small], truth=truth)
    beyond = write(tmp_path / "beyond", {"a": [[0, 1, 3, 0]]})
    with pytest.raises(BadInputError, match=r"beyond/a.png: expected values of the 2 classes, got 3"):
        compare([first, beyond], truth=truth)
    with pytest.raises(BadInputError, match=r"the ground truth of a: expected values of the 2 classes, got 3"):
        compare([first, second], truth=beyond)
    empty = write(tmp_path / "empty", {"a": [[0, 0, 0, 255]]})
    with pytest.raises(BadInputError, match="expected pixels of cat, dog in the ground truth of 1 images, got none"):
        compare([first, second], truth=empty)


def test_without_truth_each_is_held_against_the_first(three: tuple[Path, ...]) -> None:
    """On all images that both have, in the classes of the first; pixels without a label in one count in none."""
    _, first, second = three
    side = open_folders([first, second], truth=None)
    assert (side.images, side.truth) == (("a", "b/c"), None)
    found = agreeing(side, resamples=10)
    assert found.counts[0].sum(0).tolist() == [[3, 2, 1], [3, 3, 2], [4, 2, 2]]
    open_ = write(first.parent / "open", {"a": [[0, 255, 255, 1]], "b/c": [[0] * 4]})
    found = agreeing(open_folders([first, open_, second], truth=None), resamples=10)
    assert found.counts[:, :, 1].sum((1, 2)).tolist() == [6, 6]
    small = write(first.parent / "small", {"a": [[0, 1]]})
    with pytest.raises(BadInputError, match=r"small/a.png: expected a mask as large as that of one, 4 x 1 .*"):
        agreeing(open_folders([first, small], truth=None))
    nothing = write(first.parent / "nothing", {"a": [[255] * 4]})
    with pytest.raises(BadInputError, match="expected pixels with a label in all folders, got none in 1 images"):
        agreeing(open_folders([first, nothing], truth=None))
    with pytest.raises(BadInputError, match="expected images that all folders have, got none; the first of each: a, z"):
        open_folders([first, write(first.parent / "other", {"z": [[0]]})], truth=None)
