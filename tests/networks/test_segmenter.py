"""The segmentation network: where its cells lie, any size, several scales, and saved and loaded."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from lightning_fabric import Fabric
from torch import Tensor, nn

from subcam.errors import CheckpointError, SettingsError
from subcam.networks.classifier import ClassificationNetwork, ModelConfig
from subcam.networks.logit_grid import Grid
from subcam.networks.segmenter import SegmentationNetwork, for_inference, upsample_logits
from subcam.networks.settings import NetworkSettings, SegmentationConfig

TINY = NetworkSettings(name="tiny", weights="none", freeze_batch_norm=False)
CONFIG = SegmentationConfig(network=TINY, class_names=("cat", "dog"))


@pytest.fixture
def build() -> Callable[..., SegmentationNetwork]:
    def build(**changes: object) -> SegmentationNetwork:
        values = {"network": TINY, "class_names": ("cat", "dog"), **changes}
        return SegmentationNetwork(SegmentationConfig(**values)).eval()  # type: ignore[arg-type]

    return build


def image(height: int, width: int, *, batch: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(height * width)
    return torch.randint(0, 256, (batch, 3, height, width), dtype=torch.uint8, generator=generator)


class MeanOfCells(nn.Module):
    """A network whose logit is its cell's mean colour: what it says is known."""

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.grid = Grid(stride=stride, pad_multiple=stride, least_side=stride)

    def forward(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(x, self.grid.stride)


# The grid


def interpolated(row: np.ndarray, length: int, stride: int) -> np.ndarray:
    """Values of cells along one axis at each pixel, the centre of cell i being at stride * i + (stride - 1) / 2."""
    return np.interp(np.arange(length), stride * np.arange(len(row)) + (stride - 1) / 2, row)


@pytest.mark.parametrize(("stride", "size"), [(8, (40, 56)), (8, (33, 50)), (4, (7, 1)), (1, (5, 6))])
def test_upsampling_puts_each_cell_where_it_belongs(stride: int, size: tuple[int, int]) -> None:
    """Against linear interpolation at the centres that the docstring names, along one axis and then the other."""
    rows, columns = (-(-side // stride) for side in size)
    logits = np.random.default_rng(0).normal(size=(rows, columns)).astype(np.float32)
    down = np.stack([interpolated(column, size[0], stride) for column in logits.T], axis=1)
    expected = np.stack([interpolated(row, size[1], stride) for row in down])
    found = upsample_logits(torch.from_numpy(logits)[None, None], size, stride=stride)[0, 0]
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-5)


@pytest.mark.parametrize("size", [(64, 64), (61, 90), (3, 5), (1, 1)])
@torch.no_grad()
def test_images_of_any_size_have_a_cell_for_each_begun_stride(build: Callable, size: tuple[int, int]) -> None:
    net = build()
    assert net.stride == 4
    assert net(image(*size, batch=2)).shape == (2, 3, -(-size[0] // 4), -(-size[1] // 4))


@torch.no_grad()
def test_padding_is_the_mean_colour_after_the_image(build: Callable) -> None:
    """So the cells of an image are those of the same image laid on a larger ground of that colour."""
    net = build()
    small = image(41, 50).float()
    ground = torch.full((1, 3, 44, 52), 127.5)
    ground[:, :, :41, :50] = small
    torch.testing.assert_close(net(small), net(ground), rtol=1e-4, atol=1e-5)
    assert net.fill_colour == (128, 128, 128)


# Several scales


@torch.no_grad()
def test_every_scale_speaks_of_the_same_place(build: Callable) -> None:
    """On a ramp the mean of a cell is the ramp at its centre, at any scale; sides that no scale divides."""
    net = build(multi_scale_inputs=(0.5, 0.75))
    net.model, net.stride = MeanOfCells(8), 8
    ramp = torch.arange(220.0)[None, :] + 0.1 * torch.arange(173.0)[:, None]
    own, *others = net.logits_by_scale(ramp.expand(1, 3, 173, 220).contiguous())
    assert len(others) == 2
    for other in others:
        assert other.shape == own.shape
        # away from the edge, where half a cell or the padding comes in
        torch.testing.assert_close(other[..., 2:-4, 2:-4], own[..., 2:-4, 2:-4], atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_the_greatest_of_the_scales_is_the_answer(build: Callable) -> None:
    net = build(multi_scale_inputs=(0.5, 0.75))
    x = image(50, 70)
    scales = net.logits_by_scale(x)
    found = net(x)
    assert [scale.shape for scale in scales] == [found.shape] * 3
    assert torch.equal(found, torch.maximum(scales[0], torch.maximum(scales[1], scales[2])))
    assert len({float(scale.sum()) for scale in scales}) == 3
    assert torch.equal(build().logits_by_scale(x)[0].isfinite().all(), torch.tensor(True))


@pytest.mark.parametrize("scales", [(1.0,), (0.5, 1.5), (0.0,)])
def test_scales_that_cannot_be(scales: tuple[float, ...]) -> None:
    with pytest.raises(
        SettingsError, match=r"^multi_scale_inputs: expected 0 to 20 entries, each a number from 0\.01 to 0\.99, got"
    ):
        SegmentationConfig(network=TINY, class_names=("cat",), multi_scale_inputs=scales)


# Architectures


def test_an_unknown_architecture_lists_what_there_is() -> None:
    with pytest.raises(
        SettingsError, match=r"called 'unett': did you mean 'unet'.*There are: deeplabv2, deeplabv3plus, unet,.*upernet"
    ):
        SegmentationNetwork(SegmentationConfig(network=TINY, class_names=("cat",), architecture="unett"))


@torch.no_grad()
def test_another_architecture_on_the_runs_own_backbone(build: Callable, tmp_path: Path) -> None:
    settings = NetworkSettings(name="mobilenetv3_small_050", weights="none")
    net = build(network=settings, architecture="deeplabv3plus")
    x = image(40, 75)
    assert net(x).shape == (1, 3, 10, 19)
    net.save(tmp_path)
    found = SegmentationNetwork.load(tmp_path).eval()
    assert found.config == net.config
    assert torch.equal(found(x), net(x))


# Saved and loaded


@torch.no_grad()
def test_a_saved_network_comes_back_the_same(build: Callable, tmp_path: Path, fabric: Fabric) -> None:
    net = build(multi_scale_inputs=(0.5,), network=NetworkSettings(name="tiny", weights="none", mean=(0.1, 0.2, 0.3)))
    net.save(tmp_path)
    torch.manual_seed(99)
    found = for_inference(SegmentationNetwork.load(tmp_path), fabric)
    assert not found.training
    assert found.config == net.config
    assert found.config.class_names == ("cat", "dog")
    assert found.config.network.mean == (0.1, 0.2, 0.3)
    assert (found.stride, found.fill_colour) == (4, (26, 51, 76))
    x = image(30, 41)
    torch.testing.assert_close(found(x), net(x), rtol=1e-4, atol=1e-5)


def test_a_classifier_is_no_segmentation_network(tmp_path: Path, build: Callable) -> None:
    ClassificationNetwork(ModelConfig(network=TINY, class_names=("cat",))).save(tmp_path / "classifier")
    with pytest.raises(CheckpointError, match="holds a classifier; expected a segmentation network, give its folder"):
        SegmentationNetwork.load(tmp_path / "classifier")
    build().save(tmp_path / "segmentation")
    with pytest.raises(CheckpointError, match="holds a segmentation network; expected a classifier, give its folder"):
        ClassificationNetwork.load(tmp_path / "segmentation")


def test_deeplabs_sizes_stay_with_a_saved_network(tmp_path: Path) -> None:
    settings = NetworkSettings(name="resnet26", weights="none", output_stride=8)
    config = SegmentationConfig(network=settings, class_names=("cat",), caffe_layout=True, caffe_sizes=True)
    net = SegmentationNetwork(config).eval()
    net.save(tmp_path)
    found = SegmentationNetwork.load(tmp_path).eval()
    assert found.config.caffe_sizes
    images = torch.randint(0, 256, (1, 3, 65, 40))
    with torch.no_grad():
        assert found(images).shape == (1, 2, 9, 5)  # rows and columns of cells that begin in the image
        torch.testing.assert_close(found(images), net(images))


def test_deeplabs_layout_stays_with_a_saved_network(tmp_path: Path) -> None:
    """It is found in a file of weights, and no file is there when the network is loaded."""
    settings = NetworkSettings(name="resnet26", weights="none", output_stride=8)
    net = SegmentationNetwork(SegmentationConfig(network=settings, class_names=("cat",), caffe_layout=True))
    net.save(tmp_path)
    found = SegmentationNetwork.load(tmp_path)
    assert found.config.caffe_layout
    assert found.model.backbone.body.layer4[0].conv2.dilation == (4, 4)  # type: ignore[union-attr]
    assert not found.config.caffe_sizes  # as what was saved before 0.2
    assert found.model.grid.pad_multiple == 8
    plain = SegmentationNetwork(SegmentationConfig(network=settings, class_names=("cat",)))
    assert plain.model.backbone.body.layer4[0].conv2.dilation == (2, 2)  # type: ignore[union-attr]
