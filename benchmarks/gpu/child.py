"""One part in a process of its own: `python -m benchmarks.gpu.child PART FILE --device cuda ...`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.gpu.given import Given
from benchmarks.gpu.plan import PARTS, in_child


def main(words: Sequence[str] | None = None) -> None:
    """Carry out the part that is named; its rows go into the file."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu.child", description=__doc__)
    parser.add_argument("part", choices=[part.name for part in PARTS])
    parser.add_argument("file", type=Path)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--scratch", type=Path, required=True)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--weights", type=Path)
    options = parser.parse_args(words)
    given = Given(
        device=options.device,
        tiny=options.tiny,
        data=options.data,
        weights=options.weights,
        scratch=options.scratch,
    )
    (part,) = (part for part in PARTS if part.name == options.part)
    in_child(part, given, options.file)


if __name__ == "__main__":
    sys.exit(main())
