"""How fast whole files become arrays, beside other packages: same file, same process, page cache warm.

    python benchmarks/decoding.py

One stream of 10 M events in files of EVT2, EVT3 (single events, and vectors), DAT, AEDAT4 (LZ4) and Event Stream. Ours
is `open_recording(path).events_by_index(0, n)`, with no index kept from before; peers return one array of all events in
their own form. Every reader's events are compared with those written, one by one, and a peer that gives others is no
peer. Rates are the fastest of three readings; memory is the peak beyond what a fresh process held before, and the first
call is that of a fresh process on a small file, imports with it. Peers that are not installed are named:
`pip install -e ".[bench]"` brings them (expelliarmus is under the GPL and faery under the LGPL; eventfm uses neither).
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

from decoded.files import make_files, stream
from decoded.measuring import fresh, rates
from decoded.readers import DECODERS, OURS
from decoded.report import judge, table, write_report

from eventfm.events import Events

SMALL = 10_000


def measure(kind: str, path: Path, small: Path, truth: Events) -> dict[str, Any]:
    """Return what each reader of a format comes to; `note` says why one does not."""
    rows: dict[str, Any] = {}
    for name, decoder in DECODERS[kind].items():
        if not decoder.is_installed:
            rows[name] = {"note": "not installed"}
            continue
        rows[name] = fresh(kind, name, path, small, len(truth))
        if "error" in rows[name]:
            rows[name] = {"note": f"fails: {rows[name]['error'][:120]}"}
    able = [name for name, row in rows.items() if "note" not in row]
    for name, found in rates(kind, able, path, (truth.x, truth.y, truth.t, truth.p)).items():
        rows[name] |= {"events_per_s": len(truth) / found["seconds"], "differs": found["differs"]}
    if rows[OURS].get("differs", "it fails"):
        raise SystemExit(f"{kind}: eventfm does not read what was written: {rows[OURS]}")
    return {"bytes_per_event": path.stat().st_size / len(truth), "readers": rows}


def main() -> None:
    """Make the files, read them by each package, print the table, and write it where asked to."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, help="folder for README.md and results.json")
    parser.add_argument("--count", type=int, default=10_000_000, help="events in a file")
    parser.add_argument("--formats", nargs="+", choices=DECODERS, default=list(DECODERS), metavar="FORMAT")
    given = parser.parse_args()
    if not Path("/proc/self/clear_refs").exists():
        parser.error("memory is measured as Linux shows it, which this system does not")
    truth = stream(given.count)
    with tempfile.TemporaryDirectory() as folder:
        small = make_files(Path(folder), truth.take(0, SMALL))
        files = make_files(Path(folder), truth)
        results = {}
        for kind in given.formats:
            results[kind] = judge(kind, measure(kind, files[kind], small[kind], truth))
            print("\n".join(table({kind: results[kind]})), "\n", flush=True)
    if given.out is not None:
        write_report(given.out, results, given.count)


if __name__ == "__main__":
    main()
