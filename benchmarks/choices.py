"""Settings of the walk chosen by masks of some classes and scored on the others: what tuning on the scored is worth.

    python -m benchmarks.choices RUN [--data DIR] [--betas 4 8 12 16 24] [--choose-on train] [--score-on val]

The classes are halved both ways: settings are chosen on images of the first split that show classes of one half alone,
and scored on images of the second that show classes of the other alone. Three rows each: chosen there, chosen on the
scored images themselves (out of reach), and the run's own. What is chosen: beta, whether border cells keep all their
pairs, and the alpha of the background. Masks are those of the walk alone, at full size; nothing is trained.
"""

import argparse
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from subcam.affinity.network import AffinityNetwork
from subcam.affinity.pairs import pool_to_grid, upsample_from_grid
from subcam.affinity.random_walk import pixel_affinity, random_walk
from subcam.cam.map_files import maps_path, read_response_maps
from subcam.cam.map_grid import upsampled
from subcam.cam.response import likely_background
from subcam.data.dataset import Dataset
from subcam.data.images import read_image, read_mask
from subcam.data.records import ImageSet, Record
from subcam.errors import SubcamError
from subcam.metrics.confusion import confusion_matrix
from subcam.metrics.scores import scores
from subcam.networks.fast.copies import fused_for_inference
from subcam.refine.scores_and_masks import label_map
from subcam.results import FinishedRun, open_images, read_run
from subcam.runtime.progress import track
from subcam.runtime.run_folder import Stage
from subcam.stages.settings.random_walk import WalkSettings

OTHERS, THESE = "on the other classes", "on these images *"
"""What a choice was made on; the star says that it was by the masks that give the score."""

BETAS = (4.0, 8.0, 12.0, 16.0, 24.0)


class Choice(NamedTuple):
    """Settings that are chosen together."""

    beta: float
    all_pairs: bool
    alpha: float


Matrices = dict[Choice, np.ndarray]
"""Of each choice the confusion matrix of background and classes."""

Chosen = TypeVar("Chosen")


