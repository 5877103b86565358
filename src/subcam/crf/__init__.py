"""The dense CRF: a package of its own that knows nothing of runs. NumPy arrays in, marginals out."""
