"""`subcam export FORMAT` as a person calls it. What the files hold is tested with the functions that write them."""

import json
import shutil
import zipfile
from pathlib import Path
from xml.etree import ElementTree

import pytest
from PIL import Image
from tests.export.made_masks import SIZES, write_made

from subcam import cli
from subcam.commands.export import FORMATS
from subcam.export.mask_folder import open_masks
from subcam.metrics.masks_csv import read_confidences
from subcam.networks.segmenter import SegmentationNetwork
from subcam.networks.settings import NetworkSettings, SegmentationConfig
from subcam.results import read_run

VOC_NAMES = ("person", "cat", "sheep")

WRITTEN = {
    "voc": ("results.tgz", [], ["results.tgz"]),
    "coco-rle": ("out", [], ["annotations.json", "results.json"]),
    "coco-panoptic": ("out", [], ["panoptic", "panoptic.json"]),
    "label-studio": ("out", ["--shape", "polygon"], ["interface.xml", "tasks.json"]),
    "cvat": ("annotations.xml", ["--pieces", "--least-area", "3"], ["annotations.xml"]),
    "cvat-masks": ("masks.zip", [], ["masks.zip"]),
}


@pytest.fixture
def predictions(tmp_path: Path) -> Path:
    write_made(tmp_path / "predictions", names=VOC_NAMES, unlabelled=False)
    return tmp_path / "predictions"


def export(name: str, predictions: Path, out: Path, *words: object) -> int:
    return cli.main(["export", name, "--predictions", str(predictions), "--out", str(out), *map(str, words)])


@pytest.mark.parametrize("name", WRITTEN)
def test_each_format_of_masks(name: str, predictions: Path, tmp_path: Path, capsys) -> None:
    place, words, files = WRITTEN[name]
    out = tmp_path / "exported" / place
    images = ("--images", predictions / "images")
    assert export(name, predictions, out, *images, *words) == 0
    assert str(out) in capsys.readouterr().out
    folder = out if out.is_dir() else out.parent
    assert sorted(path.name for path in folder.iterdir()) == files
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert export(name, predictions, out, *images, *words) == 0
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_a_list_and_names_of_ones_own(predictions: Path, tmp_path: Path) -> None:
    (tmp_path / "test.txt").write_text("2008_000002\n")
    words = ("--list", tmp_path / "test.txt", "--classes", "a", "b", "c")
    assert export("coco-rle", predictions, tmp_path, *words) == 0
    written = json.loads((tmp_path / "annotations.json").read_text())
    assert [image["file_name"] for image in written["images"]] == ["2008_000002.jpg"]
    assert [category["name"] for category in written["categories"]] == ["a", "b", "c"]


def test_numbers_from_cocos_file(predictions: Path, tmp_path: Path) -> None:
    numbers = tmp_path / "instances.json"
    images = [{"id": index, "file_name": f"{name}.jpg"} for index, name in enumerate(SIZES, start=500)]
    categories = [{"id": index, "name": name} for index, name in enumerate(VOC_NAMES, start=30)]
    numbers.write_text(json.dumps({"images": images, "categories": categories}))
    for name in ("coco-rle", "coco-panoptic"):
        assert export(name, predictions, tmp_path / name, "--numbers", numbers) == 0
    written = json.loads((tmp_path / "coco-panoptic" / "panoptic.json").read_text())
    assert [image["id"] for image in written["images"]] == [500, 501, 502]
    assert [category["id"] for category in written["categories"]] == [30, 31, 32]


def test_mistakes_are_one_line(predictions: Path, tmp_path: Path, capsys) -> None:
    (tmp_path / "test.txt").write_text("2008_000002\n2008_000003\n")
    assert export("voc", predictions, tmp_path / "r.tgz", "--list", tmp_path / "test.txt") == cli.EXIT_USER
    assert "got none for 1: 2008_000003" in capsys.readouterr().err
    assert cli.main(["export", "pdf"]) == cli.EXIT_USER
    assert "there is no format 'pdf' to export; there are: voc, coco-rle" in capsys.readouterr().err
    assert cli.main(["export", "onnx", str(tmp_path), "--out", str(tmp_path / "n.onnx")]) == cli.EXIT_USER
    assert str(tmp_path) in capsys.readouterr().err
    assert list(tmp_path.glob("*.tgz")) == list(tmp_path.glob("*.onnx")) == []


@pytest.mark.parametrize("words", [[], ["--help"]])
def test_the_formats_are_listed(words: list[str], capsys) -> None:
    assert cli.main(["export", *words]) == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in FORMATS)


def test_networks_go_to_what_writes_them(tmp_path: Path, capsys, monkeypatch) -> None:
    settings = NetworkSettings(name="tiny", weights="none")
    SegmentationNetwork(SegmentationConfig(network=settings, class_names=("cat",))).save(tmp_path / "model")
    calls = []

    def write(network: SegmentationNetwork, path: Path, **given: str) -> float:
        calls.append((network.config.class_names, path, given))
        return 3.1e-6

    for name in ("onnx", "torch"):
        monkeypatch.setattr(f"subcam.export.onnx_and_torch.export_{name}", write)
        words = ["export", name, str(tmp_path / "model"), "--out", str(tmp_path / name), "--output", "probabilities"]
        assert cli.main(words) == 0
        assert calls.pop() == (("cat",), tmp_path / name, {"output": "probabilities", "input_type": "uint8"})
        assert "differs by at most 3e-06 from the network" in capsys.readouterr().out


DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "export.md"


def test_the_document_shows_every_format() -> None:
    """Its commands are run by `tests/test_docs.py`."""
    text = DOCUMENT.read_text("utf-8")
    assert all(f"subcam export {name} " in text for name in FORMATS)


@pytest.mark.parametrize("kind", ["label-studio", "cvat", "cvat-masks", "coco-rle", "coco-panoptic"])
def test_drafts_of_a_run_are_sorted_worst_first(kind: str, refined_run: Path, tmp_path: Path) -> None:
    rows = read_confidences(refined_run)
    out = tmp_path / "out"
    assert cli.main(["export", kind, str(refined_run), "--worst", "3", "--out", str(out)]) == cli.EXIT_OK
    found = {
        "label-studio": lambda: [task["meta"]["subcam"] for task in json.loads((out / "tasks.json").read_text())],
        "cvat": lambda: [Path(one.attrib["name"]).stem for one in ElementTree.parse(out).iter("image")],
        "cvat-masks": lambda: zipfile.ZipFile(out).read("ImageSets/Segmentation/default.txt").decode().split(),
        "coco-rle": lambda: _images_of(out / "annotations.json"),
        "coco-panoptic": lambda: _images_of(out / "panoptic.json"),
    }[kind]()
    assert found == [row.image for row in rows[:3]]


def _images_of(path: Path) -> list[str]:
    return [Path(image["file_name"]).stem for image in json.loads(path.read_text())["images"]]


def test_drafts_carry_their_confidence_and_the_names_of_the_run_s_images(
    refined_run: Path, tmp_path: Path, capsys
) -> None:
    assert cli.main(["export", "label-studio", str(refined_run), "--out", str(tmp_path)]) == cli.EXIT_OK
    root = Path(read_run(refined_run).result.settings.dataset.root)
    said = capsys.readouterr().out
    assert f"DOCUMENT_ROOT={root.parent}, and its project has a local storage: {root}" in said
    rows = read_confidences(refined_run)
    tasks = json.loads((tmp_path / "tasks.json").read_text())
    addresses = [f"/data/local-files/?d={root.name}/images/{row.image}.png" for row in rows]
    assert [task["data"]["image"] for task in tasks] == addresses
    assert [task["predictions"][0]["score"] for task in tasks] == [row.confidence for row in rows]
    for task, row in zip(tasks, rows, strict=True):
        regions = {one["value"]["brushlabels"][0]: one["score"] for one in task["predictions"][0]["result"]}
        assert regions == {name: region.confidence for name, region in row.regions.items() if name in regions}


def test_a_run_s_exports_lie_in_its_folder(
    refined_run: Path, toy_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where its images were taken away, they have the names of the masks."""
    run = shutil.copytree(refined_run, tmp_path / "run")
    record = run / "run.json"
    record.write_text(record.read_text("utf-8").replace(str(toy_folder), str(tmp_path / "gone")), "utf-8")
    assert cli.main(["export", "cvat", str(run), "--worst", "1"]) == cli.EXIT_OK
    assert f"warning: the run's images are not at {tmp_path / 'gone'}: they" in capsys.readouterr().out
    assert (
        cli.main(
            ["export", "label-studio", "--predictions", str(run / "masks"), "--worst", "1", "--out", str(tmp_path)]
        )
        == 0
    )
    assert len(ElementTree.parse(run / "exports" / "cvat.xml").findall("image")) == 1
    assert len(json.loads((tmp_path / "tasks.json").read_text())) == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["DIR", "--predictions", "DIR", "--out", "o"], "expected one folder of masks, got 2"),
        (["--out", "o"], "expected one folder of masks, got 0"),
        (["DIR"], "expected where to write, got nothing; give --out"),
        (["DIR", "--worst", "3", "--out", "o"], "got none; only a run's masks have a confidence: give a run's folder,"),
        (["DIR", "--worst", "0", "--out", "o"], "worst"),
    ],
)
def test_which_masks_and_where_to(
    words: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_made(tmp_path)
    given = [str(tmp_path / "masks") if word == "DIR" else word for word in words]
    assert cli.main(["export", "label-studio", *given]) == cli.EXIT_USER
    assert said in " ".join(capsys.readouterr().err.split())


def test_images_that_browsers_do_not_show_are_named(predictions: Path, tmp_path: Path, capsys) -> None:
    images = tmp_path / "images"
    for number, (name, mask) in enumerate(open_masks(predictions).files.items()):
        path = images / (name + (".tif" if number == 0 else ".jpg"))
        path.parent.mkdir(parents=True, exist_ok=True)
        with Image.open(mask) as opened:
            Image.new("RGB", opened.size).save(path)
    words = ["export", "label-studio", "--predictions", str(predictions), "--images", str(images)]
    assert cli.main([*words, "--out", str(tmp_path / "tasks")]) == cli.EXIT_OK
    said = capsys.readouterr().out
    assert "do not show 1 of these images:" in said
    assert ".tif; give" in said
    assert ".jpg" not in said.partition("; give")[0]
