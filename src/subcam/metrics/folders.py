"""Scores of one folder of masks against another: one confusion matrix over all of them (Tables 3 and 4).

In: paths of indexed PNGs by name, and what their values mean where that is known. Out: scores. One mask of each side
is in memory at a time.
"""

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Bool, Int64

from subcam.checks.arguments import takes_arrays
from subcam.data.readers.class_names import BACKGROUND_NAME
from subcam.data.readers.colour_masks import read_stored
from subcam.data.readers.voc import VOC_CLASSES
from subcam.data.records import BACKGROUND, IGNORE_INDEX, VALUES, first_of, suggest
from subcam.errors import BadInputError, SettingsError
from subcam.metrics.confusion import counts_of_bytes
from subcam.metrics.scores import Scores, scores
from subcam.runtime.machine.cores import thread_count
from subcam.runtime.parallel import threaded_map
from subcam.runtime.progress import track

AT_ONCE = 32
"""Masks that a thread counts before it hands them over: one by one, handing over takes a quarter of the time."""

WhenMissing = Literal["stop", "skip", "background"]
"""What to do about a mask that has no prediction: stop, leave it out, or count it as all background."""

WhenUnlabelled = Literal["stop", "skip", "background"]
"""What to do about predicted pixels of the ignored value: stop, leave them out, or count them as background."""


@dataclass(frozen=True, kw_only=True)
class FolderScores:
    """What one set of masks scores against another.

    scores: of the confusion matrix over all masks, background first. class_names: with background.
    images: masks that were scored. missing: names without a prediction.
    unlabelled: share of the scored true pixels to which the prediction gives no label.
    not_scored: classes of the ground truth that the predictions do not know; their pixels are left out.
    """

    scores: Scores
    class_names: tuple[str, ...]
    images: int
    missing: tuple[str, ...]
    unlabelled: float
    not_scored: tuple[str, ...]


@takes_arrays()
def score_folders(
    predictions: Mapping[str, Path],
    truth: Mapping[str, Path],
    *,
    class_names: Sequence[str] | None = None,
    true_class_names: Sequence[str] | None = None,
    num_classes: int | None = None,
    ignore: int = IGNORE_INDEX,
    missing: WhenMissing = "stop",
    unlabelled: WhenUnlabelled = "stop",
    two_valued: bool = False,
    colours: Mapping[tuple[int, int, int], int] | None = None,
    true_colours: Mapping[tuple[int, int, int], int] | None = None,
) -> FolderScores:
    """Count true against predicted pixels over all masks, then divide once.

    Where the names of both sides' classes are known, values are matched by name, so that a network of six classes can
    be scored against VOC's twenty: the classes of the predictions are scored, the other ones are left out.

    Args:
        predictions: indexed PNGs by name.
        truth: the same; every one of these is scored.
        class_names: of the predicted values 1, 2, ...; None where unknown.
        true_class_names: of the true values 1, 2, ...; None where unknown.
        num_classes: background included, for classes without names; None takes the highest value that occurs.
        ignore: the true value that is not scored, and the predicted one that means "no label"; -1 for none.
        missing: what to do about masks without a prediction.
        unlabelled: what to do about predicted pixels without a label.
        two_valued: there is one class, and 255 is its value in the ground truth, and in the predictions where these
            hold 255 and no 1.
        colours: of predictions in RGB, the value of each colour (0..255), where they are none of VOC's.
        true_colours: the same of the ground truth.

    Raises:
        BadInputError: a mask is missing, damaged, of another size than its truth, or has a value that no class has; or
            no class has a pixel in the ground truth: a score of the background alone would be one of nothing.
        SettingsError: numbers or names of classes that contradict each other.
    """
    if two_valued and (len(class_names or true_class_names or [""]) != 1 or num_classes not in (None, 2)):
        raise SettingsError("two_valued is for one class; give masks where i + 1 means class i")
    absent = tuple(name for name in truth if name not in predictions)
    if absent and (missing == "stop" or (missing == "skip" and len(absent) == len(truth))):
        raise BadInputError(
            f"expected a prediction for each of {len(truth)} masks, got none for {len(absent)}: {first_of(absent)} "
            f"(there are {len(predictions)} predictions, the first is {next(iter(predictions), 'none')}); "
            "predict them, or choose what to do with --missing"
        )
    meaning = _meaning(class_names, true_class_names, num_classes=num_classes, ignore=ignore)
    scored = [name for name in truth if missing != "skip" or name in predictions]
    total = np.zeros((VALUES, VALUES), np.int64)

    def count(name: str) -> Int64[np.ndarray, "true_values predicted_values"]:
        counts = _count(predictions.get(name), truth[name], colours or {}, true_colours or {})
        if meaning is not None and not two_valued:
            meaning.check(counts, truth[name], predictions.get(name), unlabelled=unlabelled)
        if two_valued:
            refuse_values(np.asarray(counts.any(1)), np.isin(np.arange(VALUES), (0, IGNORE_INDEX)), truth[name])
        return counts

    def count_several(names: Sequence[str]) -> list[np.ndarray]:
        return [count(name) for name in names]

    threads = thread_count(0)
    several = [scored[first : first + AT_ONCE] for first in range(0, len(scored), AT_ONCE)]
    with closing(threaded_map(count_several, several, threads=threads, ahead=4 * threads)) as counted:
        for counts in track(chain.from_iterable(counted), "scoring", len(scored)):
            total[: counts.shape[0], : counts.shape[1]] += counts
    if two_valued:
        total = _as_one_class(total)
    if meaning is None or two_valued:
        meaning = meaning or _meaning_of_values(total, ignore=ignore)
        meaning.check(total, None, None, unlabelled=unlabelled)
    matrix, without_label = meaning.collapse(total, unlabelled=unlabelled)
    if not matrix[1:].any():
        raise _nothing_to_score(total, meaning.class_names)
    return FolderScores(
        scores=scores(matrix),
        class_names=(BACKGROUND_NAME, *meaning.class_names),
        images=len(scored),
        missing=absent,
        unlabelled=without_label,
        not_scored=meaning.not_scored,
    )


