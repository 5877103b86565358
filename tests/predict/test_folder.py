"""The tables of a folder of predictions: whole after a cut, with the right bytes, and never of two models."""

import csv
from pathlib import Path

import numpy as np
import pytest

from subcam.data.images import voc_palette, write_mask
from subcam.data.records import Record, Skipped
from subcam.errors import SettingsError
from subcam.predict.folder import (
    TABLE_FILE,
    Row,
    Table,
    check_same,
    mask_path,
    row_of,
    write_classes,
    write_failures,
)

NAMES = ("background", "cat", "dog, or wolf", "owl")


def record(name: str) -> Record:
    return Record(name=name, image=Path("in") / f"{name}.jpg", labels=())


def row(name: str, out: Path) -> Row:
    return row_of(record(name), out, np.array([50, 10, 0, 40]), NAMES, seconds="0.125")


def lines(path: Path) -> list[list[str]]:
    with path.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
        return list(csv.reader(file))


def test_a_row_tells_classes_by_their_share(tmp_path: Path) -> None:
    assert row("sub/a", tmp_path) == Row(
        image="in/sub/a.jpg", mask="masks/sub/a.png", classes="owl 40.00%; cat 10.00%", seconds="0.125"
    )
    empty = row_of(record("b"), tmp_path, np.array([9, 0, 0, 0]), NAMES, seconds="")
    assert empty.classes == ""


def test_lines_are_there_as_soon_as_they_are_added_and_sorted_in_the_end(tmp_path: Path) -> None:
    with Table(tmp_path, NAMES).begin([]) as table:
        for name in ("c", "a", "b"):
            table.add(row(name, tmp_path))
            assert lines(tmp_path / TABLE_FILE)[-1][0] == f"in/{name}.jpg"
    assert [line[0] for line in lines(tmp_path / TABLE_FILE)] == ["image", "in/a.jpg", "in/b.jpg", "in/c.jpg"]


@pytest.mark.parametrize("cut", range(0, 90, 7))
def test_a_line_that_was_cut_off_is_made_again_from_the_mask(tmp_path: Path, cut: int) -> None:
    with Table(tmp_path, NAMES).begin([]) as table:
        table.add(row("a", tmp_path))
        table.add(row("b,\"'", tmp_path))
    mask = np.repeat(np.array([0, 1, 2, 2], np.uint8), 5).reshape(4, 5)
    for name in ("a", "b,\"'"):
        write_mask(mask_path(tmp_path, name), mask, palette=voc_palette())
    whole = lines(tmp_path / TABLE_FILE)
    content = (tmp_path / TABLE_FILE).read_bytes()
    (tmp_path / TABLE_FILE).write_bytes(content[: max(0, len(content) - cut)])
    with Table(tmp_path, NAMES).begin([record("a"), record("b,\"'")]):
        pass
    found = lines(tmp_path / TABLE_FILE)
    assert [line[:2] for line in found] == [line[:2] for line in whole]
    for line, before in zip(found, whole, strict=True):
        made = [*before[:2], "dog, or wolf 50.00%; cat 25.00%", ""]
        assert line in (before, made)
    assert (found == whole) == (cut == 0)


def test_names_keep_their_bytes(tmp_path: Path) -> None:
    name = b"caf\xe9".decode("utf-8", "surrogateescape")
    for _ in range(2):
        with Table(tmp_path, NAMES).begin([]) as table:
            table.add(row(name, tmp_path))
    assert b"in/caf\xe9.jpg,masks/caf\xe9.png," in (tmp_path / TABLE_FILE).read_bytes()
    assert len(lines(tmp_path / TABLE_FILE)) == 2


def test_a_mask_of_another_image_is_not_taken(tmp_path: Path) -> None:
    with Table(tmp_path, NAMES).begin([]) as table:
        table.add(row("a", tmp_path))
    table = Table(tmp_path, NAMES)
    table.check_origin(record("a"))
    table.check_origin(record("b"))
    other = Record(name="a", image=Path("elsewhere/a.jpg"), labels=())
    with pytest.raises(SettingsError, match=r"masks/a\.png was made from in/a\.jpg, and elsewhere/a\.jpg has the same"):
        table.check_origin(other)


def test_what_made_the_predictions_must_stay_the_same(tmp_path: Path) -> None:
    made_with = {"model": "abc", "scales": (1.0, 0.5), "flip": False}
    check_same(tmp_path, made_with)
    check_same(tmp_path, made_with)
    with pytest.raises(SettingsError) as caught:
        check_same(tmp_path, {"model": "xyz", "scales": (1.0,), "flip": False, "crf": True})
    said = "(model was abc and is xyz; scales was [1.0, 0.5] and is [1.0]; crf was None and is True); choose another"
    assert said in str(caught.value)


def test_classes_and_failures(tmp_path: Path) -> None:
    write_classes(tmp_path, NAMES)
    assert lines(tmp_path / "classes.csv") == [
        ["index", "name", "colour"],
        ["0", "background", "#000000"],
        ["1", "cat", "#800000"],
        ["2", "dog, or wolf", "#008000"],
        ["3", "owl", "#808000"],
    ]
    write_failures(tmp_path, [])
    assert not (tmp_path / "failed.csv").exists()
    write_failures(tmp_path, [Skipped(file="a.jpg", reason="a.jpg: broken, sorry")])
    assert lines(tmp_path / "failed.csv") == [["image", "reason"], ["a.jpg", "a.jpg: broken, sorry"]]
    write_failures(tmp_path, [])
    assert lines(tmp_path / "failed.csv") == [["image", "reason"]]
