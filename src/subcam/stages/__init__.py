"""The stages of a run, one file each. They meet in the run folder."""
