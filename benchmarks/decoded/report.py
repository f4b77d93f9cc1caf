"""What the readers came to, as a table and as JSON."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from decoded.readers import OURS

RATIOS = {"EVT2": 1.0, "EVT3": 1.0, "EVT3 vectors": 1.0, "DAT": 0.5, "AEDAT4": 1.0, "ES": 1.0}
"""Our rate over that of the best peer, as it ought to be."""
MOST_BYTES = 25.0
"""Of memory per event, at most."""
_PACKAGES = ("aedat", "dv-processing", "event_stream", "evt3", "expelliarmus", "faery", "numba", "numpy")


def judge(kind: str, found: dict[str, Any]) -> dict[str, Any]:
    """Return `found` with the best peer that gives the same events, our ratio to it, and whether targets are met."""
    readers = found["readers"]
    ours = readers[OURS]
    peers = {
        name: row["events_per_s"]
        for name, row in readers.items()
        if name != OURS and "events_per_s" in row and not row["differs"]
    }
    best = max(peers, key=lambda name: peers[name], default=None)
    ratio = None if best is None else ours["events_per_s"] / peers[best]
    return {
        **found,
        "best_peer": best,
        "ratio": ratio,
        "ratio_target": RATIOS[kind],
        "fast_enough": ratio is None or ratio >= RATIOS[kind],
        "small_enough": ours["bytes_per_event"] <= MOST_BYTES,
    }


def table(results: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return the lines of a Markdown table."""
    lines = [
        "| format, bytes per event | reader | M events/s | ratio to the best peer | peak memory, bytes per event "
        "| first call, s | |",
        "|---|---|---|---|---|---|---|",
    ]
    for kind, found in results.items():
        for name, row in found["readers"].items():
            lines.append(f"| {kind}, {found['bytes_per_event']:.1f} | {_row(name, row, found)} |")
    return lines


def write_report(out: Path, results: Mapping[str, Any], count: int) -> None:
    """Write README.md and results.json into `out`."""
    out.mkdir(parents=True, exist_ok=True)
    packages = {name: _version(name) for name in _PACKAGES}
    facts = {"events": count, "python": platform.python_version(), "cpu": _cpu(), "cores": os.cpu_count()}
    (out / "results.json").write_text(json.dumps({**facts, "packages": packages, "formats": results}, indent=2) + "\n")
    named = ", ".join(f"{name} {number}" for name, number in packages.items())
    lines = [
        f"# Decoding {count / 1e6:g} M events from a file, beside other packages",
        "",
        f"By `python benchmarks/decoding.py` on {_cpu()}, {os.cpu_count()} cores; Python {platform.python_version()}, "
        f"{named}.",
        "",
        "Whole files to arrays: same file, same process, page cache warm, the fastest of three. Ours opens, indexes "
        "and checks the file each time. Memory is the peak of a fresh process beyond what it held before; the first "
        "call is that of a fresh process on 10 k events, with its imports (in brackets: before numba has compiled "
        "anything).",
        "",
        f"Targets: the rate of the best peer (half of it for DAT), and at most {MOST_BYTES:g} bytes per event.",
        "",
        *table(results),
    ]
    missed = [
        f"{kind}: {', '.join(what)}"
        for kind, found in results.items()
        if (what := [name for name, key in (("rate", "fast_enough"), ("memory", "small_enough")) if not found[key]])
    ]
    lines += ["", f"Targets missed: {'; '.join(missed)}." if missed else "All targets are met."]
    (out / "README.md").write_text("\n".join(lines) + "\n")


def _row(name: str, row: Mapping[str, Any], found: Mapping[str, Any]) -> str:
    if "note" in row:
        return f"{name} | | | | | {row['note']}"
    ratio, said = "", row["differs"] and f"other events: {row['differs']}"
    if name == OURS:
        target = f"target {found['ratio_target']:g}"
        ratio = f"{found['ratio']:.2f} ({target})" if found["ratio"] is not None else f"no peer ({target})"
    compiling = row.get("first_s_compiling")
    first = f"{row['first_s']:.2f}" + (f" ({compiling:.1f})" if compiling is not None else "")
    return f"{name} | {row['events_per_s'] / 1e6:.0f} | {ratio} | {row['bytes_per_event']:.1f} | {first} | {said}"


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _cpu() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")
