"""Results in the formats of others: benchmark servers, labelling tools, and runtimes for networks."""

from subcam._lazy import public_names

__all__ = public_names(__name__, __file__)
