"""Every stage's heavy step on a GPU against the CPU, in float32, bf16 and half precision, within stated tolerances.

`pytest -m gpu`, which `python -m benchmarks gpu` runs first. Where there is no CUDA device the tests are skipped;
SUBCAM_TEST_DEVICE=cpu lets the CPU stand in for it, to see that the tests themselves run.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from tests import loops
from tests.crf.direct_crf import random_scores, smooth_image

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from subcam.data.check import CheckedImages
    from subcam.runtime.machine.settings import MachineSettings
    from subcam.settings import RunSettings

pytestmark = pytest.mark.gpu

PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")
EXACT, HALF_MEAN = 2e-3, 2e-2
"""Differences of maps in 0..1 from the CPU's float32: the largest in float32; the mean in bf16 and half precision,
where single cells may be far off: a map of a network with random weights is divided by its own small maximum."""

FEATURES = {"32-true": 2e-3, "bf16-mixed": 8e-2, "16-mixed": 8e-2}
"""Largest difference of features, as a share of the largest feature."""

LOSS = {"32-true": 5e-3, "bf16-mixed": 5e-2, "16-mixed": 5e-2}
"""Largest relative difference of a loss within the first steps of a training."""


@pytest.fixture(scope="module")
def kind() -> str:
    kind = os.environ.get("SUBCAM_TEST_DEVICE", "cuda")
    if kind == "cuda" and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    return kind


@pytest.fixture(autouse=True)
def exact() -> Any:
    """Float32 means float32: TF32 keeps ten bits of a factor."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cudnn.allow_tf32 = before


@pytest.fixture(scope="module")
def work(
    kind: str,
    toy_train: CheckedImages,
    tiny_run: RunSettings,
    machine: MachineSettings,
    tmp_path_factory: pytest.TempPathFactory,
) -> loops.Work:
    return loops.Work(tmp_path_factory.mktemp("work"), toy_train, tiny_run, machine)


@pytest.fixture
def both(work: loops.Work, kind: str, machine: MachineSettings, tmp_path: Path) -> Callable[..., tuple[Path, Path]]:
    """The folders that a loop leaves: on the CPU in float32, and on the device at a precision."""
    from subcam.runtime.devices import build_fabric

    def both(loop: Callable[..., None], precision: str = "32-true") -> tuple[Path, Path]:
        fabrics: dict[str, Fabric] = {
            "cpu": build_fabric(machine, precision="32-true"),
            "device": build_fabric(replace(machine, accelerator=kind), precision=precision),
        }
        for name, fabric in fabrics.items():
            assert fabric.device.type == ("cpu" if name == "cpu" else kind)
            loop(work, fabric, tmp_path / name, loops.MOST_BATCHES)
        return tmp_path / "cpu", tmp_path / "device"

    return both


def files(folders: tuple[Path, Path], pattern: str) -> list[tuple[Path, Path]]:
    """Files of a loop and what they are on the device."""
    one, other = folders
    found = [(path, other / path.relative_to(one)) for path in sorted(one.rglob(pattern))]
    assert found
    return found


def assert_maps_close(
    folders: tuple[Path, Path], names: tuple[str, ...], precision: str, *, one: float = 1.0, step: float = 0.0
) -> None:
    """Of maps that are stored as `one` for 1.0, in steps of `step`."""
    differences = []
    for mine, theirs in files(folders, "*.npz"):
        with np.load(mine) as expected, np.load(theirs) as found:
            for name in names:
                assert found[name].shape == expected[name].shape
                differences.append(np.abs(found[name].astype(float) - expected[name].astype(float)).ravel())
    together = np.concatenate(differences)
    assert len(together) > 100
    assert together.mean() <= one * HALF_MEAN
    if precision == "32-true":
        assert together.max() <= one * EXACT + step


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("loop", [loops.response_maps, loops.prototype_maps])
def test_response_maps(both: Callable, loop: Callable, precision: str) -> None:
    assert_maps_close(both(loop, precision), ("maps", "subcategory_maps"), precision, one=255, step=1)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_features(both: Callable, precision: str) -> None:
    for mine, theirs in files(both(loops.features, precision), "part-*.npy"):
        expected, found = np.load(mine), np.load(theirs)
        np.testing.assert_allclose(found, expected, rtol=0, atol=FEATURES[precision] * np.abs(expected).max())


