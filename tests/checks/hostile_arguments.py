"""Every argument of every pure public function, in turn something else, as a user meets it: without the tests' hook.

A complaint is a call that ended neither in a result that the table allows nor in an error that names the argument.
"""

import collections.abc
import importlib
import inspect
import types
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from jaxtyping import AbstractArray

from subcam.affinity import affinity_label_map, affinity_loss, pair_labels, pixel_affinity, random_walk
from subcam.cam import (
    aggregate_response_maps,
    background_score,
    choose_threshold,
    multiscale_response,
    response_maps,
    split_shares,
)
from subcam.clustering import discover_adaptive_subcategories, discover_subcategories
from subcam.crf import DenseCRF, dense_crf, dense_crf_many, dense_crf_torch
from subcam.data import AugmentationSettings, augment, overlay_mask
from subcam.errors import SubcamError
from subcam.metrics import ThresholdSweep, class_average_precision, confusion_matrix, mean_average_precision, scores
from subcam.networks.classifier import ClassificationNetwork, ModelConfig
from subcam.networks.segmenter import SegmentationNetwork
from subcam.networks.settings import NetworkSettings, SegmentationConfig
from subcam.predict import segment_labels, segment_probabilities
from subcam.prototypes import find_prototypes

FACES = ("", ".affinity", ".cam", ".clustering", ".crf", ".data", ".metrics", ".predict", ".prototypes")
FILE_FACES = (*FACES, ".data.readers", ".export", ".hub")
NOT_CHECKED = {"read_mask", "write_mask"}
"""Called for each mask of a data set, with a tuple as long as a mask has values."""

rng = np.random.default_rng(0)
IMAGE = rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)
PROBABILITIES = rng.random((2, 12, 16), dtype=np.float32)
MASK = rng.integers(0, 2, (12, 16), dtype=np.uint8)
FEATURES, LABELS = rng.random((12, 3)), (rng.random((12, 2)) > 0.3).astype(np.uint8)
MAPS = torch.rand(2, 12, 16)
TINY = NetworkSettings(name="tiny", weights="none", freeze_batch_norm=False)
CLASSIFIER = ClassificationNetwork(ModelConfig(network=TINY, class_names=("cat", "dog"))).eval()
SEGMENTER = SegmentationNetwork(SegmentationConfig(network=TINY, class_names=("cat",))).eval()
BATCH = torch.from_numpy(IMAGE).permute(2, 0, 1)[None].contiguous()
AFFINITY = pixel_affinity(torch.rand(4, 12, 16))
PAIRS = pair_labels(torch.zeros(8, 12, dtype=torch.uint8))

CALLS: dict[Callable[..., Any], dict[str, Any]] = {
    pixel_affinity: {"features": torch.rand(4, 12, 16), "radius": 3, "all_pairs": True},
    random_walk: {"affinity": AFFINITY, "maps": MAPS, "beta": 8.0, "log_steps": 2},
    affinity_label_map: {"low_alpha": MAPS, "high_alpha": MAPS, "min_score": 0.1},
    pair_labels: {"label": torch.zeros(8, 12, dtype=torch.uint8), "radius": 3},
    affinity_loss: {"affinity": torch.rand(PAIRS.background.shape), "labels": PAIRS},
    response_maps: {"features": torch.rand(3, 4, 5), "weights": torch.rand(2, 3)},
    aggregate_response_maps: {
        "maps": [MAPS, MAPS], "flips": (False, True), "size": (8, 9), "labels": torch.tensor([1, 0]), "group_size": 1,
        "normalise": True,
    },
    background_score: {"maps": MAPS, "alpha": 4.0},
    split_shares: {
        "response": PROBABILITIES[0], "colours": IMAGE / 255, "classes": (0,), "thresholds": np.array([0.2, 0.5]),
    },
    choose_threshold: {"images": [split_shares(PROBABILITIES[0], IMAGE / 255)], "num_classes": 2},
    multiscale_response: {
        "network": CLASSIFIER, "images": BATCH, "labels": torch.tensor([[1, 0]]), "scales": (1.0,), "flip": False,
        "subcategories": False, "attention_layers": 0, "attention_steps": 1,
    },
    discover_subcategories: {
        "features": FEATURES, "labels": LABELS, "num_subcategories": 2, "seed": 0, "normalisation": "none",
        "restarts": 1, "max_iterations": 3, "rows_at_once": 100,
    },
    discover_adaptive_subcategories: {
        "features": FEATURES, "labels": LABELS, "candidates": "kmeans", "criterion": "silhouette",
        "max_subcategories": 2, "min_cluster_size": 1, "seed": 0, "normalisation": "none", "restarts": 1,
        "max_iterations": 3,
    },
    dense_crf: {
        "image": IMAGE, "probabilities": PROBABILITIES, "iterations": 1, "spatial_sigma": 3.0, "spatial_weight": 3.0,
        "bilateral_sigma_xy": 30.0, "bilateral_sigma_rgb": 10.0, "bilateral_weight": 4.0,
    },
    dense_crf_many: {"image": IMAGE, "score_sets": [PROBABILITIES, PROBABILITIES]},
    dense_crf_torch: {"images": [torch.from_numpy(IMAGE)], "probabilities": [torch.from_numpy(PROBABILITIES)]},
    DenseCRF: {"image": IMAGE},
    DenseCRF(IMAGE).infer: {"probabilities": PROBABILITIES, "iterations": 1},
    DenseCRF(IMAGE).infer_many: {"score_sets": [PROBABILITIES], "iterations": 1},
    overlay_mask: {"image": IMAGE, "mask": MASK, "opacity": 0.5},
    augment: {"image": IMAGE, "rng": rng, "settings": AugmentationSettings(), "fill": (0, 0, 0)},
    confusion_matrix: {"prediction": MASK, "truth": MASK, "num_classes": 2, "ignore_index": 255},
    scores: {"matrix": np.eye(3, dtype=np.int64)},
    class_average_precision: {"logits": FEATURES[:, :2], "labels": LABELS},
    mean_average_precision: {"logits": FEATURES[:, :2], "labels": LABELS},
    ThresholdSweep: {"num_classes": 3, "thresholds": np.array([0.2, 0.5])},
    ThresholdSweep(3).add: {"maps": PROBABILITIES, "classes": np.array([0, 1]), "truth": MASK},
    ThresholdSweep(3).at_classes: {"by_class": (0.2, 0.3)},
    segment_probabilities: {"network": SEGMENTER, "images": BATCH},
    segment_labels: {"network": SEGMENTER, "images": BATCH},
    find_prototypes: {
        "objects": [FEATURES, FEATURES], "context": [FEATURES, FEATURES], "num_objects": 2, "num_context": 2, "seed": 0,
        "restarts": 1, "max_iterations": 3,
    },
}  # fmt: skip
"""A call of each that is right."""

