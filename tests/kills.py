"""Commands of subcam in processes that are killed (-9) again and again until they are done.

`until_done` writes `FOLDER/undisturbed` without a kill, and `FOLDER/killed-0`: each process is killed as it renames its
n-th file into place (`every`), by turns just before and just after. Files appear by renaming alone, so between two
renames a kill finds the same folder whenever it comes. With `wanted` the moment is a random one, and as many folders
`killed-0`, `killed-1`, ... are written as it takes to have been killed so often, every other with a process that
prepares images.

The processes are forks, so that time is spent in the work. One that opens a pickle of a file ends at once with status
99.
"""

import os
import pickle
import random
import signal
import sys
import time
import traceback
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

from subcam import cli

Commands = Sequence[Sequence[str]]
OPENED_A_PICKLE = 99

EARLY = {0: 30, 1: 80}
"""The generated images are written anew until they are complete, so the first two processes are given these files."""


def watch(event: str, arguments: tuple) -> None:
    """End the process when it opens a pickle, but for two kinds that are no files of a run.

    numba keeps compiled functions beside our own code as pickles (whoever can write there can write our code), and
    processes that prepare images hand them over as pickles.

    Python tells of each object that its own unpickler makes; torch reads tensors with another, which makes none.
    """
    if event == "pickle.find_class":
        stack = traceback.extract_stack()
        if not any("numba" in frame.filename or "multiprocessing" in frame.filename for frame in stack):
            os.write(2, f"opened a pickle of {arguments}\n{''.join(traceback.format_list(stack))}".encode())
            os._exit(OPENED_A_PICKLE)


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


def die_at_rename(number: int, *, before: bool) -> None:
    """Kill this process at its n-th renaming of a file."""
    really_replace, renamed = Path.replace, 0

    def replace(self: Path, target: Path) -> None:
        nonlocal renamed
        renamed += 1
        if renamed == number and before:
            os.kill(os.getpid(), signal.SIGKILL)
        really_replace(self, target)
        if renamed == number:
            os.kill(os.getpid(), signal.SIGKILL)

    Path.replace = replace  # type: ignore[method-assign, assignment]


def attempt(
    commands: Commands,
    out: Path,
    log: Path,
    *,
    workers: int = 0,
    seconds: float | None = None,
    rename: int = 0,
    before: bool = False,
) -> int | None:
    """Do it in a process that is killed after so many seconds or files: its exit status, None if it was killed."""
    process = os.fork()
    if not process:
        with log.open("a", buffering=1) as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
            if rename:
                die_at_rename(rename, before=before)
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


def watch_sees_pickles() -> bool:
    """Whether the watch would have seen one; else it shows nothing."""
    process = os.fork()
    if not process:
        os.close(2)
        os.open(os.devnull, os.O_WRONLY)
        pickle.loads(pickle.dumps(OrderedDict()))
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == OPENED_A_PICKLE


def killed_at_renames(commands: Commands, folder: Path, *, every: int) -> tuple[int, list[int]]:
    """The status of the attempt that was not killed, and how many were."""
    for number in range(200):
        rename = EARLY.get(number, every)
        status = attempt(commands, folder / "killed-0", folder / "log.txt", rename=rename, before=number % 2 == 0)
        if status is not None:
            return status, [number]
    return 1, [200]


def killed_at_random(commands: Commands, folder: Path, *, wanted: int, seed: int) -> tuple[int, list[int]]:
    """The status of the last attempt, and how many were killed in each folder."""
    rng, log = random.Random(seed), folder / "log.txt"
    started = time.monotonic()
    status = attempt(commands, folder / "forked", log) or 0
    whole = time.monotonic() - started
    kills: list[int] = []
    while not status and sum(kills) < wanted:
        kills.append(0)
        out = folder / f"killed-{len(kills) - 1}"
        done: int | None = None
        while done is None:
            # A quarter of the time that all takes, at most half, so that a course is killed some times at any place.
            seconds = rng.uniform(0, whole / 2) if sum(kills) < wanted else None
            done = attempt(commands, out, log, workers=len(kills) % 2, seconds=seconds)
            kills[-1] += done is None
        status = done
    return status, kills


def until_done(commands: Commands, folder: Path, *, every: int | None = None, wanted: int = 0) -> list[int]:
    """Kill until there were enough; returns how many kills there were in each folder.

    Of a process that ends after it: the watch for pickles stays.
    """
    sys.addaudithook(watch)
    assert watch_sees_pickles()
    # The first time imports and compiles all that is needed.
    assert do(commands, folder / "undisturbed", workers=0) == 0
    if every:
        status, kills = killed_at_renames(commands, folder, every=every)
    else:
        status, kills = killed_at_random(commands, folder, wanted=wanted, seed=0)
    assert status == 0
    return kills
