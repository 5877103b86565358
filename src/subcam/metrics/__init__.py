"""Scores of masks against ground truth: confusion matrices, mIoU and F-score, threshold sweeps."""

from subcam._lazy import public_names

__all__ = public_names(__name__, __file__)
