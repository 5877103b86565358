"""Scores of masks against ground truth: confusion matrices, mIoU and F-score, threshold sweeps."""
