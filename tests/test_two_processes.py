"""The whole pipeline as two processes, which share each batch and all images: what one process makes, and no less.

The thorough tests end the run of two on its way, by a kill -9 of the second process and by a SIGTERM of the first.
"""

import csv
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ranks import as_ranks, by_torchrun
from safetensors.numpy import load_file

from subcam import cli

SGD = "--{0}.optimiser.name sgd --{0}.optimiser.learning-rate 0.02 --{0}.optimiser.gradient-clip 1"
COMMAND = """
    run toy --rounds 1 --no-control --refine.rounds last --segment.train-on pseudo --segment.train.epochs 1
    --dataset.toy.train-images 24 --dataset.toy.val-images 8 --dataset.toy.size 48
    --classify.epochs 2 --classify.batch-size 8 --refine.affinity.epochs 1 --refine.affinity.batch-size 8
    --classify.augmentation.crop 48 --classify.augmentation.scale-long-side 40 64
    --discover.num-subcategories 3 --discover.restarts 2 --cam.scales 1 0.5 --cam.batch-size 3
    --machine.workers 0 --machine.threads 1 --machine.accelerator cpu --machine.checkpoint-seconds 0
    --machine.inference-precision 32-true --no-report --compare.methods erasing equivariance
"""
"""Plain gradient descent: AdamW divides by gradients near zero, and makes large differences of rounding errors."""

WORDS = [*COMMAND.split(), *(word for part in ("classify", "refine.affinity") for word in SGD.format(part).split())]
WORDS += SGD.format("segment.train").split()

CLOSE = {"rtol": 1e-3, "atol": 2e-4}


def started(words: list[str]) -> subprocess.Popen[str]:
    """The command in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "subcam.cli", *words],
        env=os.environ | {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Its status and what it printed."""
    printed = process.communicate(timeout=500)[0]
    return process.returncode, printed


@pytest.fixture(scope="module")
def one(once: Callable[[str, Callable[[Path], object]], Path]) -> Path:
    """A run of one process."""

    def make(folder: Path) -> None:
        assert cli.main([*WORDS, "--out", str(folder)]) == 0

    return once("one-process", make)


@pytest.fixture(scope="module")
def two(once: Callable[[str, Callable[[Path], object]], Path]) -> Path:
    """A run of two processes, which are forks; `printed.txt` is what they printed."""

    def make(folder: Path) -> None:
        def work() -> None:
            assert cli.main([*WORDS, "--out", str(folder), *TWO]) == 0

        statuses, printed = as_ranks(work, by_torchrun())
        (folder / PRINTED).write_text(printed, "utf-8")
        assert statuses == [0, 0], printed

    return once("two-processes", make)


PRINTED = "printed.txt"
TWO = ("--machine.devices", "2")


def signalled(out: Path) -> dict[str, Any]:
    """Start, and send a SIGTERM to who started the others in the first training."""
    process = started([*WORDS, "--out", str(out), *TWO])
    until_seen(out, "round0-classify-*/checkpoint.pt", process)
    process.send_signal(signal.SIGTERM)
    status, printed = ended(process)
    return {"status": status, "printed": printed, "checkpoints": len(list(out.rglob("checkpoint.pt")))}


def killed(out: Path) -> dict[str, Any]:
    """Start, and kill the second process in the second training."""
    process = started([*WORDS, "--out", str(out), *TWO])
    until_seen(out, "round1-classify-*/checkpoint.pt", process)
    children = {rank: child for child in children_of(process.pid) if (rank := rank_of(child)) is not None}
    os.kill(children["1"], signal.SIGKILL)
    begun = time.monotonic()
    status, printed = ended(process)
    return {
        "status": status,
        "printed": printed,
        "ranks": sorted(children),
        "seconds": time.monotonic() - begun,
        "alive": [child for child in children.values() if Path(f"/proc/{child}").exists()],
    }


def to_the_end(out: Path) -> str:
    """Start, as a person does, and wait."""
    status, printed = ended(started([*WORDS, "--out", str(out), *TWO]))
    assert status == 0, printed
    return printed


def files(folder: Path) -> dict[str, Path]:
    """All files of the stages and the run by their path, but TensorBoard's, whose names hold the time."""
    by_name = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    return {name: path for name, path in by_name.items() if "tensorboard" not in name and name != PRINTED}


def pairs(one: Path, two: Path, name: str) -> Iterator[tuple[Path, Path]]:
    """Files called `name` and what they are in the other run."""
    twins = [(path, two / path.relative_to(one)) for path in sorted(one.rglob(name))]
    assert twins
    yield from twins


@pytest.mark.slow
def test_two_processes_write_the_files_of_one(one: Path, two: Path) -> None:
    assert set(files(one)) == set(files(two))
    assert not [name for name in files(two) if name.endswith((".partial", ".pt"))]


