"""How fast a data set of many small recordings is listed, prepared and read, beside plain numpy in the same run.

    python benchmarks/dataset_throughput.py

A folder is made with the names that the data set has, 50,000 samples by default (N-ImageNet has 1.28 M). It is listed
by a fresh process, whose memory is measured; a part of it is prepared by one process and by two, and read through the
loader as it was downloaded and as it was prepared. `--quick` does little of each, to see that all of it works.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import warnings
from pathlib import Path
from typing import Any

from stored.folders import KINDS, make_folder
from stored.listing import listed, reopened
from stored.measuring import opening_us, prepared, readings
from stored.report import misses, tables, write_report

from eventfm.data.collection import open_collection
from eventfm.data.datasets.opening import collection_of, locate
from eventfm.data.datasets.registry import DATASETS
from eventfm.data.manifest import TABLE

KNOWN = [name for name in KINDS if name in DATASETS]
QUICK = {"count": 2_000, "prepare": 200, "events": 1_000}


def measure(name: str, work: Path, count: int, num_prepared: int, num_events: int, workers: list[int]) -> Any:
    """Return what the data set `name` comes to, in folders below `work`."""
    kind, sensor = KINDS[name], DATASETS.get(name).card.sensor
    make_folder(kind, sensor, work / "all", count, num_events)
    results: dict[str, Any] = {"set": name, "events": num_events, "listing": listed(name, work / "all")}
    files = make_folder(kind, sensor, work / "part", num_prepared, num_events)
    results |= {"prepared": len(files), "preparing": {}}
    for num_workers in workers:
        out = work / f"store-{num_workers}"
        results["preparing"][str(num_workers)] = prepared(name, work / "part", out, num_workers)
    store = open_collection(out, labels=out / TABLE)
    results |= {"reopening": reopened(out), "opening_us": opening_us(out, store)}
    results["threads"] = len(os.sched_getaffinity(0))
    folder = collection_of(locate(name, work / "part"))
    results["reading"] = readings(folder, store, files, kind.load, results["threads"])
    return results


def main() -> None:
    """Make the folder, measure, print the tables, and write them where asked to."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, help="folder for README.md and results.json")
    parser.add_argument("--set", choices=KNOWN, default=KNOWN[-1], help="whose names and files")
    parser.add_argument("--count", type=int, help="samples that are listed; 50,000 if not given")
    parser.add_argument("--prepare", type=int, help="samples that are prepared and read; 4,000 if not given")
    parser.add_argument("--events", type=int, help="of a sample; as many as the data set has if not given")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2], help="processes that prepare; 0 is this one")
    parser.add_argument("--temp", type=Path, help="where to make the folder; removed in the end")
    parser.add_argument("--quick", action="store_true", help=", ".join(f"{k} {v:,}" for k, v in QUICK.items()))
    given = parser.parse_args()
    if not Path("/proc/self/clear_refs").exists():
        parser.error("memory is measured as Linux shows it, which this system does not")
    usual = {"count": 50_000, "prepare": 4_000, "events": KINDS[given.set].num_events}
    usual |= QUICK if given.quick else {}
    count, num_prepared, num_events = (getattr(given, name) or usual[name] for name in usual)
    with tempfile.TemporaryDirectory(dir=given.temp) as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        results = measure(given.set, Path(folder), count, num_prepared, num_events, given.workers)
    print("\n".join(tables(results)))
    print(f"targets missed: {', '.join(misses(results)) or 'none'}")
    if given.out is not None:
        write_report(given.out, results)


if __name__ == "__main__":
    main()
