"""Image-level labels from other sources: what a run reads directly, or `subcam data labels` makes into a CSV."""
