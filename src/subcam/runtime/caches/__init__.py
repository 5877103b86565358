"""Where libraries keep what they make once, and where there is no place for it: containers, read-only systems."""
