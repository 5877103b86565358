"""AffinityNet and the random walk (Section 3.3)."""
