"""`subcam.refine`: one image's pseudo mask from its response maps, by the dense CRF and a random walk (Section 3.3)."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Float32, UInt8

from subcam.affinity.grid import RADIUS, Radius, WalkExponent
from subcam.affinity.network import AffinityNetwork
from subcam.affinity.pairs import pool_to_grid, upsample_from_grid
from subcam.affinity.random_walk import pixel_affinity, random_walk
from subcam.cam.response import background_score, likely_background
from subcam.checks.arguments import takes_arrays
from subcam.checks.fields import Count, Exponent, Share
from subcam.crf.dense_crf import dense_crf_many
from subcam.crf.settings import CRFSettings
from subcam.data.images import read_image
from subcam.refine.scores_and_masks import label_map

AFFINITYNETS_CRF = CRFSettings()


@dataclass(frozen=True, kw_only=True, eq=False)
class Refined:
    """What refinement makes of one image's maps.

    mask: 0 background, i + 1 map i, 255 where the best two are too close.
    scores: of background and each map; after the CRF they sum to 1 at each pixel.
    """

    mask: UInt8[np.ndarray, "height width"]
    scores: Float32[np.ndarray, "channels height width"]


@takes_arrays(may_be_empty=("maps",))
def refine(
    image: UInt8[np.ndarray, "height width 3"] | Path | str,
    maps: Float[np.ndarray, "classes h w"],
    *,
    affinity: AffinityNetwork | Path | str | None = None,
    crf: CRFSettings | None = AFFINITYNETS_CRF,
    crf_alpha: Exponent = 4.0,
    walk_alpha: WalkExponent = 16.0,
    beta: WalkExponent = 8.0,
    log_steps: Count = 8,
    radius: Radius = RADIUS,
    ignore_margin: Share = 0.0,
) -> Refined:
    """The pseudo mask of one image from its response maps, as a run makes it.

    Args:
        image: RGB 0..255, or a file.
        maps: responses in 0..1 of the classes that are in the image, on any grid; they are brought to its size.
        affinity: an AffinityNet whose affinities the maps walk by; or the folder of one, or of a run that trained one.
            Load it once for many images: `AffinityNetwork.load(folder)`. None lets nothing walk.
        crf: the dense CRF; None leaves it out.
        crf_alpha: exponent of the background score (1 - max)^alpha where maps go straight into the CRF.
        walk_alpha: exponent of the background score that walks along.
        beta: exponent of the affinities.
        log_steps: the walk takes 2^log_steps steps.
        radius: cells at stride 8 within which affinities count.
        ignore_margin: a pixel whose two best scores differ by less becomes 255.

    Raises:
        ValueError: a response outside 0..1.
        BadInputError: the image cannot be read.
        CheckpointError: there is no AffinityNet, or it is damaged.
    """
    pixels = read_image(image) if isinstance(image, Path | str) else image
    size = (pixels.shape[0], pixels.shape[1])
    small = torch.from_numpy(np.ascontiguousarray(maps, np.float32))
    background_score(small, 1.0)  # refuses what is no response
    full = small.new_zeros((0, *size))
    if len(small):
        full = F.interpolate(small[None], size=size, mode="bicubic", align_corners=False)[0].clamp_(0, 1)
    if affinity is None:
        scores = torch.cat([likely_background(full, crf_alpha)[None], full]).numpy()
    else:
        network = affinity if isinstance(affinity, AffinityNetwork) else _loaded(Path(affinity))
        where = next(network.parameters()).device
        with torch.inference_mode():
            batch = torch.from_numpy(pixels).permute(2, 0, 1)[None].to(where)
            features = network.eval()(batch.contiguous(memory_format=torch.channels_last))[0].float().cpu()
        pooled = pool_to_grid(torch.cat([likely_background(full, walk_alpha)[None], full]))
        pairs = pixel_affinity(features, radius=radius)
        # In half precision, as the files of a run keep them.
        walked = random_walk(pairs, pooled, beta=beta, log_steps=log_steps).half().float()
        scores = upsample_from_grid(walked, size=size).numpy()
    if crf is not None:
        scores = dense_crf_many(pixels, [scores], settings=crf)[0]
    return Refined(mask=label_map(scores, np.arange(len(maps)), ignore_margin=ignore_margin), scores=scores)


def _loaded(folder: Path) -> AffinityNetwork:
    return AffinityNetwork.load(folder).to(memory_format=torch.channels_last)
