"""`subcam run RECIPE` does all stages by a recipe, `classify`, ..., `segment` those up to one; `demo`, `recipes`.

Flags and files change the settings of the recipe. All these commands share their run folders: what one has computed no
other computes again.
"""

import shlex
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from subcam.checks.fields import Settings
from subcam.commands import HELP_ALL
from subcam.errors import SubcamError

if TYPE_CHECKING:
    from subcam.results import RunResult
    from subcam.settings import RunSettings


@dataclass(frozen=True, kw_only=True)
class StageCommand:
    """A command that ends with one stage: what it does and takes, what it leaves, and the command that goes on."""

    does: str
    takes: str
    leaves: str
    then: str


STAGES = {
    "classify": StageCommand(
        does="Train the classifier of the last round, or of --until-round N (0: plain CAM), and all that it rests on.",
        takes="images with labels (--data). --network.name takes any timm model; --classify.round0-checkpoint a trained"
        " classifier for round 0: a run's folder, a saved network's, or a file of its weights.",
        leaves="stages/roundN-classify-...: config.json, model.safetensors, training.csv",
        then="cam",
    ),
    "discover": StageCommand(
        does="Find the sub-categories of every class for the last round, or --until-round N; with --route prototypes"
        " the prototypes.",
        takes="images with labels (--data), whose features the classifier of the round before gives; or features of"
        " your own (--features FILE.npy), for which nothing is trained.",
        leaves="stages/roundN-discover-...: clusters.csv, which you may edit and give back with --discover.clusters",
        then="cam",
    ),
    "cam": StageCommand(
        does="Write the response maps of the last round, or --until-round N, and score them by ground truth, if any.",
        takes="images with labels (--data); a classifier as `subcam classify` does.",
        leaves="stages/roundN-cam-.../maps: an npz for each image; tables; the page",
        then="refine",
    ),
    "refine": StageCommand(
        does="Make pseudo masks of response maps by dense CRF and random walk, and score them.",
        takes="images with labels (--data); response maps of your own (--maps DIR, in the place of all rounds), or"
        " none, to make them. --refine.no-random-walk --refine.masks.pseudo-mask crf trains no AffinityNet.",
        leaves="masks: a PNG for each image, classes.txt; tables; the page",
        then="segment",
    ),
    "segment": StageCommand(
        does="Train a segmentation network on pseudo masks, and score it beside them.",
        takes="images (--data); masks of your own (--masks DIR, indexed PNGs, 255 where nothing is known), or response"
        " maps (--maps DIR), or none, to make them.",
        leaves="model: config.json, model.safetensors; masks; tables; the page",
        then="predict",
    ),
}
OFTEN = (
    "dataset.root",
    "dataset.layout",
    "dataset.labels",
    "dataset.classes",
    "quick",
    "seed",
    "network.name",
    "network.weights",
    "rounds",
    "discover.num_subcategories",
    "classify.epochs",
    "classify.batch_size",
    "segment.train.epochs",
    "evaluate.background_threshold",
    "corrections.folder",
    "machine.accelerator",
    "machine.threads",
    "machine.workers",
)
"""The settings of a run that people touch, which --help shows."""
OFTEN_OF_STAGE = {
    "discover": ("given_features.file",),
    "refine": ("given_maps.folder", "refine.random_walk"),
    "segment": ("given_maps.folder", "given_masks.folder"),
}
"""And those that a stage's command is there for."""
WORST = 50
"""Drafts that a run proposes to correct first, of more than twice as many masks; of fewer all, in this order."""
DEFAULT_RECIPE = "small"
"""Of a stage's command that begins with a flag."""


def classify(words: list[str]) -> None:
    """`subcam classify RECIPE [settings]`."""
    _run_until("classify", words)


def discover(words: list[str]) -> None:
    """`subcam discover RECIPE [settings]`."""
    _run_until("discover", words)


def cam(words: list[str]) -> None:
    """`subcam cam RECIPE [settings]`."""
    _run_until("cam", words)


def refine(words: list[str]) -> None:
    """`subcam refine [RECIPE] --maps DIR [settings]`."""
    _run_until("refine", words)


def segment(words: list[str]) -> None:
    """`subcam segment [RECIPE] --masks DIR [settings]`."""
    _run_until("segment", words)


def _run_until(stage: str, words: list[str]) -> None:
    """One of the commands that end with a stage."""
    command = STAGES[stage]
    if _gives("--until", words):
        raise SubcamError(f"'{stage}' ends with its own stage; leave --until out, or give `subcam run RECIPE --until`")
    if words[:1] in (["-h"], ["--help"]):
        print(f"{command.does}\n\nTakes: {command.takes}\nLeaves, in --out: {command.leaves}\n")
    if words[:1] and words[0].startswith("--config"):
        _execute(None, words, prog=f"subcam {stage}", until=stage)
        return
    if words[:1] and words[0].startswith("--") and words[0] != "--help":
        words = [DEFAULT_RECIPE, *words]
    recipe = recipe_of(words, command=stage, then="--data DIR --out DIR [settings of subcam run]")
    _execute(recipe, words[1:], prog=f"subcam {stage} {recipe}", until=stage)


