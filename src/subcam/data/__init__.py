"""Images and labels in."""

from subcam._lazy import public_names

__all__ = public_names(__name__, __file__)
