"""`python -m benchmarks recipe`: two versions take turns, what each run took is kept, and half a run is begun anew."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from benchmarks import recipe
from benchmarks.measure import Options, Process

from subcam.errors import BadInputError

VERSIONS = {"old/python": "0.1.0", sys.executable: "0.2.0"}


def score(miou: float) -> dict:
    return {"train": {"fixed": {"miou": 0.1}}, "val": {"fixed": {"miou": miou}}}


def record(miou: float, *, maps: float = 0.5) -> dict:
    masks = {"val": {"variants": {"walk-crf": {"miou": miou}, "walk": {"miou": 0.9 - miou}}}}
    network = {"val": {"plain": {"miou": 0.75}}}
    return {
        "rounds": [{"round": 0, "scores": score(maps)}],
        "refined": [{"scores": masks}],
        "segment": [{"scores": network}],
    }


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the folders of runs, in order; the later version takes 3 s, and its masks score half a point less."""
    folders: list[str] = []

    def process(words: Sequence[str]) -> Process:
        out = Path(words[-1])
        assert not out.exists()
        stage = out / "stages" / "round0-cam-1"
        stage.mkdir(parents=True)
        (stage / "stage.json").write_text(json.dumps({"stage": "round0-cam", "seconds": 2.0}), "utf-8")
        old = words[0] == "old/python"
        (out / "run.json").write_text(json.dumps(record(0.6) if old else record(0.595, maps=0.4)), "utf-8")
        folders.append(out.name)
        seconds = 9.0 if old else 3.0
        return Process(seconds=seconds, cpu_seconds=seconds, peak_mib=400.0 if old else 100.0)

    monkeypatch.setattr(recipe, "run_process", process)
    monkeypatch.setattr(recipe, "version_of", lambda python: VERSIONS[str(python)])
    return folders


def test_two_versions_take_turns_and_what_was_measured_is_kept(ran: list[str], tmp_path: Path) -> None:
    given = Options(baseline_python=Path("old/python"), data=tmp_path / "set", seeds=(0, 7), work=tmp_path)
    half = tmp_path / "0.1.0-seed7"
    half.mkdir()
    (row,) = recipe.rows(given)
    assert ran == ["0.1.0-seed0", "0.2.0-seed0", "0.1.0-seed0", "0.2.0-seed0", "0.1.0-seed7", "0.2.0-seed7"]
    assert (row.seconds, row.other_seconds, row.ratio, row.memory_ratio) == (3.0, 9.0, 3.0, 4.0)
    assert row.difference == pytest.approx(0.5)
    assert not half.exists()
    (tmp_path / "0.2.0-seed7.json").unlink()
    assert list(recipe.rows(given)) == [row]
    assert ran[6:] == ["0.2.0-seed7"]
    assert "| cam | 2.0 | 2.0 | 2.0 | 2.0 |" in recipe.details(tmp_path)
    assert "| pseudo masks, walk-crf | 60.0 | 60.0 | 59.5 | 59.5 |" in recipe.details(tmp_path)


def test_scores_are_those_of_the_last_split() -> None:
    expected = {"maps of round 0": 50, "pseudo masks, walk-crf": 60, "pseudo masks, walk": 30, "network, plain": 75}
    assert recipe.scores(record(0.6)) == pytest.approx(expected)


def test_a_version_of_its_own_and_data_are_needed(ran: list[str], tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="--baseline-python"):
        list(recipe.rows(Options(data=tmp_path)))
    with pytest.raises(BadInputError, match="runs this version itself"):
        list(recipe.rows(Options(data=tmp_path, baseline_python=Path(sys.executable))))
    assert ran == []


def test_an_interpreter_without_subcam_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="is no Python that has subcam"):
        recipe.version_of(tmp_path / "python")
