"""The stages that choose without masks.

Exponents of the background score, from response maps and from walked ones, and limits of confident positions.
"""

import numpy as np

from subcam.cam.map_files import maps_path, read_response_maps
from subcam.cam.threshold import looked_at, threshold_of_maps
from subcam.data.check import CheckedImages
from subcam.refine.alphas import AlphaOfWalk, AlphasOfMaps, alpha_of_area
from subcam.refine.walked_maps import read_walked, walked_path
from subcam.runtime import distributed
from subcam.runtime.progress import say, track
from subcam.runtime.run_folder import Stage

VERSION = 1
"""Of what these stages compute; raise it when that changes."""


def run(stage: Stage, *, images: CheckedImages, maps: Stage) -> None:
    """Write the `AlphasOfMaps` of the images' response maps. The first process chooses; the others wait for it.

    Raises:
        SettingsError: no image has a class.
        BadInputError: an image or its maps cannot be read; names the file.
    """
    found = _finish_with(stage, images, maps)
    if found:
        say(f"{stage.name}: threshold {found.threshold:g}, alpha {found.crf:.3g}, chosen without masks")


def run_limits(stage: Stage, *, images: CheckedImages, maps: Stage) -> None:
    """The same for what tells confident positions: the stage's record is of the same kind, and its limits count."""
    found = _finish_with(stage, images, maps)
    if found:
        limits = f"objects above {found.object_above:.3g}, context below {found.context_below:.3g}"
        say(f"{stage.name}: threshold {found.threshold:g}, {limits}, chosen without masks")


def run_of_walk(stage: Stage, *, images: CheckedImages, walked: Stage, alphas: Stage) -> None:
    """Write the `AlphaOfWalk` of the images' walked maps, likewise; `alphas` is the stage of the maps before the walk.

    Raises:
        BadInputError: walked maps cannot be read; names the file.
    """
    found = _of_walk(images, walked, alphas, title=stage.name) if distributed.is_first() else None
    stage.finish(vars(found) if found else None)
    if found:
        say(f"{stage.name}: alpha {found.alpha:g} after the walk, chosen without masks")


def _finish_with(stage: Stage, images: CheckedImages, maps: Stage) -> AlphasOfMaps | None:
    """Write what the maps say, and return it in the first process."""
    found = _of_maps(images, maps) if distributed.is_first() else None
    stage.finish(vars(found) if found else None)
    return found


def _of_maps(images: CheckedImages, maps: Stage) -> AlphasOfMaps:
    image_set = images.image_set
    threshold = threshold_of_maps(image_set.records, maps.path, num_classes=image_set.num_classes).threshold
    areas = []
    for record in looked_at(image_set.records):
        responses = read_response_maps(maps_path(maps.path, record.name)).maps.max(0)
        areas.append(float((responses > 255 * threshold).mean()))
    return AlphasOfMaps(threshold=threshold, area=float(np.mean(areas)), images=len(areas))


def _of_walk(images: CheckedImages, walked: Stage, alphas: Stage, *, title: str) -> AlphaOfWalk:
    records = looked_at(images.image_set.records)
    walks = (read_walked(walked_path(walked.path, record.name)) for record in track(records, title, len(records)))
    by_alpha: dict[float, list[float]] = {}
    for walk in walks:
        best = walk.maps.max(0)
        for alpha, background in zip(walk.alphas, walk.backgrounds, strict=True):
            by_alpha.setdefault(alpha, []).append(float((best > background).mean()))
    areas = {alpha: float(np.mean(shares)) for alpha, shares in by_alpha.items()}
    chosen = alpha_of_area(list(areas), list(areas.values()), alphas.outputs_as(AlphasOfMaps).area)
    return AlphaOfWalk(alpha=chosen, alphas=tuple(areas), areas=tuple(areas.values()))
