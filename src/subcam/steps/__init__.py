"""What several stages of a run do together, beside its rounds."""