def _as_one_class(counts: Int64[np.ndarray, "256 256"]) -> Int64[np.ndarray, "256 256"]:
    """Counts in which 255 has become 1: of the true values, and of the predicted ones where these have no 1."""
    merged = counts.copy()
    merged[1], merged[IGNORE_INDEX] = counts[IGNORE_INDEX], 0
    if not counts[:, 1].any():
        merged[:, 1], merged[:, IGNORE_INDEX] = merged[:, IGNORE_INDEX].copy(), 0
    return merged


def _nothing_to_score(counts: Int64[np.ndarray, "256 256"], class_names: Sequence[str]) -> BadInputError:
    by_value = counts.sum(1)
    found = ", ".join(f"{value} ({by_value[value]:,} pixels)" for value in np.flatnonzero(by_value)[:8].tolist())
    return BadInputError(
        f"expected pixels of {first_of(class_names)} in the ground truth, got none: its values are {found or 'none'}. "
        "There is nothing to score; if its masks hold 0 and 255, and 255 is the one class, give --two-valued"
    )


def _count(
    predicted_path: Path | None,
    true_path: Path,
    colours: Mapping[tuple[int, int, int], int],
    true_colours: Mapping[tuple[int, int, int], int],
) -> Int64[np.ndarray, "true_values predicted_values"]:
    """Pixels of one image by stored true value and stored predicted value, up to the greatest of each that occurs.

    No prediction is all background.
    """
    true_labels = read_stored(true_path, true_colours)
    predicted = np.zeros_like(true_labels) if predicted_path is None else read_stored(predicted_path, colours)
    if predicted.shape != true_labels.shape:
        (height, width), (true_height, true_width) = predicted.shape, true_labels.shape
        swapped = (
            " (the sides are swapped: one of them lies on the image as EXIF turns it, the other on its stored pixels)"
            if predicted.shape == true_labels.shape[::-1]
            else ""
        )
        raise BadInputError(
            f"{predicted_path}: expected a mask as large as {true_path}, {true_width} x {true_height} pixels "
            f"(width x height), got {width} x {height}{swapped}; predict at the image's size"
        )
    # Every value is counted: what they mean may be known only after the last mask.
    return counts_of_bytes(predicted, true_labels)


NOT_SCORED, NO_LABEL, FORBIDDEN = -1, -2, -3


