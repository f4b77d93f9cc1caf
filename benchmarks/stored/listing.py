"""What it takes a fresh process to list a data set: seconds, and its peak of memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

from eventfm.data.collection import open_collection
from eventfm.data.datasets.opening import collection_of, locate
from eventfm.data.manifest import TABLE

_CHILD = "from stored.listing import child; child()"


def listed(name: str, folder: Path) -> dict[str, float]:
    """Return seconds and bytes per sample that a fresh process takes to list a data set as it was downloaded."""
    return _in_a_child(name, folder)


def reopened(out: Path) -> dict[str, float]:
    """Return seconds and bytes per sample that a fresh process takes to open what was prepared."""
    return _in_a_child("", out)


def child() -> None:
    """Print what this process takes, for `listed` and `reopened`."""
    name, path = sys.argv[1], Path(sys.argv[2])
    Path("/proc/self/clear_refs").write_text("5")  # begins the peak anew
    before, began = _kilobytes("VmRSS"), time.perf_counter()
    collection = collection_of(locate(name, path)) if name else open_collection(path, labels=path / TABLE)
    seconds = time.perf_counter() - began
    num_samples = len(collection.entries)
    peak = (_kilobytes("VmHWM") - before) * 1024
    print(json.dumps({"seconds": seconds, "samples": num_samples, "bytes_per_sample": peak / num_samples}))


def _in_a_child(name: str, path: Path) -> dict[str, float]:
    here = str(Path(__file__).resolve().parents[1])
    paths = os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH")]))
    command = [sys.executable, "-W", "ignore", "-c", _CHILD, name, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": paths})
    if done.returncode:
        raise SystemExit(f"could not list {path}: {done.stderr}")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def _kilobytes(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(f"{name}:")).split()[1])
