"""DeepLab-v3+: the numbers of segmentation-models-pytorch's from the same weights, on any backbone, at any size."""

import pytest
import segmentation_models_pytorch as smp
import torch
from torch import Tensor, nn

from subcam.networks.decoders.deeplab_v3plus import DeepLabV3Plus, PooledContext
from subcam.networks.decoders.pyramid import feature_pyramid
from subcam.networks.fast.copies import fused_for_inference
from subcam.networks.settings import NetworkSettings

RESNET = NetworkSettings(name="resnet18", weights="none", output_stride=16, freeze_batch_norm=False)


@pytest.fixture
def network() -> DeepLabV3Plus:
    """In evaluation mode, with weights and statistics that leave no layer out."""
    torch.manual_seed(0)
    net = DeepLabV3Plus(RESNET, 5).eval()
    shake(net)
    return net


def shake(module: nn.Module) -> None:
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            assert layer.running_mean is not None
            assert layer.running_var is not None
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.normal_(layer.bias, std=0.1)
            nn.init.normal_(layer.running_mean, std=0.1)
            nn.init.uniform_(layer.running_var, 0.5, 1.5)


def with_weights_of(net: DeepLabV3Plus) -> tuple[nn.Module, nn.Module]:
    """Decoder and head of segmentation-models-pytorch with the same weights: their layers come in the same order."""
    model = smp.DeepLabV3Plus(
        "resnet18", encoder_weights=None, classes=5, decoder_atrous_rates=(6, 12, 18), upsampling=1
    ).eval()
    decoder = model.decoder
    # Ours reads a cell as the pixels that it stands for; theirs puts the corners' centres on one another.
    decoder.up = nn.Upsample(scale_factor=4, mode="bilinear", align_corners=False)
    aspp = decoder.aspp[0]
    pairs: list[tuple[nn.Module, nn.Module]] = [
        *zip(list(net.context.branches)[:4], list(aspp.convs)[:4], strict=True),
        (net.context.project, aspp.project),
        (net.context.refine, decoder.aspp[1:]),
        (net.fine, decoder.block1),
        (net.join, decoder.block2),
        (net.classifier, model.segmentation_head[0]),
    ]
    for own, theirs in pairs:
        values = list(own.state_dict().values())
        theirs.load_state_dict(dict(zip(theirs.state_dict(), values, strict=True)))
    pooled = net.context.branches[4]
    assert isinstance(pooled, PooledContext)
    convolution, norm = aspp.convs[4][1], aspp.convs[4][2]
    convolution.weight.data.copy_(pooled.conv.weight)
    norm.reset_parameters()
    assert pooled.conv.bias is not None
    norm.running_mean.copy_(-pooled.conv.bias)
    norm.eps = 0.0
    return decoder, model.segmentation_head


@torch.no_grad()
def test_it_is_the_network_of_segmentation_models_pytorch(network: DeepLabV3Plus) -> None:
    decoder, head = with_weights_of(network)
    x = torch.randn(2, 3, 96, 128)
    features: list[Tensor] = feature_pyramid(network.backbone, network.plan, x)
    assert [feature.shape[-1] for feature in features] == [32, 16, 8, 8]
    # The library's encoders give the image and the map of stride 2 before these.
    expected = head(decoder([x, x, *features]))
    found = network(x)
    assert expected.std() > 0.05
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("settings", "stride", "rates"),
    [
        (RESNET, 4, [6, 12, 18]),
        (NetworkSettings(name="resnet18", weights="none", output_stride=8), 4, [12, 24, 36]),
        (NetworkSettings(name="mobilenetv2_100", weights="none", output_stride=16), 4, [6, 12, 18]),
        (NetworkSettings(name="tiny", weights="none", neck_channels=16), 4, [24, 48, 72]),
        (NetworkSettings(name="resnet38", weights="none"), 8, [12, 24, 36]),
    ],
)
def test_any_backbone_carries_it(settings: NetworkSettings, stride: int, rates: list[int]) -> None:
    """The dilated convolutions reach 96, 192 and 288 pixels whatever the stride; a neck is the classifier's affair."""
    net = DeepLabV3Plus(settings, 3).eval()
    assert net.grid.stride == stride
    assert [branch[0].dilation[0] for branch in list(net.context.branches)[1:4]] == rates  # type: ignore[index, union-attr]
    with torch.no_grad():
        assert net(torch.randn(1, 3, 64, 96)).shape == (1, 3, 64 // stride, 96 // stride)


def test_everything_learns_but_frozen_batch_norm() -> None:
    net = DeepLabV3Plus(NetworkSettings(name="mobilenetv2_100", weights="none", output_stride=16), 3).train()
    net(torch.randn(2, 3, 64, 64)).square().mean().backward()
    body, heads = net.body_and_heads()
    of_heads = [parameter for head in heads for parameter in head.parameters()]
    assert len(of_heads) + len(list(body.parameters())) == len(list(net.parameters()))
    assert all(parameter.grad is not None for parameter in of_heads)
    untouched = {name for name, p in body.named_parameters() if p.requires_grad and p.grad is None}
    assert untouched == {"conv_head.weight"}  # it comes after the features that are used
    for name, layer in net.named_modules():
        if isinstance(layer, nn.BatchNorm2d):
            assert layer.training != name.startswith("backbone"), name


def test_one_image_can_be_learned_from() -> None:
    """Batch norm over the one value of a pooled image could not be computed."""
    net = DeepLabV3Plus(NetworkSettings(name="tiny", weights="none"), 3).train()
    assert torch.isfinite(net(torch.randn(1, 3, 32, 32))).all()


@torch.no_grad()
def test_folded_it_gives_the_same(network: DeepLabV3Plus) -> None:
    fast = fused_for_inference(network)
    assert not [layer for layer in fast.modules() if isinstance(layer, nn.BatchNorm2d)]
    x = torch.randn(1, 3, 64, 64)
    torch.testing.assert_close(fast(x), network(x), rtol=1e-3, atol=1e-4)
