"""Gains of sub-categories by a setting: what an ablation's file says, what a page shows."""

import json
from pathlib import Path
from typing import Any

import pytest
from benchmarks import gain
from benchmarks.quality import between

from subcam.errors import BadInputError

ROOT = Path(__file__).parent.parent
TINT = "dataset.toy.class_tint"


def run(value: float, seed: int, *scores: float, rounds: int = 3, **more: Any) -> dict[str, Any]:
    """A run as `ablate.json` has it, its scores as shares."""
    names = ("response maps: round 0", f"control (lambda = 0): round {rounds}", f"response maps: round {rounds}")
    val = dict(zip(names, scores, strict=False))
    return {
        "name": f"{value}-{seed}",
        "grid": {TINT: value, **more},
        "seed": seed,
        "settings": {"rounds": rounds},
        "scores": {"val": val, "train": dict.fromkeys(names, 0.01)},
    }


def ablation(folder: Path, *runs: dict[str, Any]) -> Path:
    (folder / "ablate.json").write_text(json.dumps({"runs": runs}), "utf-8")
    return folder


def test_gains_are_those_of_each_seed_over_its_control(tmp_path: Path) -> None:
    runs = (run(1, 0, 0.5, 0.6, 0.62), run(0.3, 1, 0.4, 0.3, 0.5), run(0.3, 0, 0.2, 0.5, 0.6))
    gains = gain.collected(ablation(tmp_path, *runs))
    assert gains.setting == TINT
    assert gain.table(gains).splitlines() == [
        "| `class_tint` | seeds | round 0 | control | sub-categories | gain |",
        "|---|---|---|---|---|---|",
        "| 0.3 | 2 | 30.0 ± 14.1 | 40.0 ± 14.1 | 55.0 ± 7.1 | 15.0 ± 7.1 |",
        "| 1 | 1 | 50.0 | 60.0 | 62.0 | 2.0 |",
    ]
    (tmp_path / "gains.csv").write_text(gain.as_csv(gains), "utf-8")
    read = gain.from_csv(tmp_path / "gains.csv")
    assert (read.setting, read.scores) == (
        gains.setting,
        {key: pytest.approx(own) for key, own in gains.scores.items()},
    )


def test_the_page_has_the_table_of_the_file() -> None:
    file, page = "docs/results/gain-by-class-tint.csv", "docs/sub-categories.md"
    text, begin = (ROOT / page).read_text("utf-8"), gain.BEGIN.format(Path(file).name)
    written = between(text, gain.table(gain.from_csv(ROOT / file)), begin=begin, end=gain.END)
    assert written == text, f"give: python -m benchmarks.gain {file} --table {page}"


def test_an_ablation_of_another_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="over one setting"):
        gain.collected(ablation(tmp_path, run(1, 0, 0.5, 0.6, 0.7, rounds=2, k=3)))
    with pytest.raises(BadInputError, match="to be a number, got True"):
        gain.collected(ablation(tmp_path, run(True, 0, 0.5, 0.6, 0.7)))
    with pytest.raises(BadInputError, match="run it with --control"):
        gain.collected(ablation(tmp_path, run(1, 0, 0.5)))


def test_a_figure_has_a_line_for_each_column_and_a_dot_for_each_run() -> None:
    gains = gain.Gains(setting=TINT, scores={(0.0, 0): (1, 2, 3), (0.5, 0): (4, 5, 6), (0.5, 1): (6, 7, 8)})
    (axes,) = gain.figure(gains, x_label="tint").axes
    means = [line.get_ydata().tolist() for line in axes.lines[::2]]  # type: ignore[union-attr]
    assert means == [[1, 5], [2, 6], [3, 7]]
    assert [len(line.get_xdata()) for line in axes.lines[1::2]] == [3, 3, 3]  # type: ignore[arg-type]
