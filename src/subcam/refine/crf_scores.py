"""What goes into the dense CRF and what comes out, for one image of a data set."""

import numpy as np
import torch
from jaxtyping import Float32

from subcam.cam.map_files import ResponseMaps
from subcam.cam.response import background_score
from subcam.crf.dense_crf import CRFSettings, dense_crf_many
from subcam.data.images import read_image
from subcam.data.records import Record
from subcam.errors import BadInputError


def scores_with_background(maps: ResponseMaps, *, alpha: float) -> Float32[np.ndarray, "channels h w"]:
    """Background score and response maps of one image at full size, unnormalised as in psa: [1 + present, h, w]."""
    full = torch.from_numpy(maps.full_size())
    return torch.cat([background_score(full, alpha)[None], full]).numpy()


def crf_of(
    record: Record, scores: list[np.ndarray], settings: CRFSettings
) -> list[Float32[np.ndarray, "channels h w"]]:
    """Marginals of several score sets of one image, in 0..1.

    Raises:
        BadInputError: the scores cannot be used; names the image.
    """
    try:
        return dense_crf_many(read_image(record.image), scores, settings=settings)
    except (ValueError, MemoryError) as error:
        raise BadInputError(f"{record.image}: {error}") from error
