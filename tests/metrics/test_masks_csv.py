"""masks.csv: what is written is read again, the worst first, whatever images and classes are called."""

from pathlib import Path

import pytest

from subcam.errors import BadInputError
from subcam.metrics.masks_csv import MaskRow, RegionRow, read_confidences, write_masks_csv

CLASSES = ("cat, big", "dog;area", 'a "b" area', "Über area")
SURE = RegionRow(area=1, confidence=0.25)
ROWS = [
    MaskRow(image="b/ö [1] (2)", confidence=0.5, lowered_by="cat, big: x", regions={"background": SURE}),
    MaskRow(image="a", confidence=0.75, lowered_by="", regions={"Über area": RegionRow(area=0, confidence=1)}),
    MaskRow(image='"', confidence=0.5, lowered_by="", regions={}),
    MaskRow(image="u\u0308", confidence=0.0, lowered_by="", regions={}),
]


@pytest.fixture
def written(tmp_path: Path) -> Path:
    write_masks_csv(tmp_path / "masks" / "masks.csv", ROWS, class_names=CLASSES)
    return tmp_path


def test_there_and_back(written: Path) -> None:
    assert read_confidences(written) == (ROWS[3], ROWS[2], ROWS[0], ROWS[1])


def test_a_run_without_the_table(tmp_path: Path) -> None:
    assert read_confidences(tmp_path) == ()


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("image,", "picture,", "expected the columns image, confidence, lowered by and two of each class"),
        ("0.7500", "nan", r"mask 4: expected a share of 0\.\.1, got 'nan'"),
        ("0.7500", "1.01", r"mask 4: expected a share of 0\.\.1, got '1\.01'"),
        ("a,0.7500,", "a,0.7500", r"mask 4: expected 13 cells, got 12"),
        ("a,0.7500", '"a', "cannot be read as the table of masks"),
    ],
)
def test_another_table(old: str, new: str, said: str, written: Path) -> None:
    path = written / "masks" / "masks.csv"
    text = path.read_text("utf-8")
    assert old in text
    path.write_text(
        text.replace(old, new, 1) if old != "a,0.7500," else text.replace("\na,0.7500,", "\na,0.7500"), "utf-8"
    )
    with pytest.raises(BadInputError, match=rf"masks\.csv.*{said}.*give the run's command again"):
        read_confidences(written)


def test_a_table_that_is_no_text(written: Path) -> None:
    for content in (b"\xff\xfe", b"", b"a\0b"):
        (written / "masks" / "masks.csv").write_bytes(content)
        with pytest.raises(BadInputError, match=r"masks\.csv"):
            read_confidences(written)
