"""A run that is killed (-9) at many moments ends as an undisturbed one does."""

import json
import os
import signal
import sys
from pathlib import Path

import pytest
from forked import DONE, at_once
from kills import until_done


def stages(folder: Path) -> set[str]:
    return {path.name for path in (folder / "stages").iterdir()}


def record_of(folder: Path) -> dict:
    return json.loads((folder / "run.json").read_text("utf-8"))


COMMAND = """
    run toy --rounds 1 --no-control --refine.rounds last --segment.train-on pseudo --segment.train.epochs 2 --no-report
    --dataset.toy.train-images 24 --dataset.toy.val-images 8 --dataset.toy.size 48
    --classify.epochs 2 --classify.batch-size 8 --classify.head-dropout 0.5
    --classify.augmentation.crop 48 --classify.augmentation.scale-long-side 40 64
    --discover.num-subcategories 3 --discover.restarts 2 --cam.scales 1 0.5 --cam.batch-size 3
    --machine.workers 0 --machine.threads 1 --machine.accelerator cpu --machine.checkpoint-seconds 0
"""

PREDICT = "predict OUT OUT --out OUT/predictions --no-overlays --threads 1 --accelerator cpu --precision 32-true"
"""Its images are the generated ones, pseudo masks and all: any image will do."""


def assert_same_results(killed: Path, undisturbed: Path) -> None:
    """Scores, stages, and every file with a result in it, byte by byte."""
    mine, theirs = record_of(killed), record_of(undisturbed)
    for record in (mine, theirs):
        for of_this_time in ("command", "seconds_this_time", "peak_memory_mib"):
            del record[of_this_time]
        del record["settings"]["machine"]["workers"]
    assert json.dumps(mine) == json.dumps(theirs)  # as text, not-a-number equals itself
    assert stages(killed) == stages(undisturbed)
    compared = 0
    for path in undisturbed.rglob("*"):
        if path.suffix in (".npz", ".npy", ".png", ".safetensors", ".csv") and path.name != "predictions.csv":
            twin = killed / path.relative_to(undisturbed)
            assert twin.read_bytes() == path.read_bytes(), twin
            compared += 1
    assert compared > 100
    assert not list(killed.rglob("*.partial"))
    assert not list(killed.rglob("*.pt"))


def killed(folder: Path, **how: int) -> list[int]:
    """Have both commands killed until they are done: how many kills there were in each folder."""
    commands = [[*COMMAND.split(), "--out", "OUT"], PREDICT.split()]
    log, counted = folder / "log.txt", folder / "kills.json"

    def work() -> None:
        with log.open("a", buffering=1) as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
            sys.stdout = sys.stderr = file
            counted.write_text(json.dumps(until_done(commands, folder, **how)), "utf-8")

    (ended,) = at_once(work, patience=3600)
    assert ended == DONE, log.read_text("utf-8")[-3000:]
    return json.loads(counted.read_text("utf-8"))


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs signals that cannot be caught")
def test_killed_again_and_again_all_ends_as_undisturbed_and_no_pickle_is_opened(tmp_path: Path) -> None:
    (kills,) = killed(tmp_path, every=151)
    assert kills >= 3
    assert_same_results(tmp_path / "killed-0", tmp_path / "undisturbed")


@pytest.mark.thorough
def test_killed_at_many_moments_all_ends_as_undisturbed(tmp_path: Path) -> None:
    (kills,) = killed(tmp_path, every=37)
    assert kills >= 8
    assert_same_results(tmp_path / "killed-0", tmp_path / "undisturbed")


@pytest.mark.thorough
def test_killed_at_random_moments_all_ends_as_undisturbed(tmp_path: Path) -> None:
    """SUBCAM_KILLS says how often; 50 is the long check of docs/faults.md."""
    wanted = int(os.environ.get("SUBCAM_KILLS", "10"))
    kills = killed(tmp_path, wanted=wanted)
    assert sum(kills) == wanted
    assert_same_results(tmp_path / "forked", tmp_path / "undisturbed")
    for number in range(len(kills)):
        assert_same_results(tmp_path / f"killed-{number}", tmp_path / "undisturbed")
