"""The stage that turns scores into pseudo masks: indexed PNGs, by variant, with an ignore region where asked."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from subcam.cam.map_files import maps_path, read_response_maps
from subcam.crf.dense_crf import CRFSettings
from subcam.data.images import voc_palette, write_mask
from subcam.data.records import ImageSet, Record
from subcam.errors import SettingsError
from subcam.refine.crf_scores import crf_of, scores_with_background
from subcam.refine.label_map import VARIANTS, Variant, label_map, mask_path
from subcam.refine.walked_maps import read_walked, walked_path
from subcam.runtime.devices import MachineSettings
from subcam.runtime.parallel import for_each
from subcam.runtime.run_folder import Stage


@dataclass(frozen=True, kw_only=True)
class MaskSettings:
    """Settings of pseudo masks.

    Attributes:
        pseudo_mask: which masks the segmentation network is to learn from.
        crf_alpha: exponent of the background score when response maps go straight into the CRF.
        walk_alpha: exponent of the background score that walked along; one of the walk's alphas; psa: 16.
        ignore_margin: a pixel whose two best scores differ by less becomes 255 (not learned from); 0 ignores none.
        crf: the dense CRF.
    """

    pseudo_mask: Variant = "walk-crf"
    crf_alpha: float = 4.0
    walk_alpha: float = 16.0
    ignore_margin: float = 0.0
    crf: CRFSettings = field(default_factory=CRFSettings)


@dataclass(frozen=True, kw_only=True)
class MaskInputs:
    """maps, walked: folders of the stages that wrote them. compared: names of the images that get all variants."""

    image_set: ImageSet
    maps: Path
    walked: Path
    compared: frozenset[str] = frozenset()


def run(settings: MaskSettings, inputs: MaskInputs, *, stage: Stage, machine: MachineSettings) -> Path:
    """Write the masks of every image and return the stage's folder."""
    if stage.done:
        return stage.path

    def wanted(record: Record) -> tuple[Variant, ...]:
        return VARIANTS if record.name in inputs.compared else (settings.pseudo_mask,)

    def one(record: Record) -> None:
        for variant in wanted(record):
            scores, classes = _scores(variant, record, settings, inputs)
            labels = label_map(scores, classes, ignore_margin=settings.ignore_margin)
            write_mask(mask_path(stage.path, variant, record.name), labels, palette=voc_palette(), durable=False)

    for_each(
        one,
        inputs.image_set.records,
        title=stage.name,
        machine=machine,
        done=lambda record: all(mask_path(stage.path, v, record.name).is_file() for v in wanted(record)),
    )
    stage.finish({"images": len(inputs.image_set), "pseudo_mask": settings.pseudo_mask})
    return stage.path


def _scores(
    variant: Variant, record: Record, settings: MaskSettings, inputs: MaskInputs
) -> tuple[np.ndarray, np.ndarray]:
    """Scores of background and present classes at full size, and those classes."""
    if variant == "crf":
        maps = read_response_maps(maps_path(inputs.maps, record.name))
        scores, classes = scores_with_background(maps, alpha=settings.crf_alpha), maps.classes
    else:
        walked = read_walked(walked_path(inputs.walked, record.name))
        if settings.walk_alpha not in walked.alphas:
            raise SettingsError(f"walk_alpha {settings.walk_alpha} is none of the walk's alphas {walked.alphas}")
        scores, classes = walked.scores(settings.walk_alpha), walked.classes
    if variant in ("crf", "walk-crf"):
        scores = crf_of(record, [scores], settings.crf)[0]
    return scores, classes
