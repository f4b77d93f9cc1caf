"""Damaged files by the ten thousand: the parts of `benchmarks/fuzzing.py`."""

import sys
from pathlib import Path

# The encoders and the damage are those of the tests; in front, because `benchmarks/fuzzing.py` has a name of theirs.
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests" / "io"))
