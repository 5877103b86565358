"""The small network: its size, its view, and that it learns."""

import pytest
import torch
import torch.nn.functional as F

from subcam.networks.backbones.tiny import NUM_FEATURES, STRIDE, TinyNetwork


def test_size_is_as_documented() -> None:
    assert sum(p.numel() for p in TinyNetwork().parameters()) == 272_872


@pytest.mark.parametrize(("height", "width"), [(96, 96), (97, 63), (1, 8), (9, 200)])
def test_map_is_a_quarter_rounded_up(height: int, width: int) -> None:
    out = TinyNetwork().eval()(torch.zeros(2, 3, height, width))
    assert out.shape == (2, NUM_FEATURES, -(-height // STRIDE), -(-width // STRIDE))


def test_one_feature_sees_43_pixels() -> None:
    """Every pixel within the view moves the feature at its centre, and none outside does."""
    torch.manual_seed(0)
    net = TinyNetwork().double().eval()
    x = torch.randn(1, 3, 96, 96, dtype=torch.double, requires_grad=True)
    net(x)[0, :, 12, 12].sum().backward()
    assert x.grad is not None
    touched = x.grad.abs().sum((0, 1)).nonzero()
    first, last = touched.min(0).values, touched.max(0).values
    assert (last - first + 1).tolist() == [43, 43]
    assert ((first + last) / 2).tolist() == [48.0, 48.0]


def test_intermediate_maps_end_with_the_networks_own() -> None:
    torch.manual_seed(0)
    net = TinyNetwork().eval()
    x = torch.randn(1, 3, 31, 40)
    with torch.no_grad():
        half, quarter = net.intermediate_maps(x)
        by_hand = x
        for conv, norm in zip(net.convs[:2], net.norms[:2], strict=True):
            by_hand = F.relu(norm(conv(by_hand)))
        assert torch.equal(half, by_hand)
        assert half.shape == (1, 24, 16, 20)
        assert torch.equal(quarter, net(x))


def test_layout_in_memory_changes_nothing() -> None:
    torch.manual_seed(0)
    net = TinyNetwork().eval()
    x = torch.randn(2, 3, 96, 96)
    plain = net(x)
    last = net.to(memory_format=torch.channels_last)(x.contiguous(memory_format=torch.channels_last))
    assert last.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(last, plain, rtol=1e-4, atol=1e-4)


def test_it_learns_orientation_in_a_few_steps() -> None:
    """Stripes lying or standing, at random phase and contrast, in noise: chance is 0.5."""
    torch.manual_seed(0)
    net, head = TinyNetwork(), torch.nn.Linear(NUM_FEATURES, 1)
    optimiser = torch.optim.AdamW([*net.parameters(), *head.parameters()], lr=2e-3)

    def images(count: int) -> tuple[torch.Tensor, torch.Tensor]:
        standing = torch.arange(count) % 2
        wave = torch.sin(torch.arange(48) * 1.3 + 6.3 * torch.rand(count, 1)) * (0.5 + torch.rand(count, 1))
        stripes = wave[:, None, :].expand(-1, 48, -1)
        stripes = torch.where(standing.bool()[:, None, None], stripes, stripes.mT)
        return stripes[:, None] + 0.5 * torch.randn(count, 3, 48, 48), standing.float()

    for _ in range(30):
        x, y = images(16)
        loss = F.binary_cross_entropy_with_logits(head(net(x).mean((2, 3)))[:, 0], y)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    net.eval()
    x, y = images(64)
    with torch.no_grad():
        right = (head(net(x).mean((2, 3)))[:, 0] > 0) == y.bool()
    assert right.float().mean() > 0.9
