"""`subcam ablate RECIPE`: a run for each point of a grid of settings and each seed, in one folder, stages shared."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from subcam.checks.fields import Seed, Settings
from subcam.commands.run import often, recipe_of
from subcam.errors import SubcamError

if TYPE_CHECKING:
    from subcam.ablation.variants import Variant


def ablate(words: list[str]) -> None:
    """`subcam ablate RECIPE --grid NAME=VALUE,... [--seeds N ...] [settings]`."""
    recipe = recipe_of(words, command="ablate", then="--grid NAME=VALUE,... [--seeds N ...] [settings]")

    import tyro

    from subcam.ablation.grid import OnFailure, read_grid
    from subcam.commands.flags import read_flags
    from subcam.recipes import RECIPES
    from subcam.runtime import launch
    from subcam.settings import RunSettings, refuse_old_flags

    @dataclass(frozen=True, kw_only=True)
    class Arguments(Settings):
        """An ablation.

        Attributes:
            out: the folder of all variants. The same command again continues from what it holds.
            grid: NAME=VALUE,VALUE,... for each setting that takes several values in turn, e.g.
                discover.num_subcategories=1,5,10; entries of one value are separated by spaces.
            seeds: each point of the grid is run with each seed; the recipe's own seed if none is given.
            on_failure: what to do when a variant fails: continue with the next, or stop.
            dry_run: only list the variants and which of their stages are done. Images are read, nothing is trained.
        """

        settings: Annotated[RunSettings, tyro.conf.arg(name="")]
        out: Path
        grid: tuple[str, ...] = ()
        seeds: tuple[Seed, ...] = ()
        on_failure: OnFailure = "continue"
        dry_run: bool = False

    refuse_old_flags(words[1:])
    settings, quick = RECIPES[recipe](), "--quick" in words
    settings = settings.quick_look() if quick else settings
    given = read_flags(
        Arguments,
        words[1:],
        prog=f"subcam ablate {recipe}",
        description="Runs over a grid of settings and seeds.",
        default=Arguments(settings=settings, out=Path("runs") / f"ablate-{recipe}{'-quick' if quick else ''}"),
        often=("out", "grid", "seeds", "on_failure", "dry_run", *often()),
    )
    grid = read_grid(given.grid, given.settings)

    from subcam.ablation.variants import expand

    variants = expand(given.settings, grid, seeds=given.seeds or (given.settings.seed,))
    if given.dry_run:
        _print_dry_run(variants, given.out)
        return
    machine = given.settings.machine
    if launch.wanted(devices=machine.devices, num_nodes=machine.num_nodes):
        raise SystemExit(launch.together(["ablate", *words], devices=machine.devices))

    from subcam.ablation.run import run_variants
    from subcam.runtime.devices import join

    join(machine)
    failed = run_variants(variants, given.out, recipe=recipe, on_failure=given.on_failure)
    if failed:
        raise SubcamError(
            f"{len(failed)} of {len(variants)} variants failed, as said above and in {given.out / 'ablate.json'}; "
            "the same command tries them again and leaves the others as they are"
        )


def _print_dry_run(variants: "Sequence[Variant]", out: Path) -> None:
    """A table of the variants: whether each is done, else how many of its stages are, and its next stage."""
    from subcam.ablation.dry_run import finished_stages
    from subcam.ablation.run import prepare
    from subcam.runtime.progress import say, show, text_table

    rows = []
    for variant, dataset, path in prepare(variants, out):
        if path.is_file():
            rows.append((variant.label, "done", ""))
        else:
            there, following = finished_stages(variant.settings, out, dataset=dataset)
            rows.append((variant.label, f"{len(there)} stages there", following or "none, only the record"))
    show(text_table(("variant", "state", "next stage"), rows, text_columns=3))
    done = sum(state == "done" for _, state, _ in rows)
    say(f"{len(variants)} variants, {done} of them done. A stage that several name as their next is computed once.")
