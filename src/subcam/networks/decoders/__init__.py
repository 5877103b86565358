"""Segmentation heads on a backbone."""
