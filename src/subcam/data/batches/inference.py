"""Whole images for inference, decoded ahead in worker processes and batched with others of their size."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from subcam.data.batches.training import choose_workers, leave_interrupts_to_parent
from subcam.data.decoded_cache import DecodedImages
from subcam.data.images import read_image
from subcam.data.records import Record
from subcam.errors import BadInputError


class _Batches(Dataset):
    def __init__(
        self, records: Sequence[Record], batches: Sequence[Sequence[int]], decoded: DecodedImages | None
    ) -> None:
        self.records = tuple(records)
        self.batches = tuple(tuple(batch) for batch in batches)
        self.read = decoded.read if decoded else read_image

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, position: int) -> tuple[tuple[int, ...], Tensor]:
        batch = self.batches[position]
        images = np.stack([self.read(self.records[index].image) for index in batch])
        return batch, torch.from_numpy(images).permute(0, 3, 1, 2)


def same_size_batches(
    indices: Sequence[int], sizes: Sequence[tuple[int, int]], *, batch_size: int
) -> tuple[tuple[int, ...], ...]:
    """Group `indices` into batches of at most `batch_size` whose images have one size, in a fixed order."""
    by_size: dict[tuple[int, int], list[int]] = {}
    for index in indices:
        by_size.setdefault(sizes[index], []).append(index)
    return tuple(
        tuple(group[start : start + batch_size])
        for group in by_size.values()
        for start in range(0, len(group), batch_size)
    )


def inference_batches(
    records: Sequence[Record],
    batches: Sequence[Sequence[int]],
    *,
    workers: int,
    decoded: DecodedImages | None = None,
) -> Iterator[tuple[tuple[int, ...], UInt8[Tensor, "batch 3 h w"]]]:
    """Yield (indices, images as RGB 0..255) for each batch, in order.

    Args:
        records: all images; batches index into them.
        batches: as made by `same_size_batches`.
        workers: processes that decode ahead; 0 decodes in this one, -1 chooses.
        decoded: where images are kept decoded; None decodes them each time.

    Raises:
        BadInputError: an image went bad since it was checked.
    """
    loader = DataLoader(
        _Batches(records, batches, decoded),
        batch_size=None,
        worker_init_fn=leave_interrupts_to_parent,
        num_workers=min(choose_workers(workers), len(batches)),
        pin_memory=torch.cuda.is_available(),
    )
    try:
        for batch, images in loader:
            yield tuple(batch), images
    except BadInputError as error:
        # torch wraps a worker's error in its traceback; the person needs the last part alone
        raise BadInputError(str(error).rsplit("BadInputError: ", 1)[-1].strip()) from error
