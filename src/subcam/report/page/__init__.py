"""The page: what stands where, in which words."""
