"""Scoring beside plain ways: scikit-learn's confusion matrix, one bincount, one matrix for each of 101 thresholds."""

from collections.abc import Iterator

import numpy as np
from sklearn.metrics import confusion_matrix as sklearn_confusion_matrix

from benchmarks.measure import Options, in_turns
from benchmarks.record import Bound, Row
from subcam.cam.threshold import THRESHOLDS
from subcam.metrics.confusion import confusion_matrix
from subcam.metrics.threshold_sweep import ThresholdSweep

CLASSES = 21
PRESENT = np.array([3, 11])
EQUAL = Bound(of="difference", limit=0.0)


def rows(options: Options) -> Iterator[Row]:
    """One image of VOC's usual size; with --quick a small one."""
    height, width = (24, 32) if options.quick else (375, 500)
    rng = np.random.default_rng(0)
    truth, prediction = (_regions(rng, height, width) for _ in range(2))
    maps = rng.random((len(PRESENT), height, width), dtype=np.float32)
    size = f"{width} x {height}, {CLASSES} classes"
    ways = {
        (f"confusion matrix, {size}", "scikit-learn"): (
            lambda: confusion_matrix(prediction, truth, num_classes=CLASSES),
            lambda: sklearn_confusion_matrix(truth.ravel(), prediction.ravel(), labels=np.arange(CLASSES)),
        ),
        (f"confusion matrix, {size}", "one bincount of scored pixels"): (
            lambda: confusion_matrix(prediction, truth, num_classes=CLASSES),
            lambda: _one_bincount(prediction, truth),
        ),
        (f"{len(THRESHOLDS)} thresholds, {size}", "a matrix for each threshold"): (
            lambda: _sweep(maps, truth),
            lambda: _each_threshold(maps, truth),
        ),
    }
    for (case, other), (ours, plain) in ways.items():
        times = in_turns(ours, plain, turns=2 if options.quick else options.turns)
        yield Row(
            stage="scores",
            case=case,
            **vars(times),
            other=other,
            difference=float(np.abs(ours() - plain()).max()),
            bounds=(EQUAL,),
        )


def _regions(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """A mask of regions, as true and predicted masks are."""
    cells = rng.integers(0, CLASSES, (-(-height // 25), -(-width // 32))).astype(np.uint8)
    return cells.repeat(25, 0).repeat(32, 1)[:height, :width].copy()


def _one_bincount(prediction: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """The usual few lines, as in the published code of this field."""
    scored = truth < CLASSES
    pairs = CLASSES * truth[scored].astype(int) + prediction[scored]
    return np.bincount(pairs, minlength=CLASSES**2).reshape(CLASSES, CLASSES)


def _sweep(maps: np.ndarray, truth: np.ndarray) -> np.ndarray:
    sweep = ThresholdSweep(CLASSES)
    sweep.add(maps, PRESENT, truth)
    return sweep.matrices


def _each_threshold(maps: np.ndarray, truth: np.ndarray) -> np.ndarray:
    names = np.array([0, *(PRESENT + 1)])
    scored = (np.concatenate([np.full((1, *truth.shape), threshold), maps]) for threshold in THRESHOLDS)
    return np.stack([confusion_matrix(names[each.argmax(0)], truth, num_classes=CLASSES) for each in scored])