WRONG: dict[str, Any] = {
    "None": None,
    "text": "text",
    "an object": object(),
    "a class": dict,
    "a dict": {"a": 1},
    "text in an array": np.array(["x", "y"]),
    "objects in an array": np.array([object()]),
    "ragged lists": [[1.0], [1.0, 2.0]],
    "lists of text": [["a"], ["b"]],
    "imaginary numbers": np.ones((2, 12, 16), complex),
    "six axes": np.ones((1, 2, 1, 2, 1, 2), np.float32),
    "no entry": np.zeros((0, 0, 0), np.float32),
    "a masked array": np.ma.masked_array(np.ones((2, 12, 16), np.float32), mask=True),
    "a huge number": 10**30,
    "not a number": float("nan"),
    "a negative number": -(10**9),
}
ALLOWED = {
    *(("maps", kind) for kind in ("no entry",)),
    ("labels", "None"), ("iterations", "None"), ("fill", "no entry"), ("classes", "no entry"),
    ("score_sets", "no entry"), ("ignore_index", "a huge number"), ("ignore_index", "a negative number"),
    ("label", "six axes"),
}  # fmt: skip
"""Where something of these kinds is right after all."""


def complaint(function: Callable[..., Any], name: str, what: str) -> str:
    """What is wrong with how the function takes a wrong argument; empty if nothing is."""
    called = f"{getattr(function, '__qualname__', function)}({name}={what})"
    if (name, what) in ALLOWED:
        return ""
    try:
        function(**{**CALLS[function], name: WRONG[what]})
    except (TypeError, ValueError, SubcamError) as error:
        told = str(error)
        if name in told and len(told) < 1000:
            return ""
        return f"{called}: {type(error).__name__} does not name it: {told[:200]}"
    except Exception as error:
        return f"{called}: {type(error).__name__}: {str(error)[:200]}"
    return f"{called}: taken"


def public_functions() -> dict[str, Callable[..., Any]]:
    """All functions that a stub names."""
    modules = [importlib.import_module(f"subcam{face}") for face in FILE_FACES]
    values = {name: getattr(module, name) for module in modules for name in module.__all__}
    return {name: value for name, value in values.items() if inspect.isfunction(value)}


def stand_in(kind: Any) -> Any:
    """Something that is of this kind for the checks, with which nothing can be done."""
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return stand_in(parts[0])
    if origin is collections.abc.Sequence:
        return [stand_in(parts[0])]
    if origin in (Annotated, collections.abc.Mapping, tuple):
        return {Annotated: 1, collections.abc.Mapping: {}, tuple: (1, 1)}[origin]
    if isinstance(kind, type) and issubclass(kind, AbstractArray):
        return np.zeros((2, 2), np.float32)
    return {Path: Path("nowhere"), str: "x", int: 1}[kind] if kind in (Path, str, int) else object.__new__(kind)


def complaints_of_other_functions() -> list[str]:
    """Of each function that is not in `CALLS`, in turn each argument is nothing of any kind: nothing is done then."""
    complaints = []
    for name, function in public_functions().items():
        if name in {call.__name__ for call in CALLS} | NOT_CHECKED:
            continue
        parameters = inspect.signature(function).parameters
        right = {key: stand_in(p.annotation) for key, p in parameters.items() if p.default is inspect.Parameter.empty}
        for key in parameters:
            if parameters[key].annotation is Any:
                continue
            try:
                function(**{**right, key: object()})
                complaints.append(f"{name}({key}=object()): taken")
            except Exception as error:
                if not isinstance(error, TypeError | SubcamError) or not str(error).startswith(key):
                    complaints.append(f"{name}({key}=object()): {type(error).__name__}: {str(error)[:200]}")
    return complaints


def complaints_of_all() -> list[str]:
    """What is wrong with any of them, other types of numbers among them, which may be taken."""
    complaints: list[str] = []
    for function, arguments in CALLS.items():
        function(**arguments)
    for function, arguments in CALLS.items():
        for name, value in arguments.items():
            for dtype in ("float16", "float64", "int32", "uint16", "bool") if hasattr(value, "dtype") else ():
                WRONG[dtype] = np.asarray(value).astype(dtype)
                told = complaint(function, name, dtype)
                complaints += [told] if told and not told.endswith(": taken") else []
                del WRONG[dtype]
    for function, arguments in CALLS.items():
        complaints += filter(None, (complaint(function, name, what) for name in arguments for what in WRONG))
    return complaints
