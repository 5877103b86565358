"""Networks as programs: what onnxruntime and torch.export give is what the network gives, on sizes never traced."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import jaxtyping
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from forked import DONE, at_once
from torch import nn

from subcam.export import onnx_and_torch, program_check
from subcam.export.onnx_and_torch import ImageProgram, TraceableGrid, export_onnx, export_torch
from subcam.export.program_check import ExportError, check_onnx, check_program, network_output, plain_copy
from subcam.networks.logit_grid import Grid
from subcam.networks.segmenter import SegmentationNetwork
from subcam.networks.settings import NetworkSettings, SegmentationConfig

NAMES = ("cat", "dög")
UNSEEN = ((1, 50, 61), (4, 80, 32))


def small_network(**given) -> SegmentationNetwork:
    torch.manual_seed(0)
    settings = NetworkSettings(name="tiny", weights="none", freeze_batch_norm=False)
    network = SegmentationNetwork(SegmentationConfig(network=settings, class_names=NAMES, **given))
    for parameter in network.model.classifier.parameters():  # so that differences show
        parameter.data.mul_(5)
    return network


@pytest.fixture(scope="module", autouse=True)
def traceable() -> Iterator[None]:
    """The checks of shapes know no sizes that are left open, so they are off while networks are traced here."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture(scope="module")
def network(traceable: None) -> SegmentationNetwork:
    return small_network()


