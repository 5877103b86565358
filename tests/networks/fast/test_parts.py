"""Large images pass a few at a time, small ones together; the maps are the same."""

import pytest
import torch
from torch import Tensor

from subcam.networks.fast.parts import in_parts


@pytest.mark.parametrize(
    ("images", "size", "batches"),
    [(8, (240, 320), [8]), (5, (480, 640), [2, 2, 1]), (3, (1000, 1000), [1, 1, 1]), (1, (2000, 1000), [1])],
)
def test_as_many_pixels_as_are_held_at_once(images: int, size: tuple[int, int], batches: list[int]) -> None:
    seen: list[int] = []

    def network(batch: Tensor) -> Tensor:
        seen.append(len(batch))
        return batch.mean((2, 3))

    given = torch.arange(images, dtype=torch.float32).view(-1, 1, 1, 1).expand(images, 3, *size)
    assert in_parts(network, given)[:, 0].tolist() == list(range(images))
    assert seen == batches


def test_elsewhere_than_on_a_cpu_all_pass_at_once() -> None:
    given = torch.empty(5, 3, 480, 640, device="meta")
    assert in_parts(lambda batch: batch.new_empty(len(batch)), given).shape == (5,)
