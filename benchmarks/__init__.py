"""Side by side with peers: `python -m benchmarks` (see `__main__`)."""
