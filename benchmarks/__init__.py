"""Times and memory of every stage beside a plain way of doing the same: `python -m benchmarks`."""
