"""Peak memory of a whole run, in a process of its own, as the number of images grows: it should not.

Generated images of 48 pixels, the tiny network, one epoch a training, and every stage: classification, discovery,
response maps, CRF, AffinityNet, random walk, pseudo masks, segmentation, scores.
"""

import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from benchmarks.measure import Options, run_process
from benchmarks.record import Growth

QUICK_COUNTS = (20, 40)
IMAGE = 48
BATCH = 16


def growth(options: Options) -> Iterator[Growth]:
    """One process for each number of images; a tenth of the images is held out and scored."""
    for count in QUICK_COUNTS if options.quick else options.counts:
        with tempfile.TemporaryDirectory() as folder:
            process = run_process((sys.executable, "-m", "benchmarks.memory", str(count), folder))
        yield Growth(stage="whole run", count=count, seconds=process.seconds, peak_mib=process.peak_mib)


def whole_run(count: int, out: Path) -> None:
    """Run the recipe of the generated images on `count` of them, one epoch each, one thread."""
    from subcam import pipeline
    from subcam.recipes import toy
    from subcam.runtime.machine.settings import MachineSettings

    recipe = toy()
    held_out = count // 10
    settings = replace(
        recipe,
        rounds=1,
        control=False,
        dataset=replace(
            recipe.dataset,
            toy=replace(recipe.dataset.toy, train_images=count - held_out, val_images=held_out, size=IMAGE),
        ),
        classify=replace(recipe.classify, epochs=1, batch_size=BATCH),
        discover=replace(recipe.discover, restarts=1),
        refine=replace(
            recipe.refine, rounds="last", affinity=replace(recipe.refine.affinity, epochs=1, batch_size=BATCH)
        ),
        segment=replace(
            recipe.segment,
            train_on=("pseudo",),
            train=replace(recipe.segment.train, epochs=1, batch_size=BATCH),
        ),
        machine=MachineSettings(accelerator="cpu", inference_precision="32-true", threads=1, workers=0),
    )
    pipeline.run(settings, out)


if __name__ == "__main__":
    whole_run(int(sys.argv[1]), Path(sys.argv[2]))
