"""The stages from response maps to pseudo masks (Section 3.3)."""
