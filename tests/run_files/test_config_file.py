"""Configuration files: what a run leaves is read back as the same, and what is no setting is an error of the file."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from subcam.errors import BadInputError, SettingsError
from subcam.recipes import RECIPES
from subcam.run_files.config_file import PROVENANCE, read_config, write_config
from subcam.run_files.provenance import revision
from subcam.runtime.documents import toml_text
from subcam.runtime.documents.plain_values import as_plain
from subcam.settings import RunSettings


def written(folder: Path, text: str) -> Path:
    path = folder / "run.toml"
    path.write_text(text, "utf-8")
    return path


@pytest.mark.parametrize("recipe", [*RECIPES, ""])
def test_all_settings_of_a_recipe_are_read_back(recipe: str, tmp_path: Path) -> None:
    settings = RECIPES[recipe]() if recipe else RunSettings()
    write_config(tmp_path / "config.toml", settings, recipe=recipe)
    config = read_config(tmp_path / "config.toml")
    assert config.recipe == recipe
    assert config.settings() == settings
    content = toml_text.loads((tmp_path / "config.toml").read_bytes())
    assert set(content) == {"recipe", PROVENANCE, *as_plain(settings)}, "not every setting is written"


def test_values_that_toml_has_no_word_for_are_read_back(tmp_path: Path) -> None:
    """None where the recipe has a value, a name that is not UTF-8, a table of a model's arguments, an odd float."""
    changed = RunSettings().with_(
        {
            "network.mean": (0.1, 0.2, 0.30000000000000004),
            "network.model_args": {"drop_rate": 0.1, "a b": "x", "deep": True},
            "dataset.root": "images-\udcff",
            "dataset.classes": ['a "b"', "ü"],
        }
    )
    for settings in (changed, changed.with_({"network.mean": None, "network.model_args": {}})):
        write_config(tmp_path / "config.toml", settings, recipe="")
        assert read_config(tmp_path / "config.toml").settings() == settings
    assert changed.with_(read_config(tmp_path / "config.toml").values).network.mean is None


def test_a_file_says_only_what_it_changes(tmp_path: Path) -> None:
    path = written(tmp_path, 'recipe = "small"\nseed = 3\n[classify]\nepochs = 2\n[classify.optimiser]\nmomentum = 0\n')
    assert read_config(path).settings() == RECIPES["small"]().with_(
        {"seed": 3, "classify.epochs": 2, "classify.optimiser.momentum": 0.0}
    )
    bare = written(tmp_path, "\ufeffseed = 3\n")
    assert read_config(bare).settings("toy") == replace(RECIPES["toy"](), seed=3)


def test_a_file_that_says_the_same_is_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    write_config(path, RunSettings(), recipe="")
    before = path.stat()
    write_config(path, RunSettings(), recipe="")
    assert path.stat().st_ino == before.st_ino
    write_config(path, RunSettings(seed=1), recipe="")
    assert path.stat().st_ino != before.st_ino


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sed = 3", "there is no setting 'sed'; did you mean 'seed'"),
        ("[clasify]\nepochs = 3", "there is no setting 'clasify.epochs'; did you mean 'classify.epochs' or"),
        ("[segmnt.train]\nepochs = 3", "'segmnt.train.epochs'; did you mean 'segment.train.epochs' or"),
        ("[classify]\nepoch = 3", "there is no setting 'classify.epoch'; did you mean 'classify.epochs'"),
        ("subcategories = 3", "the setting 'subcategories' has been renamed to 'route'"),
        ("classify = 3", "classify: expected a table of settings, [classify], got 3"),
        ("[classify]\nepochs = 1.5", "classify.epochs: expected a whole number from 0 to 1000000, got 1.5"),
        ("[classify]\nepochs = 1979-05-27", "classify.epochs: expected a whole number from 0"),
        ("[evaluate]\nbackground_threshold = nan", "evaluate.background_threshold: expected a number from 0 to 1 or"),
        ('[network]\nname = "a\\nb"', "network.name: expected text"),
        ("[refine.walk]\nalphas = [7]", "refine: expected masks.walk_alpha to be one of walk.alphas"),
        ('out = "runs/x"', "'out' is no setting; give --out DIR"),
        ('data = "images"', "'data' is no setting; give root = \"DIR\" in the table [dataset]"),
        (f"{'a.' * 500}b = 1", "there is no setting 'a.a.a.a.a.a.a.a.a'"),
    ],
)
def test_what_is_no_setting_is_an_error_of_the_file(text: str, message: str, tmp_path: Path) -> None:
    path = written(tmp_path, text)
    with pytest.raises(SettingsError) as error:
        read_config(path).settings("toy")
    assert str(error.value).startswith(f"{path}: ")
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("text", "given", "message"),
    [
        ("seed = 1", None, 'expected a line such as recipe = "small", got none'),
        ('recipe = "small"', "toy", "its recipe is 'small', and the command's 'toy'; leave one out"),
        ('recipe = "smal"', None, "there is no recipe 'smal'; did you mean 'small'"),
        ("recipe = 3", None, "there is no recipe 3; known are: "),
        ("recipe = []", None, "there is no recipe []; known are: "),
    ],
)
def test_one_recipe_is_named(text: str, given: str | None, message: str, tmp_path: Path) -> None:
    path = written(tmp_path, text)
    with pytest.raises(SettingsError) as error:
        read_config(path).settings(given)
    assert str(error.value).startswith(f"{path}: {message}")


