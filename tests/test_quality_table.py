"""The README's table of results says what the files in `docs/results` say."""

import csv
import statistics
from pathlib import Path

import pytest
from benchmarks import quality

from subcam import pipeline
from subcam.errors import SettingsError
from subcam.settings import RunSettings

ROOT = Path(__file__).parent.parent
HEAD = "discover.num_subcategories,split,what,mIoU,std,n\n"


def test_the_readme_has_the_table_of_the_files() -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    assert quality.between_marks(readme, quality.table()) == readme, (
        "give: python -m benchmarks.quality --write README.md"
    )


def test_a_row_has_means_deviations_and_seeds(tmp_path: Path) -> None:
    (tmp_path / quality.SMALL).write_text(
        HEAD
        + "5,val,response maps: round 2,62.04,1.26,3\n5,train,response maps: round 2,1,1,3\n"
        + "5,val,pseudo masks of round 2: walk,70,,1\n"
    )
    for file in (quality.PAPER, quality.COMPARED, quality.EARLIER, quality.MOBILENET):
        (tmp_path / file).write_text(HEAD)
    lines = quality.table(tmp_path).splitlines()
    assert lines[2:] == ["| **prototypes (round 2)** | 3 | 62.0 ± 1.3 |  | 70.0 |  |"]


def test_runs_that_differ_in_their_seed_become_a_summary(tiny_run: RunSettings, tmp_path: Path) -> None:
    one, other = (pipeline.run(tiny_run.with_({"seed": seed}), tmp_path / f"seed{seed}") for seed in (0, 1))
    lines = list(csv.DictReader(quality.collected([one.out, other.out]).splitlines()))
    maps = [result.rounds[-1].scores["val"].fixed["miou"] for result in (one, other)]
    what = f"response maps: round {one.rounds[-1].round_index}"
    (line,) = (line for line in lines if (line["split"], line["what"]) == ("val", what))
    assert (line["mIoU"], line["n"]) == (f"{100 * statistics.fmean(maps):.2f}", "2")
    assert line["std"] == f"{100 * statistics.stdev(maps):.2f}"
    with pytest.raises(SettingsError, match=r"1 kinds, seeds \[0, 0\]"):
        quality.collected([one.out, one.out])
    short = pipeline.run(tiny_run.with_({"seed": 2, "rounds": 0}), tmp_path / "short")
    with pytest.raises(SettingsError, match="2 kinds"):
        quality.collected([one.out, short.out])


def test_a_file_without_marks_is_left_alone() -> None:
    with pytest.raises(ValueError, match="expected the marks"):
        quality.between_marks("# subcam\n", "")
