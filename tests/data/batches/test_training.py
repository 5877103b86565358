"""Training batches: the same with any number of processes, from any step, on any rank; and no orphan processes."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from subcam.data.augmentation import augment
from subcam.data.batches.training import EpochSampler, TrainingImages, TrainingLoader, choose_workers, training_loader
from subcam.data.images import read_image
from subcam.data.records import Record
from subcam.data.settings import AugmentationSettings
from subcam.errors import BadInputError, SettingsError

AUGMENTATION = AugmentationSettings(crop=16, scale_long_side=(12, 30))


@pytest.fixture
def images(tmp_path: Path) -> TrainingImages:
    """Eleven small images of different sizes with labels that name their index in binary."""
    rng = np.random.default_rng(0)
    records = []
    for index in range(11):
        path = tmp_path / f"{index}.png"
        Image.fromarray(rng.integers(0, 256, (20 + index, 24, 3), dtype=np.uint8)).save(path)
        records.append(Record(name=str(index), image=path, labels=(0,)))
    labels = (np.arange(11)[:, None] >> np.arange(4) & 1).astype(np.uint8)
    return TrainingImages(records, labels, AUGMENTATION, seed=3, fill=(1, 2, 3))


def collect(loader: TrainingLoader) -> list[tuple[Tensor, Tensor]]:
    return [(batch.clone(), labels.clone()) for batch, labels in loader]


def assert_same(first: list[tuple[Tensor, Tensor]], second: list[tuple[Tensor, Tensor]]) -> None:
    assert len(first) == len(second)
    for (images_1, labels_1), (images_2, labels_2) in zip(first, second, strict=True):
        assert torch.equal(images_1, images_2)
        assert torch.equal(labels_1, labels_2)


def test_an_item_is_its_image_augmented(images: TrainingImages) -> None:
    crop, labels = images[2, 5]
    image = read_image(images.records[5].image)
    expected = augment(image, np.random.default_rng((3, 2, 5)), AUGMENTATION, fill=(1, 2, 3))
    assert torch.equal(crop, expected)
    assert labels.tolist() == [1, 0, 1, 0]
    assert not torch.equal(crop, images[3, 5][0])


def test_batches_have_the_right_labels(images: TrainingImages) -> None:
    loader = training_loader(images, batch_size=4, epochs=2, workers=0)
    assert loader.steps_per_epoch == 2
    assert len(loader) == 4
    batches = collect(loader)
    for step, (crops, labels) in enumerate(batches):
        assert crops.shape == (4, 3, 16, 16)
        assert crops.dtype == torch.uint8
        for crop, row in zip(crops, labels, strict=True):
            index = int((row.long() << torch.arange(4)).sum())
            assert torch.equal(crop, images[step // 2, index][0])


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
@pytest.mark.parametrize("workers", [1, 2, 3])
def test_the_number_of_processes_changes_nothing(images: TrainingImages, workers: int) -> None:
    expected = collect(training_loader(images, batch_size=4, epochs=3, workers=0))
    assert_same(collect(training_loader(images, batch_size=4, epochs=3, workers=workers)), expected)


@pytest.mark.thorough
def test_the_way_processes_start_changes_nothing(images: TrainingImages) -> None:
    expected = collect(training_loader(images, batch_size=4, epochs=1, workers=0))
    got = collect(training_loader(images, batch_size=4, epochs=1, workers=1, start_method="spawn"))
    assert_same(got, expected)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("start_step", [1, 2, 3, 5, 6])
def test_resuming_gives_the_batches_that_were_left(images: TrainingImages, start_step: int, workers: int) -> None:
    expected = collect(training_loader(images, batch_size=4, epochs=3, workers=0))
    loader = training_loader(images, batch_size=4, epochs=3, workers=workers, start_step=start_step)
    assert len(loader) == 6 - start_step
    assert loader.steps_per_epoch == 2
    assert_same(collect(loader), expected[start_step:])


def test_torch_s_own_chance_is_left_alone(images: TrainingImages) -> None:
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    collect(training_loader(images, batch_size=4, epochs=1, workers=2))
    assert torch.equal(torch.rand(3), expected)


def keys(num_images: int = 10, **changed: int) -> list[list[tuple[int, int]]]:
    chosen = {"batch_size": 3, "epochs": 2, "seed": 0} | changed
    return list(EpochSampler(num_images, **chosen))


def test_an_epoch_is_a_permutation_without_its_last_images() -> None:
    batches = keys(10, batch_size=3, epochs=40)
    assert len(batches) == 120
    counts = np.zeros(10, int)
    for epoch in range(40):
        of_epoch = [key for batch in batches[3 * epoch : 3 * epoch + 3] for key in batch]
        assert {number for number, _ in of_epoch} == {epoch}
        indices = [index for _, index in of_epoch]
        assert len(set(indices)) == 9
        counts[indices] += 1
    # which image is left out changes from epoch to epoch
    assert counts.min() >= 28
    assert counts.sum() == 360


def test_order_depends_on_seed_and_epoch() -> None:
    orders = {
        tuple(index for batch in keys(50, batch_size=50, epochs=3, seed=seed)[epoch : epoch + 1] for _, index in batch)
        for seed in range(3)
        for epoch in range(3)
    }
    assert len(orders) == 9
    assert keys(seed=1) == keys(seed=1)


@pytest.mark.parametrize("start_step", range(8))
def test_sampler_starts_at_any_step(start_step: int) -> None:
    assert keys(start_step=start_step) == keys()[start_step:]
    assert len(EpochSampler(10, batch_size=3, epochs=2, seed=0, start_step=start_step)) == max(0, 6 - start_step)


@pytest.mark.parametrize("world_size", [1, 2, 3, 6])
def test_ranks_share_the_global_batch(world_size: int) -> None:
    whole = keys(20, batch_size=6)
    parts = [keys(20, batch_size=6, world_size=world_size, rank=rank) for rank in range(world_size)]
    for step, batch in enumerate(whole):
        shares = [part[step] for part in parts]
        assert {len(share) for share in shares} == {6 // world_size}
        assert sorted(key for share in shares for key in share) == sorted(batch)


def test_a_set_smaller_than_a_batch_is_one_batch() -> None:
    batches = keys(2, batch_size=16, epochs=3)
    assert [sorted(batch) for batch in batches] == [[(epoch, 0), (epoch, 1)] for epoch in range(3)]


@pytest.mark.parametrize(
    ("num_images", "changed", "message"),
    [
        (0, {}, "expected images and a batch size of 1 or more"),
        (5, {"batch_size": 0}, "expected images and a batch size of 1 or more"),
        (9, {"batch_size": 3, "world_size": 2}, "2 processes can share equally, got 3 images"),
        (3, {"batch_size": 8, "world_size": 2}, "2 processes can share equally, got 3 images"),
    ],
)
def test_batches_that_cannot_be(num_images: int, changed: dict[str, int], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        keys(num_images, **changed)


def test_labels_must_fit_the_images(images: TrainingImages) -> None:
    with pytest.raises(SettingsError, match="got 3 for 11 images"):
        TrainingImages(images.records, np.zeros((3, 2), np.uint8), AUGMENTATION, seed=0)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_image_that_went_bad_is_named_without_a_traceback(images: TrainingImages, workers: int) -> None:
    path = images.records[4].image
    path.write_bytes(b"")
    with pytest.raises(BadInputError) as caught:
        collect(training_loader(images, batch_size=11, epochs=1, workers=workers))
    assert str(caught.value) == f"{path}: expected an image, got an empty file (0 bytes); copy it again"


def test_large_images_are_reduced_while_decoding(tmp_path: Path) -> None:
    """The result is close to the one without JPEG's own down-scaling, and made from far fewer pixels."""
    rows, columns = np.mgrid[0:1200, 0:1600]
    waves = 127 + 60 * np.sin(rows / 90)[..., None] + 60 * np.cos(columns / 70)[..., None] * np.array([1, 0.5, -1])
    path = tmp_path / "large.jpg"
    Image.fromarray(waves.clip(0, 255).astype(np.uint8)).save(path, quality=95)
    plain = AugmentationSettings(crop=64, scale_long_side=(100, 190), brightness=0, contrast=0, saturation=0, hue=0)
    images = TrainingImages([Record(name="large", image=path, labels=())], np.zeros((1, 1), np.uint8), plain, seed=0)
    for epoch in range(2):
        expected = augment(read_image(path), np.random.default_rng((0, epoch, 0)), plain)
        difference = np.abs(images[epoch, 0][0].numpy().astype(int) - expected.numpy())
        assert difference.mean() < 1
        assert difference.max() < 8


