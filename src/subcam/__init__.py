"""subcam: pixels from image-level labels."""
