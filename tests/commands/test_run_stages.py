"""`subcam classify`, ..., `segment`: each ends with its stage, and shares the folder with the others."""

import shlex
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from subcam import cli, pipeline
from subcam.commands import run
from subcam.commands.run import STAGES, _where
from subcam.results import read_run
from subcam.run_files.config_file import write_config
from subcam.settings import RunSettings


@pytest.fixture
def begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., RunSettings]:
    """The settings of the run that these words would begin."""
    monkeypatch.chdir(tmp_path)

    class Begun(Exception):  # noqa: N818 - ends the command where the run begins
        pass

    def begin(settings: RunSettings, out: Path, *, recipe: str) -> None:
        raise Begun(settings)

    def begun(*words: str) -> RunSettings:
        monkeypatch.setattr(pipeline, "run", begin)
        monkeypatch.setattr("subcam.data.dataset.require_root", lambda _: None)
        monkeypatch.setattr(RunSettings, "require_given", lambda _: None)
        with pytest.raises(Begun) as raised:
            cli.main(list(words))
        return raised.value.args[0]

    return begun


def test_stage_by_stage_is_the_same_run(
    refined_settings: RunSettings, refined_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is computed twice, and what is there in the end is what `run` computes."""
    settings = refined_settings.with_({"segment.train_on": ("pseudo",)})
    write_config(tmp_path / "run.toml", settings, recipe="toy")
    words = ["--config", str(tmp_path / "run.toml"), "--out", str(tmp_path / "run"), "--no-report"]
    there: set[str] = set()
    for command, kinds in (
        ("classify", {"round0-classify"}),
        ("cam", {"round0-cam", "round0-evaluate-val"}),
        (
            "refine",
            {f"round0-{name}" for name in ("crf", "affinity", "walk", "masks", "evaluate-masks-val", "confidence")},
        ),
        ("segment", {"round0-segment", "round0-segment-predict", "round0-segment-evaluate-val"}),
        ("run", set()),
    ):
        assert cli.main([command, *words]) == 0
        now = {path.name for path in (tmp_path / "run" / "stages").iterdir()}
        assert {name.rpartition("-")[0] for name in now - there} == kinds
        assert there <= now
        there = now
        said = capsys.readouterr().out
        assert "computed anew" not in said
        where, page, following = said.splitlines()[-3:]
        out = tmp_path / "run"
        masks = f"masks: {out / 'masks'}"
        begins = {"classify": f"network: {out / 'stages' / 'round0'}", "refine": masks}
        begins["cam"] = f"response maps: {out / 'stages' / 'round0'}"
        assert where.startswith(begins.get(command, f"{masks}; network: {out / 'model'}"))
        assert page == f"page: none; subcam report {out} writes it"
        if STAGES.get(command, STAGES["segment"]).then == "predict":
            assert following == f"next: subcam predict {out} IMAGES --out predictions"
        else:
            assert following == f"next: {shlex.join(['subcam', STAGES[command].then, *words])}"
    assert there <= {path.name for path in (refined_run / "stages").iterdir()}


def test_quiet_leaves_warnings_and_the_last_three_lines(
    tiny_run: RunSettings,
    toy_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without ground truth the masks go to people, the worst first."""
    images = tmp_path / "images"
    images.mkdir()
    lines = (toy_folder / "labels.csv").read_text("utf-8").splitlines()[:9]
    header = lines[0].split(",")
    place, labels = header.index("image"), header.index("labels")
    rows = [line.split(",") for line in lines[1:]]
    for row in rows:
        shutil.copy(toy_folder / row[place], images)
    table = [f"{Path(row[place]).name},{row[labels]}" for row in rows]
    (images / "labels.csv").write_text("\n".join(["image,labels", *table]) + "\n", "utf-8")
    changes = {"rounds": 0, "classify.epochs": 0, "classify.batch_size": 4, "cam.scales": (1.0,)}
    changes |= {"refine.rounds": "last", "refine.random_walk": False, "refine.masks.pseudo_mask": "crf"}
    write_config(tmp_path / "run.toml", tiny_run.with_(changes), recipe="toy")
    out = tmp_path / "run"
    words = ["--config", str(tmp_path / "run.toml"), "--data", str(images), "--out", str(out)]
    assert cli.main(["run", *words, "--no-report", "--quiet"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert all(line.startswith("warning: ") for line in said[:-3])
    assert said[-3:] == [
        f"masks: {out / 'masks'}",
        f"page: none; subcam report {out} writes it",
        f"next: subcam export label-studio {out} --out {out}-tasks",
    ]
    assert cli.main(said[-1].removeprefix("next: subcam ").split()) == 0
    log = (out / "run.log").read_text("utf-8")
    assert log.count("no ground-truth masks, and none are needed") == 1
    assert "nothing was scored; a summary is in" in log
    capsys.readouterr()
    monkeypatch.setattr(run, "WORST", 3)
    assert cli.main(["run", *words, "--no-report", "--quiet"]) == 0
    assert capsys.readouterr().out.endswith(f"next: subcam export label-studio {out} --worst 3 --out {out}-tasks\n")
    assert "with the ground truth" not in log
    assert "stage 1 of" in log
    assert "\n".join(said[-3:]) in log


def test_a_first_look_says_that_its_masks_can_be_used(refined_run: Path) -> None:
    result = read_run(refined_run).result
    assert "look" not in _where(result)
    quick = replace(result, settings=replace(result.settings, quick=True))
    assert _where(quick).endswith("; a first look: export and predict work with it too")


def test_a_run_that_ended_early_is_read_again(tiny_run: RunSettings, tmp_path: Path) -> None:
    settings = tiny_run.with_({"until": "discover", "classify.epochs": 0, "cam.scales": (1.0,)})
    result = pipeline.run(settings, tmp_path)
    first, last = read_run(tmp_path).rounds
    assert first.maps
    assert last.clusters
    assert (last.model, last.maps) == (None, None)
    assert result.rounds == (first, last)


@pytest.mark.thorough
@pytest.mark.parametrize("until", ["classify", "discover"])
def test_a_run_that_ended_early_has_a_page(until: str, tiny_run: RunSettings, tmp_path: Path) -> None:
    pipeline.run(tiny_run.with_({"until": until, "classify.epochs": 0, "cam.scales": (1.0,)}), tmp_path)
    assert cli.main(["report", str(tmp_path)]) == 0


def test_sub_categories_of_given_features_need_no_network(
    tiny_run: RunSettings, toy_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    features = np.random.default_rng(0).normal(size=(24, 5))
    np.save(tmp_path / "features.npy", features)
    write_config(tmp_path / "run.toml", tiny_run.with_({"dataset.root": str(toy_folder)}), recipe="toy")
    words = ["--config", str(tmp_path / "run.toml"), "--out", str(tmp_path / "run"), "--no-report"]
    assert cli.main(["discover", *words, "--features", str(tmp_path / "features.npy")]) == 0
    (stage,) = (tmp_path / "run" / "stages").iterdir()
    assert stage.name.startswith("round1-discover-")
    assert (np.load(stage / "part-00000.npy") == features.astype(np.float32)).all()
    assert (stage / "clusters.csv").is_file()
    for bad, said in ((features[:5], "a row for each of 24 training images"), (features * np.nan, "finite features")):
        np.save(tmp_path / "features.npy", bad)
        capsys.readouterr()
        assert cli.main(["discover", *words, "--features", str(tmp_path / "features.npy")]) == cli.EXIT_USER
        assert said in capsys.readouterr().err


def test_what_the_commands_set(begun: Callable[..., RunSettings]) -> None:
    assert begun("cam", "toy").until == "cam"
    assert begun("classify", "toy", "--until-round", "0").last_round == 0
    of_maps = begun("refine", "--maps", "cams", "--maps-classes", "cat", "dog", "--data", "x")
    assert (of_maps.given_maps.folder, of_maps.given_maps.classes) == ("cams", ("cat", "dog"))
    assert (of_maps.until, of_maps.route) == ("refine", "prototypes")  # the recipe small
    of_masks = begun("segment", "toy", "--masks", "masks", "--masks-unknown", "ignore")
    assert (of_masks.given_masks.folder, of_masks.given_masks.unknown) == ("masks", "ignore")
    assert of_masks.segment.train_on == ("pseudo",)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("cam", "toy", "--until", "refine"), "'cam' ends with its own stage"),
        (("cam", "toi"), "expected a recipe after 'cam', got toi"),
        (("refine", "--maps", "x", "--masks", "y", "--data", "toy"), "leave --maps or --masks out"),
        (("refine", "toy", "--masks", "y"), "from given masks a network is trained"),
        (("classify", "toy", "--maps", "y"), "given maps and masks come after all rounds"),
        (("discover", "toy", "--rounds", "0"), "nothing is discovered before round 1"),
        (("cam", "toy", "--until-round", "9"), "expected a round of 0..3"),
        (("refine", "small", "--features", "x.npy"), "prototypes are not"),
        (("refine", "toy", "--maps", "gone", "--out", "run"), "gone: expected a folder of response maps"),
        (("segment", "toy", "--masks", "gone", "--out", "run"), "gone: expected a folder of masks"),
        (("refine", "small", "--refine.no-random-walk"), "give crf there"),
    ],
)
def test_mistakes(
    words: tuple[str, ...],
    said: str,
    toy_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main([*words, *([] if "--data" in words else ["--data", str(toy_folder)])]) == cli.EXIT_USER
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("stage", STAGES)
def test_help_says_what_is_taken_and_left(stage: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main([stage, "--help"])
    said = capsys.readouterr().out
    for part in (STAGES[stage].does, STAGES[stage].takes, STAGES[stage].leaves, f"usage: subcam {stage} RECIPE"):
        assert part in said