def run(words: list[str]) -> None:
    """`subcam run RECIPE [settings]`, or `subcam run --config FILE [settings]`, whose recipe the file names."""
    if words[:1] and words[0].startswith("--config"):
        _execute(None, words, prog="subcam run")
        return
    recipe = recipe_of(words, command="run", then="--data DIR --out DIR [--config FILE] [settings]")
    _execute(recipe, words[1:], prog=f"subcam run {recipe}")


def recipe_of(words: list[str], *, command: str, then: str) -> str:
    """The recipe that comes first after a command; on --help, print which there are and end.

    then: what usually comes after it.
    """
    from subcam.recipes import RECIPES

    if words[:1] in (["-h"], ["--help"], [HELP_ALL]):
        print(f"usage: subcam {command} RECIPE {then}\n")
        print(f"Recipes; --help after one shows the settings that people touch, {HELP_ALL} every setting:\n")
        for name, recipe in RECIPES.items():
            print(f"  {name:<16}{(recipe.__doc__ or '').strip().splitlines()[0]}")
        raise SystemExit(0)
    if not words or words[0] not in RECIPES:
        given = words[0] if words else "nothing"
        raise SubcamError(f"expected a recipe after '{command}', got {given}; there are: {', '.join(RECIPES)}")
    return words[0]


def demo(words: list[str]) -> None:
    """`subcam demo [settings]`."""
    _execute("toy", words, prog="subcam demo")


def config_named(words: list[str]) -> Path | None:
    """The file that `--config` names among a command's words; None where it does not stand there.

    Its settings are what the flags after it change, so that it is read before they are.
    """
    named = None
    for word, following in zip_longest(words, words[1:], fillvalue=""):
        flag, equals, value = word.partition("=")
        if flag == "--config":
            named = value if equals else following
    if named is not None and (not named or named.startswith("--")):
        raise SubcamError("expected a file after --config, got none; give one, such as runs/mine/config.toml")
    return None if named is None else Path(named)


def _execute(recipe: str | None, words: list[str], *, prog: str, until: str = "") -> None:
    """Read the settings that differ from the recipe's, run, print the tables and write the page.

    Args:
        recipe: None takes that of the file that `--config` names.
        words: after the recipe.
        prog: the command with the recipe.
        until: the stage whose command this is; "" for `run`.
    """
    import tyro

    from subcam.commands.flags import read_flags
    from subcam.data.dataset import require_root
    from subcam.recipes import RECIPES
    from subcam.run_files.config_file import read_config
    from subcam.runtime import launch
    from subcam.runtime.progress import console, say
    from subcam.settings import RunSettings, refuse_old_flags

    @dataclass(frozen=True, kw_only=True)
    class Arguments(Settings):
        """A run.

        Attributes:
            config: a file of settings (TOML), such as the config.toml of another run; flags count on top of it.
            out: the run's folder. The same command again continues from what it holds.
            report: whether the page with all tables, figures and images is written at the end.
        """

        settings: Annotated[RunSettings, tyro.conf.arg(name="")]
        config: Path | None = None
        out: Path
        report: bool = True

    refuse_old_flags(words)
    file = config_named(words)
    if file is None:
        assert recipe is not None
        settings = RECIPES[recipe]()
    else:
        config = read_config(file)
        settings = config.settings(recipe, code=[part for word in words for part in (word, word.partition("=")[2])])
        recipe = config.recipe if recipe is None else recipe
    if until:
        settings = _until(settings, until, words)
    quick = "--quick" in words
    if quick:
        settings = settings.quick_look()
    elif settings.quick and "--no-quick" in words:
        raise SubcamError(f"--no-quick: {file} is of a quick look; leave both out, and give the recipe")
    description = RECIPES[recipe].__doc__ if recipe else None
    given = read_flags(
        Arguments,
        words,
        prog=prog,
        description=f"{STAGES[until].does} {description}" if until else description,
        default=Arguments(settings=settings, out=Path("runs") / f"{recipe or 'mine'}{'-quick' if quick else ''}"),
        often=("out", "config", "report", *often(*OFTEN_OF_STAGE.get(until, ()))),
    )
    machine = given.settings.machine
    if launch.wanted(devices=machine.devices, num_nodes=machine.num_nodes):
        raise SystemExit(launch.together([*prog.split()[1:], *words], devices=machine.devices))
    require_root(given.settings.dataset)  # a wrong path is said before the imports that take seconds
    given.settings.require_given()
    if console.is_terminal and launch.launched() is None:  # before the imports, so that the screen is not blank
        say(f"recipe {recipe or 'none'}, images {given.settings.dataset.root}, results in {given.out}")

    from subcam.pipeline import run
    from subcam.report.tables.formats import terminal_table
    from subcam.report.tables.tables import explanation, tables_of, write_tables
    from subcam.run_files.write import LOG_FILE
    from subcam.runtime import distributed
    from subcam.runtime.progress import close, duration, log_to, show

    result = run(given.settings, given.out, recipe=recipe or "")
    if not distributed.is_first():
        return
    with log_to(given.out / LOG_FILE):
        write_tables(result)
        tables = tables_of(result)
        for table in tables:
            show(terminal_table(table))
        if tables:
            say(explanation(result))
        what = "tables" if tables else "nothing was scored; a summary is"
        rest = f"all else listed in {given.out / 'run.json'}"
        say(f"{duration(result.seconds)}; {what} in {given.out / 'summary.md'}, {rest}")
        page = f"none; subcam report {shlex.quote(str(given.out))} writes it"
        if given.report:
            from subcam.report.page.page import write_report

            page = str(write_report(given.out))
        close(_where(result), f"page: {page}", f"next: {shlex.join(_next(result, prog.split()[1:], words))}")


