"""One file a subcommand: reads its words, calls what does the work, prints what a person wants to know."""
