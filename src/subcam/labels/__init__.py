"""Image-level labels from other sources into the CSV that a run reads."""
