"""The sentences of the page that depend on the run: what was run, which images are shown, what the numbers mean."""

import re
from collections.abc import Sequence
from pathlib import Path

from subcam.recipes import RECIPES
from subcam.report.gather.clusters import ParentClusters
from subcam.report.gather.images import ImageRecord, Images
from subcam.report.tables.tables import subcategories_text
from subcam.results import FinishedRun
from subcam.settings import QUICK_LOOK

_MOST_LISTED = 8
"""Most names of classes in the first sentence."""


def what(run: FinishedRun) -> str:
    """The recipe, the data, the classes and the main settings."""
    settings, classes = run.result.settings, run.result.class_names
    listed = ", ".join(classes[:_MOST_LISTED])
    listed += f" and {len(classes) - _MOST_LISTED} more" if len(classes) > _MOST_LISTED else ""
    recipe = f"Recipe {run.result.recipe}" if run.result.recipe else "A run"
    data = "generated images" if settings.dataset.root == "toy" else Path(settings.dataset.root).name
    last = settings.last_round
    rounds = f"Rounds 0 to {last}; {subcategories_text(settings)}" if last else "Round 0 only"
    if not run.rounds:
        rounds = f"Masks of another program: {Path(settings.given_masks.folder).name}"
    elif run.rounds[0].given:
        rounds = f"Response maps of another program: {Path(settings.given_maps.folder).name}"
    return (
        f"{recipe} on {data or 'images given from Python'}, trained with image-level labels. "
        f"{len(classes)} classes: {listed}. {rounds}; network {settings.network.name}; seed {settings.seed}."
    )


def recipe_notes(run: FinishedRun) -> list[str]:
    """Whether it was a quick look; the recipe's own description, which says which settings were chosen with masks.

    Without its command, time and score, which are of other images.
    """
    quick = [f"A {QUICK_LOOK}."] if run.result.settings.quick else []
    recipe = RECIPES.get(run.result.recipe)
    description = " ".join((recipe.__doc__ or "").replace("`", "").split()) if recipe else ""
    description = description.partition(" Command: ")[0]
    return [*quick, *([f"Recipe {run.result.recipe}: {description}"] if description else [])]


def mask_word(name: str) -> str:
    """A mask's name as short as under a small image: pseudo mask, given mask, segmentation."""
    return re.split(r" of |,| trained", name)[0]


def mask_note(published: str) -> str:
    """Which masks the column shows at first; "" where the run has none.

    published: the name of the masks in the run's folder `masks`.
    """
    if not published:
        return ""
    files = f"the files of the run's folder masks ({published})"
    return f"At first, the column of masks shows {files}: confidence ranks these, and these are exported."


def firsts_note(images: Sequence[ImageRecord], mask: str, published: str) -> str:
    """Which images the page begins with, and why; which mask they have.

    mask: the name of the mask that is shown. published: of those in the run's folder `masks`.
    """
    by = "evenly spaced"
    thirds = "one each from the best, the middle and the worst third by"
    if any(image.last_iou is not None for image in images):
        by = f"{thirds} the IoU of the response maps"
    elif any(image.confidence is not None for image in images):
        by = f"{thirds} the confidence of their masks"
    whose = f" the file in the run's folder masks ({mask})" if published and mask == published else f" “{mask}”"
    return f"Of the images below, {by}" + (f". The {mask_word(mask)} is{whose}." if mask else ".")


def gallery_note(images: Images, shown: int) -> str:
    """How many of the images are on the page, and how they were chosen; "" if it has all."""
    if shown == images.total:
        return ""
    compared = "" if images.compared == images.total else f" The gain was computed for {images.compared} of them."
    chosen = "evenly spaced in the data set"
    if any(image.gain is not None for image in images.shown):
        chosen = f"a third with the greatest gain, a third with the greatest loss, the rest {chosen}"
    return f"This page has {shown} of {images.total} images: {chosen}.{compared}"


def iou_note(has_truth: bool) -> str:
    """The meaning of the lines and numbers on a card."""
    outline = "White lines surround the regions above the threshold."
    if not has_truth:
        return f"{outline} No image has ground truth to compare with."
    return (
        f"{outline} The IoU at the top of a card is the mean over the object classes of that image, at full size and "
        "the fixed threshold: plain CAM → last round. The IoU below a map is computed on the thumbnail, for the round "
        "and threshold of the sliders. Choosing the best threshold for an image takes its ground truth."
    )


def disagreement_note(images: Sequence[ImageRecord]) -> str:
    """Between which two predictions the disagreement is; empty without any."""
    pairs = dict.fromkeys(image.disagreeing for image in images if image.disagreement is not None)
    between = "; ".join(f"{first} and {second}" for first, second in pairs)
    share = "of the pixels that either calls an object, the share on which they differ"
    return f"Disagreement, 0 to 1, needs no ground truth: {share}. Between {between}." if pairs else ""


def clusters_note(parents: Sequence[ParentClusters]) -> str:
    """What Figure 5 shows, and the meaning of its numbers."""
    purity = (
        "Purity: the share of the most frequent true sub-type. This data set records it; training does not use it."
        if any(parent.purity is not None for parent in parents)
        else "The true sub-types of these images are not known, so there is no purity."
    )
    return (
        "Figure 5 of the paper for this run: the clusters that the last round was trained on, each with the images "
        f"nearest to its centre, nearest first. {purity} Silhouette: 1 where images are close to their own cluster "
        "and far from the next, 0 or less where clusters overlap. “With”: the other label that is most "
        "over-represented in the cluster, compared with the whole class."
    )


def finals_note(count: int, chosen_by_iou: bool) -> str:
    """Which images Figure 7 shows."""
    chosen = ": those with the highest, middle and lowest IoU of the segmentation" if chosen_by_iou else ""
    return f"{count} of the images above{chosen}."


def cost_note(run: FinishedRun) -> str:
    """What the costs include, and what they do not."""
    measured = any(cost.energy_joules is not None for cost in run.stages)
    return (
        "As each stage recorded it at its end; other programs may have shared the machine. A stage that was "
        "interrupted counts only from where it was last resumed. Memory is the peak of the process up to then."
        + ("" if measured else " Energy was not measured.")
    )


def about(run: FinishedRun) -> list[tuple[str, str]]:
    """Recipe, seed, images, threshold, dates and versions."""
    result = run.result
    entries = [
        ("recipe", result.recipe or "not recorded"),
        ("seed", str(result.settings.seed)),
        ("images", result.settings.dataset.root or "given from Python"),
        ("background threshold", _threshold(result.settings.evaluate.background_threshold)),
    ]
    if run.stages:
        entries.append(("last stage finished", max(cost.finished for cost in run.stages)))
    entries.append(("versions", ", ".join(f"{name} {version}" for name, version in run.versions.items())))
    return entries


def _threshold(setting: float | str) -> str:
    if isinstance(setting, str):
        return "chosen for each split from maps and colours, without masks"
    return f"{setting:g}, given before the run"
