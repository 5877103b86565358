"""One file a subcommand: reads its words, calls what does the work, prints what a person wants to know."""

HELP_ALL = "--help-all"
"""Asks for the help of every setting, where --help shows those that people touch."""

STAGE_COMMANDS = ("classify", "discover", "cam", "refine", "segment")
"""A run up to one stage."""

OF_RECIPE = ("run", *STAGE_COMMANDS, "ablate")
"""Commands that take a recipe and all settings of a run."""

LASTING = (*OF_RECIPE, "demo", "predict")
"""Commands of some length, which take --quiet, and go on where they were stopped."""

COMMANDS = {
    "run": "subcam.commands.run:run",
    **{stage: f"subcam.commands.run:{stage}" for stage in STAGE_COMMANDS},
    "demo": "subcam.commands.run:demo",
    "recipes": "subcam.commands.run:recipes",
    "predict": "subcam.commands.predict:predict",
    "evaluate": "subcam.commands.evaluate:evaluate",
    "compare": "subcam.commands.compare:compare",
    "export": "subcam.commands.export:export",
    "report": "subcam.commands.report:report",
    "ablate": "subcam.commands.ablate:ablate",
    "data": "subcam.commands.data:data",
    "completion": "subcam.commands.completion:completion",
}
"""Each subcommand's function, which takes the words after it; imported when it is asked for."""
