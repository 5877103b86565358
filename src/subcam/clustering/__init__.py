"""Sub-categories of whole images (Eq. 2): K-means, FINCH, the choice of K, the table of clusters."""

from subcam._lazy import public_names

__all__ = public_names(__name__, __file__)
