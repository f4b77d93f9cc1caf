"""How fast event files become arrays: the parts of `benchmarks/decoding.py`."""
