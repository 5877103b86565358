"""Class activation maps (Eq. 1)."""
