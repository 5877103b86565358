"""Sub-category discovery (Eq. 2)."""
