"""Segmentation (Section 4.4): a network that learns from masks, and what it says of pictures."""
