"""The stage that sharpens response maps by the dense CRF, under a weak and a strong background (Section 3.3, [1]).

Its marginals say which pixels are surely object or surely background: what AffinityNet learns from.
"""

from subcam.affinity.marginals import CRFMarginals, as_bytes, marginals_path, write_marginals
from subcam.cam.map_files import maps_path, read_response_maps
from subcam.data.check import CheckedImages
from subcam.data.records import Record
from subcam.refine.alphas import AlphasOfMaps, settled
from subcam.refine.scores_and_masks import crf_of, forget_lattices, scores_with_background
from subcam.runtime.devices import Device
from subcam.runtime.parallel import for_each
from subcam.runtime.run_folder import Stage
from subcam.stages.settings.sure_regions import SureRegionSettings

VERSION = 1
"""Of what this stage computes; raise it when that changes."""


def run(
    stage: Stage,
    *,
    settings: SureRegionSettings,
    images: CheckedImages,
    maps: Stage,
    device: Device,
    alphas: Stage | None = None,
) -> None:
    """Write the marginals of every image.

    alphas: the stage that chose those that are "auto" in the settings.
    """
    chosen = alphas.outputs_as(AlphasOfMaps) if alphas else None
    low_alpha = settled(settings.low_alpha, chosen.low if chosen else None)
    high_alpha = settled(settings.high_alpha, chosen.high if chosen else None)

    def one(record: Record) -> None:
        responses = read_response_maps(maps_path(maps.path, record.name))
        scores = [scores_with_background(responses, alpha=alpha) for alpha in (low_alpha, high_alpha)]
        low, high = crf_of(record, scores, settings.crf, device.of_crf)
        marginals = CRFMarginals(low_alpha=as_bytes(low), high_alpha=as_bytes(high))
        write_marginals(marginals_path(stage.path, record.name), marginals)

    records = images.image_set.records
    for_each(
        one,
        records,
        title=stage.name,
        machine=device.machine,
        done=lambda record: marginals_path(stage.path, record.name).is_file(),
    )
    forget_lattices()
    stage.finish({"images": len(records), "low_alpha": low_alpha, "high_alpha": high_alpha})
