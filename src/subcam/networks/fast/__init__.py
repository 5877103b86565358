"""Networks made faster: convolutions that take in what follows them, and torch.compile."""
