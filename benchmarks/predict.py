"""`subcam predict` as a person meets it: a fresh process for one picture, and throughput and memory for many.

    OMP_NUM_THREADS=2 python benchmarks/predict.py
    OMP_NUM_THREADS=2 python benchmarks/predict.py --model runs/mine --counts 100 1000 --turns 5

Without --model the network is DeepLab-v2 on MobileNetV2 at stride 8 with random weights and six classes; pictures are
made. Time is that of the whole process, interpreter and imports included; memory is its highest resident. That memory
stays flat shows in the second table: ten times the pictures, the same peak. The import of torch alone stands beside.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from rich.console import Console
from rich.table import Table

from subcam.run_folder import versions

CLASSES = ("cat", "cow", "dog", "horse", "person", "sheep")
LONG_SIDE, SHORT_SIDE = 320, 240
SMALL = (96, 128)


@dataclass(frozen=True, kw_only=True)
class Process:
    """What one process took: seconds on the clock, seconds of processor, highest resident memory in MiB."""

    seconds: float
    cpu_seconds: float
    peak_mib: float


def measure(words: Sequence[str]) -> Process:
    """Run a command to its end.

    Raises:
        RuntimeError: it failed; with what it said.
    """
    with tempfile.TemporaryFile() as said:
        started = time.perf_counter()
        process = subprocess.Popen(words, stdout=said, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            said.seek(0)
            raise RuntimeError(f"{' '.join(words)}: {said.read().decode('utf-8', 'replace')}")
    unit = 1 << 20 if sys.platform == "darwin" else 1 << 10
    return Process(seconds=seconds, cpu_seconds=usage.ru_utime + usage.ru_stime, peak_mib=usage.ru_maxrss / unit)


def predict(model: Path, images: Path, out: Path) -> Process:
    """One `subcam predict` in float32, as bf16 is not on every machine."""
    words = ("-m", "subcam.cli", "predict", str(model), str(images), "--out", str(out), "--precision", "32-true")
    return measure((sys.executable, *words))


def save_model(folder: Path) -> Path:
    """DeepLab-v2 on MobileNetV2 with random weights; made in a process of its own, so that this one stays small."""
    code = (
        "import sys, torch; from pathlib import Path; from subcam.networks.backbones import NetworkSettings;"
        "from subcam.segment.network import SegmentationConfig, SegmentationNetwork; torch.manual_seed(0);"
        "network = NetworkSettings(name='mobilenetv2_100', weights='none', output_stride=8);"
        f"config = SegmentationConfig(network=network, class_names={CLASSES!r});"
        "SegmentationNetwork(config).save(Path(sys.argv[1]))"
    )
    folder.mkdir(parents=True)
    measure((sys.executable, "-c", code, str(folder)))
    return folder


def write_pictures(folder: Path, *, count: int, size: tuple[int, int]) -> Path:
    """Pictures of smooth noise as JPEG."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for index in range(count):
        small = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
        Image.fromarray(small).resize(size[::-1], Image.Resampling.BICUBIC).save(folder / f"{index:05}.jpg")
    return folder


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="a saved network or a run; random weights without")
    parser.add_argument("--turns", type=int, default=5, help="fresh processes for one picture; their median counts")
    parser.add_argument("--counts", type=int, nargs="*", default=[100, 1000], help="how many pictures for throughput")
    parser.add_argument("--json", type=Path, help="where to write the numbers")
    options = parser.parse_args(arguments)
    console = Console(width=120)
    with tempfile.TemporaryDirectory() as work:
        root = Path(work)
        model = options.model or save_model(root / "model")
        one = write_pictures(root / "one", count=1, size=(SHORT_SIDE, LONG_SIDE))
        torch_alone = [measure((sys.executable, "-c", "import torch")) for _ in range(options.turns)]
        fresh = [predict(model, one, root / f"fresh{turn}") for turn in range(options.turns)]
        table = Table(title=f"a fresh process, median of {options.turns}")
        for heading in ("what", "seconds", "slowest", "processor seconds", "peak MiB"):
            table.add_column(heading, justify="left" if heading == "what" else "right")
        for what, found in (
            (f"subcam predict, one picture of {LONG_SIDE} x {SHORT_SIDE}", fresh),
            ("python -c 'import torch'", torch_alone),
        ):
            seconds = [process.seconds for process in found]
            cpu = statistics.median(process.cpu_seconds for process in found)
            peak = statistics.median(process.peak_mib for process in found)
            table.add_row(what, f"{statistics.median(seconds):.2f}", f"{max(seconds):.2f}", f"{cpu:.2f}", f"{peak:.0f}")
        console.print(table)

        many = {}
        table = Table(title=f"many pictures of {SMALL[1]} x {SMALL[0]}, masks and overlays")
        for heading in ("pictures", "seconds", "pictures a second", "peak MiB"):
            table.add_column(heading, justify="right")
        for count in options.counts:
            folder = write_pictures(root / f"many{count}", count=count, size=SMALL)
            found_many = many[count] = predict(model, folder, root / f"out{count}")
            rate = count / found_many.seconds
            table.add_row(str(count), f"{found_many.seconds:.1f}", f"{rate:.1f}", f"{found_many.peak_mib:.0f}")
        console.print(table)
    if options.json:
        result = {
            "versions": versions(),
            "fresh": [asdict(process) for process in fresh],
            "torch": [asdict(process) for process in torch_alone],
            "many": {count: asdict(process) for count, process in many.items()},
        }
        options.json.write_text(json.dumps(result, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
