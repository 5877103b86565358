"""Runs commands of subcam in processes that are killed (-9) at random moments, again and again until they are done.

    python tests/kills.py FOLDER --kills 50 --seed 0 < commands.json

`commands.json` is a list of commands, each a list of words in which OUT stands for the folder of results. Writes
`FOLDER/undisturbed` without a kill and `FOLDER/killed-0`, `killed-1`, ...: as many as it takes to have been killed so
often. The processes are forks of this one, which has imported everything before, so that time is spent in the work.
"""

import argparse
import json
import os
import random
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path

from subcam import cli

Commands = Sequence[Sequence[str]]


def do(commands: Commands, out: Path, *, workers: int) -> int:
    """Give all commands, one after the other; the first status that is not 0 ends it."""
    for words in commands:
        given = [word.replace("OUT", str(out)) for word in words]
        if words[0] == "run":
            given += ["--machine.workers", str(workers)]
        status = cli.main(given)
        if status:
            return status
    return 0


def attempt(commands: Commands, out: Path, log: Path, *, workers: int, seconds: float | None) -> int | None:
    """Do it in a process that is killed after so many seconds: its exit status, None if it was killed."""
    process = os.fork()
    if not process:
        with log.open("a", buffering=1) as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
            os._exit(do(commands, out, workers=workers))
    if seconds is not None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            ended, status = os.waitpid(process, os.WNOHANG)
            if ended:
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.002)
        os.kill(process, signal.SIGKILL)
    status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    return None if status == -signal.SIGKILL else status


def main() -> int:
    """Kill until there were enough; prints {"kills": in each folder, "undisturbed": seconds} as JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--kills", type=int, required=True)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    commands, rng = json.load(sys.stdin), random.Random(given.seed)
    log = given.folder / "log.txt"
    with log.open("a") as file, redirect_stdout(file):
        status = do(commands, given.folder / "undisturbed", workers=0)  # imports and compiles all that is needed
    if status:
        return status
    started = time.monotonic()
    status = attempt(commands, given.folder / "forked", log, workers=0, seconds=None) or 0
    whole = time.monotonic() - started
    kills: list[int] = []
    while not status and sum(kills) < given.kills:
        kills.append(0)
        out = given.folder / f"killed-{len(kills) - 1}"
        done: int | None = None
        while done is None:
            # A quarter of the time that all takes, at most half, so that a course is killed some times at any place.
            seconds = rng.uniform(0, whole / 2) if sum(kills) < given.kills else None
            done = attempt(commands, out, log, workers=len(kills) % 2, seconds=seconds)
            kills[-1] += done is None
        status = done
    print(json.dumps({"kills": kills, "undisturbed": round(whole, 1)}), flush=True)
    return status


if __name__ == "__main__":
    sys.exit(main())
