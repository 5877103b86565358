"""Prototypes of positions: what single positions of an image show (not in the paper)."""

from subcam._lazy import public_names

__all__ = public_names(__name__, __file__)
