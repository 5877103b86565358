"""Readers: one file for each layout of a data set, each returns an `ImageSet`."""

from subcam._lazy import public_names

__all__ = public_names(__name__, __file__)
