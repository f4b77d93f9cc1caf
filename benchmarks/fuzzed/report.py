"""What the damaged files came to, as a table and as JSON."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from fuzzed.worker import ROOM

_PACKAGES = ("eventfm", "h5py", "lz4", "numba", "numpy", "rosbags", "zstandard")


def write_report(out: Path, results: Mapping[str, Mapping[str, Any]]) -> None:
    """Write README.md and results.json into `out`; `results` are by format."""
    out.mkdir(parents=True, exist_ok=True)
    packages = {name: version(name) for name in _PACKAGES}
    facts = {"python": platform.python_version(), "packages": packages, "formats": results}
    (out / "results.json").write_text(json.dumps(facts, indent=2) + "\n")
    (out / "README.md").write_text("\n".join(_lines(results, packages)) + "\n")


def _lines(results: Mapping[str, Mapping[str, Any]], packages: Mapping[str, str]) -> list[str]:
    total = sum(found["files"] for found in results.values())
    broken = [(case, one) for case, found in results.items() for one in found["broken"]]
    seeds = ", ".join(sorted({str(found["seed"]) for found in results.values()}))
    minutes = sum(found["seconds"] for found in results.values()) / 60
    lines = [
        f"# {total:,} damaged files of {len(results)} formats: {len(broken) or 'none'} broke anything",
        "",
        f"By `python benchmarks/fuzzing.py`, seed {seeds}, {minutes:.0f} minutes of one core, Python "
        f"{platform.python_version()}, {', '.join(f'{name} {number}' for name, number in packages.items())}.",
        "",
        "Small whole files (by our writers, by the encoders of the tests, real ones) were cut off, their bits flipped, "
        "bytes overwritten, doubled, removed, or set to absurd numbers; every second one past its header only. A fifth "
        "were opened by content, the others by name; half with `on_error='sort'`, the others with `'raise'` and "
        "`'clamp'`. Each was read whole, at three windows and by its tracks. What was read keeps the rules of "
        "`Events`; "
        "all else was refused by an error of the families ValueError and OSError. A file had "
        f"{ROOM // 2**20} MiB of addresses, and had to stay below the larger of 64 MiB and 50 times its size. "
        "Memory is "
        "that of the process (its peak, less what it held before), C libraries included.",
        "",
        "| format | files | read | refused | slowest, ms | most memory, MiB | broken |",
        "|---|---|---|---|---|---|---|",
    ]
    for case, found in results.items():
        refused = ", ".join(f"{name} {count}" for name, count in sorted(found["refused"].items()))
        slowest, most = found["slowest"]["value"] * 1000, found["largest"]["value"] / 2**20
        figures = f"{found['files']} | {found['read']} | {refused} | {slowest:.0f} | {most:.1f}"
        lines.append(f"| {case} | {figures} | {len(found['broken'])} |")
    if broken:
        lines += ["", "What broke; `python benchmarks/fuzzing.py --one FORMAT NUMBER` does one of them again:"]
    for case, one in broken:
        lines += ["", f"`--one {case} {one['number']}`", "```", one["detail"].rstrip(), "```"]
    return lines
