"""Prototypes of positions: what single positions of an image show (not in the paper)."""
