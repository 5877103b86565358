"""`subcam run`: settings from a recipe, from a file, and from flags on top."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from subcam import cli, pipeline
from subcam.recipes import RECIPES
from subcam.run_files.config_file import read_config, write_config
from subcam.settings import RunSettings


@pytest.fixture
def run_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[RunSettings, Path, str]]:
    """What these words would run: the settings, the run's folder and the recipe."""
    monkeypatch.chdir(tmp_path)

    class Begun(Exception):  # noqa: N818 - ends the command where the run begins
        pass

    def begin(settings: RunSettings, out: Path, *, recipe: str) -> None:
        raise Begun(settings, out, recipe)

    def run_with(*words: str) -> tuple[RunSettings, Path, str]:
        monkeypatch.setattr(pipeline, "run", begin)
        monkeypatch.setattr("subcam.data.dataset.require_root", lambda _: None)
        with pytest.raises(Begun) as begun:
            cli.main(["run", *words])
        return begun.value.args

    return run_with


def test_a_run_is_done_again_by_its_configuration(
    tiny_run: RunSettings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same stage folders, which are named by all that they depend on, and the same scores."""
    first, again = tmp_path / "first", tmp_path / "again"
    tiny_run = tiny_run.with_({"rounds": 0, "classify.epochs": 1, "cam.scales": (1.0,)})
    write_config(tmp_path / "tiny.toml", tiny_run, recipe="toy")
    for config, out in ((tmp_path / "tiny.toml", first), (first / "config.toml", again)):
        assert cli.main(["run", "--config", str(config), "--out", str(out), "--no-report"]) == 0
    assert read_config(first / "config.toml").settings() == tiny_run
    assert (again / "config.toml").read_bytes() == (first / "config.toml").read_bytes()
    stages = [sorted(path.name for path in (out / "stages").iterdir()) for out in (first, again)]
    assert stages[0] == stages[1]
    rounds = [json.loads((out / "run.json").read_text("utf-8"))["rounds"] for out in (first, again)]
    assert rounds[0]
    assert str(rounds[0]) == str(rounds[1])
    capsys.readouterr()


def test_flags_count_on_top_of_a_file(run_with: Callable, tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_text('recipe = "toy"\nrounds = 2\nseed = 5\n[classify]\nepochs = 9\n')
    expected = RECIPES["toy"]().with_({"rounds": 2, "seed": 7, "classify.epochs": 9})
    for words in (
        ("--config", "run.toml", "--seed", "7"),
        ("--config=run.toml", "--seed", "7"),
        ("toy", "--seed", "7", "--config", "run.toml"),
    ):
        assert run_with(*words) == (expected, Path("runs/toy"), "toy")
    assert run_with("--config", "run.toml", "--out", "x")[1] == Path("x")


def test_a_configuration_without_recipe_is_of_the_settings_own_defaults(run_with: Callable, tmp_path: Path) -> None:
    write_config(tmp_path / "run.toml", RunSettings(seed=4), recipe="")
    assert run_with("--config", "run.toml") == (RunSettings(seed=4), Path("runs/mine"), "")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--config",), "expected a file after --config, got none"),
        (("toy", "--config", "--seed", "3"), "expected a file after --config, got none"),
        (("--config", "run.toml"), "run.toml: there is no setting 'sed'; did you mean 'seed'"),
        (("small", "--config", "run.toml"), "run.toml: its recipe is 'toy', and the command's 'small'; leave one out"),
        (("--config", "gone.toml"), "gone.toml: the configuration cannot be read"),
        (("smal", "--config", "run.toml"), "expected a recipe after 'run', got smal"),
    ],
)
def test_mistakes(
    words: tuple[str, ...],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run.toml").write_text('recipe = "toy"\nsed = 3\n')
    assert cli.main(["run", *words]) == cli.EXIT_USER
    assert capsys.readouterr().err.startswith(f"error: {message}")


def test_the_code_of_a_file_s_methods_runs_where_the_command_names_it_too(run_with: Callable, tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_text('recipe = "toy"\ncompare.methods = ["erasing", "a.b:C"]\n')
    for words in (("--method", "erasing", "a.b:C"), ("--compare.methods=a.b:C",)):
        settings, _, _ = run_with("--config", "run.toml", *words)
        assert settings.compare.methods == tuple(words[0].partition("=")[2].split() or words[1:])
    for words in ((), ("--method", "erasing"), ("--method", "a.b:D")):
        assert cli.main(["run", "--config", "run.toml", *words]) == 2
