"""`subcam ablate`: what variants share, what a kill or a failure leaves, and what a dry run sees."""

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.test_results import record as made_record

import subcam.stages.classify as classify
from subcam import cli, pipeline, recipes
from subcam.ablation import run as loop
from subcam.errors import BadInputError, RunFolderError
from subcam.report.tables.tables import BEST_NOTE
from subcam.runtime.files import write_json
from subcam.runtime.run_folder import RunFolder
from subcam.settings import RunSettings

GRID = "discover.num_subcategories=1,2,3"

RECORD: dict[str, Any] = made_record() | {"seconds_this_time": 1.5, "segment": [], "refined": [], "compared": []}
"""Of a made-up run."""


@pytest.fixture(autouse=True)
def tiny(tiny_run: RunSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    """`subcam ablate tiny` is of runs of a second."""
    monkeypatch.setitem(recipes.RECIPES, "tiny", lambda: tiny_run)


def ablate(out: Path, *words: str) -> int:
    return cli.main(["ablate", "tiny", "--out", str(out), *words])


def results(out: Path) -> dict[str, Any]:
    return json.loads((out / "ablate.json").read_text("utf-8"))


def without_seconds(out: Path) -> dict[str, Any]:
    found = results(out)
    for run in found["runs"]:
        del run["seconds"]
    return found


@pytest.fixture(scope="module")
def done(tiny_run: RunSettings, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int]:
    """An ablation over K = 1, 2, 3 with one seed, not to be changed, and how many networks were trained in it."""
    out = tmp_path_factory.mktemp("done") / "run"
    trainings = []
    really_train = classify.train

    def train(*args: Any, **kwargs: Any) -> None:
        trainings.append(args)
        really_train(*args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(recipes.RECIPES, "tiny", lambda: tiny_run)
        patch.setattr(classify, "train", train)
        assert ablate(out, "--grid", GRID) == cli.EXIT_OK
    return out, len(trainings)


@pytest.fixture
def copied(done: tuple[Path, int], tmp_path: Path) -> Path:
    return shutil.copytree(done[0], tmp_path / "copied")


@pytest.fixture
def never_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(classify, "train")


def test_round_0_is_trained_once_for_all(done: tuple[Path, int]) -> None:
    out, trainings = done
    assert trainings == 1 + 3
    stages = [path.name.rpartition("-")[0] for path in (out / "stages").iterdir()]
    assert [stages.count(f"round{r}-{what}") for r in (0, 1) for what in ("classify", "cam")] == [1, 1, 3, 3]


def test_results_name_every_run_and_their_summary(done: tuple[Path, int], tiny_run: RunSettings) -> None:
    out, _ = done
    found = results(out)
    assert [run["grid"] for run in found["runs"]] == [{"discover.num_subcategories": k} for k in (1, 2, 3)]
    assert found["failed"] == []
    assert BEST_NOTE in found["notes"]
    by_k: dict[int, float] = {}
    for run in found["runs"]:
        record = json.loads((out / "ablate" / f"{run['name']}.json").read_text("utf-8"))
        assert record["recipe"] == "tiny"
        assert run["settings"]["discover"]["num_subcategories"] == run["grid"]["discover.num_subcategories"]
        assert run["scores"]["val"]["response maps: round 1"] == record["rounds"][1]["scores"]["val"]["fixed"]["miou"]
        assert run["seed"] == 0
        assert run["seconds"] > 0
        by_k[run["grid"]["discover.num_subcategories"]] = run["scores"]["val"]["response maps: round 1"]
    rows = [row for row in found["summary"] if row["what"] == "response maps: round 1"]
    assert {row["grid"]["discover.num_subcategories"]: row["mean"] for row in rows} == by_k
    assert {(row["split"], row["n"], row["std"]) for row in found["summary"]} == {("val", 1, None)}


def test_tables_as_csv_and_markdown(done: tuple[Path, int]) -> None:
    out, _ = done
    with (out / "ablate.csv").open(encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    assert header == ["discover.num_subcategories", "split", "what", "mIoU", "std", "n"]
    summary = results(out)["summary"]
    for row, entry in zip(rows, summary, strict=True):
        k = str(entry["grid"]["discover.num_subcategories"])
        assert row == [k, "val", entry["what"], f"{100 * entry['mean']:.2f}", "", "1"]
    text = (out / "ablate.md").read_text("utf-8")
    assert "| num_subcategories | n | round 0 | round 1 |" in text
    assert "**Response maps, best threshold *, val (mIoU, per cent)**" in text
    assert BEST_NOTE in text
    assert "picked it by looking at the masks" in text


def test_what_is_done_is_not_done_again(
    copied: Path, never_trained: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = results(copied)
    monkeypatch.delattr(pipeline, "run")
    assert ablate(copied, "--grid", GRID, "--machine.checkpoint-seconds", "5") == cli.EXIT_OK
    assert results(copied) == before
    said = capsys.readouterr().out
    assert said.count("seed=0: done before (") == 3
    assert "3 variants, 3 of them done before" in said
    assert BEST_NOTE in " ".join(said.split("\n"))


def test_other_settings_are_other_variants_and_share_what_is_equal(copied: Path, never_trained: None) -> None:
    words = ("--grid", "discover.num_subcategories=2", "evaluate.background_threshold=0.1,0.9")
    assert ablate(copied, *words) == cli.EXIT_OK
    found = results(copied)
    assert [run["grid"]["evaluate.background_threshold"] for run in found["runs"]] == [0.1, 0.9]
    low, high = (run["scores"]["val"] for run in found["runs"])
    assert low["response maps: round 0"] != high["response maps: round 0"]
    assert low["response maps, best threshold *: round 0 *"] == pytest.approx(
        high["response maps, best threshold *: round 0 *"], abs=0.02
    )
    assert len(list((copied / "ablate").glob("*.json"))) == 3 + 2


def test_changed_images_are_other_variants(toy_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = shutil.copytree(toy_folder, tmp_path / "images")
    ran = recorded(monkeypatch)
    words = ("--data", str(images))
    assert ablate(tmp_path / "run", *words) == ablate(tmp_path / "run", *words) == cli.EXIT_OK
    assert len(ran) == 1
    shutil.copy(images / "images" / "val-00001.png", images / "images" / "val-00000.png")
    assert ablate(tmp_path / "run", *words) == cli.EXIT_OK
    assert len(ran) == 2


def test_rounds_share_every_training(copied: Path, never_trained: None) -> None:
    """Only the last round's maps are of the training images too; they are made again, nothing is trained."""
    assert ablate(copied, "--grid", "rounds=0,1", "discover.num_subcategories=3") == cli.EXIT_OK
    stages = [path.name.rpartition("-")[0] for path in (copied / "stages").iterdir()]
    assert [stages.count(f"round0-{what}") for what in ("classify", "cam", "evaluate-val")] == [1, 2, 2]
    scores = [run["scores"]["val"] for run in results(copied)["runs"]]
    assert [len(own) for own in scores] == [2, 4]
    assert scores[0]["response maps: round 0"] == scores[1]["response maps: round 0"]


def test_a_kill_inside_a_variant_changes_no_score(
    done: tuple[Path, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, _ = done
    really_train, trainings = classify.train, []

    def killed(*args: Any, **kwargs: Any) -> None:
        trainings.append(args)
        if len(trainings) == 3:
            raise KeyboardInterrupt
        really_train(*args, **kwargs)

    monkeypatch.setattr(classify, "train", killed)
    assert ablate(tmp_path / "run", "--grid", GRID) == cli.EXIT_INTERRUPTED
    assert len(results(tmp_path / "run")["runs"]) == 1
    assert ablate(tmp_path / "run", "--grid", GRID) == cli.EXIT_OK
    assert len(trainings) == 4 + 1
    assert without_seconds(tmp_path / "run") == without_seconds(out)


# Kills and failures, with made-up runs


def recorded(
    monkeypatch: pytest.MonkeyPatch, ends: Callable[[RunSettings], BaseException | None] = lambda _: None
) -> list[RunSettings]:
    """In place of each run, write a record; or raise what `ends` gives for its settings."""
    ran: list[RunSettings] = []

    def run(settings: RunSettings, out: Path, *, record: str, **_: Any) -> None:
        ran.append(settings)
        error = ends(settings)
        if error:
            raise error
        write_json(out / record, RECORD | {"settings": settings})

    monkeypatch.setattr(pipeline, "run", run)
    monkeypatch.setattr(loop, "_free_memory", lambda: None)  # there is none, and looking for it takes long
    return ran


def ks(runs: list[RunSettings]) -> list[int]:
    return [settings.discover.num_subcategories for settings in runs]


def test_a_kill_between_variants_costs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stop = True
    ran = recorded(monkeypatch, lambda s: KeyboardInterrupt() if stop and s.discover.num_subcategories == 2 else None)
    assert ablate(tmp_path, "--grid", GRID, "--seeds", "0", "1") == cli.EXIT_INTERRUPTED
    assert [run["grid"]["discover.num_subcategories"] for run in results(tmp_path)["runs"]] == [1]
    stop = False
    assert ablate(tmp_path, "--grid", GRID, "--seeds", "0", "1") == cli.EXIT_OK
    assert ks(ran) == [1, 2, 2, 3, 1, 2, 3]
    assert {row["n"] for row in results(tmp_path)["summary"]} == {2}
    assert {row["std"] for row in results(tmp_path)["summary"]} == {0}


@pytest.mark.parametrize("error", [BadInputError("the image is bad"), ZeroDivisionError("ours")])
def test_a_failure_is_said_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception
) -> None:
    fails = True
    ran = recorded(monkeypatch, lambda s: error if fails and s.discover.num_subcategories == 2 else None)
    assert ablate(tmp_path, "--grid", GRID) == cli.EXIT_USER
    assert ks(ran) == [1, 2, 3]
    captured = capsys.readouterr()
    assert captured.err.startswith("error: 1 of 3 variants failed, as said above")
    said = str(error) if isinstance(error, BadInputError) else "ZeroDivisionError: ours"
    assert f"failed: num_subcategories=2 seed=0: {said}" in captured.out
    found = results(tmp_path)
    assert len(found["runs"]) == 2
    (failed,) = found["failed"]
    assert (failed["grid"], failed["seed"]) == ({"discover.num_subcategories": 2}, 0)
    assert failed["error"] == said
    assert ("Traceback" in failed["traceback"]) == isinstance(error, ZeroDivisionError)
    assert f"Failed: num_subcategories=2 seed=0: {said}" in (tmp_path / "ablate.md").read_text("utf-8")
    fails = False
    assert ablate(tmp_path, "--grid", GRID) == cli.EXIT_OK
    assert ks(ran) == [1, 2, 3, 2]
    assert results(tmp_path)["failed"] == []


def test_it_stops_at_a_failure_if_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran = recorded(monkeypatch, lambda s: BadInputError("bad") if s.discover.num_subcategories == 2 else None)
    assert ablate(tmp_path, "--grid", GRID, "--on-failure", "stop") == cli.EXIT_USER
    assert ks(ran) == [1, 2]
    assert len(results(tmp_path)["runs"]) == 1


@pytest.mark.parametrize("error", [RunFolderError("the folder is in use"), OSError(28, "No space left on device")])
def test_what_would_end_every_variant_ends_the_ablation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    ran = recorded(monkeypatch, lambda _: error)
    assert ablate(tmp_path, "--grid", GRID) == cli.EXIT_USER
    assert ks(ran) == [1]


def test_a_real_failure_in_one_variant(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ablate(tmp_path, "--rounds", "0", "--grid", "network.weights=nowhere.pth,none") == cli.EXIT_USER
    said = capsys.readouterr().out
    assert "failed: weights=nowhere.pth seed=0: --network.weights: there is no file nowhere.pth" in said
    assert [run["grid"] for run in results(tmp_path)["runs"]] == [{"network.weights": "none"}]


def test_two_ablations_in_one_folder_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with RunFolder(path=tmp_path / "ablate").lock():
        assert ablate(tmp_path) == cli.EXIT_USER
    assert "is in use by process" in capsys.readouterr().err


# A dry run


def test_a_dry_run_says_what_is_there_and_does_nothing(
    copied: Path, never_trained: None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(pipeline, "run")
    monkeypatch.setenv("COLUMNS", "200")
    before = sorted(copied.rglob("*"))
    words = ("--grid", "discover.num_subcategories=3,4", "--seeds", "0", "7", "--dry-run")
    assert ablate(copied, *words) == cli.EXIT_OK
    assert sorted(copied.rglob("*")) == before
    said = capsys.readouterr().out
    lines = [line.split() for line in said.splitlines() if "seed=" in line]
    assert [line[:3] for line in lines] == [
        ["num_subcategories=3", "seed=0", "done"],
        ["num_subcategories=4", "seed=0", "3"],
        ["num_subcategories=3", "seed=7", "0"],
        ["num_subcategories=4", "seed=7", "0"],
    ]
    assert lines[1][3:5] == ["stages", "there"]
    assert lines[1][5].startswith("round1-discover-")
    assert lines[2][5].startswith("round0-classify-")
    assert lines[2][5] == lines[3][5]
    assert "4 variants, 1 of them done" in said
    assert "kept from before" not in said


def test_a_dry_run_sees_a_lost_record(
    copied: Path, never_trained: None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    for record in (copied / "ablate").glob("*.json"):
        record.unlink()
    assert ablate(copied, "--grid", GRID, "--dry-run") == cli.EXIT_OK
    said = " ".join(capsys.readouterr().out.split())
    assert said.count("7 stages there none, only the record") == 3
    assert ablate(copied, "--grid", GRID) == cli.EXIT_OK


# Words


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "expected a recipe after 'ablate', got nothing; there are: toy, small"),
        (["tyni"], "expected a recipe after 'ablate', got tyni; there are: toy, small"),
        (["tiny", "--grid", "rounds"], "--grid takes NAME=VALUE,VALUE,..."),
        (["tiny", "--grid", "discover.k=1"], "there is no setting 'discover.k'"),
        (["tiny", "--grid", "rounds=x"], "--grid rounds: expected a whole number from 0 to 1000, got 'x'"),
        (["tiny", "--seeds", "1", "1"], "expected one seed or more, each once, got [1, 1]"),
        (["small", "--grid", "rounds=0"], "no images were named; give --data DIR"),
    ],
)
def test_mistakes_are_one_line(
    words: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["ablate", *words]) == cli.EXIT_USER
    assert message in capsys.readouterr().err


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(["ablate", "small", "--help"])
    assert caught.value.code == cli.EXIT_OK
    shown = capsys.readouterr().out
    assert "--on-failure {continue,stop}" in shown
    assert "--discover.num-subcategories" in shown
