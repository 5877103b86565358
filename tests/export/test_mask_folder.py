import json
from pathlib import Path

import numpy as np
import pytest
from tests.export.made_masks import NAMES, write_made
from tests.test_results import record as whole_record

from subcam.data.images import voc_palette, write_mask
from subcam.data.readers.class_names import write_legend
from subcam.data.readers.voc import VOC_CLASSES
from subcam.errors import BadInputError, RunFolderError, SubcamError
from subcam.export.mask_folder import class_names_in, open_masks, read_class_names


def mask(path: Path, values: object = ((0, 1),)) -> Path:
    write_mask(path, np.array(values, np.uint8), palette=voc_palette(), durable=False)
    return path


def test_a_folder_of_predictions_knows_its_classes(tmp_path: Path) -> None:
    made = write_made(tmp_path)
    for given in (tmp_path, tmp_path / "masks"):
        masks = open_masks(given)
        assert masks.class_names == NAMES == masks.known_class_names()
        assert list(masks.files) == list(made)
        read = dict(masks.labels(num_classes=3, title="reading"))
        assert all((read[name] == labels).all() for name, labels in made.items())


def test_names_are_paths_without_suffix(tmp_path: Path) -> None:
    for place in ("b.png", "a/x.y.PNG", "a/z.png"):
        mask(tmp_path / place)
    mask(tmp_path / ".hidden.png")
    (tmp_path / "note.txt").write_text("no mask")
    assert list(open_masks(tmp_path).files) == ["a/x.y", "a/z", "b"]


@pytest.mark.parametrize("folder", ["SegmentationClass", "SegmentationClassAug"])
def test_a_voc_folder(tmp_path: Path, folder: str) -> None:
    mask(tmp_path / folder / "2007_000032.png")
    for given in (tmp_path, tmp_path / folder):
        assert open_masks(given).class_names == VOC_CLASSES
        assert open_masks(given, class_names=("mine",)).class_names == ("mine",)


def test_classes_without_names_follow_from_the_values(tmp_path: Path) -> None:
    mask(tmp_path / "a.png", [[0, 2, 255]])
    masks = open_masks(tmp_path)
    assert masks.class_names is None
    assert masks.known_class_names() == ("class 1", "class 2")
    mask(tmp_path / "b.png", [[20]])
    assert open_masks(tmp_path).known_class_names() == VOC_CLASSES


def test_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="expected a folder of masks, got none"):
        open_masks(tmp_path / "nowhere")
    with pytest.raises(BadInputError, match="expected masks as PNG files, got none"):
        open_masks(tmp_path)
    mask(tmp_path / "a.png")
    masks = open_masks(tmp_path)
    assert list(masks.only(["a"]).files) == ["a"]
    with pytest.raises(BadInputError, match=r"each of 3 names, got none for 2: b, c; make them"):
        masks.only(["a", "b", "c"])


def test_a_value_that_no_class_has_is_named(tmp_path: Path) -> None:
    path = mask(tmp_path / "a.png", [[0, 1, 5, 255]])
    with pytest.raises(BadInputError, match=rf"{path}: expected the values 0..2, 255, got 5"):
        open_masks(tmp_path).read("a", num_classes=2)


def test_class_names_from_files(tmp_path: Path) -> None:
    table, text = tmp_path / "classes.csv", tmp_path / "classes.txt"
    table.write_text("index,name,red\n2,dog,0\n1,cat,0\n")
    text.write_text("Background\ncat\n\ndog\n")
    assert class_names_in([str(table)]) == class_names_in([str(text)]) == class_names_in(["cat", "dog"])
    for wrong, says in (
        (
            "name,colour\ncat,1\n",
            r"csv:1: expected a header with the columns index, name, got name, colour; add index",
        ),
        ("index,name\none,cat\n", "columns index and name"),
        ("index,name\n1,cat\n3,dog\n", r"expected the values 1..2, got \[1, 3\]"),
        ("index,name\n1,cat\n2,cat\n", "expected each class once, got 'cat' twice"),
        ("index,name\n1,cat\n1,dog\n", "expected each value once"),
        ("index,name\n0,background\n", "got none"),
    ):
        table.write_text(wrong)
        with pytest.raises(BadInputError, match=says):
            read_class_names(table)


