"""`subcam report` of a run on generated images: what it takes at all, and for each image that the page shows.

The run is made first: plain CAM of a network that was not trained, pseudo masks by the dense CRF, and ground truth.
Seconds are of the processor, of whole processes, imports included; beside them stands one that imports matplotlib.
"""

import statistics
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.measure import Options, run_process
from benchmarks.record import Row
from subcam.settings import RunSettings

SIDE, FEW, MANY = 320, 20, 200
IMPORTS = "import matplotlib.figure, matplotlib.backends.backend_agg, matplotlib.backends.backend_svg"


def settings(*, images: int, side: int) -> RunSettings:
    """Round 0 of the small network as it is initialised, and its maps after the dense CRF."""
    return RunSettings().with_(
        {
            "rounds": 0,
            "dataset.root": "toy",
            "dataset.toy.train_images": 8,
            "dataset.toy.val_images": images,
            "dataset.toy.size": side,
            "network.name": "tiny",
            "network.weights": "none",
            "network.freeze_batch_norm": False,
            "classify.epochs": 1,
            "classify.batch_size": 8,
            "cam.scales": (1.0,),
            "refine.rounds": "last",
            "refine.random_walk": False,
            "refine.masks.pseudo_mask": "crf",
        }
    )


def rows(options: Options) -> Iterator[Row]:
    """The report of few and of many images in turns; the difference is what an image takes."""
    from subcam.pipeline import run
    from subcam.runtime.progress import silence

    few, many, side = (2, 4, 64) if options.quick else (FEW, MANY, SIDE)
    turns = 1 if options.quick else options.turns
    with tempfile.TemporaryDirectory() as work, silence():
        run(settings(images=many, side=side), Path(work) / "run")

        def report(images: int) -> float:
            words = ("report", str(Path(work) / "run"), "--out", str(Path(work) / f"page{images}"))
            return run_process((sys.executable, "-m", "subcam.cli", *words, "--images", str(images))).cpu_seconds

        def imports() -> float:
            return run_process((sys.executable, "-c", IMPORTS)).cpu_seconds

        report(few)
        found = [(report(few), report(many), imports()) for _ in range(turns)]
    image = statistics.median((more - less) / (many - few) for less, more, _ in found)  # noise where --quick
    yield Row(
        stage="report",
        case=f"a run with {many} images of {side} x {side}, {few} of them shown",
        seconds=statistics.median(less for less, _, _ in found),
        unit="reports",
        other="a process that imports matplotlib",
        other_seconds=statistics.median(other for _, _, other in found),
        ratio=statistics.median(other / less for less, _, other in found),
    )
    yield Row(stage="report", case=f"each image more, {few} to {many}", seconds=max(image, 1e-6))
