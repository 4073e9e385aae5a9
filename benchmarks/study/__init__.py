"""The claims that are made for token merging, tested: ``python -m benchmarks.study``."""
