"""The stage that takes masks of another program: values by name, and every mask checked."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.stages.given import images_of

from subcam.data.images import read_indices
from subcam.data.records import ImageSet, Record, mask_values_of
from subcam.errors import BadInputError
from subcam.refine.scores_and_masks import mask_path
from subcam.refine.variants import GIVEN
from subcam.runtime.run_folder import RunFolder, Stage
from subcam.stages.context import key_of
from subcam.stages.given import masks
from subcam.stages.settings.given import GivenMasksSettings

CLASSES = ("cat", "dog")
MASK = np.array([[0, 1, 2], [255, 2, 0]], np.uint8)


def write(folder: Path, name: str, values: np.ndarray) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values.astype(np.uint8)).save(folder / f"{name}.png")


@pytest.fixture
def take(tmp_path: Path) -> Callable[..., Stage]:
    """Take the masks of the images a and b, of which a is trained on."""

    def take(**settings: Any) -> Stage:
        records = tuple(Record(name=name, image=Path(f"{name}.jpg"), labels=(0,)) for name in "ab")
        values = mask_values_of(CLASSES, CLASSES)
        both, first = (
            images_of(ImageSet(class_names=CLASSES, records=some, mask_values=values), [MASK.shape] * len(some))
            for some in (records, records[:1])
        )
        stage = RunFolder(path=tmp_path / "run").stage("given-masks")
        given = GivenMasksSettings(folder=str(tmp_path / "masks"), **settings)
        masks.run(stage, settings=given, images=both, needed=first)
        return stage

    return take


def test_values_without_names_are_those_of_the_set(take: Callable, tmp_path: Path) -> None:
    write(tmp_path / "masks", "a", MASK)
    stage = take()
    assert (read_indices(mask_path(stage.path, GIVEN, "a")) == MASK).all()
    assert not mask_path(stage.path, GIVEN, "b").exists()
    assert (stage.path / GIVEN / "classes.txt").read_text() == "cat\ndog\n"
    assert stage.record["outputs"]["images"] == 1


@pytest.mark.parametrize("by", ["legend", "setting"])
def test_values_are_matched_by_name(by: str, take: Callable, tmp_path: Path) -> None:
    write(tmp_path / "masks", "a", np.array([0, 3, 1])[np.where(MASK == 255, 0, MASK)])
    if by == "legend":
        (tmp_path / "masks" / "classes.txt").write_text("dog\ncow\ncat\n")
    stage = take(classes=("dog", "cow", "cat") if by == "setting" else ())
    assert (read_indices(mask_path(stage.path, GIVEN, "a")) == np.where(MASK == 255, 0, MASK)).all()


def test_a_class_that_the_set_lacks_stops_or_is_ignored(
    take: Callable, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "masks", "a", MASK)
    with pytest.raises(BadInputError, match=r"a\.png: has pixels of cow, which the data set does not know"):
        take(classes=("cat", "cow"))
    stage = take(classes=("cat", "cow"), unknown="ignore")
    assert (read_indices(mask_path(stage.path, GIVEN, "a")) == np.where(MASK == 2, 255, MASK)).all()
    assert "pixels of cow are not learned from" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "values", "said"),
    [
        ("a", MASK + 3, r"a\.png: expected the values 0\.\.2 and 255, got 3, 4, 5; say what all values are"),
        ("a", MASK.T, r"a\.png: expected a mask as large as its image, 3 x 2 pixels .* got 2 x 3"),
        ("b", MASK, r"expected a mask NAME\.png of each of 1 training images, got none for 1: a; make them"),
    ],
)
def test_masks_that_cannot_be_used(name: str, values: np.ndarray, said: str, take: Callable, tmp_path: Path) -> None:
    write(tmp_path / "masks", name, np.where(values == 2, values, values))
    with pytest.raises(BadInputError, match=said):
        take()


def test_the_key_is_of_what_the_masks_hold_and_mean(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        write(tmp_path / folder, "a", MASK)
    one, two = (GivenMasksSettings(folder=str(tmp_path / name)) for name in ("one", "two"))
    assert key_of(one) == key_of(two)
    (tmp_path / "two" / "classes.txt").write_text("cat\ndog\n")
    assert key_of(one) != key_of(two)
    names = tmp_path / "names.txt"
    keys = []
    for text in ("cat\ndog\n", "dog\ncat\n"):
        names.write_text(text)
        keys.append(key_of(GivenMasksSettings(folder=str(tmp_path / "one"), classes=(str(names),))))
    assert keys[0] != keys[1]
