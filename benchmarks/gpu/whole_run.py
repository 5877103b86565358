"""Whole runs, stage by stage: seconds, images a second, peak memory of the device and how long it worked.

`small` on the animals of VOC as `subcam run small` has it, its scores beside those of the CPU; and the stages of
`voc12_reference` on a few images for one epoch each, which says what would bind a stage of the long run.
"""

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu.given import Case, Given
from benchmarks.quality import RESULTS, SMALL, read_summary
from subcam import pipeline
from subcam.data.check import CheckedImages
from subcam.data.dataset import Dataset, open_dataset
from subcam.data.settings import DatasetSettings, ToySettings
from subcam.networks.settings import NetworkSettings
from subcam.recipes import small, voc12_reference
from subcam.results import RunResult
from subcam.runtime.run_folder import RunFolder, Stage
from subcam.settings import RunSettings
from subcam.stages.context import Context, compute

ANIMALS = ("cat", "cow", "dog", "horse", "person", "sheep")
REFERENCE_IMAGES = 64
SAMPLE_SECONDS = 0.1


def cases(given: Given) -> Iterator[Case]:
    """`small` whole: notes a row a stage, yields the run's."""
    settings = small_settings(given)
    dataset = open_dataset(settings.dataset, work_folder=given.scratch / "small")
    yield from run(given, settings, dataset, given.scratch / "small", title="small")


