"""Training batches that depend on seed, epoch and image alone: the same with any number of processes, from any step.

In: records, their labels and the augmentation. Out: batches of UInt8 crops and labels, prepared ahead in worker
processes. Every batch can be made again, so an interrupted training resumes at its next step.
"""

import signal
from collections.abc import Iterator, Sequence
from typing import Protocol, cast, runtime_checkable

import numpy as np
import torch
from jaxtyping import Integer, UInt8
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from subcam.data.augmentation import varied_crop
from subcam.data.decoded_cache import DecodedImages
from subcam.data.records import Record
from subcam.data.settings import AugmentationSettings
from subcam.errors import BadInputError, SettingsError
from subcam.runtime.machine.cores import own_cores
from subcam.runtime.signals import SIGNALS

Key = tuple[int, int]
"""(epoch, index of the image): what a training item is asked for by."""


@runtime_checkable
class SeededImages(Protocol):
    """Images with targets whose chance is settled by `seed`, epoch and index."""

    seed: int

    def __len__(self) -> int: ...

    def __getitem__(self, key: Key, /) -> tuple[Tensor, Tensor]: ...


class TrainingImages(Dataset[tuple[Tensor, Tensor]]):
    """Augmented images and their labels, addressed by (epoch, index).

    Args:
        records: the images.
        labels: one row an image, e.g. multi-hot parents beside multi-hot sub-categories; handed through unchanged.
        augmentation: how images are varied.
        seed: with epoch and index it settles the variation: `np.random.default_rng((seed, epoch, index))`.
        fill: RGB 0-255 around images smaller than the crop; the network's mean colour.
        decoded: where images are kept decoded; None decodes them each time. Crops are the same.
    """

    def __init__(
        self,
        records: Sequence[Record],
        labels: Integer[np.ndarray, "images columns"],
        augmentation: AugmentationSettings,
        *,
        seed: int,
        fill: tuple[int, ...] = (0, 0, 0),
        decoded: DecodedImages | None = None,
    ) -> None:
        if len(records) != len(labels):
            raise SettingsError(f"expected one row of labels an image, got {len(labels)} for {len(records)} images")
        self.records = tuple(records)
        self.labels = torch.from_numpy(np.array(labels))
        self.augmentation = augmentation
        self.seed = seed
        self.fill = fill
        self.decoded = decoded

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, key: Key) -> tuple[UInt8[Tensor, "3 crop crop"], Integer[Tensor, " columns"]]:
        """The crop of image `index` in `epoch`, and its row of labels.

        Raises:
            BadInputError: the image went bad since it was checked.
        """
        epoch, index = key
        crop, _, _ = varied_crop(
            self.records[index].image,
            self.augmentation,
            seed=(self.seed, epoch, index),
            fill=self.fill,
            decoded=self.decoded,
        )
        return crop, self.labels[index]


