"""From response maps to pseudo masks (Section 3.3)."""

from subcam._lazy import public_names

__all__ = public_names(__name__, __file__, called="refine")