def reference_cases(given: Given) -> Iterator[Case]:
    """`voc12_reference` on few images; rows as of `cases`."""
    settings = reference_settings(given)
    folder = given.scratch / "reference"
    dataset = open_dataset(settings.dataset, work_folder=folder)
    if not given.tiny:
        few = {name: _first(images, REFERENCE_IMAGES // 2) for name, images in dataset.scored.items()}
        dataset = replace(dataset, train=_first(dataset.train, REFERENCE_IMAGES), scored=few)
    yield from run(given, settings, dataset, folder, title="reference")


def small_settings(given: Given) -> RunSettings:
    """The recipe, on the folder and weights that are given; tiny on generated images."""
    weights = "none" if given.weights is None else str(given.weights)
    if given.tiny:
        return _tiny(small(), given)
    network = replace(small().network, name="mobilenetv2_100", weights=weights, model_args={"pad_type": "same"})
    dataset = DatasetSettings(root=str(given.data), classes=ANIMALS)
    return small().with_({"network": network, "dataset": dataset, "machine": given.machine})


def reference_settings(given: Given) -> RunSettings:
    """The recipe with random weights, one round and one epoch of everything, in bf16 and with the CRF on the device."""
    recipe = voc12_reference()
    if given.tiny:
        return _tiny(recipe, given)
    machine = replace(given.machine, precision="bf16-mixed", crf="device")
    return recipe.with_(
        {
            "rounds": 1,
            "network.weights": "none",
            "dataset": DatasetSettings(root=str(given.data), classes=ANIMALS),
            "classify.epochs": 1,
            "classify.round_epochs": (),
            "discover.num_subcategories": 3,
            "refine.rounds": "last",
            "refine.affinity.epochs": 1,
            "segment.network.weights": "none",
            "segment.train.epochs": 1,
            "segment.train.validate_every": 0,
            "machine": machine,
        }
    )


def _tiny(recipe: RunSettings, given: Given) -> RunSettings:
    """Its route and stages on a dozen generated images, one epoch each."""
    network = NetworkSettings(name="tiny", weights="none", freeze_batch_norm=False)
    return recipe.with_(
        {
            "rounds": 1,
            "dataset": DatasetSettings(root="toy", toy=ToySettings(train_images=8, val_images=2, size=48)),
            "network": network,
            "classify.epochs": 1,
            "classify.round_epochs": (),
            "classify.least_steps": 0,
            "classify.batch_size": 4,
            "classify.augmentation.crop": 48,
            "discover.num_subcategories": 2,
            "cam.scales": (1.0,),
            "refine.rounds": "last",
            "refine.affinity.epochs": 1,
            "refine.affinity.least_steps": 0,
            "refine.affinity.batch_size": 4,
            "refine.affinity.augmentation.crop": 72,
            "segment.architecture": "deeplabv2",
            "segment.network": network,
            "segment.multi_scale_inputs": (),
            "segment.train.epochs": 1,
            "segment.train.least_steps": 0,
            "segment.train.batch_size": 4,
            "segment.train.augmentation.crop": 48,
            "segment.train.validate_every": 0,
            "segment.predict.scales": (1.0,),
            "machine": given.machine,
        }
    )


def run(given: Given, settings: RunSettings, dataset: Dataset, folder: Path, *, title: str) -> Iterator[Case]:
    """Carry out a run; a row of each stage is noted as soon as it is done."""
    rows: list[Case] = []

    def measured(run_folder: RunFolder, stage: Stage, work: Callable[[], None]) -> None:
        if given.on_gpu:
            torch.cuda.reset_peak_memory_stats()
        with Busy(given) as busy:
            started = time.perf_counter()
            compute(run_folder, stage, work)
            given.wait()
            seconds = time.perf_counter() - started
        rows.append(_row(given, title, stage, seconds, busy))
        given.note(rows[-1])

    started = time.perf_counter()
    run_folder = RunFolder(path=folder)
    with run_folder.lock():
        context = Context.open(run_folder, dataset, machine=settings.machine, seed=settings.seed)
        result = pipeline.all_stages(settings, replace(context, carry_out=measured))
    seconds = time.perf_counter() - started
    images = sum(len(one.image_set) for one in dataset.all)
    total: Case = {"case": title, "seconds": seconds, "images": images, "images_a_second": images / seconds}
    if given.on_gpu:
        total["peak_memory_mib"] = max(row["peak_memory_mib"] for row in rows)
    yield total | {"scores": scores_of(result, with_cpu=title == "small" and not given.tiny)}


def _row(given: Given, title: str, stage: Stage, seconds: float, busy: "Busy") -> Case:
    outputs = stage.record.get("outputs") or {}
    row: Case = {"case": f"{title}: {stage.name}", "stage": stage.name, "seconds": seconds, "device_busy": busy.share}
    if busy.why:
        row["device_busy_unknown"] = busy.why
    if isinstance(count := outputs.get("images"), int) and count:
        row |= {"images": count, "images_a_second": count / seconds}
    if given.on_gpu:
        row["peak_memory_mib"] = torch.cuda.max_memory_allocated() / 2**20
    return row


class Busy:
    """How long the device worked while the block ran, as its driver counts it ten times a second.

    share: 0..1; None where that cannot be had. why: of that, where there is a GPU.
    """

    def __init__(self, given: Given) -> None:
        self._given = given
        self._samples: list[float] = []
        self.why = ""
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    @property
    def share(self) -> float | None:
        """The mean of what was seen."""
        return sum(self._samples) / len(self._samples) if self._samples else None

    def __enter__(self) -> "Busy":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        if not self._given.on_gpu:
            return
        try:
            while not self._done.wait(SAMPLE_SECONDS):
                self._samples.append(torch.cuda.utilization() / 100)
        except Exception as error:  # the driver's library has errors of its own, and may be missing
            self.why = f"{type(error).__name__}: {error}"


def scores_of(result: RunResult, *, with_cpu: bool) -> list[dict[str, Any]]:
    """The mIoU of maps, masks and network by split, in per cent, beside the CPU's mean over seeds if there is one."""
    found: dict[tuple[str, str], float] = {}
    for one in result.rounds:
        for split, scores in one.scores.items():
            found[split, f"response maps: round {one.round_index}"] = scores.fixed["miou"]
    for masks in result.refined:
        for split, refined in masks.scores.items():
            for variant, scored in refined.variants.items():
                found[split, f"pseudo masks of round {masks.round_index}: {variant}"] = scored["miou"]
    for network in result.segmented:
        for split, by_variant in network.scores.items():
            for variant, scored in by_variant.items():
                found[split, f"segmentation network: {variant}"] = scored["miou"]
    on_cpu = read_summary(RESULTS / SMALL) if with_cpu else {}
    rows = []
    for (split, what), miou in found.items():
        row: dict[str, Any] = {"split": split, "what": what, "miou": 100 * miou}
        if split == "val" and what in on_cpu:
            summary = on_cpu[what]
            row |= {
                "cpu": float(summary["mIoU"]),
                "cpu_std": float(summary["std"] or "nan"),
                "cpu_seeds": int(summary["n"]),
            }
        rows.append(row)
    return rows


def _first(images: CheckedImages, count: int) -> CheckedImages:
    some = replace(images.image_set, records=images.image_set.records[:count])
    return replace(images, image_set=some, sizes=images.sizes[:count], digest=f"{images.digest}-first-{count}")
