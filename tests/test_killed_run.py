"""A run that is killed (-9) at many moments ends as an undisturbed one does."""

import json
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

ATTEMPTS = """
import os, signal, sys
from pathlib import Path
from subcam import cli, pipeline
from subcam.report import tables

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
into place, by turns just before and just after; the first that lives to the end is the last. The generated pictures
are written anew until they are complete, so the first two processes are given more files; so is the page, which has
more files than a process is given, and is therefore left out."""


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
    undisturbed, killed = (record_of(tmp_path / name) for name in ("undisturbed", "killed"))
    for part in ("rounds", "refined"):
        assert json.dumps(killed[part]) == json.dumps(undisturbed[part])  # as text, not-a-number equals itself
    assert stages(tmp_path / "killed") == stages(tmp_path / "undisturbed")
    for path in (tmp_path / "undisturbed").rglob("*"):
        if path.suffix in (".npz", ".npy", ".png", ".safetensors", ".csv"):
            twin = tmp_path / "killed" / path.relative_to(tmp_path / "undisturbed")
            assert twin.read_bytes() == path.read_bytes(), twin
