"""The stage that turns scores into pseudo masks: indexed PNGs, by variant, with an ignore region where asked."""

import numpy as np

from subcam.cam.map_files import maps_path, read_response_maps
from subcam.data.check import CheckedImages
from subcam.data.images import voc_palette, write_mask
from subcam.data.readers.class_names import write_legend
from subcam.data.records import Record
from subcam.errors import SettingsError
from subcam.refine.alphas import AlphaOfWalk, AlphasOfMaps, MadeMasks, settled
from subcam.refine.scores_and_masks import crf_of, forget_lattices, label_map, mask_path, scores_with_background
from subcam.refine.variants import VARIANTS, Variant
from subcam.refine.walked_maps import read_walked, walked_path
from subcam.runtime import distributed
from subcam.runtime.devices import Device
from subcam.runtime.parallel import for_each
from subcam.runtime.run_folder import Stage
from subcam.stages.settings.pseudo_masks import MaskSettings

VERSION = 1
"""Of what this stage computes; raise it when that changes."""


def run(
    stage: Stage,
    *,
    settings: MaskSettings,
    images: CheckedImages,
    maps: Stage,
    walked: Stage | None,
    scored: tuple[CheckedImages, ...],
    device: Device,
    alphas: Stage | None = None,
    walk_alpha: Stage | None = None,
) -> None:
    """Write the masks of every image; those that are `scored` get all variants, of which `walked` None leaves one.

    alphas, walk_alpha: the stages that chose those that are "auto" in the settings.
    """
    before_crf = settled(settings.crf_alpha, alphas.outputs_as(AlphasOfMaps).crf if alphas else None)
    after_walk = None
    if walked:
        after_walk = settled(settings.walk_alpha, walk_alpha.outputs_as(AlphaOfWalk).alpha if walk_alpha else None)
    made = MadeMasks(
        images=len(images.image_set), pseudo_mask=settings.pseudo_mask, crf_alpha=before_crf, walk_alpha=after_walk
    )
    all_variants = VARIANTS if walked else (settings.pseudo_mask,)
    if distributed.is_first():
        for variant in all_variants if scored else (settings.pseudo_mask,):
            write_legend(stage.path / variant, images.image_set.class_names)
    compared = {record.name for split in scored for record in split.image_set.records}

    def variants(record: Record) -> tuple[Variant, ...]:
        return all_variants if record.name in compared else (settings.pseudo_mask,)

    def one(record: Record) -> None:
        wanted = variants(record)
        found = {variant: _before_crf(variant, record, made, maps=maps, walked=walked) for variant in wanted}
        # One lattice for all of them.
        sharpened = [variant for variant in wanted if variant != "walk"]
        sets = [found[variant][0] for variant in sharpened]
        marginals = crf_of(record, sets, settings.crf, device.of_crf) if sets else []
        by_variant = dict(zip(sharpened, marginals, strict=True))
        for variant, (scores, classes) in found.items():
            labels = label_map(by_variant.get(variant, scores), classes, ignore_margin=settings.ignore_margin)
            write_mask(mask_path(stage.path, variant, record.name), labels, palette=voc_palette(), durable=False)

    for_each(
        one,
        images.image_set.records,
        title=stage.name,
        machine=device.machine,
        done=lambda record: all(mask_path(stage.path, v, record.name).is_file() for v in variants(record)),
    )
    forget_lattices()
    stage.finish(vars(made))


def _before_crf(
    variant: Variant, record: Record, made: MadeMasks, *, maps: Stage, walked: Stage | None
) -> tuple[np.ndarray, np.ndarray]:
    """Scores of background and present classes at full size, and those classes."""
    if variant == "crf" or walked is None or made.walk_alpha is None:
        responses = read_response_maps(maps_path(maps.path, record.name))
        return scores_with_background(responses, alpha=made.crf_alpha), responses.classes
    after = read_walked(walked_path(walked.path, record.name))
    if made.walk_alpha not in after.alphas:
        raise SettingsError(f"walk_alpha {made.walk_alpha} is none of the walk's alphas {after.alphas}")
    return after.scores(made.walk_alpha), after.classes
