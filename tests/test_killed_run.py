"""A run that is killed (-9) at many moments ends as an undisturbed one does."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from subcam import cli


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

ATTEMPTS = """
import os, signal, sys
from pathlib import Path
from subcam import cli, pipeline
from subcam.report.tables import tables

really_replace = Path.replace
written = 0

def attempt(kill_at, before):
    def replace(self, target):
        global written
        written += 1
        if written == kill_at and before:
            os.kill(os.getpid(), signal.SIGKILL)
        really_replace(self, target)
        if written == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
    Path.replace = replace
    return cli.main(sys.argv[2:])

for number in range(200):
    process = os.fork()
    if not process:
        os._exit(attempt({0: 30, 1: 80}.get(number, int(sys.argv[1])), before=number % 2 == 0))
    status = os.waitpid(process, 0)[1]
    print("attempt", status, flush=True)
    if status != signal.SIGKILL:
        break
"""
"""Runs the command again and again, each time in a process of its own that is killed (-9) as it renames its n-th file
into place, by turns just before and just after; the first that lives to the end is the last. The generated images
are written anew until they are complete, so the first two processes are given more files; so is the page, which has
more files than a process is given, and is therefore left out."""


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


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs signals that cannot be caught")
def test_killed_at_many_moments_a_run_ends_with_the_same_scores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files appear by renaming alone, so between two renames a kill finds the same folder whenever it comes."""
    assert cli.main([*COMMAND.split(), "--out", str(tmp_path / "undisturbed")]) == 0
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    command = [sys.executable, "-c", ATTEMPTS, "37", *COMMAND.split(), "--out", str(tmp_path / "killed")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    statuses = [int(line.split()[1]) for line in done.stdout.splitlines() if line.startswith("attempt")]
    assert statuses[-1] == 0, done.stderr
    assert statuses.count(signal.SIGKILL) == len(statuses) - 1 >= 5
    assert_same_results(tmp_path / "killed", tmp_path / "undisturbed")


@pytest.mark.slow
def test_killed_at_random_moments_everything_ends_as_if_nothing_had_been(tmp_path: Path) -> None:
    """SUBCAM_KILLS says how often: a few times in CI; 50 is the long check of docs/faults.md."""
    wanted = int(os.environ.get("SUBCAM_KILLS", "6"))
    commands = [[*COMMAND.split(), "--out", "OUT"], PREDICT.split()]
    words = [sys.executable, str(Path(__file__).with_name("kills.py")), str(tmp_path), "--kills", str(wanted)]
    done = subprocess.run(words, input=json.dumps(commands), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr + (tmp_path / "log.txt").read_text()[-3000:]
    kills = json.loads(done.stdout)["kills"]
    assert sum(kills) == wanted
    assert_same_results(tmp_path / "forked", tmp_path / "undisturbed")
    for number in range(len(kills)):
        assert_same_results(tmp_path / f"killed-{number}", tmp_path / "undisturbed")
