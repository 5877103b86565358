"""The examples do what they say: on a folder that `subcam predict` wrote.

FiftyOne brings a database server and is not installed for the tests; its example meets a stand-in of the few calls that
it makes. What a stand-in cannot show, that FiftyOne takes these calls and shows the masks, no test holds.
"""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.predict.saved_network import CLASSES, save_tiny_network

from subcam import cli
from subcam.data.images import read_indices, voc_palette, write_mask

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
SIZE = (40, 60)


def example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def predictions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two images, one of them in a sub-folder, as `subcam predict` leaves them; then with masks that we know."""
    root = tmp_path_factory.mktemp("predicted")
    for index, name in enumerate(("a", "below/b")):
        path = root / "images" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((*SIZE, 3), 60 * index + 40, np.uint8)).save(path)
    model = save_tiny_network(root / "model")
    words = ["predict", str(model), str(root / "images"), "--out", str(root / "out"), "--threads", "1"]
    assert cli.main([*words, "--accelerator", "cpu"]) == 0
    write_mask(root / "out" / "masks" / "a.png", known_mask(), palette=voc_palette())
    write_mask(root / "out" / "masks" / "below" / "b.png", np.zeros(SIZE, np.uint8), palette=voc_palette())
    return root / "out"


def known_mask() -> np.ndarray:
    """Two cats, an owl, one pixel of a dog, a strip without a label."""
    mask = np.zeros(SIZE, np.uint8)
    mask[2:10, 3:20] = 1
    mask[20:30, 3:20] = 1
    mask[15:35, 40:55] = 3
    mask[0, 59] = 2
    mask[39] = 255
    return mask


class TestSupervision:
    @pytest.fixture
    def overlay(self) -> ModuleType:
        pytest.importorskip("supervision", reason="the example needs the package supervision")
        return example("supervision_overlay")

    def test_pieces_are_detections(self, overlay: ModuleType) -> None:
        found = overlay.detections_of(known_mask(), CLASSES, least_area=2)
        assert found.class_id.tolist() == [0, 0, 2]
        assert found.data["class_name"].tolist() == ["cat", "cat", "owl"]
        assert found.xyxy.tolist() == [[3, 2, 19, 9], [3, 20, 19, 29], [40, 15, 54, 34]]
        assert np.array_equal(found.mask.any(0), np.isin(known_mask(), (1, 3)))
        assert found.area.tolist() == [8 * 17, 10 * 17, 20 * 15]
        assert len(overlay.detections_of(known_mask(), CLASSES)) == 4
        assert len(overlay.detections_of(np.zeros(SIZE, np.uint8), CLASSES)) == 0

    def test_what_is_no_piece_stays_as_it_was(self, overlay: ModuleType) -> None:
        image = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
        before = image.copy()
        nothing = overlay.draw(image, overlay.detections_of(np.zeros(SIZE, np.uint8), CLASSES))
        assert np.array_equal(nothing, image)
        drawn = overlay.draw(image, overlay.detections_of(known_mask(), CLASSES, least_area=2))
        assert not np.array_equal(drawn[22:28, 5:18], image[22:28, 5:18])
        assert np.array_equal(image, before)

    def test_a_folder(self, overlay: ModuleType, predictions: Path, tmp_path: Path, capsys: Any, monkeypatch) -> None:
        monkeypatch.setattr(sys, "argv", ["overlay", str(predictions), "--out", str(tmp_path)])
        overlay.main()
        assert capsys.readouterr().out == f"2 images in {tmp_path}\n"
        with Image.open(tmp_path / "a.jpg") as drawn:
            assert drawn.size == SIZE[::-1]
        untouched = np.array(Image.open(tmp_path / "below" / "b.jpg"))
        assert np.abs(untouched.astype(int) - 100).max() <= 2


class StandIn(SimpleNamespace):
    """What of FiftyOne the example calls."""

    class Segmentation(SimpleNamespace):
        pass

    class Sample(SimpleNamespace):
        def __setitem__(self, name: str, value: object) -> None:
            setattr(self, name, value)

    class Dataset:
        def __init__(self, name: str, *, overwrite: bool) -> None:
            assert overwrite
            self.name = name
            self.samples: list[Any] = []

        def add_samples(self, samples: list[Any]) -> None:
            self.samples += samples


class TestFiftyOne:
    @pytest.fixture
    def view(self) -> ModuleType:
        return example("fiftyone_view")

    def test_each_image_is_a_sample(self, view: ModuleType, predictions: Path, tmp_path: Path) -> None:
        write_mask(tmp_path / "truth" / "a.png", known_mask(), palette=voc_palette())
        found = view.open_in_fiftyone(StandIn, predictions, truth=tmp_path / "truth", name="pets")
        assert found.name == "pets"
        assert found.default_mask_targets == {1: "cat", 2: "dog", 3: "owl"}
        first, second = found.samples
        assert Path(first.filepath) == predictions.parent / "images" / "a.png"
        assert Path(second.filepath).is_file()
        assert first.tags == ["cat", "dog", "owl"]
        assert second.tags == []
        assert np.array_equal(first.prediction.mask, known_mask())
        assert np.array_equal(first.truth.mask, known_mask())
        assert not hasattr(second, "truth")

    def test_an_indexed_png_is_not_given_as_a_file(self, predictions: Path) -> None:
        """The reason why the example reads masks itself: they have palettes, which OpenCV, and so FiftyOne, applies."""
        cv2 = pytest.importorskip("cv2", reason="shows what OpenCV makes of an indexed PNG")
        path = predictions / "masks" / "a.png"
        assert cv2.imread(str(path), cv2.IMREAD_UNCHANGED).ndim == 3
        assert read_indices(path).ndim == 2


def test_every_example_is_tested_and_says_how_it_is_run() -> None:
    tested = Path(__file__).read_text("utf-8")
    files = sorted(EXAMPLES.glob("*.py"))
    assert files
    for path in files:
        assert f'example("{path.stem}")' in tested
        assert f"python examples/{path.name}" in path.read_text("utf-8")