@pytest.mark.parametrize(
    "data",
    [
        b"seed 3",
        b"seed = 3\nseed = 4",
        b"\xff\xfe",
        b"a = " + b"[" * 3000,
        b"a = " + b"{a=" * 3000,
        b"a = " + b"9" * 5000,
        b"\0",
    ],
)
def test_what_is_no_toml_is_an_error_of_the_file(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_bytes(data)
    with pytest.raises(BadInputError, match=r"run.toml: expected TOML, got something else \(.+\); correct it"):
        read_config(path)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=r"run.toml: the configuration cannot be read"):
        read_config(tmp_path / "run.toml")
    with pytest.raises(BadInputError, match="expected a file, got a folder"):
        read_config(tmp_path)


def test_a_revision_is_that_of_the_checkout_that_has_the_package(tmp_path: Path) -> None:
    package = tmp_path / "package"
    package.mkdir()
    (package / "code.py").write_text("one = 1\n")
    assert revision(package / ".") == ""

    def git(*words: str) -> str:
        config = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "init.defaultBranch=main")
        return subprocess.run(
            ["git", *config, *words], cwd=tmp_path, check=True, capture_output=True, text=True
        ).stdout.strip()

    git("init")
    git("commit", "--allow-empty", "-m", "without the package")
    revision.cache_clear()
    assert revision(package) == "", "a package that only lies below a checkout is not of its revision"
    git("add", ".")
    git("commit", "-m", "with it")
    revision.cache_clear()
    assert revision(package) == git("rev-parse", "HEAD")
    (package / "code.py").write_text("one = 2\n")
    revision.cache_clear()
    assert revision(package) == f"{git('rev-parse', 'HEAD')}-dirty"


def test_a_file_runs_no_code_that_the_command_does_not_name(tmp_path: Path) -> None:
    """Whoever gives it has to name the code once more; nothing is imported to find out."""
    path = written(tmp_path, 'recipe = "toy"\n[compare]\nmethods = ["erasing", "evil_module:EVIL", "b:B"]\n')
    config = read_config(path)
    for code in ((), ("--method", "erasing"), ("evil_module:EVIL",), ("evil_module", "B", "b:B")):
        with pytest.raises(SettingsError) as error:
            config.settings(code=code)
        assert str(error.value).startswith(f"{path}: its methods would run the code of ")
        assert "if you trust that code, name it in the command too: --method erasing evil_module:EVIL b:B" in str(
            error.value
        )
    assert config.settings(code=("b:B", "evil_module:EVIL")).compare.methods == ("erasing", "evil_module:EVIL", "b:B")
    assert "evil_module" not in sys.modules
    one = written(tmp_path, 'recipe = "toy"\ncompare.methods = "evil_module:EVIL"\n')
    with pytest.raises(SettingsError, match=r"compare\.methods: expected|would run the code of evil_module:EVIL"):
        read_config(one).settings()


def test_the_head_of_a_file_names_the_code_that_its_run_ran(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    write_config(path, RunSettings(), recipe="")
    assert "subcam run --config config.toml --out DIR\n" in path.read_text()
    settings = RunSettings().with_({"compare.methods": ["erasing", "a.b:C"]})
    write_config(path, settings, recipe="")
    assert "subcam run --config config.toml --out DIR --method erasing a.b:C\n" in path.read_text()
    assert read_config(path).settings(code=["a.b:C"]) == settings
