"""One file a subcommand: reads its words, calls what does the work, prints what a person wants to know."""

HELP_ALL = "--help-all"
"""Asks for the help of every setting, where --help shows those that people touch."""