def halves(num_classes: int) -> Iterator[tuple[set[int], set[int]]]:
    """The first half of the classes and the rest, then the rest and the first half."""
    first = set(range(num_classes // 2))
    rest = set(range(num_classes)) - first
    yield from ((first, rest), (rest, first))


def walked_masks(
    record: Record, maps: Stage, network: torch.nn.Module, settings: WalkSettings, betas: Sequence[float]
) -> Iterator[tuple[Choice, np.ndarray]]:
    """The mask of each choice after the walk, at the size of the image."""
    stored = read_response_maps(maps_path(maps.path, record.name))
    pixels = torch.from_numpy(read_image(record.image)).permute(2, 0, 1)[None]
    with torch.inference_mode():
        features = network(pixels.contiguous(memory_format=torch.channels_last))[0].float()
    responses = upsampled(torch.from_numpy(stored.maps), stored.size)
    pooled = pool_to_grid(torch.cat([*(likely_background(responses, a)[None] for a in settings.alphas), responses]))
    count = len(settings.alphas)
    for all_pairs, beta in itertools.product((False, True), betas):
        affinity = pixel_affinity(features, radius=settings.radius, all_pairs=all_pairs)
        walked = random_walk(affinity, pooled, beta=beta, log_steps=settings.log_steps)
        full = upsample_from_grid(walked, size=stored.size).numpy()
        for place, alpha in enumerate(settings.alphas):
            shown = np.concatenate([full[place : place + 1], full[count:]])
            yield Choice(beta, all_pairs, alpha), label_map(shown, stored.classes)


def count(
    records: Iterable[Record],
    images: ImageSet,
    maps: Stage,
    network: torch.nn.Module,
    settings: WalkSettings,
    betas: Sequence[float],
) -> dict[frozenset[int], Matrices]:
    """The matrices of images, by the classes that they show."""
    size = images.num_classes + 1
    found: dict[frozenset[int], Matrices] = {}
    for record in records:
        assert record.mask is not None
        of_image = found.setdefault(frozenset(record.labels), {})
        truth: np.ndarray | None = None
        for choice, mask in walked_masks(record, maps, network, settings, betas):
            if truth is None:
                shape = (mask.shape[0], mask.shape[1])
                truth = read_mask(record.mask, images.mask_values, size=shape, turn=record.mask_turn)
            matrix = confusion_matrix(mask, truth, num_classes=size)
            of_image[choice] = of_image.get(choice, np.zeros((size, size), np.int64)) + matrix
    return found


def of_classes(found: Mapping[frozenset[int], Mapping[Chosen, np.ndarray]], classes: set[int]) -> dict[Chosen, float]:
    """MIoU of background and these classes for each choice, over the images that show none but these."""
    total: dict[Chosen, np.ndarray] = {}
    for shown, matrices in found.items():
        if shown and shown <= classes:
            for choice, matrix in matrices.items():
                total[choice] = total.get(choice, np.zeros_like(matrix)) + matrix
    rows = [0, *(c + 1 for c in sorted(classes))]
    return {choice: float(np.nanmean(scores(matrix).iou[rows])) for choice, matrix in total.items()}


def scored_images(dataset: Dataset, splits: Iterable[str]) -> dict[str, ImageSet]:
    """The images of these splits.

    Raises:
        SubcamError: one has no masks, or is none.
    """
    if missing := set(splits) - dataset.scored.keys():
        raise SubcamError(f"expected splits with masks, {' or '.join(dataset.scored)}, got {', '.join(missing)}")
    return {split: dataset.scored[split].image_set for split in dict.fromkeys(splits)}


def of_halves(
    found: Mapping[str, Mapping[frozenset[int], Mapping[Chosen, np.ndarray]]],
    names: Sequence[str],
    *,
    choose_on: str,
    score_on: str,
) -> Iterator[tuple[str, dict[Chosen, float], dict[Chosen, float]]]:
    """For each half that is scored its classes in words, each choice's score on the other half, and on this one.

    Raises:
        SubcamError: a split has no image of one half's classes alone.
    """
    for chosen_on, scored_on in halves(len(names)):
        elsewhere, here = of_classes(found[choose_on], chosen_on), of_classes(found[score_on], scored_on)
        for split, classes, of_split in ((choose_on, chosen_on, elsewhere), (score_on, scored_on, here)):
            if not of_split:
                raise SubcamError(f"{split}: no image shows only {_named(names, classes)}")
        yield _named(names, scored_on), elsewhere, here


def table_of(
    run: FinishedRun, *, betas: Sequence[float], choose_on: str, score_on: str, data: str = ""
) -> tuple[Table, dict[str, list[float]]]:
    """The table, and each of its rows' scores by what was chosen how: one for each half.

    Raises:
        SubcamError: the run has no walk; or as `scored_images` and `of_halves`.
    """
    result = run.result
    refined = result.refined[-1] if result.refined else None
    inputs = refined.masks.inputs if refined else {}
    if refined is None or not inputs.get("walked"):
        raise SubcamError(f"{result.out}: expected a run whose maps walked, got one without")
    walked, maps = stage_of(result.out, inputs["walked"]), stage_of(result.out, inputs["maps"])
    affinity = stage_of(result.out, walked.record["inputs"]["affinity"])
    network = fused_for_inference(AffinityNetwork.load(affinity.path)).to(memory_format=torch.channels_last)
    settings, made, dataset = result.settings.refine.walk, refined.made, open_images(run, data=data)
    found = {}
    for split, images in scored_images(dataset, (choose_on, score_on)).items():
        masked = [record for record in images.records if record.mask is not None]
        found[split] = count(track(masked, split, len(masked)), images, maps, network, settings, betas)
    own = Choice(settings.beta, settings.all_pairs, made.walk_alpha if made and made.walk_alpha else 0.0)
    names = result.class_names
    table = Table(title=f"The walk's settings, chosen on {choose_on}, scored on {score_on}", title_justify="left")
    for column in ("scored classes", "chosen", "beta", "all pairs", "alpha", "mIoU"):
        table.add_column(column)
    by_way: dict[str, list[float]] = {}
    for scored, elsewhere, here in of_halves(found, names, choose_on=choose_on, score_on=score_on):
        ways = {
            OTHERS: max(elsewhere, key=lambda choice: elsewhere[choice]),
            THESE: max(here, key=lambda choice: here[choice]),
            "as in the run": own,
        }
        for way, choice in ways.items():
            score = here[choice] if choice in here else float("nan")
            by_way.setdefault(way, []).append(score)
            numbers = (f"{choice.beta:g}", "yes" if choice.all_pairs else "no", f"{choice.alpha:g}")
            table.add_row(scored, way, *numbers, f"{100 * score:.1f}")
    return table, by_way


def stage_of(out: Path, key: object) -> Stage:
    """The stage with this key in a run's folder."""
    path = next(iter((out / "stages").glob(f"*-{str(key)[:10]}")), None)
    if path is None:
        raise SubcamError(f"{out}: the stage {str(key)[:10]} is no longer there; run it again")
    return Stage(name=path.name, key=str(key), path=path)


def _named(names: Sequence[str], classes: set[int]) -> str:
    return ", ".join(names[c] for c in sorted(classes))


def main() -> None:
    """Print the table of one run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--data", default="", help="where the run's images are now, if they have moved")
    parser.add_argument("--betas", type=float, nargs="+", default=BETAS)
    parser.add_argument("--choose-on", default="train")
    parser.add_argument("--score-on", default="val")
    given = parser.parse_args()
    table, by_way = table_of(
        read_run(given.run), betas=given.betas, choose_on=given.choose_on, score_on=given.score_on, data=given.data
    )
    Console().print(table)
    print({way: f"{100 * float(np.mean(found)):.1f}" for way, found in by_way.items()}, "in the mean")


if __name__ == "__main__":
    main()
