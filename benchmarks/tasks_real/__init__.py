"""Parts of `quality_tasks_real.py`."""
