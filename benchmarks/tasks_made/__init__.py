"""Parts of `quality_tasks.py`, the benchmark of the tasks on simulated worlds."""
