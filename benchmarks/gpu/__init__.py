"""The whole path on one GPU, proven and timed by one command: `python -m benchmarks gpu`."""