@pytest.mark.slow
def test_two_processes_train_as_one(one: Path, two: Path) -> None:
    """Classifier, AffinityNet and segmentation, losses that are means over pixels or pairs, batch norm that learns."""
    for mine, theirs in pairs(one, two, "model.safetensors"):
        expected, got = load_file(mine), load_file(theirs)
        assert set(expected) == set(got)
        for name, value in expected.items():
            np.testing.assert_allclose(got[name], value, **CLOSE, err_msg=f"{mine.parent.name} {name}")
    for mine, theirs in pairs(one, two, "training.csv"):
        expected, got = np.genfromtxt(mine, delimiter=",", names=True), np.genfromtxt(theirs, delimiter=",", names=True)
        assert expected.dtype.names == got.dtype.names
        for name in expected.dtype.names or ():
            np.testing.assert_allclose(got[name], expected[name], rtol=2e-3, atol=2e-3, err_msg=f"{mine} {name}")


@pytest.mark.slow
def test_two_processes_find_the_clusters_of_one(one: Path, two: Path) -> None:
    for mine, theirs in pairs(one, two, "part-*.npy"):
        np.testing.assert_allclose(np.load(theirs), np.load(mine), **CLOSE)
    for mine, theirs in pairs(one, two, "clusters.npz"):
        with np.load(mine) as expected, np.load(theirs) as got:
            for name in ("assignments", "labels", "num_clusters"):
                np.testing.assert_array_equal(got[name], expected[name])
            np.testing.assert_allclose(got["centroids"], expected["centroids"], **CLOSE)


@pytest.mark.slow
def test_the_first_speaks_for_both(two: Path) -> None:
    printed = (two / PRINTED).read_text("utf-8")
    assert printed.count("24 training images") == 1
    assert "Table 2" in printed


@pytest.mark.thorough
@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="finds the processes in /proc")
def test_one_is_killed_and_so_do_the_others_end_and_the_same_command_resumes(two: Path, tmp_path: Path) -> None:
    attempt = killed(tmp_path)
    assert attempt["ranks"] == ["0", "1"]
    assert attempt["status"] == 2, attempt["printed"]
    assert "process 2 of 2 was ended by SIGKILL" in attempt["printed"]
    assert "Traceback" not in attempt["printed"]
    assert attempt["seconds"] < 100
    assert attempt["alive"] == []
    printed = to_the_end(tmp_path)
    assert printed.count("24 training images") == 1
    assert "round1-classify: resumed" in printed
    assert_same(tmp_path, two)


@pytest.mark.thorough
def test_a_signal_to_who_started_them_ends_all_with_a_checkpoint(two: Path, tmp_path: Path) -> None:
    attempt = signalled(tmp_path)
    assert attempt["status"] == 143, attempt["printed"]
    assert "the same command resumes" in attempt["printed"]
    assert attempt["printed"].count("24 training images") == 1  # the first process speaks for both
    assert attempt["checkpoints"]
    to_the_end(tmp_path)
    assert_same(tmp_path, two)


def assert_same(resumed: Path, undisturbed: Path) -> None:
    assert set(files(resumed)) == set(files(undisturbed))
    for mine, theirs in [*pairs(undisturbed, resumed, "*.safetensors"), *pairs(undisturbed, resumed, "*.png")]:
        assert theirs.read_bytes() == mine.read_bytes(), theirs


def until_seen(out: Path, pattern: str, process: subprocess.Popen[str]) -> None:
    until = time.monotonic() + 300
    while not list(out.glob(f"stages/{pattern}")):
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < until
        time.sleep(0.02)


def children_of(process: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


def rank_of(process: int) -> str | None:
    words = Path(f"/proc/{process}/environ").read_bytes().split(b"\0")
    return next((word.removeprefix(b"RANK=").decode() for word in words if word.startswith(b"RANK=")), None)


@pytest.mark.thorough
def test_two_processes_predict_what_one_does(two: Path, tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    for path in sorted(next(two.glob("toy-*/images")).iterdir())[:7]:
        (images / path.name).write_bytes(path.read_bytes())
    for name in ("bad.jpg", "worse.jpg"):
        (images / name).write_bytes(b"no image")
    usual = ["--threads", "1", "--accelerator", "cpu", "--precision", "32-true", "--batch-size", "1"]
    words = ["predict", str(two), str(images), *usual]
    assert cli.main([*words, "--out", str(tmp_path / "one")]) == 0
    status, printed = ended(started([*words, "--out", str(tmp_path / "two"), "--devices", "2"]))
    assert status == 0, printed
    assert "7 images in" in printed
    assert "2 files could not be used" in printed
    assert set(files(tmp_path / "one")) == set(files(tmp_path / "two"))
    for mine, theirs in pairs(tmp_path / "one", tmp_path / "two", "*.png"):
        assert theirs.read_bytes() == mine.read_bytes(), theirs
    expected, got = (table(tmp_path / name / "predictions.csv") for name in ("one", "two"))
    assert [row["image"] for row in got] == [row["image"] for row in expected]
    assert [row["classes"] for row in got] == [row["classes"] for row in expected]
    failed = table(tmp_path / "two" / "failed.csv")
    assert sorted(Path(row["image"]).name for row in failed) == ["bad.jpg", "worse.jpg"]


def table(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))