def test_masks_of_a_folder_in_voc_s_layout_have_the_classes_that_it_lists(tmp_path: Path) -> None:
    mask(tmp_path / "SegmentationClass" / "a.png", [[0, 1, 2, 255]])
    assert open_masks(tmp_path).class_names == VOC_CLASSES
    (tmp_path / "labels.txt").write_text("__ignore__\n_background_\napple\npear\n")
    for folder in (tmp_path, tmp_path / "SegmentationClass"):
        assert open_masks(folder).class_names == ("apple", "pear")
    (tmp_path / "labelmap.txt").write_text("# label:color_rgb:parts:actions\nbackground:0,0,0::\npear:0,128,0::\n")
    with pytest.raises(BadInputError, match=r"expected classes of the values 1..1, got 2 pear; renumber the masks"):
        open_masks(tmp_path)


def test_what_is_no_png_is_said_and_one_name_is_one_mask(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    mask(tmp_path / "a.png", [[0, 1]])
    mask(tmp_path / "sub" / "a.PNG", [[0, 1]])
    mask(tmp_path / "b.png", [[0, 1]]).rename(tmp_path / "b.tif")
    assert list(open_masks(tmp_path).files) == ["a", "sub/a"]
    assert "1 images are no PNGs and not taken for masks: b.tif" in caplog.text
    mask(tmp_path / "sub" / "a.png", [[0, 1]])
    with pytest.raises(BadInputError, match=r"are masks of one name; take one away"):
        open_masks(tmp_path)


def record(folder: Path, **changes: object) -> None:
    """A run's record, as far as its masks are concerned."""
    content = {
        **whole_record(),
        "class_names": ["dog", "cat"],
        "settings": {"refine": {"masks": {"pseudo_mask": "walk"}}},
        "refined": [{"round": i, "masks": f"stages/round{i}-masks-{'ab'[i]}", "scores": {}} for i in (0, 1)],
        **changes,
    }
    (folder / "run.json").write_text(json.dumps(content))


def test_a_run_s_folder_is_its_last_pseudo_masks_with_its_classes(tmp_path: Path) -> None:
    """Not what else lies there: an older run's table called classes.csv, a folder `masks` of another run."""
    record(tmp_path)
    mine = mask(tmp_path / "stages" / "round1-masks-b" / "walk" / "a" / "x.png")
    for other in ("stages/round1-masks-b/crf/y.png", "stages/round0-masks-a/walk/z.png", "masks/w.png"):
        mask(tmp_path / other)
    (tmp_path / "classes.csv").write_text("split,round,scored,background,dog,cat,mIoU\n")
    masks = open_masks(tmp_path)
    assert masks.files == {"a/x": mine}
    assert masks.class_names == ("dog", "cat")
    assert open_masks(tmp_path, class_names=["hund", "katze"]).class_names == ("hund", "katze")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"refined": []}, "is a run without pseudo masks"),
        ({"refined": None}, "run.json is not the record of a run"),
        ({"refined": [{}]}, r"run.json is not the record of a run \(\.refined\[0\]: expected the key 'round'"),
        ({"settings": []}, "run.json is not the record of a run"),
        ({"settings": {"refine": []}}, r"\.settings\.refine\.masks\.pseudo_mask: expected a text, got None"),
    ],
)
def test_a_run_without_masks(changes: dict, message: str, tmp_path: Path) -> None:
    record(tmp_path, **changes)
    mask(tmp_path / "a.png")
    with pytest.raises(SubcamError, match=message):
        open_masks(tmp_path)


def test_a_record_does_not_lead_out_of_its_folder(tmp_path: Path) -> None:
    record(tmp_path, refined=[{"round": 0, "masks": "../secret", "scores": {}}])
    with pytest.raises(RunFolderError, match=r"it has '\.\.'"):
        open_masks(tmp_path)


def test_a_stage_s_folder_of_several_kinds_of_masks_is_not_one_of_masks(tmp_path: Path) -> None:
    (tmp_path / "stage.json").write_text("{}")
    for kind in ("crf", "walk"):
        mask(tmp_path / kind / "a.png")
        write_legend(tmp_path / kind, ["dog", "cat"])
    with pytest.raises(BadInputError, match="got one that holds several: crf, walk; give one of these"):
        open_masks(tmp_path)
    assert open_masks(tmp_path / "walk").class_names == ("dog", "cat")


@pytest.mark.parametrize("names", [("dog", "cat"), ("dög ü", "none", "a;b", "#c", "1"), ("a\nb", "\x85c")])
def test_a_legend_is_read_back(names: tuple[str, ...], tmp_path: Path) -> None:
    write_legend(tmp_path, names)
    assert read_class_names(tmp_path / "classes.txt") == tuple(" ".join(name.split()) for name in names)
