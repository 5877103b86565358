"""Sub-categories of whole images (Eq. 2): K-means, FINCH, the choice of K, the table of clusters."""
