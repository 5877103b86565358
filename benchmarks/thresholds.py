"""How far thresholds that are chosen without masks stay behind the best one, which masks chose, on the maps of a run.

Usage: python benchmarks/thresholds.py --run runs/mine --data DIR --dataset.classes cat cow ...

Rules, each giving one threshold for a split unless it says otherwise:
  auto       subcam's: (mean share of response variance explained) x (mean share of colour variance explained)^2
  by class   the same for each class
  product    the same without the square
  Otsu       share of response variance alone, mean over images; "pooled": of all pixels of all images at once
  colour     share of colour variance alone
  contours   mean difference of colours across the contour
  CRF        agreement (Cohen's kappa) of the thresholded maps with themselves after the dense CRF (--crf-images)
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import tyro
from rich.console import Console
from rich.table import Table

from subcam.cam.map_files import maps_path, read_response_maps
from subcam.cam.threshold import (
    THRESHOLDS,
    SplitShares,
    alpha_of_threshold,
    cell_colours,
    choose_threshold,
    explained_share,
    split_shares,
)
from subcam.crf.dense_crf import dense_crf_many
from subcam.crf.settings import CRFSettings
from subcam.data.dataset import open_dataset
from subcam.data.images import read_image, read_mask
from subcam.data.records import ImageSet
from subcam.data.settings import DatasetSettings
from subcam.metrics.threshold_sweep import ThresholdSweep
from subcam.runtime.files import read_json

FIXED = (0.15, 0.2, 0.35)
DEEPLAB = CRFSettings(
    spatial_sigma=1.0, spatial_weight=3.0, bilateral_sigma_xy=67.0, bilateral_sigma_rgb=3.0, bilateral_weight=4.0
)


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """run: folder of a finished run. work: where the record of checked files is kept."""

    run: Path
    dataset: DatasetSettings
    crf_images: int = 0
    work: Path = Path("runs/benchmark")


@dataclass(frozen=True, kw_only=True)
class Image:
    """What the rules look at: the strongest response and mean colours on the grid of the maps, and their shares."""

    response: np.ndarray
    colours: np.ndarray
    shares: SplitShares


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Images for the rules, and what masks say."""

    images: tuple[Image, ...]
    sweep: ThresholdSweep
    num_classes: int


def measure(image_set: ImageSet, folder: Path) -> Measured:
    """Look at each image and its maps, stored in `folder`, once."""
    sweep = ThresholdSweep(image_set.num_classes + 1)
    images = []
    for record in image_set.records:
        if record.mask is None:
            continue
        found = read_response_maps(maps_path(folder, record.name))
        sweep.add(found.full_size(), found.classes, read_mask(record.mask, image_set.mask_values, size=found.size))
        if record.labels:
            response = found.maps.max(0).astype(np.float32) / 255
            colours = cell_colours(read_image(record.image), grid=response.shape)
            shares = split_shares(response, colours, classes=record.labels)
            images.append(Image(response=response, colours=colours, shares=shares))
    return Measured(images=tuple(images), sweep=sweep, num_classes=image_set.num_classes)


def contour_contrast(images: Sequence[Image]) -> np.ndarray:
    """At each threshold, colour difference of neighbouring cells across the contour over that of all neighbours."""
    across, count = np.zeros(len(THRESHOLDS) + 1), np.zeros(len(THRESHOLDS) + 1)
    for image in images:
        level = np.searchsorted(THRESHOLDS, image.response, side="left")
        pairs = []
        for axis in (0, 1):
            difference = np.linalg.norm(np.diff(image.colours, axis=axis), axis=-1).ravel()
            ends = [np.delete(level, end, axis).ravel() for end in (-1, 0)]
            pairs.append(np.stack([difference, np.minimum(*ends), np.maximum(*ends)]))
        difference, low, high = np.concatenate(pairs, 1)
        difference = difference / max(difference.mean(), 1e-9)
        for total, weights in ((across, difference), (count, np.ones_like(difference))):
            # The contour at threshold i runs between two cells where low <= i < high.
            total += np.bincount(low.astype(int), weights, len(total)) - np.bincount(
                high.astype(int), weights, len(total)
            )
    return across.cumsum()[:-1] / np.maximum(count.cumsum()[:-1], 1)