def test_features_of_positions(both: Callable) -> None:
    """K-means may number equal clusters otherwise: what is compared is how many positions each class has."""
    from subcam.runtime.files import read_json

    for mine, theirs in files(both(loops.positions), "stage.json"):
        counts = [read_json(path)["outputs"]["confident_positions"] for path in (mine, theirs)]
        assert counts[0] == counts[1]


@pytest.mark.parametrize("precision", PRECISIONS)
def test_random_walk(both: Callable, precision: str) -> None:
    """Affinities, stencil and series, by way of AffinityNet's features."""
    assert_maps_close(both(loops.walked_images, precision), ("maps", "backgrounds"), precision)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("loop", [loops.segmented, loops.predicted])
def test_prediction(both: Callable, loop: Callable, precision: str) -> None:
    from PIL import Image

    agreeing = []
    for mine, theirs in files(both(loop, precision), "*.png"):
        with Image.open(mine) as expected, Image.open(theirs) as found:
            agreeing.append((np.asarray(expected) == np.asarray(found)).mean())
    assert np.mean(agreeing) >= (0.999 if precision == "32-true" else 0.95)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize(
    "loop",
    [
        loops.classify_steps,
        loops.classify_steps_with_prototypes,
        loops.equivariance_steps,
        loops.affinity_steps,
        loops.segment_steps,
    ],
)
def test_training_steps(both: Callable, loop: Callable, precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from subcam.training import loop as training_loop

    monkeypatch.setattr(training_loop, "LOG_EVERY", 1)
    for mine, theirs in files(both(loop, precision), "training.csv"):
        expected, found = (list(csv.DictReader(path.open(encoding="utf-8"))) for path in (mine, theirs))
        assert len(expected) == len(found) == loops.MOST_BATCHES
        for row, other in zip(expected, found, strict=True):
            assert float(other["loss"]) == pytest.approx(float(row["loss"]), rel=LOSS[precision], abs=1e-4), row


def test_dense_crf_of_a_batch(kind: str) -> None:
    from subcam.crf.dense_crf import dense_crf
    from subcam.crf.dense_crf_torch import dense_crf_torch

    images = [smooth_image(*size, seed) for seed, size in enumerate([(30, 41), (1, 1), (40, 13)])]
    scores = [random_scores(2 + place, *image.shape[:2], place) for place, image in enumerate(images)]
    there = [[torch.from_numpy(one).to(kind) for one in many] for many in (images, scores)]
    for found, image, score in zip(dense_crf_torch(*there), images, scores, strict=True):
        assert found.device.type == kind
        np.testing.assert_allclose(found.cpu(), dense_crf(image, score), rtol=0, atol=1e-4)


def test_gradients_of_affinities(kind: str) -> None:
    from subcam.affinity.loss import pair_affinity

    results = []
    for device in ("cpu", kind):
        features = torch.randn(2, 12, 9, 14, generator=torch.Generator().manual_seed(0)).to(device).requires_grad_()
        affinity = pair_affinity(features)
        affinity.square().sum().backward()
        results.append((affinity.detach().cpu(), features.grad.cpu()))
    for expected, found in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_copies_arrive_whole_while_the_device_goes_on(kind: str) -> None:
    from subcam.runtime.devices import HostCopy, one_behind, to_device

    device = torch.device(kind)
    there = to_device(torch.arange(1 << 20, dtype=torch.float32), device)
    copies = [HostCopy(there.view(1024, 1024).mT * factor) for factor in (1, 2, 3)]
    there.zero_()
    for factor, copy in enumerate(one_behind(copies, device=device), start=1):
        np.testing.assert_array_equal(copy.numpy(), factor * np.arange(1 << 20, dtype=np.float32).reshape(1024, 1024).T)
