"""Other ways to response maps, to stand beside ours in Table 1."""
