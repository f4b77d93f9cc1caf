"""Parts of `benchmarks/quality_eventpretrain.py`."""
