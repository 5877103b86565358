"""A grid of settings over seeds as variants of one run, and what their scores say: means and standard deviations.

In: settings, the values that some of them take in turn, and seeds. Out: variants, each a whole `RunSettings`; and from
the records of those that are done a summary by grid point, split and step. `ablation/run.py` runs them.
"""

import csv
import dataclasses
import io
import itertools
import math
import re
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from subcam.ablation.grid import SEED, shown
from subcam.clustering.clusters_csv import clusters_digest
from subcam.data.dataset import Dataset
from subcam.errors import SettingsError
from subcam.methods.registry import choose
from subcam.refine.variants import GIVEN
from subcam.report.gather.ablation import Summary
from subcam.report.tables.formats import ScoreTable, Spread
from subcam.report.tables.tables import ablation_table
from subcam.results import RefinedResult, RunResult
from subcam.runtime.files import file_digest
from subcam.runtime.run_folder import fingerprint
from subcam.settings import RunSettings
from subcam.stages.context import key_of

_LONGEST_NAME = 80


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One point of the grid with one seed. grid: the settings on the grid by their dotted names, in order."""

    grid: dict[str, Any]
    seed: int
    settings: RunSettings

    @property
    def label(self) -> str:
        """What sets it apart from the others, for people."""
        return label_of(self.grid, self.seed)


@dataclass(frozen=True, kw_only=True)
class Finished:
    """A variant that is done.

    name: of its record, without the suffix. settings: as the record has them. scores: `scores_of` the run.
    seconds: that it took itself; what it shares with a variant before it was counted there.
    """

    name: str
    settings: dict[str, Any]
    grid: dict[str, Any]
    seed: int
    scores: dict[str, dict[str, float]]
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Failed:
    """A variant that ended in an error. traceback: where, unless it was a mistake that the user can mend."""

    grid: dict[str, Any]
    seed: int
    error: str
    traceback: str = ""


def expand(settings: RunSettings, grid: Mapping[str, Sequence[Any]], *, seeds: Sequence[int]) -> tuple[Variant, ...]:
    """All combinations of the grid's values for the first seed, then for the next, so that early ends are of use.

    Raises:
        SettingsError: a combination is impossible (says which and why), or there is no seed, or one twice.
    """
    if not seeds or len(set(seeds)) < len(seeds):
        raise SettingsError(f"expected one seed or more, each once, got {list(seeds)}")
    variants = []
    for seed, *values in itertools.product(seeds, *grid.values()):
        point = dict(zip(grid, values, strict=True))
        try:
            variants.append(Variant(grid=point, seed=seed, settings=settings.with_(point | {SEED: seed})))
        except SettingsError as error:
            raise SettingsError(f"{label_of(point, seed)}: {error}") from error
    return tuple(variants)


def record_name(variant: Variant, dataset: Dataset) -> str:
    """A file name, without suffix, for the variant's record: readable, and different whenever the results could be.

    The digits at its end are a fingerprint of all settings but those that say where and how fast, of the images and
    of the bytes of every file that the settings name,
    and of the code of somebody else's methods.

    Raises:
        BadInputError: such a file cannot be read.
        SettingsError: such a method cannot be found.
    """
    settings, machine = variant.settings, variant.settings.machine
    own = {entry.name: getattr(settings, entry.name) for entry in dataclasses.fields(settings)}
    del own["quick"]  # it says how the others came about
    own["dataset"] = [dataset.train.digest, {split: images.digest for split, images in dataset.scored.items()}]
    own["machine"] = [machine.precision, machine.resolved_inference_precision]
    if others := [one for one in choose(settings.compare) if not one.is_ours]:
        own["methods"] = [key_of(one) for one in others]
    texts = sorted({text for text in _texts(settings) if _is_file(text)})
    clusters = settings.discover.clusters
    edited = clusters_digest(Path(clusters)) if clusters else ""
    key = fingerprint(own, [file_digest(Path(text)) for text in texts], edited)
    readable = re.sub(r"[^A-Za-z0-9_=.]+", "-", variant.label)[:_LONGEST_NAME].strip("-.")
    return f"{readable}-{key[:10]}"


def _texts(value: Any) -> Iterable[str]:
    if dataclasses.is_dataclass(value):
        for entry in dataclasses.fields(value):
            yield from _texts(getattr(value, entry.name))
    elif isinstance(value, str | Path):
        yield str(value)


def _is_file(text: str) -> bool:
    try:
        return Path(text).is_file()
    except OSError:  # too long for a name
        return False


def label_of(grid: Mapping[str, Any], seed: int) -> str:
    """A point of the grid and a seed in one line: `num_subcategories=5 seed=0`."""
    values = zip(short_names(grid), grid.values(), strict=True)
    return " ".join([*(f"{name}={shown(value)}" for name, value in values), f"{SEED}={seed}"])


def short_names(names: Iterable[str]) -> list[str]:
    """The settings' names without their groups, where that leaves them different."""
    full = list(names)
    last = [name.rpartition(".")[2] for name in full]
    return [short if last.count(short) == 1 else name for name, short in zip(full, last, strict=True)]


