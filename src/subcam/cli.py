"""The command line: finds the subcommand, runs it and sets the exit status. A user's mistake is one line of text."""

import logging
import os
import re
import select
import signal
import sys
import traceback
from collections.abc import Sequence
from importlib import import_module
from typing import TextIO

from subcam._version import __version__
from subcam.commands import COMMANDS, LASTING
from subcam.errors import SubcamError
from subcam.runtime import distributed
from subcam.runtime.caches import places
from subcam.runtime.failures import explain, is_peer_gone
from subcam.runtime.files import is_disk_full
from subcam.runtime.progress import HarmlessLines, harmless, quiet
from subcam.runtime.signals import Stopped, listening

USAGE = f"""subcam {__version__}: pixels from image-level labels

  subcam demo                      all stages on generated images, in minutes, without a download
  subcam run RECIPE --data DIR --out DIR
                                   from labelled images: response maps, pseudo masks, a segmentation network and a
                                   report page; subcam run RECIPE --help shows the settings that
                                   people touch, --help-all every setting
  subcam run --config FILE         the same with settings from a file, such as the config.toml that each run writes
  subcam classify|discover|cam|refine|segment RECIPE
                                   the same, up to one stage, in the same folder
  subcam refine --maps DIR --data DIR
                                   pseudo masks from response maps of any program
  subcam segment --masks DIR --data DIR
                                   a segmentation network from masks of any program
  subcam recipes                   the recipes, with hardware, time and scores
  subcam predict MODEL IMAGES...   masks and overlays of any images from a trained network or run; no labels needed
  subcam evaluate --predictions DIR --truth DIR
                                   scores of a folder of masks against ground truth
  subcam compare A B ...           runs and folders of masks side by side on the same images, with intervals
  subcam export FORMAT ...         masks and networks for VOC's server, COCO, Label Studio, CVAT, ONNX, torch
  subcam report RUN                write the report page of a run again: all tables and figures
  subcam ablate RECIPE --grid SETTING=VALUES... --seeds 0 1 2
                                   many runs that share their common stages; means and standard deviations
  subcam data download|check|labels|masks
                                   download data sets from their own sites; check a folder before a long run;
                                   make a CSV of labels from folders, COCO, Label Studio or tags; read masks that
                                   people drew in Label Studio
  subcam completion bash|zsh       a script by which the shell completes commands, recipes, flags and files
  subcam --version

Every command takes --help, and --debug, which shows where in the code an error arose. --quiet leaves, of a run or a
prediction, warnings and the last three lines: where the masks are, where the page is, and the next command.
The same command again continues an interrupted run.
"""

_SHOWN = 400

EXIT_OK, EXIT_USER, EXIT_INTERRUPTED = 0, 2, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit status.

    0 done; 2 a mistake that the user can fix; 128 + n ended by signal n (130 Ctrl-C, 143 SIGTERM, 138 SIGUSR1 on
    Linux), after which the same command continues; 141 nobody reads what it prints any more (`| head`); 1 an error in
    subcam.
    """
    try:
        try:
            return _carry_out(arguments)
        finally:
            print(end="", flush=True)  # also where there is no output to be flushed
    except OSError as error:
        unread = isinstance(error, BrokenPipeError) and _is_unread(sys.stdout)
        if not unread and not is_disk_full(error):
            raise
        # What is still to be written, at the end of Python too, goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if unread:
            return 128 + signal.SIGPIPE
        print(f"error: {explain(error)}", file=sys.stderr)
        return EXIT_USER


def _is_unread(stream: TextIO) -> bool:
    """Whether a stream is a pipe whose reader has gone."""
    waiting = select.poll()
    waiting.register(stream, select.POLLOUT)
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in waiting.poll(0))


def _carry_out(arguments: Sequence[str] | None) -> int:
    """One command, and what ends it put into words; returns the exit status."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"]
    quietly = bool(words) and words[0] in LASTING and "--quiet" in words
    words = [word for word in words if not (quietly and word == "--quiet")]
    lines = logging.StreamHandler()
    lines.setFormatter(HarmlessLines("%(name)s: %(message)s" if debug else "%(message)s"))
    logging.basicConfig(level=logging.INFO if debug else logging.WARNING, handlers=[lines])
    if words[:1] == ["--version"]:
        print(__version__)
        return EXIT_OK
    if not words or words[0] in ("-h", "--help"):
        print(USAGE)
        return EXIT_OK if words else EXIT_USER
    places.prepare()
    try:
        if words[0] not in COMMANDS:
            raise SubcamError(f"there is no command {words[0]!r}; there are: {', '.join(COMMANDS)}")
        module, function = COMMANDS[words[0]].split(":")
        with listening(), quiet(wanted=quietly):
            getattr(import_module(module), function)(words[1:])
    except SubcamError as error:
        if debug:
            traceback.print_exc()
        print(f"{_who()}error: {harmless(_cut(str(error)))}", file=sys.stderr)
        return EXIT_USER
    except Exception as error:
        # Libraries report a full disk, too little memory and killed processes in their own words.
        advice = explain(error)
        if debug or advice is None:
            raise
        if distributed.is_first() or not is_peer_gone(error):
            print(f"{_who()}error: {harmless(advice)}", file=sys.stderr)
        return EXIT_USER
    except KeyboardInterrupt as stop:
        if distributed.is_first():
            resumes = words[0] in LASTING or words[:2] == ["data", "download"]
            print(f"\nstopped{'; the same command resumes' if resumes else ''}", file=sys.stderr)
        return stop.exit_status if isinstance(stop, Stopped) else EXIT_INTERRUPTED
    return EXIT_OK


def _cut(text: str) -> str:
    """An error's text without what is left of words that are longer than any name; a list may say anything."""
    return re.sub(rf"(\S{{{_SHOWN}}})\S{{{_SHOWN},}}", r"\1...", text)


def _who() -> str:
    """Names the process where there are several; nothing for the first."""
    return "" if distributed.is_first() else f"process {distributed.rank() + 1} of {distributed.world_size()}: "


if __name__ == "__main__":
    sys.exit(main())