class EpochSampler(Sampler[list[Key]]):
    """The batches of a whole training, as lists of (epoch, index), from any step on.

    Each epoch is a permutation settled by seed and epoch; its last images that fill no batch are left out, unless
    the whole set is smaller than a batch, which is then one batch. Of several processes each gets every
    `world_size`-th image of the same global batch.

    Args:
        num_images: images in the set.
        batch_size: images in a global batch, over all processes.
        epochs: passes over the set.
        seed: settles the order.
        start_step: global batches to leave out, as they were done before.
        world_size: number of processes.
        rank: which of them this is.

    Raises:
        SettingsError: no images, or a batch that cannot be shared equally among the processes.
    """

    def __init__(
        self,
        num_images: int,
        *,
        batch_size: int,
        epochs: int,
        seed: int,
        start_step: int = 0,
        world_size: int = 1,
        rank: int = 0,
    ) -> None:
        if num_images < 1 or batch_size < 1:
            raise SettingsError(f"expected images and a batch size of 1 or more, got {num_images} and {batch_size}")
        self.batch_size = min(batch_size, num_images)
        if self.batch_size % world_size:
            raise SettingsError(
                f"expected a batch that {world_size} processes can share equally, got {self.batch_size} images; "
                "choose another batch size or fewer processes"
            )
        self.num_images = num_images
        self.epochs = epochs
        self.seed = seed
        self.start_step = start_step
        self.world_size = world_size
        self.rank = rank

    @property
    def steps_per_epoch(self) -> int:
        """Batches in one pass over the set."""
        return self.num_images // self.batch_size

    def __len__(self) -> int:
        return max(0, self.epochs * self.steps_per_epoch - self.start_step)

    def __iter__(self) -> Iterator[list[Key]]:
        for epoch in range(self.start_step // self.steps_per_epoch, self.epochs):
            order = self._order(epoch)
            first = max(0, self.start_step - epoch * self.steps_per_epoch)
            for step in range(first, self.steps_per_epoch):
                batch = order[step * self.batch_size : (step + 1) * self.batch_size]
                yield [(epoch, index) for index in batch[self.rank :: self.world_size]]

    def _order(self, epoch: int) -> list[int]:
        # As a spawn key the epoch gives a stream apart from those of the images: the plain entropies (seed, epoch)
        # and (seed, epoch, 0) are the same to NumPy.
        sequence = np.random.SeedSequence(self.seed, spawn_key=(epoch,))
        return np.random.default_rng(sequence).permutation(self.num_images).tolist()


class TrainingLoader:
    """Iterates over (images UInt8 [batch, 3, crop, crop], labels [batch, columns]) from its first step to the last.

    One pass goes through all epochs, so that the worker processes start once and never wait between epochs.
    """

    def __init__(self, loader: DataLoader[tuple[Tensor, Tensor]], sampler: EpochSampler) -> None:
        self._loader = loader
        self._sampler = sampler

    @property
    def steps_per_epoch(self) -> int:
        """Batches in one pass over the set."""
        return self._sampler.steps_per_epoch

    def __len__(self) -> int:
        return len(self._sampler)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        try:
            yield from ((images, labels) for images, labels in self._loader)
        except BadInputError as error:
            # torch wraps a worker's error in its traceback; the person needs the last part alone
            raise BadInputError(str(error).rsplit("BadInputError: ", 1)[-1].strip()) from error


def training_loader(
    images: SeededImages,
    *,
    batch_size: int,
    epochs: int,
    start_step: int = 0,
    workers: int = -1,
    world_size: int = 1,
    rank: int = 0,
    start_method: str | None = None,
) -> TrainingLoader:
    """Batches of a whole training from `start_step` on; the same whatever `workers` and `start_method` are.

    Args:
        images: the images; their seed also settles the order.
        batch_size: images in a global batch, over all processes.
        epochs: passes over the set.
        start_step: global batches that were done before.
        workers: processes that prepare batches ahead; 0 prepares them in this one, -1 chooses (`choose_workers`).
        world_size: number of training processes.
        rank: which of them this is.
        start_method: "fork", "spawn" or "forkserver"; None takes the platform's.

    Raises:
        SettingsError: see `EpochSampler`.
        BadInputError: while iterating, an image went bad since it was checked.
    """
    sampler = EpochSampler(
        len(images),
        batch_size=batch_size,
        epochs=epochs,
        seed=images.seed,
        start_step=start_step,
        world_size=world_size,
        rank=rank,
    )
    workers = min(choose_workers(workers), len(sampler))
    loader = DataLoader(
        cast(Dataset[tuple[Tensor, Tensor]], images),
        batch_sampler=sampler,
        num_workers=workers,
        worker_init_fn=leave_interrupts_to_parent,
        multiprocessing_context=start_method if workers else None,
        pin_memory=torch.cuda.is_available(),
        generator=torch.Generator(),  # else it would draw from, and so disturb, torch's global generator
    )
    return TrainingLoader(loader, sampler)


def choose_workers(workers: int = -1, *, gpu: bool | None = None) -> int:
    """The number of loading processes: `workers` itself, or for -1 what suits the machine.

    With a GPU one a core, at most 8. Without one a single process, which hides the input behind the network's
    arithmetic; more only take cores from it (`benchmarks/input.py`).
    """
    if workers >= 0:
        return workers
    cores = own_cores()
    gpu = torch.cuda.is_available() if gpu is None else gpu
    return min(8, cores) if gpu else min(1, cores - 1)


def leave_interrupts_to_parent(worker_id: int) -> None:  # noqa: ARG001 - torch calls it with the number
    """Start-up of a loading process: Ctrl-C reaches the whole group, and the parent alone answers it.

    The parent then ends its workers; when it is killed, they notice within some seconds and end themselves (torch's
    watchdog). torch itself gives each worker one thread.
    """
    for number in {*SIGNALS} - {signal.SIGTERM}:  # by which torch and multiprocessing end their workers
        signal.signal(number, signal.SIG_IGN)
