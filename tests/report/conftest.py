"""One run of all stages on generated images and its page, for all tests of the report."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from subcam.report.gather.images import Images
    from subcam.settings import RunSettings

VAL_IMAGES = 40
"""More than the gallery shows at once, and than Figures 3 and 7 take."""


@pytest.fixture(scope="session")
def finished_run(tiny_run: RunSettings, once: Callable[[str, Callable[[Path], object]], Path]) -> Path:
    """Rounds 0 and 1, control, pseudo masks of round 1, 40 scored images; and what later commands add.

    A segmentation network takes long to train: its entry names copies of the pseudo masks, with their scores.
    """
    return once("tiny", partial(_finish, tiny_run))


def _finish(tiny_run: RunSettings, folder: Path) -> None:
    from subcam.data.settings import AugmentationSettings
    from subcam.pipeline import run
    from subcam.settings import RefineSettings
    from subcam.stages.settings.affinity import AffinitySettings
    from subcam.stages.settings.pseudo_masks import MaskSettings

    settings = replace(
        tiny_run,
        control=True,
        dataset=replace(tiny_run.dataset, toy=replace(tiny_run.dataset.toy, val_images=VAL_IMAGES)),
        refine=RefineSettings(
            rounds="last",
            affinity=AffinitySettings(
                epochs=1, batch_size=8, augmentation=AugmentationSettings(crop=80, scale_long_side=(72, 104))
            ),
            masks=MaskSettings(pseudo_mask="crf"),
        ),
    )
    run(settings, folder, recipe="toy")
    record = json.loads((folder / "run.json").read_text("utf-8"))
    pseudo = record["refined"][-1]
    network = folder / "stages" / "segment-0123456789"
    shutil.copytree(folder / pseudo["masks"] / "crf", network / "masks")
    shutil.copytree(folder / pseudo["masks"] / "walk", network / "masks-crf")
    scores = {
        split: {"plain": found["variants"]["crf"], "crf": found["variants"]["walk"]}
        for split, found in pseudo["scores"].items()
    }
    place = network.relative_to(folder).as_posix()
    record["segment"] = [{"trained_on": "pseudo", "round": 1, "model": place, "masks": place, "scores": scores}]
    (folder / "run.json").write_text(json.dumps(record), "utf-8")
    summary = [
        {
            "grid": {"discover.num_subcategories": k},
            "split": "val",
            "what": f"response maps: round {index}",
            "mean": mean,
            "std": 0.01,
            "n": 2 if k == 5 else 3,
        }
        for k, mean in ((2, 0.5), (5, 0.6))
        for index in (0, 1)
    ]
    (folder / "ablate.json").write_text(json.dumps({"runs": [], "summary": summary}), "utf-8")


@pytest.fixture(scope="session")
def report_page(finished_run: Path, once: Callable[[str, Callable[[Path], object]], Path]) -> Path:
    from subcam.report.page.page import write_report

    once("tiny-page", lambda _: write_report(finished_run))
    return finished_run / "report" / "index.html"


@pytest.fixture(scope="session")
def gathered(finished_run: Path) -> Images:
    """All scored images with their gain."""
    from subcam.report.gather.images import gather_images
    from subcam.results import open_images, read_run

    run = read_run(finished_run)
    return gather_images(run, open_images(run), limit=1000)