def crf_agreement(images: Sequence[Image], *, thresholds: np.ndarray) -> np.ndarray:
    """Mean Cohen's kappa of mask(t) and its refinement, on the grid of the maps."""
    kappas = []
    for image in images:
        masks = [image.response > threshold for threshold in thresholds]
        scores = [np.stack([np.where(mask, 0.1, 0.9), np.where(mask, 0.9, 0.1)]).astype(np.float32) for mask in masks]
        refined = dense_crf_many(image.colours.round().astype(np.uint8), scores, settings=DEEPLAB)
        row = []
        for mask, (background, front) in zip(masks, refined, strict=True):
            after = front > background
            chance = mask.mean() * after.mean() + (1 - mask.mean()) * (1 - after.mean())
            row.append(((mask == after).mean() - chance) / max(1 - chance, 1e-9))
        kappas.append(row)
    return np.mean(kappas, 0)


def rules(measured: Measured, *, crf_images: int) -> dict[str, tuple[str, float]]:
    """For each rule what it chose and the mIoU that it gives, in per cent."""
    images, sweep = measured.images, measured.sweep
    shares = [image.shares for image in images]
    response, colour = (np.mean([getattr(each, name) for each in shares], 0) for name in ("response", "colour"))
    pooled = np.concatenate([image.response.ravel() for image in images])
    level = np.searchsorted(THRESHOLDS, pooled, side="left")
    chosen = choose_threshold(shares, num_classes=measured.num_classes)
    curve = 100 * sweep.curve()
    thresholds = {
        "auto": chosen.threshold,
        "product": THRESHOLDS[(response * colour).argmax()],
        "Otsu": THRESHOLDS[response.argmax()],
        "Otsu pooled": THRESHOLDS[explained_share(pooled[:, None], level, num_thresholds=len(THRESHOLDS)).argmax()],
        "colour": THRESHOLDS[colour.argmax()],
        "contours": THRESHOLDS[contour_contrast(images).argmax()],
        **{f"fixed {threshold:g}": threshold for threshold in FIXED},
    }
    if crf_images:
        grid = np.arange(2, 17) / 20
        some = images[:: max(1, len(images) // crf_images)]
        thresholds["CRF"] = grid[crf_agreement(some, thresholds=grid).argmax()]
    found = {name: (f"{t:.2f}", float(curve[np.abs(THRESHOLDS - t).argmin()])) for name, t in thresholds.items()}
    low, high = min(chosen.by_class), max(chosen.by_class)
    found["by class"] = (f"{low:.2f}-{high:.2f}", 100 * sweep.at_classes(chosen.by_class).miou)
    found["best *"] = (f"{THRESHOLDS[np.nanargmax(curve)]:.2f}", float(np.nanmax(curve)))
    return found


def main() -> None:
    arguments = tyro.cli(Arguments)
    torch.set_num_threads(1)
    dataset = open_dataset(arguments.dataset, work_folder=arguments.work)
    run = read_json(arguments.run / "run.json")
    console = Console(width=200)
    table = Table(title="mIoU minus that of the best threshold (per cent), what was chosen in brackets")
    columns: list[str] = []
    for found in run["rounds"]:
        folder = arguments.run / found["maps"]
        for split, images in dataset.scored.items():
            measured = measure(images.image_set, folder)
            row = rules(measured, crf_images=arguments.crf_images)
            if not columns:
                columns = [name for name in row if name != "best *"]
                for column in ("split", "round", "best *", *columns):
                    table.add_column(column)
            at, best = row["best *"]
            title = f"{found['round']}{' control' if found['control'] else ''}"
            losses = (f"{row[name][1] - best:+.2f} ({row[name][0]})" for name in columns)
            table.add_row(split, title, f"{best:.2f} ({at})", *losses)
    console.print(table)
    for found in run["refined"]:
        maps = next(r for r in run["rounds"] if r["round"] == found["round"] and not r["control"])
        for split, scores in found["scores"].items():
            choice = maps["scores"][split].get("choice")
            if choice:
                alphas, curve = np.array(scores["alphas"]), 100 * np.array(scores["walk_curve"])
                alpha = alpha_of_threshold(choice["threshold"])
                near = int(np.abs(np.log(alphas / alpha)).argmin())
                loss = curve[near] - curve.max()
                console.print(
                    f"round {found['round']} {split}: walk at alpha {alphas[near]:g} of the threshold {loss:+.2f}"
                )


if __name__ == "__main__":
    main()
