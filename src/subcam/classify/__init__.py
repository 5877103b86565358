"""Training E, H_p and H_s (Section 3.2)."""
