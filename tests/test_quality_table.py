"""The README's table of results says what the files in `docs/results` say."""

from pathlib import Path

import pytest
from benchmarks import quality

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
    for file in (quality.PAPER, quality.COMPARED, quality.EARLIER):
        (tmp_path / file).write_text(HEAD)
    lines = quality.table(tmp_path).splitlines()
    assert lines[2:] == ["| **prototypes (round 2)** | 3 | 62.0 ± 1.3 |  | 70.0 |  |"]


def test_a_file_without_marks_is_left_alone() -> None:
    with pytest.raises(ValueError, match="expected the marks"):
        quality.between_marks("# subcam\n", "")
