"""The dense CRF: a package of its own that knows nothing of runs. NumPy arrays in, marginals out."""

from subcam._lazy import public_names

__all__ = public_names(__name__, __file__)
