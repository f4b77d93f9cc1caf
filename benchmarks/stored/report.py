"""What a data set came to, as tables and as JSON."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

MOST_LISTING_S = 10.0
"""For 50,000 samples, of the folder and of what was prepared."""
MOST_OPENING_US = 1000.0
_WAYS = {
    "plain": "plain numpy, the file alone",
    "folder": "events of the folder",
    "store": "events of what was prepared",
    "folder_loader": "loader, from the folder",
    "store_loader": "loader, from what was prepared",
}


def misses(results: Mapping[str, Any]) -> list[str]:
    """Return which targets are missed."""
    most_s = MOST_LISTING_S * max(1.0, results["listing"]["samples"] / 50_000)
    checks = {
        "listing": results["listing"]["seconds"] <= most_s,
        "opening what was prepared": results["reopening"]["seconds"] <= MOST_LISTING_S,
        "opening one sample": results["opening_us"] <= MOST_OPENING_US,
    }
    return [name for name, is_met in checks.items() if not is_met]


def tables(results: Mapping[str, Any]) -> list[str]:
    """Return the lines of the Markdown tables."""
    lines = ["| listing | samples | seconds | peak memory, bytes per sample |", "|---|---|---|---|"]
    for name, key in (("folder as downloaded", "listing"), ("what was prepared", "reopening")):
        row = results[key]
        lines.append(f"| {name} | {row['samples']:,} | {row['seconds']:.2f} | {row['bytes_per_sample']:,.0f} |")
    reading = results["reading"]
    plain = reading["plain"]
    lines += [
        "",
        "| preparing | samples/s | ratio to plain numpy reading | seconds in all | files | bytes per event |",
        "|---|---|---|---|---|---|",
    ]
    for workers, row in results["preparing"].items():
        said = f"{row['samples_per_s']:,.0f} | {row['samples_per_s'] / plain:.2f} | {row['seconds']:.1f}"
        lines.append(f"| {workers} process(es) | {said} | {row['files']} | {row['bytes_per_event']:.2f} |")
    lines += [
        "",
        "| reading, the same samples each time | samples/s | ratio to plain numpy | windows cut first, s |",
        "|---|---|---|---|",
    ]
    for key, name in _WAYS.items():
        cut = reading.get(f"{key.removesuffix('_loader')}_cut_s") if key.endswith("_loader") else None
        first = "" if cut is None else f"{cut:.2f}"
        lines.append(f"| {name} | {reading[key]:,.0f} | {reading[key] / plain:.2f} | {first} |")
    return [*lines, "", f"Opening one prepared sample by its path: {results['opening_us']:.0f} us."]


def write_report(out: Path, results: Mapping[str, Any]) -> None:
    """Write README.md and results.json into `out`."""
    out.mkdir(parents=True, exist_ok=True)
    facts = {"python": platform.python_version(), "cpu": _cpu(), "cores": os.cpu_count()}
    (out / "results.json").write_text(json.dumps({**facts, **results}, indent=2) + "\n")
    missed = misses(results)
    lines = [
        f"# Listing, preparing and reading {results['listing']['samples']:,} samples of {results['set']}",
        "",
        f"By `python benchmarks/dataset_throughput.py` on {facts['cpu']}, {facts['cores']} cores; Python "
        f"{facts['python']}.",
        "",
        f"The folder has the names of the data set and made-up events, about {results['events']:,} of a sample; its "
        "files are hard links to a few, so that the disk is hardly asked. Listing is that of a fresh process, without "
        f"its imports. {results['prepared']:,} samples of it are prepared and read. Rates of preparing do not count "
        f"the start of the processes; those of reading are the fastest of three passes, page cache warm. The loader "
        f"has {results['threads']} threads and makes grids of two bins. Plain numpy is `np.load` (or `np.fromfile`) of "
        "the same files in the same run, with nothing decoded or checked.",
        "",
        *tables(results),
        "",
        f"Targets: 50,000 samples are listed in {MOST_LISTING_S:g} s, and what was prepared is opened in that time; "
        f"one sample is opened in {MOST_OPENING_US:g} us.",
        "",
        f"Targets missed: {', '.join(missed)}." if missed else "All targets are met.",
    ]
    (out / "README.md").write_text("\n".join(lines) + "\n")


def _cpu() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")
