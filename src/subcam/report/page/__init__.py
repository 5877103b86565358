"""The page of a run: its sections, sentences and figures."""