@dataclass(frozen=True, kw_only=True)
class _Meaning:
    """What each stored value means on either side: a class of the matrix, or one of the three above."""

    class_names: tuple[str, ...]
    true: Int64[np.ndarray, "256"]
    predicted: Int64[np.ndarray, "256"]
    not_scored: tuple[str, ...] = ()

    def check(
        self, counts: np.ndarray, true_path: Path | None, predicted_path: Path | None, *, unlabelled: WhenUnlabelled
    ) -> None:
        """Raise `BadInputError` where values occur that mean nothing, or no label where there must be one."""
        true, predicted = self.true[: counts.shape[0]], self.predicted[: counts.shape[1]]
        refuse_values(np.asarray(counts.any(1)), self.true != FORBIDDEN, true_path or "the ground truth")
        occurring = np.asarray(counts[true >= 0].any(0))
        refuse_values(occurring, self.predicted != FORBIDDEN, predicted_path or "the predictions")
        if unlabelled == "stop" and (predicted[occurring] == NO_LABEL).any():
            raise BadInputError(
                f"{predicted_path or 'the predictions'}: expected a class at each scored pixel, got some without a "
                "label; choose what to do with --unlabelled"
            )

    def collapse(self, counts: np.ndarray, *, unlabelled: WhenUnlabelled) -> tuple[np.ndarray, float]:
        """The matrix of classes from that of values, and the share of scored pixels without a predicted label."""
        rows, columns = counts.nonzero()
        pixels, true, predicted = counts[rows, columns], self.true[rows], self.predicted[columns]
        scored, open_ = true >= 0, predicted == NO_LABEL
        share = float(pixels[scored & open_].sum() / max(int(pixels[scored].sum()), 1))
        if unlabelled == "background":
            predicted = np.where(open_, BACKGROUND, predicted)
        kept = scored & (predicted >= 0)
        matrix = np.zeros((len(self.class_names) + 1,) * 2, np.int64)
        np.add.at(matrix, (true[kept], predicted[kept]), pixels[kept])
        return matrix, share


def _meaning(
    class_names: Sequence[str] | None, true_class_names: Sequence[str] | None, *, num_classes: int | None, ignore: int
) -> _Meaning | None:
    """What the values mean by the names or the number of classes; None where neither is known."""
    if not -1 <= ignore < VALUES or ignore == BACKGROUND:
        raise SettingsError(f"expected the ignored value to be in 1..255, or -1 for none, got {ignore}")
    if num_classes is not None and not 2 <= num_classes <= VALUES:
        raise SettingsError(f"expected num_classes in 2..256, background included, got {num_classes}")
    names = class_names if class_names is not None else true_class_names
    if names is None:
        if num_classes is None:
            return None
        names = numbered(num_classes - 1)
    names = tuple(names)
    if num_classes is not None and num_classes != len(names) + 1:
        raise SettingsError(
            f"expected num_classes {len(names) + 1} for background and {', '.join(names)}, got {num_classes}; "
            "leave it out or give other --classes"
        )
    true_names = tuple(true_class_names if true_class_names is not None else names)
    if not set(true_names) & set(names):
        raise SettingsError(
            f"no class of the predictions is one of the ground truth's: {names[0]!r}, {suggest(names[0], true_names)} "
            "give the names with --classes and --truth-classes"
        )
    return _Meaning(
        class_names=names,
        true=_by_value(
            [names.index(name) + 1 if name in names else NOT_SCORED for name in true_names], ignore, NOT_SCORED
        ),
        predicted=_by_value(list(range(1, len(names) + 1)), ignore, NO_LABEL),
        not_scored=tuple(name for name in true_names if name not in names),
    )


def _meaning_of_values(counts: np.ndarray, *, ignore: int) -> _Meaning:
    occurring = np.flatnonzero(counts.any(0) | counts.any(1))
    names = names_of_values(int(occurring[occurring != ignore].max(initial=0)))
    classes = list(range(1, len(names) + 1))
    return _Meaning(
        class_names=names,
        true=_by_value(classes, ignore, NOT_SCORED),
        predicted=_by_value(classes, ignore, NO_LABEL),
    )


def names_of_values(highest: int) -> tuple[str, ...]:
    """Names for the classes 1..highest of masks that come without: VOC's where the values end where VOC's do."""
    return VOC_CLASSES if highest == len(VOC_CLASSES) else numbered(highest)


def numbered(count: int) -> tuple[str, ...]:
    """Names for `count` classes that have none."""
    return tuple(f"class {value}" for value in range(1, count + 1))


def _by_value(classes: list[int], ignore: int, ignored: int) -> Int64[np.ndarray, "256"]:
    table = np.full(VALUES, FORBIDDEN, np.int64)
    table[: len(classes) + 1] = [BACKGROUND, *classes]
    if ignore >= 0:
        table[ignore] = ignored
    return table


def refuse_values(present: Bool[np.ndarray, " values"], allowed: Bool[np.ndarray, "256"], where: Path | str) -> None:
    """Raise `BadInputError` that names `where`, if one of the first values is present that is not allowed."""
    unknown = np.flatnonzero(present & ~allowed[: len(present)]).tolist()
    if unknown:
        steps = np.flatnonzero(np.diff(np.concatenate([[False], allowed, [False]]).astype(np.int8)))
        known = ", ".join(f"{a}..{b - 1}" if b - a > 1 else f"{a}" for a, b in steps.reshape(-1, 2))
        raise BadInputError(
            f"{where}: expected the values {known}, got {', '.join(map(str, unknown[:8]))}; "
            "name all classes with --classes, or mend the masks"
        )
