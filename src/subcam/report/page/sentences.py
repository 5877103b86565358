"""The sentences of the page that depend on what a run has: what it was, what is shown of it, and what is not known."""

from collections.abc import Sequence
from pathlib import Path

from subcam.recipes import RECIPES
from subcam.report.gather.clusters import ParentClusters
from subcam.report.gather.images import Images
from subcam.report.gather.run import FinishedRun
from subcam.report.tables.tables import subcategories_text

_MOST_LISTED = 8
"""Names of classes in the first sentence."""


def what(run: FinishedRun) -> str:
    """What was run, on what."""
    settings, classes = run.result.settings, run.result.class_names
    listed = ", ".join(classes[:_MOST_LISTED])
    listed += f" and {len(classes) - _MOST_LISTED} more" if len(classes) > _MOST_LISTED else ""
    recipe = f"Recipe {run.result.recipe}" if run.result.recipe else "A run"
    data = "generated images" if settings.dataset.root == "toy" else Path(settings.dataset.root).name
    rounds = f"{settings.rounds} round{'' if settings.rounds == 1 else 's'} after round 0"
    return (
        f"{recipe} on {data or 'given images'}, learnt from image-level labels. {len(classes)} classes: {listed}. "
        f"{rounds}, {subcategories_text(settings)}, "
        f"network {settings.network.name}, seed {settings.seed}."
    )


def recipe_notes(run: FinishedRun) -> list[str]:
    """What the recipe says of itself: it tells which of its numbers were chosen with masks."""
    recipe = RECIPES.get(run.result.recipe)
    told = " ".join((recipe.__doc__ or "").replace("`", "").split()) if recipe else ""
    return [f"Recipe {run.result.recipe}: {told}"] if told else []


def gallery_note(images: Images, shown: int) -> str:
    """How many images are shown of how many, and how they were chosen."""
    if shown == images.total:
        return f"All {shown} images are here."
    told = "" if images.compared == images.total else f" Gain was computed for {images.compared} of them."
    if any(image.gain is not None for image in images.shown):
        chosen = "a third of the greatest gain, a third of the greatest loss, the others at equal distances"
    else:
        chosen = "at equal distances in the data set"
    return f"{shown} of {images.total} images: {chosen}.{told}"


def iou_note(has_truth: bool) -> str:
    """What the lines and numbers on a card mean."""
    outline = "White lines surround what is above the threshold."
    if not has_truth:
        return f"{outline} No image has a mask to compare with."
    return (
        f"{outline} IoU above each card: mean over the object classes of that image, at full size and the fixed "
        "threshold, plain CAM → last round. IoU below a map: the same at the sliders' round and threshold, on the "
        "thumbnail. A threshold that is best for one image was found by looking at its truth."
    )


def clusters_note(parents: Sequence[ParentClusters]) -> str:
    """What Figure 5 shows and what its numbers mean."""
    purity = (
        "Purity: the share of the most frequent true sub-type, which only this data set knows and no training saw."
        if any(parent.purity is not None for parent in parents)
        else "Nobody knows true sub-types of these images, so there is no purity."
    )
    return (
        "Figure 5 of the paper for this run: the clusters that the last round learnt from, each with the images "
        f"nearest to its centre, the nearest first. {purity} Silhouette: 1 where images are close to their own "
        "cluster and far from the next, 0 or less where clusters run into each other. “With”: the other label that "
        "stands out most in a cluster against the whole class."
    )


def finals_note(count: int, has_truth: bool) -> str:
    """Which images Figure 7 shows."""
    chosen = ": the best, the middle and the worst by IoU of the segmentation" if has_truth else ""
    return f"{count} of the images above{chosen}."


def cost_note(run: FinishedRun) -> str:
    """What the costs count and what they do not."""
    measured = any(cost.energy_joules is not None for cost in run.stages)
    return (
        "As each stage wrote it down when it ended, beside whatever else the machine did at the time. A stage that was "
        "cut off and taken up counts its last sitting only. Memory is the most that the process had held until then."
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
        entries.append(("last stage ended", max(cost.finished for cost in run.stages)))
    entries.append(("versions", ", ".join(f"{name} {version}" for name, version in run.versions.items())))
    return entries


def _threshold(setting: float | str) -> str:
    if isinstance(setting, str):
        return "chosen for each split from maps and colours, without masks"
    return f"{setting:g}, given before the run"