@pytest.fixture(scope="module")
def written(network: SegmentationNetwork, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("programs")
    assert export_onnx(network, folder / "network.onnx", output="probabilities") < 1e-4
    assert export_torch(network, folder / "network.pt2", input_type="float32") < 1e-4
    return folder


def made_images(shape: tuple[int, int, int]) -> torch.Tensor:
    batch, height, width = shape
    return torch.randint(0, 256, (batch, 3, height, width), dtype=torch.uint8)


@pytest.mark.parametrize("shape", UNSEEN)
def test_onnx_gives_what_the_network_gives(written: Path, network: SegmentationNetwork, shape) -> None:
    session = onnxruntime.InferenceSession(written / "network.onnx", providers=["CPUExecutionProvider"])
    (taken,), (given,) = session.get_inputs(), session.get_outputs()
    assert (taken.name, taken.type, taken.shape) == ("images", "tensor(uint8)", ["batch", 3, "height", "width"])
    assert (given.name, given.shape) == ("probabilities", ["batch", 3, "height", "width"])
    images = made_images(shape)
    (found,) = session.run(None, {"images": images.numpy()})
    expected = network_output(plain_copy(network), images, output="probabilities").numpy()
    np.testing.assert_allclose(found, expected, atol=1e-5)
    np.testing.assert_allclose(found.sum(1), 1, atol=1e-5)
    assert np.ptp(expected) > 0.5, "the comparison must not be one of constants"


def test_onnx_says_what_it_is(written: Path) -> None:
    onnx.checker.check_model(onnx.load(written / "network.onnx"), full_check=True)
    session = onnxruntime.InferenceSession(written / "network.onnx", providers=["CPUExecutionProvider"])
    said = session.get_modelmeta().custom_metadata_map
    assert json.loads(said["class_names"]) == ["background", *NAMES]
    assert said["architecture"] == "deeplabv2 on tiny"
    assert said["output"].startswith("probabilities")


def test_the_torch_program_runs_without_this_package(
    written: Path, network: SegmentationNetwork, tmp_path: Path
) -> None:
    images, said = [made_images(shape).float() for shape in UNSEEN], tmp_path / "said.json"

    def work() -> None:
        for name in [name for name in sys.modules if name.partition(".")[0] == "subcam"]:
            sys.modules[name] = None  # type: ignore[assignment]  # an import of it fails
        files = {"subcam.json": ""}
        program = torch.export.load(written / "network.pt2", extra_files=files).module()
        with torch.no_grad():
            torch.save([program(batch) for batch in images], tmp_path / "found.pt")
        said.write_text(files["subcam.json"], "utf-8")

    assert at_once(work) == [DONE]
    assert json.loads(json.loads(said.read_text("utf-8"))["class_names"]) == ["background", *NAMES]
    for one, other in zip(torch.load(tmp_path / "found.pt", weights_only=True), images, strict=True):
        torch.testing.assert_close(one, network_output(plain_copy(network), other, output="logits"), atol=1e-4, rtol=0)


def test_the_network_is_left_as_it_was(written: Path, network: SegmentationNetwork) -> None:
    assert type(network.model.grid) is Grid
    assert network.training, "as a network comes from its file"


def test_images_that_are_padded_by_more_than_a_cell(tmp_path: Path) -> None:
    """As encoders with more strides need it: sides that fit, that fit by cells only, and that do not fit at all."""
    network = small_network()
    network.model.grid = Grid(stride=4, pad_multiple=16, least_side=48)
    assert export_torch(network, tmp_path / "network.pt2") < 1e-4


def test_deeplab_v3plus(tmp_path: Path) -> None:
    network = small_network(architecture="deeplabv3plus")
    assert export_onnx(network, tmp_path / "network.onnx") < 1e-4
    assert check_onnx(tmp_path / "network.onnx", network, output="logits", shapes=UNSEEN) < 1e-4


@pytest.mark.thorough
def test_multi_scale_inputs(tmp_path: Path) -> None:
    network = small_network(multi_scale_inputs=(0.5,))
    assert export_onnx(network, tmp_path / "network.onnx") < 1e-4
    assert check_onnx(tmp_path / "network.onnx", network, output="logits", shapes=UNSEEN) < 1e-4


@pytest.mark.parametrize(
    "grid",
    [
        Grid(stride=4, pad_multiple=8, least_side=8),
        Grid(stride=8, pad_multiple=16, least_side=48),
        Grid(stride=8, pad_multiple=1, least_side=8),
    ],
)
def test_the_traceable_grid_is_the_grid(grid: Grid) -> None:
    traceable = TraceableGrid(**vars(grid))
    for height, width in ((1, 7), (8, 9), (16, 47), (48, 49), (65, 33)):
        images = torch.rand(1, 3, height, width)
        assert torch.equal(traceable.pad(images), grid.pad(images))
        assert traceable.cells((height, width)) == grid.cells((height, width))
        logits = torch.rand(1, 2, *(side // grid.stride + 1 for side in grid.pad(images).shape[2:]))
        assert torch.equal(traceable.crop(logits, (height, width)), grid.crop(logits, (height, width)))


def test_a_program_that_differs_is_refused(written: Path, network: SegmentationNetwork) -> None:
    other = small_network()
    other.model.classifier.branches[0].bias.data[0] += 0.1
    with pytest.raises(
        ExportError, match=r"differs by 0\.0\d+ on 1 images of 97 x 65 pixels, expected at most 0\.0001"
    ):
        check_onnx(written / "network.onnx", other, output="probabilities")


@pytest.mark.parametrize(
    ("program", "says"),
    [
        (
            lambda images: np.zeros((1, 3, 2, 2), np.float32),
            r"gives \(1, 3, 2, 2\) on 1 images .*, expected \(1, 3, 65, 97\)",
        ),
        (lambda images: np.full((1, 3, 65, 97), np.nan, np.float32), "differs by nan"),
        (lambda images: {}["input"], "fails on 1 images of 97 x 65 pixels .KeyError: 'input'"),
    ],
)
def test_programs_that_are_none(network: SegmentationNetwork, program, says: str) -> None:
    with pytest.raises(ExportError, match=says):
        check_program(program, network, output="logits", dtype=torch.uint8)


def test_nothing_is_written_where_the_check_fails(network: SegmentationNetwork, tmp_path: Path, monkeypatch) -> None:
    class Wrong(ImageProgram):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return super().forward(images) + 1

    monkeypatch.setattr(onnx_and_torch, "ImageProgram", Wrong)
    (tmp_path / "network.pt2").write_bytes(b"what was there")
    with pytest.raises(ExportError, match=r"the exported program differs by .*; nothing was written"):
        export_torch(network, tmp_path / "network.pt2")
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"what was there"]


def test_a_network_that_cannot_be_traced_is_named(tmp_path: Path) -> None:
    network = small_network()

    class Undecided(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x if x.sum() > 0 else -x

    network.model.backbone.body = nn.Sequential(Undecided(), network.model.backbone.body)
    with pytest.raises(ExportError, match=r"'deeplabv2' on 'tiny' cannot be traced by torch\.export"):
        export_torch(network, tmp_path / "network.pt2")


def test_the_extra_is_asked_for_by_name(network: SegmentationNetwork, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(ExportError, match=r"ONNX needs onnxscript, .*pip install onnx onnxruntime onnxscript"):
        export_onnx(network, tmp_path / "network.onnx")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ExportError, match="ONNX needs onnxruntime"):
        program_check.check_onnx(b"", network, output="logits")
