"""Parts of `quality_scaleevent.py`."""
