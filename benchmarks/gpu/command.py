"""The whole path on one GPU, proven and timed, the most important first.

    python -m benchmarks gpu --json found.json --data voc-animals --weights mobilenetv2_100_imagenet.safetensors
    python -m benchmarks gpu --json found.json --parts training maps     # some; what the file holds of others stays
    python -m benchmarks gpu --json found.json --device cpu --tiny       # a dry run: all of it, on nothing
    python -m benchmarks gpu --load benchmarks/gpu.json --markdown docs/scale.md

Needs no network. Each part has a time limit of its own inside the budget and is killed, with its children, when it is
over; the file is written anew after every part. Status 1: a part failed or a target was missed; 2: it cannot begin.
"""

import argparse
import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from benchmarks.gpu.given import Given, missing
from benchmarks.gpu.page import to_table, write_page
from benchmarks.gpu.plan import PARTS, carry_out
from benchmarks.gpu.record import Found, PartFound, device_facts
from subcam.errors import BadInputError, SubcamError


def main(words: Sequence[str]) -> int:
    """Carry out what the words ask for; the exit status."""
    names = [part.name for part in PARTS]
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks gpu", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--budget", type=float, default=480.0, help="seconds for everything")
    parser.add_argument("--json", type=Path, help="where what is found goes")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--tiny", action="store_true", help="the smallest networks: whether all of it runs")
    parser.add_argument("--data", type=Path, help="folder of voc-animals (VOC's layout), 60 MiB at most")
    parser.add_argument("--weights", type=Path, help="file of ImageNet's weights of mobilenetv2_100")
    parser.add_argument("--parts", nargs="+", choices=names, default=names, help="in this order in any case")
    parser.add_argument("--scratch", type=Path, help="folder for what is not kept; a temporary one without")
    parser.add_argument("--load", type=Path, help="measure nothing, take this file")
    parser.add_argument("--markdown", type=Path, help="write the table between the marks of this page")
    options = parser.parse_args(words)
    console = Console(width=160)
    try:
        found = Found.read(options.load) if options.load else measured(options, console)
        if options.markdown:
            write_page(options.markdown, found)
    except SubcamError as error:
        console.print(str(error), style="red", highlight=False)
        return 2
    console.print(to_table(found))
    failed = [part.name for part in found.parts if part.state == "failed"]
    missed = [target.what for target in found.targets if target.met is False]
    for what in (*failed, *missed):
        console.print(f"failed or missed: {what}", style="red", highlight=False)
    return 1 if failed or missed else 0


def measured(options: argparse.Namespace, console: Console) -> Found:
    """Say what is missing, then one part after the other until the budget is spent.

    Raises:
        BadInputError: there is no such device, or nowhere to write; or the file holds what another device found.
    """
    started = time.monotonic()
    if options.json is None:
        raise BadInputError("expected --json FILE: what is found is written there after each part")
    scratch = options.scratch or Path(tempfile.mkdtemp(prefix="subcam-gpu-"))
    try:
        given = Given(
            device=options.device, tiny=options.tiny, data=options.data, weights=options.weights, scratch=scratch
        )
        lacking = tuple(missing(given))
        for one in lacking:
            costs = f"; costs {', '.join(one.costs)}" if one.costs else ""
            console.print(f"missing: {one.what}{costs}", style="yellow", highlight=False)
        if any("all parts" in one.costs for one in lacking):
            raise BadInputError(f"nothing can be measured without {lacking[0].what}; --device cpu --tiny is a dry run")
        found = Found(device=device_facts(given), tiny=given.tiny, budget=options.budget, missing=lacking)
        if options.json.is_file():
            found = _going_on(Found.read(options.json), found, options.json)
        found.write(options.json)
        for part in PARTS:
            if part.name not in options.parts:
                continue

            def write(one: PartFound) -> None:
                nonlocal found
                found = found.with_part(one)
                found.write(options.json)

            carry_out(part, given, seconds=options.budget - (time.monotonic() - started), write=write)
            last = found.parts[-1]
            console.print(
                f"{last.name}: {last.state}, {last.seconds:.0f} s, {len(last.rows)} rows {last.why}", highlight=False
            )
    finally:
        if options.scratch is None:
            shutil.rmtree(scratch, ignore_errors=True)
    return found


def _going_on(earlier: Found, now: Found, path: Path) -> Found:
    if (earlier.device, earlier.tiny) != (now.device, now.tiny):
        raise BadInputError(
            f"{path} holds what {earlier.device['name']}{' (tiny)' if earlier.tiny else ''} found, and this is"
            f" {now.device['name']}{' (tiny)' if now.tiny else ''}; give --json another file"
        )
    for part in earlier.parts:
        now = now.with_part(part)
    return now
