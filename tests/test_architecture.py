"""The rules of the house that a reader relies on: who may know whom, how large a file is, and that nothing is run."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "subcam"
FILES = sorted(SOURCE.rglob("*.py"))
STAGES = ("classify", "discover", "cam", "refine", "segment", "evaluate")
"""Packages that hold the steps of the pipeline."""

ABOVE_STAGES = (
    "subcam.pipeline",
    "subcam.stages.context",
    "subcam.mask_steps",
    "subcam.results",
    "subcam.ablation.dry_run",
    "subcam.ablation.variants",
    "subcam.ablation.grid",
    "subcam.cli",
    "subcam.commands",
    "subcam.recipes",
    "subcam.comparisons.methods",
    "subcam.hub",
    "subcam.cam.settings",
    "subcam.hub.model_card",
    "subcam.settings",
    "subcam.estimator",
    "subcam.report",
)
"""What knows the stages, and what they must therefore not know."""

MAY_KNOW_STAGES = {
    "pipeline.py",
    "stages/context.py",
    "mask_steps.py",
    "results.py",
    "cli.py",
    "recipes.py",
    "hub.py",
    "maps_file.py",
    "settings.py",
    "estimator.py",
}
MOST_LINES = 400


def imports(path: Path) -> Iterator[str]:
    """Full names of the modules that a file imports, wherever in it; `from a import b` gives `a` and `a.b`."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide who knows whom"
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def is_stage(module: str) -> bool:
    """Whether a module runs a stage, by its name: stage.py, affinity_stage.py, train.py, predict.py."""
    package, _, name = module.rpartition(".")
    runs = name in ("train", "predict", "stage") or name.endswith("_stage")
    return runs and package.removeprefix("subcam.").partition(".")[0] in STAGES


def relative(path: Path) -> str:
    return path.relative_to(SOURCE).as_posix()


def test_there_is_something_to_look_at() -> None:
    assert {"pipeline.py", "stages/classify.py", "stages/cam.py", "stages/discover.py"} <= {relative(f) for f in FILES}
    assert is_stage("subcam.stages.classify")
    assert is_stage("subcam.stages.random_walk")
    assert not is_stage("subcam.networks.classifier")
    assert not is_stage("subcam.training.train")
    assert "subcam.stages.cam" in set(imports(SOURCE / "stages/context.py"))


def test_only_the_pipeline_knows_the_stages() -> None:
    """A stage knows the pure parts of others, never another stage, and nothing that is above the stages."""
    faults = []
    for path in FILES:
        package, found = relative(path).partition("/")[0], set(imports(path))
        if package in STAGES:
            above = {name for name in found for top in ABOVE_STAGES if name == top or name.startswith(f"{top}.")}
            faults += [f"{relative(path)} knows {name}, which is above the stages" for name in sorted(above)]
        if relative(path) not in MAY_KNOW_STAGES and package not in ("report", "commands"):
            strangers = {name for name in found if is_stage(name) and not name.startswith(f"subcam.{package}.")}
            faults += [f"{relative(path)} knows the stage {name} of another package" for name in sorted(strangers)]
    assert faults == []


def test_files_are_small_and_named_after_what_they_hold() -> None:
    faults = []
    for path in FILES:
        text = path.read_text("utf-8")
        lines = len(text.splitlines())
        if lines > MOST_LINES:
            faults.append(f"{relative(path)} has {lines} lines: it is two files")
        if path.stem in ("utils", "util", "helpers", "misc", "common"):
            faults.append(f"{relative(path)} says nothing by its name")
        if not ast.get_docstring(ast.parse(text)):
            faults.append(f"{relative(path)} does not say what it computes")
    assert faults == []


def unsafe(tree: ast.AST) -> Iterator[str]:
    """What could run code from a file of data, or of weights."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        else:
            names = []
        for name in names:
            if name.partition(".")[0] in ("pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"):
                yield f"line {node.lineno} imports {name}"  # type: ignore[attr-defined]
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            given = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
            if given.get("allow_pickle", "False") != "False":
                yield f"line {node.lineno} allows pickles"
            if called == "torch.load" and given.get("weights_only") != "True":
                yield f"line {node.lineno} calls torch.load without weights_only=True"
            if called in ("eval", "exec"):
                yield f"line {node.lineno} calls {called}"


def test_nothing_from_a_file_is_ever_run() -> None:
    faults = [f"{relative(path)}, {fault}" for path in FILES for fault in unsafe(ast.parse(path.read_text("utf-8")))]
    assert faults == []


@pytest.mark.parametrize(
    "line",
    [
        "import pickle",
        "from joblib import load",
        "numpy.load(path, allow_pickle=True)",
        "numpy.load(path, allow_pickle=trusted)",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "eval(text)",
    ],
)
def test_what_is_unsafe_is_seen(line: str) -> None:
    assert len(list(unsafe(ast.parse(line)))) == 1


@pytest.mark.parametrize(
    "line", ["numpy.load(path, allow_pickle=False)", "torch.load(path, weights_only=True)", "model.eval()"]
)
def test_what_is_safe_is_let_through(line: str) -> None:
    assert list(unsafe(ast.parse(line))) == []


def test_the_tree_of_tests_is_that_of_the_source() -> None:
    folders = {path.parent.relative_to(ROOT / "tests") for path in (ROOT / "tests").rglob("test_*.py")}
    assert {folder for folder in folders if not (SOURCE / folder).is_dir()} == set()
