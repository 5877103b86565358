"""How often each loop makes the host wait for the device: counted on a pretended one, a bound for every batch.

A wait empties the device's queue: while the host then prepares what comes next, the device has nothing to do. One
`.item()` for each image, one mask as an index, one constant that is sent anew: each breaks its bound here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from tests.loops import (
    MOST_BATCHES,
    Work,
    affinity_steps,
    classify_steps,
    classify_steps_with_prototypes,
    equivariance_steps,
    features,
    positions,
    predicted,
    prototype_maps,
    response_maps,
    scored_batches,
    segment_steps,
    segmented,
    walked_images,
)
from tests.pretend_device import DEVICE, PretendDevice, pretending
from torch.utils.data import DataLoader

if TYPE_CHECKING:
    from subcam.data.check import CheckedImages
    from subcam.runtime.machine.settings import MachineSettings
    from subcam.settings import RunSettings


@pytest.fixture(scope="module")
def work(
    toy_train: CheckedImages,
    tiny_run: RunSettings,
    machine: MachineSettings,
    tmp_path_factory: pytest.TempPathFactory,
) -> Work:
    return Work(tmp_path_factory.mktemp("work"), toy_train, tiny_run, machine)


LOOPS = {
    "training the classifier": (classify_steps, 0),
    "training on positions": (classify_steps_with_prototypes, 1),
    "training for equivariance": (equivariance_steps, 1),
    "training AffinityNet": (affinity_steps, 0),
    "training the segmenter": (segment_steps, 0),
    "scoring the segmenter": (scored_batches, 0),
    "features": (features, 0),
    "response maps": (response_maps, 0),
    "response maps from prototypes": (prototype_maps, 0),
    "features of positions": (positions, 0),
    "random walk, each image": (walked_images, 3),
    "masks of a data set": (segmented, 0),
    "prediction": (predicted, 0),
}
"""Each loop, and how often the host may wait in each batch or step. What training on positions waits for is how many
positions are labelled; the walk for a check of the features, one of the maps, and its number of terms."""


def dense_crfs(work: Work, fabric: Any, out: Path, batches: int) -> None:
    from subcam.crf.dense_crf_torch import dense_crf_torch

    for count in range(1, batches + 1):
        images = [torch.full((7 + place, 9, 3), 50 * place, dtype=torch.uint8) for place in range(count)]
        scores = [torch.full((2, *image.shape[:2]), 0.5) for image in images]
        dense_crf_torch(*([fabric.to_device(one) for one in many] for many in (images, scores)))


def test_a_batch_of_the_dense_crf_waits_for_a_check_and_two_lattices(
    work: Work, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many images are in it."""
    assert waits(work, dense_crfs, 3, tmp_path, monkeypatch) == {"tolist": 3, "unique": 6}


def test_a_row_of_the_log_waits_once() -> None:
    from subcam.training.checkpoint import TrainingLog

    with PretendDevice() as pretended:
        losses = {name: pretended.send(torch.tensor(value)) for name, value in (("loss", 0.5), ("part", 0.25))}
        log = TrainingLog(Path("nowhere"))
        log._board = SimpleNamespace(add_scalar=lambda *_: None)  # type: ignore[assignment]
        row = log.add(step=1, epoch=1.0, rate_factor=1.0, losses=losses)
    assert (row["loss"], row["part"]) == (0.5, 0.25)
    assert pretended.waits == {"tolist": 1}


def test_what_makes_the_host_wait_is_seen() -> None:
    """The pretended device itself: what it lets pass, counts and refuses."""
    with PretendDevice() as pretended:
        there = pretended.send(torch.arange(6.0).view(2, 3))
        assert there.device == DEVICE
        assert (there * 2 + 1)[0].device == DEVICE
        assert torch.zeros(2, device=there.device).is_cuda
        assert not pretended.waits
        there[0, 0].item()
        there[there > 1] = 0
        there.nonzero()
        torch.tensor([1.0], device=there.device)
        there.cpu()
        bool(there.sum() > 0)
        assert pretended.waits == {
            "item": 1,
            "a mask as an index": 1,
            "nonzero": 1,
            "tensor(data, device)": 1,
            "to the host": 1,
            "__bool__": 1,
        }
        assert pretended.copies == {"to the device": 1}
        with pytest.raises(RuntimeError, match="on the same device"):
            there + torch.ones(2, 3)
        with pytest.raises(TypeError, match="copy it to the host first"):
            there.numpy()


def test_copies_that_nobody_waits_for(monkeypatch: pytest.MonkeyPatch) -> None:
    from subcam.runtime.devices import HostCopy, one_behind, to_device

    asked: list[int] = []

    def items() -> Iterator[int]:
        for number in range(3):
            asked.append(number)
            yield number

    with pretending(monkeypatch) as fabric:
        there = to_device(torch.arange(4), fabric.device)
        assert there.device == DEVICE
        found = HostCopy(there * 2).numpy()
        assert found.tolist() == [0, 2, 4, 6]
        assert fabric.pretended.copies == {"to the device": 1, "to the host": 1}
        assert not fabric.pretended.waits
        seen = [(item, list(asked)) for item in one_behind(items(), device=fabric.device)]
    assert seen == [(0, [0, 1]), (1, [0, 1, 2]), (2, [0, 1, 2])]
    asked.clear()
    assert next((item, list(asked)) for item in one_behind(items(), device=torch.device("cpu"))) == (0, [0])


def waits(work: Work, loop: Any, batches: int, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    from subcam.training import loop as training_loop

    monkeypatch.setattr(training_loop, "LOG_EVERY", 10**6)
    with pretending(monkeypatch) as fabric:
        loop(work, fabric, folder / str(batches), batches)
        return fabric.pretended.waits


@pytest.mark.parametrize("name", LOOPS)
def test_a_loop_waits_no_more_than_it_may(
    work: Work, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop, most = LOOPS[name]
    few, many = (waits(work, loop, batches, tmp_path, monkeypatch) for batches in (1, MOST_BATCHES))
    by_batch = {what: (count - few[what]) / (MOST_BATCHES - 1) for what, count in many.items() if count != few[what]}
    assert sum(by_batch.values()) <= most, by_batch


class Images:
    """Of a training, never looked at."""

    seed = 0

    def __len__(self) -> int:
        return 4

    def __getitem__(self, key: tuple[int, int], /) -> tuple[torch.Tensor, torch.Tensor]:
        raise NotImplementedError


def test_batches_come_in_pinned_memory_where_there_is_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """From other memory a copy blocks, whatever it is told. Pinning itself needs a GPU: only the wish is looked at."""
    from subcam.data.batches import inference, training

    wished: list[bool] = []

    class Loader(DataLoader):
        def __init__(self, *args: Any, pin_memory: bool, **kwargs: Any) -> None:
            wished.append(pin_memory)
            super().__init__(*args, **kwargs)

    for module in (inference, training):
        monkeypatch.setattr(module, "DataLoader", Loader)
    for there in (True, False):
        monkeypatch.setattr(torch.cuda, "is_available", lambda there=there: there)
        list(inference.inference_batches([], [], workers=0))
        training.training_loader(Images(), batch_size=2, epochs=1, workers=0)
    assert wished == [True, True, False, False]
