"""Scoring beside plain ways: confusion matrices of published code, one for each of 101 thresholds, and `evaluate`."""

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.metrics import confusion_matrix as sklearn_confusion_matrix

from benchmarks.measure import Options, Time, in_turns, run_process
from benchmarks.record import Bound, Row
from subcam.cam.threshold import THRESHOLDS
from subcam.data.images import voc_palette
from subcam.metrics.confusion import confusion_matrix
from subcam.metrics.threshold_sweep import ThresholdSweep

CLASSES = 21
PRESENT = np.array([3, 11])
EQUAL = Bound(of="difference", limit=0.0)
AHEAD = Bound(of="ratio", limit=1.5)
SC_CAM, PSA = "one bincount of scored pixels, as SC-CAM counts", "three sums of each class, as psa counts"
PUBLISHED = (SC_CAM, PSA)
"""The ways of published code, which ours is to be ahead of."""

PAIRS = 1449
"""Images of VOC 2012's split val."""

PLAIN_LOOP = """
import sys
from pathlib import Path
import numpy as np
from PIL import Image
predictions, truth, n = Path(sys.argv[1]), Path(sys.argv[2]), 21
total = np.zeros((n, n), np.int64)
for path in sorted(truth.iterdir()):
    true, found = np.array(Image.open(path)), np.array(Image.open(predictions / path.name))
    scored = true < n
    total += np.bincount(n * true[scored].astype(int) + found[scored], minlength=n * n).reshape(n, n)
hits = np.diag(total)
print(hits / (total.sum(0) + total.sum(1) - hits))
"""


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
        (f"confusion matrix, {size}", SC_CAM): (
            lambda: confusion_matrix(prediction, truth, num_classes=CLASSES),
            lambda: _one_bincount(prediction, truth),
        ),
        (f"confusion matrix, {size}", PSA): (
            lambda: _sums(confusion_matrix(prediction, truth, num_classes=CLASSES)),
            lambda: _sums_of_each_class(prediction, truth),
        ),
        (f"confusion matrix, {size}", "one bincount of packed 16-bit numbers"): (
            lambda: confusion_matrix(prediction, truth, num_classes=CLASSES),
            lambda: _packed(prediction, truth),
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
            bounds=(EQUAL, AHEAD) if other in PUBLISHED and not options.quick else (EQUAL,),
        )


def processes(options: Options) -> Iterator[Row]:
    """`subcam evaluate` of as many masks as VOC's val has beside a plain loop, as whole processes."""
    count, height, width = (2, 24, 32) if options.quick else (PAIRS, 375, 500)
    with tempfile.TemporaryDirectory() as work:
        predictions, truth = Path(work) / "predictions", Path(work) / "truth"
        rng = np.random.default_rng(0)
        for folder in (predictions, truth):
            folder.mkdir()
            for index in range(count):
                mask = Image.fromarray(_regions(rng, height, width))
                mask.putpalette(voc_palette().tobytes())
                mask.save(folder / f"{index:04}.png")
        words = ("-m", "subcam.cli", "evaluate", "--predictions", str(predictions), "--truth", str(truth))
        yield Row(
            stage="evaluate",
            case=f"{count} pairs of PNGs of {width} x {height}, a whole process",
            **vars(
                in_turns(
                    lambda: _process(*words),
                    lambda: _process("-c", PLAIN_LOOP, str(predictions), str(truth)),
                    turns=1 if options.quick else options.turns,
                )
            ),
            items=count,
            unit="pairs",
            other="a plain loop: Pillow, one bincount a pair",
        )


def _process(*words: str) -> Time:
    found = run_process((sys.executable, *words))
    return Time(seconds=found.seconds, cpu_seconds=found.cpu_seconds)


def _regions(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """A mask of regions, as true and predicted masks are."""
    cells = rng.integers(0, CLASSES, (-(-height // 25), -(-width // 32))).astype(np.uint8)
    return cells.repeat(25, 0).repeat(32, 1)[:height, :width].copy()


def _one_bincount(prediction: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """The usual few lines of this field."""
    scored = truth < CLASSES
    pairs = CLASSES * truth[scored].astype(int) + prediction[scored]
    return np.bincount(pairs, minlength=CLASSES**2).reshape(CLASSES, CLASSES)


def _sums_of_each_class(prediction: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Of each class its predicted, true and agreeing pixels: enough for IoU, and for nothing else."""
    scored = truth < 255
    agree = (prediction == truth) * scored
    return np.array(
        [
            [
                np.sum((prediction == index) * scored),
                np.sum((truth == index) * scored),
                np.sum((truth == index) * agree),
            ]
            for index in range(CLASSES)
        ]
    ).T


def _sums(matrix: np.ndarray) -> np.ndarray:
    return np.stack([matrix.sum(0), matrix.sum(1), matrix.diagonal()])


def _packed(prediction: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """One number for each pair of bytes; the ignored ones are cut off afterwards."""
    pairs = truth.astype(np.uint16) * 256 + prediction
    return np.bincount(pairs.ravel(), minlength=65536).reshape(256, 256)[:CLASSES, :CLASSES]


def _sweep(maps: np.ndarray, truth: np.ndarray) -> np.ndarray:
    sweep = ThresholdSweep(CLASSES)
    sweep.add(maps, PRESENT, truth)
    return sweep.matrices


def _each_threshold(maps: np.ndarray, truth: np.ndarray) -> np.ndarray:
    names = np.array([0, *(PRESENT + 1)])
    scored = (np.concatenate([np.full((1, *truth.shape), threshold), maps]) for threshold in THRESHOLDS)
    return np.stack([confusion_matrix(names[each.argmax(0)], truth, num_classes=CLASSES) for each in scored])
