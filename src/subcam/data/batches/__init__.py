"""Batches of images: for training, with masks, and for inference."""
