"""What the page needs, read from a run folder."""
