"""Wrong inputs end in one line that says what to do: every entry of the table, and what a table cannot hold."""

# ruff: noqa: E501 - a message stands as it is printed

import errno
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tests.mistakes import IMAGES, RUN, Mistake, rows
from tests.mistakes_in_formats import MISTAKES_IN_FORMATS
from tests.mistakes_in_outputs import MISTAKES_IN_OUTPUTS
from tests.mistakes_table import MISTAKES

from subcam import cli
from subcam.runtime.run_folder import RunFolder


@pytest.fixture(autouse=True)
def images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A current folder with two labelled images, where nobody is on the network."""
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.chdir(tmp_path)
    IMAGES.mkdir()
    for name in "ab":
        Image.fromarray(np.full((16, 24, 3), 90, np.uint8)).save(IMAGES / f"{name}.png")
    rows("image,labels", "a.png,cat", "b.png,dog")()


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Callable[[str], str]:
    """What a command that must fail says after "error: "; the command line itself is called, in this process."""

    def said(command: str) -> str:
        assert cli.main(shlex.split(command)) == cli.EXIT_USER
        captured = capsys.readouterr()
        assert "Traceback" not in captured.out + captured.err
        told = captured.err.partition("error: ")[2]
        assert told, captured.err
        return told.rstrip("\n")

    return said


EVERY_MISTAKE = MISTAKES | MISTAKES_IN_FORMATS | MISTAKES_IN_OUTPUTS


@pytest.mark.parametrize("mistake", EVERY_MISTAKE.values(), ids=EVERY_MISTAKE)
def test_the_message_of(mistake: Mistake, said: Callable[[str], str]) -> None:
    for step in mistake.prepare:
        step()
    told = said(mistake.command)
    pattern = ".*".join(map(re.escape, mistake.message.split("<...>")))
    assert re.fullmatch(pattern, told, re.DOTALL), told
    assert not Path("code-was-run").exists()


def test_there_are_enough_and_each_message_says_enough() -> None:
    parts = (MISTAKES, MISTAKES_IN_FORMATS, MISTAKES_IN_OUTPUTS)
    assert len(EVERY_MISTAKE) == sum(map(len, parts)) >= 100
    says_what_to_do = re.compile(r";|\bGive\b|\bIf you\b|\. Check|did you mean|expected")
    assert [name for name, mistake in EVERY_MISTAKE.items() if not says_what_to_do.search(mistake.message)] == []


PARSED = {
    "a setting that is not there": (f"{RUN} --classify.epoch 3", r"Unrecognized options: --classify\.epoch", "--classify.epochs"),
    "a word where a number belongs": (f"{RUN} --classify.epochs many", "Error parsing --classify.epochs", "'many'"),
    "half a round": (f"{RUN} --rounds 1.5", "Error parsing --rounds", "'1.5'"),
    "a choice that there is not": (f"{RUN} --machine.accelerator gpu", "invalid choice 'gpu'", "('auto', 'cpu', 'cuda', 'mps')"),
    "a setting without its value": (f"{RUN} --rounds", "Missing value for argument '--rounds'", "--help"),
    "no truth": ("evaluate --predictions p", "Required options", "--truth PATH"),
    "words too many": ("run small --data images more images", "Unrecognized options: more, images", "--help"),
}  # fmt: skip
"""Mistakes in the words themselves: the command, what was wrong, and what helps."""


@pytest.mark.parametrize(("command", "wrong", "help_"), PARSED.values(), ids=PARSED)
def test_words_that_cannot_be_parsed(
    command: str, wrong: str, help_: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit) as ended:
        cli.main(shlex.split(command))
    assert ended.value.code == cli.EXIT_USER
    captured = capsys.readouterr()
    told = " ".join((captured.out + captured.err).split())
    assert "Traceback" not in told
    assert re.search(wrong, told)
    assert help_ in told


def test_a_folder_that_another_run_uses(said: Callable[[str], str]) -> None:
    with RunFolder(path=Path("out")).lock():
        told = said(RUN)
    assert re.fullmatch(
        rf"out is in use by process {os.getpid()} on \S+; wait for it to end or choose another folder", told
    )


def test_a_disk_that_is_full(said: Callable[[str], str], monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    assert re.fullmatch(
        r"no space left while writing out/\S+; free some space and run the same command again, which resumes",
        said(RUN),
    )


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is forbidden to root")
def test_a_folder_that_may_not_be_written(said: Callable[[str], str]) -> None:
    Path("locked").mkdir(mode=0o500)
    assert (
        said(RUN.replace("--out out", "--out locked/out"))
        == "cannot write in locked/out (Permission denied); choose another folder or mend its rights"
    )


def test_as_a_person_meets_it() -> None:
    """In a process of its own: one line on the error's stream, nothing on the other, status 2; --debug shows more."""
    mistake = MISTAKES["a folder of predictions that is not there"]
    for step in mistake.prepare:
        step()
    words = [sys.executable, "-m", "subcam.cli", *shlex.split(mistake.command)]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == cli.EXIT_USER
    assert done.stdout == ""
    assert done.stderr == f"error: {mistake.message}\n"
    debug = subprocess.run([*words, "--debug"], capture_output=True, text=True)
    assert debug.returncode == cli.EXIT_USER
    assert debug.stderr.startswith("Traceback (most recent call last):")
    assert debug.stderr.endswith(done.stderr)
