"""What a clustering may be told: how features are scaled, and by what a K is chosen."""

from typing import Literal

Normalisation = Literal["none", "l2"]
"""What is done to features before clustering: nothing, as in the paper, or scaling to unit length."""

Candidates = Literal["kmeans", "finch", "both"]
"""Which clusterings are tried: K-means at each K, FINCH's own partitions, or all of these."""

Criterion = Literal["silhouette", "stability"]
"""How candidates are compared. silhouette: how much nearer an image is to its own cluster than to the next (-1..1).
stability: adjusted Rand index of the clusterings of two random halves, each carried over to all images (up to 1)."""
