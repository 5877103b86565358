"""COCO files as pycocotools and plain loops read them back."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from scipy import ndimage
from tests.export.made_masks import NAMES, SIZES, write_made

from subcam.data.images import voc_palette, write_mask
from subcam.errors import BadInputError
from subcam.export.coco import export_coco_panoptic, export_coco_rle, id_colours, read_coco_ids
from subcam.export.images import find_images
from subcam.export.mask_folder import open_masks


@pytest.fixture
def made(tmp_path: Path) -> dict[str, np.ndarray]:
    return write_made(tmp_path)


def export(tmp_path: Path, **given) -> tuple[COCO, COCO]:
    """The annotations and the results as pycocotools holds them."""
    masks = open_masks(tmp_path)
    images = find_images(masks.files, tmp_path / "images")
    results, annotations = export_coco_rle(masks, tmp_path / "out", images=images, **given)
    truth = COCO(str(annotations))
    return truth, truth.loadRes(str(results))


@pytest.mark.parametrize("pieces", [False, True])
def test_annotations_and_results_load_and_give_the_masks_back(tmp_path: Path, made, pieces: bool) -> None:
    truth, results = export(tmp_path, pieces=pieces, score=0.5)
    assert [category["name"] for category in truth.loadCats(truth.getCatIds())] == list(NAMES)
    for loaded in (truth, results):
        assert {image["file_name"] for image in loaded.loadImgs(loaded.getImgIds())} == {f"{n}.jpg" for n in SIZES}
        for image in loaded.loadImgs(loaded.getImgIds()):
            labels = made[Path(image["file_name"]).stem]
            assert (image["height"], image["width"]) == labels.shape
            back = np.zeros_like(labels)
            for entry in loaded.loadAnns(loaded.getAnnIds(imgIds=image["id"])):
                inside = loaded.annToMask(entry).astype(bool)
                assert not back[inside].any()
                back[inside] = entry["category_id"]
                rows, columns = np.nonzero(inside)
                box = [columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1]
                assert entry["area"] == inside.sum()
                assert list(entry["bbox"]) == box
                assert entry["iscrowd"] == 0
                assert not pieces or ndimage.label(inside)[1] == 1
            assert (back == np.where(labels == 255, 0, labels)).all()
    assert {entry["score"] for entry in results.dataset["annotations"]} == {0.5}


def test_results_score_full_marks_against_their_own_annotations(tmp_path: Path, made) -> None:
    evaluation = COCOeval(*export(tmp_path), iouType="segm")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    assert evaluation.stats[0] == pytest.approx(1)


def test_results_have_the_documented_fields_only(tmp_path: Path, made) -> None:
    export(tmp_path)
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert {tuple(result) for result in results} == {("image_id", "category_id", "segmentation", "score")}


def test_small_regions_are_left_out(tmp_path: Path, made) -> None:
    truth, _ = export(tmp_path, pieces=True, least_area=9)
    everything, _ = export(tmp_path, pieces=True)
    areas = [entry["area"] for entry in everything.dataset["annotations"]]
    assert sorted(entry["area"] for entry in truth.dataset["annotations"]) == sorted(a for a in areas if a >= 9)
    assert min(areas) < 9


def test_numbers_of_cocos_own_file(tmp_path: Path, made) -> None:
    numbers = tmp_path / "instances.json"
    content = {
        "images": [{"id": 70 + index, "file_name": f"val/{name}.jpg"} for index, name in enumerate(SIZES)],
        "categories": [{"id": 10 * (index + 1), "name": name} for index, name in enumerate(reversed(NAMES))],
    }
    numbers.write_text(json.dumps(content))
    ids = read_coco_ids(numbers)
    truth, results = export(tmp_path, ids=ids)
    assert sorted(truth.getImgIds()) == [70, 71, 72]
    assert [truth.loadCats(number)[0]["name"] for number in (10, 20, 30)] == list(reversed(NAMES))
    assert {entry["category_id"] for entry in results.dataset["annotations"]} == {10, 20, 30}
    content["categories"].pop()
    numbers.write_text(json.dumps(content))
    with pytest.raises(BadInputError, match="the class 'cat' is no category of the COCO file"):
        export(tmp_path, ids=read_coco_ids(numbers))
    categories = [{"id": 1 + index, "name": name} for index, name in enumerate(NAMES)]
    numbers.write_text(json.dumps({"images": [{"id": 1, "file_name": "x.jpg"}], "categories": categories}))
    with pytest.raises(BadInputError, match=r"2008_000001\.png: no image of this name is in the COCO file"):
        export(tmp_path, ids=read_coco_ids(numbers))
    for wrong in ("[1]", '{"images": [{}]}', '{"annotations": []}'):
        numbers.write_text(wrong)
        with pytest.raises(BadInputError, match=r"expected (a COCO file with the lists images|an object with id)"):
            read_coco_ids(numbers)


def test_equal_file_names_in_folders_are_images_of_their_own(tmp_path: Path) -> None:
    for name in ("a/1", "b/1", "deep/a/2"):
        write_mask(tmp_path / "masks" / f"{name}.png", np.ones((4, 5), np.uint8), palette=voc_palette())
    masks, numbers = open_masks(tmp_path, class_names=("cat",)), tmp_path / "numbers.json"

    def exported(*files: tuple[int, str]) -> dict[str, int]:
        images = [{"id": number, "file_name": name} for number, name in files]
        numbers.write_text(json.dumps({"images": images, "categories": [{"id": 9, "name": "cat"}]}))
        ids = read_coco_ids(numbers)
        export_coco_rle(masks, tmp_path / "out", images=find_images(masks.files, None), ids=ids)
        written = COCO(str(tmp_path / "out" / "annotations.json")).imgs.values()
        return {image["file_name"]: image["id"] for image in written}

    assert exported((5, "b/1.jpg"), (6, "a/1.png"), (7, "a\\2.jpg")) == {"a/1.jpg": 6, "b/1.jpg": 5, "deep/a/2.jpg": 7}
    with pytest.raises(BadInputError, match=r"b/1\.png: it and .*a/1\.png would be the mask of one image"):
        exported((5, "1.jpg"), (7, "2.jpg"))
    with pytest.raises(BadInputError, match=r"a/1\.png: no image of this name .*, or several"):
        exported((5, "x/a/1.jpg"), (6, "y/a/1.jpg"), (8, "b/1.jpg"), (7, "2.jpg"))
    with pytest.raises(BadInputError, match=r"'a/1\.jpg' is an image under two ids, 5 and 6"):
        exported((5, "a/1.jpg"), (6, "a/1.jpg"))
    with pytest.raises(BadInputError, match=r"expected ids that are whole numbers, as results need them, got 'one'"):
        exported(("one", "a/1.jpg"))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("names", "numbers"),
    [(("000000000139", "000000000042"), [42, 139]), (("b", "a"), [1, 2]), (("7", "007"), [1, 2])],
)
def test_images_without_numbers_are_counted(tmp_path: Path, names: tuple[str, ...], numbers: list[int]) -> None:
    for name in names:
        write_mask(tmp_path / "masks" / f"{name}.png", np.ones((4, 5), np.uint8), palette=voc_palette())
    masks = open_masks(tmp_path)
    export_coco_rle(masks, tmp_path / "out", images=find_images(masks.files, None))
    assert COCO(str(tmp_path / "out" / "annotations.json")).getImgIds() == numbers


@pytest.mark.parametrize("pieces", [False, True])
def test_panoptic_pngs_hold_what_the_json_says(tmp_path: Path, made, pieces: bool) -> None:
    masks = open_masks(tmp_path)
    path = export_coco_panoptic(masks, tmp_path / "out", images=find_images(masks.files, None), pieces=pieces)
    content = json.loads(path.read_text())
    categories = {category["id"]: category for category in content["categories"]}
    assert [(c["name"], c["isthing"]) for c in categories.values()] == [(name, int(pieces)) for name in NAMES]
    images = {image["id"]: image for image in content["images"]}
    assert len(content["annotations"]) == len(images) == 3
    for annotation in content["annotations"]:
        labels = made[Path(images[annotation["image_id"]]["file_name"]).stem]
        with Image.open(tmp_path / "out" / "panoptic" / annotation["file_name"]) as png:
            assert png.mode == "RGB"
            red, green, blue = np.moveaxis(np.asarray(png).astype(int), 2, 0)
        ids = red + 256 * green + 256**2 * blue
        assert sorted({0, *(info["id"] for info in annotation["segments_info"])}) == np.unique(ids).tolist()
        assert ((ids == 0) == np.isin(labels, (0, 255))).all()
        for info in annotation["segments_info"]:
            inside = ids == info["id"]
            assert (labels[inside] == info["category_id"]).all()
            left, top, width, height = info["bbox"]
            assert info["area"] == inside.sum() == inside[top : top + height, left : left + width].sum()
        assert pieces or len(annotation["segments_info"]) == len(set(labels[labels % 255 > 0]))


def test_numbers_beyond_one_byte_by_hand() -> None:
    ids = np.array([[0, 255, 256, 65536 * 3 + 256 * 2 + 1]])
    assert id_colours(ids)[0].tolist() == [[0, 0, 0], [255, 0, 0], [0, 1, 0], [1, 2, 3]]


def test_a_mask_of_another_size_stops_the_export_and_leaves_what_was_there(tmp_path: Path, made) -> None:
    export(tmp_path)
    before = (tmp_path / "out" / "results.json").read_bytes()
    Image.new("RGB", (3, 3)).save(tmp_path / "images" / "2008_000007.jpg")
    with pytest.raises(BadInputError, match="2008_000007"):
        export(tmp_path, score=0.1)
    assert (tmp_path / "out" / "results.json").read_bytes() == before
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["annotations.json", "results.json"]
