"""Masks of any image by a trained segmentation network."""

from subcam._lazy import public_names

__all__ = public_names(__name__, __file__, called="predict")