def scores_of(run: RunResult) -> dict[str, dict[str, float]]:
    """The mIoU of every step of a run, as a share in 0..1, by split and then by what was scored.

    What was chosen by ground-truth masks has a star.
    """
    scores_by_split: dict[str, dict[str, float]] = {}
    for entry in run.rounds:
        title = "control (lambda = 0)" if entry.control else "response maps"
        for split, maps in entry.scores.items():
            own = scores_by_split.setdefault(split, {})
            own[f"{title}: {_of_round(entry.round_index, entry.given)}"] = maps.fixed["miou"]
            own[f"{title}, best threshold *: {_of_round(entry.round_index, entry.given)} *"] = maps.best["miou"]
    for compared in run.compared:
        for split, maps in compared.scores.items():
            own = scores_by_split.setdefault(split, {})
            own[f"response maps of other methods: {compared.title}"] = maps.fixed["miou"]
            own[f"response maps of other methods, best threshold *: {compared.title} *"] = maps.best["miou"]
    all_refined = [(_masks_title(refined), refined) for refined in run.refined]
    all_refined += [(f"pseudo masks of {one.title}", one.refined) for one in run.compared if one.refined]
    for title, refined in all_refined:
        for split, masks in refined.scores.items():
            own = scores_by_split.setdefault(split, {})
            own |= {f"{title}: {variant}": values["miou"] for variant, values in masks.variants.items()}
            if masks.walk_curve:
                own[f"{title}: walk, best alpha *"] = max(filter(math.isfinite, masks.walk_curve), default=math.nan)
    for network in run.segmented:
        of_round = f"masks of {_of_round(network.round_index, network.of_given)}"
        trained_on = _LEARNED_FROM.get(network.trained_on, of_round)
        for split, by_output in network.scores.items():
            own = scores_by_split.setdefault(split, {})
            own |= {f"segmentation from {trained_on}: {name}": values["miou"] for name, values in by_output.items()}
    return scores_by_split


_LEARNED_FROM = {"truth": "ground truth", "given": "given masks"}


def _masks_title(refined: RefinedResult) -> str:
    if refined.variant == GIVEN:
        return "given masks"
    return f"pseudo masks of {_of_round(refined.round_index, refined.of_given)}"


def _of_round(index: int, given: bool) -> str:
    return "given maps" if given else f"round {index}"


def summarise(finished: Iterable[Finished]) -> tuple[Summary, ...]:
    """Mean and standard deviation over seeds of every score of every grid point, in order of first appearance.

    A score that is not a number, because nothing could be scored, is left out.
    """
    points: dict[tuple[Any, ...], list[Finished]] = {}
    for run in finished:
        points.setdefault(tuple(run.grid.values()), []).append(run)
    summaries = []
    for runs in points.values():
        values: dict[tuple[str, str], list[float]] = {}
        for run in runs:
            for split, scores in run.scores.items():
                for what, score in scores.items():
                    if math.isfinite(score):
                        values.setdefault((split, what), []).append(score)
        for (split, what), own in values.items():
            std = statistics.stdev(own) if len(own) > 1 else None
            mean = statistics.fmean(own)
            summaries.append(Summary(grid=runs[0].grid, split=split, what=what, mean=mean, std=std, n=len(own)))
    return tuple(summaries)


def summary_csv(summary: Sequence[Summary]) -> str:
    """The summary in per cent, a line an entry: the values of its grid, split, what, mIoU, std (may be empty), n."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*(summary[0].grid if summary else ()), "split", "what", "mIoU", "std", "n"])
    for entry in summary:
        std = "" if entry.std is None else f"{100 * entry.std:.2f}"
        values = map(shown, entry.grid.values())
        writer.writerow([*values, entry.split, entry.what, f"{100 * entry.mean:.2f}", std, entry.n])
    return text.getvalue()


def summary_tables(summary: Sequence[Summary]) -> list[ScoreTable]:
    """One table for each kind of result and split: a row a grid point; means and standard deviations in per cent."""
    groups: dict[tuple[str, str], dict[tuple[str, ...], dict[str, Summary]]] = {}
    for entry in summary:
        title, _, column = entry.what.partition(": ")
        point = tuple(map(shown, entry.grid.values()))
        groups.setdefault((title, entry.split), {}).setdefault(point, {})[column] = entry
    names = short_names(summary[0].grid) if summary else []
    tables = []
    for (title, split), rows in groups.items():
        columns = list(dict.fromkeys(column for row in rows.values() for column in row))
        cells = [[*point, _seeds(row), *(_cell(row.get(column)) for column in columns)] for point, row in rows.items()]
        heading = f"{title[0].upper()}{title[1:]}, {split} (mIoU, per cent)"
        tables.append(ablation_table(heading, settings=[*names, "n"], scores=columns, rows=cells))
    return tables


def _seeds(row: Mapping[str, Summary]) -> str:
    return "/".join(map(str, sorted({entry.n for entry in row.values()})))


def _cell(entry: Summary | None) -> Spread | None:
    return Spread(mean=entry.mean, std=entry.std) if entry else None
