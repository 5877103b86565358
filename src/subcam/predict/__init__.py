"""Masks of any image by a trained segmentation network."""
