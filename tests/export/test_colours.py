"""Masks in colours of one's own: read by the list of classes that says them, else one error that says what to do."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from subcam import cli
from subcam.data.images import voc_palette, write_mask
from subcam.errors import BadInputError
from subcam.export.compare import compare
from subcam.export.mask_folder import evaluate, open_masks

COLOURS = {"background": (0, 0, 0), "cat": (10, 200, 30), "dog": (250, 5, 90)}
TRUTH = np.random.default_rng(0).integers(0, 3, (20, 30), dtype=np.uint8)


def save(path: Path, labels: np.ndarray, mode: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    table = np.array([*COLOURS.values()], np.uint8)
    if mode == "grey":
        Image.fromarray(labels).save(path)
    elif mode == "palette":
        write_mask(path, labels, palette=np.concatenate([table, voc_palette()[3:]]))
    elif mode == "palette of another order":
        order = np.array([2, 0, 1], np.uint8)  # the index of each class
        palette = np.zeros((256, 3), np.uint8)
        palette[order] = table
        write_mask(path, order[labels], palette=palette)
    elif mode == "VOC's palette":
        write_mask(path, labels, palette=voc_palette())
    else:
        Image.fromarray(table[labels]).convert(mode).save(path)


def label_map(folder: Path) -> None:
    lines = [f"{name}:{','.join(map(str, colour))}::" for name, colour in COLOURS.items()]
    (folder / "labelmap.txt").write_text("\n".join(["# label:color_rgb:parts:actions", *lines]))


def table(folder: Path) -> None:
    rows = [f"{value},{name},#{bytes(colour).hex()}" for value, (name, colour) in enumerate(COLOURS.items())]
    (folder / "classes.csv").write_text("\n".join(["index,name,color", *rows]))


MODES = ("RGB", "RGBA", "grey", "palette", "VOC's palette")


@pytest.mark.parametrize("legend", [label_map, table])
@pytest.mark.parametrize("mode", [*MODES, "palette of another order"])
def test_what_the_list_says(mode: str, legend: object, tmp_path: Path) -> None:
    """Exactly the masks that were drawn, of either side; indexed ones stay what they are."""
    save(tmp_path / "truth" / "a.png", TRUTH, mode)
    legend(tmp_path / "truth")  # type: ignore[operator]
    save(tmp_path / "predictions" / "a.png", np.roll(TRUTH, 1), "VOC's palette")
    (tmp_path / "predictions" / "classes.txt").write_text("cat\ndog\n")
    masks = open_masks(tmp_path / "truth")
    assert masks.class_names == ("cat", "dog")
    np.testing.assert_array_equal(masks.read("a", num_classes=2), TRUTH)
    found = evaluate(predictions=tmp_path / "predictions", truth=tmp_path / "truth")
    expected = np.zeros((3, 3), int)
    np.add.at(expected, (TRUTH.ravel(), np.roll(TRUTH, 1).ravel()), 1)
    np.testing.assert_array_equal(found.scores.matrix, expected)
    turned = evaluate(predictions=tmp_path / "truth", truth=tmp_path / "predictions")
    np.testing.assert_array_equal(turned.scores.matrix, expected.T)


def test_the_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("truth", "predictions"):
        save(tmp_path / name / "a.png", TRUTH, "RGB")
        label_map(tmp_path / name)
    words = ["--predictions", str(tmp_path / "predictions"), "--truth", str(tmp_path / "truth")]
    assert cli.main(["evaluate", *words]) == 0
    assert "mIoU 100.0" in capsys.readouterr().out
    paired = compare([tmp_path / "predictions", tmp_path / "truth"], truth=tmp_path / "truth", resamples=5)
    assert paired.miou.tolist() == [1.0, 1.0]
    out = tmp_path / "out"
    assert cli.main(["export", "coco-rle", "--predictions", str(tmp_path / "truth"), "--out", str(out)]) == 0
    written = json.loads((out / "annotations.json").read_text())
    assert {entry["category_id"]: entry["area"] for entry in written["annotations"]} == {
        value: int((value == TRUTH).sum()) for value in (1, 2)
    }


def test_without_a_list_it_is_said_what_to_write(tmp_path: Path) -> None:
    save(tmp_path / "a.png", TRUTH, "RGB")
    with pytest.raises(BadInputError, match=r"a\.png: .*colour \(\d+, \d+, \d+\), which is not .*labelmap\.txt beside"):
        evaluate(predictions=tmp_path, truth=tmp_path)
    label_map(tmp_path)
    text = (tmp_path / "labelmap.txt").read_text()
    (tmp_path / "labelmap.txt").write_text(text.replace("250,5,90", "1,2,3"))
    with pytest.raises(BadInputError, match=r"a\.png: expected the colours of the list.*, got \(250, 5, 90\); add"):
        evaluate(predictions=tmp_path, truth=tmp_path)


@pytest.mark.parametrize(
    ("rows", "words"),
    [("1,cat,red", r"classes\.csv:2: expected a colour such as #804000, got 'red'"), ("1,cat", "got ''"),
     ("1,cat,#010203\n2,dog,#010203", "expected each colour once")],
)  # fmt: skip
def test_a_table_of_wrong_colours(rows: str, words: str, tmp_path: Path) -> None:
    save(tmp_path / "a.png", TRUTH, "RGB")
    (tmp_path / "classes.csv").write_text(f"index,name,colour\n{rows}\n")
    with pytest.raises(BadInputError, match=words):
        open_masks(tmp_path)
