"""Figures 3-7 and the others, as SVG and PNG."""
