"""What reading a file costs: seconds in this process, memory and the first call in a fresh one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from decoded.readers import DECODERS, OURS, Columns

ROUNDS = 3
_CHILD = "from decoded.measuring import child; child()"


def rates(kind: str, names: list[str], path: Path, truth: Columns) -> dict[str, dict[str, Any]]:
    """Return by reader the `seconds` of the fastest of three readings, and what `differs` in its events, if any do."""
    out: dict[str, dict[str, Any]] = {}
    path.read_bytes()  # into the page cache
    for name in names:
        decoder = DECODERS[kind][name]
        found = decoder.columns(decoder.load(path))
        out[name] = {"seconds": np.inf, "differs": difference(found, truth)}
        del found
    for _ in range(ROUNDS):
        for name in names:
            forget_index(path)
            began = time.perf_counter()
            events = DECODERS[kind][name].load(path)
            out[name]["seconds"] = min(out[name]["seconds"], time.perf_counter() - began)
            del events
    return out


def forget_index(path: Path) -> None:
    """Remove what eventfm keeps beside a large file, so that each reading is the first."""
    for file in path.parent.glob(f".{path.name}.*eventfm-index.npz"):
        file.unlink()


def fresh(kind: str, name: str, path: Path, small: Path, count: int) -> dict[str, Any]:
    """Return what a fresh process says: seconds to import and read `small`, bytes per event to read `path`.

    Of eventfm also the seconds when nothing was compiled yet. `error` is there if the process fails.
    """
    out = _run_child(kind, name, path, small)
    if "peak" in out:
        out["bytes_per_event"] = out.pop("peak") / count
    if name == OURS:
        with tempfile.TemporaryDirectory() as cache:
            compiling = _run_child(kind, name, small, small, NUMBA_CACHE_DIR=cache)
        out["first_s_compiling"] = compiling.get("first_s")
    return out


def child() -> None:
    """Print what this process takes, for `fresh`."""
    kind, name, path, small = sys.argv[1:]
    decoder = DECODERS[kind][name]
    forget_index(Path(path))
    began = time.perf_counter()
    decoder.load(Path(small))
    first_s = time.perf_counter() - began
    Path("/proc/self/clear_refs").write_text("5")  # begins the peak anew
    before = _kilobytes("VmRSS")
    events = decoder.load(Path(path))
    peak = _kilobytes("VmHWM") - before
    del events
    print(json.dumps({"first_s": first_s, "peak": peak * 1024}))


def difference(found: Columns, truth: Columns) -> str:
    """Return an empty text if the columns are those of `truth`, else what is different."""
    if len(found[0]) != len(truth[0]):
        return f"{len(found[0])} events"
    off = [name for name, a, b in zip("xytp", found, truth, strict=True) if not np.array_equal(a, b)]
    if "t" in off:
        largest = np.abs(found[2].astype(np.int64) - truth[2]).max()
        return f"{', '.join(off)} differ, t by up to {largest} us"
    return f"{', '.join(off)} differ" if off else ""


def _run_child(kind: str, name: str, path: Path, small: Path, **variables: str) -> dict[str, Any]:
    folder = str(Path(__file__).resolve().parents[1])
    paths = os.pathsep.join(filter(None, [folder, os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        [sys.executable, "-c", _CHILD, kind, name, str(path), str(small)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": paths, **variables},
    )
    if done.returncode:
        return {"error": (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]}
    return json.loads(done.stdout.splitlines()[-1])


def _kilobytes(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(f"{name}:")).split()[1])
