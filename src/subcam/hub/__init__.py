"""Networks as folders that model hubs take, with a generated card: `write_folder`, `push` and `load`."""

from subcam._lazy import public_names

__all__ = public_names(__name__, __file__)