def test_choice_of_processes() -> None:
    assert choose_workers(5) == 5
    assert choose_workers(0) == 0
    assert choose_workers(gpu=False) in (0, 1)
    assert 1 <= choose_workers(gpu=True) <= 8


LOAD_FOREVER = """
import sys
import numpy as np
from pathlib import Path
from subcam.data.batches.training import TrainingImages, training_loader
from subcam.data.records import Record
from subcam.data.settings import AugmentationSettings

records = [Record(name=path.stem, image=path, labels=()) for path in sorted(Path(sys.argv[1]).glob("*.png"))]
images = TrainingImages(records, np.zeros((len(records), 1), np.uint8), AugmentationSettings(crop=16), seed=0)
for step, _ in enumerate(training_loader(images, batch_size=4, epochs=10**6, workers=2)):
    if step == 2:
        print("loading", flush=True)
"""


def descendants(parent: int) -> list[int]:
    listed = Path(f"/proc/{parent}/task/{parent}/children").read_text()
    return [int(word) for word in listed.split()]


def alive(process: int) -> bool:
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    return False


@pytest.mark.thorough
@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="looks at processes through /proc")
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_no_process_is_left_behind(images: TrainingImages, how: signal.Signals) -> None:
    folder = str(images.records[0].image.parent)
    process = subprocess.Popen(
        [sys.executable, "-c", LOAD_FOREVER, folder],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # Tests that a shell started in its background were told to ignore it, and would pass that on.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "loading\n"
    workers = descendants(process.pid)
    assert len(workers) >= 2
    if how == signal.SIGINT:
        os.killpg(process.pid, how)  # as a terminal does: the workers get it too
    else:
        process.kill()
    _, errors = process.communicate(timeout=180)
    deadline = time.monotonic() + 120
    while any(alive(worker) for worker in workers) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(alive(worker) for worker in workers)
    assert errors.count("KeyboardInterrupt") <= 1
    assert "DataLoader worker" not in errors