def often(*first: str) -> tuple[str, ...]:
    """The settings of a run that help shows, where the run's settings are the field `settings`; `first` come first."""
    return tuple(f"settings.{name}" for name in dict.fromkeys([*first, *OFTEN]))


def _until(settings: "RunSettings", stage: str, words: list[str]) -> "RunSettings":
    """The settings of a run that ends with a stage, before flags: with refinement and a network where it needs them."""
    changes: dict[str, object] = {"until": stage}
    if stage in ("refine", "segment"):
        changes["until_round"] = None
        if settings.refine.rounds == "none":
            changes["refine.rounds"] = "last"
    if stage == "segment" and ("pseudo" not in settings.segment.train_on or _gives("--masks", words)):
        changes["segment.train_on"] = ("pseudo",)
    return settings.with_(changes)


def _gives(flag: str, words: list[str]) -> bool:
    return any(word.partition("=")[0] == flag for word in words)


def _where(result: "RunResult") -> str:
    """Where the masks of a run are, and its network; of one that ended before, what it ended with."""
    from subcam.run_files.write import MASKS_FOLDER, MODEL_FOLDER

    if result.refined:
        network = f"; network: {result.out / MODEL_FOLDER}" if result.segmented else ""
        look = "; a first look: export and predict work with it too" if result.settings.quick else ""
        return f"masks: {result.out / MASKS_FOLDER}{network}{look}"
    last = result.last
    if last.maps:
        return f"response maps: {last.maps.path}"
    if last.clusters:
        return f"sub-categories: {last.clusters.path}"
    return f"network: {last.classifier.path}"


def _next(result: "RunResult", command: list[str], words: list[str]) -> list[str]:
    """The command that goes on from a run.

    command: that of the run, with its recipe.
    """
    from subcam.metrics.masks_csv import read_confidences

    settings, out = result.settings, str(result.out)
    if settings.quick and "--quick" in words:
        return ["subcam", *command, *(word for word in words if word != "--quick")]
    if settings.until != "segment" or not result.refined:
        then = STAGES[settings.until].then if settings.until != "segment" else "refine"
        return ["subcam", then, *command[1:], *_without(_without(words, "--until-round"), "--until")]
    scored = any(one.scores for one in result.refined)
    if result.refined[-1].confidence and not scored and Path(settings.dataset.root).is_dir():
        few = len(read_confidences(result.out)) <= 2 * WORST
        return [
            "subcam",
            "export",
            "label-studio",
            out,
            *([] if few else ["--worst", f"{WORST}"]),
            "--out",
            f"{out}-tasks",
        ]
    if result.segmented:
        return ["subcam", "predict", out, "IMAGES", "--out", "predictions"]
    return ["subcam", "segment", *command[1:], *words]


def _without(words: list[str], flag: str) -> list[str]:
    """A command's words without a flag and its value."""
    kept = []
    passed_over = False
    for word in words:
        if not passed_over and word.partition("=")[0] != flag:
            kept.append(word)
        passed_over = word == flag
    return kept


def recipes(words: list[str]) -> None:
    """`subcam recipes`: print their names and docstrings."""
    from subcam.recipes import RECIPES

    if words:
        raise SubcamError(f"'recipes' takes no arguments, got {' '.join(words)}")
    for name, recipe in RECIPES.items():
        print(f"{name}\n    {(recipe.__doc__ or '').strip()}\n")
