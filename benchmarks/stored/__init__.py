"""Data sets of many small recordings: the parts of `benchmarks/dataset_throughput.py`."""
