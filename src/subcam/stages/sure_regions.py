"""The stage that sharpens response maps by the dense CRF, under a weak and a strong background (Section 3.3, [1]).

Its marginals say which pixels are surely object or surely background: what AffinityNet learns from.
"""

from dataclasses import dataclass, field
from pathlib import Path

from subcam.affinity.marginals import CRFMarginals, as_bytes, marginals_path, write_marginals
from subcam.cam.map_files import maps_path, read_response_maps
from subcam.crf.dense_crf import CRFSettings
from subcam.data.records import ImageSet, Record
from subcam.refine.crf_scores import crf_of, scores_with_background
from subcam.runtime.devices import MachineSettings
from subcam.runtime.parallel import for_each
from subcam.runtime.run_folder import Stage


@dataclass(frozen=True, kw_only=True)
class SureRegionSettings:
    """Settings of the regions that AffinityNet takes for sure.

    Attributes:
        low_alpha: exponent of the background score (1 - max)^alpha for sure objects; small: much background.
        high_alpha: the same for sure background; large: little background. psa's paper has 24, its code 32.
        crf: the dense CRF.
    """

    low_alpha: float = 4.0
    high_alpha: float = 32.0
    crf: CRFSettings = field(default_factory=CRFSettings)


@dataclass(frozen=True, kw_only=True)
class SureRegionInputs:
    """maps: folder of the stage that wrote the response maps."""

    image_set: ImageSet
    maps: Path


def run(settings: SureRegionSettings, inputs: SureRegionInputs, *, stage: Stage, machine: MachineSettings) -> Path:
    """Write the marginals of every image and return the stage's folder."""
    if stage.done:
        return stage.path

    def one(record: Record) -> None:
        maps = read_response_maps(maps_path(inputs.maps, record.name))
        scores = [scores_with_background(maps, alpha=alpha) for alpha in (settings.low_alpha, settings.high_alpha)]
        low, high = crf_of(record, scores, settings.crf)
        marginals = CRFMarginals(low_alpha=as_bytes(low), high_alpha=as_bytes(high))
        write_marginals(marginals_path(stage.path, record.name), marginals)

    records = inputs.image_set.records
    for_each(
        one,
        records,
        title=stage.name,
        machine=machine,
        done=lambda record: marginals_path(stage.path, record.name).is_file(),
    )
    stage.finish({"images": len(records)})
    return stage.path
