"""subcam: pixels from image-level labels, by sub-category exploration.

Everything public is here; it is imported when it is first asked for, so that `import subcam` costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from subcam._version import __version__

if TYPE_CHECKING:
    from subcam import hub
    from subcam.affinity.random_walk import PixelAffinity, pixel_affinity, random_walk
    from subcam.cam.response import aggregate_response_maps, background_score, response_maps
    from subcam.cam.threshold import choose_threshold, split_shares
    from subcam.clustering.subcategories import Subcategories, discover_subcategories
    from subcam.crf.dense_crf import CRFSettings, DenseCRF, dense_crf, dense_crf_many
    from subcam.crf.dense_crf_torch import dense_crf_torch
    from subcam.data.readers.folder import read_folder
    from subcam.data.readers.voc import read_voc
    from subcam.data.records import ImageSet, Record
    from subcam.errors import BadInputError, CheckpointError, RunFolderError, SettingsError, SubcamError
    from subcam.estimator import SubCategoryCAM
    from subcam.metrics.confusion import confusion_matrix
    from subcam.metrics.scores import Scores, scores
    from subcam.networks.mxnet_params import read_mxnet_params
    from subcam.networks.segmenter import SegmentationNetwork
    from subcam.predict.tiles import InferenceSettings, segment_labels, segment_probabilities

_HOMES = {
    "BadInputError": "subcam.errors",
    "CRFSettings": "subcam.crf.dense_crf",
    "CheckpointError": "subcam.errors",
    "DenseCRF": "subcam.crf.dense_crf",
    "ImageSet": "subcam.data.records",
    "InferenceSettings": "subcam.predict.tiles",
    "PixelAffinity": "subcam.affinity.random_walk",
    "Record": "subcam.data.records",
    "RunFolderError": "subcam.errors",
    "Scores": "subcam.metrics.scores",
    "SegmentationNetwork": "subcam.networks.segmenter",
    "SettingsError": "subcam.errors",
    "SubCategoryCAM": "subcam.estimator",
    "SubcamError": "subcam.errors",
    "Subcategories": "subcam.clustering.subcategories",
    "aggregate_response_maps": "subcam.cam.response",
    "background_score": "subcam.cam.response",
    "choose_threshold": "subcam.cam.threshold",
    "confusion_matrix": "subcam.metrics.confusion",
    "dense_crf": "subcam.crf.dense_crf",
    "dense_crf_many": "subcam.crf.dense_crf",
    "dense_crf_torch": "subcam.crf.dense_crf_torch",
    "discover_subcategories": "subcam.clustering.subcategories",
    "hub": "subcam.hub",
    "pixel_affinity": "subcam.affinity.random_walk",
    "random_walk": "subcam.affinity.random_walk",
    "read_folder": "subcam.data.readers.folder",
    "read_mxnet_params": "subcam.networks.mxnet_params",
    "read_voc": "subcam.data.readers.voc",
    "response_maps": "subcam.cam.response",
    "scores": "subcam.metrics.scores",
    "segment_labels": "subcam.predict.tiles",
    "segment_probabilities": "subcam.predict.tiles",
    "split_shares": "subcam.cam.threshold",
}
"""Where each public name lives; `hub` is a module itself."""

__all__ = [
    "BadInputError",
    "CRFSettings",
    "CheckpointError",
    "DenseCRF",
    "ImageSet",
    "InferenceSettings",
    "PixelAffinity",
    "Record",
    "RunFolderError",
    "Scores",
    "SegmentationNetwork",
    "SettingsError",
    "SubCategoryCAM",
    "SubcamError",
    "Subcategories",
    "__version__",
    "aggregate_response_maps",
    "background_score",
    "choose_threshold",
    "confusion_matrix",
    "dense_crf",
    "dense_crf_many",
    "dense_crf_torch",
    "discover_subcategories",
    "hub",
    "pixel_affinity",
    "random_walk",
    "read_folder",
    "read_mxnet_params",
    "read_voc",
    "response_maps",
    "scores",
    "segment_labels",
    "segment_probabilities",
    "split_shares",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'subcam' has no attribute {name!r}")
    home = import_module(_HOMES[name])
    return home if home.__name__ == f"subcam.{name}" else getattr(home, name)


def __dir__() -> list[str]:
    return __all__
